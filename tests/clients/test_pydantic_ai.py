"""pydantic-ai: an agent over Responses and over chat completions."""

from collections.abc import Sequence
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.capabilities import NativeTool
from pydantic_ai.messages import NativeToolCallPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.native_tools import FileSearchTool, MCPServerTool, WebSearchTool
from pydantic_ai.providers.openai import OpenAIProvider

from antiphon.testing.host import Call, Host, Reply
from mcp_server import McpHost

MODEL = "scripted/scripted-model"
ROME = Reply(calls=[Call(name="get_weather", id="call_rome", arguments=['{"city"', ': "Rome"}'])])


class Forecast(BaseModel):
    """What an agent with an output type returns."""

    city: str
    degrees: int


class Weather:
    """An agent with one tool, which remembers the cities that it was asked for."""

    def __init__(self, model: Any, hosted: Sequence[Any] = (), **settings: Any) -> None:
        self.cities: list[str] = []
        said = "You know the weather."
        self.agent = Agent(model, instructions=said, model_settings=settings or None, capabilities=hosted)

        @self.agent.tool_plain
        def get_weather(city: str) -> str:
            """The weather in a city."""
            self.cities.append(city)
            return f"sunny in {city}"


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatModel])
def model(request: pytest.FixtureRequest, connection: openai.AsyncOpenAI) -> Any:
    return request.param(MODEL, provider=OpenAIProvider(openai_client=connection))


@pytest.fixture
def responses(connection: openai.AsyncOpenAI) -> OpenAIResponsesModel:
    return OpenAIResponsesModel(MODEL, provider=OpenAIProvider(openai_client=connection))


def roles(host: Host) -> list[str]:
    """The roles of the messages of the last model call."""
    return [message["role"] for message in host.calls[-1].json["messages"]]


async def test_a_tool_makes_its_round_trip_and_the_history_goes_on(model: Any, host: Host) -> None:
    weather = Weather(model)
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    first = await weather.agent.run("Weather in Rome?")
    again = await weather.agent.run("Thanks", message_history=first.all_messages())

    assert (weather.cities, first.output, again.output) == (["Rome"], "It is sunny.", "You are welcome.")
    assert roles(host) == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert host.calls[-1].json["messages"][3]["content"] == "sunny in Rome"


async def test_a_streamed_run_gives_the_text_in_its_pieces(model: Any, host: Host) -> None:
    weather = Weather(model)
    host.answer(ROME, Reply(text=["It is ", "sunny."]))

    async with weather.agent.run_stream("Weather in Rome?") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]

    assert (weather.cities, pieces) == (["Rome"], ["It is ", "sunny."])


async def test_an_output_type_is_a_function_that_ends_the_run(model: Any, host: Host) -> None:
    host.answer(Reply(calls=[Call(name="final_result", id="call_end", arguments='{"city": "Rome", "degrees": 20}')]))

    result = await Agent(model, output_type=Forecast).run("Rome?")

    assert result.output == Forecast(city="Rome", degrees=20)
    assert host.calls[-1].json["tool_choice"] == "required"


async def test_reasoning_comes_back_to_the_model_with_the_history(responses: OpenAIResponsesModel, host: Host) -> None:
    weather = Weather(responses, openai_store=False)
    host.answer(Reply(reasoning="They ask for Rome.", calls=ROME.calls), Reply(text="It is sunny."))

    result = await weather.agent.run("Weather in Rome?")

    assert result.output == "It is sunny."
    assert "They ask for Rome." in str(host.calls[-1].json["messages"])


async def test_runs_chain_by_the_previous_response(
    responses: OpenAIResponsesModel, host: Host, client: openai.OpenAI
) -> None:
    weather = Weather(responses, openai_previous_response_id="auto")
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    first = await weather.agent.run("Weather in Rome?")
    again = await weather.agent.run("Thanks", message_history=first.all_messages())

    last = client.responses.retrieve(str(again.response.provider_response_id))
    assert last.previous_response_id == first.response.provider_response_id
    assert roles(host) == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert weather.cities == ["Rome"]


async def test_a_conversation_kept_by_the_server_gets_each_turn_once(
    responses: OpenAIResponsesModel, host: Host, client: openai.OpenAI
) -> None:
    talk = client.conversations.create()
    weather = Weather(responses, openai_conversation_id=talk.id)
    host.answer(ROME, Reply(text="It is sunny."))

    await weather.agent.run("Weather in Rome?")

    items = list(client.conversations.items.list(talk.id, order="asc"))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output", "message"]


@pytest.mark.parametrize(
    "settings",
    [{"openai_send_reasoning_ids": True}, {"openai_previous_response_id": "auto"}],
    ids=["resent", "chained"],
)
async def test_tools_of_the_server_run_beside_the_agents_own(
    responses: OpenAIResponsesModel, host: Host, mcp: McpHost, *, page: str, beetles: tuple[str, str], settings: Any
) -> None:
    hosted = (
        WebSearchTool(),
        FileSearchTool(file_store_ids=[beetles[1]]),
        MCPServerTool(id="lab", url=mcp.url("/mcp")),
    )
    weather = Weather(responses, [NativeTool(tool) for tool in hosted], **settings)
    four = [
        Call(name="knowledge_search", id="call_file", arguments='{"query": "beetles wings"}'),
        Call(name="web_search", id="call_web", arguments='{"query": "q"}'),
        Call(name="get_boiling_point", id="call_mcp", arguments='{"liquid_name": "myawesomeliquid"}'),
        *ROME.calls,
    ]
    host.answer(Reply(calls=four), Reply(text=["See ", f"[A]({page})."]))

    result = await weather.agent.run("Find out all of it.")

    assert (weather.cities, result.output) == (["Rome"], f"See [A]({page}).")
    called = [part.tool_name for part in result.all_messages()[1].parts if isinstance(part, NativeToolCallPart)]
    assert {"file_search", "web_search", "mcp_server:lab"} <= {*called}
    told = [message["content"] for message in host.calls[-1].json["messages"] if message["role"] == "tool"]
    assert ("two pairs of wings" in told[0], "It is so." in told[1]) == (True, True)
    assert told[2:] == ["-100", "sunny in Rome"]
