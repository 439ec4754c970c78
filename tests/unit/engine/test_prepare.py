"""Everything that can be the client's fault is found before the run begins, and named."""

import pytest
from msgspec.structs import replace

from antiphon.engine.compact import SUMMARY_ID, trimmed
from antiphon.engine.prepare import prepare, prepare_count
from antiphon.engine.run import Caller, Recent
from antiphon.errors import ApiError, Conflict, InvalidRequest, NotFound, Unsupported
from antiphon.models.base import NO_ACCESS, CallArguments, CallStart, Choice, Finish, ModelRequest
from antiphon.testing.provider import Script, text
from antiphon.wire.items import ConfigurationUpdate, FunctionCall, FunctionCallOutput, InputText, Message, Reasoning

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
CALLS = Script([[CallStart(0, "c1", "f"), CallArguments(0, "{}"), Finish("calls")]])


def output(call_id: str) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": call_id, "output": "done"}


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        ({"model": None}, InvalidRequest, "model"),
        (
            {"model": "host/x", "conversation": "conv_1", "previous_response_id": "resp_1"},
            InvalidRequest,
            "previous_response_id",
        ),
        ({"stream_options": {"include_obfuscation": False}}, InvalidRequest, "stream_options"),
        ({"prompt": {"id": "pmpt_1"}}, NotFound, "prompt"),
        ({"background": True, "store": False}, InvalidRequest, "store"),
        ({"previous_response_id": "resp_missing"}, NotFound, "previous_response_id"),
        ({"input": [{"id": "msg_missing"}]}, NotFound, "input[0].id"),
        ({"input": 3}, InvalidRequest, "input"),
        ({"input": [{"role": "boss", "content": "hi"}]}, InvalidRequest, "input[0].role"),
        ({"input": [{"type": "novelty"}]}, InvalidRequest, "input[0].type"),
        ({"input": [output("c9")]}, InvalidRequest, "input[0]"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}]}, InvalidRequest, "input"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, InvalidRequest, "input[0].encrypted_content"),
        ({"input": [{"type": "compaction_trigger"}, {"role": "user", "content": "hi"}]}, InvalidRequest, "input[0]"),
        ({"input": [{"type": "configuration_update"}]}, Unsupported, "input[0]"),
        ({"input": []}, InvalidRequest, "input"),
        ({"input": "x" * 10_485_761}, InvalidRequest, "input"),
        ({"conversation": "conv_missing"}, NotFound, "conversation"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, InvalidRequest, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, InvalidRequest, "input[0].content[0]"),
        (
            {
                "input": [
                    {"type": "computer_call", "call_id": "c", "pending_safety_checks": []},
                    {
                        "type": "computer_call_output",
                        "call_id": "c",
                        "output": {"type": "computer_screenshot", "file_id": "f"},
                    },
                ]
            },
            NotFound,
            "input[1].output",
        ),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]},
            InvalidRequest,
            "input[0].encrypted_content",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
            NotFound,
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://x"}]}]},
            InvalidRequest,
            "input[0].content[0]",
        ),
        ({"tools": [{"type": "web_search"}]}, Unsupported, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "programmatic_tool_calling"}]}, Unsupported, "tools[1].type"),
        ({"tools": [{"type": "novelty"}]}, InvalidRequest, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, InvalidRequest, "tools[0].name"),
        ({"tools": [FUNCTION, FUNCTION]}, InvalidRequest, "tools[1]"),
        ({"tool_choice": "required"}, InvalidRequest, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "g"}, "tools": [FUNCTION]}, InvalidRequest, "tool_choice"),
        ({"tool_choice": {"type": "shell"}, "tools": [FUNCTION]}, InvalidRequest, "tool_choice"),
    ],
)
async def test_a_wrong_request_is_refused_naming_the_parameter(bench, body, kind, param):
    with pytest.raises(ApiError) as refused:
        await bench().prepared(**{"input": "hi", **body})
    assert isinstance(refused.value, kind)
    assert refused.value.param == param


