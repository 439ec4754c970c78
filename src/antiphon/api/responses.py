"""The Responses resource: create, retrieve, list, delete, input items, token count."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from antiphon.api.call import Call
from antiphon.api.errors import moved
from antiphon.api.route import route
from antiphon.api.sse import DONE, EventStream
from antiphon.api.visible import visible
from antiphon.engine.cancel import cancel
from antiphon.engine.follow import follow
from antiphon.engine.perform import perform
from antiphon.engine.prepare import prepare, prepare_count
from antiphon.engine.record import enqueue
from antiphon.engine.run import Caller, Engine, Run, commands
from antiphon.errors import InvalidRequest, NotFound, RunLost
from antiphon.models.tokens import count_tokens
from antiphon.wire.base import Deleted, Page
from antiphon.wire.events import TERMINAL, Event, ResponseCancelled, ResponseFailed, frame
from antiphon.wire.items import Item
from antiphon.wire.responses import CountInputTokens, CreateResponse, Includable, InputTokens, ListQuery, Response

log = logging.getLogger("antiphon.api")
UNSUCCESSFUL: Final = ("failed", "cancelled")
TOGETHER_BYTES_MAX: Final = 64 * 1024


class RetrieveQuery(Struct, kw_only=True):
    """How to retrieve a response: whole, or as the stream that it was, after the event with number `starting_after`."""

    include: list[Includable] = []
    stream: bool = False
    starting_after: Annotated[int, Meta(ge=0)] | None = None
    include_obfuscation: bool = False


@route("POST", "/v1/responses", body=CreateResponse, answer=Response, events=Event)
async def create_response(call: Call[CreateResponse, None]) -> Response | EventStream:
    """Create a model response, streamed or whole."""
    engine = call.services.engine
    if call.begun is not None:
        with contextlib.suppress(NotFound):  # it had not come as far as being stored
            return await _gone_on_with(call, call.begun)
    caller = Caller(owner=call.owner, access=call.access, seed=call.seed)
    run = await prepare(engine, call.body, caller)
    for name in run.warnings:
        call.warn(f"not obeyed: {name}")
    if run.warnings:
        log.info("parameters not obeyed", extra={"names": run.warnings, "request_id": call.request_id})
    stored = run.response.store
    if stored and call.execution is not None:
        await call.execution.names(run.response.id)
    if run.response.background:
        response = await enqueue(engine, run)
        return EventStream(_frames(call, follow(engine, call.owner, response.id))) if call.body.stream else response
    patience_s = call.services.config.response_patience_s if call.body.stream else None
    events = _unbroken(engine, run, perform(engine, run, patience_s=patience_s, shown=bool(call.body.stream)))
    if call.body.stream:
        return EventStream(_frames(call, events), detach=stored)
    return await _whole(call, events, detach=stored)


@route("GET", "/v1/responses/{response_id}", query=RetrieveQuery, answer=Response, events=Event)
async def get_response(call: Call[None, RetrieveQuery]) -> Response | EventStream:
    """Retrieve a stored response, or its stream once more."""
    response_id, query = call.params["response_id"], call.query
    if query.starting_after is not None and not query.stream:
        raise InvalidRequest("'starting_after' is only allowed when 'stream' is true.", param="starting_after")
    if not query.stream:
        response = await call.services.responses.get(call.owner, response_id)
        return replace(response, output=[_seen(call, item, query.include) for item in response.output])
    after = -1 if query.starting_after is None else query.starting_after
    return EventStream(_frames(call, follow(call.services.engine, call.owner, response_id, after=after)))


@route("POST", "/v1/responses/{response_id}/cancel", answer=Response)
async def cancel_response(call: Call[None, None]) -> Response:
    """Cancel a response that has not ended; one that has is returned as it is."""
    response = await cancel(call.services.engine, call.owner, call.params["response_id"])
    return replace(response, output=[_seen(call, item, []) for item in response.output])


@route("GET", "/v1/responses", query=ListQuery, answer=Page[Response])
async def list_responses(call: Call[None, ListQuery]) -> Page[Response]:
    """List stored responses, newest first; not in OpenAI's API."""
    page = await call.services.responses.list(call.owner, call.query)
    include = call.query.include
    shown = [replace(each, output=[_seen(call, item, include) for item in each.output]) for each in page.data]
    return replace(page, data=shown)


@route("DELETE", "/v1/responses/{response_id}", answer=Deleted)
async def delete_response(call: Call[None, None]) -> Deleted:
    """Delete a stored response: it never reaches a model again."""
    response_id = call.params["response_id"]
    await call.services.responses.delete(call.owner, response_id)
    for topic in (commands(response_id), response_id):  # who works on it, and who follows it
        call.services.engine.signals.send(topic)
    return Deleted(id=response_id, object="response.deleted")


