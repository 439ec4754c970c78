"""What databases and stores promise: SQLite in memory, in a file, in a file with every fsync, and PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import batches_suite
import conversations_suite
import idempotency_suite
import stores_suite
import tool_groups_suite
import workers_suite
from antiphon.stores.database import Database
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import open_postgres
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing import database_suite


@pytest.fixture(params=["memory", "file", "full", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An open, empty database."""
    if request.param == "postgres":
        database = open_postgres(request.getfixturevalue("postgres_url"))
    else:
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
    [
        *stores_suite.CASES,
        *conversations_suite.CASES,
        *batches_suite.CASES,
        *workers_suite.CASES,
        *idempotency_suite.CASES,
        *tool_groups_suite.CASES,
    ],
    ids=lambda case: case.__name__,
)
async def test_stores(case: stores_suite.Case, database: Database) -> None:
    """Each case of the suite says its own behaviour."""
    await migrate(database, migrations(database.dialect))
    await case(database)
