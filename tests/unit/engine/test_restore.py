"""A run as it is stored and made again."""

from msgspec.structs import replace

from antiphon.engine.prepare import prepare
from antiphon.engine.record import enqueue
from antiphon.engine.restore import kept, restored
from antiphon.engine.run import Caller
from antiphon.models.base import Access
from antiphon.stores.runs import RunRow


async def again(bench, run):
    await enqueue(bench.engine, run)
    row = await bench.engine.runs.find(run.owner, run.response.id)
    return await restored(bench.engine, run.owner, run.response.id, row=row)


async def test_what_was_prepared_is_what_is_restored(bench):
    bench = bench()
    first = await bench.response(input="one")
    run = await bench.prepared(
        input=[{"role": "user", "content": "two"}],
        previous_response_id=first.id,
        background=True,
        instructions="Be brief.",
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        tool_choice="required",
        text={"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low"},
        temperature=0.5,
    )
    progress = await again(bench, run)
    assert progress.run == replace(run, request=replace(run.request, items=progress.run.request.items))
    assert list(progress.run.request.items) == list(run.request.items)
    assert progress.emitter.number == 1


async def test_the_clients_keys_are_stored_encrypted_and_come_back(bench):
    bench = bench()
    access = Access(key="sk-secret-of-the-client", keys={"openai_api_key": "sk-other-secret"})
    run = await prepare(
        bench.engine, bench.create(input="x", background=True), Caller(owner="me", access=access, seed=b"")
    )
    stored = kept(bench.engine, run)
    assert b"secret" not in stored
    restored_access = (await again(bench, run)).run.access
    assert (restored_access.key, restored_access.keys) == (access.key, access.keys)


async def test_a_run_whose_context_is_gone_is_told_to_fail_and_why(bench):
    bench = bench()
    first = await bench.response(input="one")
    run = await bench.prepared(input="two", previous_response_id=first.id, background=True)
    await enqueue(bench.engine, run)
    await bench.engine.responses.delete("me", first.id)
    row = await bench.engine.runs.find("me", run.response.id)
    progress = await restored(bench.engine, "me", run.response.id, row=row)
    assert progress.control._stop.why == "fail"
    assert first.id in progress.control._stop.message


async def test_one_that_was_cancelled_or_tried_too_often_is_told_so(bench):
    bench = bench()
    run = await bench.prepared(input="x", background=True)
    await enqueue(bench.engine, run)
    body = kept(bench.engine, run)
    for row, why in (
        (RunRow(host="host", body=body, cancelled=True, attempts=99), "cancel"),
        (RunRow(host="host", body=body, attempts=99), "fail"),
    ):
        progress = await restored(bench.engine, "me", run.response.id, row=row)
        assert progress.control._stop.why == why
