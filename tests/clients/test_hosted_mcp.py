"""MCP servers that the server calls for an agent, alone and beside all other tools, with openai-agents."""

from collections import Counter
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    FileSearchTool,
    HostedMCPTool,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    WebSearchTool,
    function_tool,
)

from antiphon.testing.host import Call, Host, Reply
from mcp_server import McpHost

MODEL = "scripted/scripted-model"
QUIET = RunConfig(tracing_disabled=True)
LIQUID = '{"liquid_name": "myawesomeliquid"}'


@pytest.fixture
def model(connection: openai.AsyncOpenAI) -> OpenAIResponsesModel:
    return OpenAIResponsesModel(MODEL, connection)


def hosted(mcp: McpHost, **more: Any) -> HostedMCPTool:
    """The declaration of the MCP server."""
    config: Any = {"type": "mcp", "server_label": "lab", "server_url": mcp.url("/mcp"), "require_approval": "never"}
    return HostedMCPTool(tool_config={**config, **more.pop("config", {})}, **more)


async def test_an_mcp_server_is_called_beside_a_function_of_the_agents(
    model: OpenAIResponsesModel, host: Host, mcp: McpHost
) -> None:
    cities: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        cities.append(city)
        return "sunny"

    both = [
        Call(name="get_boiling_point", id="call_mcp", arguments=LIQUID),
        Call(name="get_weather", id="call_rome", arguments='{"city": "Rome"}'),
    ]
    host.answer(Reply(calls=both), Reply(text="-100, and sunny."))

    agent = Agent(name="Lab", model=model, tools=[hosted(mcp), get_weather])
    result = await Runner.run(agent, "Boiling point, and weather in Rome?", run_config=QUIET)

    first = result.raw_responses[0].output
    assert [item.type for item in first] == ["mcp_list_tools", "mcp_call", "function_call"]
    assert (first[1].output, cities, result.final_output) == ("-100", ["Rome"], "-100, and sunny.")
    outputs = [message["content"] for message in host.calls[-1].json["messages"] if message["role"] == "tool"]
    assert sorted(outputs) == ["-100", "sunny"]


@pytest.mark.parametrize("approve", [True, False])
async def test_an_mcp_call_waits_for_the_agents_approval(
    model: OpenAIResponsesModel, host: Host, mcp: McpHost, approve: bool
) -> None:
    asked: list[str] = []

    def decide(request: Any) -> Any:
        asked.append(f"{request.data.name} {request.data.arguments}")
        return {"approve": approve}

    tool = hosted(mcp, config={"require_approval": "always"}, on_approval_request=decide)
    host.answer(Reply(calls=[Call(name="get_boiling_point", arguments=LIQUID)]), Reply(text="Done."))

    agent = Agent(name="Lab", model=model, tools=[tool])
    result = await Runner.run(agent, "Boiling point?", auto_previous_response_id=True, run_config=QUIET)

    assert asked == [f"get_boiling_point {LIQUID}"]
    assert result.final_output == "Done."
    calls = [item for response in result.raw_responses for item in response.output if item.type == "mcp_call"]
    assert [call.output for call in calls] == (["-100"] if approve else [])


class Lab:
    """An agent with tools of every side: the server's own, an MCP server's, and the agent's; it may hand over."""

    def __init__(self, model: OpenAIResponsesModel, mcp: McpHost, store: str) -> None:
        self.cities: list[str] = []
        self.asked: list[str] = []

        @function_tool
        def get_weather(city: str) -> str:
            """The weather in a city."""
            self.cities.append(city)
            return "sunny"

        def decide(request: Any) -> Any:
            self.asked.append(request.data.name)
            return {"approve": True}

        approved = hosted(mcp, config={"require_approval": "always"}, on_approval_request=decide)
        self.writer = Agent(name="Writer", instructions="Write it up.", model=model)
        tools = [approved, FileSearchTool(vector_store_ids=[store]), WebSearchTool(), get_weather]
        self.agent = Agent(name="Lab", model=model, tools=tools, handoffs=[self.writer])


async def test_tools_of_every_side_and_a_handoff_go_through_one_session(
    model: OpenAIResponsesModel,
    host: Host,
    mcp: McpHost,
    *,
    client: openai.OpenAI,
    connection: openai.AsyncOpenAI,
    page: str,
    beetles: tuple[str, str],
) -> None:
    lab = Lab(model, mcp, beetles[1])
    session = OpenAIConversationsSession(openai_client=connection)
    four = [
        Call(name="knowledge_search", id="call_file", arguments='{"query": "beetles wings"}'),
        Call(name="web_search", id="call_web", arguments='{"query": "q"}'),
        Call(name="get_boiling_point", id="call_mcp", arguments=LIQUID),
        Call(name="get_weather", id="call_rome", arguments='{"city": "Rome"}'),
    ]
    host.answer(
        Reply(calls=four),
        Reply(calls=[Call(name="transfer_to_writer", id="call_over")]),
        Reply(text=["All of ", f"it, see [A]({page})."]),
        Reply(text="You are welcome."),
    )

    done = Runner.run_streamed(lab.agent, "Find out all of it.", session=session, run_config=QUIET)
    seen = [event.data async for event in done.stream_events() if event.type == "raw_response_event"]
    thanked = await Runner.run(lab.writer, "Thanks", session=session, run_config=QUIET)

    assert (lab.asked, lab.cities, done.last_agent) == (["get_boiling_point"], ["Rome"], lab.writer)
    assert (done.final_output, thanked.final_output) == (f"All of it, see [A]({page}).", "You are welcome.")
    assert {f"response.{kind}_call.completed" for kind in ("file_search", "web_search", "mcp")} <= {
        event.type for event in seen
    }
    items = list(client.conversations.items.list(session.session_id, order="asc", limit=100))
    assert len({item.id for item in items}) == len(items)
    kinds = Counter(item.type for item in items)
    assert kinds["file_search_call"] == kinds["web_search_call"] == kinds["mcp_call"] == 1
    assert kinds["function_call"] == kinds["function_call_output"] == 2
    told = [message["content"] for message in host.calls[-1].json["messages"] if message["role"] == "tool"]
    file, web, *others = told
    assert ("two pairs of wings" in file, "It is so." in web) == (True, True), "what was found is known in later turns"
    assert others == ["sunny", "-100", '{"assistant": "Writer"}']
