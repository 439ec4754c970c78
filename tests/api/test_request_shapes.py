"""Requests in the shape in which coding agents send them. The fixtures are ours, after the public formats."""

import json
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing import rules
from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server

SHAPES = Path(__file__).with_name("shapes")
KEY = {"X-LlamaStack-Provider-Data": json.dumps({"tavily_search_api_key": "mine"})}  # Codex offers web search unasked
PATCH = "*** Begin Patch\n*** Update File: a\n*** End Patch"
CALLS = [
    Call(name="exec_command", id="call_1", arguments='{"cmd": "make test"}'),
    Call(name="apply_patch", id="call_2", arguments=json.dumps({"input": PATCH})),
    Call(name="local_shell", id="call_3", arguments='{"command": ["ls", "-l"]}'),
]
CALLED = ["function_call", "custom_tool_call", "local_shell_call", "function_call"]


def shape(name: str, **changes: Any) -> dict[str, Any]:
    """A request of the fixtures."""
    body: dict[str, Any] = json.loads((SHAPES / f"{name}.json").read_text())
    return {**body, **changes}


def sent(server: Server, body: dict[str, Any]) -> rules.Stream:
    """The stream that answers it."""
    got = server.post("/responses", body, KEY)
    assert got.status == 200, got.body
    return rules.check(got.body)


def answered(item: dict[str, Any]) -> dict[str, Any]:
    """What Codex says to a call."""
    kind = "custom_tool_call_output" if item["type"] == "custom_tool_call" else "function_call_output"
    return {"type": kind, "call_id": item["call_id"], "output": f"done {item['call_id']}"}


def without_ids(item: dict[str, Any]) -> dict[str, Any]:
    """An item as Codex keeps it in its transcript: without the id of what is stored nowhere, and without nulls."""
    return {name: value for name, value in item.items() if name not in ("id", "status") and value is not None}


@pytest.fixture
def model(host: Host) -> Host:
    """A model that thinks and calls all of Codex's tools, then is done."""

    def play(request: Any) -> Reply:
        messages = request.json["messages"]
        if any(message["role"] == "tool" for message in messages):
            return Reply(text=["Renamed."])
        found = next(
            tool["function"]["name"] for tool in request.json["tools"] if "find_issue" in tool["function"]["name"]
        )
        return Reply(reasoning="Patch first.", calls=[*CALLS, Call(name=found, id="call_4", arguments='{"number": 7}')])

    host.by_request = play
    return host


def test_codex_gets_a_call_of_each_of_its_tools(server: Server, model: Host) -> None:
    stream = sent(server, shape("codex"))

    thought, run, patch, shell, find = stream.items
    assert (thought["type"], bool(thought["encrypted_content"])) == ("reasoning", True)
    assert [item["type"] for item in stream.items[1:]] == CALLED
    assert json.loads(run["arguments"]) == {"cmd": "make test"}
    assert patch["input"] == PATCH
    assert shell["action"]["command"] == ["ls", "-l"]
    assert (find["namespace"], find["name"]) == ("mcp__tracker__", "find_issue")
    first = model.calls[0].json["messages"]
    assert [message["role"] for message in first] == ["system", "system", "user", "user"]


def test_codex_sends_its_whole_transcript_again_and_nothing_is_stored(server: Server, model: Host) -> None:
    first = sent(server, shape("codex"))
    made = [without_ids(item) for item in first.items]
    outputs = [answered(item) for item in first.items[1:]]

    second = sent(server, shape("codex", input=[*shape("codex")["input"], *made, *outputs]))

    assert second.text == "Renamed."
    messages = model.calls[-1].json["messages"]
    assert [message["role"] for message in messages[4:]] == ["assistant", "tool", "tool", "tool", "tool"]
    assert [call["id"] for call in messages[4]["tool_calls"]] == ["call_1", "call_2", "call_3", "call_4"]
    assert [message["content"] for message in messages[5:]] == [f"done call_{number}" for number in range(1, 5)]
    for stream in (first, second):
        assert server.get(f"/responses/{stream.response['id']}").status == 404


def test_codex_refers_to_stored_items_where_the_server_stores(server: Server, model: Host) -> None:
    first = sent(server, shape("codex", store=True))
    made = [{"type": "item_reference", "id": item["id"]} for item in first.items]
    outputs = [answered(item) for item in first.items[1:]]

    second = sent(server, shape("codex", store=True, input=[*shape("codex")["input"], *made, *outputs]))

    assert second.text == "Renamed."
    assert len(model.calls[-1].json["messages"][4]["tool_calls"]) == 4
    listed = server.get(f"/responses/{second.response['id']}/input_items?limit=100&order=asc").json["data"]
    assert [item["id"] for item in listed[3:8]] == [item["id"] for item in first.items]


def test_codex_is_told_that_an_unstored_item_cannot_be_referred_to(server: Server, model: Host) -> None:
    first = sent(server, shape("codex"))

    got = server.post("/responses", shape("codex", input=[{"type": "item_reference", "id": first.items[0]["id"]}]), KEY)

    assert (got.status, got.json["error"]["code"]) == (404, "item_not_found")


def test_codex_is_told_what_its_web_search_needs(server: Server, host: Host) -> None:
    got = server.post("/responses", shape("codex"))

    assert (got.status, got.json["error"]["code"]) == (400, "web_search_not_configured")
    assert not host.calls


def test_codex_compacts_its_transcript(server: Server, model: Host) -> None:
    model.by_request = lambda _request: Reply(text="They rename a to b.")
    asked = {name: shape("codex")[name] for name in ("model", "instructions", "input")}

    compacted = server.post("/responses/compact", asked).json["output"]
    sent(server, shape("codex", input=[*compacted, {"role": "user", "content": "Go on."}]))

    assert [item["type"] for item in compacted][-1] == "compaction"
    assert "They rename a to b." in json.dumps(model.calls[-1].json["messages"])


def test_claude_style_chat_reaches_the_host_with_its_parts_and_calls(server: Server, host: Host) -> None:
    body = shape("claude_style")

    got = server.post("/chat/completions", body)

    assert (got.status, got.body.rstrip().endswith(b"data: [DONE]")) == (200, True)
    (call,) = host.calls
    assert call.json["messages"] == body["messages"]
    assert call.json["tools"] == body["tools"]


def test_claude_style_history_goes_over_responses_as_well(server: Server, host: Host) -> None:
    _, user, assistant, *tools = shape("claude_style")["messages"]
    parts = [{"type": "input_text", "text": part["text"]} for part in user["content"]]
    calls = [{"type": "function_call", "call_id": each["id"], **each["function"]} for each in assistant["tool_calls"]]
    outputs = [
        {
            "type": "function_call_output",
            "call_id": each["tool_call_id"],
            "output": [{"type": "input_text", "text": "print(1)"}]
            if isinstance(each["content"], list)
            else each["content"],
        }
        for each in tools
    ]
    said = {"role": "assistant", "content": [{"type": "output_text", "text": assistant["content"]}]}

    stream = server.stream(input=[{"role": "user", "content": parts}, said, *calls, *outputs])

    assert stream.text == "Hello there."
    messages = host.calls[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["toolu_01A", "toolu_01B"]


def test_anthropics_own_route_is_not_served_and_says_so(server: Server) -> None:
    asked = {"model": "scripted/scripted-model", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}

    got = server.post("/messages?beta=true", asked, {"anthropic-version": "2023-06-01", "x-api-key": "unused"})

    assert got.status == 404
    assert "/v1/messages" in got.json["error"]["message"]
