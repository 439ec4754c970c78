"""Answers of model hosts on their way to the client: bytes cut at event ends and passed on unparsed.

Of a stream only its end is looked at: a finish reason, `[DONE]`, or an error. What breaks off without them ends with an
error event, and never looks complete.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
from msgspec import Raw

from antiphon.api.sse import DONE, MARK
from antiphon.egress import read_whole
from antiphon.errors import ApiError, Upstream
from antiphon.exchange import Incoming
from antiphon.models.chat_errors import broken

DRAIN_S: Final = 0.5
"""How long the end of the connection's answer is awaited after `[DONE]`; with it, the connection can be used again."""

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])
_FINISHED = (
    *(b'"finish_reason":"', b'"finish_reason": "'),
    *(b'"type":"image_%b.completed"' % each for each in (b"generation", b"edit")),
    *(b'"type": "image_%b.completed"' % each for each in (b"generation", b"edit")),
)
_ERROR = (b'data: {"error"', b'data:{"error"', b"event: error")
_TAIL = 3  # all but the last byte of the longest event end, \r\n\r\n


class Cutter:
    """Whole events out of pieces that were cut anywhere."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._tail = b""
        self._held_bytes = 0

    def feed(self, piece: bytes) -> bytes:
        """What is complete with this piece; the rest is kept."""
        end = _last_end(self._tail + piece) - len(self._tail)
        if end <= 0:
            self._keep(piece)
            return b""
        whole = piece if end == len(piece) else piece[:end]
        if self._held:
            whole = b"".join((*self._held, whole))
            self._held = []
            self._held_bytes = 0
        self._tail = b""
        if end < len(piece):
            self._keep(piece[end:])
        return whole

    def check(self, host: str, bytes_max: int) -> None:
        """Raises `Upstream` if an event is larger than allowed."""
        if self._held_bytes > bytes_max:
            raise Upstream(f"Host {host!r} sent an event of more than the {bytes_max} bytes that are allowed here.")

    def rest(self) -> bytes:
        """What was left when the stream ended."""
        return b"".join(self._held)

    def _keep(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_bytes += len(piece)
        self._tail = (self._tail + piece[-_TAIL:])[-_TAIL:]


async def whole(host: str, opening: Awaitable[Incoming], *, bytes_max: int, member: str) -> bytes:
    """A host's answer in one piece. Raises `Upstream` if it is not a JSON object with this member."""
    incoming = await opening
    answer = await read_whole(incoming, bytes_max=bytes_max)
    try:
        str(answer, "utf-8")
        members = _members.decode(answer)
        if member not in members and "error" in members:
            raise broken(host, msgspec.json.decode(answer))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_answer(host, incoming) from error
    if member not in members:
        raise _no_answer(host, incoming)
    return answer


async def relayed(host: str, opening: Awaitable[Incoming], *, bytes_max: int) -> AsyncGenerator[bytes, None]:
    """A host's stream, whole events at a time, ended by `[DONE]` or by an error event.

    Raises what goes wrong before the first event.
    """
    incoming = await opening
    try:
        kind = incoming.headers.get("content-type", "")
        if kind and not kind.startswith("text/event-stream"):
            raise _no_answer(host, incoming)
        begun = False
        try:
            async for batch in _events(host, incoming, bytes_max):
                if not begun and not batch.lstrip().startswith((b"data", b":", b"event", b"id", b"retry")):
                    raise _no_answer(host, incoming)
                begun = True
                yield batch
            if not begun:
                raise Upstream(f"Host {host!r} sent an empty stream.")
        except ApiError as error:
            if not begun:
                raise
            yield error_event(error)
    finally:
        await incoming.close()


async def kept(
    batches: AsyncGenerator[bytes, None], put: Callable[[bytes], Coroutine[Any, Any, None]]
) -> AsyncGenerator[bytes, None]:
    """The same stream, handed to `put` as a whole before its `[DONE]` is handed on."""
    seen: list[bytes] = []
    try:
        async for batch in batches:
            seen.append(batch)
            if not _ends(batch):
                yield batch
                continue
            before, _, _ = batch.rpartition(b"data:")
            if before:
                yield before
            try:
                await put(b"".join(seen))
            except ApiError as error:
                yield error_event(error)
                return
            yield DONE
    finally:
        await batches.aclose()


def error_event(error: ApiError) -> bytes:
    """An error inside a stream, as OpenAI's clients expect it."""
    return b"data: %b\n\n" % _encode(error.body())


async def _events(host: str, incoming: Incoming, bytes_max: int) -> AsyncGenerator[bytes, None]:
    cutter, seen = Cutter(), _Seen(host)
    try:
        async for piece in incoming.pieces:
            batch = cutter.feed(piece)
            if batch:
                seen.look(batch)
                yield batch
            if seen.done:
                await _drain(incoming)
                return
            cutter.check(host, bytes_max)
    except Upstream:
        # The host had said why it stopped: nothing is missing but its last words.
        if not seen.finished and not seen.failed:
            raise
    for last in seen.end(cutter.rest()):
        yield last


class _Seen:
    """What a stream has said of its end."""

    def __init__(self, host: str) -> None:
        self.finished = False
        self.failed = False
        self.done = False
        self._host = host

    def look(self, batch: bytes) -> None:
        """Takes note of some whole events."""
        self.finished = self.finished or any(each in batch for each in _FINISHED)
        self.failed = self.failed or any(each in batch for each in _ERROR)
        self.done = _ends(batch)

    def end(self, rest: bytes) -> list[bytes]:
        """What the client still has to be sent. Raises `Upstream` if the answer broke off."""
        if self.failed:
            return []
        last = []
        event = rest.strip()
        if event.startswith(b"data:") and _is_complete(event):
            self.look(event)
            last.append(event + b"\n\n")
        if self.done:
            return last
        if not self.finished:
            raise Upstream(f"Host {self._host!r} broke off its answer: it ended without a finish reason.")
        return [*last, DONE]


async def _drain(incoming: Incoming) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in incoming.pieces:
                pass
    except (Upstream, TimeoutError):
        pass


def _ends(batch: bytes) -> bool:
    return MARK in batch[-16:] and batch.rstrip().endswith((b"data: [DONE]", b"data:[DONE]"))


def _is_complete(event: bytes) -> bool:
    data = event[5:].strip()
    if data == MARK:
        return True
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _last_end(data: bytes) -> int:
    """The position behind the last event end; 0 if there is none."""
    if data.endswith(b"\n\n"):
        return len(data)
    plain, dos = data.rfind(b"\n\n"), data.rfind(b"\r\n\r\n")
    return max(plain + 2 if plain >= 0 else 0, dos + 4 if dos >= 0 else 0)


def _no_answer(host: str, incoming: Incoming) -> Upstream:
    kind = incoming.headers.get("content-type", "something unnamed").partition(";")[0][:80]
    return Upstream(f"Host {host!r} answered with {kind} that is no answer to a model call.")
