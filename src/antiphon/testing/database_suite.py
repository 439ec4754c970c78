"""What every `Database` has to do, as cases that any test runner can run over any implementation.

Each case is an async function of an open, empty database; `CASES` lists them. Nothing here knows SQLite.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from antiphon.errors import Internal, Unavailable
from antiphon.stores.database import Database, Duplicate, Mismatch, Statement
from antiphon.stores.migrate import migrate, parse

_NUMBERS = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT)"
_PUT = "INSERT INTO numbers (n, text) VALUES (?, ?)"
_ALL = "SELECT n FROM numbers ORDER BY n"

E = TypeVar("E", bound=Exception)


async def refused(kind: type[E], call: Awaitable[object]) -> E:
    """The error of this kind that the call ends with."""
    try:
        result = await call
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")


async def _numbers(database: Database) -> list[int]:
    return [row[0] for row in await database.all(_ALL)]


async def a_transaction_returns_the_row_count_of_each_statement(database: Database) -> None:
    """Inserts count one, updates what they touched."""
    await database.execute(_NUMBERS)
    counts = await database.transaction(
        [Statement(_PUT, (1, "a")), Statement(_PUT, (2, "b")), Statement("UPDATE numbers SET text = ?", ("c",))]
    )
    assert counts == [1, 1, 2]


async def what_was_awaited_is_read(database: Database) -> None:
    """Reads follow acknowledged writes, by `one` and by `all`."""
    await database.execute(_NUMBERS)
    for n in range(50):
        await database.execute(_PUT, (n, "x"))
        assert await database.one("SELECT text FROM numbers WHERE n = ?", (n,)) == ("x",)
        assert len(await database.all(_ALL)) == n + 1
    assert await database.one("SELECT text FROM numbers WHERE n = ?", (50,)) is None


async def a_mismatch_undoes_its_transaction_and_names_the_statement(database: Database) -> None:
    """Also what came before it in the same transaction is undone."""
    await database.execute(_NUMBERS)
    change = Statement("UPDATE numbers SET text = ? WHERE n = ?", ("b", 7), 1)
    error = await refused(Mismatch, database.transaction([Statement(_PUT, (1, "a")), change]))
    assert (error.index, error.rows) == (1, 0)
    assert await _numbers(database) == []


async def a_duplicate_undoes_its_transaction_and_names_the_statement(database: Database) -> None:
    """A unique key met twice."""
    await database.execute(_NUMBERS)
    twice = [Statement(_PUT, (1, "a")), Statement(_PUT, (2, "b")), Statement(_PUT, (1, "c"))]
    error = await refused(Duplicate, database.transaction(twice))
    assert error.index == 2
    assert await _numbers(database) == []


async def a_failing_transaction_does_not_harm_those_beside_it(database: Database) -> None:
    """Among two hundred at once, every third fails in one of three ways."""
    await database.execute(_NUMBERS)
    await database.execute(_PUT, (-1, "taken"))

    def transaction(n: int) -> list[Statement]:
        put = Statement(_PUT, (n, "x"))
        if n % 9 == 0:
            return [put, Statement(_PUT, (-1, "duplicate"))]
        if n % 9 == 3:
            return [put, Statement("DELETE FROM numbers WHERE n = ?", (-5,), 1)]
        if n % 9 == 6:
            return [put, Statement("INSERT INTO nowhere VALUES (1)")]
        return [put]

    results = await asyncio.gather(*(database.transaction(transaction(n)) for n in range(200)), return_exceptions=True)
    failed = {0: Duplicate, 3: Mismatch, 6: Internal}
    for n, result in enumerate(results):
        kind = failed.get(n % 9)
        assert isinstance(result, kind) if kind else result == [1], (n, result)
    assert await _numbers(database) == [-1, *(n for n in range(200) if n % 3)]


async def concurrent_transactions_take_effect_in_the_order_of_their_calls(database: Database) -> None:
    """For callers that start one after the other."""
    await database.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, n INTEGER)")
    put = "INSERT INTO log (position, n) SELECT count(*), ? FROM log"
    await asyncio.gather(*(database.transaction([Statement(put, (n,))]) for n in range(300)))
    assert [row[0] for row in await database.all("SELECT n FROM log ORDER BY position")] == list(range(300))


async def a_cancelled_caller_disturbs_nobody(database: Database) -> None:
    """Whether its own transaction took place is open; the others' did."""
    await database.execute(_NUMBERS)
    tasks = [asyncio.ensure_future(database.transaction([Statement(_PUT, (n, "x"))])) for n in range(20)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert set(range(20)) - {3} <= set(await _numbers(database))
    await database.execute(_PUT, (100, "x"))


async def a_large_read_is_whole_and_leaves_the_loop_to_others(database: Database) -> None:
    """Fifty thousand rows."""
    await database.execute("CREATE TABLE many (n INTEGER PRIMARY KEY)")
    numbers = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50000) SELECT n FROM c"
    assert await database.execute(f"INSERT INTO many {numbers}") == 50_000
    rows, small = await asyncio.gather(
        database.all("SELECT n FROM many ORDER BY n"), database.one("SELECT n FROM many WHERE n = ?", (7,))
    )
    assert [row[0] for row in rows] == list(range(1, 50_001))
    assert small == (7,)
    assert await database.one("SELECT max(n) FROM (SELECT n FROM many UNION SELECT -n FROM many) signed") == (50_000,)


