"""SQLite as a `Database`: transactions in groups on the event loop; whatever waits for the disk, on a thread.

A commit into SQLite's write-ahead log is a write into the operating system's memory: some 40 us. Handing a transaction
to a writer thread and back costs more than that, and a thread that takes Python's lock anew for every statement can be
kept waiting for seconds by a busy event loop. So the loop commits: what one of its turns brought together shares a
commit, each transaction in a savepoint of its own, and nobody is told before the commit returned. What does wait for
the disk goes to a thread: `fsync` with `sync="full"`, checkpoints (transactions gather meanwhile), and reads that turn
out long: SQLite itself stops them after `INLINE_STEPS_MAX`, and a thread runs them again.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from antiphon.errors import ApiError, Internal, Unavailable
from antiphon.stores.database import Database, Dialect, Duplicate, Mismatch, Params, Row, Statement

Sync = Literal["off", "normal", "full"]

INLINE_STEPS_MAX = 10_000
"""Virtual-machine steps after which, or twice as many, a read leaves the event loop: about a millisecond."""
GROUP_MAX = 64
"""Transactions in one commit at most: bounds how long the event loop is held."""
BUSY_TIMEOUT_S = 5.0
"""How long a transaction waits for another process that writes."""
LOG_BYTES_MAX = 4 * 2**20
"""Size of the write-ahead log at which it is copied into the database."""
_BUSY_PAUSE_S = 0.005
_STATEMENT_CACHE = 512

_GONE = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_BUSY: "another process holds it",
    sqlite3.SQLITE_LOCKED: "another process holds it",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "the file is no database",
    sqlite3.SQLITE_PERM: "access is denied",
    sqlite3.SQLITE_NOMEM: "memory is exhausted",
}
_FOREIGN = (sqlite3.Error, ValueError, OverflowError)
"""What `execute` raises; the last two for values that SQLite cannot hold."""
_DUPLICATE = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_ROWID)

Outcome = list[int] | Exception
"""What became of a transaction."""


class _Write(Struct):
    """A transaction that waits for its commit, who waits for it, and since when."""

    statements: Sequence[Statement]
    future: "asyncio.Future[list[int]]"
    since_s: float


_Result = tuple[_Write, Outcome]


def open_sqlite(path: Path | None, *, sync: Sync = "normal") -> Database:
    """Opens or creates the database file; None keeps it in memory.

    `sync` says what an acknowledged transaction survives: "normal" the death of this process at any moment, "full" the
    loss of power too, for the price of waiting for the disk. With "normal" a loss of power takes the last moments with
    it, with "off" perhaps the whole file. Raises `Unavailable`.
    """
    return Sqlite(path, sync)


class Sqlite:
    """A database file, or a database in memory. Its calls come from one event loop."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path | None, sync: Sync) -> None:
        self._log = None if path is None else f"{path}-wal"
        self._full = sync == "full"
        with _translated(), contextlib.ExitStack() as opened:  # what was opened is closed again if the rest fails
            self._writing = _connect(path, opened)
            if sync == "off":
                self._writing.execute("PRAGMA synchronous = OFF")
            self._reading = self._long = self._writing
            if path is not None:
                _keep_log(self._writing)
                self._writing.execute("PRAGMA wal_autocheckpoint = 0")
                self._writing.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
                self._writing.execute("PRAGMA busy_timeout = 0")
                self._reading = _connect(path, opened)
                self._reading.set_progress_handler(self._stop, INLINE_STEPS_MAX)
                self._long = _connect(path, opened)
            opened.pop_all()
        self._gathered: list[_Write] = []
        self._unflushed: list[_Result] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = self._paused = self._closed = False
        self._log_bytes_max = LOG_BYTES_MAX
        self._inode = 0  # of the log, once something was written
        self._is_long = False
        self._foreign = 0
        self._reader = ThreadPoolExecutor(1, "sqlite-reader")
        self._disk = ThreadPoolExecutor(1, "sqlite-disk")

    async def one(self, sql: str, params: Params = ()) -> Row | None:
        """The first row."""
        self._is_long = False
        try:
            row: Row | None = self._reading.execute(sql, params).fetchone()
        except _FOREIGN as error:
            if not _is(error, sqlite3.SQLITE_INTERRUPT):
                raise translate(error) from error
        else:
            return row
        rows = await self._read_long(sql, params)
        return rows[0] if rows else None

    async def all(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows, as of one moment."""
        self._is_long = False
        try:
            return self._reading.execute(sql, params).fetchall()
        except _FOREIGN as error:
            if not _is(error, sqlite3.SQLITE_INTERRUPT):
                raise translate(error) from error
        return await self._read_long(sql, params)

    async def execute(self, sql: str, params: Params = ()) -> int:
        """A transaction of one statement; returns how many rows it touched."""
        return (await self.transaction((Statement(sql, params),)))[0]

    async def transaction(self, statements: Sequence[Statement]) -> list[int]:
        """Takes the statements into the next commit; returns how many rows each touched."""
        if self._closed:
            raise Unavailable("The database is closed.")
        return await self._gather(statements)

    def foreign_commits(self) -> int:
        """A number that changes whenever another process has committed something."""
        if not (self._paused or self._closed):  # else another thread has the connection
            with contextlib.suppress(sqlite3.Error):
                (self._foreign,) = self._writing.execute("PRAGMA data_version").fetchone()
        return self._foreign

    async def close(self) -> None:
        """Finishes what was begun, and closes the file."""
        if self._closed:
            return
        self._closed = True
        await self._gather(())  # comes after all others
        await asyncio.gather(*self._tasks)
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        for thread in (self._reader, self._disk):
            thread.shutdown()
        for connection in (self._reading, self._long, self._writing):
            connection.close()

    async def _read_long(self, sql: str, params: Params) -> list[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._reader, _read, self._long, sql, params)

    def _stop(self) -> bool:
        """Whether a read is to be stopped: not when SQLite asks for the first time.

        It counts the steps of a prepared statement over its whole life: the first time may come at once. (And Python
        3.11 prepares a statement anew for each use once it was stopped.)
        """
        stop, self._is_long = self._is_long, True
        return stop

    def _gather(self, statements: Sequence[Statement]) -> "asyncio.Future[list[int]]":
        loop = asyncio.get_running_loop()
        if not self._gathered and not self._paused:
            loop.call_soon(self._commit)
        write = _Write(statements, loop.create_future(), loop.time())
        self._gathered.append(write)
        return write.future

    def _commit(self) -> None:
        """Commits a group of what has gathered. Is due whenever something has, unless commits are paused."""
        loop = asyncio.get_running_loop()
        group = self._gathered[:GROUP_MAX]
        outcomes: list[Outcome]
        log_bytes = 0
        try:
            log_bytes = self._check_files()
            outcomes = run_group(self._writing, [write.statements for write in group])
        except Unavailable as error:
            outcomes = [error for _ in group]
        except sqlite3.Error as error:
            if _is(error, sqlite3.SQLITE_BUSY) and loop.time() - group[0].since_s < BUSY_TIMEOUT_S:
                loop.call_later(_BUSY_PAUSE_S, self._commit)
                return
            outcomes = [translate(error) for _ in group]
        del self._gathered[: len(group)]
        self._acknowledge(list(zip(group, outcomes, strict=True)))
        if self._log is not None and log_bytes > self._log_bytes_max:
            self._paused = True
            self._start(self._checkpoint(self._log))
        elif self._gathered:
            loop.call_soon(self._commit)

    def _check_files(self) -> int:
        """The size of the log.

        Raises `Unavailable` if it is not the one that is open: SQLite would write on into a nameless file.
        """
        if self._log is None:
            return 0
        inode, size_bytes = _inode_and_size(self._log)
        self._inode = self._inode or inode
        if inode != self._inode:
            raise Unavailable("The database is not available: its files were removed or replaced.")
        return size_bytes

    def _acknowledge(self, results: list[_Result]) -> None:
        if self._log is None or not self._full:
            _tell(results)
            return
        self._unflushed += results
        if not self._flushing:
            self._flushing = True
            self._start(self._flush(self._log))

    async def _flush(self, log: str) -> None:
        """Flushes the log to the disk, then tells whose transactions are in it: again, while commits go on."""
        while self._unflushed:
            results, self._unflushed = self._unflushed, []
            try:
                await asyncio.get_running_loop().run_in_executor(self._disk, _fsync, log)
            except OSError as error:
                lost = f"The database is not available: {error.strerror}."
                results = [(write, Unavailable(lost)) for write, _ in results]
            _tell(results)
        self._flushing = False

    async def _checkpoint(self, log: str) -> None:
        """Copies the log into the database while transactions gather, then goes on with them."""
        await asyncio.get_running_loop().run_in_executor(self._disk, _checkpoint, self._writing)
        _, size_bytes = _inode_and_size(log)
        # A long read may have kept the log from starting anew: then not at every commit from now on.
        self._log_bytes_max = LOG_BYTES_MAX if size_bytes <= LOG_BYTES_MAX else 2 * size_bytes
        self._paused = False
        if self._gathered:
            self._commit()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


# ---------------------------------------------------------------- transactions


def run_group(connection: sqlite3.Connection, group: Sequence[Sequence[Statement]]) -> list[Outcome]:
    """Runs transactions in one commit; each succeeds or fails by itself. Raises if it cannot begin."""
    connection.execute("BEGIN IMMEDIATE")
    if len(group) == 1:
        return [_finish(connection, group[0])]
    outcomes: list[Outcome] = []
    try:
        for statements in group:
            connection.execute("SAVEPOINT one")
            outcome = _run(connection, statements)
            if isinstance(outcome, Exception):
                # Where SQLite has undone the whole group by itself (some kinds of full disk), this fails.
                connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
            outcomes.append(outcome)
        connection.execute("COMMIT")
    except sqlite3.Error:
        _roll_back(connection)
        return [_run_alone(connection, statements) for statements in group]
    return outcomes


def _run_alone(connection: sqlite3.Connection, statements: Sequence[Statement]) -> Outcome:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        return translate(error)
    return _finish(connection, statements)


def _finish(connection: sqlite3.Connection, statements: Sequence[Statement]) -> Outcome:
    """Runs a transaction that has begun, and commits it."""
    outcome = _run(connection, statements)
    try:
        if not isinstance(outcome, Exception):
            connection.execute("COMMIT")
            return outcome
    except sqlite3.Error as error:
        outcome = translate(error)
    _roll_back(connection)
    return outcome


def _run(connection: sqlite3.Connection, statements: Sequence[Statement]) -> Outcome:
    """Runs statements inside a transaction; returns the row counts, or why it has to be undone."""
    counts: list[int] = []
    try:
        for statement in statements:
            count = connection.execute(statement.sql, statement.params).rowcount
            if statement.rows is not None and count != statement.rows:
                return Mismatch(len(counts), count)
            counts.append(count)
    except _FOREIGN as error:
        if getattr(error, "sqlite_errorcode", None) in _DUPLICATE:
            return Duplicate(len(counts))
        return translate(error)
    return counts


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _tell(results: list[_Result]) -> None:
    for write, outcome in results:
        if write.future.done():  # its caller was cancelled
            continue
        if isinstance(outcome, Exception):
            write.future.set_exception(outcome)
        else:
            write.future.set_result(outcome)


# ---------------------------------------------------------------- connections, and what runs on threads


def _connect(path: Path | None, opened: contextlib.ExitStack) -> sqlite3.Connection:
    """A connection that leaves transactions to us and may change threads: each has one user at a time."""
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENT_CACHE,
    )
    opened.callback(connection.close)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _keep_log(connection: sqlite3.Connection) -> None:
    """Gives the file a write-ahead log. Of processes that make it at once, SQLite lets the others fail, not wait."""
    until_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is(error, sqlite3.SQLITE_BUSY) or time.monotonic() > until_s:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _read(connection: sqlite3.Connection, sql: str, params: Params) -> list[Row]:
    with _translated():
        return connection.execute(sql, params).fetchall()


def _checkpoint(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # the log holds everything: the next checkpoint tries again
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        # The first write after a checkpoint truncates the log and syncs its header: better here than on the loop.
        connection.execute("PRAGMA user_version = 1")


def _fsync(path: str) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _inode_and_size(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - after every commit: a Path costs more than the call
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


# ---------------------------------------------------------------- errors


def translate(error: Exception) -> ApiError:
    """Our error for one of SQLite's."""
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return Unavailable("The database is closed.")
    reason = _GONE.get(_kind(error))
    if reason is not None:
        return Unavailable(f"The database is not available: {reason}.")
    return Internal(f"The database refused a statement: {error}")


def _is(error: Exception, kind: int) -> bool:
    return _kind(error) == kind


def _kind(error: Exception) -> int:
    """The low byte of SQLite's code, which is the kind; the rest is a nuance."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _FOREIGN as error:
        raise translate(error) from error
