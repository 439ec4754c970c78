"""Text completions, passed through to the model's host as they came."""

from typing import Any

import msgspec
from msgspec import Raw

from antiphon.api.call import Call
from antiphon.api.relay import relayed, whole
from antiphon.api.route import route
from antiphon.api.sse import EventStream
from antiphon.wire.chat import CreateCompletion, rewritten

PATH = "/completions"


@route("POST", "/v1/completions", body=CreateCompletion, answer=dict[str, Any], events=dict[str, Any], forwards=True)
async def create_completion(call: Call[CreateCompletion, None]) -> object:
    """Create a text completion, streamed or not."""
    resolved = await call.services.catalog.resolve(call.body.model, call.access)
    outgoing = rewritten(call.raw, {"model": Raw(msgspec.json.encode(resolved.model))})
    opening = resolved.provider.post(PATH, outgoing, call.access)
    bytes_max = call.services.config.limits.answer_bytes_max
    if call.body.stream:
        return EventStream(relayed(resolved.host, opening, bytes_max=bytes_max))
    return await call.until_gone(whole(resolved.host, opening, bytes_max=bytes_max, member="choices"))
