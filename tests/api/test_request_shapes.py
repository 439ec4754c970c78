"""Requests in the shape in which coding agents send them. The fixtures are ours, after the public formats."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing import rules
from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Got, Server, running

SHAPES = Path(__file__).with_name("shapes")
PNG = "data:image/png;base64,iVBORw0KGgo="
PATCH = "*** Begin Patch\n*** Update File: a\n@@\n-a\n+b\n*** End Patch"
ROLES = ["system", "system", "user", "user"]
FIND = "mcp__tracker____find_issue"
CALLS = [
    Call(name="exec_command", id="call_1", arguments='{"cmd": "make test"}'),
    Call(name="apply_patch", id="call_2", arguments=json.dumps({"input": PATCH})),
    Call(name="local_shell", id="call_3", arguments='{"command": ["ls", "-l"]}'),
    Call(name=FIND, id="call_4", arguments='{"number": 7}'),
]
CALLED = ["function_call", "custom_tool_call", "local_shell_call", "function_call"]
PLAN = Call(name="update_plan", id="call_5", arguments='{"plan": [{"step": "Rename", "status": "in_progress"}]}')
LOOK = Call(name="view_image", id="call_6", arguments='{"path": "/work/a.png"}')
SHELL = Call(name="shell", id="call_7", arguments='{"command": ["git", "diff"], "workdir": "/work"}')


@pytest.fixture(scope="module")
def session_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Antiphon as it is out of the box, without search provider and image model; its host sees images."""
    quirks = {"files": True, "reasoning_input": "reasoning_content"}
    settings = {"hosts": {"scripted": {"base_url": session_host.url, "preset": "custom", "quirks": quirks}}}
    with running(settings, tmp_path_factory.mktemp("shapes")) as started:
        yield started


def shape(name: str, kind: str = "request", **changes: Any) -> dict[str, Any]:
    """A request of the fixtures."""
    body: dict[str, Any] = json.loads((SHAPES / f"{name}.json").read_text())[kind]
    return {**body, **changes}


def codex(**changes: Any) -> dict[str, Any]:
    """A request of Codex, for a model that makes several calls at once."""
    return shape("codex", parallel_tool_calls=True, **changes)


def streamed(got: Got) -> rules.Stream:
    """The stream of an answer."""
    assert got.status == 200, got.body
    return rules.check(got.body)


def sent(server: Server, body: dict[str, Any]) -> rules.Stream:
    """The stream that answers a request."""
    return streamed(server.post("/responses", body))


def answered(item: dict[str, Any]) -> dict[str, Any]:
    """What Codex says to a call."""
    kind = "custom_tool_call_output" if item["type"] == "custom_tool_call" else "function_call_output"
    shown = [{"type": "input_image", "image_url": PNG}] if item.get("name") == "view_image" else None
    return {"type": kind, "call_id": item["call_id"], "output": shown or f"done {item['call_id']}"}


def kept(item: dict[str, Any]) -> dict[str, Any]:
    """An item as Codex keeps it: without its id, of reasoning only what is sealed, a status only where it has one."""
    without = {"id", "content" if item["type"] == "reasoning" else ""}
    if item["type"] not in ("local_shell_call", "custom_tool_call"):
        without.add("status")
    return {name: value for name, value in item.items() if name not in without and value is not None}


