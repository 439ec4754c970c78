"""Tenancy and paging by construction: every statement about an owner's rows is written here.

A `Table` writes the SQL of its statements, each bound to one owner: the owner is the parameter before those of `where`
(in an insert, the first). There is no way to ask it for rows of everybody.
"""

from typing import NamedTuple

from msgspec import Struct

from antiphon.errors import InvalidRequest, NotFound
from antiphon.stores.database import Database, Params, Row
from antiphon.wire.responses import ListQuery

INSERT_ROWS_MAX = 32
"""Rows in one INSERT: more would not be faster, and each number of rows is a statement to prepare."""


class Listing(Struct, frozen=True, kw_only=True):
    """Which rows a client lists: an owner's, limited to those that `where` allows, as the query wants them."""

    owner: str
    query: ListQuery
    where: str = ""
    params: Params = ()


class Window(NamedTuple):
    """The SQL that reads one row more than a page holds, and whether it reads from the page's end to its start."""

    sql: str
    params: Params
    limit: int
    reversed: bool

    def cut(self, rows: list[Row]) -> tuple[list[Row], bool]:
        """The page's rows in the order asked for, and whether there are more in the direction of reading."""
        page = rows[: self.limit]
        if self.reversed:
            page.reverse()
        return page, len(rows) > self.limit


class Table(Struct, frozen=True):
    """A table with columns `owner` and `id`; `position` names the column that orders it."""

    name: str
    position: str = "position"

    def owned(self, alias: str) -> str:
        """The tenant clause, for the few statements that are written elsewhere."""
        return f"{alias}.owner = ?"

    def select(self, columns: str, where: str = "id = ?") -> str:
        """Reads. Parameters: owner, then those of `where`."""
        return f"SELECT {columns} FROM {self.name} WHERE owner = ? AND {where}"

    def insert(self, columns: str, rows: int = 1, *, marks: str = "") -> str:
        """Adds rows. Parameters of each: owner, then one per column; `marks` are the columns' if not all are `?`."""
        values = f"(?, {marks or ', '.join('?' * (columns.count(',') + 1))})"
        return f"INSERT INTO {self.name} (owner, {columns}) VALUES {', '.join([values] * rows)}"

    def update(self, changes: str, where: str = "id = ?") -> str:
        """Changes rows. Parameters: those of `changes`, owner, those of `where`."""
        return f"UPDATE {self.name} SET {changes} WHERE owner = ? AND {where}"

    def delete(self, where: str = "id = ?") -> str:
        """Removes rows. Parameters: owner, then those of `where`."""
        return f"DELETE FROM {self.name} WHERE owner = ? AND {where}"

    async def window(self, database: Database, columns: str, listing: Listing) -> Window:
        """The statement for a page, its cursors looked up. Raises `InvalidRequest` for a cursor outside the list."""
        query = listing.query
        descending = query.order == "desc"
        where = f" AND {listing.where}" if listing.where else ""
        params = (listing.owner, *listing.params)
        for param, cursor, beyond in (
            ("after", query.after, "<" if descending else ">"),
            ("before", query.before, ">" if descending else "<"),
        ):
            if cursor is not None:
                where += f" AND {self.position} {beyond} ?"
                params += (await self._position(database, listing, param=param, cursor=cursor),)
        # `before` alone means the page that ends there: read from the cursor away, then turned round.
        backwards = query.before is not None and query.after is None
        direction = "DESC" if descending != backwards else "ASC"
        sql = f"SELECT {columns} FROM {self.name} WHERE owner = ?{where} ORDER BY {self.position} {direction} LIMIT ?"
        return Window(sql, (*params, query.limit + 1), query.limit, backwards)

    async def page(self, database: Database, columns: str, listing: Listing) -> tuple[list[Row], bool]:
        """A page's rows, and whether there are more."""
        window = await self.window(database, columns, listing)
        return window.cut(await database.all(window.sql, window.params))

    async def _position(self, database: Database, listing: Listing, *, param: str, cursor: str) -> int:
        where = f"{listing.where} AND id = ?" if listing.where else "id = ?"
        row = await database.one(self.select(self.position, where), (listing.owner, *listing.params, cursor))
        if row is None:
            raise InvalidRequest(f"'{param}' is not in this list: no entry has the id '{cursor}'.", param=param)
        return int(row[0])


def not_found(what: str, id: str, *, param: str | None = None) -> NotFound:
    """The one answer for what does not exist and for what is somebody else's."""
    return NotFound(f"{what} with id '{id}' not found.", param=param)
