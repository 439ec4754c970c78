"""Runs from their beginning to their end."""

import pytest

from antiphon.engine.perform import fresh, warm_up
from antiphon.errors import NotFound


async def test_a_run_is_kept_and_ends_with_its_terminal_event(bench):
    bench = bench()
    events = await bench.events(input="hi")
    assert type(events[-1]).__struct_config__.tag == "response.completed"
    assert (await bench.engine.responses.get("me", events[-1].response.id)) == events[-1].response


async def warmed(bench, **body):
    run = await bench.prepared(**body)
    events = [event async for batch in warm_up(bench.engine, fresh(bench.engine, run, shown=True)) for event in batch]
    assert [type(event).__struct_config__.tag for event in events] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == [0, 1, 2]
    return events[-1].response


async def test_a_warm_up_is_kept_without_asking_the_model(bench):
    bench = bench()
    response = await warmed(bench, input="hi")
    assert await bench.engine.responses.get("me", response.id) == response
    assert (response.output, bench.provider.requests) == ([], [])
    assert len(await bench.engine.responses.history("me", response.id)) == 1


async def test_an_unstored_warm_up_leaves_no_row(bench):
    bench = bench()
    response = await warmed(bench, input="hi", store=False)
    with pytest.raises(NotFound):
        await bench.engine.responses.get("me", response.id)


async def test_a_warm_up_adds_its_input_to_its_conversation(bench):
    bench = bench()
    conversation = await bench.conversation()
    await warmed(bench, input="hi", conversation=conversation)
    assert len(await bench.engine.conversations.history("me", conversation)) == 1
    await bench.prepared(input="free again", conversation=conversation)
