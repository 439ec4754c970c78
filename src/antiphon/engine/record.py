"""Keeps what a run brings: the only writer of responses.

It wraps the loop's generator. The response is there to be retrieved before its first event is handed on, and its end,
its output, its journal and its conversation's new items are committed together before the terminal event is.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator

import msgspec
from msgspec.structs import replace

from antiphon.engine.emit import Emitter, Journal
from antiphon.engine.run import Engine, Run
from antiphon.errors import ApiError
from antiphon.stores.responses import Turn
from antiphon.wire.events import TERMINAL, Event, ResponseFailed
from antiphon.wire.responses import ResponseError

log = logging.getLogger("antiphon.engine")


async def record(
    engine: Engine, run: Run, emitter: Emitter, *, batches: AsyncGenerator[list[Event], None]
) -> AsyncGenerator[list[Event], None]:
    """The same batches, each handed on only when what it announces is kept.

    A response with `store: false` leaves no row and adds nothing to its conversation. A completed or incomplete run
    appends its input and its output to the conversation; a failed or cancelled one appends nothing, so that the same
    request can be sent again.
    """
    begun = kept = False
    try:
        async for batch in batches:
            if not begun:
                begun = True
                if run.response.store:
                    await engine.responses.begin(run.owner, run.response, run.input)
            if isinstance(batch[-1], TERMINAL) and run.response.store:
                kept = await _finish(engine, run, emitter)
                if not kept:
                    batch[-1] = await _give_up(engine, run, emitter, number=batch[-1].sequence_number)
            yield batch
    finally:
        await batches.aclose()
        if run.conversation is not None and not kept:
            await engine.conversations.release(run.owner, run.conversation, run.response.id)


async def _finish(engine: Engine, run: Run, emitter: Emitter) -> bool:
    """Commits the end of the run, its output, its journal and its conversation's turn; says whether that succeeded."""
    response = emitter.response
    turn = None
    if run.conversation is not None:
        appended = [*run.input, *response.output] if response.status in ("completed", "incomplete") else []
        turn = Turn(conversation=run.conversation, items=appended)
    try:
        await engine.responses.finish(run.owner, response, _journal(run, emitter), turn=turn)
    except ApiError:
        log.exception("response not stored", extra={"response_id": response.id})
        return False
    return True


async def _give_up(engine: Engine, run: Run, emitter: Emitter, *, number: int) -> Event:
    """A store that fails makes the run fail: what is not kept was not done. The failure is kept if that can be."""
    reason = ResponseError(code="server_error", message="The response could not be stored; the log says why.")
    failed = replace(emitter.response, status="failed", completed_at=None, incomplete_details=None, error=reason)
    with contextlib.suppress(ApiError):
        await engine.responses.finish(run.owner, failed, _journal(run, emitter))
    return ResponseFailed(sequence_number=number, response=failed)


def _journal(run: Run, emitter: Emitter) -> bytes:
    journal = Journal(service_tier=run.response.service_tier, sealed=run.sealed, events=emitter.journal)
    return msgspec.msgpack.encode(journal)
