"""Processes are killed, frozen, and raced with, while clients work with them. `make crash` does it for longer."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.testing.rules import check
from clients import Clients
from crash import crash
from ledger import Told
from stage import Plan, Stage, staged
from upstream import pause_s, words

KILLS = 8
RACES = 24


@pytest.fixture
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Plan]:
    """A plan for one process on SQLite, or for several on PostgreSQL."""

    def made(processes: int, **more: object) -> Plan:
        url = request.getfixturevalue("postgres_url") if processes > 1 else ""
        return Plan(tmp_path, processes=processes, database_url=url, **more)

    return made


@pytest.mark.parametrize("processes", [1, 3])
async def test_nothing_is_lost_or_done_twice_while_processes_are_killed(
    plan: Callable[..., Plan], processes: int
) -> None:
    found = await crash(plan(processes, kills=KILLS, seed=20261126))
    assert found.problems == []
    assert found.figures["kills"] == KILLS
    assert found.stage.clients.ledger.requests > 100
    assert Counter(kept["status"] for kept in found.kept.values())["completed"] > 20


async def stream_of(stage: Stage, told: Told, number: int) -> bytes:
    """The stream as a process tells it now; it keeps the rules, and what was told is its beginning."""
    root = stage.fleet.members[number].root
    async with stage.clients.session.get(f"{root}/v1/responses/{told.id}?stream=true") as answer:
        raw = await answer.read()
    frames = [frame.partition(b"data: ")[2].strip() for frame in check(raw).frames]
    assert frames[: len(told.frames)] == told.frames
    return raw


def slow(stage: Stage) -> Told:
    """A response that the model takes its time for."""
    while True:
        told = stage.clients.ledger.new("slow")
        if len(words(told.tag)) > 9 and pause_s(told.tag) > 0.02:
            return told


async def test_a_process_that_was_frozen_beyond_its_lease_changes_nothing_any_more(plan: Callable[..., Plan]) -> None:
    """Its own client, who waited for it, is told what another made meanwhile."""
    async with staged(plan(2, lease_s=1)) as stage:
        fleet, clients = stage.fleet, stage.clients
        frozen, other = fleet.members
        other.ready = False  # to the balancer
        told = slow(stage)
        body = clients.wanted(told, compacted=0, stream=True)
        seen = asyncio.ensure_future(clients.stream(told, "POST", "/responses", body=body))
        async with asyncio.timeout(10):
            while len(told.frames) < 6:  # noqa: ASYNC110
                await asyncio.sleep(0)
        fleet.freeze(frozen)
        frozen.ready, other.ready = False, True
        follower = Told(told.tag, "follower", id=told.id)
        await clients.follow(follower)
        fleet.thaw(frozen)
        assert await seen
        assert (told.frames, told.final) == (follower.frames, follower.final)
        assert told.final is not None
        assert told.final["status"] == "completed"
        assert await stream_of(stage, told, 0) == await stream_of(stage, told, 1)
        assert await stage.count("SELECT COUNT(*) FROM runs") == 0
        assert [call.process for call in stage.upstream.calls if call.tag == told.tag] == [0, 1]
        logs = [line for number in (0, 1) for line in fleet.log(number).read_text().splitlines()]
        assert [line for line in logs if '"level":"error","logger":"antiphon' in line or "ASGI" in line] == []
    assert clients.ledger.problems == []


async def race(clients: Clients, part: float) -> Told:
    """A response that is cancelled twice at once, when so much of it is over, by whatever processes are met."""
    told = clients.ledger.new("race")
    told.cancelled = True
    body = clients.wanted(told, background=True, stream=True)
    reading = asyncio.ensure_future(clients.stream(told, "POST", "/responses", body=body))
    async with asyncio.timeout(20):
        while len(told.frames) < 1 + part * 18 and not reading.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
    answers = await asyncio.gather(*(clients.ask("POST", f"/responses/{told.id}/cancel") for _ in range(2)))
    assert await reading
    kept = (await clients.ask("GET", f"/responses/{told.id}")).json
    assert [answer.json for answer in answers] == [kept, kept]
    assert told.final == kept
    assert kept["status"] in ("cancelled", "completed")
    return told


@pytest.mark.parametrize("processes", [1, 2])
async def test_of_a_cancellation_and_a_completion_one_comes_first_and_everybody_sees_the_same(
    plan: Callable[..., Plan], processes: int
) -> None:
    async with staged(plan(processes)) as stage:
        raced = await asyncio.gather(*(race(stage.clients, number / RACES) for number in range(RACES)))
        for told in raced:
            assert await stream_of(stage, told, 0) == await stream_of(stage, told, processes - 1)
        assert {told.final["status"] for told in raced if told.final} == {"cancelled", "completed"}
        assert await stage.count("SELECT COUNT(*) FROM runs") == 0
    assert stage.clients.ledger.problems == []
