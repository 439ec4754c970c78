"""`POST /v1/responses/compact`: a context in, what the next request is given instead of it out. Nothing is stored."""

from msgspec.structs import replace

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.engine.compact import as_sent, is_user, spent_in, summary_in, whole_sealed, whole_summary_request
from antiphon.engine.prepare import prepare_compaction
from antiphon.engine.run import Caller, Engine
from antiphon.ids import child_id
from antiphon.models.base import Access, ModelEvent, ModelRequest
from antiphon.wire.items import Compaction
from antiphon.wire.responses import CompactedResponse, CompactResponse, CreateResponse


@route("POST", "/v1/responses/compact", body=CompactResponse, answer=CompactedResponse)
async def compact_response(call: Call[CompactResponse, None]) -> CompactedResponse:
    """Compact a context: the user's messages stay, all the rest becomes one encrypted item."""
    engine, body = call.services.engine, call.body
    response_id = engine.new_id("resp", call.seed)
    create = CreateResponse(**{name: getattr(body, name) for name in body.__struct_fields__})
    caller = Caller(owner=call.owner, access=call.access, seed=call.seed)
    host, request = await prepare_compaction(engine, create, caller, response_id=response_id)
    asking = whole_summary_request(request, engine.compaction_prompt)
    access = replace(call.access, replay=replace(call.access.replay, origin=response_id))
    said = await call.until_gone(_answer(engine, host, asking, access=access))
    content = whole_sealed(request, summary_in(said), engine.sealer)
    users = as_sent(request, filter(is_user, request.items))
    item = Compaction(id=child_id(response_id, "cmp", len(users)), encrypted_content=content)
    return CompactedResponse(
        id=response_id, created_at=int(engine.clock()), output=[*users, item], usage=spent_in(said).usage()
    )


async def _answer(engine: Engine, host: str, request: ModelRequest, *, access: Access) -> list[ModelEvent]:
    """All that the model says."""
    answer = await engine.catalog.provider(host).open(request, access)
    try:
        return [event async for batch in answer for event in batch]
    finally:
        await answer.aclose()
