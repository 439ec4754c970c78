"""MCP servers that the server calls for an agent, with openai-agents."""

from typing import Any

import openai
import pytest
from agents import Agent, HostedMCPTool, OpenAIResponsesModel, RunConfig, Runner, function_tool

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
