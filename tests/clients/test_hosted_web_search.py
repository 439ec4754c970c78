"""Web search that the server runs for an agent, with openai-agents."""

import openai
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, WebSearchTool

from antiphon.testing.host import Call, Host, Reply

MODEL = "scripted/scripted-model"
QUIET = RunConfig(tracing_disabled=True)


@pytest.fixture
def model(connection: openai.AsyncOpenAI) -> OpenAIResponsesModel:
    return OpenAIResponsesModel(MODEL, connection)


async def test_a_web_search_is_run_by_the_server_and_its_page_cited(
    model: OpenAIResponsesModel, host: Host, page: str
) -> None:
    host.answer(
        Reply(calls=[Call(name="web_search", arguments='{"query": "q"}')]), Reply(text=["See [A](", page, ")."])
    )

    agent = Agent(name="Web", model=model, tools=[WebSearchTool(search_context_size="low")])
    result = await Runner.run(agent, "Is it so?", run_config=QUIET)

    searched, said = result.raw_responses[0].output
    assert (searched.type, said.type) == ("web_search_call", "message")
    (note,) = said.content[0].annotations
    assert (note.type, note.url) == ("url_citation", page)
    assert result.final_output[note.start_index : note.end_index] == f"[A]({page})"
