"""Chunks as rows of a database: what its indexes have in common.

A row has a chunk's text, terms and vector, so that all of it comes and goes in one statement. Removal goes in steps, so
that a file of any size leaves without holding the database.
"""

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from antiphon.errors import InvalidRequest
from antiphon.stores.database import Database, Params, Statement
from antiphon.stores.table import INSERT_ROWS_MAX, Table
from antiphon.vectors.base import Chunk, Key, Match, Piece
from antiphon.vectors.terms import packed

CHUNKS = Table("vector_chunks")
STEP: Final = 500
"""Rows that one statement reads: a few milliseconds."""
REMOVED: Final = 100
"""Rows that one removes: likewise."""
_FILES_AT_ONCE: Final = 32
_PLACES_AT_ONCE: Final = 50

EMPTY: Final[Mapping[str, str]] = MappingProxyType({})

Name = tuple[str, str]
"""A file and an attempt of its."""

_COLUMNS: Final = "store, file, attempt, number, id, piece, metadata, terms, vector"
_KEY: Final = "(owner, store, file, attempt, number)"
_PLACE: Final = "store = ? AND file = ? AND attempt = ?"
_SHOWN: Final = "number, id, piece, metadata"
_ONE: Final = CHUNKS.select(f"file, attempt, {_SHOWN}", f"{_PLACE} AND number = ?")
_SEARCHED: Final = "file, attempt, number, terms, vector"
_PAGE: Final = f"{CHUNKS.select(_SHOWN, f'{_PLACE} AND number > ?')} ORDER BY number LIMIT ?"
_REST: Final = f"{CHUNKS.select(_SEARCHED, f'{_PLACE} AND number > ?')} ORDER BY number LIMIT ?"

_encode = msgspec.msgpack.Encoder().encode
_decode_piece = msgspec.msgpack.Decoder(Piece).decode
_decode_metadata = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Searched(NamedTuple):
    """What a search needs of a chunk."""

    file: str
    attempt: str
    number: int
    terms: bytes
    vector: bytes | None


