"""A run from its beginning to its end: the loop, with the recorder around it; the one way to execute runs."""

from collections.abc import AsyncGenerator

from antiphon.engine.emit import Emitter
from antiphon.engine.loop import stream
from antiphon.engine.record import record
from antiphon.engine.run import Engine, Run
from antiphon.engine.state import Outcome
from antiphon.wire.events import Event


def perform(engine: Engine, run: Run, *, patience_s: float | None, shown: bool) -> AsyncGenerator[list[Event], None]:
    """The run's events, in batches that are ready together; each is handed on when what it announces is kept.

    `shown` says that somebody sees the events as they come; otherwise only the last batch matters. Raises the host's
    rejection if it comes within `patience_s` (None: whenever) and before anything was yielded; after that, whatever
    happens is an event. Closing the generator aborts the model call.
    """
    del shown  # the event log's, which comes next
    emitter = Emitter(run.response, run.offers, engine.sealer.seal if run.sealed else None)
    return record(engine, run, emitter, batches=stream(engine, run, emitter, patience_s=patience_s))


def warm_up(engine: Engine, run: Run) -> AsyncGenerator[list[Event], None]:
    """The events of a run that asks no model: it completes at once, without output, and can be continued."""
    emitter = Emitter(run.response, run.offers)
    return record(engine, run, emitter, batches=_nothing(emitter, int(engine.clock())))


async def _nothing(emitter: Emitter, at: int) -> AsyncGenerator[list[Event], None]:
    yield [*emitter.open(), *emitter.close(Outcome(cause="complete", at=at))]
