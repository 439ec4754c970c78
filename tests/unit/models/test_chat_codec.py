"""Requests in the chat-completions dialect: items in, messages out."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import Unsupported
from antiphon.models.base import Choice, Function, ModelRequest
from antiphon.models.chat_codec import chat_request, left_out
from antiphon.presets import DEFAULT_QUIRKS, OPENAI_QUIRKS, PRESETS, Quirks
from antiphon.wire.items import Item, decode_items
from antiphon.wire.responses import JsonObjectFormat, JsonSchemaFormat, ReasoningConfig

PLAIN = Quirks(accepts=frozenset(), images=False)


def items(*given: dict[str, Any]) -> list[Item]:
    return decode_items(msgspec.json.encode(list(given)))


def messages(*given: dict[str, Any], quirks: Quirks = OPENAI_QUIRKS) -> list[dict[str, Any]]:
    body = chat_request(ModelRequest(model="m", items=items(*given)), quirks)
    return list(body["messages"])


def body(quirks: Quirks = OPENAI_QUIRKS, **fields: Any) -> dict[str, Any]:
    return chat_request(ModelRequest(model="m", items=items(user("hi")), **fields), quirks)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, value: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def chat_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(call_id: str, value: Any = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": value}


# ---------------------------------------------------------------- the frame


def test_a_request_is_streamed_and_asks_for_usage() -> None:
    assert body() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_usage_is_not_asked_of_a_host_that_does_not_take_the_option() -> None:
    assert "stream_options" not in body(PRESETS["mistral"].quirks)


def test_instructions_come_first() -> None:
    sent = body(instructions="Be brief.")["messages"]
    assert sent == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


def test_the_output_limit_has_the_hosts_name() -> None:
    assert body(max_output_tokens=5)["max_completion_tokens"] == 5
    assert body(DEFAULT_QUIRKS, max_output_tokens=5)["max_tokens"] == 5


def test_parameters_are_sent_only_if_given_and_zero_is_given() -> None:
    sent = body(temperature=0.0, top_p=0.5, presence_penalty=0.0)
    assert (sent["temperature"], sent["top_p"], sent["presence_penalty"]) == (0.0, 0.5, 0.0)
    assert "frequency_penalty" not in sent


def test_optional_parameters_are_sent_to_hosts_that_take_them() -> None:
    fields: dict[str, Any] = {
        "reasoning": ReasoningConfig(effort="low"),
        "verbosity": "high",
        "top_logprobs": 3,
        "extra": {"service_tier": "flex", "user": "u"},
    }
    sent = body(**fields)
    assert (sent["reasoning_effort"], sent["verbosity"], sent["service_tier"], sent["user"]) == (
        "low",
        "high",
        "flex",
        "u",
    )
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 3)
    assert set(body(PLAIN, **fields)) == {"model", "messages", "stream", "stream_options"}


def test_logprobs_without_alternatives() -> None:
    sent = body(logprobs=True, top_logprobs=0)
    assert sent["logprobs"] is True
    assert "top_logprobs" not in sent


def test_what_a_host_does_not_take_is_named_as_the_client_knows_it() -> None:
    request = ModelRequest(
        model="m",
        items=[],
        functions=(Function(name="f"),),
        choice=Choice(mode="required"),
        parallel_tool_calls=False,
        verbosity="low",
        reasoning=ReasoningConfig(effort="low"),
        extra={"service_tier": "flex"},
    )
    quirks = Quirks(accepts=frozenset(), parallel_tool_calls=False, tool_choice_required=False)
    assert left_out(request, quirks) == [
        "text.verbosity",
        "reasoning.effort",
        "service_tier",
        "parallel_tool_calls",
        "tool_choice",
    ]
    assert left_out(request, OPENAI_QUIRKS) == []


def test_the_tier_that_a_host_without_tiers_has_anyway_is_not_missed() -> None:
    request = ModelRequest(model="m", items=[], extra={"service_tier": "auto"})
    assert left_out(request, PLAIN) == []


def test_json_that_a_host_cannot_be_asked_for_is_named() -> None:
    request = ModelRequest(model="m", items=[], format=JsonObjectFormat())
    assert left_out(request, Quirks(json_object=False, json_schema=False)) == ["text.format"]
    assert left_out(request, Quirks(json_object=False)) == []


# ---------------------------------------------------------------- messages


def test_roles_keep_their_name_where_the_host_knows_it() -> None:
    given = [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}]
    assert [each["role"] for each in messages(*given)] == ["developer", "system"]
    assert [each["role"] for each in messages(*given, quirks=DEFAULT_QUIRKS)] == ["system", "system"]


def test_parts_of_a_user_message() -> None:
    content = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
        {"type": "input_image", "image_url": "https://host/x.png", "detail": "original"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
    ]
    assert messages(user(content))[0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://host/x.png", "detail": "high"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]


def test_text_parts_stay_parts_except_for_hosts_without_images() -> None:
    content = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages(user(content))[0]["content"] == parts
    assert messages(user(content), quirks=PLAIN)[0]["content"] == "a\nb"


def test_one_text_part_is_a_string_whatever_the_host() -> None:
    """The engine writes every message in parts, and a string is what all hosts take."""
    parts = [{"type": "input_text", "text": "a"}]
    assert [each["content"] for each in messages(user(parts), call("1"), output("1", parts))] == ["a", "", "a"]


def test_a_message_without_parts_is_empty_text() -> None:
    assert messages(user([]))[0]["content"] == ""


def test_what_the_assistant_said_is_one_string() -> None:
    content = [
        {"type": "output_text", "text": "I would,", "annotations": []},
        {"type": "refusal", "refusal": "but I cannot."},
    ]
    sent = messages({"type": "message", "role": "assistant", "content": content, "phase": "commentary"})
    assert sent == [{"role": "assistant", "content": "I would,\nbut I cannot."}]


@pytest.mark.parametrize(
    ("part", "quirks", "word"),
    [
        ({"type": "input_image", "image_url": "https://h/x.png"}, Quirks(image_urls=False), "data URL"),
        ({"type": "input_image", "image_url": "https://h/x.png"}, Quirks(images=False), "no images"),
        ({"type": "input_image", "file_id": "file_1"}, OPENAI_QUIRKS, "image_url"),
        ({"type": "input_file", "file_id": "file_1"}, OPENAI_QUIRKS, "file_data"),
        ({"type": "input_file", "file_data": "AAAA"}, Quirks(files=False), "no input_file"),
        ({"type": "input_audio", "input_audio": {"data": "A", "format": "mp3"}}, Quirks(audio=False), "input_audio"),
    ],
)
def test_content_that_a_host_cannot_be_sent_is_refused_by_name(part: dict[str, Any], quirks: Quirks, word: str) -> None:
    with pytest.raises(Unsupported, match=word):
        messages(user([part]), quirks=quirks)


# ---------------------------------------------------------------- calls


def test_calls_side_by_side_are_one_assistant_message_and_their_outputs_follow_in_call_order() -> None:
    sent = messages(user("q"), call("1"), call("2"), output("2", "two"), output("1", "one"))
    assert sent[1:] == [
        {"role": "assistant", "content": "", "tool_calls": [chat_call("1"), chat_call("2")]},
        tool("1", "one"),
        tool("2", "two"),
    ]


def test_text_right_before_calls_belongs_to_their_message() -> None:
    sent = messages(user("q"), assistant("Let me see."), call("1"), output("1"))
    assert sent[1:] == [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [chat_call("1")]},
        tool("1"),
    ]


def test_text_said_with_a_call_but_after_it_is_not_an_answer_to_its_output() -> None:
    sent = messages(user("q"), call("1"), assistant("I asked."), output("1"), assistant("It is so."))
    assert [each["role"] for each in sent] == ["user", "assistant", "tool", "assistant"]
    assert sent[1]["content"] == "I asked."


def test_calls_with_an_output_between_them_are_two_turns() -> None:
    sent = messages(user("q"), call("1"), output("1"), call("2"), output("2"))
    assert [each["role"] for each in sent] == ["user", "assistant", "tool", "assistant", "tool"]


def test_an_output_follows_its_call_wherever_it_stood() -> None:
    sent = messages(output("1", "one"), call("1"), user("q"))
    assert [each["role"] for each in sent] == ["assistant", "tool", "user"]
    sent = messages(call("1"), user("wait"), output("1", "one"))
    assert [each["role"] for each in sent] == ["assistant", "tool", "user"]


def test_ids_that_a_host_uses_again_in_every_turn_find_their_outputs_in_order() -> None:
    sent = messages(call("call_0"), output("call_0", "a"), user("more"), call("call_0"), output("call_0", "b"))
    assert [each["content"] for each in sent if each["role"] == "tool"] == ["a", "b"]


def test_two_messages_of_the_assistant_stay_two() -> None:
    assert messages(assistant("a"), assistant("b")) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]


def test_an_output_without_its_call_is_sent_where_it_stands() -> None:
    assert messages(user("q"), output("x"))[1] == tool("x")


def test_a_call_without_an_output_is_sent_without_one() -> None:
    assert messages(call("1"), user("never mind"))[0]["tool_calls"] == [chat_call("1")]


def test_outputs_in_parts_are_text_in_the_tool_message_and_pictures_behind_all_of_them() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    parts = [{"type": "input_text", "text": "a"}, picture, {"type": "input_text", "text": "b"}]
    shown = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture["image_url"]}}]}
    given = [call("1"), call("2"), output("1", parts), output("2")]
    assert messages(*given, quirks=Quirks())[1:] == [tool("1", "a\nb"), tool("2"), shown]
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages(*given, quirks=OPENAI_QUIRKS)[1:] == [tool("1", texts), tool("2"), shown]


def test_kinds_that_a_client_executes_are_function_calls() -> None:
    sent = messages(
        {"type": "custom_tool_call", "call_id": "1", "name": "sql", "input": "select 1"},
        {"type": "custom_tool_call_output", "call_id": "1", "output": "1"},
    )
    assert sent == [
        {"role": "assistant", "content": "", "tool_calls": [chat_call("1", "sql", '{"input":"select 1"}')]},
        tool("1", "1"),
    ]


def test_an_mcp_call_is_a_call_with_its_output_or_error() -> None:
    sent = messages(
        {"type": "mcp_call", "id": "mcp_1", "name": "roll", "server_label": "dice", "arguments": "{}", "output": "4"},
        {"type": "mcp_call", "id": "mcp_2", "name": "roll", "server_label": "dice", "arguments": "", "error": "no"},
    )
    assert sent == [
        {"role": "assistant", "content": "", "tool_calls": [chat_call("mcp_1", "roll")]},
        tool("mcp_1", "4"),
        {"role": "assistant", "content": "", "tool_calls": [chat_call("mcp_2", "roll")]},
        tool("mcp_2", "no"),
    ]


def test_items_that_mean_nothing_to_a_chat_model_are_left_out() -> None:
    sent = messages({"type": "web_search_call", "id": "ws_1", "status": "completed"}, user("q"))
    assert sent == [{"role": "user", "content": "q"}]


def test_reasoning_goes_back_in_the_hosts_field_with_the_turn_it_belongs_to() -> None:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    given = [user("q"), thought, call("1"), output("1"), thought, assistant("a"), thought, user("r")]
    sent = messages(*given, quirks=Quirks(reasoning_input="reasoning_content"))
    assert [each.get("reasoning_content") for each in sent] == [None, "hm", None, "hm", None]
    assert all("reasoning" not in key for each in messages(*given) for key in each)


def test_a_summary_stands_in_for_reasoning_without_content() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}]}
    sent = messages(thought, assistant("a"), quirks=Quirks(reasoning_input="reasoning"))
    assert sent == [{"role": "assistant", "content": "a", "reasoning": "short"}]


# ---------------------------------------------------------------- tools

FUNCTIONS = (Function(name="a", description="A.", parameters={"type": "object"}, strict=True), Function(name="b"))


def sent_tools(choice: Choice | None, quirks: Quirks = OPENAI_QUIRKS) -> tuple[list[str], Any]:
    sent = body(quirks, functions=FUNCTIONS, choice=choice)
    return [each["function"]["name"] for each in sent.get("tools", ())], sent.get("tool_choice")


def test_functions_are_tools_with_parameters_always_and_strict_where_the_host_takes_it() -> None:
    assert body(functions=FUNCTIONS)["tools"] == [
        {
            "type": "function",
            "function": {"name": "a", "description": "A.", "parameters": {"type": "object"}, "strict": True},
        },
        {"type": "function", "function": {"name": "b", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert "strict" not in body(DEFAULT_QUIRKS, functions=FUNCTIONS)["tools"][0]["function"]


def test_without_functions_there_is_no_word_of_tools() -> None:
    sent = body(choice=Choice(mode="required"), parallel_tool_calls=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(sent)


def test_parallel_calls_are_only_spoken_of_where_the_host_understands() -> None:
    assert body(functions=FUNCTIONS, parallel_tool_calls=False)["parallel_tool_calls"] is False
    quirks = Quirks(parallel_tool_calls=False)
    assert "parallel_tool_calls" not in body(quirks, functions=FUNCTIONS, parallel_tool_calls=False)


ONE = Choice(mode="required", names=("a",))
NAMED = {"type": "function", "function": {"name": "a"}}


@pytest.mark.parametrize(
    ("choice", "quirks", "names", "sent"),
    [
        (None, Quirks(), ["a", "b"], None),
        (Choice(mode="auto"), Quirks(), ["a", "b"], "auto"),
        (Choice(mode="required"), Quirks(), ["a", "b"], "required"),
        (Choice(mode="none"), Quirks(), ["a", "b"], "none"),
        (Choice(mode="none"), Quirks(tool_choice=False), [], None),
        (Choice(mode="auto", names=()), Quirks(), [], None),
        (Choice(mode="auto"), Quirks(tool_choice=False), ["a", "b"], None),
        (Choice(mode="required"), Quirks(tool_choice_required=False), ["a", "b"], None),
        (ONE, Quirks(), ["a", "b"], NAMED),
        (ONE, Quirks(tool_choice_function=False), ["a"], "required"),
        (ONE, Quirks(tool_choice=False), ["a"], None),
        (Choice(mode="auto", names=("b",)), Quirks(), ["b"], "auto"),
        (Choice(mode="required", names=("a", "b")), Quirks(), ["a", "b"], "required"),
        (
            Choice(mode="auto", names=("a",)),
            OPENAI_QUIRKS,
            ["a", "b"],
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
        ),
    ],
)
def test_a_choice_is_sent_as_the_host_takes_it(
    choice: Choice | None, quirks: Quirks, names: list[str], sent: Any
) -> None:
    assert sent_tools(choice, quirks) == (names, sent)


# ---------------------------------------------------------------- formats

SCHEMA = JsonSchemaFormat(name="city", schema={"type": "object"}, description="A city.", strict=True)


def test_a_schema_is_a_response_format() -> None:
    assert body(format=SCHEMA)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": {"type": "object"}, "description": "A city.", "strict": True},
    }


def test_a_host_without_schemas_gets_the_schema_in_words_and_json_mode() -> None:
    sent = body(Quirks(json_schema=False), format=SCHEMA)
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["messages"][0]["role"] == "system"
    assert '{"type":"object"}' in sent["messages"][0]["content"]


def test_a_host_without_any_json_mode_gets_the_schema_in_words() -> None:
    assert "response_format" not in body(Quirks(json_schema=False, json_object=False), format=SCHEMA)


def test_json_mode_is_the_widest_schema_where_a_host_knows_only_schemas() -> None:
    assert body(format=JsonObjectFormat())["response_format"] == {"type": "json_object"}
    sent = body(Quirks(json_object=False), format=JsonObjectFormat())["response_format"]
    assert sent["json_schema"]["schema"] == {"type": "object"}


# ---------------------------------------------------------------- total

_IDS = st.sampled_from(["1", "2", "3"])
_ITEMS = st.lists(
    st.one_of(
        st.builds(user, st.text(max_size=3)),
        st.builds(assistant, st.text(max_size=3)),
        st.builds(call, _IDS),
        st.builds(output, _IDS),
        st.just({"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]}),
    ),
    max_size=12,
)


@given(_ITEMS)
def test_no_history_breaks_it_and_nothing_is_lost_or_sent_twice(given_items: list[dict[str, Any]]) -> None:
    """Whatever the order: each call and each output is sent once, and the outputs of calls stand right behind them."""
    sent = messages(*given_items)
    kinds = [each.get("type", each.get("role")) for each in given_items]
    calls = [made["id"] for each in sent for made in each.get("tool_calls", ())]
    assert len(calls) == kinds.count("function_call")
    assert sum(each["role"] == "tool" for each in sent) == kinds.count("function_call_output")
    assert sum(each["role"] == "user" for each in sent) == kinds.count("user")


_PAIRS = [each for n in range(4) for each in (call(str(n)), output(str(n)))]


@given(st.permutations([*_PAIRS, user("q"), assistant("a")]))
def test_in_any_order_the_outputs_of_calls_follow_them_in_call_order(given_items: list[dict[str, Any]]) -> None:
    """What hosts insist on: a tool message for each call, directly behind the calls."""
    sent = messages(*given_items)
    for index, each in enumerate(sent):
        asked = [made["id"] for made in each.get("tool_calls", ())]
        assert [after.get("tool_call_id") for after in sent[index + 1 : index + 1 + len(asked)]] == asked
