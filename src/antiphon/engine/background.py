"""This process as a worker: it takes runs from the queue and performs them, and takes over from processes that died.

Which of the waiting runs may begin is decided by `due`, without waiting for anything. The limits over all processes may
be exceeded for a moment where several processes decide at once.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from antiphon.engine.perform import go_on
from antiphon.engine.run import Engine, commands
from antiphon.errors import ApiError, NotFound, RunLost
from antiphon.limits import Background
from antiphon.stores import runs
from antiphon.stores.signals import QUEUE
from antiphon.stores.workers import Workers

log = logging.getLogger("antiphon.engine")

LOOK_S = 1.0
"""How often a worker looks into the queue by itself, should a signal be lost."""
LOOK_AT_MAX = 500
"""Of how many waiting runs those that may begin are chosen."""


def due(
    waiting: Sequence[runs.Queued], running: Mapping[tuple[str, str], int], *, limits: Background, free: int
) -> list[runs.Queued]:
    """The runs to begin: those that waited longest, while there is room here, for their owner, and on their host."""
    owners: Counter[str] = Counter()
    hosts: Counter[str] = Counter()
    for (owner, host), count in running.items():
        owners[owner] += count
        hosts[host] += count
    chosen: list[runs.Queued] = []
    for each in waiting:
        if len(chosen) >= free:
            break
        if owners[each.owner] < limits.per_owner_max and hosts[each.host] < limits.per_host_max:
            owners[each.owner] += 1
            hosts[each.host] += 1
            chosen.append(each)
    return chosen


class Worker:
    """Performs runs that outlive their requests, until it is drained."""

    def __init__(self, engine: Engine, workers: Workers) -> None:
        self._engine = engine
        self._workers = workers
        self._performing: set[asyncio.Task[None]] = set()
        self._stray: set[tuple[str, str]] = set()
        self._wanted = asyncio.Event()
        self._draining = False
        self._loops: list[asyncio.Task[None]] = []
        self._stop_listening = engine.signals.listen(QUEUE, self._wanted.set)

    async def start(self) -> None:
        """Joins the workers, takes over what the dead left, and begins to work."""
        await self._workers.beat()
        await self._take_over()
        self._loops = [asyncio.create_task(self._live()), asyncio.create_task(self._work())]

    def drain(self) -> None:
        """Begins nothing more."""
        self._draining = True

    async def close(self, timeout_s: float) -> int:
        """Lets runs end, at most so long, and leaves the others to other workers; returns how many those are."""
        self.drain()
        self._stop_listening()
        late: set[asyncio.Task[None]] = set()
        if self._performing:
            _, late = await asyncio.wait(self._performing, timeout=timeout_s)
        for task in (*self._loops, *late):
            task.cancel()
        await asyncio.gather(*self._loops, *late, return_exceptions=True)
        return len(late)

    async def leave(self) -> None:
        """Says that this process is no worker any longer: nobody needs to wait for its lease's end."""
        with contextlib.suppress(ApiError):  # others will find that it has fallen silent
            await self._workers.forget(self._workers.id)
        self._engine.signals.send(QUEUE)

    # ------------------------------------------------------------ being alive

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(self._workers.lease_s / 3)
            try:
                await self._workers.beat()
                await self._take_over()
                await self._engine.runs.purge()
            except ApiError as error:
                log.warning("worker could not say that it lives", extra={"exception": error.message})

    async def _take_over(self) -> None:
        """Lets whatever belongs to no living process go on."""
        alive, dead = await self._workers.others()
        self._engine.signals.watch(others=bool(alive))
        for worker in dead:
            await self._workers.forget(worker)
        await self._give_back_strays()
        count = await self._engine.runs.inherit()
        turns = await self._engine.conversations.inherit()
        if count or turns:
            log.info("taken over", extra={"runs": count, "turns": turns, "workers": dead})
            self._engine.signals.send(QUEUE)

    async def _give_back_strays(self) -> None:
        """Lets runs go on that this process has and does not work on: it could not say so when the database was away.

        One that is in other hands for a moment is met only once.
        """
        mine = {each for each in await self._engine.runs.mine() if each[1] not in self._engine.runs.live}
        for owner, id in mine & self._stray:
            if await self._engine.runs.release(owner, id):
                self._engine.signals.send(QUEUE)
        self._stray = mine

    # ------------------------------------------------------------ working

    async def _work(self) -> None:
        while not self._draining:
            self._wanted.clear()
            try:
                await self._begin_due()
            except ApiError as error:
                log.warning("queue not read", extra={"exception": error.message})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wanted.wait()

    async def _begin_due(self) -> None:
        free = self._engine.background.running_max - len(self._performing)
        if free <= 0:
            return
        waiting = await self._engine.runs.waiting(LOOK_AT_MAX)
        if not waiting:
            return
        running = await self._engine.runs.running()
        for each in due(waiting, running, limits=self._engine.background, free=free):
            if each.id in self._engine.runs.live:  # lost and back: whoever works on it here is told to look
                self._engine.signals.send(commands(each.id), far=False)
            elif not self._draining and await self._engine.runs.claim(each.owner, each.id):
                task = asyncio.create_task(self._perform(each.owner, each.id))
                self._performing.add(task)
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._performing.discard(task)
        self._wanted.set()

    async def _perform(self, owner: str, id: str) -> None:
        """Performs a claimed run to its end; one that breaks this code is left to another attempt."""
        try:
            await go_on(self._engine, owner, id)
        except (NotFound, RunLost):
            log.info("run of a deleted response, or another worker's by now", extra={"response_id": id})
        except Exception:
            log.exception("run not performed", extra={"response_id": id})
            with contextlib.suppress(ApiError):
                await self._engine.runs.release(owner, id)
