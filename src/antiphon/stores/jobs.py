"""Jobs: work that nobody waits for, kept in the database until it is done.

A job is run at least once: a worker that dies in the middle of it is followed by another that begins it anew. So what
runs a job must be idempotent: done a second time, from the start or from the middle, it changes nothing.

Behind the seam stand a table of ours (`embedded_jobs`) and, on PostgreSQL, the library procrastinate
(`procrastinate_jobs`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

JobStatus = Literal["waiting", "running", "done", "cancelled", "dead"]
"""A job that failed waits for its next attempt; after the last one it is `dead`."""

SYSTEM: Final = ""
"""The owner of jobs that are done for the server itself."""
_CANCEL_AGAIN_S: Final = 0.3
LONGEST_DOUBLING: Final = 30
"""Of pauses: from there on they are longer than any limit anyway."""


class NewJob(Struct, frozen=True, kw_only=True):
    """What is to be done. `payload` is JSON; of those that are due, a job of higher `priority` comes first.

    It is not begun before `run_at_s` (Unix seconds). While a job of the same owner, kind and `key` has not ended, no
    second one is put.
    """

    kind: str
    payload: dict[str, Any] = {}
    priority: int = 0
    run_at_s: float = 0.0
    key: str = ""


class Job(Struct, frozen=True, kw_only=True):
    """A job that is being run; `attempt` counts from 1."""

    id: str
    owner: str
    kind: str
    payload: dict[str, Any]
    attempt: int


class JobState(Struct, frozen=True, kw_only=True):
    """How a job stands; `error` is what its last failed attempt came to."""

    id: str
    kind: str
    status: JobStatus
    attempts: int
    error: str = ""


class Kind(Struct, frozen=True, kw_only=True):
    """How jobs of one kind are run.

    `perform` returns why the job failed, or "", and never raises; it is cancelled when the job is, and when the server
    stops (the job is then begun anew elsewhere). `at_once` of them run in a process. After a failure comes a pause of
    `pause_s`, which doubles with each failure up to `pause_s_max`; after `attempts_max` attempts the job is dead.
    """

    perform: Callable[[Job], Awaitable[str]]
    at_once: int = 1
    attempts_max: int = 8
    pause_s: float = 1.0
    pause_s_max: float = 300.0


class Jobs(Protocol):
    """The jobs of all owners. All methods but `work` raise `errors.Unavailable` when the database is away."""

    async def open(self) -> None:
        """Prepares the database where that is not done by our migrations."""
        ...

    async def put(self, owner: str, job: NewJob) -> str:
        """Adds a job, or finds the one with its key that has not ended; returns its id."""
        ...

    async def get(self, owner: str, id: str) -> JobState:
        """How a job stands. Raises `NotFound`, also for one that was cleaned away."""
        ...

    async def cancel(self, owner: str, id: str) -> None:
        """Cancels a job that waits, and tells one that runs; one that has ended stays as it is. Raises `NotFound`."""
        ...

    async def work(self, kinds: Mapping[str, Kind]) -> None:
        """Runs jobs of these kinds until it is cancelled; those that run then are handed back."""
        ...

    async def clean(self, *, done_kept_s: float, dead_kept_s: float) -> None:
        """Removes jobs that ended longer ago."""
        ...

    async def close(self) -> None:
        """Ends what was opened."""
        ...


def pause_after(failures: int, *, first_s: float, max_s: float, chance: float) -> float:
    """How long to wait after so many failures in a row: doubling.

    It is shortened by up to a half, as `chance` (0 to 1) has it: who failed together shall not come back together.
    """
    longest_s = min(max_s, first_s * 2.0 ** min(failures - 1, LONGEST_DOUBLING))
    return longest_s * (1 - chance / 2)


def next_pause(kind: Kind, attempt: int, chance: float) -> float | None:
    """The pause before the next attempt, in seconds; None if this one, which failed, was the last."""
    if attempt >= kind.attempts_max:
        return None
    return pause_after(attempt, first_s=kind.pause_s, max_s=kind.pause_s_max, chance=chance)


def died_too_often(kind: Kind, attempt: int) -> str:
    """Why an attempt is not even begun, or "": each one before it took its worker along."""
    return f"its worker died in each of {attempt - 1} attempts" if attempt > kind.attempts_max else ""


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Does all of the work side by side, until one fails, or this is cancelled; ends when all have ended.

    A pool of connections may lose a cancellation (`asyncio.wait_for` of Python 3.11 does), so it is said again.
    """
    tasks = {asyncio.ensure_future(work) for work in works}
    try:
        await asyncio.gather(*tasks)
    finally:
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)
