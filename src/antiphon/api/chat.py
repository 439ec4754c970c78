"""Chat completions: passed through to the model's host as they came, and, with `store: true`, kept.

Only `model` is rewritten, to the host's own name; `store` and `metadata` are this server's to obey.
"""

import functools
from typing import Any

import msgspec
from msgspec import Raw

from antiphon.api.call import Call
from antiphon.api.relay import kept, relayed, whole
from antiphon.api.route import route
from antiphon.api.sse import EventStream
from antiphon.errors import Conflict
from antiphon.stores.completions import StoredCompletion
from antiphon.wire.base import Deleted, Page
from antiphon.wire.chat import (
    ChatListQuery,
    CreateChatCompletion,
    StoredChatCompletion,
    StoredChatMessage,
    UpdateChatCompletion,
    assemble,
    stored,
)
from antiphon.wire.responses import ListQuery

PATH = "/chat/completions"
_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])
_messages = msgspec.json.Decoder(list[Raw])


@route(
    "POST",
    "/v1/chat/completions",
    body=CreateChatCompletion,
    answer=StoredChatCompletion,
    events=dict[str, Any],
    forwards=True,
)
async def create_chat_completion(call: Call[CreateChatCompletion, None]) -> object:
    """Create a chat completion, streamed or not."""
    body, services = call.body, call.services
    resolved = await services.catalog.resolve(body.model, call.access)
    members = _members.decode(call.raw)
    members["model"] = Raw(_encode(resolved.model))
    members.pop("store", None)
    members.pop("metadata", None)
    if body.metadata and not body.store:
        call.warn("metadata is kept only together with store")
    opening = resolved.provider.post(PATH, _encode(members), call.access)
    bytes_max = services.config.limits.answer_bytes_max
    if body.stream:
        batches = relayed(resolved.host, opening, bytes_max=bytes_max)
        if body.store:
            batches = kept(batches, functools.partial(_keep, call, assemble))
        return EventStream(batches, detach=bool(body.store))
    answer = whole(resolved.host, opening, bytes_max=bytes_max, member="choices")
    if not body.store:
        return await call.until_gone(answer)

    async def kept_whole() -> bytes:
        given = await answer
        await _keep(call, stored, given)
        return given

    return await call.until_gone(kept_whole(), detach=True)


async def _keep(call: Call[CreateChatCompletion, None], form: Any, answer: bytes) -> None:
    """Stores a completion under its host's id; what was kept under the same id before gives way."""
    body, services = call.body, call.services
    completion: StoredChatCompletion | None = form(answer, body.metadata)
    if completion is None:
        return
    completion.id = completion.id or services.new_id("chatcmpl", call.seed)
    completion.created = completion.created or int(services.clock())
    row = StoredCompletion(
        id=completion.id,
        created_at=completion.created,
        model=body.model,
        metadata=completion.metadata,
        body=_encode(completion),
        messages=_messages.decode(_members.decode(call.raw)["messages"]),
    )
    try:
        await services.completions.put(call.owner, row)
    except Conflict:
        await services.completions.delete(call.owner, completion.id)
        await services.completions.put(call.owner, row)


# ---------------------------------------------------------------- stored ones


@route("GET", "/v1/chat/completions", query=ChatListQuery, answer=Page[StoredChatCompletion])
async def list_chat_completions(call: Call[None, ChatListQuery]) -> Page[Raw]:
    """List the stored chat completions."""
    return await call.services.completions.list(call.owner, _listing(call.query), call.query.metadata)


@route("GET", "/v1/chat/completions/{completion_id}", answer=StoredChatCompletion)
async def get_chat_completion(call: Call[None, None]) -> Raw:
    """Retrieve a stored chat completion."""
    return await call.services.completions.get(call.owner, call.params["completion_id"])


@route("POST", "/v1/chat/completions/{completion_id}", body=UpdateChatCompletion, answer=StoredChatCompletion)
async def update_chat_completion(call: Call[UpdateChatCompletion, None]) -> Raw:
    """Replace a stored chat completion's metadata."""
    metadata = call.body.metadata or {}
    return await call.services.completions.update(call.owner, call.params["completion_id"], metadata)


@route("DELETE", "/v1/chat/completions/{completion_id}", answer=Deleted)
async def delete_chat_completion(call: Call[None, None]) -> Deleted:
    """Delete a stored chat completion."""
    completion_id = call.params["completion_id"]
    await call.services.completions.delete(call.owner, completion_id)
    return Deleted(id=completion_id, object="chat.completion.deleted")


@route("GET", "/v1/chat/completions/{completion_id}/messages", query=ChatListQuery, answer=Page[StoredChatMessage])
async def list_chat_messages(call: Call[None, ChatListQuery]) -> Page[Raw]:
    """List the messages that a stored chat completion answered."""
    return await call.services.completions.messages(call.owner, call.params["completion_id"], _listing(call.query))


def _listing(query: ChatListQuery) -> ListQuery:
    return ListQuery(limit=query.limit, order=query.order, after=query.after, model=query.model)
