"""The official client uses MCP servers: real ones, over both transports, well-behaved or not."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.script import Gate
from antiphon.testing.server import Server, running, until
from mcp_server import TOKEN, McpHost

MODEL = "scripted/scripted-model"
LIQUID = '{"liquid_name": "myawesomeliquid"}'
LISTED = ["output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed", "output_item.done"]
CALLED = [
    *("output_item.added", "mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done"),
    *("mcp_call.completed", "output_item.done"),
]
LOOPBACK = {"ports": [], "allowed_networks": ["127.0.0.0/8"]}


def settings(host: Host, mcp: McpHost) -> dict[str, Any]:
    """Antiphon in front of both, with one connector and patience for a second."""
    return {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
        "fetch": LOOPBACK,
        "mcp": {"list_s": 5, "answer_bytes_max": 1_000_000, "result_bytes_max": 1000, "tools_max": 40},
        "connectors": {
            "connector_gmail": {
                "url": mcp.url("/auth/mcp"),
                "authorization": TOKEN,
                "allowed_tools": ["get_boiling_point"],
            }
        },
    }


@pytest.fixture(scope="module")
def session_server(
    session_host: Host, session_mcp: McpHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running(settings(session_host, session_mcp), tmp_path_factory.mktemp("mcp")) as started:
        yield started


def tool(mcp: McpHost, path: str = "/mcp", **more: Any) -> dict[str, Any]:
    """The declaration of a server that need not be asked."""
    return {"type": "mcp", "server_label": "lab", "server_url": mcp.url(path), "require_approval": "never", **more}


def short(types: list[str]) -> list[str]:
    return [kind.removeprefix("response.") for kind in types]


def offered(host: Host, at: int = -1) -> list[str]:
    """The functions that the model was offered."""
    return [each["function"]["name"] for each in host.calls[at].json.get("tools", [])]


# ---------------------------------------------------------------- lists and calls


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_a_stream_lists_calls_and_answers(server: Server, host: Host, mcp: McpHost, path: str) -> None:
    host.answer(Reply(calls=[Call(name="get_boiling_point", arguments=LIQUID)]), Reply(text=["It is -100."]))
    stream = server.stream(input="Boiling point?", tools=[tool(mcp, path)])
    assert short(stream.types)[2:12] == [*LISTED, *CALLED]
    listing, call, _ = stream.items
    assert {"name", "input_schema", "description"} == listing["tools"][1].keys()
    assert (call["name"], call["server_label"], call["arguments"]) == ("get_boiling_point", "lab", LIQUID)
    assert (call["output"], call["status"], "memory" in call) == ("-100", "completed", False)
    assert stream.events[6]["item"]["arguments"] == ""
    assert stream.text == "It is -100."
    assert "greet_everyone" in offered(host)
    assert host.calls[-1].json["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_boiling_point", "arguments": LIQUID}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "-100"},
    ]


def test_a_chain_lists_once_and_another_choice_of_tools_lists_anew(
    client: openai.OpenAI, host: Host, mcp: McpHost
) -> None:
    declared: Any = [tool(mcp)]
    first = client.responses.create(model=MODEL, input="Hi", tools=declared)
    second = client.responses.create(model=MODEL, input="Hi", tools=declared, previous_response_id=first.id)
    assert [item.type for item in first.output] == ["mcp_list_tools", "message"]
    assert [item.type for item in second.output] == ["message"]
    assert offered(host, 0) == offered(host, 1) != []
    assert mcp.count("tools/list") == 1
    fewer: Any = [tool(mcp, allowed_tools=["look"])]
    third = client.responses.create(model=MODEL, input="Hi", tools=fewer, previous_response_id=second.id)
    assert [item.type for item in third.output] == ["mcp_list_tools", "message"]
    assert offered(host) == ["look"]


def test_a_conversation_lists_once(client: openai.OpenAI, host: Host, mcp: McpHost) -> None:
    conversation = client.conversations.create()
    declared: Any = [tool(mcp)]
    for _ in range(2):
        client.responses.create(model=MODEL, input="Hi", tools=declared, conversation=conversation.id)
    assert mcp.count("tools/list") == 1
    kinds = [item.type for item in client.conversations.items.list(conversation.id, order="asc")]
    assert kinds == ["message", "mcp_list_tools", "message", "message", "message"]


def test_an_unstored_context_that_the_client_sends_again_lists_once(
    client: openai.OpenAI, host: Host, mcp: McpHost
) -> None:
    host.answer(Reply(calls=[Call(name="look")]), Reply(text=["Seen."]))
    declared: Any = [tool(mcp)]
    first = client.responses.create(model=MODEL, input="Look", tools=declared, store=False)
    again: Any = [{"role": "user", "content": "Look"}, *(item.to_dict() for item in first.output)]
    client.responses.create(model=MODEL, input=[*again, {"role": "user", "content": "And?"}], tools=declared)
    assert mcp.count("tools/list") == 1
    assert [message["role"] for message in host.calls[-1].json["messages"]] == [
        *("user", "assistant", "tool", "assistant", "user")
    ]


@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        (["look", "pay"], ["pay", "look"]),
        ({"read_only": True}, ["look"]),
        ({"tool_names": ["pay", "look"], "read_only": False}, ["pay"]),
    ],
)
def test_only_allowed_tools_are_listed_and_offered(
    server: Server, host: Host, mcp: McpHost, allowed: Any, seen: list[str]
) -> None:
    stream = server.stream(input="Hi", tools=[tool(mcp, allowed_tools=allowed)])
    assert [each["name"] for each in stream.items[0]["tools"]] == offered(host) == seen


def test_two_servers_with_one_name_and_a_function_are_told_apart(server: Server, host: Host, mcp: McpHost) -> None:
    host.answer(
        Reply(
            calls=[
                Call(name="other_get_boiling_point", arguments='{"city": "Rome"}', id="a"),
                Call(name="look", id="b"),
            ]
        ),
        Reply(text=["ok"]),
    )
    function = {"type": "function", "name": "greet_everyone", "parameters": {}}
    other = tool(mcp, "/second", server_label="other")
    stream = server.stream(input="Hi", tools=[tool(mcp), other, function])
    assert {"get_boiling_point", "other_get_boiling_point", "greet_everyone", "lab_greet_everyone"} <= set(
        offered(host)
    )
    calls = {(item["server_label"], item["name"], item["output"]) for item in stream.of("mcp_call")}
    assert calls == {("other", "get_boiling_point", "99 in Rome"), ("lab", "look", "seen")}


@pytest.mark.parametrize("choice", [{"type": "mcp", "server_label": "lab", "name": "look"}, "required"])
def test_the_model_can_be_told_to_call_a_tool(server: Server, host: Host, mcp: McpHost, choice: Any) -> None:
    host.answer(Reply(calls=[Call(name="look")]), Reply(text=["Seen."]))
    server.stream(input="Hi", tools=[tool(mcp)], tool_choice=choice)
    asked = [call.json.get("tool_choice") for call in host.calls]
    wanted = "required" if choice == "required" else {"type": "function", "function": {"name": "look"}}
    assert asked[0] == wanted
    assert asked[1] in (None, "auto")


def test_a_choice_of_a_server_that_is_not_declared_is_refused(client: openai.OpenAI, mcp: McpHost) -> None:
    choice: Any = {"type": "mcp", "server_label": "elsewhere"}
    with pytest.raises(openai.BadRequestError, match="'elsewhere' not found"):
        client.responses.create(model=MODEL, input="Hi", tools=[tool(mcp)], tool_choice=choice)  # type: ignore[list-item]


def test_four_calls_of_one_turn_are_under_way_at_the_same_time(server: Server, host: Host, mcp: McpHost) -> None:
    names = ["a", "b", "c", "d"]
    mcp.gates = {name: Gate() for name in names}
    calls = [Call(name="wait", id=name, arguments=json.dumps({"gate": name})) for name in names]
    host.answer(Reply(calls=calls), Reply(text=["ok"]))
    with ThreadPoolExecutor() as pool:
        working = pool.submit(server.stream, input="Hi", tools=[tool(mcp)])
        for gate in mcp.gates.values():
            gate.wait()
        for gate in reversed(mcp.gates.values()):
            gate.open()
        stream = working.result()
    assert [item["output"] for item in stream.of("mcp_call")] == [f"{name} is open" for name in names]
    assert short(stream.types).count("mcp_call.completed") == 4
    assert mcp.count("server/discover") + mcp.count("initialize") == 1


# ---------------------------------------------------------------- results


def test_a_tool_that_fails_tells_the_model_and_shows_the_error(server: Server, host: Host, mcp: McpHost) -> None:
    host.answer(Reply(calls=[Call(name="fail", arguments='{"why": "no"}')]), Reply(text=["Sorry."]))
    stream = server.stream(input="Hi", tools=[tool(mcp)])
    call = stream.of("mcp_call")[0]
    content = [{"type": "text", "text": "Error executing tool fail"}]
    assert (call["status"], call["error"]) == ("failed", {"type": "mcp_tool_execution_error", "content": content})
    assert "mcp_call.failed" in short(stream.types)
    assert host.calls[-1].json["messages"][-1]["content"] == "Error executing tool fail"
    assert stream.response["status"] == "completed"


def test_results_are_bounded_structured_ones_are_text_and_pictures_are_words_for_a_blind_model(
    server: Server, host: Host, mcp: McpHost
) -> None:
    calls = [
        Call(name="long", id="a", arguments='{"size": 5000}'),
        Call(name="facts", id="b"),
        Call(name="picture", id="c"),
    ]
    host.answer(Reply(calls=calls), Reply(text=["ok"]))
    stream = server.stream(input="Hi", tools=[tool(mcp)])
    long, facts, picture = (item["output"] for item in stream.of("mcp_call"))
    assert long == "x" * 1000 + "\n[cut off here: more than the 1000 bytes that are allowed]"
    assert json.loads(facts) == {"one": 1}
    assert picture.startswith("[image: image/png, about ")


# ---------------------------------------------------------------- approvals


def asked(client: openai.OpenAI, host: Host, mcp: McpHost, *calls: Call, **more: Any) -> Any:
    """A response that ends with the question whether a payment may be made."""
    host.answer(Reply(calls=calls or [Call(name="pay", arguments='{"amount": 5}')]))
    declared: Any = [tool(mcp, require_approval=more.pop("require_approval", "always"))]
    return client.responses.create(model=MODEL, input="Pay", tools=declared, **more)


def answer(question: Any, approve: bool, reason: str | None = None) -> dict[str, Any]:
    said = {"type": "mcp_approval_response", "approval_request_id": question.id, "approve": approve}
    return said if reason is None else {**said, "reason": reason}


def test_what_is_approved_is_run_once_and_the_model_goes_on(
    server: Server, client: openai.OpenAI, host: Host, mcp: McpHost
) -> None:
    first = asked(client, host, mcp)
    question = first.output[-1]
    assert (first.status, question.type, question.name, question.arguments, question.server_label) == (
        *("completed", "mcp_approval_request", "pay"),
        *('{"amount": 5}', "lab"),
    )
    assert (mcp.calls["pay"], len(host.calls)) == (0, 1)
    body = {"previous_response_id": first.id, "tools": [tool(mcp, require_approval="always")]}
    stream = server.stream(input=[answer(question, approve=True)], **body)
    assert short(stream.types)[2:8] == CALLED
    call = stream.items[0]
    assert (call["approval_request_id"], call["output"], mcp.calls["pay"]) == (question.id, "paid 5", 1)
    messages = host.calls[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "call_1"
    assert messages[2]["content"] == "paid 5"
    assert mcp.count("tools/list") == 1
    # Again, in a fork: it was approved once.
    fork = server.stream(input=[answer(question, approve=True)], **body)
    assert (fork.items[0]["status"], mcp.calls["pay"]) == ("failed", 1)
    assert "counts once" in fork.items[0]["error"]["message"]
    # Again, in the same chain.
    got = server.post(
        "/responses",
        {
            "model": MODEL,
            **body,
            "previous_response_id": stream.response["id"],
            "input": [answer(question, approve=True)],
        },
    )
    assert (got.status, got.json["error"]["code"]) == (400, "approval_used")


def test_what_is_refused_is_not_run_and_the_model_is_told_why(client: openai.OpenAI, host: Host, mcp: McpHost) -> None:
    first = asked(client, host, mcp)
    declared: Any = [tool(mcp, require_approval="always")]
    given: Any = [answer(first.output[-1], approve=False, reason="Too much.")]
    second = client.responses.create(model=MODEL, input=given, tools=declared, previous_response_id=first.id)
    assert [item.type for item in second.output] == ["message"]
    told = host.calls[-1].json["messages"][-1]
    assert (told["role"], told["tool_call_id"]) == ("tool", "call_1")
    assert told["content"] == "The user did not allow this call; it was not run. The reason: Too much."
    assert mcp.calls["pay"] == 0


def test_two_concurrent_turns_with_one_approval_run_it_once(
    server: Server, client: openai.OpenAI, host: Host, mcp: McpHost
) -> None:
    first = asked(client, host, mcp)
    body = {"previous_response_id": first.id, "tools": [tool(mcp, require_approval="always")]}
    with ThreadPoolExecutor() as pool:
        turns = [pool.submit(server.stream, input=[answer(first.output[-1], approve=True)], **body) for _ in range(4)]
        states = sorted(turn.result().items[0]["status"] for turn in turns)
    assert (states, mcp.calls["pay"]) == (["completed", "failed", "failed", "failed"], 1)


@pytest.mark.parametrize(
    ("policy", "asks"),
    [
        (None, ["pay", "look"]),
        ("never", []),
        ({"never": {"tool_names": ["look"]}}, ["pay"]),
        ({"always": {"tool_names": ["look"]}, "never": {"tool_names": ["pay"]}}, ["look"]),
        ({"never": {"read_only": True}}, ["pay"]),
    ],
)
def test_who_is_asked_for_is_what_the_policy_says(
    client: openai.OpenAI, host: Host, mcp: McpHost, policy: Any, asks: list[str]
) -> None:
    calls = [Call(name="pay", arguments='{"amount": 5}', id="a"), Call(name="look", id="b")]
    response = asked(client, host, mcp, *calls, require_approval=policy)
    assert [item.name for item in response.output if item.type == "mcp_approval_request"] == asks
    assert [item.name for item in response.output if item.type == "mcp_call"] == [
        name for name in ("pay", "look") if name not in asks
    ]


def test_an_approval_holds_for_its_server_and_its_allowed_tools_alone(
    server: Server, client: openai.OpenAI, host: Host, mcp: McpHost
) -> None:
    first = asked(client, host, mcp)
    given = [answer(first.output[-1], approve=True)]
    for changed in (tool(mcp, "/second"), tool(mcp, allowed_tools=["look"])):
        body = {"model": MODEL, "previous_response_id": first.id, "tools": [changed], "input": given}
        got = server.post("/responses", body)
        assert (got.status, got.json["error"]["code"]) == (400, "approval_mismatch")
    nobodys = [{**given[0], "approval_request_id": "mcpr_nobodys"}]
    got = server.post("/responses", {"model": MODEL, "tools": [tool(mcp)], "input": nobodys})
    assert (got.status, got.json["error"]["code"]) == (400, "approval_request_not_found")
    assert mcp.calls["pay"] == 0


# ---------------------------------------------------------------- secrets, connectors, addresses


def test_headers_and_tokens_reach_the_server_and_nobody_else(server: Server, host: Host, mcp: McpHost) -> None:
    host.answer(Reply(calls=[Call(name="look")]), Reply(text=["ok"]))
    declared = tool(mcp, "/auth/mcp", authorization=TOKEN, headers={"X-Secret": "hidden-one"})
    body = {"model": MODEL, "input": "Hi", "tools": [declared], "background": True}
    made = server.post("/responses", body).json
    done = until(lambda: server.get(f"/responses/{made['id']}").json, lambda seen: seen["status"] == "completed")
    assert [item["type"] for item in done["output"]] == ["mcp_list_tools", "mcp_call", "message"]
    assert {each.headers["x-secret"] for each in mcp.asked} == {"hidden-one"}
    assert done["tools"][0].keys() == {"type", "server_label", "server_url", "require_approval"}
    everything = json.dumps([made, done, [call.json for call in host.calls]])
    assert TOKEN not in everything
    assert "hidden-one" not in everything


def test_a_connector_is_used_by_name_with_the_operators_token(server: Server, host: Host, mcp: McpHost) -> None:
    connector = {"type": "mcp", "server_label": "c", "connector_id": "connector_gmail", "require_approval": "never"}
    host.answer(Reply(calls=[Call(name="get_boiling_point", arguments=LIQUID)]), Reply(text=["ok"]))
    stream = server.stream(input="Hi", tools=[connector])
    assert offered(host) == ["get_boiling_point"]
    assert stream.of("mcp_call")[0]["output"] == "-100"
    shown = server.get("/connectors").json
    assert (shown["object"], [each["id"] for each in shown["data"]]) == ("list", ["connector_gmail"])
    assert TOKEN not in json.dumps(shown)
    assert "127.0.0.1" not in json.dumps(shown)


@pytest.mark.parametrize(
    ("changed", "status", "param"),
    [
        ({"server_url": None}, 400, "tools[0]"),
        ({"connector_id": "connector_gmail"}, 400, "tools[0]"),
        ({"server_url": None, "connector_id": "nobodys"}, 404, "tools[0].connector_id"),
        ({"server_url": "http://169.254.169.254/mcp"}, 400, "tools[0].server_url"),
        ({"server_url": "http://user:pw@example.com/mcp"}, 400, "tools[0].server_url"),
        ({"server_url": "file:///etc/passwd"}, 400, "tools[0].server_url"),
    ],
)
def test_what_cannot_be_reached_is_refused_before_anything_runs(
    server: Server, host: Host, mcp: McpHost, changed: Any, status: int, param: str
) -> None:
    got = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": [{**tool(mcp), **changed}]})
    assert (got.status, got.json["error"]["param"]) == (status, param)
    assert host.calls == []


# ---------------------------------------------------------------- servers that misbehave


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/auth/mcp", "HTTP status 401: it wants authentication"),
        ("/auth/sse", "HTTP status 401: it wants authentication"),
        ("/nowhere", "HTTP status 404"),
        ("/bad/html", "Unexpected content type"),
        ("/bad/broken", "HTTP status 500"),
        ("/bad/forbidden", "HTTP status 403"),
        ("/bad/garbage", "Failed to parse"),
        ("/bad/redirect", "Redirect to http://127.0.0.2:9/mcp not followed"),
        ("/bad/endless", "larger than is allowed"),
        ("/bad/cut", "ended without a response"),
    ],
)
def test_a_server_that_cannot_be_listed_fails_the_response_and_says_why(
    server: Server, host: Host, mcp: McpHost, path: str, why: str
) -> None:
    stream = server.stream(input="Hi", tools=[tool(mcp, path)])
    assert short(stream.types) == [
        *("created", "in_progress", "output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.failed"),
        *("output_item.done", "failed"),
    ]
    assert why in stream.items[0]["error"]
    error = stream.response["error"]
    assert error["code"] == "server_error"
    assert error["message"].startswith("The tools of the MCP server 'lab' could not be listed: ")
    assert "secret" not in error["message"]
    assert host.calls == []


def test_a_server_that_hangs_is_given_up(host: Host, mcp: McpHost, tmp_path_factory: pytest.TempPathFactory) -> None:
    hasty = {**settings(host, mcp), "mcp": {"list_s": 0.3}, "timeouts": {"tool_s": 0.3}}
    mcp.gates = {"g": Gate()}
    with running(hasty, tmp_path_factory.mktemp("hasty")) as server:
        stream = server.stream(input="Hi", tools=[tool(mcp, "/bad/hang")])
        assert "0.3 seconds" in stream.response["error"]["message"] or "0.3 s" in stream.response["error"]["message"]
        host.answer(Reply(calls=[Call(name="wait", arguments='{"gate": "g"}')]), Reply(text=["Too slow."]))
        stream = server.stream(input="Hi", tools=[tool(mcp)])
    call = stream.of("mcp_call")[0]
    assert (call["status"], stream.text) == ("failed", "Too slow.")
    assert "0.3 s" in call["error"]["message"]


def test_a_server_that_lies_about_its_tools_is_taken_for_what_is_true(server: Server, host: Host, mcp: McpHost) -> None:
    fine = {"type": "object", "properties": {}}
    mcp.lies = [
        {"name": "good", "inputSchema": fine},
        {"name": "good", "inputSchema": fine, "description": "twice"},
        {"name": "a/strange name!", "inputSchema": fine},
        {"name": "a strange_name!", "inputSchema": fine},
        {"name": "", "inputSchema": fine},
        {"name": "huge", "inputSchema": fine, "description": "x" * 100_000},
        *({"name": f"many_{number}", "inputSchema": fine} for number in range(1000)),
    ]
    host.answer(Reply(calls=[Call(name="a_strange_name_")]), Reply(text=["ok"]))
    stream = server.stream(input="Hi", tools=[tool(mcp, "/bad/lying")])
    names = offered(host)
    assert names[:4] == ["good", "a_strange_name_", "a_strange_name__2", "many_0"]
    assert len(names) == 40
    assert stream.of("mcp_call")[0]["name"] == "a/strange name!"


@pytest.mark.parametrize(
    "schema",
    [{"type": "array"}, {"type": "object", "properties": {"x": 5}}, {"type": "object", "required": 7}, "none", None],
)
def test_a_schema_that_is_none_makes_the_listing_fail(server: Server, host: Host, mcp: McpHost, schema: Any) -> None:
    mcp.lies = [{"name": "bad", "inputSchema": schema}, {"name": "good", "inputSchema": {"type": "object"}}]
    stream = server.stream(input="Hi", tools=[tool(mcp, "/bad/lying")])
    assert stream.items[0]["error"] == "The server answered with something that the protocol does not know."
    assert host.calls == []


def test_a_tool_that_is_gone_by_the_next_turn_tells_the_model(client: openai.OpenAI, host: Host, mcp: McpHost) -> None:
    declared: Any = [tool(mcp)]
    first = client.responses.create(model=MODEL, input="Hi", tools=declared)
    changed: Any = [tool(mcp, "/second")]
    host.answer(Reply(calls=[Call(name="pay", arguments="{}")]), Reply(text=["Gone."]))
    second = client.responses.create(model=MODEL, input="Hi", tools=changed, previous_response_id=first.id)
    # Another server under the same label is listed anew; a call of what it does not have is a call of nothing.
    assert [item.type for item in second.output] == ["mcp_list_tools", "function_call"]


def test_a_session_that_the_server_forgot_is_opened_again(server: Server, host: Host, mcp: McpHost) -> None:
    mcp.lies = [{"name": "act", "inputSchema": {"type": "object"}}]
    host.answer(Reply(calls=[Call(name="act")]), Reply(text=["ok"]))
    stream = server.stream(input="Hi", tools=[tool(mcp, "/bad/leaving")])
    assert stream.of("mcp_call")[0]["output"] == "done"
    assert (mcp.count("tools/call"), mcp.count("initialize")) == (2, 2)


def test_arguments_that_are_no_object_are_told_to_the_model(server: Server, host: Host, mcp: McpHost) -> None:
    host.answer(Reply(calls=[Call(name="pay", arguments="[1]")]), Reply(text=["Sorry."]))
    stream = server.stream(input="Hi", tools=[tool(mcp, require_approval="always")])
    call = stream.of("mcp_call")[0]
    assert (call["status"], call["error"]["type"]) == ("failed", "mcp_protocol_error")
    assert "not a JSON object" in host.calls[-1].json["messages"][-1]["content"]
    assert mcp.count("tools/call") == 0
