"""PostgreSQL's index: vectors by pgvector, words by full-text search, both beside the server's own rows.

Stores of few chunks are compared one by one, exactly; those of many, through an HNSW graph, of which there is one for
each dimension and metric, made when a store has grown to need it. Words are numbers here too (`words`), so that any
language is found alike whatever the database's locale: PostgreSQL finds and counts them, and weighs rows by how rare
words are and how long the text is; of the best, bm25 is then computed here, with how often the words come.

Attempts that do not count are few, and filters are many: a search first goes without the list of attempts and drops
what does not count; only where too little is left, it goes again with the list.
"""

import contextlib
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from antiphon.errors import ApiError, Unavailable
from antiphon.knowledge import IndexConfig
from antiphon.stores.database import Database, Duplicate, Params, Row
from antiphon.vectors.base import Among, Chunk, Key, Match, Metric
from antiphon.vectors.chunk_rows import CHUNKS, ChunkRows, check_vector
from antiphon.vectors.exact import K1, B, idf
from antiphon.vectors.terms import packed, term, unpacked
from antiphon.vectors.words import words

FILES_FEW: Final = 200
"""Attempts that are listed in the first query already."""
TERMS_MAX: Final = 64
"""Different words of a query that count."""
COUNTED_MAX: Final = 256
"""Stores whose sizes are remembered."""
_VECTOR_MAX: Final = 2_000
_HALF_VECTOR_MAX: Final = 4_000
"""Dimensions that pgvector's graphs take in single and in half precision."""

_HAS_EXTENSION: Final = "SELECT 1 FROM pg_extension WHERE extname = 'vector'"
_HAS_COLUMN: Final = (
    "SELECT 1 FROM pg_attribute"
    " WHERE attrelid = 'vector_chunks'::regclass AND attname = 'embedding' AND NOT attisdropped"
)
_MISSING: Final = (
    "The database has no pgvector, which vector stores with an embedding model need, and this user cannot add it:"
    " install pgvector on the database's server and let a superuser run 'CREATE EXTENSION vector' in this database, or"
    " choose an index of the kind 'embedded'. Stores without vectors work."
)
_OPERATORS: Final[dict[Metric, str]] = {"cosine": "<=>", "dot_product": "<#>", "squared_distance": "<->"}
_CLASSES: Final[dict[Metric, str]] = {"cosine": "cosine_ops", "dot_product": "ip_ops", "squared_distance": "l2_ops"}
# Of a vector without direction pgvector knows no cosine; equal vectors are equal to six digits.
_SCORES: Final[dict[Metric, str]] = {
    "cosine": "coalesce(floor((1 - nullif(distance, 'NaN')) * 1e6 + 0.5) / 1e6, 0)",
    "dot_product": "-distance",
    "squared_distance": "-(distance * distance)",
}
_BY_SCORE: Final = 'ORDER BY score DESC, file COLLATE "C", number LIMIT ?'
_COUNT: Final = f"SELECT count(*) FROM ({CHUNKS.select('1', 'store = ?')} LIMIT ?) AS first"
_STATISTICS: Final = "count(*), coalesce(avg(length(words)), 0)::float8"

Ask = Callable[[str, Params], Awaitable[list[Row]]]
"""Asks with a condition about attempts, and its parameters."""


class Size(NamedTuple):
    """How many chunks count, and how many different words one has on average."""

    rows: int
    length: float


