"""An application becomes a server: one process, or several that share a port, and how each of them ends.

All processes accept from one listening socket, which outlives each of them: what has connected while one is replaced
waits for another. Why not a socket for each: docs/decisions/0017-processes.md.
"""

import asyncio
import logging
import socket
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode

from antiphon.api.gathering import GatheringTransport, Patience
from antiphon.api.socket import error_frame
from antiphon.app import build
from antiphon.config import Config
from antiphon.drain import Drain
from antiphon.errors import TooLarge
from antiphon.supervisor import BACKLOG, Listens, listening_on

log = logging.getLogger("antiphon.serving")

LINGER_S: Final = 10.0
"""How long a WebSocket that is over waits for its client to take what was sent."""
ON_ITS_WAY_S: Final = 0.25
"""How long a server that ends waits on an idle connection for a request that was sent before its client could know."""
LOOK_S: Final = 0.02
"""How often a server that ends looks whether its connections have."""
CLOSING_S: Final = 1.0
"""How long it may take, once patience is over, to hand back what has not ended, and to close what was opened."""
_UNHEARD: Final = logging.Logger("uvicorn.sockets", logging.CRITICAL)  # noqa: LOG001 (one that nobody configures)
"""What uvicorn says of a WebSocket; the line of `telemetry`, and what `api` logs, say more."""


def serve(config: Config, listens: Listens) -> int:
    """Listens until it is told to stop; returns the exit code. Raises `ConfigError` if the port is not to be had."""
    with listening_on(config, listens) as listening:
        return _run(Server(config), listening)


def serve_beside(config: Config, listening_fd: int, parent_fd: int) -> int:
    """Serves as one of several processes, on a socket of its parent's, whom it tells when it does; ends with it."""
    with socket.socket(fileno=listening_fd) as listening, socket.socket(fileno=parent_fd) as parent:
        return _run(Server(config, parent), listening)


def _run(server: "Server", listening: socket.socket) -> int:
    server.run(sockets=[listening])
    return 0 if server.started else 1


class Server(uvicorn.Server):
    """uvicorn's server, with an end of its own: one deadline for all that runs, then the rest is handed on.

    `parent` is the process that started this one as one of several.
    """

    def __init__(self, config: Config, parent: socket.socket | None = None) -> None:
        self.drain = Drain(config.timeouts.shutdown_s)
        super().__init__(_options(config, self.drain))
        self._parent = parent
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Opens what the application needs, and accepts."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._parent is not None:
            self._loop.add_reader(self._parent, self._orphaned)  # it says nothing: there is only its end to be read
            self._parent.send(b"\n")

    async def main_loop(self) -> None:
        """Serves until the end is announced; uvicorn's own looks ten times a second whether it is."""
        await self.on_tick(0)
        await self.drain.announced()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Hears SIGTERM and SIGINT."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.drain.hasten if self.force_exit else self._begin_to_end)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets what runs end until patience is over, and cancels the rest, which hands on what is stored."""
        self._begin_to_end()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        running = self.server_state
        while (running.connections or running.tasks) and self.drain.left_s() > 0:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(min(LOOK_S, self.drain.left_s()))
        for connection in list(running.connections):  # a WebSocket is told
            connection.shutdown()
        late = set(running.tasks)
        for task in late:
            task.cancel()
        try:
            async with asyncio.timeout(self.drain.left_s() + CLOSING_S):
                if late:
                    await asyncio.wait(late)
                await self.lifespan.shutdown()
        except TimeoutError:
            log.warning("stopped without having closed everything: others take it over at the lease's end")

    def _begin_to_end(self) -> None:
        for server in getattr(self, "servers", ()):
            server.close()
        self.drain.begin()

    def _orphaned(self) -> None:
        if self._loop is not None and self._parent is not None:
            self._loop.remove_reader(self._parent)
        self.should_exit = True
        self._begin_to_end()


def _options(config: Config, drain: Drain) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        build(config, drain),
        host=config.host,
        port=config.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        ws=_Sockets,
        ws_max_size=config.limits.body_bytes_max,
        ws_ping_interval=config.timeouts.ping_s,
        ws_ping_timeout=config.timeouts.pong_s,
        ws_per_message_deflate=False,
        http=partial(_Protocol, reader_s=config.timeouts.reader_s),  # type: ignore[arg-type]  # it is only called
        proxy_headers=False,
        backlog=BACKLOG,
    )


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, writing through a transport that gathers, to clients that read."""

    def __init__(self, *given: Any, reader_s: float, **named: Any) -> None:
        super().__init__(*given, **named)
        self._reader_s = reader_s
        self._ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Puts the gathering transport in between."""
        self._patience = Patience(transport, self.loop, self._reader_s)
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]

    def shutdown(self) -> None:
        """Ends the connection with its next answer, or after a moment without a request: one may be on its way."""
        cycle: RequestResponseCycle | None = self.cycle
        idle = cycle is None or cycle.response_complete
        if idle and not self._ending:
            self.loop.call_later(ON_ITS_WAY_S, self.shutdown)
        else:
            super().shutdown()
        self._ending = True

    def on_headers_complete(self) -> None:
        """Begins to answer a request."""
        super().on_headers_complete()
        if self._ending and not self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        self._patience.begin()

    def resume_writing(self) -> None:
        """It does again."""
        self._patience.end()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._patience.end()
        super().connection_lost(exc)


class _Sockets(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets; none stays because its client takes nothing any more, and none is in the log twice."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.logger = self.conn.logger = _UNHEARD
        self._ending = False

    def shutdown(self) -> None:
        """Leaves an open connection to the application, which ends it when its turns have; the second time, does so."""
        if self._ending or self.close_sent or not self.handshake_complete:
            super().shutdown()
        self._ending = True

    def keepalive_timeout(self) -> None:
        """Closes at once: what is still to be sent would never leave."""
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        """Gives the client a while to take the end of what it was sent."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """Says why in an error frame before the connection is closed."""
        too_large = self.conn.close_sent is not None and self.conn.close_sent.code == CloseCode.MESSAGE_TOO_BIG
        if too_large and self.handshake_complete and not self.close_sent:
            data = error_frame(
                TooLarge(f"The frame is larger than the {self.config.ws_max_size} bytes that this server accepts."), ""
            )
            self.transport.write(Frame(Opcode.TEXT, data).serialize(mask=False))
        super().handle_parser_exception()
