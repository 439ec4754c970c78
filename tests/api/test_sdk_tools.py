"""The official client drives tools: functions, custom tools and everything else that the client executes."""

import json
from typing import Any

import openai
import pytest

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def offered(host: Host) -> list[str]:
    """Names of the functions that the model was offered in the last call."""
    return [tool["function"]["name"] for tool in host.calls[-1].json["tools"]]


def test_a_function_makes_the_round_trip_with_parallel_calls(client: openai.OpenAI, host: Host) -> None:
    calls = [
        Call(name="get_weather", id="call_a", arguments=['{"city"', ': "Rome"}']),
        Call(name="get_weather", id="call_b", arguments=['{"city": "Oslo"}']),
    ]
    host.answer(Reply(calls=calls), Reply(text=["Warm and cold."]))
    first = client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER])  # type: ignore[list-item]
    found = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, json.loads(call.arguments)["city"]) for call in found] == [
        ("call_a", "Rome"),
        ("call_b", "Oslo"),
    ]
    outputs: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "20"} for call in found]
    second = client.responses.create(
        model=MODEL,
        previous_response_id=first.id,
        input=outputs,
        tools=[WEATHER],  # type: ignore[list-item]
    )
    assert second.output_text == "Warm and cold."
    messages = host.calls[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_a", "call_b"]
    assert [message["tool_call_id"] for message in messages[2:]] == ["call_a", "call_b"]


def test_a_streamed_call_keeps_the_rules_and_its_pieces(server: Server, host: Host) -> None:
    calls = [Call(name="get_weather", id="call_a", arguments=['{"city"', ': "Rome"}']), Call(name="f", id="call_b")]
    host.answer(Reply(text=["Let me look."], calls=calls))
    stream = server.stream(input="Weather?", tools=[WEATHER, {"type": "function", "name": "f"}])
    assert [item["type"] for item in stream.items] == ["message", "function_call", "function_call"]
    assert stream.deltas("response.function_call_arguments.delta") == ['{"city"', ': "Rome"}', "{}"]
    assert stream.response["tools"][0]["parameters"] == WEATHER["parameters"]
    assert stream.response["tools"][1]["strict"] is None


def test_an_output_may_be_a_list_of_parts(client: openai.OpenAI, host: Host) -> None:
    items: Any = [
        {"role": "user", "content": "Look"},
        {"type": "function_call", "call_id": "call_a", "name": "look", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "call_a",
            "output": [
                {"type": "input_text", "text": "I see"},
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
            ],
        },
    ]
    client.responses.create(model=MODEL, input=items)
    sent = json.dumps(host.calls[0].json["messages"])
    assert "I see" in sent
    assert "https://example.org/a.png" in sent


def test_bad_arguments_make_a_failed_response(server: Server, host: Host) -> None:
    host.answer(Reply(calls=[Call(name="get_weather", arguments=['{"city": '])]))
    stream = server.stream(input="Weather?", tools=[WEATHER])
    assert stream.types[-1] == "response.failed"
    assert "get_weather" in stream.response["error"]["message"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        (
            {"type": "function", "name": "get_weather"},
            {"type": "function", "function": {"name": "get_weather"}},
        ),
    ],
)
def test_tool_choices_reach_the_host_and_are_echoed(server: Server, host: Host, choice: Any, sent: Any) -> None:
    stream = server.stream(input="Hi", tools=[WEATHER, {"type": "function", "name": "f"}], tool_choice=choice)
    assert host.calls[0].json["tool_choice"] == sent
    assert stream.response["tool_choice"] == choice


