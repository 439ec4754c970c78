"""Jobs on PostgreSQL: the library procrastinate, with tables of its own and its own LISTEN/NOTIFY.

What it does not keep stands in a job's arguments: the owner, and why the last attempt failed. A kind is a task and a
queue, each with a worker of its own, so that long jobs of one kind hold up no other. A worker whose heartbeat is older
than a lease is dead: its jobs wait again.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Final

from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate import exceptions as theirs
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job as Theirs
from procrastinate.schema import SchemaManager
from procrastinate.sync_psycopg_connector import wrap_exceptions

from antiphon.errors import Unavailable
from antiphon.stores.jobs import Job, JobState, JobStatus, Kind, NewJob, died_too_often, next_pause
from antiphon.stores.table import not_found

POLL_S: Final = 1.0
"""How often a worker looks without having been told to: notifications may be lost."""
_RECONNECT_S: Final = 1.0
_CANCEL_AGAIN_S: Final = 0.5
_CONNECTIONS: Final = 4
_WAIT_S: Final = 5.0
"""How long a call waits for a connection."""
_LOCK: Final = 4_716_301_195
"""Of PostgreSQL's advisory locks, the one that is held while the schema is made."""
_STATUS: Final[dict[str, JobStatus]] = {
    "todo": "waiting",
    "doing": "running",
    "succeeded": "done",
    "failed": "dead",
    "cancelled": "cancelled",
    "aborted": "cancelled",
}

log = logging.getLogger("antiphon.jobs")

_HAS_SCHEMA = "SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS there"
_HOLD = "SELECT pg_advisory_xact_lock(%(number)s)"
_HOLD_KEY = "SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0))"
_SAME = "SELECT id FROM procrastinate_jobs WHERE lock = %(key)s AND status IN ('todo', 'doing')"
_NOTE = "UPDATE procrastinate_jobs SET args = args || %(note)s WHERE id = %(id)s"


