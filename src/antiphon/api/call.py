"""One HTTP request, or one that opens a WebSocket, as a handler sees it, and the way its answer takes to the client."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from antiphon.api.errors import Headers
from antiphon.api.tasks import Gone, outliving, while_there
from antiphon.auth.principal import ANYONE, Principal
from antiphon.errors import TooLarge
from antiphon.models.base import NO_ACCESS, Access

if TYPE_CHECKING:  # these name `Call` themselves
    from antiphon.api.idempotency import Execution
    from antiphon.api.route import Route
    from antiphon.api.services import Services

Body = TypeVar("Body")
Query = TypeVar("Query")
T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
SWITCHING = 101
PIECE_BYTES_MAX = 64 * 1024
"""What the server is given at once."""
WARNINGS_MAX = 20
WARNING_CHARS_MAX = 120
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Call(Generic[Body, Query]):
    """A request with its body and query decoded, and what a handler needs to answer it.

    `Call[CreateConversation, None]` is one that has a body and no query. `seed` makes ids that belong to this request
    reproducible; `access` is what the client's headers say about the model host; `execution` is there if the client
    sent an `Idempotency-Key`.
    """

    __slots__ = (
        "_halfway",
        "_receive",
        "_send",
        "access",
        "body",
        "complete",
        "execution",
        "gone",
        "headers",
        "pattern",
        "principal",
        "query",
        "raw",
        "request_id",
        "routes",
        "scope",
        "services",
        "started",
        "status",
        "warnings",
    )

    body: Body
    query: Query

    def __init__(self, services: "Services", request: tuple[Scope, Receive, Send]) -> None:
        self.services = services
        self.scope, self._receive, self._send = request
        self.request_id = ""
        self.headers: dict[bytes, bytes] = dict(self.scope["headers"])
        self.raw = b""
        self.access: Access = NO_ACCESS
        self.principal: Principal = ANYONE
        self.warnings: list[str] = []
        self.routes: tuple[Route, ...] = ()
        self.pattern = ""
        self.status = 0
        self.started = False
        self.gone = False
        self.complete = False
        self._halfway = False
        self.execution: Execution | None = None

    @property
    def method(self) -> str:
        """The request's method."""
        method: str = self.scope["method"]
        return method

    @property
    def path(self) -> str:
        """The request's path, percent-decoded."""
        path: str = self.scope["path"]
        return path

    @property
    def params(self) -> Mapping[str, str]:
        """The path's parameters."""
        params: Mapping[str, str] = self.scope["path_params"]
        return params

    @property
    def owner(self) -> str:
        """Whose things this request may see."""
        return self.principal.owner

    @property
    def seed(self) -> bytes:
        """What ids that this request leads to are made from in replay: the same request, the same ids."""
        return b"%b %b\n%b" % (self.method.encode(), self.path.encode("utf-8", "surrogatepass"), self.raw)

    @property
    def begun(self) -> str | None:
        """The id of what an execution of this request had begun to make, when its process died."""
        return None if self.execution is None else self.execution.begun

    async def new_id(self, prefix: str) -> str:
        """The id of what this request makes: `begun`, or a new one. Under a key it is noted before anything is made.

        A process that dies after the work and before the answer is kept has so left word of what it did.
        """
        if self.begun is not None and self.begun.startswith(f"{prefix}_"):
            return self.begun
        id = self.services.new_id(prefix, self.seed)
        if self.execution is not None:
            await self.execution.names(id)
        return id

    def warn(self, text: str) -> None:
        """Tells the client, in the `x-antiphon-warnings` header, of something that was not obeyed."""
        if text not in self.warnings:
            self.warnings.append(text)

    def fails(self) -> None:
        """Says that the answer tells of a failure although its status does not: it is not kept for a retry."""
        if self.execution is not None:
            self.execution.fails()

    # ------------------------------------------------------------ the request

    async def read(self, bytes_max: int) -> bytes:
        """The whole body."""
        pieces = [piece async for piece in self.pieces(bytes_max)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it arrives, no faster than it is taken.

        Raises `TooLarge` as soon as that is known, `Gone` if the client leaves in the middle.
        """
        announced = self.headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > bytes_max:
            raise _too_large(bytes_max)
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            piece = message.get("body", b"")
            size += len(piece)
            if size > bytes_max:
                raise _too_large(bytes_max)
            if self.execution is not None:
                self.execution.body.feed(piece)
            yield piece
            more = message.get("more_body", False)

    # ------------------------------------------------------------ the answer

    async def until_gone(self, work: Coroutine[Any, Any, T], *, detach: bool = False) -> T:
        """Does the work while the client waits; the body must have been read.

        If the client leaves, `Gone` is raised, and the work is cancelled at once or, if `detach` is set, goes on. One
        that will ask again under its key is answered then: detached work ends as if the client were there still.
        """
        try:
            if detach and self.execution is not None:
                return await self._regardless(work)
            if detach:
                return await outliving(self._leaving(), work, self.services.tasks)
            return await while_there(self._leaving(), work)
        except Gone:
            self.gone = True
            raise

    async def _regardless(self, work: Coroutine[Any, Any, T]) -> T:
        watch = asyncio.get_running_loop().create_task(self._leaving())
        watch.add_done_callback(self._note_gone)
        try:
            return await work
        finally:
            watch.cancel()

    def _note_gone(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            self.gone = True

    async def _leaving(self) -> None:
        """Ends when the client leaves before it has its whole answer."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self.complete:  # the server also says so when the answer is out
            await asyncio.get_running_loop().create_future()

    async def reply(
        self, status: int, body: bytes, *, media: bytes = JSON, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """The whole answer."""
        head = [(b"content-type", media), (b"content-length", b"%d" % len(body)), *headers]
        execution, self.execution = self.execution, None
        if execution is not None:  # what a retry is to be given is kept before anything of it is seen
            execution.starts(status, [*head, *self._warned()])
            await execution.writes(self, body, more=False)
        await self.start(status, head)
        await self.write(body, more=False)

    async def start(self, status: int, headers: Headers) -> None:
        """The head of the answer."""
        headers += self._warned()
        if self.execution is not None:
            self.execution.starts(status, headers)
        self.started = True
        if self.gone:
            return
        self.status = status
        headers.append((b"x-request-id", self.request_id.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, more: bool = True) -> None:
        """A piece of the answer. Returns when the client has room for more; does nothing once it is gone or has all."""
        if self.execution is not None:
            await self.execution.writes(self, body, more=more)
        if not self.gone and not self.complete:
            self.complete = not more
            if len(body) > PIECE_BYTES_MAX:
                await self._write_in_pieces(body, more=more)
            else:
                await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _write_in_pieces(self, body: bytes, *, more: bool) -> None:
        """The server copies what it is given, whether or not the client takes it."""
        self._halfway = True
        for at in range(0, len(body), PIECE_BYTES_MAX):
            end = at + PIECE_BYTES_MAX
            await self._send({"type": "http.response.body", "body": body[at:end], "more_body": more or end < len(body)})
        self._halfway = False

    def write_at_once(self, body: bytes) -> None:
        """A piece of an answer that has begun and not ended, if the client has room for it now; else it is left out.

        It is no part of the answer that a retry is given. The server's `send` waits for room before it writes: what
        would have to wait has written nothing yet.
        """
        if self.started and not (self.gone or self.complete or self._halfway):
            sending = self._send({"type": "http.response.body", "body": body, "more_body": True}).__await__()
            try:
                next(sending)
            except StopIteration:
                return
            sending.close()

    def _warned(self) -> Headers:
        return [(b"x-antiphon-warnings", _header(self.warnings))] if self.warnings else []

    async def accept(self) -> tuple[Receive, Send]:
        """Opens the WebSocket that the client asks for, and returns its two ends. Raises `Gone` if the client left."""
        if (await self._receive())["type"] != "websocket.connect":
            raise Gone
        self.started, self.status = True, SWITCHING
        try:
            await self._send(
                {"type": "websocket.accept", "headers": [(b"x-request-id", self.request_id.encode()), *self._warned()]}
            )
        except OSError as error:
            raise Gone from error
        return self._receive, self._send


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"The request body is larger than the {bytes_max} bytes that this server accepts.")


def _header(warnings: Sequence[str]) -> bytes:
    shown = [_UNPRINTABLE.sub("?", each)[:WARNING_CHARS_MAX] for each in warnings[:WARNINGS_MAX]]
    if len(warnings) > WARNINGS_MAX:
        shown.append(f"and {len(warnings) - WARNINGS_MAX} more")
    return "; ".join(shown).encode()
