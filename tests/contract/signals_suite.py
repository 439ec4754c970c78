"""What signals promise, as cases of two of them on one database, as two processes would have them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from antiphon.stores.signals import Signals, Waiting

FAR_S = 0.05
"""How late a signal of another process may come: what a follower of a stream sees as delay."""
PATIENCE_S = 10.0


class Pair(NamedTuple):
    """Ours, another process's, and how that one commits something (a signal is sent after a commit)."""

    near: Signals
    far: Signals
    commit_far: Callable[[], Awaitable[object]]


async def a_signal_wakes_who_listens_in_its_process_before_send_returns(pair: Pair) -> None:
    woken: list[str] = []
    stops = [pair.near.listen(topic, lambda topic=topic: woken.append(topic)) for topic in ("a", "b", "a")]
    pair.near.send("a", far=False)
    assert woken == ["a", "a"]
    for stop in stops:
        stop()
    pair.near.send("a")
    pair.near.send("b")
    assert woken == ["a", "a"]


async def a_signal_wakes_who_listens_in_another_process(pair: Pair) -> None:
    with Waiting(pair.near, "topic") as changed:
        await pair.commit_far()
        pair.far.send("topic")
        assert await changed.wait(PATIENCE_S)


async def a_signal_between_two_waits_is_not_missed(pair: Pair) -> None:
    with Waiting(pair.near, "topic") as changed:
        for _ in range(5):
            await pair.commit_far()
            pair.far.send("topic")
            await asyncio.sleep(0)
            assert await changed.wait(PATIENCE_S)


async def a_signal_reaches_another_process_soon(pair: Pair) -> None:
    """The middle one of twenty, since this machine may be busy with other things."""
    took_s: list[float] = []
    with Waiting(pair.near, "topic") as changed:
        for _ in range(20):
            await pair.commit_far()
            began = time.perf_counter()
            pair.far.send("topic")
            assert await changed.wait(PATIENCE_S)
            took_s.append(time.perf_counter() - began)
    assert sorted(took_s)[10] < FAR_S, took_s


async def nothing_is_lost_of_a_thousand_topics_at_once(pair: Pair) -> None:
    woken: set[str] = set()
    everything = asyncio.Event()

    def wake(topic: str) -> None:
        woken.add(topic)
        if len(woken) == 1000:
            everything.set()

    stops = [pair.near.listen(f"topic-{n}", lambda n=n: wake(f"topic-{n}")) for n in range(1000)]
    await pair.commit_far()
    for n in range(1000):
        pair.far.send(f"topic-{n}")
    async with asyncio.timeout(PATIENCE_S):
        await everything.wait()
    for stop in stops:
        stop()


async def topics_that_are_long_or_odd_wake_as_well(pair: Pair) -> None:
    for topic in ("x" * 100_000, "two\nlines", "", "with\0nul", "ö" * 5000, "\ud800"):
        with Waiting(pair.near, topic) as changed:
            await pair.commit_far()
            pair.far.send(topic)
            assert await changed.wait(PATIENCE_S), topic[:20]


async def closed_signals_are_silent_and_never_raise(pair: Pair) -> None:
    await pair.near.close()
    await pair.near.close()
    pair.near.send("topic")
    pair.near.listen("topic", lambda: None)()


Case = Callable[[Pair], Awaitable[None]]

CASES: tuple[Case, ...] = (
    a_signal_wakes_who_listens_in_its_process_before_send_returns,
    a_signal_wakes_who_listens_in_another_process,
    a_signal_between_two_waits_is_not_missed,
    a_signal_reaches_another_process_soon,
    nothing_is_lost_of_a_thousand_topics_at_once,
    topics_that_are_long_or_odd_wake_as_well,
    closed_signals_are_silent_and_never_raise,
)
