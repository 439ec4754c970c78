"""Tools that the server runs, in the loop: turns, side by side, failures, limits, and nothing run twice."""

import asyncio

import pytest

from antiphon.engine.follow import follow
from antiphon.engine.perform import perform, resume
from antiphon.engine.restore import restored
from antiphon.errors import NotFound, Unavailable
from antiphon.limits import TimeoutsConfig
from antiphon.models.base import CallArguments, CallStart, Finish, Tokens
from antiphon.testing.provider import HANG, Script, text
from antiphon.testing.tool import scripted_search
from antiphon.wire.events import event_type, frame
from antiphon.wire.items import FunctionCall, FunctionCallOutput

TOOL = {"type": "file_search", "vector_store_ids": ["a"]}
FUNCTION = {"type": "function", "name": "f", "parameters": {}}
FOUND = [("file-1", 0.9, "one"), ("file-2", 0.5, "two")]


def searching(*queries, also=(), finish="calls"):
    """A model that asks for these searches at once."""
    events = []
    for index, query in enumerate(queries):
        events += [CallStart(index, f"c{index}", "knowledge_search"), CallArguments(index, f'{{"query": "{query}"}}')]
    return Script([[*events, *also, Tokens(10, 20), Finish(finish)]])


def tools(**stores):
    return {"file_search": scripted_search(**stores)}


def types(events):
    return [event_type(event).removeprefix("response.") for event in events]


