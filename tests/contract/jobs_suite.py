"""What jobs promise, as cases that run over any implementation: it is opened anew for each, as often as a case wants.

A worker here is a task; another process is another opening. Nothing waits for time to pass but by the deadline of
`until`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from msgspec import Struct

from antiphon.engine.jobs import performing
from antiphon.errors import NotFound
from antiphon.stores.jobs import Job, Jobs, JobState, Kind, NewJob
from antiphon.testing.database_suite import refused
from stores_suite import THEM, US

WAIT_S = 20.0


class Place(Struct):
    """Where jobs are. `opened` opens them as another process would; `died` is how one goes that is killed."""

    opened: Callable[[], AbstractAsyncContextManager[Jobs]]
    died: Callable[[Jobs, asyncio.Task[None]], Awaitable[None]]


class Script:
    """A kind of job that does as it is told, and notes what it did."""

    def __init__(self, **more: object) -> None:
        self.seen: list[Job] = []
        self.told: list[str] = []
        self.gate = asyncio.Event()
        self.fails = 0
        self.kind = Kind(perform=performing(self._work), **{"pause_s": 0.01, **more})  # type: ignore[arg-type]

    async def _work(self, job: Job) -> None:
        self.seen.append(job)
        if len(self.seen) <= self.fails:
            raise ZeroDivisionError("as scripted")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.told.append(job.id)
            raise

    @property
    def names(self) -> list[str]:
        """The names that the payloads gave, in the order of running."""
        return [job.payload["name"] for job in self.seen]


def job(name: str = "a", kind: str = "script", **more: object) -> NewJob:
    """A job with a name."""
    return NewJob(kind=kind, payload={"name": name}, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def working(jobs: Jobs, **scripts: Script) -> AsyncIterator[asyncio.Task[None]]:
    """A worker of these kinds, stopped at the end."""
    task = asyncio.ensure_future(jobs.work({name: script.kind for name, script in scripts.items()}))
    yield task
    task.cancel()
    await asyncio.wait([task])


async def until(true: Callable[[], object]) -> None:
    """Lets others work until something is true."""
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def state(jobs: Jobs, id: str, status: str, owner: str = US) -> JobState:
    """Lets others work until a job has a status."""
    async with asyncio.timeout(WAIT_S):
        while (found := await jobs.get(owner, id)).status != status:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0)
    return found


async def a_job_is_run_with_what_it_was_given(place: Place) -> None:
    """Owner, kind and payload; afterwards it is done, after one attempt."""
    script = Script()
    script.gate.set()
    async with place.opened() as jobs:
        id = await jobs.put(US, NewJob(kind="script", payload={"name": "a", "more": [1, {"b": None}]}))
        assert (await jobs.get(US, id)).status == "waiting"
        async with working(jobs, script=script):
            done = await state(jobs, id, "done")
    (seen,) = script.seen
    assert seen == Job(id=id, owner=US, kind="script", payload={"name": "a", "more": [1, {"b": None}]}, attempt=1)
    assert (done.attempts, done.error) == (1, "")


async def a_worker_that_waits_is_woken(place: Place) -> None:
    """A job is taken when it is put, and by a worker that has not been told to look."""
    script = Script()
    script.gate.set()
    async with place.opened() as jobs, working(jobs, script=script):
        for name in ("a", "b", "c"):
            await state(jobs, await jobs.put(US, job(name)), "done")
    assert script.names == ["a", "b", "c"]


async def jobs_of_others_are_not_found(place: Place) -> None:
    """Nor those that never were."""
    async with place.opened() as jobs:
        id = await jobs.put(THEM, job())
        for refusal in (jobs.get(US, id), jobs.cancel(US, id), jobs.get(US, "job_none"), jobs.get(US, "999999")):
            await refused(NotFound, refusal)
        assert (await jobs.get(THEM, id)).status == "waiting"


async def urgent_jobs_come_first(place: Place) -> None:
    """By priority, and then as they were put."""
    script = Script()
    script.gate.set()
    async with place.opened() as jobs:
        for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 7)):
            last = await jobs.put(US, job(name, priority=priority))
        async with working(jobs, script=script):
            await until(lambda: len(script.seen) == 4)
            await state(jobs, last, "done")
    assert script.names == ["high", "first", "second", "low"]


async def a_job_is_not_begun_before_its_time(place: Place) -> None:
    """Whatever its priority; another one goes ahead."""
    script = Script()
    script.gate.set()
    async with place.opened() as jobs:
        later = await jobs.put(US, job("later", run_at_s=4_000_000_000.0, priority=9))
        now = await jobs.put(US, job("now", run_at_s=1.0))
        async with working(jobs, script=script):
            await state(jobs, now, "done")
            assert (await jobs.get(US, later)).status == "waiting"
    assert script.names == ["now"]


async def a_key_is_put_once_at_a_time(place: Place) -> None:
    """While the first waits or runs, putting it again gives it back; an owner's and kind's own; free once it ended."""
    script = Script()
    async with place.opened() as jobs:
        first = await jobs.put(US, job("a", key="k"))
        again = await asyncio.gather(*(jobs.put(US, job("b", key="k")) for _ in range(5)))
        assert set(again) == {first}
        others = [await jobs.put(THEM, job(key="k")), await jobs.put(US, job(key="l"))]
        others.append(await jobs.put(US, job(kind="unknown", key="k")))
        assert len({first, *others}) == 4
        async with working(jobs, script=script):
            await state(jobs, first, "running")
            assert await jobs.put(US, job("c", key="k")) == first
            script.gate.set()
            await state(jobs, first, "done")
            second = await jobs.put(US, job("d", key="k"))
            assert second != first
            await state(jobs, second, "done")
    assert "b" not in script.names
    assert "c" not in script.names


async def no_more_run_at_once_than_may(place: Place) -> None:
    """Of each kind; one kind does not hold up another."""
    two, other = Script(at_once=2), Script()
    async with place.opened() as jobs:
        ids = [await jobs.put(US, job(str(number))) for number in range(4)]
        async with working(jobs, script=two, other=other):
            await until(lambda: len(two.seen) == 2)
            beside = await jobs.put(US, job(kind="other"))
            await until(lambda: other.seen)
            assert len(two.seen) == 2
            other.gate.set()
            await state(jobs, beside, "done")
            two.gate.set()
            for id in ids:
                await state(jobs, id, "done")
    assert len(two.seen) == 4


async def a_job_that_fails_is_tried_again(place: Place) -> None:
    """With a pause; what it came to stands there meanwhile."""
    script = Script()
    script.fails = 2
    script.gate.set()
    async with place.opened() as jobs, working(jobs, script=script):
        id = await jobs.put(US, job())
        done = await state(jobs, id, "done")
    assert [each.attempt for each in script.seen] == [1, 2, 3]
    assert done.attempts == 3


async def a_job_that_always_fails_is_dead(place: Place) -> None:
    """After its last attempt, with its last error, for as long as dead jobs are kept; nobody runs it again."""
    script = Script(attempts_max=3)
    script.fails = 99
    async with place.opened() as jobs, working(jobs, script=script):
        id = await jobs.put(US, job())
        dead = await state(jobs, id, "dead")
        assert (dead.attempts, dead.error) == (3, "ZeroDivisionError: as scripted")
        await jobs.cancel(US, id)
        assert (await jobs.get(US, id)).status == "dead"
        await jobs.clean(done_kept_s=0, dead_kept_s=3600)
        assert (await jobs.get(US, id)).status == "dead"
    assert len(script.seen) == 3


async def a_waiting_job_that_is_cancelled_never_runs(place: Place) -> None:
    """Cancelled twice, it is still that; what is done stays done."""
    script = Script()
    script.gate.set()
    async with place.opened() as jobs:
        gone, kept = await jobs.put(US, job("gone")), await jobs.put(US, job("kept"))
        for _ in range(2):
            await jobs.cancel(US, gone)
            assert (await jobs.get(US, gone)).status == "cancelled"
        async with working(jobs, script=script):
            await state(jobs, kept, "done")
        await jobs.cancel(US, kept)
        assert (await jobs.get(US, kept)).status == "done"
    assert script.names == ["kept"]


async def a_running_job_is_told_that_it_is_cancelled(place: Place) -> None:
    """From another process too; it does not come back, and its place is free."""
    script = Script()
    async with place.opened() as jobs, place.opened() as elsewhere, working(jobs, script=script):
        id = await jobs.put(US, job())
        await until(lambda: script.seen)
        await elsewhere.cancel(US, id)
        await state(jobs, id, "cancelled")
        assert script.told == [id]
        script.gate.set()
        await state(jobs, await jobs.put(US, job()), "done")
    assert len(script.seen) == 2


async def a_worker_that_stops_hands_its_jobs_back(place: Place) -> None:
    """Another begins them at once: they have not failed."""
    first, second = Script(), Script(attempts_max=2)
    second.gate.set()
    async with place.opened() as jobs:
        id = await jobs.put(US, job())
        async with working(jobs, script=first):
            await until(lambda: first.seen)
        assert first.told == [id]
        assert (await jobs.get(US, id)).status == "waiting"
        async with place.opened() as other, working(other, script=second):
            await state(other, id, "done")
    assert len(second.seen) == 1


async def the_jobs_of_a_killed_worker_are_taken_over(place: Place) -> None:
    """By one that runs already; what the dead one still does changes nothing."""
    first, second = Script(), Script()
    async with place.opened() as jobs, place.opened() as other:
        id = await jobs.put(US, job())
        async with working(jobs, script=first) as dying:
            await until(lambda: first.seen)
            await place.died(jobs, dying)
            async with working(other, script=second):
                await until(lambda: second.seen)
                assert (await other.get(US, id)).status == "running"
                second.gate.set()
                done = await state(other, id, "done")
    assert (len(first.seen), len(second.seen), done.attempts) == (1, 1, 2)


async def a_job_that_kills_its_workers_is_dead_at_last(place: Place) -> None:
    """Not begun once more than it may be."""
    first, second = Script(attempts_max=1), Script(attempts_max=1)
    async with place.opened() as jobs, place.opened() as other:
        id = await jobs.put(US, job())
        async with working(jobs, script=first) as dying:
            await until(lambda: first.seen)
            await place.died(jobs, dying)
            async with working(other, script=second):
                dead = await state(other, id, "dead")
    assert second.seen == []
    assert dead.error == "its worker died in each of 1 attempts"


async def many_workers_run_each_job_once(place: Place) -> None:
    """However they compete."""
    scripts = [Script(at_once=4), Script(at_once=4)]
    for script in scripts:
        script.gate.set()
    async with (
        place.opened() as jobs,
        place.opened() as other,
        working(jobs, script=scripts[0]),
        working(other, script=scripts[1]),
    ):
        ids = [await jobs.put(US, job(str(number))) for number in range(40)]
        for id in ids:
            await state(jobs, id, "done")
    assert sorted(each.id for script in scripts for each in script.seen) == sorted(ids)


Case = Callable[[Place], Awaitable[None]]

CASES: list[Case] = [
    a_job_is_run_with_what_it_was_given,
    a_worker_that_waits_is_woken,
    jobs_of_others_are_not_found,
    urgent_jobs_come_first,
    a_job_is_not_begun_before_its_time,
    a_key_is_put_once_at_a_time,
    no_more_run_at_once_than_may,
    a_job_that_fails_is_tried_again,
    a_job_that_always_fails_is_dead,
    a_waiting_job_that_is_cancelled_never_runs,
    a_running_job_is_told_that_it_is_cancelled,
    a_worker_that_stops_hands_its_jobs_back,
    the_jobs_of_a_killed_worker_are_taken_over,
    a_job_that_kills_its_workers_is_dead_at_last,
    many_workers_run_each_job_once,
]
