"""How a run is told to stop."""

import asyncio

import pytest

from antiphon.engine.control import Control, Stop, Stopped

CANCEL = Stop(why="cancel")


async def test_what_a_run_waits_for_is_interrupted_at_once():
    control, never = Control(), asyncio.Event()
    waiting = asyncio.ensure_future(control.wait(never.wait()))
    await asyncio.sleep(0)
    control.stop(CANCEL)
    with pytest.raises(Stopped) as stopped:
        await waiting
    assert stopped.value.stop is CANCEL


async def test_a_run_that_was_told_before_it_waits_does_not_wait():
    control = Control()
    control.stop(CANCEL)
    control.stop(Stop(why="fail", message="too late: the first counts"))
    with pytest.raises(Stopped) as stopped:
        await control.wait(asyncio.Event().wait())
    assert stopped.value.stop is CANCEL


async def test_somebody_elses_cancellation_stays_one():
    waiting = asyncio.ensure_future(Control().wait(asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_run_that_is_stopped_and_cancelled_is_cancelled():
    control = Control()
    waiting = asyncio.ensure_future(control.wait(asyncio.Event().wait()))
    await asyncio.sleep(0)
    control.stop(CANCEL)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_results_and_errors_pass():
    async def seven() -> int:
        return 7

    async def broken() -> None:
        raise ValueError

    assert await Control().wait(seven()) == 7
    with pytest.raises(ValueError):  # noqa: PT011 - that it is this one, unchanged
        await Control().wait(broken())
