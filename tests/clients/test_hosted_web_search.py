"""Web search that the server runs for an agent, with openai-agents."""

import json
from collections.abc import Iterator

import openai
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, WebSearchTool

from antiphon.testing.host import Call, Host, Raw, Reply, Request
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
QUIET = RunConfig(tracing_disabled=True)
PAGE = "https://example.org/a"


def found(request: Request) -> Raw | None:
    """What the scripted host says as a search provider."""
    if not request.path.endswith("/search"):
        return None
    results = {"results": [{"url": PAGE, "title": "A", "content": "It is so.", "score": 0.9, "raw_content": None}]}
    return Raw(headers=[("content-type", "application/json")], steps=[json.dumps(results).encode()])


@pytest.fixture(scope="module")
def session_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Antiphon with a search provider."""
    settings = {
        "hosts": {"scripted": {"base_url": session_host.url, "preset": "custom"}},
        "web_search": {"providers": {"tavily": {"base_url": session_host.url, "key": "theirs"}}},
    }
    with running(settings, tmp_path_factory.mktemp("web")) as started:
        yield started


@pytest.fixture
def model(connection: openai.AsyncOpenAI) -> OpenAIResponsesModel:
    return OpenAIResponsesModel(MODEL, connection)


async def test_a_web_search_is_run_by_the_server_and_its_page_cited(model: OpenAIResponsesModel, host: Host) -> None:
    host.by_request = found
    host.answer(
        Reply(calls=[Call(name="web_search", arguments='{"query": "q"}')]), Reply(text=["See [A](", PAGE, ")."])
    )

    agent = Agent(name="Web", model=model, tools=[WebSearchTool(search_context_size="low")])
    result = await Runner.run(agent, "Is it so?", run_config=QUIET)

    searched, said = result.raw_responses[0].output
    assert (searched.type, said.type) == ("web_search_call", "message")
    (note,) = said.content[0].annotations
    assert (note.type, note.url) == ("url_citation", PAGE)
    assert result.final_output[note.start_index : note.end_index] == f"[A]({PAGE})"
