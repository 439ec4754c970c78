"""Wake-ups within a process."""

from antiphon.stores.signals import LocalSignals, Waiting


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
