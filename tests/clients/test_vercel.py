"""Vercel's AI SDK, in Node: tools in several steps, streams, references to items, chains, file search."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server
from mcp_server import McpHost

AGENT = Path(__file__).with_name("vercel") / "agent.mjs"
ROME = Reply(calls=[Call(name="get_weather", id="call_rome", arguments=['{"city"', ': "Rome"}'])])
LIQUID = '{"liquid_name": "myawesomeliquid"}'
STEPS = [["tool-call", "tool-result"], ["text"]]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(server: Server) -> Run:
    """Runs the agent; what it says it did."""

    def ran(*arguments: str) -> dict[str, Any]:
        command = ["node", str(AGENT), server.url, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    return ran


def roles(host: Host) -> list[str]:
    """The roles of the messages of the last model call."""
    return [message["role"] for message in host.calls[-1].json["messages"]]


@pytest.mark.parametrize("mode", ["responses", "unstored", "chat"])
def test_a_tool_makes_its_round_trip_and_the_messages_go_on(run: Run, host: Host, mode: str) -> None:
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    done = run(mode)

    assert done["cities"] == ["Rome"]
    assert done["first"]["steps"] == STEPS
    assert (done["first"]["text"], done["again"]["text"]) == ("It is sunny.", "You are welcome.")
    assert roles(host) == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert host.calls[-1].json["messages"][3] == {
        "role": "tool",
        "tool_call_id": "call_rome",
        "content": "sunny in Rome",
    }


def test_what_the_server_stored_is_referred_to_and_found(run: Run, host: Host, client: openai.OpenAI) -> None:
    host.answer(
        Reply(reasoning="They ask for Rome.", calls=ROME.calls),
        Reply(text="It is sunny."),
        Reply(text="You are welcome."),
    )

    done = run("responses")

    reasoning, said = (client.responses.retrieve(id).output[0] for id in done["first"]["ids"])
    sent = [item.id for item in client.responses.input_items.list(done["again"]["ids"][0], order="asc")]
    assert [sent.count(reasoning.id), sent.count(said.id)] == [1, 1]
    assert host.calls[-1].json["messages"][2]["reasoning_content"] == "They ask for Rome."


@pytest.mark.parametrize("mode", ["streamed", "streamed chat"])
def test_a_streamed_run_gives_the_text_in_its_pieces(run: Run, host: Host, mode: str) -> None:
    host.answer(ROME, Reply(text=["It is ", "sunny."]))

    done = run(mode)

    assert (done["cities"], done["pieces"]) == (["Rome"], ["It is ", "sunny."])
    assert [step[-2:] for step in done["steps"]] == STEPS


def test_sealed_reasoning_comes_back_to_the_model(run: Run, host: Host) -> None:
    host.answer(Reply(reasoning="They ask for Rome.", calls=ROME.calls), Reply(text="It is sunny."))

    done = run("unstored")

    assert done["first"]["text"] == "It is sunny."
    assert host.calls[1].json["messages"][2]["reasoning_content"] == "They ask for Rome."


def test_runs_chain_by_the_previous_response(run: Run, host: Host, client: openai.OpenAI) -> None:
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    done = run("chained")

    last = client.responses.retrieve(done["again"]["ids"][0])
    assert last.previous_response_id == done["first"]["ids"][-1]
    assert roles(host) == ["system", "user", "assistant", "tool", "assistant", "user"]


def test_a_conversation_kept_by_the_server_gets_each_item_once(run: Run, host: Host, client: openai.OpenAI) -> None:
    talk = client.conversations.create()
    host.answer(ROME, Reply(text="It is sunny."))

    done = run("conversation", talk.id)

    assert (done["cities"], done["text"]) == (["Rome"], "It is sunny.")
    items = list(client.conversations.items.list(talk.id, order="asc"))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output", "message"]


def test_file_search_is_run_by_the_server_and_cited(run: Run, host: Host, beetles: tuple[str, str]) -> None:
    file, store = beetles
    find = Call(name="knowledge_search", id="call_find", arguments='{"query": "beetles wings"}')
    host.answer(Reply(calls=[find]), Reply(text=["Two pairs", f" <|{file}|>."]))

    done = run("searched", store)

    assert done["text"] == "Two pairs."
    assert (done["found"], done["sources"]) == (["beetles.md"], ["beetles.md"])
    assert len(done["ids"]) == 1


def test_tools_of_the_server_run_beside_the_agents_own(
    run: Run, host: Host, mcp: McpHost, *, page: str, beetles: tuple[str, str]
) -> None:
    four = [
        Call(name="knowledge_search", id="call_file", arguments='{"query": "beetles wings"}'),
        Call(name="web_search", id="call_web", arguments='{"query": "q"}'),
        Call(name="get_boiling_point", id="call_mcp", arguments=LIQUID),
        *ROME.calls,
    ]
    host.answer(Reply(calls=four), Reply(text=["See ", f"[A]({page})."]))

    done = run("hosted", beetles[1], mcp.url("/mcp"))

    assert (done["cities"], done["text"], done["urls"]) == (["Rome"], f"See [A]({page}).", [page])
    assert done["calls"] == ["file_search", "web_search", "get_weather", "mcp.get_boiling_point"]
    told = [message["content"] for message in host.calls[-1].json["messages"] if message["role"] == "tool"]
    assert ("two pairs of wings" in told[1], "It is so." in told[2]) == (True, True)
    assert (told[0], told[3]) == ("sunny in Rome", "-100")  # the SDK sends what the server ran last


def test_an_mcp_call_waits_for_the_approval_of_the_user(run: Run, host: Host, mcp: McpHost) -> None:
    host.answer(Reply(calls=[Call(name="get_boiling_point", arguments=LIQUID)]), Reply(text="It is -100."))

    done = run("approved", mcp.url("/mcp"))

    assert (done["requests"], done["text"]) == (1, "It is -100.")
    assert host.calls[-1].json["messages"][-1]["content"] == "-100"


def test_a_structured_output_is_asked_for_by_its_schema_and_read(run: Run, host: Host) -> None:
    host.answer(Reply(text='{"city": "Rome", "degrees": 20}'))

    assert run("structured")["output"] == {"city": "Rome", "degrees": 20}
    assert host.calls[-1].json["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]


def test_the_snippet_of_the_page_runs_as_it_stands(server: Server, host: Host) -> None:
    page = (AGENT.parents[3] / "docs" / "how-to" / "clients.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```js clients\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    source = snippet.replace("http://127.0.0.1:8321/v1", server.url).replace("openai/gpt-4o-mini", "scripted-model")

    command = ["node", "--input-type=module", "--eval", source]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=AGENT.parent)

    assert (done.stdout.strip(), done.returncode) == ("Hello there.", 0), done.stderr
