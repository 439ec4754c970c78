"""The stores' SQL: every statement that a request can cause finds its rows through an index, and is bound to owners."""

import re

import pytest

from antiphon.stores import (
    batches,
    completions,
    containers,
    conversations,
    embedded_jobs,
    files,
    idempotency,
    items,
    responses,
    runs,
)
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.table import Listing, Table
from antiphon.wire.responses import ListQuery

FOR_ALL_OWNERS = {
    *("_CLEAN", "_EXPIRED", "_INHERIT", "_LEFT_BY", "_LEFT_OVER", "_HOLDERS", "_PURGE", "_RUNNING"),
    *("_WAITING", "_WAITING_COUNT"),
    *("_NEXT", "_SOONEST", "_TAKE_ONE", "_MINE", "_ENDED_AS", "_AGAIN", "_UNDONE", "_TAKE_OVER", "_FORGET", "_OPEN"),
}
"""What a server does at its start and by the way, for nobody in particular."""

OF_WHAT_IS_UNFINISHED = {
    "runs._RUNNING": ["runs"],
    "runs._PURGE": ["journal_parts"],
    "runs.DELETE_PARTS": ["journal_parts"],
}
"""What reads all runs, or the parts of their journals: they are those that have not ended, and few."""

PASSING = {"chain", "page", "v", "w"}
"""What exists only within a statement."""


PARTIAL = ("responses_unfinished", "batches_open", "jobs_by_worker", "loose_contents_by_worker")
"""Indexes that hold only what is under way: to read all of one is little."""


def statements() -> list[tuple[str, str]]:
    found = []
    for module in (
        batches,
        completions,
        containers,
        conversations,
        embedded_jobs,
        files,
        idempotency,
        items,
        responses,
        runs,
    ):
        for name, value in vars(module).items():
            sql = value[-1] if isinstance(value, list) and value and isinstance(value[0], str) else value
            if isinstance(sql, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", sql):
                found.append((f"{module.__name__.rpartition('.')[2]}.{name}", sql))
    return found


@pytest.fixture
async def database():
    database = open_sqlite(None)
    await migrate(database, migrations())
    yield database
    await database.close()


async def plan(database, sql: str) -> str:
    params = ("x",) * sql.count("?")
    return "\n".join(row[3] for row in await database.all(f"EXPLAIN QUERY PLAN {sql}", params))


def test_the_stores_have_statements():
    assert len(statements()) > 25


@pytest.mark.parametrize(("name", "sql"), statements(), ids=[name for name, _ in statements()])
async def test_no_statement_reads_a_whole_table(database, name: str, sql: str):
    if name == "responses._LIST":
        window = await Table("responses").window(database, "position, id, body", Listing(owner="", query=ListQuery()))
        sql = sql % (window.sql, "DESC")
    scans = re.findall(r"SCAN ([a-z]\w*)(.*)", await plan(database, sql))
    whole = [table for table, how in scans if table not in PASSING and not any(index in how for index in PARTIAL)]
    assert whole == OF_WHAT_IS_UNFINISHED.get(name, [])


@pytest.mark.parametrize(("name", "sql"), statements(), ids=[name for name, _ in statements()])
def test_every_statement_of_a_request_names_the_owner(name: str, sql: str):
    if name.partition(".")[2] in FOR_ALL_OWNERS:
        assert "owner = ?" not in sql
    else:
        assert "owner = ?" in sql or sql.startswith("INSERT INTO") or name == "responses._LIST"


@pytest.mark.parametrize("table", [Table("responses"), Table("completions"), Table("files"), Table("batches")])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_page_is_read_in_order_without_sorting(database, table: Table, order):
    window = await table.window(database, "id", Listing(owner="", query=ListQuery(order=order)))
    steps = await plan(database, window.sql)
    assert "owner=?" in steps
    assert "TEMP B-TREE" not in steps


async def test_items_are_looked_up_by_owner_and_id(database):
    assert "items_by_id (owner=? AND id=?)" in await plan(database, responses.find_sql(3))


@pytest.mark.parametrize("table", [Table("items", "seq"), Table("completion_messages", "seq")])
async def test_a_page_of_items_is_read_in_order_without_sorting(database, table: Table):
    listing = Listing(owner="", query=ListQuery(), where="container = ?", params=("conv_1",))
    window = await table.window(database, "id", listing)
    steps = await plan(database, window.sql)
    assert "container=?" in steps
    assert "TEMP B-TREE" not in steps
