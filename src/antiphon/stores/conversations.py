"""Conversations: a row each, and their items in the order in which they were appended.

A turn claims its conversation, so that no other turn can read a context that is about to change; items that a client
adds meanwhile are allowed, and stand before the turn's.
"""

from collections.abc import Sequence

import msgspec

from antiphon.errors import ApiError, Conflict
from antiphon.stores import items as rows_of
from antiphon.stores.database import Database, Duplicate, Mismatch, Statement
from antiphon.stores.items import ITEMS, Encoded
from antiphon.stores.table import Listing, Table, not_found
from antiphon.wire.base import Page
from antiphon.wire.conversations import Conversation
from antiphon.wire.items import Item, decode_item
from antiphon.wire.responses import ListQuery

CONVERSATIONS = Table("conversations")

_INSERT = CONVERSATIONS.insert("id, created_at, metadata, next_seq")
_GET = CONVERSATIONS.select("created_at, metadata")
_UPDATE = CONVERSATIONS.update("metadata = ?")
_DELETE = CONVERSATIONS.delete()
_TAKE = CONVERSATIONS.update("next_seq = next_seq + ?")
_END_TURN = CONVERSATIONS.update("next_seq = next_seq + ?, turn = NULL, turn_worker = NULL", "id = ? AND turn = ?")
# Releases before 0.2 took turns without naming a worker: such a turn counts until its response has ended.
_FREE = (
    "(turn IS NULL OR (turn_worker IS NULL AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = conversations.turn) "
    "AND NOT EXISTS (SELECT 1 FROM responses WHERE responses.id = conversations.turn "
    "AND responses.status IN ('queued', 'in_progress'))))"
)
_CLAIM = CONVERSATIONS.update("turn = ?, turn_worker = ?", f"id = ? AND {_FREE}")
_HOLD = CONVERSATIONS.update("turn_worker = turn_worker", "id = ? AND turn = ?")
_RELEASE = CONVERSATIONS.update("turn = NULL, turn_worker = NULL", "id = ? AND turn = ?")
_ITEM = ITEMS.select("body", "container = ? AND id = ?")
_DELETE_ITEM = ITEMS.delete("container = ? AND id = ?")
# Every owner's: what no tenant asks for and none sees.
_INHERIT = (
    "UPDATE conversations SET turn = NULL, turn_worker = NULL WHERE turn_worker IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM workers WHERE workers.id = conversations.turn_worker) "
    "AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = conversations.turn)"
)

_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


