"""Sessions with real MCP servers: shared, replaced, ended; and what remains of them."""

import asyncio

import pytest

from antiphon.connectors import McpConfig
from antiphon.egress import LiveTransport
from antiphon.errors import ApiError, InvalidRequest, McpGone, McpRefused, Upstream, UpstreamTimeout
from antiphon.exchange import Timeouts
from antiphon.guard import Guard
from antiphon.limits import FetchConfig
from antiphon.testing.script import Gate
from antiphon.tools.mcp_result import Server
from antiphon.tools.mcp_sessions import Sessions
from mcp_server import TOKEN, McpHost

LOOPBACK = FetchConfig(ports=(), allowed_networks=("127.0.0.0/8",))
KEY = ("resp_1", 0)
TIMES = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
IMPATIENT = Timeouts(connect_s=2, first_byte_s=0.5, idle_s=5)


@pytest.fixture(scope="module")
def session_mcp():
    with McpHost() as started:
        yield started


@pytest.fixture
def mcp(session_mcp):
    session_mcp.reset()
    return session_mcp


@pytest.fixture
async def opened():
    """Makes `Sessions` over a transport of their own, which are closed with it."""
    made = []

    def make(config=McpConfig(), *, fetch=LOOPBACK, times=TIMES):  # noqa: B008 (frozen)
        transport = LiveTransport(guard=Guard(fetch))
        made.append((transport, Sessions(transport, times, config)))
        return made[-1][1]

    yield make
    for transport, sessions in made:
        await sessions.close(KEY[0])
        await transport.close()


def server(mcp, path="/mcp", **headers):
    return Server(url=mcp.url(path), headers=headers, guarded=True)


def said(result):
    return result["content"][0]["text"]


async def test_calls_share_a_session_and_another_run_has_its_own(mcp, opened):
    sessions = opened()
    one, other = await asyncio.gather(*(sessions.open(KEY, server(mcp)) for _ in range(2)))
    assert one is other
    theirs = await sessions.open(("resp_2", 0), server(mcp))
    assert theirs is not one
    await sessions.close("resp_2")
    assert (one.alive, theirs.alive) == (True, False)
    with pytest.raises(McpGone):
        await theirs.call("look", {})


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/auth/mcp", "/auth/sse"])
async def test_tools_are_listed_and_called_over_either_transport(mcp, opened, path):
    session = await opened().open(KEY, server(mcp, path, authorization=f"Bearer {TOKEN}"))
    assert "look" in [tool["name"] for tool in await session.list_tools(100)]
    assert said(await session.call("look", {})) == "seen"


async def test_the_transport_that_a_server_speaks_is_remembered(mcp, opened):
    sessions = opened()
    for _ in range(2):
        await sessions.open(KEY, server(mcp, "/sse"))
        await sessions.close(KEY[0])
    asked = [(each.path, each.method) for each in mcp.asked]
    assert [path.partition("?")[0].rstrip("/") for path, method in asked if method == "initialize"] == [
        *("/sse", "/messages", "/messages")
    ]


async def test_a_call_that_is_given_up_leaves_the_session_usable(mcp, opened):
    mcp.gates = {"g": Gate()}
    session = await opened().open(KEY, server(mcp))
    asking = asyncio.ensure_future(session.call("wait", {"gate": "g"}))
    await mcp.gates["g"].arrived()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert said(await session.call("look", {})) == "seen"


async def test_a_server_that_does_not_answer_is_given_up(mcp, opened):
    with pytest.raises(UpstreamTimeout, match=r"0\.5 s"):
        await opened(times=IMPATIENT).open(KEY, server(mcp, "/bad/hang"))


async def test_a_lost_session_is_replaced_by_whoever_comes_first(mcp, opened):
    sessions = opened()
    session = await sessions.open(KEY, server(mcp, "/bad/leaving"))
    with pytest.raises(McpGone) as gone:
        await session.call("x", {})
    assert gone.value.unheard
    fresh, again = await asyncio.gather(
        *(sessions.open(KEY, server(mcp, "/bad/leaving"), instead_of=session) for _ in range(2))
    )
    assert fresh is again is not session
    assert said(await fresh.call("x", {})) == "done"


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/auth/mcp", McpRefused, 401),
        ("/auth/sse", McpRefused, 401),
        ("/bad/forbidden", McpRefused, 403),
        ("/bad/broken", McpRefused, 500),
        ("/nowhere", McpRefused, 404),
        ("/bad/html", McpRefused, None),
        ("/bad/garbage", McpRefused, None),
        ("/bad/redirect", McpRefused, None),
        ("/bad/endless", McpRefused, None),
        ("/bad/cut", McpRefused, None),
    ],
)
async def test_a_server_that_misbehaves_is_refused_and_can_be_tried_again(mcp, opened, path, kind, status):
    sessions = opened(McpConfig(answer_bytes_max=100_000))
    for _ in range(2):
        with pytest.raises(kind) as refused:
            await sessions.open(KEY, server(mcp, path))
        assert refused.value.http_status == status


@pytest.mark.parametrize("path", ["/mcp", "/bad/streaming"])
async def test_a_long_answer_comes_whole_up_to_what_a_server_may_say(mcp, opened, path):
    session = await opened(McpConfig(answer_bytes_max=5_000_000)).open(KEY, server(mcp, path))
    assert len(said(await session.call("long", {"size": 2_000_000}))) == 2_000_000
    session = await opened(McpConfig(answer_bytes_max=1_900_000)).open(KEY, server(mcp, path))
    with pytest.raises(ApiError, match="larger than is allowed"):
        await session.call("long", {"size": 2_000_000})


class Deaf:
    """A transport that loses all messages but the first."""

    def __init__(self, transport):
        self._transport = transport
        self._posted = 0

    async def send(self, outgoing):
        self._posted += outgoing.method == "POST"
        if outgoing.method == "POST" and self._posted > 1:
            raise UpstreamTimeout("The server did not answer in time.")
        return await self._transport.send(outgoing)


async def test_a_session_whose_beginning_is_lost_is_given_up_at_once(mcp):
    transport = LiveTransport(guard=Guard(LOOPBACK))
    sessions = Sessions(Deaf(transport), TIMES, McpConfig())
    async with asyncio.timeout(10):
        with pytest.raises(UpstreamTimeout):
            await sessions.open(KEY, server(mcp, "/sse"))
    await sessions.close(KEY[0])
    await transport.close()


async def test_nobody_there_and_nobody_allowed(mcp, opened):
    with pytest.raises(Upstream, match="Connection refused"):
        await opened().open(KEY, Server(url="http://127.0.0.1:1/mcp", headers={}, guarded=True))
    with pytest.raises(ApiError, match="not on the public internet"):
        await opened(fetch=FetchConfig(ports=())).open(KEY, server(mcp))
    assert mcp.asked == []


async def test_a_trusted_server_is_reached_wherever_it_is(mcp, opened):
    trusted = Server(url=mcp.url(), headers={}, guarded=False)
    session = await opened(fetch=FetchConfig(enabled=False)).open(KEY, trusted)
    assert said(await session.call("look", {})) == "seen"


async def test_a_header_that_http_does_not_allow_is_refused(mcp, opened):
    with pytest.raises(ApiError) as refused:
        await opened().open(KEY, server(mcp, x="a\r\nhost: b"))
    assert isinstance(refused.value, InvalidRequest | Upstream)
    assert mcp.asked == []
