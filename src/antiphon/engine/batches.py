"""Batches, carried out: from the file of requests to the files of answers.

A batch is one job, and may be begun anew at any point, by this process or by another: what has been done is read from
the database. Lines go through the same code as requests of clients (`ask`), and give way to these (`Lanes`).

    validating   the input is read once; its lines' numbers and custom_ids are stored
    in_progress  it is read again; each line without a result is asked, and its result stored
    finalizing, cancelling   lines that have none are given an error; the files are made, under ids that follow from
                 the batch's own, so that making them twice makes them once
"""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from antiphon.clock import Clock
from antiphon.engine.batch_lines import (
    RETRIED,
    Line,
    Reply,
    attempt_id,
    numbered,
    parse,
    result_of,
    unanswered,
)
from antiphon.errors import ApiError, Conflict, NotFound
from antiphon.ids import child_id
from antiphon.limits import BatchesConfig
from antiphon.stores.batches import ROWS_AT_ONCE, Batches, Terms
from antiphon.stores.files import Files
from antiphon.stores.jobs import Job, Jobs, NewJob, pause_after
from antiphon.stores.signals import Signals, Waiting, while_wanted
from antiphon.telemetry import Live
from antiphon.wire.batches import ENDED, Batch, BatchError, BatchErrors, BatchStatus, LineError, RequestCounts
from antiphon.wire.files import EXPIRES_S_MAX, File

KIND: Final = "batch"
SWEEP: Final = "sweep_batches"
"""The recurring job that puts what a crash kept from being put."""
ERRORS_MAX: Final = 100
"""How many of the errors in an input are told."""
LOOK_S: Final = 1.0
"""How often a batch looks whether it was cancelled, without having been told."""
_RESULTS_AT_ONCE: Final = 16
_DOUBLINGS: Final = 128


class Asked(Struct, frozen=True, kw_only=True):
    """A request on behalf of an owner.

    `id` is the same if the same request is made again; `once` asks for one answer to it, however often it is made.
    """

    owner: str
    path: str
    body: bytes
    id: str
    once: bool


Ask = Callable[[Asked], Awaitable[Reply]]
"""Carries out a request as if a client had sent it. Never raises `ApiError`: errors are answers."""


class Lanes:
    """Room for lines of batches in this process. Clients come first: while many are served, there is hardly any."""

    def __init__(self, live: Live, config: BatchesConfig) -> None:
        self._live = live
        self._config = config
        self._busy = 0
        self._closed = False
        self._freed = asyncio.Event()
        live.listen(self._freed.set)

    def close(self) -> None:
        """Has room for no further line."""
        self._closed = True

    async def emptied(self) -> None:
        """Returns when no line is under way."""
        while self._busy:
            self._freed.clear()
            await self._freed.wait()

    async def __aenter__(self) -> None:
        while self._closed or self._busy >= room(self._live.count, self._config):
            self._freed.clear()
            await self._freed.wait()
        self._busy += 1

    async def __aexit__(self, *_: object) -> None:
        self._busy -= 1
        self._freed.set()


def room(live: int, config: BatchesConfig) -> int:
    """How many lines may be under way while so many clients are served."""
    busy = min(config.lines_at_once, config.lines_at_once_busy)
    return busy if live > config.live_max else config.lines_at_once


class Running(Struct, frozen=True, kw_only=True):
    """What batches are carried out with. `known` raises `NotFound` for a model that no host has."""

    batches: Batches
    files: Files
    jobs: Jobs
    signals: Signals
    clock: Clock
    config: BatchesConfig
    line_bytes_max: int
    lanes: Lanes
    ask: Ask
    known: Callable[[str], Awaitable[object]]


async def sweep(running: Running, _job: Job) -> None:
    """Puts a job for every batch that needs one and may have none."""
    for owner, id in await running.batches.unfinished():
        await put(running.jobs, owner, id)


async def put(jobs: Jobs, owner: str, id: str) -> None:
    """Asks for a batch to be carried out, unless that is being done."""
    await jobs.put(owner, NewJob(kind=KIND, payload={"batch": id}, key=id))


async def perform(running: Running, job: Job) -> None:
    """Carries out a batch from where it stands to its end."""
    owner, id = job.owner, job.payload["batch"]
    try:
        terms = await running.batches.terms(owner, id)
    except NotFound:
        return
    steps: dict[BatchStatus, Callable[[Running, str, Terms], Awaitable[None]]] = {
        "validating": _validate,
        "in_progress": _progress,
        "finalizing": _finish,
        "cancelling": _finish,
    }
    while terms.batch.status not in ENDED:
        await steps[terms.batch.status](running, owner, terms)
        terms = await running.batches.terms(owner, id)
    await running.batches.close(owner, id)


