"""The loop: whatever happens, exactly one end."""

import asyncio

import pytest
from msgspec.structs import replace

from antiphon.engine.perform import perform, resume
from antiphon.engine.restore import restored
from antiphon.errors import ContextTooLong, RateLimited, Upstream, UpstreamRejected
from antiphon.models.base import CallArguments, CallStart, Finish, Text
from antiphon.testing.provider import HANG, Script, text
from antiphon.wire.events import event_type
from antiphon.wire.items import Compaction
from antiphon.wire.responses import ListQuery

SAID = [{"role": role, "content": "hi"} for role in ("user", "assistant", "user")]


def types(events):
    return [event_type(event) for event in events]


async def test_a_rejection_before_the_first_event_is_the_clients_http_error(bench):
    bench = bench(UpstreamRejected("Slow down.", status=429, retry_after_s=7))
    with pytest.raises(UpstreamRejected) as refused:
        await bench.events(input="hi")
    assert (refused.value.status, refused.value.retry_after_s) == (429, 7)
    assert (await bench.engine.responses.list("me", ListQuery())).data == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Upstream("The host broke off."), "server_error"),
        (UpstreamRejected("Slow down.", status=429), "rate_limit_exceeded"),
        (RateLimited("Slow down."), "rate_limit_exceeded"),
        (UpstreamRejected("Bad picture.", status=400), "invalid_prompt"),
    ],
)
async def test_what_breaks_in_the_middle_ends_as_one_failed_event_with_what_came(bench, error, code):
    bench = bench(Script([[Text("half")], error]))
    events = await bench.events(input="hi")
    response = events[-1].response
    assert types(events).count("response.failed") == 1
    assert (response.status, response.error.code, response.error.message) == ("failed", code, error.message)
    stored = await bench.engine.responses.get("me", response.id)
    assert stored == response
    assert stored.output[0].content[0].text == "half"


async def test_a_bug_of_ours_ends_as_failed_without_detail(bench, caplog):
    bench = bench(Script([[Text("half")], ZeroDivisionError("secret detail")]))
    response = await bench.response(input="hi")
    assert response.status == "failed"
    assert "secret" not in response.error.message
    assert "secret detail" in caplog.text


async def test_a_late_rejection_is_an_event_once_patience_is_over(bench):
    bench = bench()
    gate = asyncio.Event()

    async def slow(*_):
        await gate.wait()
        raise UpstreamRejected("Slow down.", status=429)

    bench.provider.open = slow
    batches = perform(bench.engine, await bench.prepared(input="hi"), patience_s=0, shown=True)
    assert types(await anext(batches)) == ["response.created", "response.in_progress"]
    gate.set()
    last = await anext(batches)
    assert last[-1].response.error.code == "rate_limit_exceeded"


async def test_closing_the_stream_gives_up_the_model_call(bench):
    bench = bench(Script([[Text("half")], HANG]))
    run = await bench.prepared(input="hi", store=False)
    batches = perform(bench.engine, run, patience_s=None, shown=True)
    await anext(batches)
    await anext(batches)
    await batches.aclose()
    assert len(bench.provider.aborted) == 1


async def test_closing_the_stream_gives_up_the_summary_that_is_being_made(bench):
    bench = bench(Script([[Text("half")], HANG]))
    run = await bench.prepared(input=[*SAID, {"type": "compaction_trigger"}], store=False)
    batches = perform(bench.engine, run, patience_s=None, shown=True)
    assert types(await anext(batches)) == ["response.created", "response.in_progress"]
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await batches.aclose()
    assert len(bench.provider.aborted) == 1


async def test_a_run_that_is_taken_over_after_its_context_was_compacted_does_not_ask_for_the_summary_again(bench):
    bench = bench(text("sum"), Script([[Text("half")], HANG]), text("whole"))
    run = replace(await bench.prepared(input=SAID), compact_threshold=1)
    batches = perform(bench.engine, run, patience_s=None, shown=True)
    shown = [each for _ in range(3) for each in await anext(batches)]
    await batches.aclose()
    engine, id = bench.engine, run.response.id
    assert await engine.runs.claim("me", id)
    taken = await restored(engine, "me", id, row=await engine.runs.find("me", id))
    assert taken.run.compact_threshold == 1
    rest = [each async for batch in resume(engine, taken) for each in batch]
    assert [event.sequence_number for event in [*shown, *rest]] == list(range(len(shown) + len(rest)))
    assert [type(item).__name__ for item in rest[-1].response.output] == ["Compaction", "Message", "Message"]
    assert len(bench.provider.requests) == 3
    assert len(bench.asked().items) == 2
    assert "sum" in bench.context()[0]


async def test_what_fails_after_the_context_was_compacted_leaves_the_item(bench):
    bench = bench(text("sum"), UpstreamRejected("Slow down.", status=429))
    run = replace(await bench.prepared(input=SAID), compact_threshold=1)
    events = [each async for batch in perform(bench.engine, run, patience_s=None, shown=True) for each in batch]
    response = events[-1].response
    assert (response.status, response.error.code) == ("failed", "rate_limit_exceeded")
    assert [type(item) for item in response.output] == [Compaction]


async def test_with_truncation_auto_older_turns_are_left_out_until_the_host_takes_it(bench):
    too_long = ContextTooLong("Too long.")
    bench = bench(text("two"), text("four"), too_long, text("six"))
    first = await bench.response(input="one")
    second = await bench.response(input="three", previous_response_id=first.id)
    third = await bench.response(input="five", previous_response_id=second.id, truncation="auto")
    assert third.status == "completed"
    assert bench.context() == ["five"]


async def test_without_truncation_a_context_that_is_too_long_is_the_clients_error(bench):
    with pytest.raises(ContextTooLong):
        await bench(ContextTooLong("Too long.")).response(input="hi")


async def test_calls_are_returned_and_the_response_is_complete(bench):
    bench = bench(Script([[CallStart(0, "c1", "f"), CallArguments(0, "{}")], [Finish("calls")]]))
    response = await bench.response(input="hi", tools=[{"type": "function", "name": "f"}])
    assert response.status == "completed"
    assert (response.output[0].name, response.output[0].call_id) == ("f", "c1")


async def test_what_the_model_says_last_is_handed_on_with_the_end(bench):
    bench = bench(Script([[Text("first ")], [Text("last"), Finish("stop")]]))
    batches = perform(bench.engine, await bench.prepared(input="hi"), patience_s=None, shown=True)
    handed_on = [types(batch) async for batch in batches]
    assert [len(batch) for batch in handed_on[:2]] == [2, 3]
    assert handed_on[2] == [
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
