"""Jobs in a table of our own database: no other service, and no other library.

A job belongs to the worker that took it, until that ends it, hands it back, or dies (`stores.workers`). Every write of
an end names the worker, so that one that was given up changes nothing afterwards. Whoever runs jobs also says that its
process is alive.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

from antiphon.errors import ApiError
from antiphon.ids import random_id
from antiphon.stores.database import Database, Duplicate, Row
from antiphon.stores.jobs import Job, JobState, Kind, NewJob, died_too_often, next_pause
from antiphon.stores.signals import QUEUE, Signals, Waiting
from antiphon.stores.table import Table, not_found
from antiphon.stores.workers import Workers

JOBS: Final = Table("jobs")
POLL_S: Final = 1.0
"""How often a worker looks without having been told to: signals may be lost."""
_BEATS: Final = 3
"""How often in a lease a worker says that it is alive."""

log = logging.getLogger("antiphon.jobs")

_PUT = JOBS.insert("id, kind, unique_key, rank, run_at_ms, status, attempts, cancelled, payload")
_SAME = JOBS.select("id", "kind = ? AND unique_key = ? AND status IN ('waiting', 'running')")
_GET = JOBS.select("kind, status, attempts, error")
_CANCEL = JOBS.update("status = 'cancelled', ended_at_ms = ?", "id = ? AND status = 'waiting'")
_TELL = JOBS.update("cancelled = 1", "id = ? AND status = 'running'")
# Every owner's: what workers do, and none of it on behalf of a request.
_NEXT = (
    "SELECT owner, id, payload, attempts FROM jobs"
    " WHERE status = 'waiting' AND kind = ? AND run_at_ms <= ? ORDER BY rank, position LIMIT 1"
)
_SOONEST = "SELECT min(run_at_ms) FROM jobs WHERE status = 'waiting' AND kind = ?"
_TAKE_ONE = (
    "UPDATE jobs SET status = 'running', worker = ?, attempts = attempts + 1 WHERE id = ? AND status = 'waiting'"
)
_MINE = "SELECT id, cancelled FROM jobs WHERE status = 'running' AND worker = ?"
_HOLDERS = "SELECT DISTINCT worker FROM jobs WHERE status = 'running'"
_ENDED_AS = "UPDATE jobs SET status = ?, error = ?, ended_at_ms = ?, worker = NULL WHERE id = ? AND worker = ?"
_BACK = (
    "status = CASE cancelled WHEN 1 THEN 'cancelled' ELSE 'waiting' END,"
    " ended_at_ms = CASE cancelled WHEN 1 THEN ? ELSE ended_at_ms END, worker = NULL"
)
_AGAIN = f"UPDATE jobs SET {_BACK}, run_at_ms = ?, error = ? WHERE id = ? AND worker = ?"
_UNDONE = f"UPDATE jobs SET {_BACK}, attempts = attempts - 1 WHERE status = 'running' AND worker = ?"
_TAKE_OVER = f"UPDATE jobs SET {_BACK} WHERE status = 'running' AND worker = ?"
_FORGET = "DELETE FROM jobs WHERE ended_at_ms < ? AND (status <> 'dead' OR ended_at_ms < ?)"


class EmbeddedJobs:
    """The jobs of a database, and the work of this process on them."""

    def __init__(self, database: Database, workers: Workers, signals: Signals) -> None:
        self._database = database
        self._workers = workers
        self._signals = signals

    async def open(self) -> None:
        """Nothing is missing once the database has its schema."""

    async def put(self, owner: str, job: NewJob) -> str:
        """Adds the job, or finds the one with its key."""
        id, payload = random_id("job"), msgspec.json.encode(job.payload)
        row = (owner, id, job.kind, job.key or None, -job.priority, _ms(job.run_at_s), "waiting", 0, 0, payload)
        while True:
            try:
                await self._database.execute(_PUT, row)
            except Duplicate:
                same = await self._database.one(_SAME, (owner, job.kind, job.key))
                if same is None:  # it has ended in between
                    continue
                return str(same[0])
            self._signals.send(QUEUE)
            return id

    async def get(self, owner: str, id: str) -> JobState:
        """How the job stands."""
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("Job", id)
        kind, status, attempts, error = row
        return JobState(id=id, kind=kind, status=status, attempts=attempts, error=error or "")

    async def cancel(self, owner: str, id: str) -> None:
        """Cancels the job, or leaves word for its worker."""
        while not await self._database.execute(_CANCEL, (_now_ms(), owner, id)):
            if await self._database.execute(_TELL, (owner, id)):
                self._signals.send(QUEUE)
                return
            if (await self.get(owner, id)).status != "waiting":  # else it was handed back in between
                return

    async def work(self, kinds: Mapping[str, Kind]) -> None:
        """Runs jobs until it is cancelled."""
        await _Work(self._database, self._workers, signals=self._signals, kinds=kinds).run()

    async def clean(self, *, done_kept_s: float, dead_kept_s: float) -> None:
        """Removes what ended long ago."""
        now_s = time.time()
        await self._database.execute(_FORGET, (_ms(now_s - min(done_kept_s, dead_kept_s)), _ms(now_s - dead_kept_s)))

    async def close(self) -> None:
        """The database is somebody else's."""


class _Held(Struct):
    """A job that runs here, and why it was told to end."""

    job: Job
    task: "asyncio.Task[None] | None" = None
    told: Literal["", "cancelled", "lost", "stopping"] = ""

    def tell(self, why: Literal["cancelled", "lost", "stopping"]) -> None:
        """Cancels its task, once."""
        if not self.told and self.task is not None:
            self.told = why
            self.task.cancel()


