"""Wake-ups: whoever waits for a change in the database is told that it may have come.

A signal carries a topic and no facts: what happened is read from the database. It may come late, twice, or for nothing,
and once in a while not at all, so that whoever waits also looks by itself from time to time. It is sent after the
commit that it tells of.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

Wake = Callable[[], None]

QUEUE = "queue"
"""The topic of runs and jobs that wait for a worker."""


class Signals(Protocol):
    """Signals between the tasks of a process, and between the processes of a database."""

    def send(self, topic: str, *, far: bool = True) -> None:
        """Tells everybody who listens to the topic; with `far=False` only those in this process. Never raises."""
        ...

    def listen(self, topic: str, wake: Wake) -> Callable[[], None]:
        """Calls `wake` on the event loop at each signal, until what is returned is called."""
        ...

    def watch(self, *, others: bool) -> None:
        """Says whether other processes are known to live: where signals of theirs cost something, only then."""
        ...

    async def close(self) -> None:
        """Ends what was opened."""
        ...


class LocalSignals:
    """Signals within one process: all there is to it where a database has one server."""

    def __init__(self) -> None:
        self._listening: dict[str, list[Wake]] = {}

    def send(self, topic: str, *, far: bool = True) -> None:  # noqa: ARG002 - nobody is far
        """Wakes those who listen to the topic."""
        for wake in self._listening.get(topic, ())[:]:
            wake()

    def send_all(self) -> None:
        """Wakes everybody: something has changed, nobody knows what."""
        for topic in list(self._listening):
            self.send(topic)

    @property
    def heard(self) -> bool:
        """Whether anybody listens to anything."""
        return bool(self._listening)

    def listen(self, topic: str, wake: Wake) -> Callable[[], None]:
        """Calls `wake` at each signal, until what is returned is called."""
        self._listening.setdefault(topic, []).append(wake)

        def stop() -> None:
            there = self._listening.get(topic, [])
            if wake in there:
                there.remove(wake)
            if not there:
                self._listening.pop(topic, None)

        return stop

    def watch(self, *, others: bool) -> None:
        """Others are not heard."""

    async def close(self) -> None:
        """Nothing was opened."""


class Waiting:
    """Waits for signals of a topic; one that comes between two waits is not missed.

    with Waiting(signals, topic) as changed:
        while not (found := await look()):
            await changed.wait(timeout_s=1)
    """

    def __init__(self, signals: Signals, topic: str) -> None:
        self._signals = signals
        self._topic = topic
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._stop = self._signals.listen(self._topic, self._event.set)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    async def wait(self, timeout_s: float) -> bool:
        """Returns at the next signal since the last wait, or when so much time has passed; says whether one came."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


async def while_wanted(
    work: Coroutine[Any, Any, None], unwanted: Coroutine[Any, Any, None], *, timeout_s: float | None = None
) -> bool:
    """Works until the work ends, `unwanted` does or the time is over; False: it was no longer wanted.

    Raises what either raises. Both are over when it returns.
    """
    tasks = _, watch = asyncio.ensure_future(work), asyncio.ensure_future(unwanted)
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return watch not in done
