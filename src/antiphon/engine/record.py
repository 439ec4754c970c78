"""Keeps what a run brings: the only writer of responses.

It wraps the loop's generator. The response is there to be retrieved before its first event is handed on; what somebody
watches is in the journal before it is handed on, so that no follower, on whatever process and after whatever crash,
sees another stream than its client did; and its end, its output, the rest of its journal and its conversation's new
items are committed together before the terminal event is.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from msgspec.structs import replace

from antiphon.engine import journal
from antiphon.engine.control import Stop
from antiphon.engine.journal import Entry, Journal, Written
from antiphon.engine.restore import kept
from antiphon.engine.run import Engine, Progress, Run, commands
from antiphon.engine.state import Outcome
from antiphon.errors import ApiError, Conflict, NotFound, RateLimited, RunLost
from antiphon.stores.conversations import held
from antiphon.stores.responses import Turn
from antiphon.stores.runs import RunRow
from antiphon.stores.signals import QUEUE
from antiphon.wire.events import TERMINAL, Event, ResponseFailed
from antiphon.wire.responses import Response, ResponseError

log = logging.getLogger("antiphon.engine")

RETRY_S = 1.0
"""How long to wait before an end that could not be stored is stored again."""


async def enqueue(engine: Engine, run: Run) -> Response:
    """Stores a run for whichever worker has room for it. Raises `RateLimited` when too many wait already."""
    stored = False
    try:
        most = engine.background.waiting_max
        if await engine.runs.waiting_count(most) >= most:
            raise RateLimited(
                f"{most} responses wait for a worker already, which is as many as may.",
                code="queue_full",
                retry_after_s=5,
            )
        await _begin(engine, run, RunRow(host=run.host, body=kept(engine, run)))
        stored = True
    finally:
        if not stored and run.conversation is not None:
            await engine.conversations.release(run.owner, run.conversation, run.response.id)
    engine.signals.send(QUEUE)
    return run.response


async def record(
    engine: Engine, progress: Progress, *, batches: AsyncGenerator[list[Event], None]
) -> AsyncGenerator[list[Event], None]:
    """The same batches, each handed on only when what it announces is kept.

    A completed or incomplete run appends its input and its output to the conversation; a failed or cancelled one
    appends nothing, so that the same request can be sent again. A run that is closed before its end waits for another
    worker.
    """
    keeper = _Keeper(engine, progress)
    ended = False
    waited = progress.emitter.response.status == "queued"
    id = progress.run.response.id
    stop_listening = engine.signals.listen(commands(id), keeper.hear)
    engine.runs.live.add(id)
    if keeper.begun:
        keeper.hear()  # somebody may have asked for something after its row was read, and before it listened
    try:
        async for batch in batches:
            if not keeper.begun:
                await keeper.begin()
            elif waited:
                await keeper.start()
                waited = False
            if keeper.is_due and not _ends(batch):
                await keeper.keep(batch)
            if _ends(batch):
                batch[-1] = await keeper.finish(batch[-1])
                ended = True
            if batch:
                yield batch
            if ended:
                return
    finally:
        stop_listening()
        try:
            await batches.aclose()
        finally:
            await keeper.leave(ended=ended)


async def pass_on(
    engine: Engine, progress: Progress, *, batches: AsyncGenerator[list[Event], None]
) -> AsyncGenerator[list[Event], None]:
    """The same batches of a response with `store: false`: it leaves no row, and adds nothing to its conversation."""
    run = progress.run
    try:
        async for batch in batches:
            progress.emitter.journal.clear()
            if batch:
                yield batch
    finally:
        await batches.aclose()
        if run.conversation is not None:
            await engine.conversations.release(run.owner, run.conversation, run.response.id)


def _ends(batch: list[Event]) -> bool:
    """Whether this is the last batch. An empty one only says that something is to be kept."""
    return bool(batch) and isinstance(batch[-1], TERMINAL)


async def _begin(engine: Engine, run: Run, row: RunRow) -> None:
    response = run.response
    also = [engine.runs.begun(run.owner, response.id, row)]
    if run.conversation is not None:  # from here on the claim lasts for as long as the run
        also.append(held(run.owner, run.conversation, response.id))
    head = journal.encode(_journal(run, []))
    await engine.responses.begin(run.owner, response, run.input, journal=head, also=also)


def _journal(run: Run, entries: list[Entry]) -> Journal:
    return Journal(service_tier=run.response.service_tier, sealed=run.sealed, events=entries, include=run.include)


class _Keeper:
    """Writes one run's rows. `insists`: its failure is still to be stored, after its client was told."""

    def __init__(self, engine: Engine, progress: Progress) -> None:
        self._engine = engine
        self._progress = progress
        self._run = progress.run
        self._owner = progress.run.owner
        self._id = progress.run.response.id
        self._conversation = progress.run.conversation
        self.begun = not progress.fresh
        self._heard = False
        self._writing = asyncio.Lock()  # parts follow one another without gap or overlap
        self._tasks: set[asyncio.Task[None]] = set()
        self._steps = progress.emitter.steps
        self.insists = False

    @property
    def is_due(self) -> bool:
        """Whether what happened is to be kept before it is handed on: somebody sees it, or a step has ended."""
        return bool(self._progress.control.watched) or self._progress.emitter.steps > self._steps

    async def begin(self) -> None:
        """Stores the response, and the run as this worker's."""
        run, watched = self._run, self._progress.control.watched
        row = RunRow(
            host=run.host,
            body=kept(self._engine, run),
            worker=self._engine.runs.worker,
            attempts=1,
            watched=watched,
        )
        await _begin(self._engine, run, row)
        self.begun = True
        if self._heard:
            self.hear()

    async def start(self) -> None:
        """Stores that a run which waited is in progress."""
        response = self._progress.emitter.response
        if response.status == "in_progress":
            await self._engine.responses.start(self._owner, replace(response, output=[]))
            self._tell()

    async def keep(self, batch: list[Event]) -> None:
        """Adds to the journal what led to these events. Where that fails, the batch becomes the run's last.

        Raises `RunLost` if the run is another worker's by now.
        """
        self._steps = self._progress.emitter.steps
        try:
            await self._add_part()
        except RunLost:
            raise
        except ApiError as error:
            log.exception("events not stored", extra={"response_id": self._id, "exception": error.message})
            reason = ResponseError(code="server_error", message="The response's events could not be stored.")
            batch += self._progress.emitter.close(Outcome(cause="fail", at=int(self._engine.clock()), error=reason))

    async def finish(self, last: Event) -> Event:
        """Commits the end of the run; returns the terminal event, which is another one if that did not succeed.

        Raises `RunLost` if the run is another worker's by now, `NotFound` if the response was deleted: it has no end.
        """
        response = self._progress.emitter.response
        turn = None
        if self._conversation is not None:
            appended = [*self._run.input, *response.output] if response.status in ("completed", "incomplete") else []
            turn = Turn(conversation=self._conversation, items=appended)
        try:
            await self._store(response, turn)
        except (RunLost, NotFound):
            raise
        except ApiError:
            if await self._is_stored(response):  # the connection was lost after the commit
                self._tell()
                return last
            log.exception("response not stored", extra={"response_id": self._id})
            reason = ResponseError(code="server_error", message="The response could not be stored; the log says why.")
            failed = replace(response, status="failed", completed_at=None, incomplete_details=None, error=reason)
            await self._give_up(failed)
            last = ResponseFailed(sequence_number=last.sequence_number, response=failed)
        self._tell()
        return last

    async def leave(self, *, ended: bool) -> None:
        """The run is no longer worked on here."""
        if not self.insists:
            self._engine.runs.live.discard(self._id)  # before it is given back: from then on it may be live here anew
        if not ended:
            await self.give_back()

    async def give_back(self) -> None:
        """Lets another worker go on with a run that was closed before its end."""
        engine = self._engine
        with contextlib.suppress(ApiError):  # the database is away: the lease's end gives it back
            if self.begun and await engine.runs.release(self._owner, self._id):
                engine.signals.send(QUEUE)
                return
            if self._conversation is not None and await engine.runs.find(self._owner, self._id) is None:
                await engine.conversations.release(self._owner, self._conversation, self._id)

    def hear(self) -> None:
        """Somebody may want something of this run: to see it, or to end it. Before it is stored, nobody can."""
        if self.begun:
            self._start(self._look())
        self._heard = True

    # ------------------------------------------------------------ inside

    async def _look(self) -> None:
        control = self._progress.control
        try:
            row = await self._engine.runs.find(self._owner, self._id)
            if row is None or row.worker != self._engine.runs.worker:
                control.stop(Stop(why="give back"))
            elif row.cancelled:
                control.stop(Stop(why="cancel"))
            elif row.watched > control.watched:
                control.watched = row.watched
                await self._add_part()
        except ApiError as error:  # the next part, or the run's end, will meet it as well
            log.warning("run not looked after", extra={"response_id": self._id, "exception": error.message})

    async def _add_part(self) -> None:
        async with self._writing:
            entries = self._progress.emitter.journal
            count = len(entries)
            if not count:
                return
            part = journal.encode(entries)
            await self._engine.runs.keep(self._owner, self._id, part)
            del entries[:count]  # there may be more by now
            self._progress.kept.add(part, count)
        self._tell()

    async def _store(self, response: Response, turn: Turn | None) -> None:
        progress = self._progress
        ended = self._engine.runs.ended(self._owner, self._id)
        await self._engine.responses.finish(self._owner, response, self._end(), turn=turn, ended=ended)
        # Nobody needs it any longer, and a slow reader may take long over the last events.
        progress.kept, progress.emitter.journal = Written(), []

    def _end(self) -> bytes:
        return self._progress.kept.journal(_journal(self._run, self._progress.emitter.journal))

    async def _is_stored(self, response: Response) -> bool:
        """Whether the end is there although the database could not say so: this one, and no other worker's."""
        try:
            trail = await self._engine.responses.trail(self._owner, self._id)
        except ApiError:
            return False
        return trail.response.status == response.status and trail.journal == self._end()

    async def _give_up(self, failed: Response) -> None:
        """A store that fails makes the run fail: what is not kept was not done. The failure is kept as soon as can be.

        The client is told before: it must not wait for a database that is away.
        """
        try:
            await self._store_failure(failed)
        except Conflict:
            return
        except ApiError:
            self.insists = True
            self._start(self._insist(failed))

    async def _insist(self, failed: Response) -> None:
        try:
            while not await self._stored_later(failed):
                pass
        finally:
            self._engine.runs.live.discard(self._id)
        self._tell()

    async def _stored_later(self, failed: Response) -> bool:
        await asyncio.sleep(RETRY_S)
        try:
            await self._store_failure(failed)
        except (Conflict, NotFound):
            pass
        except ApiError:
            return False
        return True

    async def _store_failure(self, failed: Response) -> None:
        await self._store(failed, None)
        if self._conversation is not None:
            await self._engine.conversations.release(self._owner, self._conversation, self._id)

    def _tell(self) -> None:
        self._engine.signals.send(self._id, far=self._progress.control.watched > 1)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