class ProcrastinateJobs:
    """The jobs of a PostgreSQL database, and the work of this process on them."""

    def __init__(self, url: str, lease_s: float) -> None:
        self._connector = PsycopgConnector(conninfo=url, min_size=1, max_size=_CONNECTIONS, timeout=_WAIT_S)
        self._app = App(connector=self._connector)
        self._lease_s = lease_s
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what matters is in our own lines

    async def open(self) -> None:
        """Connects, and makes procrastinate's tables where they are missing; several processes may do so at once."""
        with _translated():
            await self._app.open_async()
        async with self._transaction() as connection:
            run = self._connector.execute_query_all_async_with_connection
            await run(connection, _HOLD, number=_LOCK)
            if not (await run(connection, _HAS_SCHEMA))[0]["there"]:
                await connection.execute(SchemaManager.get_schema())

    async def put(self, owner: str, job: NewJob) -> str:
        """Adds the job, or finds the one with its key."""
        key = f"{owner}\n{job.kind}\n{job.key}" if job.key else None
        deferrer = self._app.configure_task(
            job.kind,
            queue=job.kind,
            lock=key,
            priority=job.priority,
            schedule_at=datetime.fromtimestamp(job.run_at_s, UTC) if job.run_at_s else None,
        )
        arguments: dict[str, Any] = {"owner": owner, "payload": job.payload}
        async with self._transaction() as connection:
            if key is not None:
                run = self._connector.execute_query_all_async_with_connection
                await run(connection, _HOLD_KEY, key=key)
                for row in await run(connection, _SAME, key=key):
                    return str(row["id"])
            deferrer.connection = connection
            return str(await deferrer.defer_async(**arguments))

    async def get(self, owner: str, id: str) -> JobState:
        """How the job stands."""
        job = await self._find(owner, id)
        status = _STATUS[job.status or "todo"]
        error = job.task_kwargs.get("error", "")
        return JobState(id=id, kind=job.task_name, status=status, attempts=job.attempts, error=str(error))

    async def cancel(self, owner: str, id: str) -> None:
        """Cancels the job, or has its worker told."""
        await self._find(owner, id)
        with _translated():
            await self._app.job_manager.cancel_job_by_id_async(int(id), abort=True)

    async def work(self, kinds: Mapping[str, Kind]) -> None:
        """Runs jobs until it is cancelled."""
        for name, kind in kinds.items():
            self._register(name, kind)
        works = [self._revive(), *(self._work(name, kind) for name, kind in kinds.items())]
        tasks = {asyncio.ensure_future(work) for work in works}
        try:
            # No `gather`, which cancels by itself: psycopg takes the first cancellation to stop its query decently, and
            # a second one breaks that off.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            while tasks:  # the pool of connections may lose a cancellation: Python 3.11's `wait_for` does
                for task in tasks:
                    task.cancel()
                _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)

    async def clean(self, *, done_kept_s: float, dead_kept_s: float) -> None:
        """Removes what ended long ago, to the hour."""
        manager = self._app.job_manager
        with _translated():
            await manager.delete_old_jobs(ceil(done_kept_s / 3600), include_cancelled=True, include_aborted=True)
            await manager.delete_old_jobs(ceil(dead_kept_s / 3600), include_failed=True)

    async def close(self) -> None:
        """Gives the connections back."""
        await self._app.close_async()

    # ------------------------------------------------------------ work

    def _register(self, name: str, kind: Kind) -> None:
        """Makes the kind a task of procrastinate's."""

        async def perform(context: JobContext, /, *, owner: str, payload: dict[str, Any], **_: Any) -> None:
            job = Job(id=str(context.job.id), owner=owner, kind=name, payload=payload, attempt=context.job.attempts + 1)
            try:
                failure = died_too_often(kind, job.attempt) or await kind.perform(job)
            except asyncio.CancelledError:
                if context.abort_reason() is AbortReason.USER_REQUEST:
                    raise theirs.JobAborted from None
                raise
            if failure:
                extra = {"job": job.id, "kind": name, "attempt": job.attempt, "reason": failure}
                log.warning("a job failed", extra=extra)
                await self._connector.execute_query_async(_NOTE, id=context.job.id, note={"error": failure})
                raise _Failed(failure)

        if name not in self._app.tasks:
            self._app.task(name=name, queue=name, pass_context=True, retry=_Retry(kind))(perform)

    async def _work(self, name: str, kind: Kind) -> None:
        """A worker for one kind; begun anew when the database comes back."""
        while True:
            try:
                await self._app.run_worker_async(
                    queues=[name],
                    name=name,
                    concurrency=kind.at_once,
                    install_signal_handlers=False,
                    fetch_job_polling_interval=POLL_S,
                    abort_job_polling_interval=POLL_S,
                    shutdown_graceful_timeout=0,
                    update_heartbeat_interval=self._lease_s / 3,
                    stalled_worker_timeout=self._lease_s,
                )
            except theirs.ConnectorException as error:
                log.warning("jobs wait for the database", extra={"exception": str(error)})
            _end_if_cancelled()  # procrastinate may have let another error out, or none
            await asyncio.sleep(_RECONNECT_S)

    async def _revive(self) -> None:
        """Lets jobs of dead workers wait again."""
        manager = self._app.job_manager
        while True:
            try:
                for job in await manager.get_stalled_jobs(seconds_since_heartbeat=self._lease_s):
                    log.warning("a job of a dead worker waits again", extra={"job": job.id, "kind": job.task_name})
                    await manager.retry_job(job, retry_at=datetime.now(UTC))
            except theirs.ConnectorException as error:  # also where another process was faster
                log.info("jobs of dead workers were not looked for", extra={"exception": str(error)})
            await asyncio.sleep(self._lease_s / 3)

    # ------------------------------------------------------------ the database

    async def _find(self, owner: str, id: str) -> Theirs:
        if id.isdigit():
            with _translated():
                found = list(await self._app.job_manager.list_jobs_async(id=int(id)))
            if found and found[0].task_kwargs.get("owner") == owner:
                return found[0]
        raise not_found("Job", id)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        with _translated():
            async with self._connector.pool.connection() as connection:
                _end_if_cancelled()
                yield connection


def _end_if_cancelled() -> None:
    """Raises a cancellation that was lost on the way here."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Failed(Exception):
    """An attempt failed; procrastinate is told so by an exception."""


class _Retry(BaseRetryStrategy):
    """Our pauses. An attempt that ends because its worker stops has not failed: it is begun anew at once."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def get_retry_decision(self, *, exception: BaseException, job: Theirs) -> RetryDecision | None:
        """When to try again, if at all."""
        pause_s: float | None = 0.0
        if not isinstance(exception, asyncio.CancelledError):
            pause_s = next_pause(self._kind, job.attempts + 1, random.random())  # noqa: S311 - no secret
        return None if pause_s is None else RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=pause_s))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with wrap_exceptions():
            yield
    except theirs.ConnectorException as error:
        raise Unavailable("The database of jobs is not available.") from error
