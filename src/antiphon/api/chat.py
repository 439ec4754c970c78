"""Chat completions: passed through to the model's host as they came, and, with `store: true`, kept.

Of the request only `model` is rewritten, to the name the host knows, and files and images that the host cannot be
sent as they are; `store` and `metadata` are ours to obey. Of an
answer nothing is, unless it is to be kept: hosts use ids twice, so that what is kept gets an id of ours.
"""

from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import msgspec
from msgspec import Raw

from antiphon.api.call import Call
from antiphon.api.relay import kept, relayed, whole
from antiphon.api.route import route
from antiphon.api.sse import EventStream
from antiphon.engine.attachments import Asking
from antiphon.stores.completions import StoredCompletion
from antiphon.wire.base import Deleted, Page
from antiphon.wire.chat import (
    ChatListQuery,
    CreateChatCompletion,
    StoredChatCompletion,
    StoredChatMessage,
    UpdateChatCompletion,
    assemble,
    rewritten,
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
    asking = Asking(owner=call.owner, quirks=services.catalog.quirks(resolved.host), replay=call.access.replay)
    if filled := await services.engine.attachments.filled_chat(bytes(members["messages"]), asking):
        members["messages"] = Raw(filled)
    members.pop("store", None)
    members.pop("metadata", None)
    if body.metadata and not body.store:
        call.warn("metadata is kept only together with store")
    opening = resolved.provider.post(PATH, _encode(members), call.access)
    bytes_max = services.config.limits.answer_bytes_max
    if body.stream:
        batches = relayed(resolved.host, opening, bytes_max=bytes_max)
        return EventStream(_kept(call, batches), detach=True) if body.store else EventStream(batches)
    answer = whole(resolved.host, opening, bytes_max=bytes_max, member="choices")
    return (
        await call.until_gone(_kept_whole(call, answer), detach=True) if body.store else await call.until_gone(answer)
    )


# ---------------------------------------------------------------- keeping


def _kept(call: Call[CreateChatCompletion, None], batches: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    completion_id = _new_id(call)

    async def put(stream: bytes) -> None:
        await _put(call, assemble(stream, call.body.metadata))

    return kept(_renamed(batches, completion_id), put)


async def _kept_whole(call: Call[CreateChatCompletion, None], opening: Awaitable[bytes]) -> bytes:
    answer = rewritten(await opening, {"id": _new_id(call)})
    await _put(call, stored(answer, call.body.metadata))
    return answer


async def _renamed(batches: AsyncGenerator[bytes, None], completion_id: str) -> AsyncGenerator[bytes, None]:
    """The same stream under another id."""
    try:
        async for batch in batches:
            events = batch.replace(b"\r\n", b"\n").split(b"\n\n")
            yield b"\n\n".join(_renamed_event(event, completion_id) for event in events)
    finally:
        await batches.aclose()


def _renamed_event(event: bytes, completion_id: str) -> bytes:
    before, mark, data = event.rpartition(b"data:")
    if not mark or b'"choices"' not in data:
        return event
    try:
        return b"%bdata: %b" % (before, rewritten(data, {"id": completion_id}))
    except msgspec.DecodeError:
        return event  # whatever it is, it is the host's


def _new_id(call: Call[CreateChatCompletion, None]) -> str:
    return call.services.new_id("chatcmpl", call.seed).replace("_", "-", 1)


async def _put(call: Call[CreateChatCompletion, None], completion: StoredChatCompletion | None) -> None:
    """Stores a completion; None is one that ended too early to be one."""
    if completion is None:
        return
    await call.services.completions.put(
        call.owner,
        StoredCompletion(
            id=completion.id,
            created_at=completion.created,
            model=call.body.model,
            metadata=completion.metadata,
            body=_encode(completion),
            messages=_messages.decode(_members.decode(call.raw)["messages"]),
        ),
    )


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
