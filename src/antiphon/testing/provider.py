"""Fakes at the two seams of the world of models: a provider that follows a script, and a transport that does.

    provider = ScriptedProvider(Script(text("Hel", "lo")), UpstreamRejected("Slow down.", status=429))

Each model call, or each request, uses up the next entry. Both remember what they were asked, and what was given up
before its end. Nothing in them waits for time to pass.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from msgspec import Struct

from antiphon.errors import ApiError, Upstream
from antiphon.exchange import Incoming, Outgoing
from antiphon.models.base import NO_ACCESS, Access, Finish, ModelEvent, ModelInfo, ModelRequest, Text

HANG = asyncio.Event()
"""A step that is never over: the answer stops coming, until somebody gives up."""

Step = list[ModelEvent] | Exception | asyncio.Event
"""A batch of events; an error that breaks the answer; an event that is awaited (a gate, or `HANG`)."""


class Script(Struct, frozen=True):
    """What a model says, batch by batch."""

    steps: Sequence[Step]


def text(*pieces: str) -> Script:
    """A model that says these pieces, each in its own batch, and stops."""
    said: list[Step] = [[Text(piece)] for piece in pieces]
    return Script([*said, [Finish("stop")]])


class ScriptedStream:
    """The answer that a script gives (`models.base.ModelStream`)."""

    def __init__(self, script: Script, aborted: list[Script]) -> None:
        self._script = script
        self._aborted = aborted
        self._over = False

    async def __aiter__(self) -> AsyncGenerator[list[ModelEvent], None]:
        finished = False
        for step in self._script.steps:
            if isinstance(step, asyncio.Event):
                await _wait(step)
            elif isinstance(step, Exception):
                raise step
            else:
                finished = finished or any(isinstance(event, Finish) for event in step)
                yield step
        self._over = True
        if not finished:
            raise Upstream("The script ended without a finish reason.")

    async def aclose(self) -> None:
        """Gives the answer up; counted as aborted if it was not over."""
        if not self._over:
            self._over = True
            self._aborted.append(self._script)


class ScriptedProvider:
    """A provider that does what it is told (`models.base.Provider`); out of scripts, it says "Hello!".

    `answers` are the bodies, or errors, of `post`. `requests`, `posts` and `aborted` tell what happened.
    """

    def __init__(
        self,
        *scripts: Script | ApiError,
        answers: Sequence[bytes | ApiError] = (),
        models: Sequence[ModelInfo] = (ModelInfo(id="scripted"),),
        takes_not: Sequence[str] = (),
    ) -> None:
        self.takes_not = takes_not
        self.requests: list[tuple[ModelRequest, Access]] = []
        self.posts: list[tuple[str, bytes, Access]] = []
        self.aborted: list[Script] = []
        self._scripts = deque(scripts)
        self._answers = deque(answers)
        self._models = list(models)

    async def open(self, request: ModelRequest, access: Access = NO_ACCESS) -> ScriptedStream:
        """Begins the next script, or raises the error that stands in its place."""
        self.requests.append((request, access))
        script = self._scripts.popleft() if self._scripts else text("Hello!")
        if isinstance(script, ApiError):
            raise script
        return ScriptedStream(script, self.aborted)

    def left_out(self, _request: ModelRequest) -> list[str]:
        """A script takes every parameter but these."""
        return list(self.takes_not)

    async def post(self, path: str, body: bytes, access: Access = NO_ACCESS, *, content_type: str = "") -> Incoming:
        """The next answer in one piece, or the error that stands in its place."""
        del content_type
        self.posts.append((path, body, access))
        answer = self._answers.popleft() if self._answers else b"{}"
        if isinstance(answer, ApiError):
            raise answer
        return Incoming(200, {"content-type": "application/json"}, _pieces([answer]))

    async def models(self, _access: Access = NO_ACCESS) -> list[ModelInfo]:
        """The models it was given."""
        return self._models


# ---------------------------------------------------------------- one seam lower


Piece = bytes | ApiError | asyncio.Event
"""Bytes as the network delivers them; an error that breaks the connection; an event that is awaited."""


class Answer(Struct, frozen=True, kw_only=True):
    """What a host answers to one request."""

    pieces: Sequence[Piece] = ()
    status: int = 200
    headers: dict[str, str] = {}


class ScriptedTransport:
    """A network in which every host follows one script (`exchange.Transport`)."""

    def __init__(self, *answers: Answer | ApiError) -> None:
        self.sent: list[Outgoing] = []
        self.aborted: list[Outgoing] = []
        self.closed: list[Outgoing] = []
        self._answers = deque(answers)

    async def send(self, request: Outgoing) -> Incoming:
        """The next answer, or the error that stands in its place."""
        self.sent.append(request)
        if not self._answers:
            raise Upstream("The script has no answer left.")
        answer = self._answers.popleft()
        if isinstance(answer, ApiError):
            raise answer
        over = asyncio.Event()

        async def close() -> None:
            self.closed.append(request)
            if not over.is_set():
                self.aborted.append(request)

        return Incoming(answer.status, answer.headers, _pieces(answer.pieces, over), closer=close)

    async def close(self) -> None:
        """Nothing to release."""


async def _pieces(pieces: Sequence[Piece], over: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, asyncio.Event):
            await _wait(piece)
        elif isinstance(piece, ApiError):
            raise piece
        else:
            yield piece
    if over is not None:
        over.set()


async def _wait(event: asyncio.Event) -> None:
    """Waits for a gate. `HANG` belongs to no event loop, so it is not awaited itself."""
    await (asyncio.Event() if event is HANG else event).wait()


def chunks(*data: bytes) -> list[Piece]:
    """A stream of server-sent events with these data, one event a piece."""
    return [b"data: " + each + b"\n\n" for each in data]
