"""Writes exchanges down, in either format, whole or not at all, while others go on.

A scenario's file is replaced in one step after every exchange, before the client sees the answer's end; exchanges that
end while the file is being written share the next write. Recording a request again replaces what an earlier process
recorded for it; within one process equal requests are recorded side by side, in the order in which they were made.
"""

import asyncio
import bisect
import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from antiphon.exchange import Outgoing
from antiphon.replay import canonical, entries, llama_stack, redact
from antiphon.replay.library import Library
from antiphon.replay.recording import (
    DEFAULT_SCENARIO,
    Answer,
    Exchange,
    Frame,
    Request,
    StoredExchange,
    file_name,
    frames_from,
    read_scenario,
    render_exchange,
    render_scenario,
    write_whole,
)

_LOG = logging.getLogger("antiphon.replay")


class Take(Struct, frozen=True, kw_only=True):
    """One exchange to be written: what was asked, what came back, and whether it replaces an earlier process's."""

    outgoing: Outgoing
    order: int
    answer: Answer
    replaces: bool


class _Open:
    """A scenario that is being recorded: its exchanges, rendered, in the order of their requests."""

    def __init__(self, file: Path, name: str, test_id: str | None) -> None:
        self.file = file
        self.name = name
        self.test_id = test_id
        self.exchanges: list[tuple[int, str, str]] = []  # order, key, rendered
        self.renewed: set[str] = set()
        self.version = 0
        self.written = 0
        self.lock = asyncio.Lock()


class Recorder:
    """Writes to one directory, and tells the library what it wrote."""

    def __init__(self, directory: Path, library: Library, *, format: str) -> None:
        self._directory = directory
        self._library = library
        self._format = format
        self._open: dict[str, _Open] = {}
        self._order = 0
        self._lock = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    def begin(self) -> int:
        """The place of a request that goes out now."""
        self._order += 1
        return self._order

    async def put(self, take: Take) -> None:
        """Writes an exchange down; returns when it is on the disk. Cancelling the caller does not stop the write."""
        write = asyncio.ensure_future(self._put(take))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def close(self) -> None:
        """Waits for what is being written."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _put(self, take: Take) -> None:
        take = msgspec.structs.replace(take, answer=_without_secrets(take))
        if self._format == entries.LLAMA_STACK:
            await self._put_llama_stack(take)
        else:
            await self._put_own(take)

    async def _put_llama_stack(self, take: Take) -> None:
        outgoing = take.outgoing
        url = redact.url(outgoing.url, redact.keys_in(outgoing.headers))
        new = llama_stack.file_from(url, canonical.clean_body(outgoing), take.answer, test_id=outgoing.replay.test_id)
        if new is None:
            _LOG.warning(
                "not recorded: Llama Stack's format holds complete answers of status 200 only",
                extra={"host": outgoing.host, "status": take.answer.status, "end": take.answer.end},
            )
            return
        file = self._directory / new.path
        async with self._lock:  # equal requests have one file
            await asyncio.to_thread(write_whole, file, new.text)
        entry = entries.llama_stack_entry(file)
        if isinstance(entry, entries.Entry):
            self._library.forget(entry.key, entry.scenario)
            self._library.add(entry)

    async def _put_own(self, take: Take) -> None:
        test_id = take.outgoing.replay.test_id
        opened = self._opened(test_id or DEFAULT_SCENARIO, test_id)
        request = canonical.request_from(take.outgoing, canonical.clean_body(take.outgoing))
        key = canonical.key_of(request)
        if take.replaces and key not in opened.renewed:
            opened.exchanges = [each for each in opened.exchanges if each[0] > 0 or each[1] != key]
            self._library.forget(key, opened.name)
        opened.renewed.add(key)
        rendered = _rendered(request, take)
        bisect.insort(opened.exchanges, (take.order, key, rendered))
        opened.version += 1
        stored = msgspec.json.decode(rendered, type=StoredExchange)
        number = len(opened.exchanges)
        entry = entries.own_entry(stored, file=opened.file, number=number, scenario=opened.name, test_id=test_id)
        self._library.add(entry)
        await self._write(opened)

    def _opened(self, name: str, test_id: str | None) -> _Open:
        """The scenario of this name: as it stands on the disk, or new."""
        if name not in self._open:
            opened = _Open(self._directory / file_name(name), name, test_id)
            if opened.file.exists():
                stored = read_scenario(opened.file).exchanges
                opened.exchanges = [
                    (index - len(stored), canonical.key_of(each.request), render_exchange(_exchange(each)))
                    for index, each in enumerate(stored)
                ]
            self._open[name] = opened
        return self._open[name]

    async def _write(self, opened: _Open) -> None:
        version = opened.version
        async with opened.lock:
            if opened.written >= version:
                return  # somebody else's write, begun after our exchange was added, has taken it along
            version = opened.version
            text = render_scenario(opened.name, opened.test_id, [rendered for _, _, rendered in opened.exchanges])
            await asyncio.to_thread(write_whole, opened.file, text)
            opened.written = version


def _exchange(stored: StoredExchange) -> Exchange:
    return Exchange(request=stored.request, answer=stored.parsed_answer(), origin=stored.origin)


def _rendered(request: Request, take: Take) -> str:
    return render_exchange(Exchange(request=request, answer=take.answer, origin=take.outgoing.replay.origin))


def _without_secrets(take: Take) -> Answer:
    """The answer as it may be written: listed headers, no keys in the body nor in what is said about a failure."""
    keys, answer = redact.keys_in(take.outgoing.headers), take.answer
    frames: tuple[Frame, ...] = frames_from(
        redact.pieces([frame.data for frame in answer.frames], keys), [frame.at_ms for frame in answer.frames]
    )
    return msgspec.structs.replace(
        answer,
        headers=redact.headers(answer.headers, redact.ANSWER_HEADERS),
        frames=frames,
        message=redact.text(answer.message, keys),
    )
