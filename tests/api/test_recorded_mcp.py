"""What models said to Llama Stack's MCP tests, played through the server and a real MCP server with those tools."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.rules import Stream, check
from antiphon.testing.server import Server, running
from mcp_server import McpHost

PREFIX = "tests/integration/responses/test_tool_responses.py::test_response_"
GPT = "client_with_models-txt=openai/gpt-4o"


class Conversation:
    """The recordings of one test: what was first said, the functions offered, and what each call gave."""

    def __init__(self, folder: Path, test_id: str) -> None:
        self.test_id = test_id
        found = [json.loads(file.read_text()) for file in sorted(folder.rglob("*.json"))]
        bodies = [each["request"]["body"] for each in found if each.get("test_id") == test_id]
        asked = sorted((body for body in bodies if body.get("messages")), key=lambda body: len(body["messages"]))
        self.words: str = asked[0]["messages"][-1]["content"]
        self.functions: list[dict[str, Any]] = [tool["function"] for tool in asked[0]["tools"]]
        self.answers: dict[str, str] = {}
        for body in asked:
            calls: dict[str, str] = {}
            for message in body["messages"]:
                for call in message.get("tool_calls") or ():
                    function = call["function"]
                    sent = json.dumps(json.loads(function["arguments"]), sort_keys=True)
                    calls[call["id"]] = f"{function['name']} {sent}"
                if message["role"] == "tool" and isinstance(message["content"], list):
                    self.answers[calls[message["tool_call_id"]]] = message["content"][0]["text"]


@pytest.fixture(scope="module")
def mcp() -> Iterator[McpHost]:
    with McpHost() as started:
        yield started


@pytest.fixture(scope="module")
def replaying(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers from the recordings; only the MCP server is real."""
    settings = {
        "mode": "replay",
        "recordings": str(shared / "recordings"),
        "hosts": {"openai": {"base_url": "https://api.openai.com/v1", "key": "none"}},
        "fetch": {"ports": [], "allowed_networks": ["127.0.0.0/8"]},
    }
    with running(settings, tmp_path_factory.mktemp("played")) as started:
        yield started


def played(server: Server, mcp: McpHost, conversation: Conversation, **body: Any) -> Stream:
    mcp.reset()
    mcp.offered, mcp.answers = conversation.functions, conversation.answers
    tool = {"type": "mcp", "server_label": "localmcp", "server_url": mcp.url("/played"), "require_approval": "never"}
    header = {"X-LlamaStack-Provider-Data": json.dumps({"__test_id": conversation.test_id})}
    asked = {"model": "openai/gpt-4o", "input": conversation.words, "tools": [tool], "stream": True, **body}
    got = server.post("/responses", asked, header)
    assert got.status == 200, got.body
    return check(got.body)


@pytest.mark.parametrize(
    ("name", "calls", "words"),
    [
        ("non_streaming_mcp_tool[{}-boiling_point_tool]", ["get_boiling_point"], "-100"),
        ("sequential_mcp_tool[{}-boiling_point_tool]", ["get_boiling_point"], "-100"),
        (
            "non_streaming_multi_turn_tool_execution[{}-user_file_access_check]",
            ["get_user_id", "check_file_access"],
            "yes",
        ),
        (
            "non_streaming_multi_turn_tool_execution[{}-experiment_results_lookup]",
            ["get_experiment_id", "get_experiment_results"],
            "100°C",
        ),
        (
            "streaming_multi_turn_tool_execution[{}-user_permissions_workflow]",
            ["get_user_id", "get_user_permissions", "check_file_access"],
            "no",
        ),
        (
            "streaming_multi_turn_tool_execution[{}-experiment_analysis_streaming]",
            ["get_experiment_id", "get_experiment_results"],
            "85%",
        ),
    ],
)
def test_a_recorded_conversation_lists_calls_and_answers(
    replaying: Server, mcp: McpHost, shared: Path, name: str, calls: list[str], words: str
) -> None:
    stream = played(replaying, mcp, Conversation(shared / "recordings" / "responses", PREFIX + name.format(GPT)))
    assert stream.response["status"] == "completed", stream.response["error"]
    assert [item["type"] for item in stream.items if item["type"] != "message"] == [
        *("mcp_list_tools", *["mcp_call"] * len(calls))
    ]
    made = stream.of("mcp_call")
    assert [(call["name"], call["status"]) for call in made] == [(each, "completed") for each in calls]
    assert [call["output"] for call in made] == [
        mcp.answers[f"{call['name']} {json.dumps(json.loads(call['arguments']), sort_keys=True)}"] for call in made
    ]
    assert words in stream.text.lower() or words in stream.text


