"""Following a response: the same events, wherever one begins."""

import asyncio

import pytest

from antiphon.engine.follow import follow
from antiphon.engine.perform import perform
from antiphon.errors import NotFound
from antiphon.models.base import Finish, Text
from antiphon.testing.provider import Script, text
from antiphon.wire.events import ErrorEvent


async def followed(bench, id, after=-1):
    return [event async for batch in follow(bench.engine, "me", id, after=after) for event in batch]


async def test_an_ended_response_shows_the_events_that_it_had_from_anywhere_on(bench):
    bench = bench(text("one", "two"))
    events = await bench.events(input="hi")
    for after in range(-1, len(events)):
        assert await followed(bench, events[0].response.id, after) == events[after + 1 :]


async def test_a_follower_of_a_live_response_sees_it_grow(bench):
    gate = asyncio.Event()
    bench = bench(Script([[Text("one")], gate, [Text("two")], [Finish("stop")]]))
    run = await bench.prepared(input="hi")
    own = perform(bench.engine, run, patience_s=None, shown=False)
    events = [*await anext(own), *await anext(own)]
    follower = follow(bench.engine, "me", run.response.id)
    seen = [*await anext(follower)]
    assert seen == events[:2]
    rest = asyncio.ensure_future(anext(follower))  # asks for what was not kept so far, since nobody saw it
    seen += await asyncio.wait_for(rest, 5)
    assert seen == events
    gate.set()
    events += [event async for batch in own for event in batch]
    seen += [event async for batch in follower for event in batch]
    assert seen == events


async def test_a_response_that_is_deleted_ends_its_followers_stream_with_an_error(bench):
    bench = bench(Script([[Text("one")], asyncio.Event()]))
    run = await bench.prepared(input="hi")
    own = perform(bench.engine, run, patience_s=None, shown=True)
    await anext(own)
    follower = follow(bench.engine, "me", run.response.id)
    await anext(follower)
    await bench.engine.responses.delete("me", run.response.id)
    bench.engine.signals.send(run.response.id)
    last = await asyncio.wait_for(anext(follower), 5)
    assert [type(event) for event in last] == [ErrorEvent]
    await own.aclose()


async def test_what_is_not_there_cannot_be_followed(bench):
    with pytest.raises(NotFound):
        await followed(bench(), "resp_none")