# ---------------------------------------------------------------- validating


class _Found(Struct):
    """What has been read of an input."""

    lines: int = 0
    seen: set[bytes] = set()
    models: set[str] = set()
    errors: list[BatchError] = []
    new: list[tuple[int, str]] = []


async def _validate(running: Running, owner: str, terms: Terms) -> None:
    batch, now = terms.batch, int(running.clock())
    await running.batches.drop(owner, batch.id)
    found = _Found()
    async for number, raw in _input(running, owner, batch, errors=found.errors):
        found.lines += 1
        if found.lines > running.config.lines_max:
            message = f"The file has more than {running.config.lines_max} requests."
            found.errors.append(BatchError(code="too_many_requests", message=message, line=number))
            break
        await _check(running, found, number, line=_line(running, number, raw, batch=batch))
        if len(found.errors) >= ERRORS_MAX:
            break
        if len(found.new) >= ROWS_AT_ONCE:
            await running.batches.add(owner, batch.id, found.new)
            found.new.clear()
    await running.batches.add(owner, batch.id, found.new)
    if not found.lines and not found.errors:
        found.errors.append(BatchError(code="empty_file", message="The file has no requests."))
    counts = RequestCounts(total=found.lines)
    if found.errors:
        failed = replace(batch, status="failed", failed_at=now, errors=BatchErrors(data=found.errors))
        await running.batches.move(owner, replace(terms, batch=failed), "validating")
        return
    model = found.models.pop() if len(found.models) == 1 else None
    begun = replace(batch, status="in_progress", in_progress_at=now, model=model, request_counts=counts)
    await running.batches.begin(owner, replace(terms, batch=begun))


def _line(running: Running, number: int, raw: bytes, *, batch: Batch) -> Line | BatchError:
    if len(raw) > running.line_bytes_max:
        message = f"The line is longer than the {running.line_bytes_max} bytes that a request may have."
        return BatchError(code="line_too_long", message=message, line=number)
    return parse(number, raw, batch.endpoint)


async def _check(running: Running, found: _Found, number: int, *, line: Line | BatchError) -> None:
    """Adds a line, or what is wrong with it, to what was found."""
    if isinstance(line, BatchError):
        found.errors.append(line)
        return
    digest = hashlib.sha256(line.custom_id.encode()).digest()[:16]
    if digest in found.seen:
        message = f"The custom_id {line.custom_id[:100]!r} is that of an earlier request too."
        found.errors.append(BatchError(code="duplicate_custom_id", message=message, line=number, param="custom_id"))
        return
    found.seen.add(digest)
    found.new.append((number, line.custom_id))
    if line.model not in found.models:
        found.models.add(line.model)
        try:
            await running.known(line.model)
        except NotFound as error:
            found.errors.append(
                BatchError(code="model_not_found", message=error.message, line=number, param="body.model")
            )
        except ApiError:  # whatever it is, the request itself will be told
            return


async def _input(
    running: Running, owner: str, batch: Batch, *, errors: list[BatchError]
) -> AsyncIterator[tuple[int, bytes]]:
    """The lines of the input; if it is gone or too large, that is an error and there are none."""
    try:
        file = await running.files.get(owner, batch.input_file_id)
        if file.bytes > running.config.input_bytes_max:
            message = f"The file has {file.bytes} bytes; {running.config.input_bytes_max} are allowed."
            errors.append(BatchError(code="file_too_large", message=message))
            return
        pieces = await running.files.read(owner, batch.input_file_id)
    except NotFound:
        message = f"Cannot find file {batch.input_file_id}."
        errors.append(BatchError(code="invalid_request", message=message, param="input_file_id"))
        return
    async for line in numbered(pieces, running.line_bytes_max):
        yield line


# ---------------------------------------------------------------- in progress


async def _progress(running: Running, owner: str, terms: Terms) -> None:
    """Asks every line that has no result, until none is left, the window closes, or somebody cancels."""
    batch = terms.batch
    left_s = (batch.expires_at or 0) - running.clock()
    if left_s > 0:
        lines, cancelled = _lines(running, owner, batch), _cancelled(running, owner, batch.id)
        if not await while_wanted(lines, cancelled, timeout_s=left_s):
            return
    expired = bool(await running.batches.pending(owner, batch.id))
    ending = replace(batch, status="finalizing", finalizing_at=int(running.clock()))
    await running.batches.move(owner, replace(terms, batch=ending, expired=expired), "in_progress")


async def _cancelled(running: Running, owner: str, id: str) -> None:
    """Ends when the batch is no longer in progress."""
    with Waiting(running.signals, id) as changed:
        while (await running.batches.get(owner, id)).status == "in_progress":
            await changed.wait(LOOK_S)


