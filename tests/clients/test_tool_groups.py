"""llama-stack-client over tool groups.

Version 0.7 has no methods for their routes, which those from 0.3 to 0.6 have: its own client is used as plain HTTP.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from llama_stack_client import AuthenticationError, LlamaStackClient, NotFoundError
from llama_stack_client.lib.agents.agent import Agent

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server, running
from mcp_server import TOKEN, McpHost

MODEL = "scripted/scripted-model"
GROUP = "mcp::lab"
LIQUID = '{"liquid_name": "myawesomeliquid"}'


@pytest.fixture(scope="module")
def mcp() -> Iterator[McpHost]:
    with McpHost() as started:
        yield started


@pytest.fixture(scope="module")
def session_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Antiphon that may reach servers on this machine."""
    settings = {
        "hosts": {"scripted": {"base_url": session_host.url, "preset": "custom"}},
        "fetch": {"ports": [], "allowed_networks": ["127.0.0.0/8"]},
    }
    with running(settings, tmp_path_factory.mktemp("groups")) as started:
        yield started


@pytest.fixture
def llama(server: Server, mcp: McpHost) -> Iterator[LlamaStackClient]:
    """The client, with a group registered whose server wants a token."""
    mcp.reset()
    with LlamaStackClient(base_url=server.root, max_retries=0) as client:
        endpoint = {"uri": mcp.url("/auth/mcp")}
        body = {"toolgroup_id": GROUP, "provider_id": "model-context-protocol", "mcp_endpoint": endpoint}
        client.post("/v1/toolgroups", body=body, cast_to=type(None))
        yield client
        client.delete(f"/v1/toolgroups/{GROUP}", cast_to=type(None))


def test_a_group_is_listed_and_called_with_the_clients_provider_data(
    llama: LlamaStackClient, server: Server, mcp: McpHost
) -> None:
    with pytest.raises(AuthenticationError, match="wants authentication"):
        llama.get(f"/v1/tools?toolgroup_id={GROUP}", cast_to=object)
    secrets = {"mcp_headers": {mcp.url("/auth/mcp"): {"Authorization": f"Bearer {TOKEN}"}}}
    mine = LlamaStackClient(base_url=server.root, max_retries=0, provider_data=secrets)
    tools: Any = mine.get(f"/v1/tools?toolgroup_id={GROUP}", cast_to=object)
    assert "greet_everyone" in [tool["name"] for tool in tools["data"]]
    call = {"tool_name": "greet_everyone", "kwargs": {"url": "world"}}
    result: Any = mine.post("/v1/tool-runtime/invoke", body=call, cast_to=object)
    assert result["content"] == [{"type": "text", "text": "Hello, world"}]
    with pytest.raises(NotFoundError, match="Tool Group 'other' not found"):
        mine.get("/v1/toolgroups/other", cast_to=object)


def test_an_agent_uses_a_registered_group(llama: LlamaStackClient, host: Host, mcp: McpHost) -> None:
    host.answer(Reply(calls=[Call(name="get_boiling_point", id="call_1", arguments=LIQUID)]), Reply(text="-100."))
    tool = {"type": "mcp", "server_label": "lab", "connector_id": GROUP, "authorization": TOKEN}
    agent = Agent(llama, model=MODEL, instructions="Use it.", tools=[{**tool, "require_approval": "never"}])
    session = agent.create_session("lab")
    chunks = list(agent.create_turn([{"role": "user", "content": "Boiling point?"}], session))
    assert chunks[-1].response.output_text == "-100."
    assert (mcp.calls["get_boiling_point"], host.calls[-1].json["messages"][-1]["content"]) == (1, "-100")
