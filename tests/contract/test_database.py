"""What databases and stores promise, over SQLite in memory, in a file, and in a file with every fsync."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import batches_suite
import conversations_suite
import stores_suite
import workers_suite
from antiphon.stores.database import Database
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing import database_suite


@pytest.fixture(params=["memory", "file", "full"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An open, empty database."""
    path = None if request.param == "memory" else tmp_path / "antiphon.db"
    database = open_sqlite(path, sync="full" if request.param == "full" else "off")
    yield database
    await database.close()


@pytest.mark.parametrize("case", database_suite.CASES, ids=lambda case: case.__name__)
async def test_database(case: database_suite.Case, database: Database) -> None:
    """Each case of the suite says its own behaviour."""
    await case(database)


@pytest.mark.parametrize(
    "case",
    [*stores_suite.CASES, *conversations_suite.CASES, *batches_suite.CASES, *workers_suite.CASES],
    ids=lambda case: case.__name__,
)
async def test_stores(case: stores_suite.Case, database: Database) -> None:
    """Each case of the suite says its own behaviour."""
    await migrate(database, migrations())
    await case(database)
