"""Cancelling, and who ends the run."""

import asyncio

import pytest

from antiphon.engine.cancel import cancel
from antiphon.engine.perform import perform
from antiphon.engine.record import enqueue
from antiphon.errors import NotFound
from antiphon.models.base import Text
from antiphon.testing.provider import HANG, Script


async def test_a_run_that_waits_is_ended_by_whoever_is_asked(bench):
    bench = bench()
    response = await enqueue(bench.engine, await bench.prepared(input="hi", background=True))
    assert (await cancel(bench.engine, "me", response.id)).status == "cancelled"
    assert bench.provider.requests == []
    assert await bench.engine.runs.waiting(9) == []


async def test_a_run_that_is_performed_is_ended_by_its_performer_and_keeps_what_was_said(bench):
    bench = bench(Script([[Text("half")], HANG]))
    run = await bench.prepared(input="hi")

    own = perform(bench.engine, run, patience_s=None, shown=True)
    await anext(own)
    await anext(own)
    last = asyncio.ensure_future(anext(own))
    await asyncio.sleep(0)
    response = await cancel(bench.engine, "me", run.response.id)
    assert (response.status, response.output[0].content[0].text) == ("cancelled", "half")
    assert (await last)[-1].response == response
    await own.aclose()
    assert len(bench.provider.aborted) == 1


async def test_a_run_whose_worker_does_not_obey_is_taken_from_it(bench, monkeypatch):
    monkeypatch.setattr("antiphon.engine.cancel.PATIENCE_S", 0)
    bench = bench()
    response = await enqueue(bench.engine, await bench.prepared(input="hi", background=True))
    await bench.engine.runs._database.execute("UPDATE runs SET worker = 'frozen'")
    assert (await cancel(bench.engine, "me", response.id)).status == "cancelled"


async def test_a_response_that_has_ended_stays_as_it_is(bench):
    bench = bench()
    done = await bench.response(input="hi")
    assert await cancel(bench.engine, "me", done.id) == done
    with pytest.raises(NotFound):
        await cancel(bench.engine, "me", "resp_none")
