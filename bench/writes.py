"""What is written to a database's log, as seen from outside: bytes, and on SQLite commits."""

import asyncio
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

_HEAD: Final = 32
_FRAME: Final = struct.Struct(">II16x")  # the page's number; the size of the database if the frame ends a commit


class Written(NamedTuple):
    """What a log holds by now."""

    bytes: int
    commits: int


class SqliteLog:
    """The write-ahead log of a database file, which grows as long as `held`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._log = Path(f"{database}-wal")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Reads from the beginning to the end, so that the log is not begun anew."""
        with closing(sqlite3.connect(self._database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM responses").fetchone()
            yield

    def written(self) -> Written:
        """All that is in it."""
        log = self._log.read_bytes()
        page = int.from_bytes(log[8:12], "big") or 65_536
        places = range(_HEAD, len(log) - _FRAME.size, _FRAME.size + page)
        return Written(len(log), sum(_FRAME.unpack_from(log, place)[1] != 0 for place in places))


class PostgresLog:
    """The write-ahead log of a PostgreSQL, whoever writes to it."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing has to be done."""
        yield

    def written(self) -> Written:
        """All that was ever written; commits are not counted."""
        return Written(asyncio.run(self._position()), 0)

    async def _position(self) -> int:
        connection = await asyncpg.connect(self._url)
        try:
            return int(await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
        finally:
            await connection.close()
