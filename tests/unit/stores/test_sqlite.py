"""SQLite: what holds the event loop and what does not, and how many commits there are."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.errors import Internal, Unavailable
from antiphon.stores.database import Statement
from antiphon.stores.sqlite import GROUP_MAX, Sqlite, translate

PUT = "INSERT INTO numbers (n) VALUES (?)"
COUNT_UP = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) SELECT n FROM c"


@pytest.fixture(params=["normal", "full"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sqlite]:
    database = Sqlite(tmp_path / "antiphon.db", request.param)
    await database.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    yield database
    await database.close()


async def one_turn(coroutine) -> tuple[asyncio.Task, bool]:
    """The task, and whether it ended in its first turn of the event loop."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task, task.done()


async def test_a_short_read_ends_in_one_turn_of_the_loop(database: Sqlite):
    for read in (database.one("SELECT 1"), database.all(COUNT_UP.format(100))):
        assert (await one_turn(read))[1]


async def test_a_long_read_lets_others_go_on(database: Sqlite):
    many, at_once = await one_turn(database.all(COUNT_UP.format(300_000)))
    last, last_at_once = await one_turn(database.one(f"SELECT max(n) FROM ({COUNT_UP.format(300_000)})"))
    assert not at_once
    assert not last_at_once
    assert await database.execute(PUT, (1,)) == 1
    assert await database.one("SELECT n FROM numbers") == (1,)
    assert len(await many) == 300_000
    assert await last == (300_000,)


async def test_many_short_reads_are_never_taken_for_a_long_one(database: Sqlite):
    for n in range(3000):
        read, at_once = await one_turn(database.all(COUNT_UP.format(10)))
        assert at_once, n
        assert await read == [(n + 1,) for n in range(10)]


async def test_transactions_of_one_turn_of_the_loop_share_a_commit(database: Sqlite):
    commits: list[str] = []
    database._writing.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    await asyncio.gather(*(database.execute(PUT, (n,)) for n in range(GROUP_MAX)))
    assert len(commits) == 1
    await asyncio.gather(*(database.execute(PUT, (1000 + n,)) for n in range(2 * GROUP_MAX + 1)))
    assert len(commits) == 4


async def test_nothing_is_acknowledged_before_its_commit_returned(database: Sqlite):
    other = sqlite3.connect(database._log.removesuffix("-wal"))

    async def put(n: int) -> None:
        await database.execute(PUT, (n,))
        assert other.execute("SELECT n FROM numbers WHERE n = ?", (n,)).fetchone() == (n,)

    await asyncio.gather(*(put(n) for n in range(100)))
    other.close()


async def test_a_transaction_without_statements_is_none(database: Sqlite):
    assert await database.transaction([]) == []


async def test_readers_of_a_file_see_only_whole_transactions(database: Sqlite):
    pair = [Statement("DELETE FROM numbers"), Statement(PUT, (1,)), Statement(PUT, (2,))]

    async def read() -> None:
        for _ in range(50):
            assert await database.all("SELECT n FROM numbers") in ([], [(1,), (2,)])
            await asyncio.sleep(0)

    await asyncio.gather(read(), *(database.transaction(pair) for _ in range(100)))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_FULL, Unavailable, "full"),
        (sqlite3.SQLITE_READONLY_DBMOVED, Unavailable, "read-only"),
        (sqlite3.SQLITE_IOERR_WRITE, Unavailable, "disk failed"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable, "another process"),
        (sqlite3.SQLITE_CORRUPT, Unavailable, "damaged"),
        (sqlite3.SQLITE_NOMEM, Unavailable, "memory"),
        (sqlite3.SQLITE_ERROR, Internal, "refused"),
        (sqlite3.SQLITE_MISMATCH, Internal, "refused"),
    ],
)
def test_errors_of_sqlite_become_ours(code: int, kind: type, words: str):
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    translated = translate(error)
    assert type(translated) is kind
    assert words in translated.message
