"""Tables: the tenant clause is in every statement, and pages follow positions."""

import pytest

from antiphon.errors import InvalidRequest
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.table import Listing, Table, not_found
from antiphon.wire.responses import ListQuery

THINGS = Table("things")


@pytest.mark.parametrize(
    "sql",
    [
        THINGS.select("body"),
        THINGS.select("body", "container = ? ORDER BY seq"),
        THINGS.update("body = ?"),
        THINGS.update("body = ?", "id = ? AND turn IS NULL"),
        THINGS.delete(),
        THINGS.delete("container = ?"),
    ],
)
def test_what_reads_changes_or_removes_is_bound_to_one_owner(sql: str):
    assert " WHERE owner = ? AND " in sql


def test_what_is_added_has_an_owner():
    assert THINGS.insert("id, body") == "INSERT INTO things (owner, id, body) VALUES (?, ?, ?)"
    assert THINGS.insert("id", 3) == "INSERT INTO things (owner, id) VALUES (?, ?), (?, ?), (?, ?)"


@pytest.fixture
async def database():
    database = open_sqlite(None)
    await database.execute("CREATE TABLE things (position INTEGER PRIMARY KEY, owner TEXT, id TEXT, kind TEXT)")
    for n in range(10):
        await database.execute(THINGS.insert("id, kind"), ("us" if n != 4 else "them", str(n), "ab"[n % 2]))
    yield database
    await database.close()


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        (ListQuery(), "987653210", False),
        (ListQuery(order="asc"), "012356789", False),
        (ListQuery(limit=9), "987653210", False),
        (ListQuery(limit=8), "98765321", True),
        (ListQuery(limit=3, after="7"), "653", True),
        (ListQuery(limit=3, after="3", order="asc"), "567", True),
        (ListQuery(limit=3, after="0"), "", False),
        (ListQuery(limit=3, before="3"), "765", True),
        (ListQuery(limit=3, before="7"), "98", False),
        (ListQuery(limit=3, before="9"), "", False),
        (ListQuery(limit=3, before="3", order="asc"), "012", False),
        (ListQuery(limit=2, before="3", order="asc"), "12", True),
        (ListQuery(limit=3, after="8", before="3"), "765", False),
        (ListQuery(limit=2, after="8", before="3"), "76", True),
    ],
)
async def test_pages_keep_the_order_asked_for_and_know_whether_there_is_more(database, query, expected, has_more):
    rows, more = await THINGS.page(database, "id", Listing(owner="us", query=query))
    assert ("".join(row[0] for row in rows), more) == (expected, has_more)


async def test_a_filter_limits_the_list_and_its_cursors(database):
    listing = Listing(owner="us", query=ListQuery(after="7"), where="kind = ?", params=("b",))
    rows, _ = await THINGS.page(database, "id", listing)
    assert [row[0] for row in rows] == ["5", "3", "1"]
    with pytest.raises(InvalidRequest):
        await THINGS.page(database, "id", Listing(owner="us", query=ListQuery(after="6"), where="kind = 'b'"))


@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize("cursor", ["4", "none", ""])
async def test_a_foreign_or_unknown_cursor_is_refused_and_named(database, param, cursor):
    listing = Listing(owner="us", query=ListQuery(**{param: cursor}))
    with pytest.raises(InvalidRequest) as refusal:
        await THINGS.page(database, "id", listing)
    assert refusal.value.param == param


def test_what_is_missing_is_named():
    assert not_found("Response", "resp_1").message == "Response with id 'resp_1' not found."
