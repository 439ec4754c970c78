"""openai-agents: function tools, handoffs, sessions over conversations, chains, sockets, compaction, file search."""

import json
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    FileSearchTool,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIResponsesCompactionSession,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
    responses_websocket_session,
)
from pydantic import BaseModel

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
NOBODY = "http://127.0.0.1:1/v1"
QUIET = RunConfig(tracing_disabled=True)
ROME = Reply(calls=[Call(name="get_weather", id="call_rome", arguments=['{"city"', ': "Rome"}'])])
TURN = ["function_call", "function_call_output", "message"]


class Weather:
    """An agent with one tool, which remembers the cities that it was asked for."""

    def __init__(self, model: Any) -> None:
        self.cities: list[str] = []

        @function_tool
        def get_weather(city: str) -> str:
            """The weather in a city."""
            self.cities.append(city)
            return f"sunny in {city}"

        self.agent = Agent(name="Weather", instructions="You know the weather.", model=model, tools=[get_weather])


@pytest.fixture
def model(connection: openai.AsyncOpenAI) -> OpenAIResponsesModel:
    return OpenAIResponsesModel(MODEL, connection)


@pytest.fixture
def weather(model: OpenAIResponsesModel) -> Weather:
    return Weather(model)


def roles(host: Host) -> list[str]:
    """The roles of the messages of the last model call."""
    return [message["role"] for message in host.calls[-1].json["messages"]]


def chain(client: openai.OpenAI, id: str) -> list[str]:
    """The responses that lead to this one, itself last."""
    before = client.responses.retrieve(id).previous_response_id
    return [*(chain(client, before) if before else ()), id]


async def test_a_function_tool_makes_its_round_trip(weather: Weather, host: Host) -> None:
    host.answer(ROME, Reply(text="It is sunny."))

    result = await Runner.run(weather.agent, "Weather in Rome?", run_config=QUIET)

    assert (weather.cities, result.final_output) == (["Rome"], "It is sunny.")
    assert roles(host) == ["system", "user", "assistant", "tool"]
    assert host.calls[-1].json["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_rome",
        "content": "sunny in Rome",
    }
    assert result.context_wrapper.usage.requests == 2


async def test_a_streamed_run_shows_the_call_its_output_and_the_pieces_of_the_text(
    weather: Weather, host: Host
) -> None:
    host.answer(ROME, Reply(text=["It is ", "sunny."]))

    result = Runner.run_streamed(weather.agent, "Weather in Rome?", run_config=QUIET)
    seen = [event async for event in result.stream_events()]

    items = [event.item.type for event in seen if event.type == "run_item_stream_event"]
    raw = [event.data for event in seen if event.type == "raw_response_event"]
    assert items == ["tool_call_item", "tool_call_output_item", "message_output_item"]
    assert [event.delta for event in raw if event.type == "response.output_text.delta"] == ["It is ", "sunny."]
    assert (weather.cities, result.final_output) == (["Rome"], "It is sunny.")


async def test_parallel_calls_are_both_answered_in_one_turn(weather: Weather, host: Host) -> None:
    calls = [
        Call(name="get_weather", id=f"call_{city}", arguments=f'{{"city": "{city}"}}') for city in ("Rome", "Oslo")
    ]
    host.answer(Reply(calls=calls), Reply(text="Both sunny."))

    result = await Runner.run(weather.agent, "Rome and Oslo?", run_config=QUIET)

    assert (sorted(weather.cities), result.final_output) == (["Oslo", "Rome"], "Both sunny.")
    assert roles(host) == ["system", "user", "assistant", "tool", "tool"]


async def test_a_handoff_goes_on_with_the_other_agents_instructions(model: OpenAIResponsesModel, host: Host) -> None:
    spanish = Agent(name="Spanish", instructions="Answer in Spanish.", model=model)
    triage = Agent(name="Triage", instructions="Hand over.", model=model, handoffs=[spanish])
    host.answer(Reply(calls=[Call(name="transfer_to_spanish", id="call_over")]), Reply(text="Hola."))

    result = await Runner.run(triage, "Buenos dias", run_config=QUIET)

    assert (result.last_agent, result.final_output) == (spanish, "Hola.")
    first, second = (call.json["messages"][0]["content"] for call in host.calls)
    assert (first, second) == ("Hand over.", "Answer in Spanish.")
    assert roles(host) == ["system", "user", "assistant", "tool"]


