"""The contract of vector stores, on either database."""

import pytest

import vector_stores_suite
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import open_postgres
from antiphon.stores.sqlite import open_sqlite
from vector_stores_suite import Shelf


@pytest.mark.parametrize("case", vector_stores_suite.CASES, ids=lambda case: case.__name__)
async def test_vector_stores(case: vector_stores_suite.Case) -> None:
    """Each case of the suite says its own behaviour."""
    database = open_sqlite(None)
    await migrate(database, migrations())
    await case(Shelf(database))
    await database.close()


@pytest.mark.parametrize("case", vector_stores_suite.CASES, ids=lambda case: case.__name__)
async def test_vector_stores_on_postgres(case: vector_stores_suite.Case, postgres_url: str) -> None:
    """Each case of the suite says its own behaviour."""
    database = open_postgres(postgres_url)
    await migrate(database, migrations(database.dialect))
    await case(Shelf(database))
    await database.close()
