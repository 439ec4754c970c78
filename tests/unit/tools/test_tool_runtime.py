"""The tool runtime, apart from its servers: which tool a name means, and what is said where it means none."""

import pytest
from msgspec.structs import replace

from antiphon.connectors import McpConfig
from antiphon.errors import Conflict, InvalidRequest, McpRefused, NotFound, Unauthenticated, Upstream
from antiphon.guard import Guard
from antiphon.limits import FetchConfig
from antiphon.stores.tool_groups import Registered
from antiphon.tools.built_in_groups import Asker
from antiphon.tools.mcp_connectors import Connectors
from antiphon.tools.tool_runtime import Servers, ToolRuntime

US = Asker(owner="us")
WANTS_TOKEN = McpRefused(401, "wants a token", http_status=401)
PAY = {"name": "pay", "inputSchema": {"type": "object"}}
LOOK = {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}


class Scripted:
    """Sessions with servers that have these tools, by their addresses; or that fail so."""

    def __init__(self, servers):
        self.servers = servers
        self.called = []
        self.closed = []

    async def open(self, key, server):
        del key
        self.at = server.url
        if isinstance(self.servers[server.url], Exception):
            raise self.servers[server.url]
        return _Session(self, server)

    async def close(self, visit):
        self.closed.append(visit)


class _Session:
    def __init__(self, sessions, server):
        self._sessions = sessions
        self._server = server

    async def list_tools(self, most):
        del most
        return self._sessions.servers[self._server.url]

    async def call(self, name, arguments):
        self._sessions.called.append((self._server.url, name, arguments))
        if name == "strict":
            raise McpRefused(-32602, "Unknown argument.")
        return {"content": [{"type": "text", "text": "done"}]}


class Groups:
    """Registered groups by name, all at `http://NAME.example/`."""

    def __init__(self, names):
        uris = {name: f"http://{name.replace('/', '-')}.example/" for name in names}
        self.kept = [Registered(id=name, provider_id="mcp", uri=uri) for name, uri in uris.items()]

    async def list(self, owner):
        return self.kept if owner == "us" else []


def runtime(**servers):
    """A runtime over groups with these tools; `a_b` is the group `a/b`."""
    groups = Groups([name.replace("_", "/") for name in servers])
    sessions = Scripted({f"http://{name.replace('_', '-')}.example/": tools for name, tools in servers.items()})
    made = ToolRuntime(
        groups,
        Connectors({}, groups),
        (),
        servers=Servers(sessions, McpConfig(), call_s=5),
        guard=Guard(FetchConfig()),
    )
    return made, sessions


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("look", "http://a.example/"),
        ("a/look", "http://a.example/"),
        ("a/b/pay", "http://a-b.example/"),
        ("c/pay", "http://c.example/"),
        ("x/y", "http://c.example/"),
    ],
)
async def test_a_tool_is_meant_by_its_name_or_with_its_groups(name, at):
    groups, sessions = runtime(a=[LOOK], a_b=[PAY], c=[PAY, {**LOOK, "name": "x/y"}])
    assert (await groups.invoke(US, name, {"k": 1})).content == [{"type": "text", "text": "done"}]
    assert [(url, arguments) for url, _, arguments in sessions.called] == [(at, {"k": 1})]
    assert sessions.closed == ["visit_0"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("pay", InvalidRequest, "Name the one that is meant: 'a/pay', 'b/pay'"),
        ("a/none", NotFound, "Tool 'a/none' not found"),
        ("none", NotFound, "Tool 'none' not found"),
    ],
)
async def test_a_name_that_means_no_one_tool_is_refused(name, error, message):
    groups, sessions = runtime(a=[PAY], b=[PAY])
    with pytest.raises(error, match=message):
        await groups.invoke(US, name, {})
    assert (sessions.called, sessions.closed) == ([], ["visit_0"])


async def test_another_owner_has_none_of_it():
    groups, _ = runtime(a=[PAY])
    them = replace(US, owner="them")
    assert (await groups.groups(them), await groups.tools(them, None)) == ([], [])
    with pytest.raises(NotFound):
        await groups.invoke(them, "a/pay", {})


async def test_what_a_server_that_fails_may_have_is_not_called_missing():
    groups, _ = runtime(a=Upstream("is away"), b=WANTS_TOKEN, c=[LOOK])
    assert (await groups.tool(US, "look")).toolgroup_id == "c"
    for asked in (groups.tool(US, "pay"), groups.tools(US, None), groups.tools(US, "b")):
        with pytest.raises(Unauthenticated, match="Tool group 'b': wants a token"):
            await asked


async def test_one_server_that_is_away_hides_no_other():
    groups, _ = runtime(a=Upstream("is away"), c=[LOOK])
    assert [tool.name for tool in await groups.tools(US, None)] == ["look"]
    with pytest.raises(Upstream, match="is away"):
        await groups.tools(US, "a")


async def test_what_the_protocol_refuses_is_an_answer():
    groups, _ = runtime(a=[{**PAY, "name": "strict"}])
    got = await groups.invoke(US, "strict", {})
    assert (got.error_code, got.error_message, got.content) == (
        -32602,
        "Tool group 'a': Unknown argument.",
        None,
    )


async def test_what_may_have_taken_effect_already_is_not_called_again():
    groups, sessions = runtime(a=[PAY, LOOK])
    again = replace(US, again=True)
    with pytest.raises(Conflict, match="nobody knows whether it took effect"):
        await groups.invoke(again, "pay", {})
    await groups.invoke(again, "look", {})
    assert [name for _, name, _ in sessions.called] == ["look"]