class _Work:
    """The work of one process: what it holds, and the loop that looks for more."""

    def __init__(self, database: Database, workers: Workers, *, signals: Signals, kinds: Mapping[str, Kind]) -> None:
        self._database = database
        self._workers = workers
        self._signals = signals
        self._kinds = kinds
        self._held: dict[str, _Held] = {}
        self._beat_due_s = 0.0

    async def run(self) -> None:
        with Waiting(self._signals, QUEUE) as changed:
            try:
                while True:
                    await changed.wait(await self._look())
            finally:
                await self._stop()

    async def _look(self) -> float:
        """Does what is due; returns how long there may be nothing to do."""
        try:
            await self._beat()
            await self._listen()
            return min([POLL_S, *[await self._fill(name, kind) for name, kind in self._kinds.items()]])
        except ApiError as error:
            log.warning("jobs wait for the database", extra={"exception": error.message})
            return POLL_S

    async def _beat(self) -> None:
        """Says that this process is alive, and takes what belongs to those that are not."""
        if time.monotonic() < self._beat_due_s:
            return
        await self._workers.beat()
        self._beat_due_s = time.monotonic() + self._workers.lease_s / _BEATS
        # Who holds a job beat before it took it: seen here first and not among the living then, it is dead.
        holders = [str(worker) for (worker,) in await self._database.all(_HOLDERS)]
        for worker in await self._workers.gone(holders) if holders else ():
            taken = await self._database.execute(_TAKE_OVER, (_now_ms(), worker))
            log.warning("jobs of a dead worker wait again", extra={"worker": worker, "jobs": taken})

    async def _listen(self) -> None:
        """Tells jobs that were cancelled, and those that somebody else has taken over."""
        if not self._held:
            return
        asked = list(self._held.values())
        mine: dict[str, int] = dict(await self._database.all(_MINE, (self._workers.id,)))
        for held in asked:
            if held.job.id not in mine:
                held.tell("lost")
            elif mine[held.job.id]:
                held.tell("cancelled")

    async def _fill(self, name: str, kind: Kind) -> float:
        """Begins jobs of a kind while there is room; returns how long until the next of them is due."""
        while sum(held.job.kind == name for held in self._held.values()) < kind.at_once:
            row = await self._database.one(_NEXT, (name, _now_ms()))
            if row is None:
                soonest = await self._database.one(_SOONEST, (name,))
                return POLL_S if soonest is None or soonest[0] is None else max(0.0, soonest[0] / 1000 - time.time())
            if await self._database.execute(_TAKE_ONE, (self._workers.id, row[1])):
                self._begin(_job(name, row), kind)
        return POLL_S

    def _begin(self, job: Job, kind: Kind) -> None:
        held = self._held[job.id] = _Held(job)
        held.task = asyncio.get_running_loop().create_task(self._perform(held, kind))

    async def _perform(self, held: _Held, kind: Kind) -> None:
        try:
            failure = ""
            try:
                failure = died_too_often(kind, held.job.attempt) or await kind.perform(held.job)
            except asyncio.CancelledError:
                if not held.told:
                    raise
                if held.told != "cancelled":  # another has it, or shall have it
                    return
            while not await self._ended(held, kind, failure):  # noqa: ASYNC110 - a database tells nobody
                await asyncio.sleep(POLL_S)
        finally:
            self._held.pop(held.job.id, None)
            self._signals.send(QUEUE, far=False)

    async def _ended(self, held: _Held, kind: Kind, failure: str) -> bool:
        """Writes down how an attempt ended; False if the database is away. What was taken over is not touched."""
        job, now_ms = held.job, _now_ms()
        pause_s = next_pause(kind, job.attempt, random.random()) if failure else None  # noqa: S311 - no secret
        try:
            if pause_s is not None:
                again = (now_ms, now_ms + _ms(pause_s), failure, job.id, self._workers.id)
                await self._database.execute(_AGAIN, again)
            else:
                status = "dead" if failure else "cancelled" if held.told == "cancelled" else "done"
                end = (status, failure or None, now_ms, job.id, self._workers.id)
                await self._database.execute(_ENDED_AS, end)
        except ApiError as error:
            log.warning("a job's end waits for the database", extra={"job": job.id, "exception": error.message})
            return False
        if failure:
            extra = {"job": job.id, "kind": job.kind, "attempt": job.attempt, "reason": failure}
            log.log(logging.WARNING if pause_s is not None else logging.ERROR, "a job failed", extra=extra)
        return True

    async def _stop(self) -> None:
        """Ends what runs, and hands it back: it has not failed."""
        tasks = [held.task for held in self._held.values() if held.task is not None]
        for held in self._held.values():
            held.told = held.told or "stopping"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._database.execute(_UNDONE, (_now_ms(), self._workers.id))
        except ApiError as error:
            log.warning("jobs are handed back at the lease's end", extra={"exception": error.message})
        self._signals.send(QUEUE)


def _job(kind: str, row: Row) -> Job:
    owner, id, payload, attempts = row
    return Job(id=id, owner=owner, kind=kind, payload=msgspec.json.decode(payload), attempt=attempts + 1)


def _ms(time_s: float) -> int:
    return int(time_s * 1000)


def _now_ms() -> int:
    return _ms(time.time())
