"""Connections to PostgreSQL, and its errors as ours. The one place that knows the driver."""

import asyncio
import contextlib
from typing import Any, Final

import asyncpg

from antiphon.errors import ApiError, Internal, Unavailable
from antiphon.stores.database import Duplicate, Mismatch
from antiphon.stores.pg_sql import MISMATCH

CONNECT_S: Final = 5.0
BUSY_S: Final = 5.0
"""How long a call waits for a connection, and for a lock."""
LOCKED: Final = ("55P03", "40P01")
"""Codes of a lock that was not given in time, and of two that wait for each other."""
_STATEMENT_CACHE: Final = 512

FOREIGN: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError)
"""What the driver raises. `OSError` covers timeouts; `ValueError`, values that it cannot encode."""
_DUPLICATE: Final = frozenset({"23505", "42710", "42P07"})
"""A row with the same key; of two that create one table at once, PostgreSQL tells the second so in three ways."""
READ_ONLY: Final = "25006"
"""The code of what a server refuses that only copies another: the next connection may find the other."""
_GONE: Final = {
    READ_ONLY: "it is read-only",
    "28000": "it does not let this user in",
    "28P01": "it does not take the user's password",
    "3D000": "there is no database of that name",
    "40P01": "another process holds it",
    "42501": "access is denied",
    "53100": "the disk is full",
    "53200": "memory is exhausted",
    "53300": "it has too many connections",
    "55P03": "another process holds it",
    "57014": "it took too long",
    "58030": "the disk failed",
}
_GONE_CLASSES: Final = {
    "08": "the connection was lost",
    "53": "it lacks resources",
    "57": "it is starting or stopping",
    "58": "its system failed",
    "XX": "it is damaged",
}

Connection = Any
"""asyncpg's, which has no types."""


async def connect(url: str, setup: str = "") -> Connection:
    """A connection on which `setup` has run. Raises `Unavailable`."""
    named = None if "application_name=" in url else {"application_name": "antiphon"}
    try:
        connection = await asyncpg.connect(
            url, timeout=CONNECT_S, statement_cache_size=_STATEMENT_CACHE, server_settings=named
        )
    except FOREIGN as error:
        raise translate(error) from error
    with contextlib.ExitStack() as undo:
        undo.callback(connection.terminate)
        try:
            if setup:
                await connection.execute(setup, timeout=CONNECT_S)
        except FOREIGN as error:
            raise translate(error) from error
        undo.pop_all()
    return connection


class Connections:
    """At most so many connections, opened when they are needed; lost ones are replaced by their next use."""

    def __init__(self, url: str, most: int, setup: str = "") -> None:
        self._url = url
        self._most = most
        self._setup = setup
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(most)
        self._closed = False

    async def take(self) -> Connection:
        """A connection for one's own use, until it is put back. Raises `Unavailable`."""
        if self._closed:
            raise closed()
        if self._free.locked():
            try:
                async with asyncio.timeout(BUSY_S):
                    await self._free.acquire()
            except TimeoutError as error:
                raise Unavailable("The database is not available: all connections are busy.") from error
        else:
            await self._free.acquire()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        with contextlib.ExitStack() as undo:
            undo.callback(self._free.release)
            connection = await connect(self._url, self._setup)
            undo.pop_all()
        return connection

    def put(self, connection: Connection) -> None:
        """Gives a connection back."""
        if not connection.is_closed():
            self._idle.append(connection)
        self._free.release()

    async def close(self) -> None:
        """Waits for those in use, then closes all."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._most):
            await self._free.acquire()
        for connection in self._idle:
            await end(connection)


async def end(connection: Connection) -> None:
    """Closes a connection, whatever its state."""
    with contextlib.suppress(*FOREIGN):
        await connection.close(timeout=CONNECT_S)


def closed() -> Unavailable:
    """What a closed database answers."""
    return Unavailable("The database is closed.")


def refused(connection: Connection, error: Exception) -> ApiError:
    """Our error for one that a call on a connection ended with; a connection that it leaves unusable is given up."""
    broken = isinstance(error, (OSError, asyncpg.InternalClientError))
    if broken or getattr(error, "sqlstate", None) == READ_ONLY:
        connection.terminate()
    return translate(error)


def translate(error: Exception) -> ApiError:
    """Our error for one of the driver's. None of them repeats the address, which may have a password."""
    if isinstance(error, asyncpg.PostgresError):
        return failure(error.sqlstate or "", str(error))
    if isinstance(error, TimeoutError):
        return Unavailable("The database is not available: it does not answer.")
    if isinstance(error, OSError):
        return Unavailable("The database is not available: it cannot be reached.")
    # The driver also breaks in its own way when a connection ends between two messages.
    if isinstance(error, asyncpg.InternalClientError) or "connection is closed" in str(error):
        return failure("08003", "")
    return Internal(f"The database refused a statement: {error}")


def failure(code: str, text: str) -> ApiError:
    """Our error for a code of SQL's."""
    reason = _GONE.get(code) or _GONE_CLASSES.get(code[:2])
    if reason is not None:
        return Unavailable(f"The database is not available: {reason}.")
    return Internal(f"The database refused a statement: {text}")


def failure_of(code: str, text: str, index: int) -> Exception:
    """Why a transaction came to nothing, for what the statement at `index` met."""
    if code == MISMATCH:
        return Mismatch(index, int(text))
    return Duplicate(index) if code in _DUPLICATE else failure(code, text)
