"""Workers: which runs begin, and what becomes of those of the dead."""

import asyncio

import pytest

from antiphon.engine.background import Worker, due
from antiphon.engine.perform import go_on
from antiphon.engine.record import enqueue
from antiphon.errors import RateLimited, RunLost
from antiphon.limits import Background
from antiphon.models.base import Finish, Text
from antiphon.stores.runs import Queued
from antiphon.stores.signals import QUEUE
from antiphon.stores.workers import Workers
from antiphon.testing.provider import HANG, Script, text


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


async def until(true):
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_run_that_was_lost_and_came_back_is_left_by_one_attempt_before_the_next(bench):
    """Frozen, given up, taken over by another that died: the worker's name alone does not tell its attempts apart."""
    half = Script([[Text("half")], HANG])
    bench = bench(half, text("whole"))
    runs = bench.engine.runs
    run = await enqueue(bench.engine, await bench.prepared(input="1", background=True))
    worker = Worker(bench.engine, Workers(runs._database, 60, runs.worker))
    await worker.start()
    await until(lambda: bench.provider.requests)
    await runs._database.execute("UPDATE runs SET worker = NULL")
    assert not await runs.claim("me", run.id)
    bench.engine.signals.send(QUEUE)
    response = await ended(bench, run.id)
    assert (response.status, response.output[-1].content[0].text) == ("completed", "whole")
    assert (len(bench.provider.requests), bench.provider.aborted) == (2, [half])
    await until(lambda: not runs.live)
    await worker.close(1)


async def test_a_run_counts_as_worked_on_from_its_claim_to_its_end(bench):
    bench = bench()
    runs = bench.engine.runs
    first, second = [
        (await enqueue(bench.engine, await bench.prepared(input=said, background=True))).id for said in "12"
    ]
    assert await runs.claim("me", first)
    assert not await runs.claim("me", first)
    assert not await runs.claim("me", "resp_none")
    assert runs.live == {first}
    await runs.release("me", first)
    assert runs.live == set()
    assert await runs.claim("me", second)
    await bench.engine.responses.delete("me", second)
    with pytest.raises(RunLost):
        await go_on(bench.engine, "me", second)
    assert runs.live == set()


async def test_a_response_that_is_deleted_while_it_is_made_is_no_error(bench, caplog):
    gate = asyncio.Event()
    bench = bench(Script([[Text("half")], gate, [Text("more"), Finish("stop")]]))
    run = await enqueue(bench.engine, await bench.prepared(input="1", background=True))
    worker = Worker(bench.engine, Workers(bench.engine.runs._database, 60, bench.engine.runs.worker))
    await worker.start()
    await until(lambda: bench.provider.requests)
    await bench.engine.responses.delete("me", run.id)
    gate.set()
    await until(lambda: not bench.engine.runs.live)
    await worker.close(1)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