async def test_a_structured_output_is_asked_for_by_its_schema_and_read(model: OpenAIResponsesModel, host: Host) -> None:
    class Forecast(BaseModel):
        city: str
        degrees: int

    host.answer(Reply(text='{"city": "Rome", "degrees": 20}'))

    agent = Agent(name="Forecast", model=model, output_type=Forecast)
    result = await Runner.run(agent, "Rome?", run_config=QUIET)

    assert result.final_output == Forecast(city="Rome", degrees=20)
    asked = host.calls[-1].json["response_format"]["json_schema"]
    assert (asked["strict"], asked["schema"]["required"]) == (True, ["city", "degrees"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_session_over_a_conversation_holds_every_item_once(
    weather: Weather, host: Host, client: openai.OpenAI, connection: openai.AsyncOpenAI, streamed: bool
) -> None:
    session = OpenAIConversationsSession(openai_client=connection)
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    for said in ("Weather in Rome?", "Thanks"):
        if streamed:
            result = Runner.run_streamed(weather.agent, said, session=session, run_config=QUIET)
            assert [event async for event in result.stream_events()]
        else:
            await Runner.run(weather.agent, said, session=session, run_config=QUIET)

    items = list(client.conversations.items.list(session.session_id, order="asc"))
    assert [item.type for item in items] == ["message", *TURN, "message", "message"]
    assert len({item.id for item in items}) == len(items)
    assert roles(host) == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert weather.cities == ["Rome"]


async def test_a_session_gives_its_last_item_back_and_is_cleared(
    weather: Weather, host: Host, client: openai.OpenAI, connection: openai.AsyncOpenAI
) -> None:
    session = OpenAIConversationsSession(openai_client=connection)
    await Runner.run(weather.agent, "Hi", session=session, run_config=QUIET)

    popped: Any = await session.pop_item()
    left = await session.get_items()
    id = session.session_id
    await session.clear_session()

    assert popped["content"][0]["text"] == "Hello there."
    assert [item["role"] for item in left] == ["user"]  # type: ignore[typeddict-item]
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(id)


async def test_a_conversation_kept_by_the_server_gets_each_turn_once(
    weather: Weather, host: Host, client: openai.OpenAI
) -> None:
    talk = client.conversations.create()
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    for said in ("Weather in Rome?", "Thanks"):
        await Runner.run(weather.agent, said, conversation_id=talk.id, run_config=QUIET)

    items = list(client.conversations.items.list(talk.id, order="asc"))
    assert [item.type for item in items] == ["message", *TURN, "message", "message"]
    assert roles(host) == ["system", "user", "assistant", "tool", "assistant", "user"]


async def test_runs_chain_by_the_previous_response(weather: Weather, host: Host, client: openai.OpenAI) -> None:
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    first = await Runner.run(weather.agent, "Weather in Rome?", auto_previous_response_id=True, run_config=QUIET)
    assert first.last_response_id
    again = await Runner.run(weather.agent, "Thanks", previous_response_id=first.last_response_id, run_config=QUIET)

    made = [response.response_id for response in (*first.raw_responses, *again.raw_responses)]
    assert chain(client, str(again.last_response_id)) == made
    assert [item.type for item in client.responses.input_items.list(str(made[1]), order="asc")][-1:] == [
        "function_call_output"
    ]
    assert roles(host) == ["system", "user", "assistant", "tool", "assistant", "user"]


async def test_a_run_goes_over_a_socket_alone(server: Server, host: Host) -> None:
    host.answer(ROME, Reply(text="It is sunny."))
    async with responses_websocket_session(
        api_key="unused", base_url=NOBODY, websocket_base_url=server.url.replace("http", "ws")
    ) as session:
        weather = Weather(session.provider.get_model(MODEL))
        session.run_config.tracing_disabled = True

        result = session.run_streamed(weather.agent, "Weather in Rome?")
        seen = [event.type async for event in result.stream_events()]

    assert "raw_response_event" in seen
    assert (weather.cities, result.final_output) == (["Rome"], "It is sunny.")
    assert roles(host) == ["system", "user", "assistant", "tool"]


async def test_a_long_session_is_compacted_by_the_server_and_goes_on(
    host: Host, connection: openai.AsyncOpenAI
) -> None:
    named = "scripted/gpt-4.1"  # the session takes no name that is not OpenAI's
    kept = SQLiteSession("talk")
    session = OpenAIResponsesCompactionSession(
        "talk",
        kept,
        client=connection,
        model=named,
        should_trigger_compaction=lambda context: len(context["session_items"]) >= 4,
    )
    weather = Weather(OpenAIResponsesModel(named, connection))
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="Rome was sunny."), Reply(text="Yes, sunny."))

    await Runner.run(weather.agent, "Weather in Rome?", session=session, run_config=QUIET)
    left = [item.get("type", "message") for item in await kept.get_items()]
    result = await Runner.run(weather.agent, "Sure?", session=session, run_config=QUIET)

    assert left == ["message", "compaction"]
    assert result.final_output == "Yes, sunny."
    sent = json.dumps(host.calls[-1].json["messages"])
    assert "Rome was sunny." in sent
    assert "call_rome" not in sent


async def test_chat_completions_drive_the_same_agent(host: Host, connection: openai.AsyncOpenAI) -> None:
    weather = Weather(OpenAIChatCompletionsModel(MODEL, connection))
    host.answer(ROME, Reply(text="It is sunny."))

    result = await Runner.run(weather.agent, "Weather in Rome?", run_config=QUIET)

    assert (weather.cities, result.final_output) == (["Rome"], "It is sunny.")
    assert roles(host) == ["system", "user", "assistant", "tool"]


async def test_file_search_is_run_by_the_server_and_cited(
    model: OpenAIResponsesModel, host: Host, beetles: tuple[str, str]
) -> None:
    file, store = beetles
    host.answer(
        Reply(calls=[Call(name="knowledge_search", id="call_find", arguments='{"query": "beetles wings"}')]),
        Reply(text=["Two pairs", f" <|{file}|>."]),
    )
    tool = FileSearchTool(vector_store_ids=[store], max_num_results=3, include_search_results=True)

    agent = Agent(name="Librarian", model=model, tools=[tool])
    result = await Runner.run(agent, "How many wings do beetles have?", run_config=QUIET)

    search, said = result.raw_responses[0].output
    assert search.type == "file_search_call"
    assert [(hit.file_id, hit.filename) for hit in search.results or ()] == [(file, "beetles.md")]
    assert said.type == "message"
    assert [note.file_id for note in said.content[0].annotations] == [file]  # type: ignore[union-attr]
    assert result.final_output == "Two pairs."
    assert len(host.calls) == 2, "one response, of which the agent sees no turn"
