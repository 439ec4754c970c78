"""The recorder: nothing is announced that is not kept."""

import pytest
from msgspec.structs import replace

from antiphon.engine.perform import perform
from antiphon.engine.record import enqueue
from antiphon.errors import Conflict, NotFound, RunLost, Unavailable, Upstream
from antiphon.models.base import Finish, Text
from antiphon.stores.responses import Responses
from antiphon.testing.provider import Script, text


async def items_of(bench, conversation):
    return [
        "".join(part.text for part in item.content)
        for item in await bench.engine.conversations.history("me", conversation)
    ]


async def test_a_response_can_be_retrieved_before_its_first_event_is_seen(bench):
    bench = bench()
    run = await bench.prepared(input="hi")
    batches = perform(bench.engine, run, patience_s=None, shown=True)
    await anext(batches)
    assert (await bench.engine.responses.get("me", run.response.id)).status == "in_progress"
    await batches.aclose()


async def test_store_false_leaves_no_row_and_adds_nothing_to_the_conversation(bench):
    bench = bench()
    conversation = await bench.conversation()
    response = await bench.response(input="hi", store=False, conversation=conversation)
    assert response.status == "completed"
    with pytest.raises(NotFound):
        await bench.engine.responses.get("me", response.id)
    assert await items_of(bench, conversation) == []
    await bench.prepared(input="free again", conversation=conversation)


async def test_a_completed_turn_is_appended_once_and_in_order(bench):
    bench = bench(text("two"), text("four"))
    conversation = await bench.conversation()
    await bench.response(input="one", conversation=conversation)
    await bench.response(input="three", conversation=conversation)
    assert await items_of(bench, conversation) == ["one", "two", "three", "four"]


async def test_an_incomplete_turn_is_appended_and_a_failed_one_is_not(bench):
    bench = bench(Script([[Text("cut"), Finish("length")]]), Script([[Text("x")], Upstream("gone")]), text("ok"))
    conversation = await bench.conversation()
    assert (await bench.response(input="one", conversation=conversation)).status == "incomplete"
    assert (await bench.response(input="lost", conversation=conversation)).status == "failed"
    assert (await bench.response(input="two", conversation=conversation)).status == "completed"
    assert await items_of(bench, conversation) == ["one", "cut", "two", "ok"]


class FullDisk(Responses):
    """Responses that can begin and fail, and never complete."""

    async def finish(self, owner, response, journal, *, turn=None, ended=None):
        if response.status != "failed":
            raise Unavailable("The disk is full.")
        await super().finish(owner, response, journal, turn=turn, ended=ended)


async def test_a_response_that_cannot_be_stored_failed_and_leaves_its_conversation_free(bench):
    bench = bench()
    conversation = await bench.conversation()
    engine = bench.engine
    bench.engine = replace(engine, responses=FullDisk(engine.responses._database))
    response = await bench.response(input="hi", conversation=conversation)
    assert response.status == "failed"
    assert "could not be stored" in response.error.message
    assert (await engine.responses.get("me", response.id)).status == "failed"
    assert await items_of(bench, conversation) == []
    bench.engine = engine
    assert (await bench.response(input="again", conversation=conversation)).status == "completed"


class LostConnection(Responses):
    """Responses whose end is stored, and whose database cannot say so."""

    async def finish(self, owner, response, journal, *, turn=None, ended=None):
        await super().finish(owner, response, journal, turn=turn, ended=ended)
        raise Unavailable("The connection was lost.")


async def test_an_end_that_was_stored_after_all_is_no_failure(bench):
    bench = bench()
    bench.engine = replace(bench.engine, responses=LostConnection(bench.engine.responses._database))
    response = await bench.response(input="hi")
    assert response.status == "completed"
    assert await bench.engine.responses.get("me", response.id) == response


class TakenMeanwhile(Responses):
    """Responses whose run another worker ends in the moment before this one does, with another answer."""

    async def finish(self, owner, response, journal, *, turn=None, ended=None):
        await self._database.execute("UPDATE responses SET status = 'completed', journal = ?", (b"another's",))
        await self._database.execute("DELETE FROM runs")
        await super().finish(owner, response, journal, turn=turn, ended=ended)


async def test_an_end_that_another_worker_stored_is_not_this_ones(bench):
    bench = bench()
    bench.engine = replace(bench.engine, responses=TakenMeanwhile(bench.engine.responses._database))
    with pytest.raises(RunLost):
        await bench.response(input="hi")


@pytest.mark.parametrize("background", [False, True])
async def test_a_turn_whose_claim_was_given_to_another_does_not_begin(bench, background):
    """Its process was frozen between the claim and its first commit."""
    bench = bench()
    conversation = await bench.conversation()
    run = await bench.prepared(input="late", conversation=conversation, background=background)
    await bench.engine.conversations.release("me", conversation, run.response.id)
    other = await bench.prepared(input="first", conversation=conversation)
    with pytest.raises(Conflict) as late:
        await (
            enqueue(bench.engine, run) if background else anext(perform(bench.engine, run, patience_s=None, shown=True))
        )
    assert late.value.code == "conversation_locked"
    with pytest.raises(NotFound):
        await bench.engine.responses.get("me", run.response.id)
    assert [batch async for batch in perform(bench.engine, other, patience_s=None, shown=True)]
    assert len(await bench.engine.conversations.history("me", conversation)) == 2