class Conversations:
    """The conversations of all owners, one owner at a time. A foreign or missing id raises `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner: str, conversation: Conversation, items: Sequence[Item] = ()) -> None:
        """Stores a new conversation with its first items. Raises `Conflict` if two of them share an id."""
        pairs = rows_of.encoded(items)
        row = (owner, conversation.id, conversation.created_at, _encode(conversation.metadata), len(pairs))
        statements = [Statement(_INSERT, row), *rows_of.inserts(owner, conversation.id, pairs, first_seq=0)]
        try:
            await self._database.transaction(statements)
        except Duplicate as error:
            if error.index == 0:
                raise Conflict(f"A conversation with id '{conversation.id}' exists already.") from error
            raise _duplicate(rows_of.first_duplicate(pairs)) from error

    async def get(self, owner: str, id: str) -> Conversation:
        """The conversation, without its items."""
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("Conversation", id)
        return Conversation(id=id, created_at=row[0], metadata=_decode_metadata(row[1]))

    async def update(self, owner: str, id: str, metadata: dict[str, str]) -> Conversation:
        """Replaces the metadata."""
        await self._change(id, [Statement(_UPDATE, (_encode(metadata), owner, id), 1)])
        return await self.get(owner, id)

    async def delete(self, owner: str, id: str) -> None:
        """Removes the conversation and its items. Responses that were made in it stay."""
        statements = [Statement(_DELETE, (owner, id), 1), Statement(rows_of.DELETE_ALL, (owner, id))]
        await self._change(id, statements)

    async def append(self, owner: str, id: str, items: Sequence[Item]) -> None:
        """Adds items at the end. Raises `Conflict` for an id that the conversation has already."""
        pairs = rows_of.encoded(items)
        statements = [Statement(_TAKE, (len(pairs), owner, id), 1), *rows_of.appends(owner, id, pairs)]
        try:
            await self._change(id, statements)
        except Duplicate as error:
            raise _duplicate(await _known(self._database, owner, id, pairs=pairs)) from error

    async def list_items(self, owner: str, id: str, query: ListQuery) -> Page[Item]:
        """A page of items, by position."""
        await self.get(owner, id)
        listing = Listing(owner=owner, query=query, where="container = ?", params=(id,))
        return await rows_of.item_page(self._database, listing)

    async def get_item(self, owner: str, id: str, item_id: str) -> Item:
        """One item. Raises `NotFound` also if the conversation lacks it."""
        row = await self._database.one(_ITEM, (owner, id, item_id))
        if row is None:
            await self.get(owner, id)
            raise not_found("Item", item_id)
        return decode_item(row[0])

    async def delete_item(self, owner: str, id: str, item_id: str) -> Conversation:
        """Removes one item; returns the conversation. Raises `NotFound` also if the conversation lacks it."""
        conversation = await self.get(owner, id)
        try:
            await self._database.transaction([Statement(_DELETE_ITEM, (owner, id, item_id), 1)])
        except Mismatch as error:
            raise not_found("Item", item_id) from error
        return conversation

    async def history(self, owner: str, id: str) -> list[Item]:
        """All items, oldest first."""
        if await self._database.one(_GET, (owner, id)) is None:
            raise not_found("Conversation", id, param="conversation")
        return rows_of.decoded(await self._database.all(rows_of.BODIES, (owner, id)))

    async def claim(self, owner: str, id: str, turn_id: str, *, worker: str) -> None:
        """Reserves the conversation for a turn, which is named after its response.

        It lasts until it is released, for as long as the response has a run or the worker lives. Raises `Conflict`
        while another turn has it.
        """
        try:
            await self._database.transaction([Statement(_CLAIM, (turn_id, worker, owner, id), 1)])
        except Mismatch as error:
            if await self._database.one(_GET, (owner, id)) is None:
                raise not_found("Conversation", id, param="conversation") from error
            raise Conflict(
                f"Another response is being made in conversation '{id}'; try again when it has ended.",
                param="conversation",
                code="conversation_locked",
            ) from error

    async def release(self, owner: str, id: str, turn_id: str) -> None:
        """Ends a turn's claim, if it still has it."""
        await self._database.execute(_RELEASE, (owner, id, turn_id))

    async def inherit(self) -> int:
        """Ends the turns of workers no longer known, except those that left a run; returns how many those were."""
        return await self._database.execute(_INHERIT)

    async def _change(self, id: str, statements: Sequence[Statement]) -> None:
        try:
            await self._database.transaction(statements)
        except Mismatch as error:
            raise not_found("Conversation", id) from error


def held(owner: str, id: str, turn_id: str) -> Statement:
    """The statement that does nothing, provided that a turn has its claim: part of the transaction that begins it."""
    return Statement(_HOLD, (owner, id, turn_id), 1)


def turn_statements(owner: str, id: str, turn_id: str, *, pairs: Sequence[Encoded]) -> list[Statement]:
    """Statements that append a turn's items and release its claim, provided that it still has it."""
    return [Statement(_END_TURN, (len(pairs), owner, id, turn_id), 1), *rows_of.appends(owner, id, pairs)]


async def append_failure(database: Database, owner: str, id: str, *, pairs: Sequence[Encoded]) -> ApiError:
    """Why `turn_statements` did not go through."""
    row = await database.one(CONVERSATIONS.select("turn"), (owner, id))
    if row is None:
        return Conflict(f"Conversation '{id}' was deleted while a response was being made in it.", param="conversation")
    known = await _known(database, owner, id, pairs=pairs)
    if known is not None:
        return _duplicate(known)
    return Conflict(
        f"The response lost its claim on conversation '{id}'.", param="conversation", code="conversation_locked"
    )


async def _known(database: Database, owner: str, id: str, *, pairs: Sequence[Encoded]) -> str | None:
    """The first of the ids that occurs twice or that the conversation has already."""
    twice = rows_of.first_duplicate(pairs)
    if twice is not None:
        return twice
    for item_id, _ in pairs:
        if await database.one(_ITEM, (owner, id, item_id)) is not None:
            return item_id
    return None


def _duplicate(item_id: str | None) -> Conflict:
    return Conflict(f"The conversation has an item with the id '{item_id}' already.", param="items")
