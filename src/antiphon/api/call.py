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

if TYPE_CHECKING:  # these two name `Call` themselves
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
WARNINGS_MAX = 20
WARNING_CHARS_MAX = 120
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Call(Generic[Body, Query]):
    """A request with its body and query decoded, and what a handler needs to answer it.

    `Call[CreateConversation, None]` is one that has a body and no query. `seed` makes ids that belong to this request
    reproducible; `access` is what the client's headers say about the model host.
    """

    __slots__ = (
        "_receive",
        "_send",
        "access",
        "body",
        "complete",
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

    def warn(self, text: str) -> None:
        """Tells the client, in the `x-antiphon-warnings` header, of something that was not obeyed."""
        if text not in self.warnings:
            self.warnings.append(text)

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
            yield piece
            more = message.get("more_body", False)

    # ------------------------------------------------------------ the answer

    async def until_gone(self, work: Coroutine[Any, Any, T], *, detach: bool = False) -> T:
        """Does the work while the client waits; the body must have been read.

        If the client leaves, `Gone` is raised, and the work is cancelled at once or, if `detach` is set, goes on.
        """
        try:
            if detach:
                return await outliving(self._leaving(), work, self.services.tasks)
            return await while_there(self._leaving(), work)
        except Gone:
            self.gone = True
            raise

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
        await self.start(status, [(b"content-type", media), (b"content-length", b"%d" % len(body)), *headers])
        self.complete = True
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers) -> None:
        """The head of the answer."""
        if self.gone:
            return
        self.started = True
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._marks()]})

    async def write(self, body: bytes, *, more: bool = True) -> None:
        """A piece of the answer. Returns when the client has room for more; does nothing once it is gone or has all."""
        if not self.gone and not self.complete:
            self.complete = not more
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def accept(self) -> tuple[Receive, Send]:
        """Opens the WebSocket that the client asks for, and returns its two ends. Raises `Gone` if the client left."""
        if (await self._receive())["type"] != "websocket.connect":
            raise Gone
        self.started, self.status = True, SWITCHING
        try:
            await self._send({"type": "websocket.accept", "headers": self._marks()})
        except OSError as error:
            raise Gone from error
        return self._receive, self._send

    def _marks(self) -> Headers:
        """What the head of every answer has."""
        marks = [(b"x-request-id", self.request_id.encode())]
        if self.warnings:
            marks.append((b"x-antiphon-warnings", _header(self.warnings)))
        return marks


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"The request body is larger than the {bytes_max} bytes that this server accepts.")


def _header(warnings: Sequence[str]) -> bytes:
    shown = [_UNPRINTABLE.sub("?", each)[:WARNING_CHARS_MAX] for each in warnings[:WARNINGS_MAX]]
    if len(warnings) > WARNINGS_MAX:
        shown.append(f"and {len(warnings) - WARNINGS_MAX} more")
    return "; ".join(shown).encode()
