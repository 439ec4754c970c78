"""Sessions with MCP servers, by the official SDK: imported on first use, since it takes a second and 60 MB.

Every byte passes the transport that is given, as any other outgoing request does: the SDK's HTTP client is only a
shell around it. What goes to an address of a client's is guarded, and no redirect is followed but the SDK's own, within
one origin; each of those is judged anew.

An answer that says no is turned into an error of the protocol here, so that its status is not lost and the session
lives on. A session belongs to one task, since the SDK's parts must be entered and left in the same one; its calls may
come from any.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import httpx2
import msgspec
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import (
    CONNECTION_CLOSED,
    HEADER_MISMATCH,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    PaginatedRequestParams,
)
from pydantic import ValidationError

from antiphon import __version__
from antiphon.errors import ApiError, McpGone, McpRefused, Upstream, UpstreamTimeout
from antiphon.exchange import Incoming, Outgoing, Timeouts, Transport
from antiphon.tools.mcp_result import Server

T = TypeVar("T")
log = logging.getLogger("antiphon.tools")

_PAGES_MAX = 100
_ERROR_BYTES_MAX = 64 * 1024
_GOODBYE_S: Final = 2.0
"""How long a server may take to hear that nobody listens any more."""
_MESSAGE_CHARS_MAX = 1000
_HTTP_REFUSED = -32099
"""Our code for an HTTP status in the clothes of a JSON-RPC error; of the range that is left to implementations."""
_ELSEWHERE = frozenset({400, 404, 405, 406, 415, 501})
"""Statuses of a server that does not speak streamable HTTP, but may speak the older transport."""
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent"})


for _name in ("mcp.client", "mcp.shared", "httpx2"):
    # They log whole messages, and addresses with all that is in them.
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Session:
    """A session with a server: `open` it, and `close` it in the end."""

    def __init__(self, transport: Transport, server: Server, limits: Timeouts, *, answer_bytes_max: int) -> None:
        self._server = server
        self._http = _Http(transport, server, limits, bytes_max=answer_bytes_max)
        self._opening_s = limits.connect_s + 2 * limits.first_byte_s  # to connect, then two messages and their answers
        self._leaving = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        return self._task is not None and not self._task.done() and not self._http.lost

    async def open(self, *, older: bool) -> None:
        """Connects; `older`: by server-sent events alone. Raises `McpRefused`, `ApiError`."""
        self._http.older = older
        self._task = asyncio.create_task(self._live(older=older))
        try:
            ends: set[asyncio.Future[Any]] = {self._opened, self._task, self._http.failed}
            await asyncio.wait(ends, timeout=self._opening_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.close()
            raise
        if not self._opened.done() or self._task.done():
            reason = self._reason()
            await self.close()
            raise reason

    async def list_tools(self, most: int) -> list[Mapping[str, Any]]:
        """At least the first `most` tools, if there are so many, as the server describes them. Raises as `call`."""
        return await self._in_session(self._listed(most))

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a tool answers, as the protocol's JSON. Raises `McpRefused`, `McpGone` and other `ApiError`s."""
        return await self._in_session(self._called(name, arguments))

    async def close(self) -> None:
        """Ends the session. Never raises."""
        self._leaving.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_GOODBYE_S)
            await _ended(self._task)

    # ------------------------------------------------------------ inside

    async def _live(self, *, older: bool) -> None:
        who = Implementation(name="antiphon", version=__version__)
        async with self._http.client() as client:
            streams: AbstractAsyncContextManager[Any]
            if older:
                streams = sse_client(self._server.url, httpx_client_factory=self._http.client)
            else:
                streams = streamable_http_client(self._server.url, http_client=client, max_sse_event_size=None)
            mode = "legacy" if older else "auto"
            async with Client(streams, mode=mode, client_info=who, cache=None) as self._client:
                self._opened.set_result(None)
                await self._leaving.wait()

    async def _listed(self, most: int) -> list[Mapping[str, Any]]:
        tools: list[Mapping[str, Any]] = []
        cursor: str | None = None
        for _ in range(_PAGES_MAX):
            page = await self._client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            tools += (tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools)
            cursor = page.next_cursor
            if cursor is None or len(tools) > most:
                break
        return tools

    async def _called(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
        # Not `call_tool`: it would list all tools again, to hold the result against a schema.
        session = self._client.session
        try:
            result = await session.send_request(request, CallToolResult)
        except MCPError as error:
            if error.code != HEADER_MISMATCH:
                raise
            await session.list_tools()  # the server wants arguments as headers, which the listing names
            result = await session.send_request(request, CallToolResult)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def _in_session(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result, unless the session ends before it does."""
        if self._task is None or not self.alive:
            work.close()
            raise McpGone("The session with the server has ended.")
        asking = asyncio.ensure_future(work)
        try:
            ends: list[asyncio.Future[Any]] = [asking, self._task, self._http.failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise self._reason()
            return asking.result()
        except MCPError as error:
            raise self._http.cut_off(error) or _translated(error) from error
        except (ValidationError, ValueError) as error:
            raise McpRefused(-32700, "The server answered with something that the protocol does not know.") from error
        finally:
            await _ended(asking)

    def _reason(self) -> ApiError:
        """Why the session ended."""
        if self._http.failed.done():
            return self._http.failed.result()
        if self._task and not self._task.done():
            return UpstreamTimeout("The server did not begin a session in time.")
        error = self._task.exception() if self._task and self._task.done() and not self._task.cancelled() else None
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, MCPError):
            return _translated(error)
        if isinstance(error, ApiError):
            return error
        if isinstance(error, httpx2.HTTPStatusError):
            return http_error(error.response.status_code)
        if isinstance(error, httpx2.TimeoutException | TimeoutError):
            return UpstreamTimeout("The server did not answer in time.")
        log.info("MCP session ended", extra={"exception": repr(error)})
        return McpGone("The server ended the session.")


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancels it. The SDK may want to tell the server, which may take nothing any more: that is not waited for long."""
    task.cancel()
    await asyncio.wait({task}, timeout=_GOODBYE_S)
    if task.done() and not task.cancelled():
        task.exception()  # somebody has looked


def speaks_otherwise(error: ApiError) -> bool:
    """Whether a server that refused so may speak the older transport."""
    return isinstance(error, McpRefused) and (error.http_status in _ELSEWHERE or error.http_status is None)


def http_error(status: int) -> McpRefused:
    """The refusal with an HTTP status."""
    wants = {401: "it wants authentication", 403: "it forbids this"}.get(status, "it refused the request")
    return McpRefused(status, f"The server answered with HTTP status {status}: {wants}.", http_status=status)


def _translated(error: MCPError) -> ApiError:
    data = error.data if isinstance(error.data, dict) else {}
    if error.code == _HTTP_REFUSED and "status" in data:
        return http_error(data["status"])
    if error.code == _HTTP_REFUSED:
        kind = UpstreamTimeout if data.get("late") else Upstream
        return kind(error.message)
    if error.message == "Session terminated":
        return McpGone("The server does not know the session any more.", unheard=True)
    return McpRefused(error.code, error.message[:_MESSAGE_CHARS_MAX])


# ---------------------------------------------------------------- over our transport


class _Http(httpx2.AsyncBaseTransport):
    """The SDK's requests, sent by our transport. `failed` has why the session cannot go on, once it cannot."""

    def __init__(self, transport: Transport, server: Server, limits: Timeouts, *, bytes_max: int) -> None:
        self._transport = transport
        self._server = server
        self._limits = limits
        self._bytes_max = bytes_max
        self._cut: ApiError | None = None
        self.older = False
        self.failed: asyncio.Future[ApiError] = asyncio.get_running_loop().create_future()

    @property
    def lost(self) -> bool:
        """Whether a message could not be delivered over the older transport: nobody would ever answer it."""
        return self.failed.done()

    def cut_off(self, error: MCPError) -> ApiError | None:
        """Why an answer broke off, where the SDK only tells that it did."""
        if error.code != CONNECTION_CLOSED:
            return None
        cut, self._cut = self._cut, None
        return cut

    def client(self, *_args: object, **_options: object) -> httpx2.AsyncClient:
        """A client that has no other way out, whatever the SDK would like it to be."""
        return httpx2.AsyncClient(transport=self, trust_env=False, follow_redirects=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer; a refusal, or a failure, is told as an error of the protocol where one can be."""
        body = await request.aread()
        try:
            answer = await self._transport.send(self._outgoing(request, body))
        except ApiError as error:
            return self._refusal(request, error)
        if request.method == "POST" and answer.status >= 400:
            return await self._read_refusal(request, answer)
        kind = answer.headers.get("content-encoding", "identity").lower()
        if kind != "identity":
            await answer.close()
            return self._refusal(request, Upstream("The server sent it compressed, although it was asked not to."))
        return httpx2.Response(
            answer.status, headers=dict(answer.headers), stream=_Pieces(answer, self._bytes_max, self._broken)
        )

    def _outgoing(self, request: httpx2.Request, body: bytes) -> Outgoing:
        own = {name: value for name, value in request.headers.items() if name not in _OURS}
        given = {name: value for name, value in self._server.headers.items() if name.lower() not in {*_OURS, *own}}
        return Outgoing(
            method=request.method,
            url=str(request.url),
            headers={**given, **own},
            body=body,
            timeouts=self._limits,
            guarded=self._server.guarded,
            follow=False,
        )

    async def _read_refusal(self, request: httpx2.Request, answer: Incoming) -> httpx2.Response:
        pieces = b""
        try:
            async for piece in answer.pieces:
                pieces += piece
                if len(pieces) > _ERROR_BYTES_MAX:
                    break
        except ApiError as error:
            log.info("an MCP server's refusal broke off", extra={"exception": error.message})
        finally:
            await answer.close()
        if _is_protocol_error(pieces):
            return httpx2.Response(answer.status, headers={"content-type": "application/json"}, content=pieces)
        if answer.status == 404 and "mcp-session-id" in request.headers:
            return httpx2.Response(404)  # the SDK knows what that means
        return self._refusal(request, http_error(answer.status))

    def _broken(self, error: ApiError) -> None:
        """Over the older transport, answers come elsewhere: after a failure there, or here, none ever does."""
        self._cut = error
        if self.older and not self.failed.done():
            self.failed.set_result(error)

    def _refusal(self, request: httpx2.Request, error: ApiError) -> httpx2.Response:
        if request.method != "POST":
            raise error
        self._broken(error)
        data: dict[str, Any] = {"late": isinstance(error, UpstreamTimeout)}
        if isinstance(error, McpRefused) and error.http_status is not None:
            data = {"status": error.http_status}
        told = {"code": _HTTP_REFUSED, "message": error.message, "data": data}
        content = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": told})
        return httpx2.Response(400, headers={"content-type": "application/json"}, content=content)


class _Pieces(httpx2.AsyncByteStream):
    """The body of an answer, as far as it may go."""

    def __init__(self, answer: Incoming, bytes_max: int, broken: Callable[[ApiError], None]) -> None:
        self._answer = answer
        self._left = bytes_max
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._answer.pieces:
                self._left -= len(piece)
                if self._left < 0:
                    raise Upstream("The server's answer is larger than is allowed here.")
                yield piece
        except ApiError as error:
            self._broken(error)  # the SDK would tell it to somebody who does not listen yet
            raise httpx2.StreamError(error.message) from error

    async def aclose(self) -> None:
        """Ends the exchange."""
        await self._answer.close()


def _is_protocol_error(body: bytes) -> bool:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and "jsonrpc" in said and isinstance(error.get("code"), int)
