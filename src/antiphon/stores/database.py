"""What every database offers the stores: three verbs, transactions as data, and five ways to fail.

A transaction is a list of `Statement`s rather than a callback, so that a backend may gather the transactions of many
requests into one commit, and one that sits behind a network may send each in one round trip. What a later statement
needs from an earlier one, SQL itself must carry (`INSERT ... SELECT`); what must hold, `Statement.rows` states.

SQL uses `?` for parameters and only what SQLite and PostgreSQL share, so that another backend translates placeholders
and not queries. The few expressions that differ are written twice, by `Database.dialect`.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

Row = tuple[Any, ...]
Params = tuple[Any, ...]
Dialect = Literal["sqlite", "postgres"]


class Statement(Struct, frozen=True):
    """One SQL statement of a transaction. `rows`, if given, is how many rows it must touch.

    What writes begins with INSERT, UPDATE or DELETE: of other statements, row counts mean nothing.
    """

    sql: str
    params: Params = ()
    rows: int | None = None


class Mismatch(Exception):
    """The statement at `index` touched another number of rows than it had to; its transaction did nothing."""

    def __init__(self, index: int, rows: int) -> None:
        super().__init__(f"statement {index} touched {rows} rows")
        self.index = index
        self.rows = rows


class Duplicate(Exception):
    """The statement at `index` met a row with the same key; its transaction did nothing."""

    def __init__(self, index: int) -> None:
        super().__init__(f"statement {index} met a row with the same key")
        self.index = index


class Database(Protocol):
    """Reads, transactions, and nothing else.

    All methods raise `errors.Unavailable` when the database is gone, full, locked or read-only, `errors.Internal` for
    SQL that is wrong, and `errors.InvalidRequest` for a text that this database cannot hold; nothing of the failed call
    is then stored, unless the message says that this is not known. What a caller awaited before is visible to every
    later read.
    """

    @property
    def dialect(self) -> Dialect:
        """Whose SQL it speaks where databases differ."""
        ...

    async def one(self, sql: str, params: Params = ()) -> Row | None:
        """The first row. For look-ups by key: a backend may answer without giving way to other tasks."""
        ...

    async def all(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows, as of one moment."""
        ...

    async def execute(self, sql: str, params: Params = ()) -> int:
        """A transaction of one statement; returns how many rows it touched."""
        ...

    async def transaction(self, statements: Sequence[Statement]) -> list[int]:
        """Runs all statements or none, and returns, once they are durable, how many rows each touched.

        Raises `Mismatch` or `Duplicate`, naming the statement. A caller that is cancelled meanwhile does not know
        whether the transaction took place.
        """
        ...

    async def close(self) -> None:
        """Finishes what was begun, then refuses everything."""
        ...