class PostgresIndex:
    """The chunks of all stores that are kept in the server's own PostgreSQL."""

    def __init__(self, database: Database, config: IndexConfig) -> None:
        if database.dialect != "postgres":
            raise Unavailable("An index of the kind 'postgres' needs a `database_url`; SQLite has the kind 'embedded'.")
        self._database = database
        self._exact_rows_max = config.exact_rows_max
        self._plain = ChunkRows(database, {"words": "?::tsvector"})
        self._with_vectors = ChunkRows(database, {"words": "?::tsvector", "dimension": "?", "embedding": "?::vector"})
        self._ready = False
        self._graphs: set[tuple[int, Metric]] = set()
        self._sizes: OrderedDict[tuple[str, str], tuple[Among, Size]] = OrderedDict()

    async def open(self) -> None:
        """Adds pgvector's column, if the extension is there or can be had. Words are searched without it."""
        with contextlib.suppress(ApiError):
            await self._prepare()

    async def add(self, key: Key, file_id: str, attempt: str, *, chunks: Sequence[Chunk]) -> None:
        """Adds rows in one transaction."""
        rows = self._plain
        if key.dimension:
            await self._prepare()
            rows = self._with_vectors
        for chunk in chunks:
            if chunk.vector is not None:
                check_vector(key, chunk.vector)
        more = [(_lexemes(chunk.piece.text), *_embedding(key, chunk)) for chunk in chunks]
        bare = [replace(chunk, vector=None) for chunk in chunks]
        await rows.add(key, (file_id, attempt), bare, more=more)
        self._sizes.pop((key.owner, key.store), None)
        if key.dimension:
            await self._graph(key)

    async def remove(self, key: Key, file_id: str | None = None, *, but: str | None = None) -> None:
        """Removes rows in steps."""
        await self._plain.remove(key, file_id, but)
        self._sizes.pop((key.owner, key.store), None)

    async def semantic(self, key: Key, vector: bytes, *, count: int, among: Among) -> list[Match]:
        """The nearest: exactly in small stores, approximately in large ones."""
        check_vector(key, vector)
        await self._prepare()
        values = np.frombuffer(vector, "<f4")
        size = await self._size(key, among)
        exact = size.rows <= self._exact_rows_max or key.dimension > _HALF_VECTOR_MAX or not values.any()
        sql = _exactly if exact else _by_graph
        wanted = _text(values)

        async def ask(where: str, params: Params, limit: int) -> list[Row]:
            return await self._database.all(*sql(key, wanted, where, params=params, limit=limit))

        rows = await _among(ask, among, count)
        return [
            Match(file_id=file, attempt=attempt, number=number, score=score) for file, attempt, number, score in rows
        ]

    async def keyword(self, key: Key, query: str, *, count: int, among: Among) -> list[Match]:
        """The best by bm25 of those that the database ranks first."""
        numbers = list(dict.fromkeys(term(word) for word in words(query)))[:TERMS_MAX]
        size = await self._size(key, among) if numbers else Size(0, 0.0)
        if not size.rows:
            return []

        async def ask(where: str, params: Params, limit: int) -> list[Row]:
            sql, given = _ranked(key, numbers, size, where=where, params=params)
            return await self._database.all(sql, (*given, limit))

        rows = await _among(ask, among, 4 * count)
        matches = [_match(row, numbers, size) for row in rows]
        matches.sort(key=lambda match: (-match.score, match.file_id, match.number))
        return matches[:count]

    async def chunks(self, key: Key, file_id: str, attempt: str, *, after: int, limit: int) -> list[Chunk]:
        """An attempt's chunks in order."""
        return await self._plain.page(key, (file_id, attempt), after=after, limit=limit)

    async def fetch(self, key: Key, matches: Sequence[Match]) -> list[Chunk | None]:
        """The chunks at these places."""
        return await self._plain.fetch(key, matches)

    async def close(self) -> None:
        """Nothing: the database belongs to others."""

    async def _prepare(self) -> None:
        """Sees to pgvector's column. Raises `Unavailable`, saying what is to be done."""
        if self._ready:
            return
        if await self._database.one(_HAS_EXTENSION) is None:
            try:
                with contextlib.suppress(Duplicate):
                    await self._database.execute("CREATE EXTENSION IF NOT EXISTS vector")
            except ApiError as error:
                raise Unavailable(_MISSING) from error
        if await self._database.one(_HAS_COLUMN) is None:
            with contextlib.suppress(Duplicate):
                await self._database.execute("ALTER TABLE vector_chunks ADD COLUMN IF NOT EXISTS embedding vector")
        self._ready = True

    async def _graph(self, key: Key) -> None:
        """Sees to the graph of a dimension and metric, once a store is too large to do without.

        To keep it costs 2 ms of the database's CPU for each chunk; to make it, who writes has to wait.
        """
        known = (key.dimension, key.metric)
        if known in self._graphs or key.dimension > _HALF_VECTOR_MAX:
            return
        rows = await self._database.all(_COUNT, (key.owner, key.store, self._exact_rows_max + 1))
        if rows[0][0] <= self._exact_rows_max:
            return
        kind = _kind(key)
        operators = f"{kind.partition('(')[0]}_{_CLASSES[key.metric]}"
        with contextlib.suppress(Duplicate):  # another process made it
            await self._database.execute(
                f"CREATE INDEX IF NOT EXISTS vector_chunks_{key.metric}_{key.dimension} ON vector_chunks"
                f" USING hnsw ((embedding::{kind}) {operators}) WHERE dimension = {key.dimension}"
            )
        self._graphs.add(known)

    async def _size(self, key: Key, among: Among) -> Size:
        """Counts the chunks that count, once for each set of attempts."""
        place = key.owner, key.store
        known = self._sizes.get(place)
        if known is not None and known[0] is among:
            return known[1]
        where, params = _listed(among)
        sql = CHUNKS.select(_STATISTICS, f"store = ? AND {where}")
        rows = await self._database.all(sql, (*place, *params))
        size = Size(*rows[0])
        self._sizes[place] = (among, size)
        self._sizes.move_to_end(place)
        if len(self._sizes) > COUNTED_MAX:
            self._sizes.popitem(last=False)
        return size


# ---------------------------------------------------------------- SQL
# What is bound as a text is read once, in a sub-select: as an expression it would be read again for every row.


