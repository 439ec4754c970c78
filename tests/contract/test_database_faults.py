"""What SQLite does when the disk, or another process, does not play along: a clear 503, and no half state."""

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from antiphon.errors import NotFound, Unavailable
from antiphon.stores import sqlite
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Statement
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.responses import Responses, Turn
from antiphon.stores.sqlite import Sqlite, open_sqlite
from antiphon.wire.responses import ListQuery
from stores_suite import US, assistant, conversation, ids, response, user

PUT = "INSERT INTO numbers (n) VALUES (?)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Sqlite]:
    database = Sqlite(tmp_path / "antiphon.db", "normal")
    await migrate(database, migrations())
    await database.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    yield database
    await database.close()


async def numbers(database: Sqlite) -> list[int]:
    return [row[0] for row in await database.all("SELECT n FROM numbers ORDER BY n")]


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """The log cannot grow: what the operating system says then reaches SQLite in the middle of a commit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 200_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def begin_and_finish(responses: Responses, n: int) -> None:
    id = f"resp_{n}"
    await responses.begin(US, response(id, conversation="conv_1"), [user(f"msg_{n}_in", "x" * 3000)])
    ended = response(id, assistant(f"msg_{n}_out", "y" * 3000), status="completed", conversation="conv_1")
    await responses.finish(US, ended, b"j" * 3000)


async def fill(responses: Responses) -> list[BaseException | None]:
    """Forty responses, four at a time, each of about 10 kB."""
    results: list[BaseException | None] = []
    for start in range(0, 40, 4):
        some = (begin_and_finish(responses, n) for n in range(start, start + 4))
        results += await asyncio.gather(*some, return_exceptions=True)
    return results


async def check_all_or_nothing(database: Sqlite, results: list[BaseException | None]) -> None:
    responses = Responses(database)
    assert {type(result) for result in results} == {type(None), Unavailable}
    for n, result in enumerate(results):
        try:
            found = await responses.get(US, f"resp_{n}")
        except NotFound:
            assert result is not None
            assert await responses.find_items(US, [f"msg_{n}_in", f"msg_{n}_out"]) == {}
            continue
        done = found.status == "completed"
        assert done == (result is None)
        assert ids(found.output) == ([f"msg_{n}_out"] if done else [])
        assert ids((await responses.input_items(US, f"resp_{n}", ListQuery())).data) == [f"msg_{n}_in"]


async def test_a_full_disk_is_unavailable_and_leaves_whole_transactions_only(database: Sqlite, tmp_path: Path) -> None:
    responses = Responses(database)
    with full_disk(tmp_path / "antiphon.db"):
        results = await fill(responses)
    await check_all_or_nothing(database, results)
    await begin_and_finish(responses, 100)
    assert (await responses.get(US, "resp_100")).status == "completed"


async def test_a_database_at_its_size_limit_is_unavailable_and_leaves_whole_transactions_only(database: Sqlite) -> None:
    responses = Responses(database)
    (pages,) = await database.one("PRAGMA page_count") or (0,)
    database._writing.execute(f"PRAGMA max_page_count = {pages + 30}")
    results = await fill(responses)
    await check_all_or_nothing(database, results)
    assert all("disk is full" in result.message for result in results if isinstance(result, Unavailable))
    database._writing.execute("PRAGMA max_page_count = 1000000")
    await begin_and_finish(responses, 100)


async def test_a_turn_that_meets_a_full_disk_is_not_half_there(database: Sqlite, tmp_path: Path) -> None:
    conversations: Conversations = await conversation(database, "conv_1")
    responses = Responses(database)
    await conversations.claim(US, "conv_1", "resp_1", worker="w")
    await responses.begin(US, response("resp_1", conversation="conv_1"), [user("msg_1")])
    ended = response("resp_1", assistant("msg_2", "y" * 300_000), status="completed", conversation="conv_1")
    turn = Turn(conversation="conv_1", items=[user("msg_1"), *ended.output])
    with full_disk(tmp_path / "antiphon.db"), pytest.raises(Unavailable):
        await responses.finish(US, ended, b"", turn=turn)
    assert (await responses.get(US, "resp_1")).status == "in_progress"
    assert await conversations.history(US, "conv_1") == []
    await responses.finish(US, ended, b"", turn=turn)
    assert ids(await conversations.history(US, "conv_1")) == ["msg_1", "msg_2"]


async def test_a_read_only_database_is_unavailable_for_writes_and_still_read(database: Sqlite) -> None:
    await database.execute(PUT, (1,))
    database._writing.execute("PRAGMA query_only = ON")
    results = await asyncio.gather(*(database.execute(PUT, (n,)) for n in range(2, 9)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) and "read-only" in result.message for result in results)
    assert await numbers(database) == [1]
    database._writing.execute("PRAGMA query_only = OFF")
    await database.execute(PUT, (2,))


async def test_a_writer_in_another_process_is_waited_for_while_the_loop_goes_on(
    database: Sqlite, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.gather(*(database.execute(PUT, (n,)) for n in range(5)))
    for _ in range(10):
        await asyncio.sleep(0)
        assert await numbers(database) == []
    assert not writing.done()
    other.execute("COMMIT")
    await writing
    assert await numbers(database) == [0, 1, 2, 3, 4]
    other.close()


async def test_a_writer_in_another_process_that_does_not_end_makes_the_database_unavailable(
    database: Sqlite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.02)
    other = sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="another process holds it"):
        await database.execute(PUT, (1,))
    other.execute("ROLLBACK")
    await database.execute(PUT, (2,))
    assert await numbers(database) == [2]
    other.close()


async def test_a_disk_that_fails_to_sync_acknowledges_nothing(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "antiphon.db", "full")
    await database.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    database._log = str(tmp_path / "gone" / "log")
    results = await asyncio.gather(*(database.execute(PUT, (n,)) for n in range(5)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    database._log = str(tmp_path / "antiphon.db-wal")
    await database.close()


@pytest.mark.parametrize("content", [b"This is no database, and it is longer than a header. " * 20, None])
async def test_what_is_no_database_is_unavailable_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "antiphon.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(Unavailable):
        open_sqlite(path)


async def test_the_log_stays_small_under_steady_writing(database: Sqlite, tmp_path: Path) -> None:
    await database.execute("CREATE TABLE blobs (n INTEGER PRIMARY KEY, body BLOB)")
    log, largest = tmp_path / "antiphon.db-wal", 0

    async def write() -> None:
        nonlocal largest
        for _ in range(30):
            await database.execute("INSERT INTO blobs (body) VALUES (?)", (bytes(50_000),))
            largest = max(largest, log.stat().st_size)

    await asyncio.gather(*(write() for _ in range(16)))  # 24 MB
    assert largest < 2 * sqlite.LOG_BYTES_MAX
    assert await database.one("SELECT count(*), sum(length(body)) FROM blobs") == (480, 480 * 50_000)


async def test_a_reader_that_keeps_the_log_from_starting_anew_does_not_stop_writers(
    database: Sqlite, tmp_path: Path
) -> None:
    await database.execute("CREATE TABLE blobs (n INTEGER PRIMARY KEY, body BLOB)")
    other = sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM blobs").fetchone()
    put = Statement("INSERT INTO blobs (body) VALUES (?)", (bytes(100_000),))
    for _ in range(120):
        await database.transaction([put])
    assert database._log_bytes_max > sqlite.LOG_BYTES_MAX
    other.execute("COMMIT")
    other.close()
    for _ in range(200):
        await database.transaction([put])
    assert database._log_bytes_max == sqlite.LOG_BYTES_MAX
    assert await database.one("SELECT count(*) FROM blobs") == (320,)


async def test_processes_that_make_the_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    for number in range(5):
        with ThreadPoolExecutor(8) as threads:
            opened = list(threads.map(lambda _, n=number: Sqlite(tmp_path / f"{n}.db", "normal"), range(8)))
        for database in opened:
            await database.close()
