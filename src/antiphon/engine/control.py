"""How a run is told from outside to stop, or that somebody watches it. A run obeys wherever it waits for its model."""

import asyncio
from collections.abc import Awaitable
from typing import Literal, TypeVar

from msgspec import Struct

T = TypeVar("T")

Why = Literal["cancel", "fail", "give back"]


class Stop(Struct, frozen=True, kw_only=True):
    """What a run is told: to end as cancelled, to fail with this message, or to end without an end.

    The last is for a run that another worker goes on with, and for one whose response was deleted.
    """

    why: Why
    message: str = ""


class Stopped(Exception):
    """Raised where a run waits, once it was told to stop."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.why)
        self.stop = stop


class Control:
    """One run's, made on the event loop that the run is on.

    `watched`: 0 nobody sees its events as they come, 1 its own client does, 2 followers do too.
    """

    def __init__(self, watched: int = 0) -> None:
        self.watched = watched
        self._stop: Stop | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._loop = asyncio.get_running_loop()  # to ask for it costs a system call: not for each event

    def stop(self, stop: Stop) -> None:
        """Interrupts what the run waits for. The first call counts."""
        if self._stop is None:
            self._stop = stop
            if self._waiting is not None:
                self._waiting.cancel()

    async def wait(self, work: Awaitable[T]) -> T:
        """The work's result. Raises `Stopped` instead, at once, when the run is told to stop, and if it was before."""
        if self._stop is not None and asyncio.iscoroutine(work):
            work.close()
        self.check()
        task = self._waiting = asyncio.current_task(self._loop)
        try:
            return await work
        except asyncio.CancelledError:
            # Ours, unless somebody else (a stopping server) cancels as well.
            told = self._told()
            if told is not None and task is not None and task.uncancel() == 0:
                raise Stopped(told) from None
            raise
        finally:
            self._waiting = None

    def check(self) -> None:
        """Raises `Stopped` if the run was told to stop."""
        if self._stop is not None:
            raise Stopped(self._stop)

    def _told(self) -> Stop | None:
        return self._stop