async def _among(ask: Callable[[str, Params, int], Awaitable[list[Row]]], among: Among, count: int) -> list[Row]:
    """The first rows of attempts that count."""
    if len(among) > FILES_FEW:
        limit = 2 * count
        rows = await ask("true", (), limit)
        live = [row for row in rows if among.get(row[0]) == row[1]]
        if len(live) >= count or len(rows) < limit:
            return live[:count]
    return await ask(*_listed(among), count)


def _listed(among: Among) -> tuple[str, Params]:
    """The condition that an attempt is one of these."""
    listed = "(file, attempt) IN (SELECT key, value FROM jsonb_each_text(?::jsonb))"
    return listed, (msgspec.json.encode(dict(among)).decode(),)


def _kind(key: Key) -> str:
    """The type that a graph compares."""
    return f"{'vector' if key.dimension <= _VECTOR_MAX else 'halfvec'}({key.dimension})"


def _exactly(key: Key, wanted: str, where: str, *, params: Params, limit: int) -> tuple[str, Params]:
    distance = f"file, attempt, number, embedding {_OPERATORS[key.metric]} (SELECT ?::vector) AS distance"
    inner = CHUNKS.select(distance, f"store = ? AND dimension = ? AND {where}")
    sql = f"SELECT file, attempt, number, {_SCORES[key.metric]} AS score FROM ({inner}) AS each {_BY_SCORE}"
    return sql, (wanted, key.owner, key.store, key.dimension, *params, limit)


def _by_graph(key: Key, wanted: str, where: str, *, params: Params, limit: int) -> tuple[str, Params]:
    # The dimension stands in the text, so that the planner knows which graph is meant.
    nearness = f"embedding::{_kind(key)} {_OPERATORS[key.metric]} (SELECT ?::{_kind(key)})"
    inner = CHUNKS.select(
        f"file, attempt, number, {nearness} AS distance", f"store = ? AND dimension = {key.dimension} AND {where}"
    )
    sql = (
        f"SELECT file, attempt, number, {_SCORES[key.metric]} AS score"
        f" FROM ({inner} ORDER BY {nearness} LIMIT ?) AS each {_BY_SCORE}"
    )
    return sql, (wanted, key.owner, key.store, *params, wanted, limit, limit)


def _ranked(key: Key, numbers: Sequence[int], size: Size, *, where: str, params: Params) -> tuple[str, Params]:
    """Rows that have any of the words, by bm25 as if each came once, and how many rows have each word."""
    places = range(len(numbers))
    flags = ", ".join(f"words @@ (SELECT ?::tsquery) AS has{n}" for n in places)
    matched = CHUNKS.select(
        f"file, attempt, number, terms, length(words) AS length, {flags}",
        f"store = ? AND words @@ (SELECT ?::tsquery) AND {where}",
    )
    counted = ", ".join(f"count(*) FILTER (WHERE has{n}) AS rows{n}" for n in places)
    weight = " + ".join(f"has{n}::int * ln(1 + (greatest(? - rows{n}, 0) + 0.5) / (rows{n} + 0.5))" for n in places)
    norm = f"(1 + {K1} * ({1 - B} + {B} * length / ?))"
    sql = (
        f"WITH matched AS MATERIALIZED ({matched}), counted AS MATERIALIZED (SELECT {counted} FROM matched)"
        f" SELECT file, attempt, number, terms, {', '.join(f'rows{n}' for n in places)} FROM matched, counted"
        f' ORDER BY ({weight}) / {norm} DESC, file COLLATE "C", number LIMIT ?'
    )
    each = [f"'{number:x}'" for number in numbers]
    given = (*each, key.owner, key.store, " | ".join(each), *params, *[float(size.rows)] * len(numbers), size.length)
    return sql, given


def _match(row: Sequence[Any], numbers: Sequence[int], size: Size) -> Match:
    """A row's bm25."""
    file, attempt, number, kept, *frequencies = row
    terms = unpacked(kept)
    counts = dict(zip(terms.numbers.tolist(), terms.counts.tolist(), strict=True))
    norm = K1 * (1 - B + B * len(counts) / size.length)
    found = ((counts.get(each, 0), rows) for each, rows in zip(numbers, frequencies, strict=True))
    score = math.fsum(idf(min(rows, size.rows), size.rows) * often / (often + norm) for often, rows in found)
    return Match(file_id=file, attempt=attempt, number=number, score=score)


def _lexemes(text: str) -> str:
    """A text's words as PostgreSQL's full-text search takes them, by number."""
    return " ".join(f"'{number:x}'" for number in unpacked(packed(text)).numbers.tolist())


def _embedding(key: Key, chunk: Chunk) -> Params:
    if not key.dimension:
        return ()
    if chunk.vector is None:
        return 0, None
    return key.dimension, _text(np.frombuffer(chunk.vector, "<f4"))


def _text(values: Any) -> str:
    """A vector as pgvector reads it."""
    return msgspec.json.encode(values.tolist()).decode()