def test_a_recorded_conversation_goes_on_and_does_not_list_again(replaying: Server, mcp: McpHost, shared: Path) -> None:
    name = f"sequential_mcp_tool[{GPT}-boiling_point_tool]"
    conversation = Conversation(shared / "recordings" / "responses", PREFIX + name)
    first = played(replaying, mcp, conversation)
    second = played(replaying, mcp, conversation, previous_response_id=first.response["id"])
    assert second.response["status"] == "completed", second.response["error"]
    assert "mcp_list_tools" not in [item["type"] for item in second.items]
    assert "-100" in second.text


@pytest.mark.parametrize("approve", [True, False])
def test_a_recorded_conversation_asks_before_it_calls(
    replaying: Server, mcp: McpHost, shared: Path, approve: bool
) -> None:
    name = f"mcp_tool_approval[{GPT}-{approve}-boiling_point_tool]"
    conversation = Conversation(shared / "recordings" / "responses", PREFIX + name)
    tool = {"type": "mcp", "server_label": "localmcp", "server_url": mcp.url("/played")}
    first = played(replaying, mcp, conversation, tools=[tool])
    assert [item["type"] for item in first.items] == ["mcp_list_tools", "mcp_approval_request"]
    if approve:
        said = {"type": "mcp_approval_response", "approval_request_id": first.items[1]["id"], "approve": True}
        more = {"tools": [tool], "input": [said], "previous_response_id": first.response["id"]}
        second = played(replaying, mcp, conversation, **more)
        assert [item["type"] for item in second.items] == ["mcp_call", "message"]
        assert "-100" in second.text


# ---------------------------------------------------------------- an agent over a registered group

AGENT = "tests/integration/tool_runtime/test_mcp.py::test_mcp_invocation[txt=ollama/llama3.2:3b-instruct-fp16]"


def test_a_recorded_agent_greets_and_looks_up_over_two_turns(mcp: McpHost, shared: Path, tmp_path: Path) -> None:
    folder = shared / "recordings" / "tool_runtime"
    conversation = Conversation(folder, AGENT)
    mcp.reset()
    mcp.offered, mcp.answers = conversation.functions, conversation.answers
    settings = {
        "mode": "replay",
        "recordings": str(folder),
        "fetch": {"ports": [], "allowed_networks": ["127.0.0.0/8"]},
    }
    header = {"X-LlamaStack-Provider-Data": json.dumps({"__test_id": AGENT})}
    group = {"toolgroup_id": "mcp::localmcp", "provider_id": "model-context-protocol"}
    tool = {"type": "mcp", "server_label": "localmcp", "connector_id": "mcp::localmcp", "require_approval": "never"}
    with running(settings, tmp_path / "server") as server:
        assert server.post("/toolgroups", {**group, "mcp_endpoint": {"uri": mcp.url("/played")}}).status == 200
        listed = server.get("/tools?toolgroup_id=mcp::localmcp").json["data"]
        assert [each["name"] for each in listed] == ["greet_everyone", "get_boiling_point"]
        greeted = server.post("/tool-runtime/invoke", {"tool_name": "greet_everyone", "kwargs": {"url": "world"}})
        assert greeted.json["content"] == [{"type": "text", "text": "Hello, world!"}]

        session = server.post("/conversations", {}).json["id"]
        turns = []
        for question in (
            "Say hi to the world. Use tools to do so.",
            "What is the boiling point of polyjuice? Use tools to answer.",
        ):
            said = [{"role": "user", "content": [{"type": "input_text", "text": question}]}]
            asked = {
                "model": "ollama/llama3.2:3b-instruct-fp16",
                "instructions": "You are a helpful assistant.",
                "conversation": session,
                "input": said,
                "tools": [tool],
            }
            got = server.post("/responses", asked, header)
            assert got.json["status"] == "completed", got.body
            turns.append(got.json["output"])

    assert [[item["type"] for item in turn] for turn in turns] == [
        ["mcp_list_tools", "mcp_call", "message"],
        ["mcp_call", "message"],
    ]
    (_, greeting, first), (boiling, second) = turns
    assert (greeting["name"], greeting["arguments"], greeting["output"]) == (
        *("greet_everyone", '{"url":"world"}', "Hello, world!"),
    )
    assert (boiling["name"], boiling["output"]) == ("get_boiling_point", "-1")
    assert "say hello in various languages" in first["content"][0]["text"]
    assert "Polyjuice is a fictional potion" in second["content"][0]["text"]
