"""Conversations and their items."""

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Raw, Struct

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.api.visible import all_visible
from antiphon.engine.context import accepted
from antiphon.errors import DECODE_ERRORS, Conflict, NotFound, Unsupported, misfit
from antiphon.ids import child_id
from antiphon.wire.base import Page
from antiphon.wire.conversations import (
    Conversation,
    ConversationDeleted,
    CreateConversation,
    CreateItems,
    UpdateConversation,
    decode_new_items,
)
from antiphon.wire.items import CompactionTrigger, Item
from antiphon.wire.items_complete import complete_items
from antiphon.wire.responses import Includable, ListQuery


class IncludeQuery(Struct, kw_only=True):
    """The query of routes that answer with items: what to show that is hidden otherwise."""

    include: list[Includable] = []


@route("POST", "/v1/conversations", body=CreateConversation, answer=Conversation)
async def create_conversation(call: Call[CreateConversation, None]) -> Conversation:
    """Create a conversation, with up to 20 items."""
    services = call.services
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            return await services.conversations.get(call.owner, call.begun)
    items = await _items(call, call.body.items, 0)
    conversation = Conversation(
        id=await call.new_id("conv"), created_at=int(services.clock()), metadata=call.body.metadata or {}
    )
    await services.conversations.create(call.owner, conversation, items)
    return conversation


@route("GET", "/v1/conversations/{conversation_id}", answer=Conversation)
async def get_conversation(call: Call[None, None]) -> Conversation:
    """Retrieve a conversation."""
    return await call.services.conversations.get(call.owner, call.params["conversation_id"])


@route("POST", "/v1/conversations/{conversation_id}", body=UpdateConversation, answer=Conversation)
async def update_conversation(call: Call[UpdateConversation, None]) -> Conversation:
    """Replace a conversation's metadata."""
    return await call.services.conversations.update(call.owner, call.params["conversation_id"], call.body.metadata)


@route("DELETE", "/v1/conversations/{conversation_id}", answer=ConversationDeleted)
async def delete_conversation(call: Call[None, None]) -> ConversationDeleted:
    """Delete a conversation and its items."""
    conversation_id = call.params["conversation_id"]
    await call.services.conversations.delete(call.owner, conversation_id)
    return ConversationDeleted(id=conversation_id)


@route("POST", "/v1/conversations/{conversation_id}/items", body=CreateItems, query=IncludeQuery, answer=Page[Item])
async def create_items(call: Call[CreateItems, IncludeQuery]) -> Page[Item]:
    """Add up to 20 items to a conversation."""
    conversation_id, conversations = call.params["conversation_id"], call.services.conversations
    items = await _items(call, call.body.items, 1, base=await call.new_id("items") if call.execution else None)
    try:
        await conversations.append(call.owner, conversation_id, items)
    except Conflict:
        if call.begun is None:
            raise
        for item in items:  # the execution that died had added them
            await conversations.get_item(call.owner, conversation_id, item.id or "")
    return Page(data=_seen(call, items, call.query.include), first_id=items[0].id, last_id=items[-1].id)


@route("GET", "/v1/conversations/{conversation_id}/items", query=ListQuery, answer=Page[Item])
async def list_items(call: Call[None, ListQuery]) -> Page[Item]:
    """List a conversation's items."""
    page = await call.services.conversations.list_items(call.owner, call.params["conversation_id"], call.query)
    page.data = _seen(call, page.data, call.query.include)
    return page


@route("GET", "/v1/conversations/{conversation_id}/items/{item_id}", query=IncludeQuery, answer=Item)
async def get_item(call: Call[None, IncludeQuery]) -> Item:
    """Retrieve one item of a conversation."""
    params = call.params
    item = await call.services.conversations.get_item(call.owner, params["conversation_id"], params["item_id"])
    return _seen(call, [item], call.query.include)[0]


@route("DELETE", "/v1/conversations/{conversation_id}/items/{item_id}", answer=Conversation)
async def delete_item(call: Call[None, None]) -> Conversation:
    """Delete one item of a conversation; answers with the conversation."""
    params = call.params
    return await call.services.conversations.delete_item(call.owner, params["conversation_id"], params["item_id"])


def _seen(call: Call[Any, Any], items: Iterable[Item], include: Sequence[Includable]) -> list[Item]:
    return all_visible(items, include, call.services.engine.sealer.seal)


async def _items(
    call: Call[CreateConversation, None] | Call[CreateItems, IncludeQuery],
    raw: Raw,
    items_min: int,
    *,
    base: str | None = None,
) -> Sequence[Item]:
    """A request's items, complete: references replaced by what they stand for, ids and statuses given.

    With a `base`, their ids follow from it.
    """
    try:
        items = decode_new_items(raw, items_min=items_min)
    except DECODE_ERRORS as error:
        raise misfit(error, "items") from error
    for index, item in enumerate(items):
        if isinstance(item, CompactionTrigger):
            message = "A compaction trigger asks for something and says nothing: a conversation cannot hold it."
            raise Unsupported(message, param=f"items[{index}].type", code="unsupported_item")
    services, seed = call.services, call.seed
    items = await accepted(services.engine, items, call.owner, at="items")
    if base is None:
        return complete_items(items, lambda prefix: services.new_id(prefix, seed))
    numbers = itertools.count()
    return complete_items(items, lambda prefix: child_id(base, prefix, next(numbers)))
