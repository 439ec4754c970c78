"""Work and the client who waits for it: what ends when the client leaves, and what goes on without one."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from antiphon.telemetry import brief

T = TypeVar("T")

log = logging.getLogger("antiphon.api")


class Gone(Exception):
    """The client left before its answer was complete."""


class Tasks:
    """Work that outlives its client, kept so that it is not lost and that the server waits for it at its end."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begins the work."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def drain(self, timeout_s: float) -> int:
        """Waits for all work, at most so long; what is not done by then is cancelled. Returns how much that was."""
        if not self._running:
            return 0
        _, late = await asyncio.wait(self._running, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return len(late)


async def while_there(leaving: Coroutine[Any, Any, None], work: Awaitable[T]) -> T:
    """The work's result; if `leaving` ends first, the work is cancelled and `Gone` is raised."""
    worker = asyncio.current_task()
    if worker is None:
        raise RuntimeError("work is done in a task")
    state = "working"

    def leave(_watch: asyncio.Task[None]) -> None:
        nonlocal state
        if state == "working":
            state = "gone"
            worker.cancel()

    watch = asyncio.get_running_loop().create_task(leaving)
    watch.add_done_callback(leave)
    try:
        result = await work
    except asyncio.CancelledError:
        # Ours, unless somebody else (a stopping server) cancels as well.
        if state == "gone" and worker.uncancel() == 0:
            raise Gone from None
        raise
    finally:
        left, state = state == "gone", "over"
        watch.cancel()
    if left:
        worker.uncancel()
        raise Gone
    return result


async def outliving(leaving: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T], tasks: Tasks) -> T:
    """The work's result; if `leaving` ends first, `Gone` is raised and the work goes on."""
    task = tasks.start(work)
    watch = asyncio.get_running_loop().create_task(leaving)
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()
        if not task.done():
            task.add_done_callback(_log_failure)
    if not task.done():
        raise Gone
    return task.result()


def _log_failure(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("work without a client failed", extra={"exception": brief(error)})
