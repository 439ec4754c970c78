"""The response loop: asks the model, shows what it says, and ends the response exactly once.

It is an async generator of event batches. What is raised before the first batch is the client's HTTP error; from then
on whatever happens ends in one terminal event. The one exception is a run that is told to give itself back: another
worker will end it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator

from antiphon.engine.control import Stop, Stopped
from antiphon.engine.emit import Emitter
from antiphon.engine.journal import NextCall, Started
from antiphon.engine.prepare import trimmed
from antiphon.engine.run import Engine, Progress, Run
from antiphon.engine.state import Outcome, decide
from antiphon.errors import ApiError, ContextTooLong, RateLimited
from antiphon.models.base import ModelEvent, ModelStream
from antiphon.wire.events import Event
from antiphon.wire.responses import ErrorCode, ResponseError

log = logging.getLogger("antiphon.engine")


async def stream(engine: Engine, progress: Progress, *, patience_s: float | None) -> AsyncGenerator[list[Event], None]:
    """The run's events from where it stands, in batches that are ready together. Closing it aborts the model call.

    A finished model call in the journal is not made again; one that broke off with its process is, after what it had
    shown is closed as incomplete. Of a fresh run, the host's rejection (`ApiError`) is raised if it comes within
    `patience_s` (None: whenever), before anything was yielded: a client that waits for the whole answer, or whose
    stream has not begun, sees it as an HTTP error.
    """
    run, emitter = progress.run, progress.emitter
    call = _Call(engine, progress)
    try:
        if progress.fresh:
            await call.accepted(patience_s)
            yield emitter.open()
        try:
            if events := emitter.feed(_resuming(emitter)):
                yield events
            if emitter.turn.finish is None:
                async for batch in call.batches():
                    if events := emitter.feed(batch):
                        yield events
            outcome = decide(emitter.turn, int(engine.clock()))
        except Stopped as stopped:
            if stopped.stop.why == "give back":
                return
            outcome = _ending(stopped.stop, int(engine.clock()))
        except Exception as error:
            outcome = _failure(error, run, int(engine.clock()))
        yield emitter.close(outcome)
    finally:
        await call.aclose()


def _resuming(emitter: Emitter) -> list[Started | NextCall]:
    """What the journal has to say before the model is asked."""
    entries: list[Started | NextCall] = []
    if emitter.response.status == "queued":
        entries.append(Started())
    if emitter.half_said:
        entries.append(NextCall(broken=True))
    return entries


class _Call:
    """A model call, from its opening to its end."""

    def __init__(self, engine: Engine, progress: Progress) -> None:
        self._engine = engine
        self._run = progress.run
        self._control = progress.control
        self._opening: asyncio.Task[ModelStream] | None = None
        self._answer: ModelStream | None = None

    async def accepted(self, patience_s: float | None) -> None:
        """Returns when the host has accepted the call, or when patience is over. Raises the host's rejection."""
        self._opening = asyncio.ensure_future(_open(self._engine, self._run))
        await asyncio.wait({self._opening}, timeout=patience_s)
        if self._opening.done():
            self._opening.result()

    async def batches(self) -> AsyncGenerator[list[ModelEvent], None]:
        """What the model says. Raises `Stopped` as soon as the run is told to stop."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(_open(self._engine, self._run))
        self._answer = await self._control.wait(self._opening)
        said = aiter(self._answer)
        while (batch := await self._control.wait(anext(said, None))) is not None:
            yield batch

    async def aclose(self) -> None:
        """Ends the call at the host, however far it has come."""
        opening = self._opening
        if opening is None:
            return
        opening.cancel()
        if self._answer is None and opening.done() and not opening.cancelled() and opening.exception() is None:
            self._answer = opening.result()
        if self._answer is not None:
            await self._answer.aclose()


async def _open(engine: Engine, run: Run) -> ModelStream:
    """The model's answer, begun; with `truncation: "auto"`, older turns are left out until the host takes it.

    A host that finds the context too long has not run the model, so asking again costs nothing.
    """
    provider, request = engine.catalog.provider(run.host), run.request
    while True:
        try:
            return await provider.open(request, run.access)
        except ContextTooLong:
            shorter = trimmed(request) if run.response.truncation == "auto" else None
            if shorter is None:
                raise
            request = shorter


def _ending(stop: Stop, at: int) -> Outcome:
    if stop.why == "cancel":
        return Outcome(cause="cancel", at=at)
    return Outcome(cause="fail", at=at, error=ResponseError(code="server_error", message=stop.message))


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
