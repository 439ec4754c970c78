"""The response loop: asks the model, shows what it says, and ends the response exactly once.

It is an async generator of event batches. What is raised before the first batch is the client's HTTP error; from then
on whatever happens ends in one terminal event.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator

from antiphon.engine.compact import compacted, continued, spent_in, summary_in, summary_request
from antiphon.engine.emit import Emitter
from antiphon.engine.prepare import trimmed
from antiphon.engine.run import Engine, Run
from antiphon.engine.state import Outcome, decide
from antiphon.errors import ApiError, ContextTooLong, RateLimited
from antiphon.models.base import Finish, ModelEvent, ModelRequest, ModelStream
from antiphon.wire.events import Event
from antiphon.wire.responses import ErrorCode, ResponseError

log = logging.getLogger("antiphon.engine")


async def stream(
    engine: Engine, run: Run, emitter: Emitter, *, patience_s: float | None
) -> AsyncGenerator[list[Event], None]:
    """The run's events, in batches that are ready together. Closing the generator aborts the model call.

    Raises the host's rejection (`ApiError`) if it comes within `patience_s` (None: whenever), before anything was
    yielded: a client that waits for the whole answer, or whose stream has not begun, sees it as an HTTP error.
    """
    asking = await _summary_request(engine, run)
    opening = asyncio.ensure_future(_open(engine, run, asking or run.request))
    answer: ModelStream | None = None
    turns: AsyncGenerator[list[ModelEvent], None] | None = None
    try:
        await asyncio.wait({opening}, timeout=patience_s)
        if opening.done():
            answer = opening.result()
        yield emitter.open()
        try:
            answer = answer or await opening
            turns = _turns(engine, run, answer, first=asking is not None)
            async for batch in turns:
                events = emitter.feed(batch)
                if events:
                    yield events
            outcome = decide(emitter.turn, int(engine.clock()))
        except Exception as error:
            outcome = _failure(error, run, int(engine.clock()))
        yield emitter.close(outcome)
    finally:
        opening.cancel()
        if answer is None and opening.done() and not opening.cancelled() and opening.exception() is None:
            answer = opening.result()
        if turns is not None:
            await turns.aclose()
        if answer is not None:
            await answer.aclose()


async def _summary_request(engine: Engine, run: Run) -> ModelRequest | None:
    """What the model is asked first, if the context is to be compacted; long texts are counted on a thread."""
    if run.compact_threshold is None:
        return summary_request(run, engine.compaction_prompt)
    return await asyncio.to_thread(summary_request, run, engine.compaction_prompt)


async def _turns(
    engine: Engine, run: Run, answer: ModelStream, *, first: bool
) -> AsyncGenerator[list[ModelEvent], None]:
    """What the model says. If it was `first` asked for a summary, that is compacted, and then the request is made."""
    try:
        if first:
            said = [event async for batch in answer for event in batch]
            made = compacted(run, summary_in(said), engine.sealer)
            if run.compact_only:
                yield [spent_in(said), made, Finish("stop")]
                return
            yield [spent_in(said), made]
            await answer.aclose()
            answer = await _open(engine, run, continued(run.request, made.encrypted_content, engine.sealer))
        async for batch in answer:
            yield batch
    finally:
        await answer.aclose()


async def _open(engine: Engine, run: Run, request: ModelRequest) -> ModelStream:
    """The model's answer, begun; with `truncation: "auto"`, older turns are left out until the host takes it.

    A host that finds the context too long has not run the model, so asking again costs nothing.
    """
    provider = engine.catalog.provider(run.host)
    while True:
        try:
            return await provider.open(request, run.access)
        except ContextTooLong:
            shorter = trimmed(request) if run.response.truncation == "auto" else None
            if shorter is None:
                raise
            request = shorter


def _failure(error: Exception, run: Run, at: int) -> Outcome:
    """How a run ends that broke. What is not an `ApiError` is ours: logged in full, shown without detail."""
    if not isinstance(error, ApiError):
        log.error("run failed", exc_info=error, extra={"response_id": run.response.id})
        message = f"The server had an error while making the response {run.response.id}."
        return Outcome(cause="fail", at=at, error=ResponseError(code="server_error", message=message))
    if isinstance(error, RateLimited) or error.status == 429:
        return Outcome(cause="fail", at=at, error=ResponseError(code="rate_limit_exceeded", message=error.message))
    code: ErrorCode = "invalid_prompt" if error.status in (400, 413, 422) else "server_error"
    return Outcome(cause="fail", at=at, error=ResponseError(code=code, message=error.message))