@pytest.mark.parametrize("tool", ["web_search", "image_generation"])
async def test_a_tool_that_is_not_served_is_named(bench, tool):
    with pytest.raises(Unsupported, match=repr(tool)):
        await bench().prepared(input="hi", tools=[{"type": tool}])


async def test_limits_hold_at_the_limit_and_not_beyond(bench):
    bench = bench(input_items_max=2, tools_max=1)
    items = [{"role": "user", "content": "a"}] * 3
    await bench.prepared(input=items[:2], tools=[FUNCTION])
    with pytest.raises(InvalidRequest, match="At most 2 input items") as refused:
        await bench.prepared(input=items)
    assert refused.value.param == "input"
    with pytest.raises(InvalidRequest, match="At most 1 tools"):
        await bench.prepared(input=items[:1], tools=[FUNCTION, {"type": "shell"}])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("none", Choice(mode="none")),
        ("auto", Choice(mode="auto")),
        ("required", Choice(mode="required")),
        ({"type": "function", "name": "f"}, Choice(mode="required", names=("f",))),
        ({"type": "shell"}, Choice(mode="required", names=("shell",))),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}, {"type": "shell"}]},
            Choice(mode="auto", names=("f", "shell")),
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "find"}]},
            Choice(mode="required", names=("crm__find",)),
        ),
    ],
)
async def test_every_form_of_tool_choice_says_which_functions_may_be_called(bench, choice, expected):
    tools = [FUNCTION, {"type": "shell"}]
    tools += [{"type": "namespace", "name": "crm", "description": "d", "tools": [{**FUNCTION, "name": "find"}]}]
    run = await bench().prepared(input="hi", tools=tools, tool_choice=choice)
    assert run.request.choice == expected


async def test_a_string_is_a_users_message_with_an_id(bench):
    (item,) = (await bench().prepared(input="hi")).input
    assert (item.role, item.content, item.status) == ("user", [InputText(text="hi")], "completed")
    assert item.id.startswith("msg_")


async def test_defaults_are_filled_in(bench):
    response = (await bench().prepared(input="hi")).response
    assert (response.temperature, response.top_p, response.truncation, response.store) == (1.0, 1.0, "disabled", True)
    assert (response.status, response.output, response.error, response.created_at) == ("in_progress", [], None, 1000)


async def test_what_is_not_obeyed_is_named(bench):
    bench = bench()
    bench.provider.takes_not = ["prompt_cache_key"]
    run = await bench.prepared(
        input="hi",
        moderation={"model": "m"},
        reasoning={"summary": "auto", "context": "all_turns"},
        prompt_cache_key="k",
    )
    assert set(run.warnings) == {
        "moderation",
        "reasoning.summary",
        "reasoning.context",
        "prompt_cache_key",
    }


async def test_a_service_tier_that_the_host_is_not_told_is_not_claimed(bench):
    bench = bench()
    assert (await bench.prepared(input="hi", service_tier="flex")).response.service_tier == "flex"
    bench.provider.takes_not = ["service_tier"]
    assert (await bench.prepared(input="hi", service_tier="flex")).response.service_tier == "default"


async def test_in_strict_mode_what_would_not_be_obeyed_is_refused(bench):
    bench = bench()
    bench.engine = replace(bench.engine, strict=True)
    with pytest.raises(Unsupported, match="'moderation'") as refused:
        await bench.prepared(input="hi", moderation={"model": "m"})
    assert refused.value.param == "moderation"


async def test_a_chain_gives_the_model_all_that_was_said(bench):
    bench = bench(text("two"), text("four"), text("six"))
    first = await bench.response(input="one")
    second = await bench.response(input="three", previous_response_id=first.id)
    await bench.response(input="five", previous_response_id=second.id)
    assert bench.context() == ["one", "two", "three", "four", "five"]


async def test_a_chain_can_fork(bench):
    bench = bench(text("two"), text("left"), text("right"))
    first = await bench.response(input="one")
    await bench.response(input="l", previous_response_id=first.id)
    await bench.response(input="r", previous_response_id=first.id)
    assert bench.context() == ["one", "two", "r"]


