"""llama-stack-client: its Agent over the OpenAI routes, through its own client and through OpenAI's."""

from typing import Any

import openai
import pytest
from llama_stack_client import LlamaStackClient
from llama_stack_client.lib.agents.agent import Agent
from llama_stack_client.lib.agents.event_logger import AgentEventLogger

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
ROME = Reply(calls=[Call(name="get_weather", id="call_rome", arguments=['{"city"', ': "Rome"}'])])


class Weather:
    """An agent with one tool, which remembers the cities that it was asked for."""

    def __init__(self, client: Any) -> None:
        self.cities: list[str] = []

        def get_weather(city: str) -> str:
            """The weather in a city.

            :param city: the name of the city
            """
            self.cities.append(city)
            return f"sunny in {city}"

        self.agent = Agent(client, model=MODEL, instructions="You know the weather.", tools=[get_weather])
        self.session = self.agent.create_session("weather")

    def say(self, text: str, *, stream: bool) -> Any:
        """A turn: its events, or its last response."""
        messages = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]
        return self.agent.create_turn(messages, self.session, stream=stream)


@pytest.fixture(params=["its own", "OpenAI's"])
def weather(request: pytest.FixtureRequest, server: Server, client: openai.OpenAI) -> Weather:
    return Weather(LlamaStackClient(base_url=server.root, max_retries=0) if request.param == "its own" else client)


def test_turns_of_a_session_are_kept_in_a_conversation_once(
    weather: Weather, host: Host, client: openai.OpenAI
) -> None:
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    first = weather.say("Weather in Rome?", stream=False)
    again = weather.say("Thanks", stream=False)

    assert (weather.cities, first.output_text, again.output_text) == (["Rome"], "It is sunny.", "You are welcome.")
    items = list(client.conversations.items.list(weather.session, order="asc"))
    kinds = ["message", "function_call", "function_call_output", "message", "message", "message"]
    assert [item.type for item in items] == kinds
    assert client.conversations.retrieve(weather.session).metadata == {"name": "weather"}
    roles = [message["role"] for message in host.calls[-1].json["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


def test_a_streamed_turn_shows_its_steps_and_its_log_reads_well(weather: Weather, host: Host) -> None:
    host.answer(ROME, Reply(text=["It is ", "sunny."]))

    chunks = list(weather.say("Weather in Rome?", stream=True))

    steps = [chunk.event.step_type for chunk in chunks if type(chunk.event).__name__ == "StepCompleted"]
    assert steps == ["inference", "tool_execution", "inference"]
    log = "".join(AgentEventLogger().log(iter(chunks)))
    assert "get_weather" in log
    assert log.count("It is sunny.") == 1


@pytest.mark.parametrize("own", [True, False])
def test_a_search_by_the_server_is_a_step_of_the_turn(
    server: Server, client: openai.OpenAI, host: Host, *, beetles: tuple[str, str], own: bool
) -> None:
    find = Call(name="knowledge_search", id="call_find", arguments='{"query": "beetles wings"}')
    host.answer(Reply(calls=[find]), Reply(text="Two pairs."))

    search = {"type": "file_search", "vector_store_ids": [beetles[1]]}
    driven = LlamaStackClient(base_url=server.root, max_retries=0) if own else client
    agent = Agent(driven, model=MODEL, instructions="Look it up.", tools=[search])
    session = agent.create_session("library")
    chunks = list(agent.create_turn([{"role": "user", "content": "How many wings?"}], session))

    assert chunks[-1].response.output_text == "Two pairs."
    steps = [chunk.event for chunk in chunks if type(chunk.event).__name__ == "StepCompleted"]
    assert [step.step_type for step in steps] == ["inference", "tool_execution", "inference"]
    assert [call.tool_name for call in steps[1].result.tool_calls] == ["file_search_call"]
