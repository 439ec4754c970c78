"""Cancelling a response: whoever works on its run ends it, or, where nobody does, the process that was asked to.

The run's row decides: it can be ended once, by the worker that it names. So of a cancellation and a completion one
comes first, and the other finds a response that has ended.
"""

import asyncio
import contextlib

from antiphon.engine.journal import outcome_of
from antiphon.engine.perform import go_on
from antiphon.engine.run import Engine, commands
from antiphon.errors import Conflict, RunLost
from antiphon.stores.signals import Waiting
from antiphon.wire.responses import Response

LOOK_S = 0.25
PATIENCE_S = 5.0
"""How long a worker has to obey, before the run is taken from it."""


async def cancel(engine: Engine, owner: str, id: str) -> Response:
    """The response, ended: cancelled, with what it had said, unless it ended before. Raises `NotFound`.

    Raises `Conflict` for one that a release before 0.2 left unfinished.
    """
    loop = asyncio.get_running_loop()
    seized_s = loop.time() + PATIENCE_S
    with Waiting(engine.signals, id) as changed:
        while outcome_of(response := await engine.responses.get(owner, id)) is None:
            row = await engine.runs.find(owner, id)
            if row is None:  # it ended a moment ago, or will never end
                if loop.time() > seized_s:
                    raise Conflict(f"Response '{id}' has no run that could be cancelled.", code="response_without_run")
                await changed.wait(LOOK_S)
                continue
            if not row.cancelled:
                await engine.runs.cancel(owner, id)
            late = loop.time() > seized_s and row.worker != engine.runs.worker
            if (row.worker is None or late) and await engine.runs.claim(owner, id, of=row.worker):
                with contextlib.suppress(RunLost):  # deleted meanwhile, or ended by another: that is seen next
                    await go_on(engine, owner, id)
                continue
            engine.signals.send(commands(id))
            await changed.wait(LOOK_S)
    return response
