"""langgraph and langchain-openai: an agent as a graph, over Responses and over chat completions."""

from typing import Any

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server
from mcp_server import McpHost

MODEL = "scripted/scripted-model"
ROME = Reply(calls=[Call(name="get_weather", id="call_rome", arguments=['{"city"', ': "Rome"}'])])
MODES: dict[str, dict[str, Any]] = {
    "chat": {"use_responses_api": False},
    "responses": {"use_responses_api": True},
    "chained": {"use_responses_api": True, "use_previous_response_id": True},
    "unstored": {"use_responses_api": True, "store": False, "include": ["reasoning.encrypted_content"]},
}


class Weather:
    """A graph of a model and a tool, which remembers the cities that it was asked for."""

    def __init__(self, server: Server, **mode: Any) -> None:
        self.cities: list[str] = []

        @tool
        def get_weather(city: str) -> str:
            """The weather in a city."""
            self.cities.append(city)
            return f"sunny in {city}"

        self.tools = [get_weather]
        self.model = ChatOpenAI(model=MODEL, base_url=server.url, api_key="unused", max_retries=0, **mode)
        bound = self.model.bind_tools(self.tools)
        graph = StateGraph(MessagesState)
        graph.add_node("agent", lambda state: {"messages": [bound.invoke(state["messages"])]})
        graph.add_node("tools", ToolNode(self.tools))
        graph.add_edge(START, "agent")
        graph.add_conditional_edges("agent", tools_condition)
        graph.add_edge("tools", "agent")
        self.graph: Any = graph.compile(checkpointer=InMemorySaver())

    def say(self, text: str) -> Any:
        """The messages after a turn of the one thread."""
        return self.graph.invoke({"messages": [("user", text)]}, {"configurable": {"thread_id": "1"}})["messages"]


@pytest.fixture(params=MODES)
def weather(request: pytest.FixtureRequest, server: Server) -> Weather:
    return Weather(server, **MODES[request.param])


def test_a_tool_makes_its_round_trip_and_the_thread_goes_on(weather: Weather, host: Host) -> None:
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    first, again = weather.say("Weather in Rome?"), weather.say("Thanks")

    assert weather.cities == ["Rome"]
    assert [message.type for message in first] == ["human", "ai", "tool", "ai"]
    assert [first[-1].text, again[-1].text] == ["It is sunny.", "You are welcome."]
    sent = host.calls[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
    assert [sent[2]["tool_call_id"], sent[2]["content"]] == ["call_rome", "sunny in Rome"]


def test_a_stream_of_the_graph_shows_tool_and_text_as_they_come(weather: Weather, host: Host) -> None:
    host.answer(ROME, Reply(text=["It is ", "sunny."]))

    config = {"configurable": {"thread_id": "1"}}
    stream = weather.graph.stream({"messages": [("user", "Rome?")]}, config, stream_mode="messages")
    pieces = [(where["langgraph_node"], piece.text) for piece, where in stream if piece.text]

    assert pieces == [("tools", "sunny in Rome"), ("agent", "It is "), ("agent", "sunny.")]
    assert weather.cities == ["Rome"]


def test_a_chained_thread_sends_only_what_is_new(server: Server, host: Host, client: openai.OpenAI) -> None:
    host.answer(ROME, Reply(text="It is sunny."))

    messages = Weather(server, **MODES["chained"]).say("Weather in Rome?")

    first, second = (
        client.responses.retrieve(message.response_metadata["id"]) for message in messages if message.type == "ai"
    )
    assert second.previous_response_id == first.id
    items = client.responses.input_items.list(second.id, order="asc")
    assert [item.type for item in items] == ["function_call_output"]


def test_sealed_reasoning_comes_back_to_the_model(server: Server, host: Host) -> None:
    host.answer(Reply(reasoning="They ask for Rome.", calls=ROME.calls), Reply(text="It is sunny."))

    messages = Weather(server, **MODES["unstored"]).say("Weather in Rome?")

    sealed = [block for block in messages[1].content if block["type"] == "reasoning"]
    assert sealed[0]["encrypted_content"]
    assert "They ask for Rome." in str(host.calls[-1].json["messages"])
    assert messages[-1].text == "It is sunny."


@pytest.mark.parametrize("mode", ["chat", "responses"])
def test_a_structured_output_is_asked_for_by_its_schema_and_read(server: Server, host: Host, mode: str) -> None:
    class Forecast(BaseModel):
        city: str
        degrees: int

    host.answer(Reply(text='{"city": "Rome", "degrees": 20}'))

    model = ChatOpenAI(model=MODEL, base_url=server.url, api_key="unused", **MODES[mode])
    answer = model.with_structured_output(Forecast, method="json_schema", strict=True).invoke("Rome?")

    assert answer == Forecast(city="Rome", degrees=20)
    assert host.calls[-1].json["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]


@pytest.mark.parametrize("mode", MODES)
def test_the_ready_made_agent_runs_its_tool_and_remembers(server: Server, host: Host, mode: str) -> None:
    weather = Weather(server, **MODES[mode])
    agent: Any = create_agent(weather.model, weather.tools, system_prompt="Be brief.", checkpointer=InMemorySaver())
    host.answer(ROME, Reply(text="It is sunny."), Reply(text="You are welcome."))

    said = [
        agent.invoke({"messages": [("user", text)]}, {"configurable": {"thread_id": "1"}})["messages"][-1].text
        for text in ("Weather in Rome?", "Thanks")
    ]

    assert (weather.cities, said) == (["Rome"], ["It is sunny.", "You are welcome."])
    roles = [message["role"] for message in host.calls[-1].json["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("mode", ["responses", "chained"])
def test_tools_of_the_server_are_bound_beside_the_agents_own(
    server: Server, host: Host, mcp: McpHost, *, page: str, beetles: tuple[str, str], mode: str
) -> None:
    weather = Weather(server, **MODES[mode])
    hosted = [
        {"type": "file_search", "vector_store_ids": [beetles[1]]},
        {"type": "web_search"},
        {"type": "mcp", "server_label": "lab", "server_url": mcp.url("/mcp"), "require_approval": "never"},
    ]
    agent: Any = create_agent(weather.model, [*weather.tools, *hosted])
    four = [
        Call(name="knowledge_search", id="call_file", arguments='{"query": "beetles wings"}'),
        Call(name="web_search", id="call_web", arguments='{"query": "q"}'),
        Call(name="get_boiling_point", id="call_mcp", arguments='{"liquid_name": "myawesomeliquid"}'),
        *ROME.calls,
    ]
    host.answer(Reply(calls=four), Reply(text=["See ", f"[A]({page})."]))

    messages = agent.invoke({"messages": [("user", "Find out all of it.")]})["messages"]

    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    blocks = {block["type"] for block in messages[1].content}
    assert {"file_search_call", "web_search_call", "mcp_list_tools", "mcp_call"} <= blocks
    assert weather.cities == ["Rome"]
    (note,) = messages[-1].content[0]["annotations"]
    assert (note["type"], note["url"]) == ("url_citation", page)
    told = [message["content"] for message in host.calls[-1].json["messages"] if message["role"] == "tool"]
    assert ("two pairs of wings" in told[0], "It is so." in told[1]) == (True, True)
    assert told[2:] == ["-100", "sunny in Rome"]
