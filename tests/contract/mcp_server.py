"""Real MCP servers for tests: the official SDK's, over both transports, in one thread; and ways to misbehave.

    with McpHost() as mcp:
        mcp.url("/mcp")  # streamable HTTP; "/sse": the older transport; "/auth/mcp" and "/auth/sse" want a token

`mcp.asked` has every JSON-RPC message that arrived: path, headers, method. Nothing waits for time to pass but `slow`.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Image, MCPServer
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    TextContent,
    Tool,
    ToolAnnotations,
)
from msgspec import Struct
from sse_starlette.sse import AppStatus

from antiphon.testing.script import Gate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TOKEN = "the-token-of-the-tests"
START_S = 20.0
PAGES: dict[str, tuple[int, bytes, str, list[tuple[bytes, bytes]]]] = {
    "html": (200, b"<html>Welcome!</html>", "text/html", []),
    "broken": (500, b"Traceback: secret", "text/plain", []),
    "forbidden": (403, b"no", "text/plain", []),
    "garbage": (200, b"{]", "application/json", []),
    "redirect": (307, b"", "text/plain", [(b"location", b"http://127.0.0.2:9/mcp")]),
}
"""What some servers answer to everything."""
PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x00\x05\xfe\x02\xfe\xa7\x9a\xa0\xa0\x00\x00\x00\x00IEND\xaeB`\x82"
)


class Asked(Struct, frozen=True):
    """A message that arrived."""

    path: str
    method: str
    headers: Mapping[str, str]
    params: Mapping[str, Any]


class McpHost:
    """All servers of the tests, on one port. `calls` counts the runs of each tool; `gates` hold tools named `wait`.
    `stopped` has the gates at which a call was cancelled.

    At `/played`, a server offers the functions of a recording (`offered`), whose `answers` are by name and arguments.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.calls: Counter[str] = Counter()
        self.gates: dict[str, Gate] = {}
        self.stopped: list[str] = []
        self.lies: list[dict[str, Any]] = []
        self.offered: list[dict[str, Any]] = []
        self.answers: dict[str, str] = {}
        self.root = ""
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def url(self, path: str = "/mcp") -> str:
        """The address of one of the servers."""
        return f"{self.root}{path}"

    def count(self, method: str) -> int:
        """How many messages with this method arrived."""
        return sum(each.method == method for each in self.asked)

    def reset(self) -> None:
        """Forgets what has happened."""
        self.asked.clear()
        self.calls.clear()
        self.gates.clear()
        self.stopped.clear()
        self.lies.clear()

    def __enter__(self) -> Self:
        config = uvicorn.Config(self._app, host="127.0.0.1", port=0, log_level="error", ws="none", interface="asgi3")
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, name="mcp", daemon=True)
        self._thread.start()
        started = threading.Event()
        for _ in range(int(START_S / 0.01)):
            if server.started or started.wait(0.01):
                break
        self.root = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server is not None
        assert self._thread is not None
        for gate in self.gates.values():
            gate.open()
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(START_S)

    # ------------------------------------------------------------ the application

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope["path"]
        receive = await self._noted(scope, receive)
        if path.startswith("/auth/"):
            if (b"authorization", f"Bearer {TOKEN}".encode()) not in scope["headers"]:
                await _answer(send, 401, b'{"error": "invalid_token"}', kind="application/json")
                return
            await self._served("/auth", scope, receive, send)
        elif path.startswith("/bad/"):
            await self._misbehave(path.removeprefix("/bad/"), scope, receive, send)
        else:
            await self._served("", scope, receive, send)

    async def _served(self, root: str, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(root)
        older = path.startswith(("/sse", "/messages"))
        if older and root:
            scope["root_path"], scope["path"] = root, scope["path"]
        else:
            scope["path"] = path
        # A server of another test that was told to stop in this process has told all event streams to end.
        AppStatus.should_exit, AppStatus.enable_automatic_graceful_drain = False, False
        app = self._apps["older" if older else path if path in self._apps else "/mcp"]
        await app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            first, second = tools_of(self), MCPServer("second")

            @second.tool()
            def get_boiling_point(city: str) -> str:
                """The other server's tool of the same name."""
                self.calls["second"] += 1
                return f"99 in {city}"

            self._apps: dict[str, Any] = {
                "/mcp": first.streamable_http_app(),
                "/second": second.streamable_http_app(streamable_http_path="/second"),
                "/played": played(self).streamable_http_app(streamable_http_path="/played"),
            }
            for app in self._apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            self._apps["older"] = tools_of(self).sse_app()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _noted(self, scope: Scope, receive: Receive) -> Receive:
        """Reads the message, notes it, and gives it again."""
        if scope["method"] != "POST":
            return receive
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        try:
            said = json.loads(body)
        except ValueError:
            said = {}
        scope["message"] = said
        self.asked.append(Asked(scope["path"], str(said.get("method")), headers, said.get("params") or {}))
        given = False

        async def again() -> MutableMapping[str, Any]:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again

    # ------------------------------------------------------------ servers that misbehave

    async def _misbehave(self, how: str, scope: Scope, receive: Receive, send: Send) -> None:
        if how in PAGES:
            status, body, kind, headers = PAGES[how]
            await _answer(send, status, body, kind=kind, headers=headers)
        elif how == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif how == "endless":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
            )
            for _ in range(4096):
                await send({"type": "http.response.body", "body": b" " * 65536, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif how == "cut":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            await send({"type": "http.response.body", "body": b"event: message\ndata: {", "more_body": False})
        else:
            await self._by_hand(how, scope, send)

    async def _by_hand(self, how: str, scope: Scope, send: Send) -> None:
        """A server of the protocol of 2025. `lying`: its list; `leaving`: forgotten sessions; `streaming`: events."""
        message = scope.get("message") or {}
        id, method = message.get("id"), message.get("method")
        if scope["method"] != "POST":
            await _answer(send, 405, b"", kind="text/plain")
            return
        if id is None:
            await _answer(send, 202, b"", kind="text/plain")
            return
        version = (message.get("params") or {}).get("protocolVersion", "2025-06-18")
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": how, "version": "1"},
            },
            "tools/list": {"tools": self.lies},
            "tools/call": {"content": [{"type": "text", "text": "x" * 2_000_000 if how == "streaming" else "done"}]},
        }
        headers = [(b"mcp-session-id", f"s{self.count('initialize')}".encode())] if how == "leaving" else []
        if how == "leaving" and method == "tools/call" and self.count("tools/call") == 1:
            await _answer(send, 404, b"who?", kind="text/plain")
            return
        if method not in results:
            said = {"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}}
        else:
            said = {"jsonrpc": "2.0", "id": id, "result": results[method]}
        body, kind = json.dumps(said).encode(), "application/json"
        if how == "streaming":
            body, kind = b"event: message\ndata: " + body + b"\n\n", "text/event-stream"
        await _answer(send, 200, body, kind=kind, headers=headers)


async def _answer(
    send: Send, status: int, body: bytes, *, kind: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    named = [(b"content-type", kind.encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body})


def played(host: McpHost) -> Server[Any]:
    """A server that has the tools that somebody recorded, and answers as it was recorded."""

    async def list_tools(_context: object, _params: object) -> ListToolsResult:
        return ListToolsResult(
            tools=[
                Tool(name=each["name"], description=each.get("description"), input_schema=each["parameters"])
                for each in host.offered
            ]
        )

    async def call_tool(_context: object, params: CallToolRequestParams) -> CallToolResult:
        host.calls[params.name] += 1
        said = host.answers[f"{params.name} {json.dumps(params.arguments, sort_keys=True)}"]
        return CallToolResult(content=[TextContent(type="text", text=said)])

    return Server("played", on_list_tools=list_tools, on_call_tool=call_tool)


def tools_of(host: McpHost) -> MCPServer:
    """The server that the tests call: those of Llama Stack's recordings, and more."""
    server = MCPServer("tests")

    @server.tool()
    def greet_everyone(url: str) -> str:
        host.calls["greet_everyone"] += 1
        return f"Hello, {url}"

    @server.tool()
    def get_boiling_point(liquid_name: str, celsius: bool = True) -> int:
        """
        Returns the boiling point of a liquid in Celsius or Fahrenheit.

        :param liquid_name: The name of the liquid
        :param celsius: Whether to return the boiling point in Celsius
        :return: The boiling point of the liquid in Celcius or Fahrenheit
        """
        host.calls["get_boiling_point"] += 1
        if liquid_name.lower() != "myawesomeliquid":
            return -1
        return -100 if celsius else -212

    @server.tool()
    def pay(amount: int) -> str:
        """Pays; twice would be once too often."""
        host.calls["pay"] += 1
        return f"paid {amount}"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def look() -> str:
        """Only looks."""
        host.calls["look"] += 1
        return "seen"

    _odd_tools(host, server)
    return server


def _odd_tools(host: McpHost, server: MCPServer) -> None:
    """Those that fail, say much, or take long."""

    @server.tool()
    def fail(why: str) -> str:
        """Fails."""
        raise ValueError(why)

    @server.tool()
    def picture() -> Image:
        """A picture."""
        return Image(data=PIXEL, format="png")

    @server.tool()
    def long(size: int) -> str:
        """Much text."""
        return "x" * size

    @server.tool()
    def facts() -> dict[str, int]:
        """Structured."""
        return {"one": 1}

    @server.tool()
    async def slow(ms: int) -> str:
        """Takes its time."""
        await asyncio.sleep(ms / 1000)
        return f"slept {ms}"

    @server.tool()
    async def wait(gate: str) -> str:
        """Waits for the test."""
        host.calls["wait"] += 1
        try:
            await host.gates[gate].passed()
        except asyncio.CancelledError:
            host.stopped.append(gate)
            raise
        return f"{gate} is open"
