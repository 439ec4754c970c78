"""What indexes promise: the embedded one on either database, pgvector's, and a Qdrant in this process."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from antiphon.errors import Unavailable
from antiphon.knowledge import IndexConfig
from antiphon.stores.database import Database
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import open_postgres
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing import index_suite
from antiphon.testing.index_suite import KEY, PLAIN, X, chunk, places, vector
from antiphon.vectors.base import Key, VectorIndex
from antiphon.vectors.pg_index import PostgresIndex
from antiphon.vectors.qdrant_index import QdrantIndex
from antiphon.vectors.sqlite_index import EmbeddedIndex

_COUNT = "SELECT count(*) FROM vector_chunks"


class InDatabase:
    """Indexes over one database."""

    def __init__(self, database: Database, kind: type[EmbeddedIndex | PostgresIndex], config: IndexConfig) -> None:
        self.database = database
        self._kind = kind
        self._config = config
        self._opened: list[VectorIndex] = []

    async def open(self) -> VectorIndex:
        """Another one."""
        index = self._kind(self.database, self._config)
        self._opened.append(index)
        await index.open()
        return index

    async def count(self) -> int:
        """Rows, of which each has the text, the words and the vector."""
        rows = await self.database.all(_COUNT)
        return int(rows[0][0])

    async def close(self) -> None:
        """Closes all."""
        for index in self._opened:
            await index.close()
        await self.database.close()


@pytest.fixture(params=["sqlite", "embedded on postgres", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[index_suite.Place]:
    """A place where nothing is kept yet."""
    if request.param == "sqlite":
        database = open_sqlite(tmp_path / "antiphon.db", sync="off")
    else:
        database = open_postgres(request.getfixturevalue("postgres_url"))
    await migrate(database, migrations(database.dialect))
    kind = PostgresIndex if request.param.startswith("postgres") else EmbeddedIndex
    opened = InDatabase(database, kind, IndexConfig())
    yield opened
    await opened.close()


@pytest.mark.parametrize("case", index_suite.CASES, ids=lambda case: case.__name__)
async def test_index(case: index_suite.Case, place: index_suite.Place) -> None:
    """Each case of the suite says its own behaviour."""
    await case(place)


@pytest.fixture
async def on_postgres(postgres_url: str) -> AsyncIterator[Database]:
    """A PostgreSQL with our tables."""
    database = open_postgres(postgres_url)
    await migrate(database, migrations("postgres"))
    yield database
    await database.close()


async def test_large_stores_on_postgres_are_searched_through_a_graph(on_postgres: Database) -> None:
    """Also where a filter leaves one file of fifty, and where another owner has what is nearer."""
    chance = np.random.default_rng(3)
    exact = PostgresIndex(on_postgres, IndexConfig())
    graph = PostgresIndex(on_postgres, IndexConfig(exact_rows_max=10))
    key, other = (Key(owner=owner, store="vs_1", dimension=8) for owner in ("ada", "eve"))
    for n in range(50):
        chunks = [chunk(number, "x", chance.standard_normal(8)) for number in range(20)]
        await graph.add(key, f"file_{n:02}", "1", chunks=chunks)
        await exact.add(other, f"file_{n:02}", "1", chunks=chunks)
    graphs = "SELECT indexname FROM pg_indexes WHERE tablename = 'vector_chunks' AND indexdef LIKE '%hnsw%'"
    assert await on_postgres.all(graphs) == [("vector_chunks_cosine_8",)]
    whole = {f"file_{n:02}": "1" for n in range(50)}
    for among in (whole, {"file_07": "1"}):
        same = 0
        for _ in range(10):
            wanted = vector(*chance.standard_normal(8))
            expected = await exact.semantic(key, wanted, count=10, among=among)
            found = await graph.semantic(key, wanted, count=10, among=among)
            assert len(found) == 10
            same += len({*places(found)} & {*places(expected)})
        assert same >= 95


async def test_postgres_without_pgvector_searches_words_and_says_what_to_do(
    on_postgres: Database, postgres_url: str
) -> None:
    """A user that may not add the extension."""
    await on_postgres.execute("CREATE ROLE plain LOGIN")
    await on_postgres.execute("GRANT CREATE ON SCHEMA public TO plain")
    await on_postgres.execute("ALTER TABLE vector_chunks OWNER TO plain")
    plain = open_postgres(postgres_url.replace("//postgres:@", "//plain@"))
    try:
        index = PostgresIndex(plain, IndexConfig())
        await index.open()
        await index.add(PLAIN, "file_a", "1", chunks=[chunk(0, "red apples")])
        among = {"file_a": "1"}
        assert places(await index.keyword(PLAIN, "apples", count=5, among=among)) == [("file_a", 0)]
        with pytest.raises(Unavailable, match="let a superuser run 'CREATE EXTENSION vector'"):
            await index.add(KEY, "file_a", "1", chunks=[chunk(0, "x", X)])
        await on_postgres.execute("CREATE EXTENSION vector")
        await index.add(KEY, "file_a", "1", chunks=[chunk(0, "x", X)])
        assert places(await index.semantic(KEY, vector(*X), count=5, among=among)) == [("file_a", 0)]
    finally:
        await plain.close()
        await on_postgres.execute("DROP OWNED BY plain")
        await on_postgres.execute("DROP ROLE plain")


class InQdrant:
    """Indexes over one Qdrant in memory, which they share as two processes share a server."""

    def __init__(self) -> None:
        self._client = AsyncQdrantClient(location=":memory:")

    async def open(self) -> VectorIndex:
        """Another one."""
        index = QdrantIndex(None, IndexConfig(url=":memory:"))
        index._client = self._client
        return index

    async def count(self) -> int:
        """Points of all collections."""
        names = [each.name for each in (await self._client.get_collections()).collections]
        return sum([(await self._client.count(name)).count for name in names])


BY_QDRANT = [case for case in index_suite.CASES if case is not index_suite.equal_scores_are_cut_in_that_order_too]
"""Which of several equal ones it leaves out is its own matter, and documented."""


@pytest.mark.parametrize("case", BY_QDRANT, ids=lambda case: case.__name__)
async def test_qdrant(case: index_suite.Case) -> None:
    """Each case of the suite says its own behaviour."""
    await case(InQdrant())
