"""The embedded index: chunks are rows of the server's own database, searched exactly in this process's memory.

The database holds the truth; what searches need of a store, its vectors and postings, is read on its first search and
kept up by what later ones name (`shelf`). Work that would hold the event loop for a millisecond goes to a thread; numpy
lets go of Python's lock there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

from antiphon.knowledge import IndexConfig
from antiphon.stores.database import Database
from antiphon.vectors.base import Among, Chunk, Key, Match
from antiphon.vectors.chunk_rows import ChunkRows, Name, check_vector
from antiphon.vectors.exact import Found, matching, nearest
from antiphon.vectors.segments import Row, Segment, compacted, segment_of
from antiphon.vectors.shelf import Shelf, Sight
from antiphon.vectors.terms import asked

VALUES_INLINE_MAX: Final = 2**23
"""Values of vectors that are compared without a thread: half a millisecond."""
ROWS_INLINE_MAX: Final = 30_000
"""Likewise rows that are searched for words."""
_ROWS_AT_ONCE: Final = 4096
_THREADS: Final = 2

T = TypeVar("T")


class EmbeddedIndex:
    """The chunks of all stores that are kept in the database, and of the latest searched ones a copy in memory."""

    def __init__(self, database: Database, config: IndexConfig) -> None:
        self._rows = ChunkRows(database)
        self._bytes_max = config.memory_bytes_max
        self._shelves: OrderedDict[Key, Shelf] = OrderedDict()
        self._threads = ThreadPoolExecutor(_THREADS, "vectors")

    async def open(self) -> None:
        """Nothing: the tables come with the database's."""

    async def add(self, key: Key, file_id: str, attempt: str, *, chunks: Sequence[Chunk]) -> None:
        """Adds rows in one transaction."""
        await self._rows.add(key, (file_id, attempt), chunks)
        for shelf in self._of(key):
            shelf.forget(file_id, attempt=attempt)

    async def remove(self, key: Key, file_id: str | None = None, *, but: str | None = None) -> None:
        """Removes rows in steps."""
        await self._rows.remove(key, file_id, but)
        for shelf in self._of(key):
            shelf.forget(file_id, but=but)

    async def semantic(self, key: Key, vector: bytes, *, count: int, among: Among) -> list[Match]:
        """The nearest, exactly."""
        check_vector(key, vector)
        wanted = np.frombuffer(vector, "<f4")
        _, view, names = await self._sight(key, among)
        heavy = len(view.live) * key.dimension > VALUES_INLINE_MAX
        return _matches(names, await self._run(lambda: nearest(view, wanted, key.metric, count=count), heavy=heavy))

    async def keyword(self, key: Key, query: str, *, count: int, among: Among) -> list[Match]:
        """The best by bm25, exactly."""
        terms = asked(query)
        if not len(terms):
            return []
        _, view, names = await self._sight(key, among)
        heavy = len(view.live) > ROWS_INLINE_MAX
        return _matches(names, await self._run(lambda: matching(view, terms, count=count), heavy=heavy))

    async def chunks(self, key: Key, file_id: str, attempt: str, *, after: int, limit: int) -> list[Chunk]:
        """An attempt's chunks in order."""
        return await self._rows.page(key, (file_id, attempt), after=after, limit=limit)

    async def fetch(self, key: Key, matches: Sequence[Match]) -> list[Chunk | None]:
        """The chunks at these places."""
        return await self._rows.fetch(key, matches)

    async def close(self) -> None:
        """Lets go of the memory; the database belongs to others."""
        self._shelves.clear()
        self._threads.shutdown(wait=False)

    def memory_bytes(self) -> int:
        """What the copies in memory take."""
        return sum(shelf.size_bytes() for shelf in self._shelves.values())

    def _of(self, key: Key) -> list[Shelf]:
        return [shelf for each, shelf in self._shelves.items() if (each.owner, each.store) == (key.owner, key.store)]

    async def _sight(self, key: Key, among: Among) -> Sight:
        """The rows that count, read if they are not here."""
        shelf = self._shelves.setdefault(key, Shelf())
        self._shelves.move_to_end(key)
        sight = shelf.find(among)
        if sight is not None:
            return sight
        async with shelf.lock:
            while missing := shelf.missing(among):
                await self._read(key, shelf, missing)
            self._bound(shelf)
            return shelf.find(among) or shelf.sight(among)

    async def _read(self, key: Key, shelf: Shelf, names: Sequence[Name]) -> None:
        slots = shelf.begin(names)
        segments = list(shelf.segments)
        rows: list[Row] = []
        async for some in self._rows.searched(key, names):
            rows += [Row(slots[each[:2]], each.number, each.terms, each.vector) for each in some]
            if len(rows) >= _ROWS_AT_ONCE:
                segments = await self._pushed(segments, rows, key)
                rows = []
            await asyncio.sleep(0)
        if rows:
            segments = await self._pushed(segments, rows, key)
        shelf.put(slots, segments)

    async def _pushed(self, segments: list[Segment], rows: Sequence[Row], key: Key) -> list[Segment]:
        heavy = len(rows) * (key.dimension + 64) > VALUES_INLINE_MAX / 64

        def pushed() -> list[Segment]:
            return compacted([*segments, segment_of(rows, key.dimension, key.metric)])

        return await self._run(pushed, heavy=heavy)

    def _bound(self, used: Shelf) -> None:
        """Drops the stores that were not searched for longest, until the rest fits."""
        for key, shelf in list(self._shelves.items()):
            if self.memory_bytes() <= self._bytes_max:
                return
            if shelf is not used and not shelf.lock.locked():
                del self._shelves[key]

    async def _run(self, work: Callable[[], T], *, heavy: bool) -> T:
        if not heavy:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _matches(names: Sequence[Name | None], found: Found) -> list[Match]:
    rows = zip(found.slots.tolist(), found.numbers.tolist(), found.scores.tolist(), strict=True)
    places = ((names[slot], number, score) for slot, number, score in rows)
    return [
        Match(file_id=name[0], attempt=name[1], number=number, score=score)
        for name, number, score in places
        if name is not None
    ]
