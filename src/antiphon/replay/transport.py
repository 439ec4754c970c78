"""Record and replay as a transport around the live one: four modes, chosen by setting and for each request.

live               passes through
record             passes through and writes down, replacing what was recorded for the same request before
replay             answers from recordings only; a request without one is a `ReplayMiss`, never a call
record-if-missing  answers from recordings, and records what is missing
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from antiphon.errors import InvalidRequest, ReplayMiss, Upstream, UpstreamTimeout
from antiphon.exchange import Closer, Incoming, Outgoing, Transport
from antiphon.replay import miss
from antiphon.replay.library import Library, Matching, RecordedHost, Wanted, wanted_from
from antiphon.replay.recorder import Recorder, Take
from antiphon.replay.recording import Answer, End, Frame

Mode = Literal["live", "record", "replay", "record-if-missing"]
Format = Literal["antiphon", "llama-stack"]
MODES: Final[tuple[Mode, ...]] = ("live", "record", "replay", "record-if-missing")


class ReplayOptions(Struct, frozen=True, kw_only=True):
    """The settings. `speed` is 1 for the recorded pace, 2 for twice that; None does not wait at all.

    `format` is what is written; both formats are read. `matching` concerns Llama Stack's recordings; our own are always
    compared in full.
    """

    mode: Mode = "live"
    directory: Path | None = None
    format: Format = "antiphon"
    matching: Matching = "tolerant"
    speed: float | None = None


def open_transport(options: ReplayOptions, live: Transport) -> "ReplayTransport":
    """The transport for these settings. Reads the recordings at once if the mode needs them."""
    return ReplayTransport(options, live)


class ReplayTransport:
    """Answers from recordings, or from `live`, as the mode says."""

    def __init__(self, options: ReplayOptions, live: Transport) -> None:
        self._options = options
        self._live = live
        self._library: Library | None = None
        self._recorder: Recorder | None = None
        self._opening = asyncio.Lock()
        if options.mode != "live":
            self._open()

    async def send(self, request: Outgoing) -> Incoming:
        """Sends or answers the request, as its own mode or the server's says."""
        mode = request.replay.mode or self._options.mode
        if mode == "live":
            return await self._live.send(request)
        if mode not in MODES:
            raise InvalidRequest(f"{mode!r} is no replay mode; these are: {', '.join(MODES)}.")
        library, recorder = await self._opened()
        if mode == "record":
            return await _record(request, self._live, recorder, replaces=True)
        wanted = wanted_from(request)
        answer = library.answer(wanted, made_up=mode == "replay")
        if answer is not None:
            return _replay(answer, self._options.speed)
        if mode == "replay":
            raise await _missed(library, wanted)
        return await _record(request, self._live, recorder, replaces=False)

    async def close(self) -> None:
        """Finishes what is being written, and closes the live transport."""
        if self._recorder is not None:
            await self._recorder.close()
        await self._live.close()

    def hosts(self) -> list[RecordedHost]:
        """The hosts and models that the recordings know; none if no recordings are used."""
        return [] if self._library is None else self._library.hosts()

    async def _opened(self) -> tuple[Library, Recorder]:
        if self._library is not None and self._recorder is not None:
            return self._library, self._recorder
        async with self._opening:  # two at once shall not read the directory twice
            if self._library is not None and self._recorder is not None:
                return self._library, self._recorder
            return await asyncio.to_thread(self._open)

    def _open(self) -> tuple[Library, Recorder]:
        options = self._options
        if options.directory is None:
            raise InvalidRequest("Recording and replaying need a directory for recordings; none is configured.")
        if options.mode == "replay" or options.directory.exists():
            library = Library.open(options.directory, options.matching)
        else:
            library = Library((), options.matching)  # the directory comes into being with its first recording
        self._recorder = Recorder(options.directory, library, format=options.format)
        self._library = library
        return library, self._recorder


# ---------------------------------------------------------------- replaying


def _replay(answer: Answer, speed: float | None) -> Incoming:
    if answer.status == 0:
        raise _failure(answer)
    return Incoming(answer.status, answer.headers, _played(answer, speed))


async def _played(answer: Answer, speed: float | None) -> AsyncIterator[bytes]:
    """The recorded pieces, one by one, at the pace that is asked for; then the recorded end."""
    now = asyncio.get_running_loop().time
    begun = now()
    for frame in answer.frames:
        pause_s = 0.0 if speed is None else max(0.0, begun + frame.at_ms / 1000 / speed - now())
        await asyncio.sleep(pause_s)  # also lets others run: a recording has no network to wait for
        yield frame.data
    if answer.end != "complete":
        raise _failure(answer)


def _failure(answer: Answer) -> Upstream:
    return UpstreamTimeout(answer.message) if answer.end == "timeout" else Upstream(answer.message)


async def _missed(library: Library, wanted: Wanted) -> ReplayMiss:
    nearest = await asyncio.to_thread(library.nearest, wanted)
    return ReplayMiss(miss.message(wanted, nearest))


# ---------------------------------------------------------------- recording


async def _record(request: Outgoing, live: Transport, recorder: Recorder, *, replaces: bool) -> Incoming:
    tape = _Tape(request, recorder, replaces=replaces)
    try:
        answer = await live.send(request)
    except Upstream as error:
        if replaces:  # asked to record whatever happens; otherwise the next attempt may do better
            await tape.keep(Answer(status=0, end=_end_of(error), message=error.message))
        raise
    return Incoming(answer.status, answer.headers, tape.pieces(answer), closer=tape.closer(answer))


class _Tape:
    """Runs along with one answer, and keeps it if it came to its end: the host's, not the client's."""

    def __init__(self, request: Outgoing, recorder: Recorder, *, replaces: bool) -> None:
        self._request = request
        self._recorder = recorder
        self._replaces = replaces
        self._order = recorder.begin()
        self._now = asyncio.get_running_loop().time
        self._begun = self._now()
        self._frames: list[Frame] = []
        self._kept = False

    async def pieces(self, answer: Incoming) -> AsyncIterator[bytes]:
        """The pieces as they come; the last one is handed on before the exchange is written, the end after it."""
        end: End = "complete"
        failure: Upstream | None = None
        try:
            async for piece in answer.pieces:
                self._frames.append(Frame(int((self._now() - self._begun) * 1000), piece))
                yield piece
        except Upstream as error:
            end, failure = _end_of(error), error
        await self._keep(answer, end, failure.message if failure else "")
        if failure is not None:
            raise failure

    def closer(self, answer: Incoming) -> Closer:
        """Closes the answer. A stream that has said `[DONE]` is complete, though nobody waited for its last byte."""

        async def close() -> None:
            await answer.close()
            if b"".join(frame.data for frame in self._frames[-2:]).rstrip().endswith(b"data: [DONE]"):
                await self._keep(answer, "complete", "")

        return close

    async def _keep(self, answer: Incoming, end: End, message: str) -> None:
        headers = dict(answer.headers)
        await self.keep(
            Answer(status=answer.status, headers=headers, frames=tuple(self._frames), end=end, message=message)
        )

    async def keep(self, answer: Answer) -> None:
        """Writes the exchange down, once."""
        if self._kept:
            return
        self._kept = True
        await self._recorder.put(
            Take(outgoing=self._request, order=self._order, answer=answer, replaces=self._replaces)
        )


def _end_of(error: Upstream) -> End:
    return "timeout" if isinstance(error, UpstreamTimeout) else "cut"
