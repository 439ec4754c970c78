"""Routes as data: what a handler takes and gives is declared with it, and serves decoding and `openapi.json`.

    @route("POST", "/v1/conversations", body=CreateConversation, answer=Conversation)
    async def create_conversation(call: Call[CreateConversation, None]) -> Conversation:
        \"\"\"Create a conversation.\"\"\"

A handler returns what msgspec can encode, bytes that are JSON already, or something with an `answer` method of its own
(`EventStream`, `Reply`). It raises `ApiError`s.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypedDict, Unpack, runtime_checkable

import msgspec
from msgspec import NODEFAULT, Raw

from antiphon.api.access import access_from
from antiphon.api.call import Call
from antiphon.api.query import QueryDecoder, pairs
from antiphon.errors import InvalidRequest, misfit

log = logging.getLogger("antiphon.api")
SOCKET = "WEBSOCKET"
"""The `method` of a route that opens a WebSocket: its `body` is a frame of the client's, its `answer` an error's."""
Handle = Callable[[Call[Any, Any]], Awaitable[object]]

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])


@runtime_checkable
class Answer(Protocol):
    """An answer that knows how to send itself."""

    async def answer(self, call: Call[Any, Any]) -> None:
        """Sends itself."""
        ...


class Declared(TypedDict, total=False):
    """What a route declares beside method and path.

    `forwards` is set where unknown members of the body are passed on instead of being reported; `events` is the type
    of a streamed answer's events; `form` is that of a multipart body, which the handler reads by itself; `summary` is
    the handler's docstring unless given.
    """

    body: Any
    query: Any
    answer: Any
    events: Any
    form: Any
    status: int
    summary: str
    forwards: bool
    media: str


class Route:
    """One method of one path."""

    def __init__(self, method: str, path: str, handle: Handle, *, declared: Declared) -> None:
        self.method = method
        self.path = path
        self.handle = handle
        self.name: str = getattr(handle, "__name__", "")
        self.body = declared.get("body")
        self.query = declared.get("query")
        self.answer = declared.get("answer")
        self.events = declared.get("events")
        self.form = declared.get("form")
        self.status = declared.get("status", 200)
        self.summary = declared.get("summary") or (handle.__doc__ or "").strip().split("\n", 1)[0]
        self.media = declared.get("media", "application/json")
        self._query = None if self.query is None else QueryDecoder(self.query)
        self._body = None if self.body is None else msgspec.json.Decoder(self.body)
        self._known = frozenset[str]() if self.body is None else frozenset(self.body.__struct_encode_fields__)
        self._forwards = declared.get("forwards", False)
        self.body_required = self.body is not None and any(
            field.default is NODEFAULT and field.default_factory is NODEFAULT
            for field in msgspec.structs.fields(self.body)
        )

    async def serve(self, call: Call[Any, Any]) -> None:
        """Decodes the request, handles it, and sends the answer."""
        config = call.services.config
        call.pattern = self.path
        call.access = access_from(call.headers, call.warn, recorded=bool(config.recordings))
        if self._body is not None and self.method != SOCKET:
            call.raw = await call.read(config.limits.body_bytes_max)
            call.body = self._decode(self._body, call)
        query: bytes = call.scope["query_string"]
        if self._query is not None:
            call.query, unknown = self._query.decode(query)
            report(call, "query parameter", unknown)
        elif query:
            report(call, "query parameter", [name for name, _ in pairs(query)])
        answer = await self.handle(call)
        if isinstance(answer, bytes):
            await call.reply(self.status, answer)
        elif isinstance(answer, msgspec.Struct | Raw):
            await call.reply(self.status, _encode(answer))
        elif isinstance(answer, Answer):
            await answer.answer(call)
        else:
            await call.reply(self.status, _encode(answer))

    def decode(self, call: Call[Any, Any], raw: bytes) -> Any:
        """A frame of the client's, as the type that was declared. Raises `InvalidRequest`."""
        if self._body is None:
            raise RuntimeError(f"{self.path} declares no frames")
        call.raw = raw
        return self._decode(self._body, call)

    def _decode(self, decoder: msgspec.json.Decoder[Any], call: Call[Any, Any]) -> Any:
        raw = call.raw
        if not raw.strip():
            if self.body_required:
                raise InvalidRequest("The request body is empty; expected a JSON object.", code="invalid_json")
            raw = b"{}"
        try:
            str(raw, "utf-8")
            body = decoder.decode(raw)
            unknown = [] if self._forwards else [name for name in _members.decode(raw) if name not in self._known]
        except UnicodeDecodeError as error:
            message = f"The request body is not valid UTF-8 (byte {error.start})."
            raise InvalidRequest(message, code="invalid_json") from error
        except RecursionError as error:
            raise InvalidRequest("The request body is nested too deeply.", code="invalid_json") from error
        except msgspec.DecodeError as error:
            raise misfit(error) from error
        report(call, "field", unknown)
        return body


def route(method: str, path: str, **declared: Unpack[Declared]) -> Callable[[Handle], Route]:
    """Makes a handler a route."""

    def made(handle: Handle) -> Route:
        return Route(method, path, handle, declared=declared)

    return made


def report(call: Call[Any, Any], what: str, unknown: list[str]) -> None:
    """Unknown names are accepted and reported; in strict mode they are refused."""
    if not unknown:
        return
    if call.services.config.strict:
        name = unknown[0][:100]
        raise InvalidRequest(f"Unknown {what}: {name!r}.", param=name, code="unknown_parameter")
    for name in unknown:
        call.warn(f"unknown {what}: {name}")
    log.info("unknown %ss", what, extra={"names": [name[:100] for name in unknown[:20]], "request_id": call.request_id})


__all__ = ["SOCKET", "Answer", "Call", "Declared", "Route", "report", "route"]
