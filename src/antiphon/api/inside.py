"""Requests that this server makes to itself, for an owner who is not there: the same routes, without a network.

What is refused, and in which words, is decided by the same code as for a client.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from antiphon.api.call import JSON, Call
from antiphon.api.middleware import CALL, App, answered
from antiphon.api.services import Services
from antiphon.auth.principal import Principal
from antiphon.engine.batch_lines import Reply
from antiphon.engine.batches import Asked


class Inside:
    """Carries out requests with the routes of this server. It ends when the one who asks is cancelled."""

    def __init__(self, services: Services, app: App) -> None:
        self._services = services
        self._app = app

    async def __call__(self, asked: Asked) -> Reply:
        """The answer, whole; what goes wrong is an answer as well."""
        exchange = _Exchange(asked)
        request = (exchange.scope, exchange.receive, exchange.send)
        call: Call[Any, Any] = Call(self._services, request)
        call.request_id = f"req_{asked.id[:32]}"
        call.principal = Principal(owner=asked.owner)
        exchange.scope[CALL] = call
        await answered(self._app, request, call)
        return exchange.reply(call.request_id)


class _Exchange:
    """One request and its answer, as an ASGI app sees them."""

    def __init__(self, asked: Asked) -> None:
        headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(asked.body))]
        if asked.once:
            headers.append((b"idempotency-key", b"batch-" + asked.id.encode()))
        self.scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": asked.path,
            "query_string": b"",
            "headers": headers,
        }
        self._body: bytes | None = asked.body
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []

    async def receive(self) -> MutableMapping[str, Any]:
        """The body; after that nothing ever comes, since this client does not leave."""
        if self._body is None:
            await asyncio.get_running_loop().create_future()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Takes the answer in."""
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], dict(message["headers"])
        else:
            self._pieces.append(message.get("body", b""))

    def reply(self, request_id: str) -> Reply:
        """The answer."""
        retry_after = self._headers.get(b"retry-after", b"")
        return Reply(
            status=self._status,
            body=b"".join(self._pieces),
            request_id=request_id,
            retry_after_s=float(retry_after) if retry_after.isdigit() else 0.0,
        )
