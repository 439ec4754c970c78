"""The response loop: asks the model, shows what it says, and ends the response exactly once.

It is an async generator of event batches. What is raised before the first batch is the client's HTTP error; from then
on whatever happens ends in one terminal event. The one exception is a run that is told to give itself back: another
worker will end it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from antiphon.engine.cite import Citer, citable
from antiphon.engine.compact import compacted, continued, spent_in, summary_in, summary_request, trimmed
from antiphon.engine.context import for_model
from antiphon.engine.control import Control, Stop, Stopped
from antiphon.engine.dispatch import release, run_calls
from antiphon.engine.emit import Emitter
from antiphon.engine.journal import Entry, NextCall, Started
from antiphon.engine.run import Engine, Progress, Run
from antiphon.engine.state import Outcome, decide
from antiphon.engine.written_files import WrittenFileCiter, written_files
from antiphon.errors import ApiError, ContextTooLong, RateLimited, Upstream
from antiphon.models.base import Finish, ModelEvent, ModelRequest, ModelStream
from antiphon.tools.offers import Loaded, choice_of, visible
from antiphon.wire.events import Event
from antiphon.wire.items import Compaction
from antiphon.wire.responses import ErrorCode, ResponseError

log = logging.getLogger("antiphon.engine")


async def stream(engine: Engine, progress: Progress, *, patience_s: float | None) -> AsyncGenerator[list[Event], None]:
    """The run's events from where it stands, in batches that are ready together. Closing it aborts the model call.

    A finished model call in the journal is not made again; one that broke off with its process is, after what it had
    shown is closed as incomplete. Of a fresh run, the host's rejection (`ApiError`) is raised if it comes within
    `patience_s` (None: whenever), before anything was yielded: a client that waits for the whole answer, or whose
    stream has not begun, sees it as an HTTP error.
    """
    run, emitter, fresh = progress.run, progress.emitter, progress.fresh
    calls = _Calls(engine, progress)
    last: list[Event] = []
    try:
        if fresh:
            await calls.accepted(patience_s)
            yield emitter.open()
        try:
            async with aclosing(_steps(engine, progress, calls, last=last, again=not fresh)) as steps:
                async for events in steps:
                    yield events
            outcome = _outcome(emitter, int(engine.clock()))
        except Stopped as stopped:
            if stopped.stop.why == "give back":
                return
            outcome = _ending(stopped.stop, int(engine.clock()))
        except Exception as error:
            outcome = _failure(error, run, int(engine.clock()))
        yield last + emitter.close(outcome)
    finally:
        await calls.aclose()
        await release(engine, run)


async def _steps(
    engine: Engine, progress: Progress, calls: "_Calls", *, last: list[Event], again: bool
) -> AsyncGenerator[list[Event], None]:
    """What is shown between the first events and the last: turns of the model, and what the server runs in between.

    What the model ends with is added to `last`: it is stored in one commit with the end, and leaves in one write.
    `again`: another process may have begun to run what the journal says is to be run.
    """
    emitter = progress.emitter
    again = again and bool(emitter.running)  # what begins only now, nobody else has begun
    if events := emitter.feed(_resuming(progress)):
        yield events
    while True:
        if emitter.running:
            async with aclosing(run_calls(engine, progress, again=again)) as ends:
                async for batch in ends:
                    yield emitter.feed(batch)
        if emitter.fatal:
            raise Upstream(emitter.fatal)
        again = False
        if emitter.turn.finish is None:
            async with aclosing(_turn(emitter, calls, last)) as turn:
                async for events in turn:
                    yield events
        step = decide(emitter.turn, 0)
        # The last call is made without tools; a model that calls some all the same is not asked once more.
        over = emitter.turns + 1 >= engine.limits.model_calls_max or _tokens_left(emitter) <= 0
        if isinstance(step, Outcome) or (step == "ask again" and over):
            return
        yield [*last]
        last.clear()
        if step == "ask again":
            yield emitter.feed([NextCall()])


async def _turn(emitter: Emitter, calls: "_Calls", last: list[Event]) -> AsyncGenerator[list[Event], None]:
    """One answer of the model's; the events of what it ends with are added to `last`."""
    citers = calls.citers()
    async with aclosing(calls.batches()) as batches:
        async for said in batches:
            batch: Sequence[Entry] = said
            for citer in citers:
                batch = citer.feed(batch)
            events = emitter.feed(batch)
            if batch and isinstance(batch[-1], Finish):
                last += events
            elif events:
                yield events


def _resuming(progress: Progress) -> list[Entry]:
    """What the journal has to say before the model is asked."""
    entries: list[Entry] = []
    emitter = progress.emitter
    if emitter.response.status == "queued":
        entries.append(Started())
    if progress.run.loaded != Loaded() and not emitter.loaded:
        entries.append(progress.run.loaded)
    if emitter.half_said:
        entries.append(NextCall(broken=True))
    elif not emitter.announced:
        entries += progress.run.preludes
    return entries


def _outcome(emitter: Emitter, at: int) -> Outcome:
    """How a run ends whose last turn is over: at a limit, if it may say nothing more."""
    decided = decide(emitter.turn, at)
    return decided if isinstance(decided, Outcome) else Outcome(cause="limit", at=at)


def _tokens_left(emitter: Emitter) -> int:
    """How many tokens the model may still say: the response's limit holds for all its model calls together."""
    most, spent = emitter.response.max_output_tokens, emitter.spent
    return 2**31 if most is None else most - (spent.output_tokens if spent else 0)


