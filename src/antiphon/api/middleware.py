"""The outermost layer: gives every request an id, and turns whatever happens inside into OpenAI's error body.

Nothing else stands between the server and the routes; each layer more would cost every chunk of every stream.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from antiphon.api.call import Call, Receive, Scope, Send
from antiphon.api.errors import internal, refusal
from antiphon.api.route import SOCKET, Route
from antiphon.api.services import Services
from antiphon.api.tasks import Gone
from antiphon.config import ConfigError
from antiphon.errors import ApiError, Internal, RateLimited, Unavailable
from antiphon.telemetry import RequestEnded, brief

log = logging.getLogger("antiphon.api")

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Opening = Callable[[], AbstractAsyncContextManager[Services]]
CALL = "antiphon.call"
CLIENT_LEFT = 499
ALWAYS = frozenset({"/health", "/v1/health", "/ready"})
"""Paths that are answered however many requests are running: who is asked so would be taken for dead."""
CROWDED_RETRY_S = 1
_SANE = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class Outermost:
    """An ASGI app around the routes. `opening` opens the services when the server starts and closes them at its end."""

    def __init__(self, app: App, routes: tuple[Route, ...], opening: Opening) -> None:
        self._app = app
        self._routes = routes
        self._opening = opening
        self._services: Services | None = None
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, one WebSocket, or the server's own start and end."""
        if scope["type"] in ("http", "websocket"):
            if scope["type"] == "websocket":
                scope["method"], send = SOCKET, _refusing(send)
            if self._services is None:
                raise RuntimeError("the server must run this app's lifespan")
            await self._request(self._services, (scope, receive, send))
        else:
            await self._lifespan(receive, send)

    async def _request(self, services: Services, request: tuple[Scope, Receive, Send]) -> None:
        began = time.perf_counter()
        call: Call[Any, Any] = Call(services, request)
        call.request_id = _request_id(call.headers.get(b"x-request-id"))
        call.routes = self._routes
        call.scope[CALL] = call
        failure = ""
        self._running += 1
        try:
            crowded = self._running > services.config.limits.requests_running_max and call.path not in ALWAYS
            app = _crowded if crowded else self._app
            # A WebSocket is there for an hour; its turns count, not its silence.
            with services.telemetry.live if call.method != SOCKET else nullcontext():
                failure = await answered(app, request, call)
        except Gone:
            call.status = CLIENT_LEFT
        except asyncio.CancelledError:  # the server stops, and has waited for as long as it may
            await _refuse(call, Unavailable("The server is stopping.", retry_after_s=1))
        finally:
            self._running -= 1
            ended = RequestEnded(
                method=call.method,
                route=call.pattern,
                status=call.status or CLIENT_LEFT,
                ms=round((time.perf_counter() - began) * 1000, 3),
                request_id=call.request_id,
                error=failure,
            )
            services.telemetry.ended(ended)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        opening = self._opening()
        try:
            self._services = await opening.__aenter__()
        except (ApiError, ConfigError, OSError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            await opening.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})


async def answered(app: App, request: tuple[Scope, Receive, Send], call: Call[Any, Any]) -> str:
    """Answers the request, if need be with an error; returns the name of what went wrong, or ""."""
    try:
        await app(*request)
    except ApiError as error:
        if isinstance(error, Internal):
            _log(call, error)
        await _refuse(call, error)
        return type(error).__name__
    except Gone:
        raise
    except Exception as error:
        _log(call, error)
        await _refuse(call, internal(call.request_id))
        return type(error).__name__
    return ""


def _refusing(send: Send) -> Send:
    """Sends what answers an HTTP request as the refusal of a WebSocket, and anything else as it is."""

    def sent(message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"].startswith("http."):
            message = {**message, "type": f"websocket.{message['type']}"}
        return send(message)

    return sent


async def _refuse(call: Call[Any, Any], error: ApiError) -> None:
    """Sends the error; once an answer has begun there is nothing to do but to let the server close the connection."""
    if call.started:
        return
    status, body, headers = refusal(error)
    await call.reply(status, body, headers=headers)


async def _crowded(scope: Scope, *_: object) -> None:
    """Refuses before the body is read: more than so many at once would only take each other's memory."""
    most = scope[CALL].services.config.limits.requests_running_max
    message = f"This server works on {most} requests at a time, and has as many; try again shortly."
    raise RateLimited(message, code="too_many_requests_running", retry_after_s=CROWDED_RETRY_S)


def _log(call: Call[Any, Any], error: Exception) -> None:
    extra = {"request_id": call.request_id, "route": call.pattern, "exception": brief(error)}
    log.error("%s %s failed", call.method, call.pattern, extra=extra)


def _request_id(given: bytes | None) -> str:
    """The client's own id if it is one, else a new one."""
    if given is not None and _SANE.fullmatch(given):
        return given.decode()
    return f"req_{os.urandom(16).hex()}"