def test_allowed_tools_narrow_what_the_model_may_call(server: Server, host: Host) -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    stream = server.stream(input="Hi", tools=[WEATHER, {"type": "function", "name": "f"}], tool_choice=choice)
    sent = host.calls[0].json
    allowed = sent["tool_choice"]
    if isinstance(allowed, dict) and allowed["type"] == "function":
        assert allowed["function"] == {"name": "f"}
    elif isinstance(allowed, dict):
        names = [tool["function"]["name"] for tool in allowed["allowed_tools"]["tools"]]
        assert (names, allowed["allowed_tools"]["mode"]) == (["f"], "required")
    else:
        assert (offered(host), allowed) == (["f"], "required")
    assert stream.response["tool_choice"] == choice


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "nobody"},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "nobody"}]},
        {"type": "custom", "name": "get_weather"},
        {"type": "shell"},
    ],
)
def test_a_choice_of_a_tool_that_is_not_there_is_a_400(server: Server, choice: dict[str, Any]) -> None:
    got = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": [WEATHER], "tool_choice": choice})
    assert (got.status, got.json["error"]["param"]) == (400, "tool_choice")


# ---------------------------------------------------------------- kinds that the client executes

CLIENT_TOOLS: list[tuple[dict[str, Any], str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "custom", "name": "sql", "description": "Runs SQL"},
        "sql",
        {"input": "select 1"},
        {"type": "custom_tool_call", "name": "sql", "input": "select 1"},
        {"type": "custom_tool_call_output", "output": "1"},
    ),
    (
        {"type": "local_shell"},
        "local_shell",
        {"command": ["ls", "-l"], "working_directory": "/tmp", "timeout_ms": 5},
        {"type": "local_shell_call"},
        {"type": "local_shell_call_output", "output": "a b"},
    ),
    (
        {"type": "shell"},
        "shell",
        {"commands": ["ls", "pwd"]},
        {"type": "shell_call"},
        {
            "type": "shell_call_output",
            "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
        },
    ),
    (
        {"type": "apply_patch"},
        "apply_patch",
        {"type": "update_file", "path": "a.py", "diff": "@@\n-1\n+2"},
        {"type": "apply_patch_call", "operation": {"type": "update_file", "path": "a.py", "diff": "@@\n-1\n+2"}},
        {"type": "apply_patch_call_output", "status": "completed", "output": "ok"},
    ),
    (
        {"type": "computer"},
        "computer",
        {"actions": [{"type": "click", "x": 1, "y": 2, "button": "left"}]},
        {"type": "computer_call", "actions": [{"type": "click", "x": 1, "y": 2, "button": "left"}]},
        {
            "type": "computer_call_output",
            "output": {"type": "computer_screenshot", "image_url": "https://example.org/s.png"},
        },
    ),
    (
        {"type": "computer_use_preview", "display_width": 800, "display_height": 600, "environment": "linux"},
        "computer_use_preview",
        {"action": {"type": "screenshot"}},
        {"type": "computer_call", "action": {"type": "screenshot"}},
        {
            "type": "computer_call_output",
            "output": {"type": "computer_screenshot", "image_url": "https://example.org/s.png"},
        },
    ),
]


@pytest.mark.parametrize(
    ("tool", "name", "arguments", "expected", "output"), CLIENT_TOOLS, ids=[each[0]["type"] for each in CLIENT_TOOLS]
)
def test_a_tool_that_the_client_executes_makes_the_round_trip(
    server: Server,
    host: Host,
    tool: dict[str, Any],
    name: str,
    arguments: dict[str, Any],
    expected: dict[str, Any],
    output: dict[str, Any],
) -> None:
    host.answer(Reply(calls=[Call(name=name, arguments=json.dumps(arguments), id="call_1")]), Reply(text=["Done"]))
    first = server.stream(input="Go", tools=[tool])
    assert offered(host) == [name]
    (item,) = first.items
    assert item["call_id"] == "call_1"
    assert {key: item[key] for key in expected} == expected
    answer = {**output, "id" if output["type"] == "local_shell_call_output" else "call_id": "call_1"}
    second = server.stream(input=[answer], previous_response_id=first.response["id"], tools=[tool])
    assert second.text == "Done"
    messages = host.calls[-1].json["messages"]
    assert json.loads(messages[1]["tool_calls"][0]["function"]["arguments"]) == {
        key: value for key, value in arguments.items() if value is not None
    }
    assert messages[2]["role"] == "tool"
    assert messages[2]["tool_call_id"] == "call_1"