class Codex:
    """The loop of Codex: each request brings all that was said, and nothing is stored."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transcript: list[dict[str, Any]] = shape("codex")["input"]
        self.answers: list[Got] = []

    def run(self, said: str = "") -> str:
        """What the model says once it makes no more calls."""
        if said:
            content = [{"type": "input_text", "text": said}]
            self.transcript.append({"type": "message", "role": "user", "content": content})
        while True:
            self.answers.append(self.server.post("/responses", shape("codex", input=self.transcript)))
            stream = streamed(self.answers[-1])
            self.transcript += (kept(item) for item in stream.items)
            calls = [answered(item) for item in stream.items if "call_id" in item]
            if not calls:
                return stream.text
            self.transcript += calls


def test_a_session_of_codex_runs_to_its_end(server: Server, host: Host) -> None:
    steps = [Reply(reasoning=f"Think {call.id}.", calls=[call]) for call in (PLAN, *CALLS, LOOK, SHELL)]
    host.answer(*steps, Reply(text=["Rena", "med."]), Reply(text="You are welcome."))
    session = Codex(server)

    assert (session.run(), session.run("Thanks")) == ("Renamed.", "You are welcome.")

    made = [item["type"] for item in session.transcript if "call" in item["type"] and "output" not in item["type"]]
    assert made == ["function_call", *CALLED, "function_call", "function_call"]
    messages = host.calls[-1].json["messages"]
    turns = [*["assistant", "tool"] * 6, "user", "assistant", "tool"]  # a tool's image is shown after its output
    assert [each["role"] for each in messages] == [*ROLES, *turns, "assistant", "user"]
    thoughts = [each["reasoning_content"] for each in messages if "reasoning_content" in each]
    assert thoughts == [f"Think call_{number}." for number in (5, 1, 2, 3, 4, 6, 7)]
    assert PNG in json.dumps(messages[-5]["content"])


def test_what_a_model_is_sent_for_codex_grows_only_at_its_end(server: Server, host: Host) -> None:
    host.answer(*(Reply(reasoning="Hm.", calls=[call]) for call in CALLS), Reply(text="Renamed."))

    Codex(server).run()

    for before, after in pairwise(call.json for call in host.calls):  # a host's prompt cache depends on it
        length = len(before["messages"])
        assert after["messages"][:length] == before["messages"]
        assert {**after, "messages": ()} == {**before, "messages": ()}


def test_nothing_of_codex_is_stored_and_its_parameters_reach_the_model(server: Server, host: Host) -> None:
    session = Codex(server)

    session.run()

    (answer,) = session.answers
    assert server.get(f"/responses/{streamed(answer).response['id']}").status == 404
    asked = host.calls[-1].json
    assert (asked["parallel_tool_calls"], asked["tool_choice"]) == (False, "auto")
    (patch,) = (tool["function"] for tool in asked["tools"] if tool["function"]["name"] == "apply_patch")
    assert 'begin_patch: "*** Begin Patch" LF' in patch["parameters"]["properties"]["input"]["description"]


def test_codex_works_where_nobody_can_search_or_make_images_and_is_told(server: Server, host: Host) -> None:
    session = Codex(server)

    assert session.run() == "Hello there."

    warnings = session.answers[0].headers["x-antiphon-warnings"].split("; ")
    assert {
        "not obeyed: tools[7] (web_search_not_configured)",
        "not obeyed: tools[8] (no_image_model)",
    } <= {*warnings}
    told = [tool["function"]["name"] for tool in host.calls[-1].json["tools"]]
    own = ["exec_command", "write_stdin", "shell", "local_shell", "update_plan", "view_image", "apply_patch", FIND]
    assert told == own


def test_codex_searches_where_somebody_can(server: Server, host: Host) -> None:
    key = {"X-LlamaStack-Provider-Data": json.dumps({"tavily_search_api_key": "mine"})}

    assert server.post("/responses", shape("codex"), key).status == 200

    assert "web_search" in [tool["function"]["name"] for tool in host.calls[-1].json["tools"]]


@pytest.fixture
def model(host: Host) -> Host:
    """A model that thinks and calls several of Codex's tools at once, then is done."""

    def play(request: Any) -> Reply:
        if any(message["role"] == "tool" for message in request.json["messages"]):
            return Reply(text=["Renamed."])
        return Reply(reasoning="Patch first.", calls=CALLS)

    host.by_request = play
    return host


def test_codex_gets_several_calls_of_one_turn(server: Server, model: Host) -> None:
    stream = sent(server, codex())

    thought, run, patch, shell, find = stream.items
    assert (thought["type"], bool(thought["encrypted_content"])) == ("reasoning", True)
    assert [item["type"] for item in stream.items[1:]] == CALLED
    assert json.loads(run["arguments"]) == {"cmd": "make test"}
    assert patch["input"] == PATCH
    assert shell["action"]["command"] == ["ls", "-l"]
    assert (find["namespace"], find["name"]) == ("mcp__tracker__", "find_issue")
    first = model.calls[0].json["messages"]
    assert [message["role"] for message in first] == ROLES


def test_codex_sends_its_whole_transcript_again_and_nothing_is_stored(server: Server, model: Host) -> None:
    first = sent(server, codex())
    made = [kept(item) for item in first.items]
    outputs = [answered(item) for item in first.items[1:]]

    second = sent(server, codex(input=[*codex()["input"], *made, *outputs]))

    assert second.text == "Renamed."
    messages = model.calls[-1].json["messages"]
    assert [message["role"] for message in messages[4:]] == ["assistant", "tool", "tool", "tool", "tool"]
    assert [call["id"] for call in messages[4]["tool_calls"]] == ["call_1", "call_2", "call_3", "call_4"]
    assert [message["content"] for message in messages[5:]] == [f"done call_{number}" for number in range(1, 5)]
    for stream in (first, second):
        assert server.get(f"/responses/{stream.response['id']}").status == 404