async def test_instructions_are_not_inherited(bench):
    bench = bench()
    first = await bench.response(input="one", instructions="be brief")
    assert bench.asked().instructions == "be brief"
    await bench.response(input="two", previous_response_id=first.id)
    assert bench.asked().instructions is None


async def test_a_deleted_response_never_reaches_a_model_again(bench):
    bench = bench()
    first = await bench.response(input="one")
    second = await bench.response(input="two", previous_response_id=first.id)
    await bench.engine.responses.delete("me", first.id)
    with pytest.raises(NotFound, match=first.id) as refused:
        await bench.prepared(input="three", previous_response_id=second.id)
    assert refused.value.code == "previous_response_not_found"


async def test_a_reference_stands_for_the_stored_item(bench):
    bench = bench(text("two"))
    first = await bench.response(input="one")
    await bench.response(
        input=[{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "go on"}]
    )
    assert bench.context() == ["two", "go on"]


async def test_a_call_and_its_output_are_kept_together_along_a_chain(bench):
    bench = bench(CALLS, text("fine"), text("bye"))
    first = await bench.response(input="one", tools=[FUNCTION])
    second = await bench.response(input=[output("c1")], previous_response_id=first.id, tools=[FUNCTION])
    await bench.response(input="thanks", previous_response_id=second.id)
    kinds = [type(item).__name__ for item in bench.asked().items]
    assert kinds == ["Message", "FunctionCall", "FunctionCallOutput", "Message", "Message"]


async def test_a_call_without_its_output_is_refused(bench):
    bench = bench(CALLS)
    first = await bench.response(input="one", tools=[FUNCTION])
    with pytest.raises(InvalidRequest, match="No tool output found for function call c1"):
        await bench.prepared(input="two", previous_response_id=first.id)


async def test_a_call_id_that_comes_again_needs_its_own_output(bench):
    bench = bench(CALLS, CALLS)
    first = await bench.response(input="one", tools=[FUNCTION])
    second = await bench.response(input=[output("c1")], previous_response_id=first.id, tools=[FUNCTION])
    with pytest.raises(InvalidRequest, match="No tool output found for function call c1"):
        await bench.prepared(input="two", previous_response_id=second.id)
    await bench.prepared(input=[output("c1")], previous_response_id=second.id)


async def test_a_call_that_was_cut_off_is_left_out_of_the_context(bench):
    bench = bench(Script([[CallStart(0, "c1", "f"), CallArguments(0, '{"a'), Finish("length")]]), text("fine"))
    first = await bench.response(input="one", tools=[FUNCTION])
    assert first.output[0].status == "incomplete"
    await bench.response(input="two", previous_response_id=first.id)
    assert bench.context() == ["one", "two"]


async def test_sealed_reasoning_is_opened_for_the_model(bench):
    bench = bench()
    sealed = bench.engine.sealer.seal("hm")
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed}
    run = await bench.prepared(input=[thought, {"role": "user", "content": "so?"}])
    assert isinstance(run.request.items[0], Reasoning)
    assert run.request.items[0].content[0].text == "hm"


async def test_a_conversation_shows_the_model_every_item_however_it_came_there(bench):
    bench = bench(text("two"))
    conversation = await bench.conversation()
    await bench.response(input="one", conversation=conversation)
    added = Message(id="msg_added", role="user", content=[InputText(text="between")])
    await bench.engine.conversations.append("me", conversation, [added])
    await bench.response(input="three", conversation={"id": conversation})
    assert bench.context() == ["one", "two", "between", "three"]


async def test_an_item_in_a_conversation_that_cannot_be_honoured_is_refused(bench):
    bench = bench()
    conversation = await bench.conversation()
    await bench.engine.conversations.append("me", conversation, [ConfigurationUpdate(id="cfg_1")])
    with pytest.raises(Unsupported, match="'configuration_update'") as refused:
        await bench.prepared(input="hi", conversation=conversation)
    assert refused.value.param == "conversation"


