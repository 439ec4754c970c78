"""Wake-ups within a process."""

import asyncio

import pytest

from antiphon.stores.signals import LocalSignals, Waiting, while_wanted


async def test_a_signal_between_two_waits_is_not_missed():
    signals = LocalSignals()
    with Waiting(signals, "a") as changed:
        signals.send("a")
        assert await changed.wait(timeout_s=5)
        assert not await changed.wait(timeout_s=0.001)


async def test_signals_of_other_topics_are_not_heard():
    signals = LocalSignals()
    with Waiting(signals, "a") as changed:
        signals.send("b")
        assert not await changed.wait(timeout_s=0.001)
        signals.send_all()
        assert await changed.wait(timeout_s=5)


def test_who_has_stopped_listening_is_not_woken():
    signals, woken = LocalSignals(), []
    stop = signals.listen("a", lambda: woken.append(1))
    signals.send("a")
    stop()
    signals.send("a")
    stop()
    assert (woken, signals.heard) == ([1], False)


def test_a_listener_may_stop_while_it_is_woken():
    signals, woken = LocalSignals(), []
    stops = [signals.listen("a", lambda: (woken.append(1), stops[0]())), signals.listen("a", lambda: woken.append(2))]
    signals.send("a")
    signals.send("a")
    assert woken == [1, 2, 2]


async def _ends():
    await asyncio.sleep(0)


async def _fails():
    raise LookupError


async def _never(over):
    try:
        await asyncio.Event().wait()
    finally:
        over.append(True)


async def test_work_goes_on_until_it_ends_or_nobody_wants_it_or_time_is_over():
    over = []
    assert await while_wanted(_ends(), _never(over))
    assert not await while_wanted(_never(over), _ends())
    assert await while_wanted(_never(over), _never(over), timeout_s=0.01)
    assert over == [True] * 4


@pytest.mark.parametrize("first", [True, False])
async def test_what_fails_is_raised_and_the_other_is_ended(first):
    over = []
    with pytest.raises(LookupError):
        await while_wanted(*((_fails(), _never(over)) if first else (_never(over), _fails())))
    assert over == [True]