def test_codex_refers_to_stored_items_where_the_server_stores(server: Server, model: Host) -> None:
    first = sent(server, codex(store=True))
    made = [{"type": "item_reference", "id": item["id"]} for item in first.items]
    outputs = [answered(item) for item in first.items[1:]]

    second = sent(server, codex(store=True, input=[*codex()["input"], *made, *outputs]))

    assert second.text == "Renamed."
    assert len(model.calls[-1].json["messages"][4]["tool_calls"]) == 4
    listed = server.get(f"/responses/{second.response['id']}/input_items?limit=100&order=asc").json["data"]
    assert [item["id"] for item in listed[3:8]] == [item["id"] for item in first.items]


def test_codex_is_told_that_an_unstored_item_cannot_be_referred_to(server: Server, model: Host) -> None:
    first = sent(server, codex())

    got = server.post("/responses", codex(input=[{"type": "item_reference", "id": first.items[0]["id"]}]))

    assert (got.status, got.json["error"]["code"]) == (404, "item_not_found")


def test_codex_compacts_its_transcript(server: Server, model: Host) -> None:
    model.by_request = lambda _request: Reply(text="They rename a to b.")
    asked = {name: codex()[name] for name in ("model", "instructions", "input")}

    compacted = server.post("/responses/compact", asked).json["output"]
    sent(server, codex(input=[*compacted, {"role": "user", "content": "Go on."}]))

    assert [item["type"] for item in compacted][-1] == "compaction"
    assert "They rename a to b." in json.dumps(model.calls[-1].json["messages"])


def test_claude_style_chat_reaches_the_host_with_its_parts_and_calls(server: Server, host: Host) -> None:
    body = shape("claude_style", "chat")

    got = server.post("/chat/completions", body)

    assert (got.status, got.body.rstrip().endswith(b"data: [DONE]")) == (200, True)
    (call,) = host.calls
    for name in ("messages", "tools", "tool_choice", "thinking", "max_tokens"):  # `cache_control` and all
        assert call.json[name] == body[name]


def test_claude_style_history_goes_over_responses_as_well(server: Server, host: Host) -> None:
    _, user, assistant, *tools = shape("claude_style", "chat")["messages"]
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


@pytest.mark.parametrize("path", ["/messages?beta=true", "/messages/count_tokens", "/messages/batches"])
def test_anthropics_own_routes_are_not_served_and_say_so(server: Server, host: Host, path: str) -> None:
    heads = {"anthropic-version": "2023-06-01", "x-api-key": "unused"}

    got = server.post(path, shape("claude_style", "messages"), heads)

    assert (got.status, got.json["error"]["code"]) == (404, "unknown_url")
    assert "Anthropic's Messages API is not served" in got.json["error"]["message"]
    assert not host.calls


@pytest.mark.parametrize(
    ("path", "changes", "param"),
    [
        ("/chat/completions", {}, "tools[0].type"),
        ("/responses", {"tool_choice": "auto"}, "tools[0].type"),
        ("/responses", {}, "tool_choice.type"),
    ],
)
def test_anthropics_own_shapes_are_refused_elsewhere_by_the_name_of_what_does_not_fit(
    server: Server, host: Host, path: str, changes: dict[str, Any], param: str
) -> None:
    got = server.post(path, shape("claude_style", "messages", **changes))

    assert (got.status, got.json["error"]["param"]) == (400, param)
    assert not host.calls


@pytest.mark.parametrize(("index", "kind"), [(1, "thinking"), (2, "tool_result")])
def test_a_block_of_anthropics_in_a_responses_input_is_refused_by_its_name(
    server: Server, index: int, kind: str
) -> None:
    message = shape("claude_style", "messages")["messages"][index]

    got = server.post("/responses", {"model": "scripted/scripted-model", "input": [message]})

    assert (got.status, got.json["error"]["param"]) == (400, "input[0].content[0].type")
    assert repr(kind) in got.json["error"]["message"]


def test_a_block_of_anthropics_in_a_chat_message_is_the_hosts_to_judge(server: Server, host: Host) -> None:
    messages = shape("claude_style", "messages")["messages"]

    got = server.post("/chat/completions", {"model": "scripted/scripted-model", "messages": messages})

    assert (got.status, host.calls[-1].json["messages"]) == (200, messages)