async def wrong_sql_and_values_that_cannot_be_stored_are_internal_errors(database: Database) -> None:
    """Our mistakes are not the database's absence; nor do they stop it."""
    await database.execute(_NUMBERS)
    await refused(Internal, database.all("SELEKT 1"))
    await refused(Internal, database.one("SELECT * FROM nowhere"))
    await refused(Internal, database.execute("INSERT INTO nowhere VALUES (1)"))
    await refused(Internal, database.execute(_PUT, (2**70, "x")))
    await refused(Internal, database.execute(_PUT, (1, ["list"])))
    await refused(Internal, database.execute(_PUT, (1, "\ud800")))
    assert await _numbers(database) == []


async def a_closed_database_has_kept_its_promises_and_makes_no_more(database: Database) -> None:
    """Closing waits for what was begun; afterwards everything is refused as unavailable."""
    await database.execute(_NUMBERS)
    begun = asyncio.gather(*(database.execute(_PUT, (n, "x")) for n in range(100)))
    await asyncio.sleep(0)
    await database.close()
    assert await begun == [1] * 100
    await refused(Unavailable, database.execute(_PUT, (1, "x")))
    await refused(Unavailable, database.one(_ALL))
    await refused(Unavailable, database.all(_ALL))
    await database.close()


async def migrations_are_applied_once_and_in_order_even_by_two_at_once(database: Database) -> None:
    """A second start does nothing; two processes that start together share the work."""
    steps = [
        parse("001_a.sql", "-- a comment\nCREATE TABLE a (x INTEGER);\nINSERT INTO a VALUES (1);\n"),
        parse("002_b.sql", "ALTER TABLE a ADD COLUMN y INTEGER;\n\nCREATE TABLE b (\n  x INTEGER\n);\n"),
    ]
    first, second = await asyncio.gather(migrate(database, steps), migrate(database, steps))
    assert sorted(step.name for step in first + second) == ["001_a", "002_b"]
    assert await migrate(database, steps) == []
    assert await database.all("SELECT x, y FROM a") == [(1, None)]


async def a_failed_migration_leaves_no_trace(database: Database) -> None:
    """The next start tries it again."""
    broken = parse("001_a.sql", "CREATE TABLE a (x INTEGER);\nINSERT INTO nowhere VALUES (1);\n")
    await refused(Internal, migrate(database, [broken]))
    repaired = [parse("001_a.sql", "CREATE TABLE a (x INTEGER);\n")]
    assert await migrate(database, repaired) == repaired


async def a_database_ahead_of_the_program_is_left_as_it_is(database: Database) -> None:
    """An older process goes on beside a newer one."""
    newer = [parse("001_a.sql", "CREATE TABLE a (x INTEGER);\n"), parse("009_z.sql", "CREATE TABLE z (x INTEGER);\n")]
    assert await migrate(database, newer) == newer
    assert await migrate(database, newer[:1]) == []
    await database.execute("INSERT INTO z VALUES (1)")


Case = Callable[[Database], Awaitable[None]]

CASES: tuple[Case, ...] = (
    a_transaction_returns_the_row_count_of_each_statement,
    what_was_awaited_is_read,
    a_mismatch_undoes_its_transaction_and_names_the_statement,
    a_duplicate_undoes_its_transaction_and_names_the_statement,
    a_failing_transaction_does_not_harm_those_beside_it,
    concurrent_transactions_take_effect_in_the_order_of_their_calls,
    a_cancelled_caller_disturbs_nobody,
    a_large_read_is_whole_and_leaves_the_loop_to_others,
    wrong_sql_and_values_that_cannot_be_stored_are_internal_errors,
    a_closed_database_has_kept_its_promises_and_makes_no_more,
    migrations_are_applied_once_and_in_order_even_by_two_at_once,
    a_failed_migration_leaves_no_trace,
    a_database_ahead_of_the_program_is_left_as_it_is,
)