async def test_the_model_is_asked_again_with_what_was_found(bench):
    bench = bench(searching("q"), text("It is one <|file-1|>."), tools=tools(a=FOUND))
    events = await bench.events(input="hi", tools=[TOOL])
    assert types(events) == [
        *("created", "in_progress", "output_item.added", "file_search_call.in_progress", "file_search_call.searching"),
        *("file_search_call.completed", "output_item.done", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.annotation.added", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done", "completed"),
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    call, message = events[-1].response.output
    assert (call.queries, call.status, call.results, call.memory) == (["q"], "completed", None, None)
    assert message.content[0].text == "It is one."
    assert message.content[0].annotations == [
        {"type": "file_citation", "file_id": "file-1", "filename": "file-1.txt", "index": 9}
    ]
    asked = bench.asked().items
    assert [type(item) for item in asked[1:]] == [FunctionCall, FunctionCallOutput]
    assert asked[1].call_id == asked[2].call_id == "c0"
    assert "[1] document_id: file-1, score: 0.9" in asked[2].output[1].text
    assert events[-1].response.usage.total_tokens == 30


async def test_results_are_shown_to_who_asks_and_kept_for_all(bench):
    bench = bench(searching("q"), text("ok"), searching("q"), text("ok"), tools=tools(a=FOUND))
    shown = await bench.response(input="hi", tools=[TOOL], include=["file_search_call.results"])
    hidden = await bench.response(input="hi", tools=[TOOL])
    assert [result["text"] for result in shown.output[0].results] == ["one", "two"]
    assert hidden.output[0].results is None
    kept = (await bench.engine.responses.get("me", hidden.id)).output[0]
    assert (kept.results, kept.memory.call_id) == (shown.output[0].results, "c0")


async def test_the_next_turn_sees_the_search_the_citation_and_may_cite_again(bench):
    bench = bench(searching("q"), text("One <|file-1|>."), text("Two <|file-2|>."), tools=tools(a=FOUND))
    first = await bench.response(input="hi", tools=[TOOL])
    second = await bench.response(input="and?", previous_response_id=first.id)
    items = bench.asked().items
    assert [getattr(item, "role", item.__struct_config__.tag) for item in items] == [
        *("user", "function_call", "function_call_output", "assistant", "user")
    ]
    assert items[3].content[0].text == "One <|file-1|>."
    assert [note["file_id"] for note in second.output[0].content[0].annotations] == ["file-2"]


async def test_calls_of_one_turn_run_side_by_side_and_stand_together(bench):
    gates = [asyncio.Event(), asyncio.Event()]
    served = scripted_search(a=gates[0], b=gates[1])
    bench = bench(searching("x", "y"), text("ok"), tools={"file_search": served})
    stores = {"type": "file_search", "vector_store_ids": ["a", "b"]}
    working = asyncio.ensure_future(bench.events(input="hi", tools=[stores]))
    await served._search.searched(4)
    for gate in gates:
        gate.set()
    seen = await working
    assert types(seen).count("file_search_call.completed") == 2
    assert [event.item.status for event in seen if event_type(event).endswith("item.done")] == ["completed"] * 3
    assert [item.__struct_config__.tag for item in bench.asked().items[1:]] == [
        *("function_call", "function_call", "function_call_output", "function_call_output")
    ]


async def _until(batches, name, times):
    async for batch in batches:
        yield batch
        times -= types(batch).count(name)
        if times <= 0:
            return


@pytest.mark.parametrize(
    ("store", "arguments", "told"),
    [
        (Unavailable("The index is away."), '{"query": "q"}', "The search failed: The index is away."),
        (ZeroDivisionError("secret"), '{"query": "q"}', "The search failed: The server had an error while running it."),
        (FOUND, '{"quest": "q"}', "The search failed: The argument `query` is needed"),
        (FOUND, '{"query"', "The search failed: The arguments are not a JSON object"),
        (asyncio.Event(), '{"query": "q"}', "The search failed: It took longer than the 0.01 seconds"),
    ],
)
async def test_a_search_that_fails_is_told_to_the_model(bench, store, arguments, told):
    script = Script([[CallStart(0, "c", "knowledge_search"), CallArguments(0, arguments), Finish("calls")]])
    bench = bench(script, text("Sorry."), tools=tools(a=store), timeouts=TimeoutsConfig(tool_s=0.01))
    response = await bench.response(input="hi", tools=[TOOL])
    assert response.status == "completed"
    assert [item.status for item in response.output] == ["failed", "completed"]
    assert bench.asked().items[2].output.startswith(told)


async def test_a_mixed_turn_runs_the_servers_part_and_hands_over_the_clients(bench):
    theirs = [CallStart(1, "c1", "f"), CallArguments(1, "{}")]
    bench = bench(searching("q", also=theirs), text("ok"), tools=tools(a=FOUND))
    first = await bench.response(input="hi", tools=[TOOL, FUNCTION])
    assert [item.__struct_config__.tag for item in first.output] == ["file_search_call", "function_call"]
    assert len(bench.provider.requests) == 1
    output = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    await bench.response(input=[output], previous_response_id=first.id)
    assert [(item.call_id, item.__struct_config__.tag) for item in bench.asked().items[1:]] == [
        ("c0", "function_call"),
        ("c0", "function_call_output"),
        ("c1", "function_call"),
        ("c1", "function_call_output"),
    ]


async def test_calls_beyond_the_limit_are_as_if_never_made_and_the_tool_is_taken_away(bench):
    bench = bench(searching("x", "y"), text("ok"), tools=tools(a=FOUND))
    response = await bench.response(input="hi", tools=[TOOL, FUNCTION], max_tool_calls=1)
    assert [item.__struct_config__.tag for item in response.output] == ["file_search_call", "message"]
    assert [function.name for function in bench.asked().functions] == ["f"]


async def test_the_last_model_call_is_made_without_the_servers_tools(bench):
    bench = bench(*[searching("q")] * 2, text("ok"), tools=tools(a=FOUND), model_calls_max=3)
    response = await bench.response(input="hi", tools=[TOOL])
    assert [item.__struct_config__.tag for item in response.output] == ["file_search_call"] * 2 + ["message"]
    assert (len(bench.provider.requests), bench.asked().functions) == (3, ())


@pytest.mark.parametrize("more", [{}, {"max_tool_calls": 1}])
async def test_a_model_that_calls_tools_it_is_not_offered_is_not_asked_for_ever(bench, more):
    bench = bench(*(searching("q") for _ in range(9)), tools=tools(a=FOUND), model_calls_max=3)
    response = await bench.response(input="hi", tools=[TOOL], **more)
    assert (response.status, len(bench.provider.requests)) == ("incomplete", 3)


async def test_what_had_to_be_called_was_called(bench):
    bench = bench(searching("q"), text("ok"), tools=tools(a=FOUND))
    await bench.response(input="hi", tools=[TOOL], tool_choice={"type": "file_search"})
    first, second = (request for request, _ in bench.provider.requests)
    assert (first.choice.mode, first.choice.names, second.choice) == ("required", ("knowledge_search",), None)


async def test_the_limit_of_tokens_holds_for_all_turns_together(bench):
    bench = bench(searching("q"), text("ok"), searching("q"), tools=tools(a=FOUND))
    await bench.response(input="hi", tools=[TOOL], max_output_tokens=35)
    assert bench.asked().max_output_tokens == 15
    response = await bench.response(input="hi", tools=[TOOL], max_output_tokens=16)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [item.status for item in response.output] == ["completed"]


async def test_a_store_that_is_not_there_is_the_clients_error(bench):
    with pytest.raises(NotFound, match="vs_9"):
        await bench(tools=tools(a=FOUND)).prepared(input="hi", tools=[{**TOOL, "vector_store_ids": ["vs_9"]}])


async def test_cancelling_ends_the_search_as_incomplete(bench):
    served = scripted_search(a=HANG)
    bench = bench(searching("q"), tools={"file_search": served})
    run = await bench.prepared(input="hi", tools=[TOOL])
    seen = []

    async def watch():
        seen.extend([batch async for batch in perform(bench.engine, run, patience_s=None, shown=True)])

    working = asyncio.ensure_future(watch())
    await served._search.searched(1)
    await bench.engine.runs.cancel("me", run.response.id)
    bench.engine.signals.send(f"run:{run.response.id}")
    await working
    rest = seen[-1]
    assert types(rest) == ["output_item.done", "cancelled"]
    assert rest[0].item.status == "incomplete"


async def test_a_run_that_is_taken_over_asks_for_nothing_twice(bench):
    served = scripted_search(a=HANG)
    bench = bench(searching("q"), text("ok"), tools={"file_search": served})
    run = await bench.prepared(input="hi", tools=[TOOL])
    events = perform(bench.engine, run, patience_s=None, shown=True)
    before = [event async for batch in _until(events, "file_search_call.searching", 1) for event in batch]
    await events.aclose()
    served._search.stores["a"] = FOUND
    assert await bench.engine.runs.claim("me", run.response.id)
    row = await bench.engine.runs.find("me", run.response.id)
    progress = await restored(bench.engine, "me", run.response.id, row=row)
    after = [event async for batch in resume(bench.engine, progress) for event in batch]
    assert [event.sequence_number for event in [*before, *after]] == list(range(len(before) + len(after)))
    assert len(bench.provider.requests) == 2
    assert [item.status for item in after[-1].response.output] == ["completed", "completed"]
    assert len(served._search.asked) == 1


async def test_a_call_that_may_have_taken_effect_is_not_made_again(bench):
    served = scripted_search(a=HANG)
    served.idempotent = False
    bench = bench(searching("q"), text("ok"), tools={"file_search": served})
    run = await bench.prepared(input="hi", tools=[TOOL])
    events = perform(bench.engine, run, patience_s=None, shown=True)
    async for _ in _until(events, "file_search_call.searching", 1):
        pass
    await events.aclose()
    assert await bench.engine.runs.claim("me", run.response.id)
    row = await bench.engine.runs.find("me", run.response.id)
    progress = await restored(bench.engine, "me", run.response.id, row=row)
    after = [event async for batch in resume(bench.engine, progress) for event in batch]
    assert [item.status for item in after[-1].response.output] == ["failed", "completed"]
    assert served._search.asked == []


async def test_a_finished_search_is_not_run_again_by_who_takes_over(bench):
    served = scripted_search(a=FOUND)
    bench = bench(searching("q"), text("ok <|file-1|>"), tools={"file_search": served})
    run = await bench.prepared(input="hi", tools=[TOOL])
    events = perform(bench.engine, run, patience_s=None, shown=True)
    before = [event async for batch in _until(events, "file_search_call.completed", 1) for event in batch]
    await events.aclose()
    assert await bench.engine.runs.claim("me", run.response.id)
    row = await bench.engine.runs.find("me", run.response.id)
    progress = await restored(bench.engine, "me", run.response.id, row=row)
    after = [event async for batch in resume(bench.engine, progress) for event in batch]
    assert [event.sequence_number for event in [*before, *after]] == list(range(len(before) + len(after)))
    assert (len(bench.provider.requests), len(served._search.asked)) == (2, 1)
    assert after[-1].response.output[1].content[0].annotations[0]["file_id"] == "file-1"


@pytest.mark.parametrize("include", [[], ["file_search_call.results"]])
async def test_the_stream_can_be_seen_again_to_the_byte(bench, include):
    bench = bench(searching("x", "y"), text("One <|fi", "le-1|>."), tools=tools(a=FOUND))
    events = await bench.events(input="hi", tools=[TOOL], include=include)
    again = [event async for batch in follow(bench.engine, "me", events[-1].response.id) for event in batch]
    assert [frame(event) for event in again] == [frame(event) for event in events]


async def test_a_search_that_a_client_sends_back_is_told_again(bench):
    bench = bench(text("ok"), tools=tools(a=FOUND))
    sent = {
        "type": "file_search_call",
        "id": "fs_1",
        "queries": ["q"],
        "status": "completed",
        "memory": {"call_id": "x"},
    }
    results = [{"file_id": "file-1", "filename": "a.txt", "score": 0.5, "text": "one", "attributes": {}}]
    await bench.response(input=[{"role": "user", "content": "hi"}, sent | {"results": results}])
    _, call, output = bench.asked().items
    assert (call.name, call.arguments, call.call_id) == ("knowledge_search", '{"query":"q"}', "fs_1")
    assert "one" in output.output[1].text
