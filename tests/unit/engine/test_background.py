"""Workers: which runs begin, and what becomes of those of the dead."""

import asyncio

import pytest

from antiphon.engine.background import Worker, due
from antiphon.engine.record import enqueue
from antiphon.errors import RateLimited
from antiphon.limits import Background
from antiphon.stores.runs import Queued
from antiphon.stores.workers import Workers


def waiting(*places: str) -> list[Queued]:
    """Runs that wait, as `owner/host`."""
    return [
        Queued(owner=place.partition("/")[0], id=str(number), host=place.partition("/")[2])
        for number, place in enumerate(places)
    ]


@pytest.mark.parametrize(
    ("limits", "running", "places", "free", "chosen"),
    [
        ({}, {}, ["a/x", "a/x", "b/y"], 9, "012"),
        ({}, {}, ["a/x", "a/x", "b/y"], 2, "01"),
        ({}, {}, ["a/x"], 0, ""),
        ({"per_owner_max": 1}, {}, ["a/x", "a/x", "b/y", "b/x"], 9, "02"),
        ({"per_host_max": 1}, {}, ["a/x", "a/x", "b/y", "b/x"], 9, "02"),
        ({"per_owner_max": 2}, {("a", "x"): 1, ("a", "y"): 1}, ["a/x", "b/x"], 9, "1"),
        ({"per_host_max": 2}, {("a", "x"): 1, ("b", "x"): 1}, ["c/x", "c/y"], 9, "1"),
    ],
)
def test_the_longest_waiting_begin_while_there_is_room(limits, running, places, free, chosen):
    begun = due(waiting(*places), running, limits=Background(**limits), free=free)
    assert "".join(each.id for each in begun) == chosen


async def ended(bench, id):
    async with asyncio.timeout(5):
        while (response := await bench.engine.responses.get("me", id)).status in ("queued", "in_progress"):  # noqa: ASYNC110
            await asyncio.sleep(0)
    return response


async def test_a_worker_performs_what_waits_and_what_comes(bench):
    bench = bench()
    before = await enqueue(bench.engine, await bench.prepared(input="1", background=True))
    assert before.status == "queued"
    worker = Worker(bench.engine, Workers(bench.engine.runs._database, 60, bench.engine.runs.worker))
    await worker.start()
    assert (await ended(bench, before.id)).status == "completed"
    after = await enqueue(bench.engine, await bench.prepared(input="2", background=True))
    assert (await ended(bench, after.id)).status == "completed"
    assert await worker.close(1) == 0
    third = await enqueue(bench.engine, await bench.prepared(input="3", background=True))
    assert (await bench.engine.responses.get("me", third.id)).status == "queued"


async def test_what_a_dead_worker_had_is_performed_by_another(bench):
    bench = bench()
    database = bench.engine.runs._database
    run = await enqueue(bench.engine, await bench.prepared(input="1", background=True))
    dead = Workers(database, -1, "dead")
    await dead.beat()
    await database.execute("UPDATE runs SET worker = 'dead'")
    worker = Worker(bench.engine, Workers(database, 60, bench.engine.runs.worker))
    await worker.start()
    assert (await ended(bench, run.id)).status == "completed"
    assert await worker.close(1) == 0


async def test_a_queue_that_is_full_refuses_and_leaves_its_conversation_free(bench):
    bench = bench(background=Background(waiting_max=1))
    conversation = await bench.conversation()
    await enqueue(bench.engine, await bench.prepared(input="1", background=True))
    with pytest.raises(RateLimited) as full:
        await enqueue(bench.engine, await bench.prepared(input="2", background=True, conversation=conversation))
    assert (full.value.code, full.value.retry_after_s) == ("queue_full", 5)
    await bench.prepared(input="3", conversation=conversation)
