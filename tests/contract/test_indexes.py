"""What indexes promise: the embedded one on either database, pgvector's, and a Qdrant in this process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.knowledge import IndexConfig
from antiphon.stores.database import Database
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import open_postgres
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing import index_suite
from antiphon.vectors.base import VectorIndex
from antiphon.vectors.sqlite_index import EmbeddedIndex

_COUNT = "SELECT count(*) FROM vector_chunks"


class InDatabase:
    """Indexes over one database."""

    def __init__(self, database: Database, kind: type[EmbeddedIndex]) -> None:
        self.database = database
        self._kind = kind
        self._opened: list[VectorIndex] = []

    async def open(self) -> VectorIndex:
        """Another one."""
        index = self._kind(self.database, IndexConfig())
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


@pytest.fixture(params=["sqlite", "embedded on postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[index_suite.Place]:
    """A place where nothing is kept yet."""
    if request.param == "sqlite":
        database = open_sqlite(tmp_path / "antiphon.db", sync="off")
        kind = EmbeddedIndex
    else:
        database = open_postgres(request.getfixturevalue("postgres_url"))
        kind = EmbeddedIndex
    await migrate(database, migrations(database.dialect))
    opened = InDatabase(database, kind)
    yield opened
    await opened.close()


@pytest.mark.parametrize("case", index_suite.CASES, ids=lambda case: case.__name__)
async def test_index(case: index_suite.Case, place: index_suite.Place) -> None:
    """Each case of the suite says its own behaviour."""
    await case(place)