@route("GET", "/v1/responses/{response_id}/input_items", query=ListQuery, answer=Page[Item])
async def list_input_items(call: Call[None, ListQuery]) -> Page[Item]:
    """List the items that a stored response was given."""
    page = await call.services.responses.input_items(call.owner, call.params["response_id"], call.query)
    return replace(page, data=[_seen(call, item, call.query.include) for item in page.data])


@route("POST", "/v1/responses/input_tokens", body=CountInputTokens, answer=InputTokens)
async def count_input_tokens(call: Call[CountInputTokens, None]) -> InputTokens:
    """Count the tokens of an input: an estimate, by a tokenizer that ships with the server."""
    caller = Caller(owner=call.owner, access=call.access, seed=call.seed)
    request = await prepare_count(call.services.engine, call.body, caller)
    # The tokenizer takes its time with long texts; others are served meanwhile.
    return InputTokens(input_tokens=await asyncio.to_thread(count_tokens, request))


async def _gone_on_with(call: Call[CreateResponse, None], response_id: str) -> Response | EventStream:
    """What a process that died had begun for the same request: another goes on with it, so nothing is paid for twice.

    Raises `NotFound` if there is no such response.
    """
    response = await call.services.responses.get(call.owner, response_id)
    batches = follow(call.services.engine, call.owner, response_id)
    if call.body.stream:
        return EventStream(_frames(call, batches), detach=True)
    return response if response.background else await _whole(call, batches, detach=True)


async def _unbroken(
    engine: Engine, run: Run, batches: AsyncGenerator[list[Event], None]
) -> AsyncGenerator[list[Event], None]:
    """The run's events; those that another worker makes as well, should this one have been given up for dead meanwhile.

    Of a response that was deleted they end without an end.
    """
    number, ended = -1, False
    try:
        with contextlib.suppress(RunLost):
            async for batch in batches:
                yield batch
                number, ended = batch[-1].sequence_number, isinstance(batch[-1], TERMINAL)
        if run.response.store and not ended:
            async with contextlib.aclosing(_elsewhere(engine, run, number)) as rest:
                async for batch in rest:
                    yield batch
    finally:
        await batches.aclose()


async def _elsewhere(engine: Engine, run: Run, after: int) -> AsyncGenerator[list[Event], None]:
    with contextlib.suppress(NotFound):
        async with contextlib.aclosing(follow(engine, run.owner, run.response.id, after=after)) as rest:
            async for batch in rest:
                if batch:
                    yield batch


async def _whole(
    call: Call[CreateResponse, None], batches: AsyncGenerator[list[Event], None], *, detach: bool
) -> Response:
    response = await call.until_gone(_last(batches), detach=detach)
    if response.status in UNSUCCESSFUL:
        call.fails()
    return response


def _seen(call: Call[Any, Any], item: Item, include: list[Includable]) -> Item:
    return visible(item, include, call.services.engine.sealer.seal)


async def _frames(call: Call[Any, Any], batches: AsyncGenerator[list[Event], None]) -> AsyncGenerator[bytes, None]:
    """What is ready together is written together, as far as it is small; `[DONE]` goes with the terminal event."""
    done = False
    try:
        async for batch in batches:
            if batch and isinstance(batch[-1], TERMINAL):
                done = True
                if isinstance(batch[-1], ResponseFailed | ResponseCancelled):
                    call.fails()
            for frames in _framed(batch):
                yield frames
        if not done:
            yield DONE
    finally:
        await batches.aclose()


def _framed(batch: list[Event]) -> Iterator[bytes]:
    """A batch's frames. Large ones one by one: a reader who takes none of them has the next not yet encoded."""
    frames: list[bytes] = []
    size = 0
    for event in batch:
        one = frame(event)
        frames.append(one)
        size += len(one)
        if size > TOGETHER_BYTES_MAX and event is not batch[-1]:
            yield b"".join(frames)
            frames, size = [], 0
    if batch and isinstance(batch[-1], TERMINAL):
        frames.append(DONE)
    yield b"".join(frames)


async def _last(batches: AsyncGenerator[list[Event], None]) -> Response:
    """The whole answer: the same stream, read to its end."""
    events: list[Event] = []
    try:
        async for batch in batches:
            events = batch
    finally:
        await batches.aclose()
    if not events or not isinstance(events[-1], TERMINAL):
        raise moved()
    return events[-1].response
