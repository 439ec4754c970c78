"""The Conversations API.

Source: OpenAI's OpenAPI document, `ConversationResource` and its neighbours; names judged by the `openai` package.
"""

from typing import Literal

import msgspec
from msgspec import Raw, Struct

from antiphon.wire.base import Full, Metadata, Page
from antiphon.wire.items import Item, decode_items

ITEMS_MAX = 20
"""Items that one call may add."""


class Conversation(Full, kw_only=True):
    """A conversation: its items are listed apart from it."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: Metadata = {}


class CreateConversation(Struct, kw_only=True):
    """The body of `POST /v1/conversations`. `items` is decoded in a second step, since items may lack their type."""

    items: Raw = Raw(b"[]")
    metadata: Metadata | None = None


class UpdateConversation(Struct, kw_only=True):
    """The body of `POST /v1/conversations/{id}`: the new metadata, instead of the old."""

    metadata: Metadata


class CreateItems(Struct, kw_only=True):
    """The body of `POST /v1/conversations/{id}/items`."""

    items: Raw


class ConversationDeleted(Full, kw_only=True):
    """The answer to a conversation's deletion."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True


ItemPage = Page[Item]
"""A page of a conversation's or a response's items."""


def decode_new_items(items: bytes | Raw, *, items_min: int = 0) -> list[Item]:
    """The `items` of a request, null meaning none. Raises `msgspec.ValidationError`, also for too many or too few."""
    found = [] if bytes(items) == b"null" and not items_min else decode_items(items)
    if len(found) > ITEMS_MAX:
        raise msgspec.ValidationError(f"Expected `array` of length <= {ITEMS_MAX}, got {len(found)}")
    if len(found) < items_min:
        raise msgspec.ValidationError(f"Expected `array` of length >= {items_min}, got {len(found)}")
    return found