class ChunkRows:
    """The chunks of all owners, one store at a time. `more` are an index's own columns, each with its placeholder."""

    def __init__(self, database: Database, more: Mapping[str, str] = EMPTY) -> None:
        columns = [*_COLUMNS.split(", "), *more]
        changed = ", ".join(f"{name} = excluded.{name}" for name in columns[4:])
        self._database = database
        self._table = CHUNKS
        self._columns = ", ".join(columns)
        self._marks = ", ".join([*"?" * len(_COLUMNS.split(", ")), *more.values()])
        self._replacing = f" ON CONFLICT {_KEY} DO UPDATE SET {changed}"

    def inserts(
        self, key: Key, name: Name, chunks: Sequence[Chunk], *, more: Sequence[Params] = ()
    ) -> Iterator[Statement]:
        """Statements that add chunks, or put them in the place of those with the same numbers.

        `more` are the values of the other columns, of each chunk. Raises `InvalidRequest` for a vector that does not
        fit the store.
        """
        last = {chunk.number: index for index, chunk in enumerate(chunks)}
        rows = [
            (key.owner, key.store, *name, *_values(key, chunks[index]), *(more[index] if more else ()))
            for index in last.values()
        ]
        for start in range(0, len(rows), INSERT_ROWS_MAX):
            some = rows[start : start + INSERT_ROWS_MAX]
            sql = self._table.insert(self._columns, len(some), marks=self._marks) + self._replacing
            yield Statement(sql, tuple(value for row in some for value in row))

    async def add(self, key: Key, name: Name, chunks: Sequence[Chunk], *, more: Sequence[Params] = ()) -> None:
        """Adds them in one transaction."""
        statements = list(self.inserts(key, name, chunks, more=more))
        if statements:
            await self._database.transaction(statements)

    async def remove(self, key: Key, file_id: str | None, but: str | None) -> None:
        """Removes a file's rows, or the store's, other than those of an attempt."""
        params: Params = (key.store,) if file_id is None else (key.store, file_id)
        where = "store = ?" if file_id is None else "store = ? AND file = ?"
        if but is None:
            await self._remove(key.owner, where, params)
        else:  # as two ranges, so that no step reads again what stays
            await self._remove(key.owner, f"{where} AND attempt < ?", (*params, but))
            await self._remove(key.owner, f"{where} AND attempt > ?", (*params, but))

    async def _remove(self, owner: str, where: str, params: Params) -> None:
        some = CHUNKS.select("position", where) + " LIMIT ?"
        sql = CHUNKS.delete(f"position IN ({some})")
        while await self._database.execute(sql, (owner, owner, *params, REMOVED)) == REMOVED:
            pass

    async def page(self, key: Key, name: Name, *, after: int, limit: int) -> list[Chunk]:
        """An attempt's chunks with numbers above `after`."""
        rows = await self._database.all(_PAGE, (key.owner, key.store, *name, after, limit))
        return [_chunk(row) for row in rows]

    async def fetch(self, key: Key, matches: Sequence[Match]) -> list[Chunk | None]:
        """The chunks at some places."""
        found: dict[tuple[str, str, int], Chunk] = {}
        for start in range(0, len(matches), _PLACES_AT_ONCE):
            some = matches[start : start + _PLACES_AT_ONCE]
            sql = " UNION ALL ".join([_ONE] * len(some))
            places = ((key.owner, key.store, each.file_id, each.attempt, each.number) for each in some)
            rows = await self._database.all(sql, tuple(itertools.chain.from_iterable(places)))
            found |= {(file, attempt, row[0]): _chunk(row) for file, attempt, *row in rows}
        return [found.get((each.file_id, each.attempt, each.number)) for each in matches]

    async def searched(self, key: Key, names: Sequence[Name]) -> AsyncIterator[list[Searched]]:
        """All rows of these attempts, some at a time."""
        for start in range(0, len(names), _FILES_AT_ONCE):
            some = names[start : start + _FILES_AT_ONCE]
            rows = await self._together(key, some)
            yield [row for row in rows if row[:2] in some]
            if len(rows) == STEP:  # and there may be more
                async for rest in self._others(key, some, rows):
                    yield rest

    async def _others(self, key: Key, names: Sequence[Name], rows: Sequence[Searched]) -> AsyncIterator[list[Searched]]:
        """The rows of these attempts that come after some first ones."""
        last = {row[:2]: row.number for row in rows}
        whole = {name for name in last if name != rows[-1][:2]}
        for name in names:
            if name not in whole:
                async for rest in self._rest(key, name, last.get(name, -1)):
                    yield rest

    async def _together(self, key: Key, names: Sequence[Name]) -> list[Searched]:
        """The first rows of several attempts, ordered by attempt, perhaps with some of others."""
        marks = ", ".join("?" * len(names))
        # As an expression, the second condition leaves the index to the first.
        where = f"store = ? AND file IN ({marks}) AND attempt || '' IN ({marks})"
        sql = f"{CHUNKS.select(_SEARCHED, where)} ORDER BY file, attempt, number LIMIT ?"
        files, attempts = zip(*names, strict=True)
        return [
            Searched(*row) for row in await self._database.all(sql, (key.owner, key.store, *files, *attempts, STEP))
        ]

    async def _rest(self, key: Key, name: Name, number: int) -> AsyncIterator[list[Searched]]:
        """An attempt's rows with higher numbers."""
        while True:
            rows = [
                Searched(*row) for row in await self._database.all(_REST, (key.owner, key.store, *name, number, STEP))
            ]
            yield rows
            if len(rows) < STEP:
                return
            number = rows[-1].number


def check_vector(key: Key, vector: bytes) -> None:
    """Raises `InvalidRequest` for a vector that does not fit the store, or has a value that is no number."""
    if len(vector) != 4 * key.dimension:
        if not key.dimension:
            raise InvalidRequest("This vector store has no vectors: it is searched by keywords only.")
        raise InvalidRequest(
            f"A vector has {len(vector) // 4} dimensions, but those of this vector store have {key.dimension}."
        )
    if not np.isfinite(np.frombuffer(vector, "<f4")).all():
        raise InvalidRequest("A vector has a value that is not a finite number.")


def _values(key: Key, chunk: Chunk) -> Params:
    if chunk.vector is not None:
        check_vector(key, chunk.vector)
    metadata = _encode(chunk.metadata) if chunk.metadata else b""
    return chunk.number, chunk.id, _encode(chunk.piece), metadata, packed(chunk.piece.text), chunk.vector


def _chunk(row: Sequence[Any]) -> Chunk:
    number, id, piece, metadata = row
    return Chunk(
        id=id,
        number=number,
        piece=_decode_piece(piece),
        metadata=_decode_metadata(metadata) if metadata else {},
    )
