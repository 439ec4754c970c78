"""Batches: many requests from a file, carried out when there is room for them."""

import contextlib
from typing import Final

from msgspec.structs import replace

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.engine.batch_lines import NEEDED
from antiphon.engine.batches import put
from antiphon.errors import Conflict, InvalidRequest, NotFound
from antiphon.stores.batches import Terms
from antiphon.wire.base import Page
from antiphon.wire.batches import Batch, BatchListQuery, CreateBatch

_CANCELLABLE: Final = ("validating", "in_progress")


@route("POST", "/v1/batches", body=CreateBatch, answer=Batch)
async def create_batch(call: Call[CreateBatch, None]) -> Batch:
    """Create a batch of requests from an uploaded file."""
    services, body = call.services, call.body
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            begun = await services.batches.get(call.owner, call.begun)
            await put(services.jobs, call.owner, begun.id)
            return begun
    if body.endpoint not in NEEDED:
        message = f"Invalid endpoint: {body.endpoint[:100]!r}. Supported values are: {', '.join(NEEDED)}."
        raise InvalidRequest(message, param="endpoint")
    await _check_input(call)
    created_at = int(services.clock())
    batch = Batch(
        id=await call.new_id("batch"),
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        status="validating",
        created_at=created_at,
        expires_at=created_at + max(1, int(services.config.batches.window_s)),
        metadata=body.metadata,
    )
    expires_s = None if body.output_expires_after is None else body.output_expires_after.seconds
    await services.batches.create(call.owner, Terms(batch=batch, output_expires_s=expires_s))
    await put(services.jobs, call.owner, batch.id)
    return batch


@route("GET", "/v1/batches", query=BatchListQuery, answer=Page[Batch])
async def list_batches(call: Call[None, BatchListQuery]) -> Page[Batch]:
    """List batches, the newest first."""
    return await call.services.batches.list(call.owner, call.query)


@route("GET", "/v1/batches/{batch_id}", answer=Batch)
async def get_batch(call: Call[None, None]) -> Batch:
    """Retrieve a batch, with its counts of this moment."""
    return await call.services.batches.get(call.owner, call.params["batch_id"])


@route("POST", "/v1/batches/{batch_id}/cancel", answer=Batch)
async def cancel_batch(call: Call[None, None]) -> Batch:
    """Cancel a batch; the answers that it has are kept."""
    services, batch_id = call.services, call.params["batch_id"]
    while True:
        terms = await services.batches.terms(call.owner, batch_id)
        batch = terms.batch
        if batch.status in ("cancelling", "cancelled"):
            return batch
        if batch.status not in _CANCELLABLE:
            raise Conflict(f"Batch {batch_id} cannot be cancelled: it is {batch.status}.")
        told = replace(batch, status="cancelling", cancelling_at=int(services.clock()))
        if await services.batches.move(call.owner, replace(terms, batch=told), batch.status):
            services.engine.signals.send(batch_id)
            await put(services.jobs, call.owner, batch_id)
            return told


async def _check_input(call: Call[CreateBatch, None]) -> None:
    """Raises `NotFound`, or `InvalidRequest` if the file was not uploaded for a batch."""
    file_id = call.body.input_file_id
    try:
        file = await call.services.files.get(call.owner, file_id)
    except NotFound as error:
        raise NotFound(error.message, param="input_file_id") from error
    if file.purpose != "batch":
        message = f"The file {file_id} has the purpose {file.purpose!r}; a batch needs one with the purpose 'batch'."
        raise InvalidRequest(message, param="input_file_id")
