"""Which indexes a configuration means, each made and opened when it is first used."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from antiphon.config import Config, ConfigError
from antiphon.errors import Unavailable
from antiphon.knowledge import IndexConfig
from antiphon.plugins import index_factory
from antiphon.stores.database import Database, Dialect
from antiphon.vectors.base import Among, Chunk, Key, Match, VectorIndex

OWN: Final[dict[Dialect, str]] = {"sqlite": "embedded", "postgres": "postgres"}
"""The kind of index that a database is itself."""
OTHER_NAMES: Final = ("faiss", "sqlite-vec")
"""What clients of Llama Stack name where they mean the server's own."""


def default_index(config: Config, database: Database) -> str:
    """The name of the index of new stores. Raises `ConfigError` if there is none of that name."""
    name = config.vector_stores.index or OWN[database.dialect]
    if name not in _settings(config, database):
        known = ", ".join(sorted(_settings(config, database)))
        raise ConfigError([f"vector_stores.index: there is no index named {name!r}. There are: {known}."])
    return name


def open_indexes(config: Config, database: Database) -> dict[str, VectorIndex]:
    """All indexes by name: those configured, the database's own, and the latter under its other names.

    Nothing is connected yet. Raises `ConfigError` for a kind that is not installed.
    """
    settings = _settings(config, database)
    made: dict[bytes, VectorIndex] = {}
    for each in settings.values():
        if each.kind not in OWN.values():  # those are part of this package, and import numpy
            index_factory(each.kind)
        made.setdefault(msgspec.json.encode(each), OnFirstUse(_maker(each, database)))
    return {name: made[msgspec.json.encode(each)] for name, each in settings.items()}


def _settings(config: Config, database: Database) -> dict[str, IndexConfig]:
    kind = OWN[database.dialect]
    given = config.vector_stores.indexes
    own = given.get(kind, IndexConfig(kind=kind))
    return {**dict.fromkeys((kind, *OTHER_NAMES), own), **given}


def _maker(settings: IndexConfig, database: Database) -> Callable[[], VectorIndex]:
    def make() -> VectorIndex:
        try:
            index: VectorIndex = index_factory(settings.kind)(database, settings)
        except ConfigError as error:
            raise Unavailable(str(error)) from error
        return index

    return make


class OnFirstUse:
    """An index that is made and opened by the first call; where that fails, by the next."""

    def __init__(self, make: Callable[[], VectorIndex]) -> None:
        self._make = make
        self._index: VectorIndex | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Makes and opens it."""
        async with self._opening:
            if self._index is None:
                index = self._make()
                await index.open()
                self._index = index

    async def add(self, key: Key, file_id: str, attempt: str, *, chunks: Sequence[Chunk]) -> None:
        """Adds chunks."""
        await (await self._opened()).add(key, file_id, attempt, chunks=chunks)

    async def remove(self, key: Key, file_id: str | None = None, *, but: str | None = None) -> None:
        """Removes chunks."""
        await (await self._opened()).remove(key, file_id, but=but)

    async def semantic(self, key: Key, vector: bytes, *, count: int, among: Among) -> list[Match]:
        """The nearest."""
        return await (await self._opened()).semantic(key, vector, count=count, among=among)

    async def keyword(self, key: Key, query: str, *, count: int, among: Among) -> list[Match]:
        """Those whose words match best."""
        return await (await self._opened()).keyword(key, query, count=count, among=among)

    async def chunks(self, key: Key, file_id: str, attempt: str, *, after: int, limit: int) -> list[Chunk]:
        """An attempt's chunks."""
        return await (await self._opened()).chunks(key, file_id, attempt, after=after, limit=limit)

    async def fetch(self, key: Key, matches: Sequence[Match]) -> list[Chunk | None]:
        """The chunks at some places."""
        return await (await self._opened()).fetch(key, matches)

    async def close(self) -> None:
        """Closes it, if it was opened. Once more is no error."""
        index, self._index = self._index, None
        if index is not None:
            await index.close()

    async def _opened(self) -> VectorIndex:
        if self._index is None:
            await self.open()
        if self._index is None:
            raise Unavailable("The index is closed.")
        return self._index
