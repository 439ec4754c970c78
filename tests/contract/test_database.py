"""The shipped contract of databases, over SQLite in memory, in a file, and in a file that waits for the disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.stores.database import Database
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing import database_suite


@pytest.fixture(params=["memory", "file", "full"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An open, empty database."""
    path = None if request.param == "memory" else tmp_path / "antiphon.db"
    database = open_sqlite(path, sync="full" if request.param == "full" else "normal")
    yield database
    await database.close()


@pytest.mark.parametrize("case", database_suite.CASES, ids=lambda case: case.__name__)
async def test_contract(case: database_suite.Case, database: Database) -> None:
    """Each case of the suite says its own behaviour."""
    await case(database)