def test_a_call_id_as_long_as_the_host_likes_makes_the_round_trip(server: Server, host: Host) -> None:
    host.answer(Reply(calls=[Call(name="get_weather", id="c" * 5000)]))
    first = server.stream(input="Go", tools=[WEATHER])
    assert server.get(f"/responses/{first.response['id']}").json["output"] == first.items
    answer = {"type": "function_call_output", "call_id": "c" * 5000, "output": "1"}
    server.stream(input=[answer], previous_response_id=first.response["id"])
    assert host.calls[-1].json["messages"][-1] == {"role": "tool", "tool_call_id": "c" * 5000, "content": "1"}


def test_shell_commands_have_their_own_events(server: Server, host: Host) -> None:
    host.answer(Reply(calls=[Call(name="shell", arguments='{"commands": ["ls", "pwd"]}')]))
    stream = server.stream(input="Go", tools=[{"type": "shell", "environment": {"type": "local"}}])
    done = [event["command"] for event in stream.events if event["type"] == "response.shell_call_command.done"]
    assert done == ["ls", "pwd"]


def test_custom_input_has_its_own_events(server: Server, host: Host) -> None:
    host.answer(Reply(calls=[Call(name="sql", arguments='{"input": "select 1"}')]))
    stream = server.stream(input="Go", tools=[{"type": "custom", "name": "sql"}])
    assert "".join(stream.deltas("response.custom_tool_call_input.delta")) == "select 1"


def test_namespaces_are_flattened_for_the_model_and_mapped_back(server: Server, host: Host) -> None:
    tool = {
        "type": "namespace",
        "name": "crm",
        "description": "Customers",
        "tools": [
            {"type": "function", "name": "find", "parameters": {"type": "object", "properties": {}}},
            {"type": "custom", "name": "query"},
        ],
    }
    host.by_request = lambda request: (
        Reply(calls=[Call(name=request.json["tools"][0]["function"]["name"], id="call_1")])
        if len(request.json["messages"]) == 1
        else Reply(text=["Found"])
    )
    first = server.stream(input="Find", tools=[tool])
    (call,) = first.items
    assert (call["name"], call["namespace"]) == ("find", "crm")
    answer = {"type": "function_call_output", "call_id": "call_1", "output": "Ada"}
    second = server.stream(input=[answer], previous_response_id=first.response["id"], tools=[tool])
    assert second.text == "Found"
    assert host.calls[-1].json["messages"][1]["tool_calls"][0]["function"]["name"] == offered(host)[0]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "programmatic_tool_calling"},
    ],
    ids=lambda tool: tool["type"],
)
def test_a_tool_of_a_later_release_is_a_400_naming_it(server: Server, host: Host, tool: dict[str, Any]) -> None:
    got = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": [WEATHER, tool]})
    assert (got.status, got.json["error"]["param"]) == (400, "tools[1].type")
    assert tool["type"] in got.json["error"]["message"]
    assert not host.calls


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "abacus"}], "tools[0]"),
        ([{"type": "function"}], "tools[0].name"),
        ([{"type": "function", "name": "a b"}], "tools[0].name"),
        ([{"name": "f"}], "tools[0]"),
        ([WEATHER, WEATHER], "tools[1]"),
        ("all", "tools"),
        ([{"type": "function", "name": f"f{index}"} for index in range(129)], "tools"),
        ([{"type": "shell", "environment": {"type": "vm"}}], "tools[0].environment"),
    ],
)
def test_wrong_tools_are_a_400_with_their_param(server: Server, tools: Any, param: str) -> None:
    got = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": tools})
    assert got.status == 400, got.body
    assert got.json["error"]["param"].startswith(param)


def test_an_output_without_its_call_and_a_call_without_its_output_are_400s(server: Server, host: Host) -> None:
    orphan = {"type": "function_call_output", "call_id": "call_x", "output": "1"}
    call = {"type": "function_call", "call_id": "call_x", "name": "f", "arguments": "{}"}
    for item in (orphan, call):
        got = server.post("/responses", {"model": MODEL, "input": [item]})
        assert got.status == 400
        assert "call_x" in got.json["error"]["message"]
    assert not host.calls