async def _lines(running: Running, owner: str, batch: Batch) -> None:
    done = await running.batches.done(owner, batch.id)
    errors: list[BatchError] = []
    under_way = asyncio.Semaphore(running.config.lines_at_once)

    async def carry_out(line: Line) -> None:
        try:
            reply = await _asked(running, owner, batch, line=line)
            await running.batches.keep(owner, batch.id, [result_of(batch.id, line, reply)])
        finally:
            under_way.release()

    async with asyncio.TaskGroup() as tasks:
        async for number, raw in _input(running, owner, batch, errors=errors):
            line = None if number in done else parse(number, raw, batch.endpoint)
            if isinstance(line, Line):
                await under_way.acquire()
                tasks.create_task(carry_out(line))
    if errors:
        error = LineError(code="input_file_missing", message=errors[0].message)
        await _give_up(running, owner, batch, error=error)


async def _asked(running: Running, owner: str, batch: Batch, *, line: Line) -> Reply:
    """The answer to a line; if its host is busy or away, the one that it gives later."""
    failures = 0
    while True:
        asked = Asked(
            owner=owner,
            path=batch.endpoint,
            body=line.body,
            id=attempt_id(batch.id, line.custom_id, failures),
            once=batch.endpoint == "/v1/responses",
        )
        async with running.lanes:
            reply = await running.ask(asked)
        if reply.status not in RETRIED:
            return reply
        failures += 1
        first_s = running.config.retry_s
        pause_s = pause_after(
            failures,
            first_s=first_s,
            max_s=first_s * _DOUBLINGS,
            chance=random.random(),  # noqa: S311 - no secret
        )
        await asyncio.sleep(max(pause_s, reply.retry_after_s))


# ---------------------------------------------------------------- the end


async def _finish(running: Running, owner: str, terms: Terms) -> None:
    """Gives lines without a result an error, makes the files, and ends the batch."""
    batch, now = terms.batch, int(running.clock())
    if batch.status == "cancelling":
        message = "This request was not carried out: the batch was cancelled."
        await _give_up(running, owner, batch, error=LineError(code="batch_cancelled", message=message))
        ended = replace(batch, status="cancelled", cancelled_at=now)
    elif terms.expired:
        message = "This request could not be executed before the completion window expired."
        await _give_up(running, owner, batch, error=LineError(code="batch_expired", message=message))
        ended = replace(batch, status="expired", expired_at=max(now, batch.expires_at or 0))
    else:
        ended = replace(batch, status="completed", completed_at=now)
    counts = (await running.batches.get(owner, batch.id)).request_counts
    # Cancelled while it was validated, it has some of its lines, and no total yet.
    ended.request_counts = replace(counts, total=max(counts.total, counts.completed + counts.failed))
    if counts.completed:
        ended.output_file_id = await _file(running, owner, terms, failed=False)
    if counts.failed:
        ended.error_file_id = await _file(running, owner, terms, failed=True)
    await running.batches.move(owner, replace(terms, batch=ended), batch.status)


async def _give_up(running: Running, owner: str, batch: Batch, *, error: LineError) -> None:
    """Gives every line that has no result the same error."""
    while pending := await running.batches.pending(owner, batch.id):
        results = [unanswered(batch.id, seq, custom_id, error=error) for seq, custom_id in pending]
        kept = await running.batches.keep(owner, batch.id, results)
        if not kept and (await running.batches.get(owner, batch.id)).status in ENDED:
            return


async def _file(running: Running, owner: str, terms: Terms, *, failed: bool) -> str:
    """Makes a file of the results that ended in one way, unless it is there; returns its id."""
    batch, now = terms.batch, int(running.clock())
    id = child_id(batch.id, "file", int(failed)).replace("_", "-", 1)

    def describe(size: int) -> File:
        return File(
            id=id,
            bytes=size,
            created_at=now,
            expires_at=now + (terms.output_expires_s or EXPIRES_S_MAX),
            filename=f"{batch.id}_{'error' if failed else 'output'}.jsonl",
            purpose="batch_output",
        )

    with contextlib.suppress(NotFound):
        return (await running.files.get(owner, id)).id
    with contextlib.suppress(Conflict):
        await running.files.create(owner, _results(running, owner, batch.id, failed=failed), describe)
    return id


async def _results(running: Running, owner: str, id: str, *, failed: bool) -> AsyncIterator[bytes]:
    after = 0
    while rows := await running.batches.results(owner, id, failed=failed, after=after, limit=_RESULTS_AT_ONCE):
        for after, body in rows:  # noqa: B007 - the last one is where the next page begins
            yield body
