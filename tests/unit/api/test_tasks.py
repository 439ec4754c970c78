"""Work and the client who waits for it."""

import asyncio

import pytest

from antiphon.api.tasks import Gone, Tasks, outliving, while_there


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return


class Work:
    """Something that takes until it is let go, and notes how it ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.end = ""

    async def __call__(self) -> str:
        try:
            self.begun.set()
            await self.go.wait()
        except asyncio.CancelledError:
            self.end = "cancelled"
            raise
        self.end = "done"
        return "result"


async def test_work_that_is_done_before_the_client_leaves_has_its_result() -> None:
    work = Work()
    work.go.set()
    assert await while_there(never(), work()) == "result"
    work = Work()
    work.go.set()
    assert await outliving(never(), work(), Tasks()) == "result"


async def test_work_is_cancelled_when_its_client_leaves() -> None:
    work = Work()
    with pytest.raises(Gone):
        await while_there(at_once(), work())
    assert work.end == "cancelled"


async def test_a_client_that_leaves_does_not_cancel_the_task_itself() -> None:
    with pytest.raises(Gone):
        await while_there(at_once(), Work()())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_work_that_survives_its_cancellation_is_still_without_a_client() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "anyway"
        raise AssertionError

    with pytest.raises(Gone):
        await while_there(at_once(), stubborn())


async def test_a_cancellation_from_outside_stays_one() -> None:
    work = Work()
    task = asyncio.create_task(while_there(never(), work()))
    await work.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.end == "cancelled"


async def test_what_work_raises_is_raised() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await while_there(never(), broken())
    with pytest.raises(ZeroDivisionError):
        await outliving(never(), broken(), Tasks())


async def test_detached_work_goes_on_without_its_client() -> None:
    work, tasks = Work(), Tasks()
    with pytest.raises(Gone):
        await outliving(at_once(), work(), tasks)
    assert len(tasks) == 1
    work.go.set()
    assert await tasks.drain(5) == 0
    assert work.end == "done"
    assert len(tasks) == 0


async def test_detached_work_survives_the_cancellation_of_its_request() -> None:
    work, tasks = Work(), Tasks()
    request = asyncio.create_task(outliving(never(), work(), tasks))
    await work.begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    work.go.set()
    await tasks.drain(5)
    assert work.end == "done"


async def test_detached_work_that_fails_is_logged(caplog) -> None:
    go = asyncio.Event()

    async def broken() -> None:
        await go.wait()
        raise ZeroDivisionError

    tasks = Tasks()
    with pytest.raises(Gone):
        await outliving(at_once(), broken(), tasks)
    go.set()
    await tasks.drain(5)
    await asyncio.sleep(0)
    assert ["ZeroDivisionError" in record.exception for record in caplog.records] == [True]


async def test_draining_is_bounded_and_cancels_what_is_late() -> None:
    work, tasks = Work(), Tasks()
    tasks.start(work())
    await work.begun.wait()
    assert await tasks.drain(0) == 1
    assert work.end == "cancelled"
