"""The tool `mcp`, apart from its servers: what is asked, what is approved, what the model sees."""

import pytest
from msgspec.structs import replace

from antiphon.connectors import ConnectorConfig, McpConfig
from antiphon.errors import Conflict, InvalidRequest, McpGone, NotFound, Upstream
from antiphon.guard import Guard
from antiphon.limits import FetchConfig
from antiphon.models.base import NO_ACCESS, Function
from antiphon.stores.tool_groups import Registered
from antiphon.tools.base import Caller, Offer
from antiphon.tools.mcp import McpServers
from antiphon.tools.mcp_connectors import Connectors
from antiphon.tools.offers import with_learned
from antiphon.wire.calls import Made
from antiphon.wire.items import McpApprovalRequest, McpApprovalResponse, McpCall, McpListTools, Memory
from antiphon.wire.tools import McpTool

TOOL = McpTool(server_label="lab", server_url="https://mcp.example.com/mcp")
LOOK = {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
PAY = {"name": "pay", "inputSchema": {"type": "object"}}
CALLER = Caller(owner="me", access=NO_ACCESS, response_id="resp_1", secrets={0: {"authorization": "t"}})
CALL = McpCall(id="mcp_1", name="pay", arguments="{}", server_label="lab", memory=Memory(call_id="c"))


class Scripted:
    """Sessions that answer as they are told, and remember with what they were opened."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.servers = []
        self.called = []
        self.alive = True

    async def open(self, key, server, *, instead_of=None):
        del key, instead_of
        self.servers.append(server)
        return self

    async def list_tools(self, most):
        del most
        return [LOOK, PAY]

    async def call(self, name, arguments):
        self.called.append((name, arguments))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self, response_id):
        self.servers.append(response_id)


class Groups:
    """One registered group, of one owner."""

    async def find(self, owner, id):
        group = Registered(id="g", provider_id="mcp", uri="http://a.example/mcp", args={"amount": 1, "to": "us"})
        return group if (owner, id) == ("me", "g") else None

    async def list(self, owner):
        return [await self.find(owner, "g")] if owner == "me" else []


class Once:
    """Approvals in memory."""

    def __init__(self):
        self.used = set()

    async def use(self, owner, request_id, response_id):
        del response_id
        if (owner, request_id) in self.used:
            raise Conflict("used")
        self.used.add((owner, request_id))


def served(*answers, connectors=None, **config):
    return McpServers(
        Scripted(*answers),
        Once(),
        Guard(FetchConfig()),
        config=McpConfig(**config),
        connectors=Connectors(connectors or {}, Groups()),
    )


def text(said):
    return {"content": [{"type": "text", "text": said}]}


def offer(tool=TOOL, name="pay", **hints):
    return Offer(function=Function(name=name), kind="mcp", name=name, tool=tool, hints=hints)


async def listing(tool=TOOL, **more):
    mcp = served(**more)
    (prelude,) = mcp.prelude(tool, [], [])
    return mcp, (await mcp.run(prelude.item, offer(tool), CALLER)).item


def question(id="mcpr_1"):
    return McpApprovalRequest(id=id, name="pay", arguments='{"a":1}', server_label="lab", memory=Memory(call_id="c"))


# ---------------------------------------------------------------- listing


async def test_a_listing_is_known_again_for_the_same_server_and_the_same_choice_of_tools():
    mcp, item = await listing()
    for tool, known in [
        (TOOL, True),
        (replace(TOOL, require_approval="never"), True),
        (replace(TOOL, allowed_tools=["look"]), False),
        (replace(TOOL, server_url="https://mcp.example.com/other"), False),
        (replace(TOOL, server_label="other"), False),
    ]:
        assert next(iter(mcp.prelude(tool, [item], []))).known is known
    failed = mcp.failed(item, "away")
    assert not next(iter(mcp.prelude(TOOL, [failed], []))).known
    assert "could not be listed: away" in mcp.fatal(failed)


async def test_names_do_not_depend_on_which_server_answered_first():
    mcp, item = await listing()
    other = replace(TOOL, server_label="other")
    first, second = list(mcp.learned(TOOL, 0, item)), list(mcp.learned(other, 1, replace(item, server_label="other")))
    names = list(with_learned({"pay": offer()}, {1: second, 0: first}))
    assert names == list(with_learned({"pay": offer()}, {0: first, 1: second}))
    assert names == ["pay", "look", "lab_pay", "other_look", "other_pay"]


async def test_a_deferred_server_is_learned_but_not_shown():
    mcp, item = await listing()
    assert all(each.deferred for each in mcp.learned(replace(TOOL, defer_loading=True), 0, item))


def test_secrets_are_parted_from_the_declaration():
    shown, secrets = served().parted(replace(TOOL, headers={"x": "y"}, authorization="t"))
    assert (shown, secrets) == (TOOL, {"headers": {"x": "y"}, "authorization": "t"})


async def test_a_token_is_sent_as_one_and_a_clients_comes_before_the_operators():
    connector = ConnectorConfig(url="http://10.0.0.1/mcp", authorization="theirs", headers={"a": "1", "b": "2"})
    mcp = served(text("ok"), text("ok"), text("ok"), connectors={"c": connector})
    by_name = McpTool(server_label="lab", connector_id="c")
    await mcp.run(CALL, offer(), CALLER)
    await mcp.run(CALL, offer(by_name), replace(CALLER, secrets={}))
    await mcp.run(
        CALL, offer(by_name), replace(CALLER, secrets={0: {"authorization": "Basic x", "headers": {"b": "3"}}})
    )
    own, theirs, both = mcp._sessions.servers
    assert (own.headers, own.guarded) == ({"authorization": "Bearer t"}, True)
    assert (theirs.headers, theirs.guarded) == ({"a": "1", "b": "2", "authorization": "Bearer theirs"}, False)
    assert both.headers == {"a": "1", "b": "3", "authorization": "Basic x"}


async def test_a_registered_group_is_its_owners_alone_and_its_arguments_are_the_calls_unless_it_has_others():
    mcp = served(text("ok"))
    named = McpTool(server_label="lab", connector_id="g")
    await mcp.check(named, CALLER, "tools[0]")
    await mcp.run(replace(CALL, arguments='{"amount": 5}'), offer(named), CALLER)
    assert mcp._sessions.called == [("pay", {"amount": 5, "to": "us"})]
    assert (mcp._sessions.servers[0].url, mcp._sessions.servers[0].guarded) == ("http://a.example/mcp", True)
    them = replace(CALLER, owner="them")
    with pytest.raises(NotFound, match="'g' not found; those of this server are: none") as refused:
        await mcp.check(named, them, "tools[0]")
    assert refused.value.param == "tools[0].connector_id"
    lost = (await mcp.run(CALL, offer(named), them)).item
    assert (lost.status, lost.error["code"]) == ("failed", 404)


# ---------------------------------------------------------------- approvals


async def test_an_approval_becomes_the_call_that_was_asked_for():
    mcp, item = await listing()
    answer = McpApprovalResponse(approval_request_id="mcpr_1", approve=True)
    _, call = mcp.prelude(TOOL, [item, question(), answer], [answer])
    assert (call.item.name, call.item.arguments, call.item.approval_request_id) == ("pay", '{"a":1}', "mcpr_1")
    assert call.item.memory.call_id == "c"
    foreign = mcp.prelude(replace(TOOL, server_label="other"), [question(), answer], [answer])
    assert [type(prelude.item) for prelude in foreign] == [McpListTools]


@pytest.mark.parametrize(
    ("tool", "more", "code"),
    [
        (TOOL, [replace(CALL, approval_request_id="mcpr_1")], "approval_used"),
        (replace(TOOL, server_url="https://evil.example.com/"), [], "approval_mismatch"),
        (replace(TOOL, allowed_tools=["look"]), [], "approval_mismatch"),
    ],
)
async def test_an_approval_of_something_else_is_refused(tool, more, code):
    mcp, item = await listing()
    answer = McpApprovalResponse(approval_request_id="mcpr_1", approve=True)
    with pytest.raises(InvalidRequest) as refused:
        list(mcp.prelude(tool, [item, question(), *more, answer], [answer]))
    assert refused.value.code == code


def test_a_refused_question_is_seen_as_a_call_that_was_not_run_and_an_open_one_not_at_all():
    no = McpApprovalResponse(approval_request_id="mcpr_1", approve=False, reason="Because.")
    call, answer = served().seen_among(question(), [question(), no])
    assert (call.call_id, call.arguments, answer.call_id) == ("c", '{"a":1}', "c")
    assert answer.output == "The user did not allow this call; it was not run. The reason: Because."
    assert served().seen_among(question(), [question()]) is None


async def test_an_approval_runs_once():
    mcp = served(text("paid"), text("paid"))
    approved = replace(CALL, approval_request_id="mcpr_1")
    first, second = [(await mcp.run(approved, offer(), CALLER)).item for _ in range(2)]
    assert (first.status, second.status, second.error["code"]) == ("completed", "failed", 409)
    assert len(mcp._sessions.called) == 1


def test_no_approval_is_asked_for_what_cannot_be_run():
    made = Made(id="m", call_id="c", name="pay", namespace=None, arguments="[]", status="in_progress")
    assert served().asks(made, offer()) is None
    assert served().asks(replace(made, arguments="{}"), offer()).name == "pay"
    assert served(require_approval="never").asks(replace(made, arguments="{}"), offer()) is None


# ---------------------------------------------------------------- calls


@pytest.mark.parametrize(
    ("hints", "gone", "status", "calls"),
    [
        ({}, McpGone("lost"), "failed", 1),
        ({}, McpGone("who?", unheard=True), "completed", 2),
        ({"readOnlyHint": True}, McpGone("lost"), "completed", 2),
        ({"idempotentHint": True}, McpGone("lost"), "completed", 2),
        ({"readOnlyHint": True}, Upstream("away"), "failed", 1),
    ],
)
async def test_a_call_whose_session_was_lost_is_made_again_only_where_that_does_no_harm(hints, gone, status, calls):
    mcp = served(gone, text("ok"))
    item = (await mcp.run(CALL, offer(**hints), CALLER)).item
    assert (item.status, len(mcp._sessions.called)) == (status, calls)


def test_after_a_crash_only_what_does_no_harm_is_run_again():
    mcp = served()
    assert not mcp.repeatable(CALL, offer())
    assert mcp.repeatable(CALL, offer(readOnlyHint=True))
    assert mcp.repeatable(McpListTools(server_label="lab", tools=[]), offer())


async def test_a_tool_that_says_it_failed_tells_the_model_what_it_said():
    mcp = served({**text("no money"), "isError": True})
    item = (await mcp.run(CALL, offer(), CALLER)).item
    assert (item.status, item.output, item.error["type"]) == ("failed", None, "mcp_tool_execution_error")
    assert mcp.seen(item)[1].output[0].text == "no money"


def test_a_call_that_a_client_sent_is_seen_without_memory():
    call, answer = served().seen(McpCall(id="mcp_1", name="a b", arguments="{}", server_label="lab", output="x"))
    assert (call.call_id, call.name, answer.output) == ("mcp_1", "a_b", "x")
    failed = McpCall(id="mcp_1", name="a", arguments="{}", server_label="lab", error={"type": "http_error"})
    assert served().seen(failed)[1].output == '{"type":"http_error"}'