async def test_an_item_that_the_history_has_already_is_refused(bench):
    bench = bench()
    first = await bench.response(input=[{"id": "msg_1", "role": "user", "content": "one"}])
    with pytest.raises(InvalidRequest, match="msg_1") as refused:
        await bench.prepared(
            input=[{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "two"}],
            previous_response_id=first.id,
        )
    assert (refused.value.param, refused.value.code) == ("input[0].id", "duplicate_item")


async def test_a_second_turn_on_a_conversation_is_refused_until_the_first_has_ended(bench):
    bench = bench()
    conversation = await bench.conversation()
    await bench.prepared(input="one", conversation=conversation)
    with pytest.raises(Conflict) as refused:
        await bench.prepared(input="two", conversation=conversation)
    assert refused.value.code == "conversation_locked"


async def test_a_request_that_is_refused_leaves_its_conversation_free(bench):
    bench = bench()
    conversation = await bench.conversation()
    with pytest.raises(InvalidRequest):
        await bench.prepared(input=[output("c9")], conversation=conversation)
    await bench.prepared(input="one", conversation=conversation)


async def test_nobody_elses_response_can_be_continued(bench):
    bench = bench()
    first = await bench.response(input="one")
    with pytest.raises(NotFound):
        await bench.engine.responses.history("somebody else", first.id)


def said(role: str, words: str) -> Message:
    return Message(role=role, content=[InputText(text=words)])


def test_trimming_leaves_out_the_older_half_of_the_turns_and_keeps_what_is_said_to_the_model():
    items = [said("system", "s"), said("user", "a"), said("assistant", "b"), said("user", "c"), said("user", "d")]
    once = trimmed(ModelRequest(model="m", items=items))
    assert [item.content[0].text for item in once.items] == ["s", "d"]
    assert trimmed(once) is None


def test_trimming_keeps_the_summary_of_what_was_compacted():
    summary = replace(said("user", "sum"), id=SUMMARY_ID)
    once = trimmed(ModelRequest(model="m", items=[summary, said("user", "a"), said("user", "b")]))
    assert [item.content[0].text for item in once.items] == ["sum", "b"]
    assert trimmed(once) is None


def test_trimming_leaves_no_output_without_its_call():
    call = FunctionCall(call_id="c", name="f", arguments="{}")
    items = [said("user", "a"), call, said("user", "b"), FunctionCallOutput(call_id="c", output="1")]
    assert trimmed(ModelRequest(model="m", items=items)).items == [items[2]]


def remembered(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(id=f"msg_{text}", role="user", content=[InputText(text=text)]) for text in texts)


@pytest.mark.parametrize("counted", [False, True])
async def test_a_caller_may_continue_what_only_it_remembers(bench, counted):
    bench = bench(text("two"))
    stored = await bench.response(input="one")
    recent = {"resp_here": Recent(items=remembered("three", "four"), stored=stored.id)}
    create = bench.create(input="five", previous_response_id="resp_here")
    caller = Caller(owner="me", access=NO_ACCESS, seed=b"", recent=recent)
    if counted:
        request = await prepare_count(bench.engine, create, caller)
    else:
        run = await prepare(bench.engine, create, caller)
        assert run.response.previous_response_id == "resp_here"
        request = run.request
    assert [item.content[0].text for item in request.items] == ["one", "two", "three", "four", "five"]


async def test_what_is_remembered_goes_no_further_than_what_it_rests_on(bench):
    bench = bench()
    recent = {"resp_here": Recent(items=remembered("three"), stored="resp_deleted")}
    create = bench.create(input="five", previous_response_id="resp_here")
    with pytest.raises(NotFound) as raised:
        await prepare(bench.engine, create, Caller(owner="me", access=NO_ACCESS, seed=b"", recent=recent))
    assert "'resp_deleted'" in str(raised.value)


async def test_what_is_remembered_is_context_by_itself(bench):
    bench = bench()
    create = bench.create(input="two", previous_response_id="resp_here")
    caller = Caller(owner="me", access=NO_ACCESS, seed=b"", recent={"resp_here": Recent(items=remembered("one"))})
    run = await prepare(bench.engine, create, caller)
    assert [item.content[0].text for item in run.request.items] == ["one", "two"]
