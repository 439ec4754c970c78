"""An ASGI server in miniature: one request, one answer, and a client that can leave."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from antiphon.api.route import Route
from antiphon.api.server import application
from antiphon.api.services import Services
from antiphon.api.sse import KeepAlive
from antiphon.api.tasks import Tasks
from antiphon.clock import replay_clock
from antiphon.config import Config
from antiphon.drain import Drain
from antiphon.ids import replayable_ids
from antiphon.replay.llama_stack import NumberedIds
from antiphon.telemetry import Telemetry


class Talk:
    """One request as it goes: `leave()` is the client going away, `sent` what the application said."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.sent: list[dict[str, Any]] = []
        self.said = asyncio.Event()
        self._left = asyncio.Event()
        self._pieces = list(pieces)

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.said.set()
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._left.set()  # as uvicorn does

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


class App:
    """Some routes, running."""

    def __init__(self, routes: Sequence[Route], services: Services) -> None:
        @asynccontextmanager
        async def opening():
            yield services

        self.services = services
        self._app = application(opening, routes)
        self._stop = asyncio.Event()
        self._began = False

    async def start(self) -> None:
        started = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not self._began:
                self._began = True
                return {"type": "lifespan.startup"}
            await self._stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: dict[str, Any]) -> None:
            started.set()

        self._life = asyncio.create_task(self._app({"type": "lifespan"}, receive, send))
        await started.wait()

    async def stop(self) -> None:
        self._stop.set()
        await self._life

    def begin(self, method: str, path: str, body: Any = b"", **more: Any) -> tuple[Talk, "asyncio.Task[None]"]:
        """A request under way. `more`: headers, pieces, kind (of scope), channel."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        pieces = more.get("pieces", [data])
        headers = {"content-length": str(sum(map(len, pieces)))} | more.get("headers", {})
        talk = Talk(pieces)
        path, _, query = path.partition("?")
        scope = {
            "type": more.get("kind", "http"),
            "method": method,
            "scheme": "http",
            "path": path,
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        receive, send = more.get("channel", (talk.receive, talk.send))
        return talk, asyncio.create_task(self._app(scope, receive, send))

    async def ask(self, method: str, path: str, body: Any = b"", **more: Any) -> Talk:
        """A request and its whole answer."""
        talk, task = self.begin(method, path, body, **more)
        await task
        return talk


@pytest.fixture
def ended() -> list[Any]:
    """What telemetry was told."""
    return []


@pytest.fixture
def services(ended: list[Any]) -> Services:
    """Services without stores and models, which these tests do not reach."""
    return Services(
        config=Config(),
        clock=replay_clock,
        new_id=replayable_ids(),
        catalog=None,
        engine=None,
        responses=None,
        conversations=None,
        completions=None,
        files=None,
        uploads=None,
        parser=None,
        containers=None,
        hosting=None,
        batches=None,
        jobs=None,
        vector_stores=None,
        vector_files=None,
        ingesting=None,
        search=None,
        rag=None,
        tool_runtime=None,
        test_ids=NumberedIds(),
        tasks=Tasks(),
        drain=Drain(0),
        alive=KeepAlive(15),
        idempotency=None,
        once=None,
        ready=None,
        telemetry=Telemetry(ended.append),
    )


@pytest.fixture
async def app(services: Services):
    """Makes running apps of routes."""
    apps: list[App] = []

    async def made(*routes: Route, **changes: Any) -> App:
        one = App(routes, msgspec.structs.replace(services, **changes))
        await one.start()
        apps.append(one)
        return one

    yield made
    for one in apps:
        await one.stop()
