"""The open sessions with MCP servers: one per run and declared tool, opened when it is needed, closed with the run."""

import asyncio
import importlib
import importlib.util
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, Protocol

from antiphon.connectors import McpConfig
from antiphon.errors import ApiError, McpRefused, Unsupported, UpstreamTimeout
from antiphon.exchange import Timeouts, Transport
from antiphon.tools.mcp_result import Server

_REMEMBERED_MAX: Final = 1000


def check_sdk(param: str) -> None:
    """Raises `Unsupported` where the package is missing that speaks the protocol."""
    if importlib.util.find_spec("mcp") is None:
        message = "MCP servers need another package on this server: pip install 'antiphon[mcp]'."
        raise Unsupported(message, param=param, code="unsupported_tool")


class Session(Protocol):
    """An open session: `mcp_client.Session`."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        ...

    async def open(self, *, older: bool) -> None:
        """Connects. Raises `ApiError`."""
        ...

    async def list_tools(self, most: int) -> list[Mapping[str, Any]]:
        """The tools as the server describes them. Raises `ApiError`."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a tool answers. Raises `ApiError`."""
        ...

    async def close(self) -> None:
        """Ends it. Never raises."""
        ...


class Sessions:
    """Sessions by run and tool. Which servers speak the older transport is remembered."""

    def __init__(self, transport: Transport, timeouts: Timeouts, config: McpConfig) -> None:
        self._transport = transport
        self._timeouts = timeouts
        self._config = config
        self._open: dict[tuple[str, int], asyncio.Task[Session]] = {}
        self._older: OrderedDict[str, None] = OrderedDict()

    async def open(self, key: tuple[str, int], server: Server, *, instead_of: Session | None = None) -> Session:
        """The run's session, which calls that run side by side share. Raises `ApiError` where there is none.

        One that has ended is replaced; so is `instead_of`, by whoever comes first.
        """
        opening = self._open.get(key)
        if opening is not None and opening.done() and not _usable(opening, instead_of):
            opening = None
        if opening is None:
            old, opening = self._open.get(key), asyncio.create_task(self._opened(server))
            self._open[key] = opening
            if old is not None:
                await _closed(old)
        # Whoever waits may be cancelled: the others still need it.
        return await asyncio.shield(opening)

    async def close(self, response_id: str) -> None:
        """Closes a run's sessions. Never raises."""
        keys = [key for key in self._open if key[0] == response_id]
        await asyncio.gather(*(_closed(self._open.pop(key)) for key in keys), return_exceptions=True)

    async def _opened(self, server: Server) -> Session:
        client = await asyncio.to_thread(importlib.import_module, "antiphon.tools.mcp_client")
        first = server.url in self._older
        try:
            return await self._connected(client, server, older=first)
        except ApiError as error:
            if not client.speaks_otherwise(error):
                raise
            refusal = error
        try:
            session = await self._connected(client, server, older=not first)
        except ApiError as error:
            # What the newer transport said is the better explanation, unless only the older one was understood.
            raise error if isinstance(error, McpRefused) and error.http_status in (401, 403) else refusal from error
        self._remember(server.url, older=not first)
        return session

    async def _connected(self, client: Any, server: Server, *, older: bool) -> Session:
        bytes_max = self._config.answer_bytes_max
        session: Session = client.Session(self._transport, server, self._timeouts, answer_bytes_max=bytes_max)
        try:
            await session.open(older=older)
        except ApiError:
            await session.close()
            raise
        return session

    def _remember(self, url: str, *, older: bool) -> None:
        self._older.pop(url, None)
        if older:
            self._older[url] = None
            if len(self._older) > _REMEMBERED_MAX:
                self._older.popitem(last=False)


async def tools_of(
    sessions: Sessions, key: tuple[str, int], server: Server, *, config: McpConfig
) -> list[Mapping[str, Any]]:
    """What a server says that it has, in its session. Raises `ApiError`s."""
    try:
        async with asyncio.timeout(config.list_s):
            session = await sessions.open(key, server)
            return await session.list_tools(config.tools_max)
    except TimeoutError as error:
        message = f"The server took longer than the {config.list_s:g} seconds that are allowed here."
        raise UpstreamTimeout(message) from error


def _usable(opening: "asyncio.Task[Session]", instead_of: Session | None) -> bool:
    if opening.cancelled() or opening.exception() is not None:
        return False
    return opening.result().alive and opening.result() is not instead_of


async def _closed(opening: "asyncio.Task[Session]") -> None:
    opening.cancel()
    await asyncio.wait([opening])
    if not opening.cancelled() and opening.exception() is None:
        await opening.result().close()
