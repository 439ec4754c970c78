"""Rows of items: one per item, under the response or the conversation that contains it.

Of a response, input items stand before position 0 and output items from 0 on, so that neither write needs to know of
the other; a conversation hands out its positions inside the transaction that uses them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from antiphon.errors import Internal
from antiphon.stores.database import Database, Row, Statement
from antiphon.stores.table import INSERT_ROWS_MAX, Listing, Table
from antiphon.wire.base import Page
from antiphon.wire.items import Item, decode_items, encode_item

ITEMS = Table("items", "seq")
BODIES = ITEMS.select("body", "container = ? ORDER BY seq")
DELETE_ALL = ITEMS.delete("container = ?")

_INSERT = [ITEMS.insert("container, seq, id, body", rows) for rows in range(1, INSERT_ROWS_MAX + 1)]
_APPEND = [
    # The conversation's next position has been moved on already, by the statement before this one.
    f"INSERT INTO items (owner, container, seq, id, body) "
    f"SELECT c.owner, c.id, c.next_seq - v.column1, v.column2, v.column3 "
    f"FROM conversations c CROSS JOIN (VALUES {', '.join(['(?, ?, ?)'] * rows)}) v "
    f"WHERE {Table('conversations').owned('c')} AND c.id = ?"
    for rows in range(1, INSERT_ROWS_MAX + 1)
]

Encoded = tuple[str, bytes]
"""An item's id and JSON."""


def encoded(items: Iterable[Item]) -> list[Encoded]:
    """Items as they are stored. Whoever stores them has given them ids."""
    pairs: list[Encoded] = []
    for item in items:
        if item.id is None:
            raise Internal(f"An item of type '{item.__struct_config__.tag}' was to be stored without an id.")
        pairs.append((item.id, encode_item(item)))
    return pairs


def decoded(rows: Iterable[Row]) -> list[Item]:
    """Items from rows whose last column is the body."""
    return decode_items(b"[%b]" % b",".join([row[-1] for row in rows]))


def inserts(owner: str, container: str, pairs: Sequence[Encoded], *, first_seq: int) -> list[Statement]:
    """Statements that put items at known positions."""
    statements = []
    seq = first_seq
    for chunk in _chunks(pairs):
        params: list[object] = []
        for id, body in chunk:
            params += (owner, container, seq, id, body)
            seq += 1
        statements.append(Statement(_INSERT[len(chunk) - 1], tuple(params)))
    return statements


def appends(owner: str, conversation: str, pairs: Sequence[Encoded]) -> list[Statement]:
    """Statements that put items at the last positions that a conversation has handed out."""
    statements = []
    back = len(pairs)
    for chunk in _chunks(pairs):
        params: list[object] = []
        for id, body in chunk:
            params += (back, id, body)
            back -= 1
        statements.append(Statement(_APPEND[len(chunk) - 1], (*params, owner, conversation), len(chunk)))
    return statements


def first_duplicate(pairs: Iterable[Encoded]) -> str | None:
    """The first id that occurs twice."""
    return next((id for id, count in Counter(id for id, _ in pairs).items() if count > 1), None)


async def item_page(database: Database, listing: Listing) -> Page[Item]:
    """A page of the items that the listing describes."""
    rows, has_more = await ITEMS.page(database, "id, body", listing)
    return Page(
        data=decoded(rows),
        first_id=rows[0][0] if rows else None,
        last_id=rows[-1][0] if rows else None,
        has_more=has_more,
    )


def _chunks(pairs: Sequence[Encoded]) -> Iterator[Sequence[Encoded]]:
    for start in range(0, len(pairs), INSERT_ROWS_MAX):
        yield pairs[start : start + INSERT_ROWS_MAX]
