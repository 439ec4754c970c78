"""What becomes of writes and reads when PostgreSQL, the way to it, or another process does not play along."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from antiphon.errors import Internal, InvalidRequest, NotFound, Unavailable
from antiphon.stores import pg_connections
from antiphon.stores import postgres as module
from antiphon.stores.completions import Completions, StoredCompletion
from antiphon.stores.database import Duplicate, Statement
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import GROUP_MAX, READERS, WAITERS, Postgres
from antiphon.stores.responses import Responses
from antiphon.wire.responses import ListQuery
from postgres_server import PostgresServer, name_of, postgres_server
from stores_suite import US, assistant, ids, response, user

PUT = "INSERT INTO numbers (n) VALUES (?)"
ADD = "UPDATE numbers SET hits = hits + 1 WHERE n = ?"
SLOW = "INSERT INTO numbers (n) SELECT ? FROM (SELECT pg_sleep(60)) asleep"


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Postgres]:
    database = Postgres(postgres_url)
    await migrate(database, migrations("postgres"))
    await database.execute("CREATE TABLE numbers (n BIGINT PRIMARY KEY, hits BIGINT NOT NULL DEFAULT 0)")
    yield database
    await database.close()


@pytest.fixture
async def other(postgres_url: str, database: Postgres) -> AsyncIterator[Postgres]:
    """The same database, as another process has it open."""
    other = Postgres(postgres_url)
    yield other
    await other.close()


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """A server that may be stopped."""
    with postgres_server() as server:
        yield server


async def numbers(database: Postgres) -> list[int]:
    return [row[0] for row in await database.all("SELECT n FROM numbers ORDER BY n")]


async def asleep(database: Postgres, count: int) -> None:
    """Waits until so many statements sleep."""
    deadline = asyncio.get_running_loop().time() + 20
    while await database.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != (count,):
        assert asyncio.get_running_loop().time() < deadline


async def begin_and_finish(responses: Responses, n: int) -> None:
    await responses.begin(US, response(f"resp_{n}"), [user(f"msg_{n}_in")])
    await responses.finish(US, response(f"resp_{n}", assistant(f"msg_{n}_out"), status="completed"), b"journal")


# ---------------------------------------------------------------- the way to it


async def test_what_was_acknowledged_is_there_and_nothing_is_half_there_when_connections_are_cut(
    database: Postgres, postgres: PostgresServer, postgres_url: str
) -> None:
    responses = Responses(database)
    results: list[BaseException | None] = []
    some_went_through = asyncio.Event()

    async def work() -> None:
        while sum(result is not None for result in results) < 30:
            n = len(results)
            results.append(asyncio.InvalidStateError("this one has not ended"))
            results[n] = (await asyncio.gather(begin_and_finish(responses, n), return_exceptions=True))[0]
            if n % 10 == 0 and results[n] is None:
                some_went_through.set()

    working = asyncio.gather(*(work() for _ in range(12)))
    while not working.done():
        await asyncio.wait((working, asyncio.ensure_future(some_went_through.wait())), return_when="FIRST_COMPLETED")
        some_went_through.clear()
        await asyncio.to_thread(postgres.cut, postgres_url)
    assert {type(result) for result in results} == {type(None), Unavailable}
    for n, result in enumerate(results):
        try:
            found = await responses.get(US, f"resp_{n}")
        except NotFound:
            assert result is not None
            assert await responses.find_items(US, [f"msg_{n}_in"]) == {}
            continue
        assert result is not None or found.status == "completed"
        assert ids(found.output) == ([f"msg_{n}_out"] if found.status == "completed" else [])
        assert ids((await responses.input_items(US, f"resp_{n}", ListQuery())).data) == [f"msg_{n}_in"]
    await begin_and_finish(responses, len(results))


async def test_a_commit_whose_outcome_is_unknown_is_said_to_be_and_not_repeated(
    database: Postgres, postgres: PostgresServer, postgres_url: str
) -> None:
    writing = asyncio.ensure_future(database.execute(SLOW, (1,)))
    await asleep(database, 1)
    postgres.cut(postgres_url, "wait_event = 'PgSleep'")
    with pytest.raises(Unavailable, match="not known whether"):
        await writing
    assert await numbers(database) == []
    assert await database.execute(PUT, (2,)) == 1


async def test_a_server_that_stops_is_unavailable_at_once_and_used_again_when_it_is_back(own: PostgresServer) -> None:
    database = Postgres(own.url)
    await database.execute("CREATE TABLE numbers (n BIGINT PRIMARY KEY)")
    await database.execute(PUT, (1,))
    await asyncio.to_thread(own.stop)
    async with asyncio.timeout(2):
        results = await asyncio.gather(
            *(database.execute(PUT, (n,)) for n in range(2, 80)),
            *(database.one("SELECT 1") for _ in range(20)),
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {Unavailable}
    await asyncio.to_thread(own.start)
    assert await numbers(database) == [1]
    assert await database.execute(PUT, (2,)) == 1
    await database.close()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("127.0.0.1:9/name", "cannot be reached"),
        ("/nowhere?host=SOCKET", "no database of that name"),
    ],
)
async def test_what_is_wrong_is_said_without_the_password(own: PostgresServer, place: str, words: str) -> None:
    url = f"postgresql://postgres:topsecret@{place.replace('SOCKET', own.url.partition('host=')[2])}"
    database = Postgres(url)
    for call in (database.one("SELECT 1"), database.all("SELECT 1"), database.execute(PUT, (1,))):
        with pytest.raises(Unavailable, match=words) as refused:
            await call
        error: BaseException | None = refused.value
        while error is not None:
            assert "topsecret" not in str(error)
            error = error.__cause__
    await database.close()


# ---------------------------------------------------------------- the server


async def test_a_read_only_database_is_unavailable_for_writes_and_still_read(
    database: Postgres, postgres: PostgresServer, postgres_url: str
) -> None:
    name = name_of(postgres_url)
    await database.execute(PUT, (1,))
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.cut(postgres_url)
    results = await asyncio.gather(*(database.execute(PUT, (n,)) for n in range(2, 9)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results), results
    with pytest.raises(Unavailable, match="read-only"):
        await database.execute(PUT, (2,))
    assert await numbers(database) == [1]
    postgres.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    postgres.cut(postgres_url)
    await asyncio.gather(database.execute(PUT, (9,)), return_exceptions=True)
    assert await database.execute(PUT, (2,)) == 1


async def test_a_writer_that_has_become_read_only_looks_for_the_new_first_server(database: Postgres) -> None:
    connection = await database._writing.take()
    await connection.execute("SET default_transaction_read_only = on")
    database._writing.put(connection)
    with pytest.raises(Unavailable, match="read-only"):
        await database.execute(PUT, (1,))
    assert await database.execute(PUT, (1,)) == 1


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("53100", Unavailable, "disk is full"),
        ("25006", Unavailable, "read-only"),
        ("57P01", Unavailable, "starting or stopping"),
        ("57P03", Unavailable, "starting or stopping"),
        ("53300", Unavailable, "too many connections"),
        ("08006", Unavailable, "connection was lost"),
        ("28P01", Unavailable, "password"),
        ("XX001", Unavailable, "damaged"),
        ("42601", Internal, "refused a statement"),
        ("22003", Internal, "refused a statement"),
    ],
)
def test_errors_of_postgresql_become_ours(code: str, kind: type, words: str) -> None:
    error = pg_connections.failure(code, "what PostgreSQL says")
    assert type(error) is kind
    assert words in error.message


async def test_a_text_that_it_cannot_hold_is_the_clients_fault(database: Postgres) -> None:
    for call in (
        database.one("SELECT 1 WHERE ? = 'x'", ("a\0b",)),
        database.execute("UPDATE responses SET model = ?", ("a\0b",)),
    ):
        with pytest.raises(InvalidRequest, match=r"U\+0000"):
            await call
    assert await database.execute("UPDATE responses SET model = ?", ("a",)) == 0


async def test_a_completion_with_the_escape_of_that_character_hinders_no_list(database: Postgres) -> None:
    completions = Completions(database)
    made = StoredCompletion(
        id="c_1",
        created_at=1,
        model="asked",
        metadata={"a": "x\0", "b": "y"},
        body=rb'{"model": "answered", "text": "\u0000 \\u0000"}',
        messages=[],
    )
    await completions.put(US, made)
    for model, metadata in (("answered", None), ("asked", {"b": "y"})):
        page = await completions.list(US, ListQuery(model=model), metadata)
        assert page.first_id == "c_1"


# ---------------------------------------------------------------- other processes


async def test_a_lock_of_another_process_holds_up_only_those_who_want_it(database: Postgres, postgres_url: str) -> None:
    await asyncio.gather(*(database.execute(PUT, (n,)) for n in range(3)))
    holding = await pg_connections.connect(postgres_url)
    begun = holding.transaction()
    await begun.start()
    await holding.execute("UPDATE numbers SET hits = 0 WHERE n = 1")
    blocked = [asyncio.ensure_future(database.execute(ADD, (1,))) for _ in range(3)]
    async with asyncio.timeout(pg_connections.BUSY_S / 2):
        assert await asyncio.gather(*(database.execute(ADD, (2,)) for _ in range(5))) == [1] * 5
    assert not any(each.done() for each in blocked)
    await begun.rollback()
    await holding.close()
    assert await asyncio.gather(*blocked) == [1, 1, 1]
    assert await database.all("SELECT n, hits FROM numbers ORDER BY n") == [(0, 0), (1, 3), (2, 5)]


async def test_a_lock_that_is_never_given_makes_the_database_unavailable(
    database: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_connections, "BUSY_S", 0.1)
    holding = await pg_connections.connect(postgres_url)
    begun = holding.transaction()
    await begun.start()
    await holding.execute(PUT.replace("?", "1"))
    with pytest.raises(Unavailable, match="another process holds it"):
        await database.execute(PUT, (1,))
    await begun.commit()
    await holding.close()
    with pytest.raises(Duplicate):
        await database.execute(PUT, (1,))


async def test_processes_that_change_the_same_rows_in_any_order_do_not_stop_each_other(
    database: Postgres, other: Postgres
) -> None:
    await asyncio.gather(*(database.execute(PUT, (n,)) for n in range(8)))

    async def change(by: Postgres, first: int) -> None:
        for turn in range(10):
            rows = [(first + turn * step) % 8 for step in (1, 3, 5)]
            await by.transaction([Statement(ADD, (n,), 1) for n in rows])

    await asyncio.gather(*(change(by, first) for first in range(8) for by in (database, other)))
    assert await database.one("SELECT sum(hits) FROM numbers") == (8 * 2 * 10 * 3,)


async def test_a_migration_of_another_process_is_waited_for(
    database: Postgres, other: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_connections, "BUSY_S", 0.05)
    monkeypatch.setattr(module, "PATIENCE_MS", 10)
    steps = [
        (Statement("INSERT INTO schema_version (version, name) VALUES (?, ?)", (1000, "z"))),
        Statement("SELECT pg_sleep(0.3)"),
        Statement("ALTER TABLE numbers ADD COLUMN more BIGINT"),
    ]
    first = asyncio.ensure_future(database.transaction(steps))
    await asleep(database, 1)
    with pytest.raises(Duplicate):
        await other.transaction(steps)
    assert len(await first) == 3


# ---------------------------------------------------------------- connections


async def test_there_are_no_more_connections_than_said(database: Postgres) -> None:
    await asyncio.gather(
        *(database.all("SELECT pg_sleep(0.01)") for _ in range(40)), *(database.execute(PUT, (n,)) for n in range(100))
    )
    found = await database.one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    assert found is not None
    assert READERS + 1 <= found[0] <= READERS + 1 + WAITERS


async def test_a_read_that_waits_too_long_for_a_connection_is_told(
    database: Postgres, other: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_connections, "BUSY_S", 0.05)
    busy = [asyncio.ensure_future(database.all("SELECT pg_sleep(60)")) for _ in range(READERS)]
    await asleep(other, READERS)
    with pytest.raises(Unavailable, match="all connections are busy"):
        await database.one("SELECT 1")
    monkeypatch.undo()
    for each in busy:
        each.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    assert await asyncio.gather(*(database.one("SELECT 1") for _ in range(20))) == [(1,)] * 20


async def test_transactions_that_gather_share_a_commit(database: Postgres) -> None:
    await database.execute("CREATE TABLE times (n BIGINT, commit TIMESTAMPTZ DEFAULT now())")
    await asyncio.gather(*(database.execute("INSERT INTO times (n) VALUES (?)", (n,)) for n in range(10 * GROUP_MAX)))
    assert await database.one("SELECT count(*), count(DISTINCT commit) FROM times") == (10 * GROUP_MAX, 10)


async def test_a_driver_that_breaks_in_the_middle_leaves_nobody_waiting(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.set_result(context["exception"]))
    monkeypatch.setattr(database._writing, "take", None)
    results = await asyncio.gather(*(database.execute(PUT, (n,)) for n in range(3 * GROUP_MAX)), return_exceptions=True)
    assert {type(result) for result in results} == {Internal}
    monkeypatch.undo()
    assert await database.execute(PUT, (1,)) == 1
    assert isinstance(await broken, TypeError)
