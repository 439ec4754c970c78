"""The work of a server beside its requests: what runs jobs of each kind, and jobs that come again and again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from antiphon.errors import ApiError
from antiphon.stores.jobs import SYSTEM, Job, Jobs, Kind, NewJob
from antiphon.telemetry import brief

log = logging.getLogger("antiphon.jobs")

_RETRY_S: Final = 5.0


class Recurring(Struct, frozen=True, kw_only=True):
    """A kind of job that is put every `every_s` seconds, once for all processes."""

    kind: str
    every_s: float


def performing(work: Callable[[Job], Awaitable[object]]) -> Callable[[Job], Awaitable[str]]:
    """`Kind.perform` of what raises when it fails: a worker outlives the job that broke it."""

    async def perform(job: Job) -> str:
        try:
            await work(job)
        except ApiError as error:
            return error.message
        except Exception as error:
            log.exception("a job broke", extra={"job": job.id, "kind": job.kind})
            return brief(error).rpartition("\n")[2]
        return ""

    return perform


async def serve(jobs: Jobs, kinds: Mapping[str, Kind], recurring: Sequence[Recurring]) -> None:
    """Runs jobs, and puts those that come again, until it is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(jobs.work(kinds))
        for each in recurring:
            tasks.create_task(_recur(jobs, each))


async def _recur(jobs: Jobs, recurring: Recurring) -> None:
    """Puts a job at once, and then, ahead of time, for each slot of the clock.

    Until the slot has come the job waits, so that of all processes that put it only one does; since each puts it, none
    is missed.
    """
    await _put(jobs, recurring, 0)
    while True:
        slot = int(time.time() / recurring.every_s) + 1
        await _put(jobs, recurring, slot)
        await asyncio.sleep(slot * recurring.every_s - time.time())


async def _put(jobs: Jobs, recurring: Recurring, slot: int) -> None:
    run_at_s = slot * recurring.every_s
    job = NewJob(kind=recurring.kind, key=str(slot), run_at_s=run_at_s)
    while True:
        try:
            await jobs.put(SYSTEM, job)
        except ApiError as error:
            log.warning("a recurring job waits for the database", extra={"exception": error.message})
            await asyncio.sleep(_RETRY_S)
        else:
            return