class _Calls:
    """A run's model calls, from the first one's opening to the last one's end, and the time that they may take.

    That is one for each turn, and before the first one for a summary, where the context is to be compacted and was not
    yet.
    """

    def __init__(self, engine: Engine, progress: Progress) -> None:
        self._engine = engine
        self._run = progress.run
        self._emitter = progress.emitter
        self._control = progress.control
        self._compacting = False
        self._opening: asyncio.Task[ModelStream] | None = None
        self._answer: ModelStream | None = None
        self._clock = _clock(engine.background.run_s_max, progress.control)

    async def accepted(self, patience_s: float | None) -> None:
        """Returns when the host has accepted the call, or when patience is over. Raises the host's rejection.

        Where tools do something before, the call is made only after that.
        """
        if self._run.preludes:
            return
        self._opening = asyncio.ensure_future(self._first())
        await asyncio.wait({self._opening}, timeout=patience_s)
        if self._opening.done():
            self._opening.result()

    async def batches(self) -> AsyncGenerator[list[ModelEvent], None]:
        """What the model says, and what becomes of a summary. Raises `Stopped` as soon as the run is told to stop."""
        self._control.check()
        if self._answer is not None:
            await self._hang_up()
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._next() if self._emitter.turns else self._first())
        self._answer = await self._control.wait(self._opening)
        if self._compacting:
            yield self._compaction([event async for batch in self._said(self._answer) for event in batch])
            self._compacting = False
            if self._run.compact_only:
                return
            await self._hang_up()
            self._opening = asyncio.ensure_future(self._next())
            self._answer = await self._control.wait(self._opening)
        async for batch in self._said(self._answer):
            yield batch

    def citers(self) -> list[Citer | WrittenFileCiter]:
        """What finds the citations in the next turn; none where there can be none."""
        known = {**self._run.citable, **citable(self._emitter.output)}
        searches = any(offer.kind in ("file_search", "web_search") for offer in self._run.offers.values())
        written = {**self._run.written, **written_files(self._emitter.output)}
        return [*([Citer(known)] if known or searches else []), *([WrittenFileCiter(written)] if written else [])]

    async def _first(self) -> ModelStream:
        """The first answer, begun. Long contexts are counted on a thread."""
        asking = None
        if self._emitter.compacted is None:
            counting = self._run.compact_threshold is not None
            arguments = (self._run, self._engine.compaction_prompt)
            asking = await asyncio.to_thread(summary_request, *arguments) if counting else summary_request(*arguments)
        self._compacting = asking is not None
        return await _open(self._engine, self._run, asking) if asking is not None else await self._next()

    async def _next(self) -> ModelStream:
        """The next answer, begun: on the compacted context, if the journal has one, and on all turns so far."""
        request, content = self._run.request, self._emitter.compacted
        if content is not None:
            request = continued(request, content, self._engine.sealer)
        if self._emitter.turns or self._emitter.announced:
            request = self._with_turns(request)
        return await _open(self._engine, self._run, request)

    def _with_turns(self, request: ModelRequest) -> ModelRequest:
        """The request after what the model said and the server ran; what had to be called was called."""
        engine, run, emitter = self._engine, self._run, self._emitter
        said = [item for item in emitter.output if getattr(item, "status", None) != "incomplete"]
        own = for_model(engine, [item for item in said if not isinstance(item, Compaction)])
        seen = visible(emitter.offers, emitter.found)
        choice = request.choice and choice_of(run.response.tool_choice, seen)
        if emitter.turns and choice is not None and choice.mode == "required":
            choice = None
        most = run.response.max_tool_calls
        over = emitter.turns + 1 >= engine.limits.model_calls_max or (most is not None and emitter.ran >= most)
        functions = tuple(
            offer.function
            for offer in seen.values()
            if not (over and offer.tool is not None and offer.kind in engine.tools)
        )
        limit = request.max_output_tokens
        return replace(
            request,
            items=[*request.items, *own],
            functions=functions,
            choice=choice if functions else None,
            max_output_tokens=limit if limit is None else _tokens_left(emitter),
        )

    async def _said(self, answer: ModelStream) -> AsyncGenerator[list[ModelEvent], None]:
        said = aiter(answer)
        while (batch := await self._control.wait(anext(said, None))) is not None:
            yield batch

    def _compaction(self, said: list[ModelEvent]) -> list[ModelEvent]:
        """What the journal says of it, in one batch: a run that is taken over has all of it, or nothing."""
        made: list[ModelEvent] = [spent_in(said), compacted(self._run, summary_in(said), self._engine.sealer)]
        return [*made, Finish("stop")] if self._run.compact_only else made

    async def aclose(self) -> None:
        """Ends the call at the host, however far it has come."""
        if self._clock is not None:
            self._clock.cancel()
        await self._hang_up()

    async def _hang_up(self) -> None:
        opening = self._opening
        if opening is None:
            return
        opening.cancel()
        if self._answer is None and opening.done() and not opening.cancelled() and opening.exception() is None:
            self._answer = opening.result()
        if self._answer is not None:
            await self._answer.aclose()
        self._answer = self._opening = None


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


def _clock(limit_s: float, control: Control) -> asyncio.TimerHandle | None:
    """Stops the run when it has taken so long; 0: never."""
    if not limit_s:
        return None
    message = f"The response took longer than the {limit_s:g} seconds that are allowed here."
    return asyncio.get_running_loop().call_later(limit_s, control.stop, Stop(why="fail", message=message))


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
