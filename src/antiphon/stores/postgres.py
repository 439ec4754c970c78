"""PostgreSQL as a `Database`: transactions in groups, one round trip and one commit each, through one connection.

What gathers while a group is under way is the next group, so that a slow commit makes groups larger and not callers
slower. One connection writes, so that transactions take effect in the order of their calls and never wait for each
other's locks. A transaction that meets a lock of another process leaves its group after `PATIENCE_MS` and goes on
waiting by itself. Reads have connections of their own.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from antiphon.errors import ApiError, Internal, Unavailable
from antiphon.stores import pg_connections as connections
from antiphon.stores.database import Database, Dialect, Params, Row, Statement
from antiphon.stores.pg_connections import FOREIGN, LOCKED, READ_ONLY, Connections
from antiphon.stores.pg_sql import CALL, RUN, Work, arguments, check, numbered, work

GROUP_MAX: Final = 32
"""Transactions in one commit at most: PostgreSQL keeps 64 savepoints of a transaction at hand."""
PATIENCE_MS: Final = 50
"""How long a group waits for a lock."""
SEARCH: Final = "SET hnsw.iterative_scan = strict_order; SET hnsw.ef_search = 100"
"""Settings of pgvector for connections that read; without it they mean nothing."""
READERS: Final = 5
WAITERS: Final = 2
"""Connections for reads, and for transactions that wait for locks; one more writes."""
CALL_S: Final = 30.0
"""How long one call may take, other than a change of the schema."""

Outcome = list[int] | Exception | None
"""What became of a transaction; None if it met a lock."""


class _Write(Struct):
    """A transaction that waits for its commit, and who waits for it."""

    work: Work
    future: "asyncio.Future[list[int]]"


def open_postgres(url: str) -> Database:
    """The database at `postgresql://user:password@host:port/name`; libpq's parameters may follow as a query.

    Nothing is connected before it is needed: that a server cannot be reached, the first call says.
    """
    return Postgres(url)


class Postgres:
    """A database on a server. Its calls come from one event loop."""

    dialect: Dialect = "postgres"

    def __init__(self, url: str) -> None:
        self._reading = Connections(url, READERS, SEARCH)
        self._writing = Connections(url, 1, RUN)
        self._waiting = Connections(url, WAITERS, RUN)
        self._gathered: list[_Write] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._committing = self._closed = False

    async def one(self, sql: str, params: Params = ()) -> Row | None:
        """The first row."""
        rows = await self.all(sql, params)
        return rows[0] if rows else None

    async def all(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows, as of one moment."""
        check(params)
        text = numbered(sql, tuple(map(type, params)))
        connection = await self._reading.take()
        try:
            rows = await connection.fetch(text, *params, timeout=CALL_S)
        except FOREIGN as error:
            raise connections.refused(connection, error) from error
        finally:
            self._reading.put(connection)
        return list(map(tuple, rows))

    async def execute(self, sql: str, params: Params = ()) -> int:
        """A transaction of one statement; returns how many rows it touched."""
        return (await self.transaction((Statement(sql, params),)))[0]

    async def transaction(self, statements: Sequence[Statement]) -> list[int]:
        """Takes the statements into the next commit; returns how many rows each touched.

        A transaction that changes the schema may take long: it runs by itself, and waits for locks without end.
        """
        if self._closed:
            raise connections.closed()
        loop = asyncio.get_running_loop()
        write = _Write(work(statements), loop.create_future())
        if any(map(_changes_schema, statements)):
            self._start(self._commit_alone(write, 0, None))
        else:
            self._gathered.append(write)
            if not self._committing:
                self._committing = True
                self._start(self._commit())
        return await write.future

    async def close(self) -> None:
        """Finishes what was begun, and closes all connections."""
        self._closed = True
        while self._tasks:  # `gather` of what is done would not let them go: since Python 3.12 it waits for nothing
            await asyncio.wait(self._tasks)
        for each in (self._reading, self._writing, self._waiting):
            await each.close()

    async def _commit(self) -> None:
        """Commits groups of what has gathered, until nothing has."""
        group: list[_Write] = []
        try:
            while self._gathered:
                group = self._gathered[:GROUP_MAX]
                del self._gathered[:GROUP_MAX]
                await self._commit_group(group)
                group = []
        finally:  # nothing is left, unless the driver failed
            for write in group + self._gathered:
                _tell(write, Internal("The database's driver failed."))
            self._gathered.clear()
            self._committing = False

    async def _commit_group(self, group: Sequence[_Write]) -> None:
        outcomes = await _run(self._writing, [write.work for write in group], PATIENCE_MS, timeout_s=CALL_S)
        for write, outcome in zip(group, outcomes, strict=True):
            if outcome is None:
                self._start(self._commit_alone(write, int(connections.BUSY_S * 1000), CALL_S))
            else:
                _tell(write, outcome)

    async def _commit_alone(self, write: _Write, patience_ms: int, timeout_s: float | None) -> None:
        outcome = (await _run(self._waiting, [write.work], patience_ms, timeout_s=timeout_s))[0]
        _tell(write, connections.failure(LOCKED[0], "") if outcome is None else outcome)

    def _start(self, committing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(committing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _run(
    through: Connections, group: Sequence[Work], patience_ms: int, *, timeout_s: float | None
) -> list[Outcome]:
    """Runs transactions in one commit; each succeeds or fails by itself, unless the commit itself fails."""
    try:
        connection = await through.take()
    except ApiError as error:
        return [type(error)(error.message) for _ in group]
    try:
        counts, failures = await connection.fetchrow(CALL, *arguments(group, patience_ms), timeout=timeout_s)
        if READ_ONLY in (failures or ()):
            connection.terminate()
    except FOREIGN as error:
        lost = connections.refused(connection, error)
        if connection.is_closed():
            lost = Unavailable(f"{lost.message} It is not known whether the change took place.")
        return [type(lost)(lost.message) for _ in group]  # each caller raises one of its own
    finally:
        through.put(connection)
    return list(_outcomes(group, counts, failures or ()))


def _outcomes(group: Sequence[Work], counts: list[int], failures: Sequence[str]) -> Iterator[Outcome]:
    failed = {int(place): rest for place, *rest in zip(*[iter(failures)] * 4, strict=True)}
    start = 0
    for place, each in enumerate(group):
        stop = start + len(each.statements)
        if place in failed:
            index, code, text = failed[place]
            yield None if code in LOCKED else connections.failure_of(code, text, int(index))
        else:
            yield counts[start:stop]
        start = stop


def _tell(write: _Write, outcome: list[int] | Exception) -> None:
    if write.future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        write.future.set_exception(outcome)
    else:
        write.future.set_result(outcome)


def _changes_schema(statement: Statement) -> bool:
    return not statement.sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "WITH"))
