"""Keeps what a run brings: the only writer of responses.

It wraps the loop's generator. The response is there to be retrieved before its first event is handed on, and its end,
its output, its journal and its conversation's new items are committed together before the terminal event is.
"""

import logging
from collections.abc import AsyncGenerator

import msgspec
from msgspec.structs import replace

from antiphon.engine.emit import Emitter, Journal
from antiphon.engine.run import Engine, Run
from antiphon.errors import ApiError
from antiphon.stores.responses import Turn
from antiphon.wire.events import TERMINAL, Event, ResponseFailed
from antiphon.wire.responses import Response, ResponseError

log = logging.getLogger("antiphon.engine")


async def record(
    engine: Engine, run: Run, emitter: Emitter, batches: AsyncGenerator[list[Event], None]
) -> AsyncGenerator[list[Event], None]:
    """The same batches, each handed on only when what it announces is kept.

    A response with `store: false` leaves no row and adds nothing to its conversation. A completed or incomplete run
    appends its input and its output to the conversation; a failed or cancelled one appends nothing, so that the same
    request can be sent again.
    """
    begun = ended = False
    try:
        async for batch in batches:
            if not begun:
                begun = True
                if run.response.store:
                    await engine.responses.begin(run.owner, run.response, run.input)
            last = batch[-1]
            if isinstance(last, TERMINAL):
                if run.response.store:
                    batch[-1] = await _finish(engine, run, emitter, last)
                ended = True
            yield batch
    finally:
        await batches.aclose()
        if run.conversation is not None and not (ended and run.response.store):
            await engine.conversations.release(run.owner, run.conversation, run.response.id)


async def _finish(engine: Engine, run: Run, emitter: Emitter, last: Event) -> Event:
    """Commits the end of the run. A store that fails makes the run fail: what is not kept was not done."""
    response: Response = emitter.response
    header = Journal(service_tier=run.response.service_tier, sealed=run.sealed, events=emitter.journal)
    turn = None
    if run.conversation is not None:
        appended = [*run.appended, *response.output] if response.status in ("completed", "incomplete") else []
        turn = Turn(conversation=run.conversation, items=appended)
    try:
        await engine.responses.finish(run.owner, response, msgspec.msgpack.encode(header), turn=turn)
    except ApiError as error:
        log.exception("response not stored", extra={"response_id": response.id})
        reason = ResponseError(code="server_error", message=f"The response could not be stored: {error.message}")
        failed = replace(response, status="failed", completed_at=None, incomplete_details=None, error=reason)
        return ResponseFailed(sequence_number=last.sequence_number, response=failed)
    return last
