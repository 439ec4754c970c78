"""A run from where it stands to its end: the loop, with the recorder around it; the one way to execute runs."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack

from antiphon.engine.control import Control
from antiphon.engine.emit import Emitter
from antiphon.engine.loop import stream
from antiphon.engine.record import pass_on, record
from antiphon.engine.restore import restored
from antiphon.engine.run import Engine, Progress, Run, emitter_of
from antiphon.engine.state import Outcome
from antiphon.errors import RunLost
from antiphon.wire.events import Event


def perform(engine: Engine, run: Run, *, patience_s: float | None, shown: bool) -> AsyncGenerator[list[Event], None]:
    """The run's events, in batches that are ready together; each is handed on when what it announces is kept.

    `shown` says that somebody sees the events as they come; otherwise only the last batch matters. Raises the host's
    rejection if it comes within `patience_s` (None: whenever) and before anything was yielded; after that, whatever
    happens is an event. Closing the generator aborts the model call, and lets another worker go on if the response is
    stored. If that happens anyway, or the response is deleted, the events end without a terminal one.
    """
    return resume(engine, fresh(engine, run, shown=shown), patience_s=patience_s)


def fresh(engine: Engine, run: Run, *, shown: bool) -> Progress:
    """A run of which nothing has happened yet; `shown` as `perform` has it."""
    emitter = emitter_of(engine, run.response, run.offers, sealed=run.sealed, include=run.include)
    return Progress(run=run, emitter=emitter, control=Control(int(shown)))


def resume(engine: Engine, progress: Progress, *, patience_s: float | None = 0) -> AsyncGenerator[list[Event], None]:
    """The events of a run from where it stands; else as `perform`."""
    keep = record if progress.run.response.store else pass_on
    return keep(engine, progress, batches=stream(engine, progress, patience_s=patience_s))


async def go_on(engine: Engine, owner: str, id: str) -> None:
    """Performs a run that this worker has claimed, from where its journal ends to its end.

    Raises `NotFound` if the response was deleted before, `RunLost` if it was meanwhile, or another worker has the run.
    """
    with ExitStack() as undo:
        undo.callback(engine.runs.live.discard, id)  # else it would count as worked on here for ever
        progress = await _claimed(engine, owner, id)
        undo.pop_all()
    async for _ in resume(engine, progress):
        pass


async def _claimed(engine: Engine, owner: str, id: str) -> Progress:
    row = await engine.runs.find(owner, id)
    if row is None:
        raise RunLost(f"Response '{id}' has no run any more.")
    return await restored(engine, owner, id, row=row)


def warm_up(engine: Engine, progress: Progress) -> AsyncGenerator[list[Event], None]:
    """The events of a run that asks no model: it completes at once, without output, and can be continued."""
    keep = record if progress.run.response.store else pass_on
    return keep(engine, progress, batches=_nothing(progress.emitter, int(engine.clock())))


async def _nothing(emitter: Emitter, at: int) -> AsyncGenerator[list[Event], None]:
    yield [*emitter.open(), *emitter.close(Outcome(cause="complete", at=at))]
