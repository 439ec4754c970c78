"""`/v1/responses` over a WebSocket: each `response.create` frame is a turn, each of its events a text frame.

Turns run one after the other, in the order of their frames. A client may name lanes (`stream_id`): within a lane the
same holds, and lanes run side by side. What is wrong with a frame, or with the turn that it asks for, is an error
frame, and the connection goes on. Unstored responses can be continued for as long as their connection remembers them.
"""

import asyncio
import contextlib
import logging
import re
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from antiphon.api.call import Call, Receive, Send
from antiphon.api.errors import internal, moved, refusal
from antiphon.api.route import SOCKET, route
from antiphon.engine.perform import fresh, resume, warm_up
from antiphon.engine.prepare import prepare
from antiphon.engine.run import Caller, Progress, Recent, Run
from antiphon.errors import (
    DECODE_ERRORS,
    ApiError,
    Forbidden,
    Internal,
    InvalidRequest,
    RateLimited,
    RunLost,
    Unavailable,
    Unsupported,
)
from antiphon.telemetry import brief
from antiphon.wire.events import TERMINAL, Event
from antiphon.wire.responses import Response
from antiphon.wire.sockets import CreateFrame, ErrorFrame, FrameError

log = logging.getLogger("antiphon.api")

CREATE: Final = "response.create"
LANES_MAX: Final = 32
TURNS_MAX: Final = 16
WAITING_MAX: Final = 64
REMEMBERED_MAX: Final = 33
"""One for each lane."""
LAST_WORD_S: Final = 5.0
GOING_AWAY: Final = 1001
RESTARTS: Final = 1012

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str | None)
_LANE = re.compile(r"[A-Za-z0-9_.-]{1,256}")


@route(SOCKET, "/v1/responses", body=CreateFrame, answer=ErrorFrame, events=Event)
async def connect_responses(call: Call[None, None]) -> "Connection":
    """Create model responses turn after turn, over one WebSocket."""
    _check_origin(call)
    return Connection(call)


class Memory:
    """The unstored responses of a connection that can be continued: the newest, up to a number and a size.

    `recent` has them by id. The size is that of the frames they came and left in, whole contexts each.
    """

    def __init__(self, bytes_max: int) -> None:
        self.recent: dict[str, Recent] = {}
        self._lanes: dict[str, str] = {}
        self._bytes: dict[str, int] = {}
        self._bytes_max = bytes_max

    def keep(self, run: Run, response: Response, *, lane: str, size: int) -> None:
        """Remembers how a turn ended, unless its context is in the store or in its conversation, or is too large."""
        previous = response.previous_response_id or ""
        before = self.recent.get(previous)
        size += self._bytes.get(previous, 0)
        elsewhere = run.conversation is not None or (response.store and before is None)
        if elsewhere or size > self._bytes_max:
            return
        self.recent[response.id] = Recent(
            items=(*(before.items if before else ()), *run.input, *response.output),
            stored=before.stored if before else response.previous_response_id,
        )
        self._lanes[response.id] = lane
        self._bytes[response.id] = size
        while len(self.recent) > REMEMBERED_MAX or sum(self._bytes.values()) > self._bytes_max:
            self._drop(next(iter(self.recent)))

    def forget(self, response_id: str, *, lane: str) -> None:
        """Forgets a response whose continuation failed, unless it is another lane's, which may still go on."""
        if self._lanes.get(response_id) == lane:
            self._drop(response_id)

    def _drop(self, response_id: str) -> None:
        del self.recent[response_id], self._lanes[response_id], self._bytes[response_id]


class Lane:
    """Turns that run one after the other. `stored` says whether the running one goes on without its client."""

    __slots__ = ("name", "stored", "waiting", "work")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[bytes] = deque()
        self.work: asyncio.Task[None] | None = None
        self.stored = False


class Connection:
    """One client's WebSocket. It is read all the time, so that its end is noticed whatever is going on."""

    def __init__(self, call: Call[None, None]) -> None:
        config = call.services.config
        self._call = call
        self._memory = Memory(config.limits.socket_bytes_max)
        self._bytes_max = config.limits.socket_bytes_max
        self._lanes: dict[str, Lane] = {}
        self._turns = asyncio.Semaphore(TURNS_MAX)
        self._receive: Receive
        self._send: Send
        self._limit: asyncio.Timeout
        self._over = False

    async def answer(self, call: Call[Any, Any]) -> None:
        """Serves the connection until it ends. Stored turns go on after it, unstored ones are aborted."""
        self._receive, self._send = await call.accept()
        drain = call.services.drain
        stop_listening = drain.listen(self._end_if_idle)
        try:
            async with asyncio.timeout(call.services.config.timeouts.socket_s) as self._limit:
                self._end_if_idle()
                await self._read()
        except TimeoutError:
            await self._hang_up()
        finally:
            stop_listening()
            self._over = True
            for lane in self._lanes.values():
                if lane.work is not None and not lane.stored:
                    lane.work.cancel()

    def _end_if_idle(self) -> None:
        """Lets a stopping server end the connection, once no turn is under way."""
        if not self._call.services.drain.begun or self._limit.expired():
            return
        if not any(lane.work for lane in self._lanes.values()):
            self._limit.reschedule(asyncio.get_running_loop().time())

    # ------------------------------------------------------------ what the client sends

    async def _read(self) -> None:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            text = message.get("text")
            if text is None:
                await self._refuse("", InvalidRequest("A frame must be JSON text, not binary.", code="invalid_frame"))
            else:
                await self._take(text.encode())

    async def _take(self, frame: bytes) -> None:
        """Puts the frame into its lane."""
        try:
            lane = self._lane(frame)
            self._check_room(frame)
        except ApiError as error:
            await self._refuse(_member(frame, "stream_id"), error)
            return
        lane.waiting.append(frame)
        if lane.work is None:
            lane.work = self._call.services.tasks.start(self._work(lane))

    def _lane(self, frame: bytes) -> Lane:
        name = _member(frame, "stream_id")
        if not _LANE.fullmatch(name):
            name = ""  # where what is wrong with it will be said, in its turn
        lane = self._lanes.get(name)
        if lane is None:
            if name and len(self._lanes.keys() - {""}) >= LANES_MAX:
                message = f"A connection has at most {LANES_MAX} stream ids: use one of them again, or connect anew."
                raise InvalidRequest(message, param="stream_id", code="websocket_stream_limit_reached")
            lane = self._lanes[name] = Lane(name)
        return lane

    def _check_room(self, frame: bytes) -> None:
        waiting = [each for lane in self._lanes.values() for each in lane.waiting]
        size = len(frame) + sum(map(len, waiting))
        if waiting and (len(waiting) >= WAITING_MAX or size > self._bytes_max):
            message = f"{len(waiting)} turns wait on this connection already; send more when some have ended."
            raise RateLimited(message, code="websocket_queue_full")

    # ------------------------------------------------------------ turns

    async def _work(self, lane: Lane) -> None:
        """The lane's turns, until none waits or nobody is there."""
        try:
            while lane.waiting and not self._over:
                async with self._turns:
                    await self._turn(lane, lane.waiting.popleft())
        finally:
            lane.work = None
            if not self._over:
                self._end_if_idle()

    async def _turn(self, lane: Lane, frame: bytes) -> None:
        """One turn. What ends it before its first event is an error frame."""
        try:
            with self._call.services.telemetry.live:
                await self._respond(lane, frame)
        except ApiError as error:
            if isinstance(error, Internal):
                _log(self._call, error)
            await self._fail(lane, frame, error)
        except Exception as error:
            _log(self._call, error)
            await self._fail(lane, frame, internal(self._call.request_id))
        finally:
            lane.stored = False

    async def _fail(self, lane: Lane, frame: bytes, error: ApiError) -> None:
        self._memory.forget(_member(frame, "previous_response_id"), lane=lane.name)
        await self._refuse(lane.name, error)

    async def _respond(self, lane: Lane, frame: bytes) -> None:
        call, engine = self._call, self._call.services.engine
        if call.services.drain.begun:
            raise _stopping()
        _check_kind(frame)
        create = _checked(connect_responses.decode(call, frame))
        lane.stored = create.store is not False
        caller = Caller(owner=call.owner, access=call.access, seed=call.seed, recent=self._memory.recent)
        call.raw = b""  # for as long as the connection is idle, which may be most of an hour
        call.warnings.clear()  # there is no header to send them in; they are in the log
        run = await prepare(engine, create, caller)
        if run.warnings:
            log.info("parameters not obeyed", extra={"names": run.warnings, "request_id": call.request_id})
        progress = fresh(engine, run, shown=True)
        if create.generate is False:
            events = warm_up(engine, progress)
        else:
            events = resume(engine, progress, patience_s=call.services.config.response_patience_s)
        await self._show(lane, progress, events, frame=frame)

    async def _show(
        self, lane: Lane, progress: Progress, events: AsyncGenerator[list[Event], None], *, frame: bytes
    ) -> None:
        """Sends the events as they come; the end is remembered before the client hears of it and can go on."""
        ended = False
        try:
            async for batch in events:
                frames = [_framed(event, lane.name) for event in batch]
                last = batch[-1]
                if isinstance(last, TERMINAL):
                    ended = True
                    response = replace(last.response, output=progress.emitter.output)  # all of it, shown or not
                    self._remember(lane, progress.run, response, size=len(frame) + len(_encode(response)))
                await self._say(frames)
        except RunLost as error:
            raise moved() from error
        finally:
            await events.aclose()
        if not ended:
            raise moved()

    def _remember(self, lane: Lane, run: Run, response: Response, *, size: int) -> None:
        if response.status in ("completed", "incomplete"):
            self._memory.keep(run, response, lane=lane.name, size=size)
        elif response.status == "failed":
            self._memory.forget(response.previous_response_id or "", lane=lane.name)

    # ------------------------------------------------------------ what the client hears

    async def _say(self, frames: list[bytes]) -> None:
        """Sends the frames, no faster than the client takes them. Does nothing once the client is gone."""
        try:
            for frame in frames:
                if self._over:
                    return
                await self._send({"type": "websocket.send", "text": frame.decode()})
        except OSError:
            self._over = True

    async def _refuse(self, lane: str, error: ApiError) -> None:
        await self._say([error_frame(error, lane)])

    async def _hang_up(self) -> None:
        """The connection has lasted for as long as one may, or for as long as its server."""
        minutes = self._call.services.config.timeouts.socket_s / 60
        message = f"A connection may last {minutes:g} minutes, and this one has. Open a new one to go on."
        error: ApiError = InvalidRequest(message, code="websocket_connection_limit_reached")
        code = GOING_AWAY
        if self._call.services.drain.begun:
            error, code = _stopping(), RESTARTS
        with contextlib.suppress(TimeoutError):  # who does not read now is cut off without
            async with asyncio.timeout(LAST_WORD_S):
                await self._refuse("", error)
                gone, self._over = self._over, True
                if not gone:
                    await self._send({"type": "websocket.close", "code": code, "reason": error.code})


def _stopping() -> Unavailable:
    return Unavailable("The server is stopping. Open a new connection to go on.", code="server_stopping")


def _log(call: Call[None, None], error: Exception) -> None:
    log.error("a turn failed", extra={"request_id": call.request_id, "exception": brief(error)})


def error_frame(error: ApiError, lane: str) -> bytes:
    """The frame that tells a client of an error, as Open Responses and the `openai` package define it."""
    headers = {name.decode(): value.decode() for name, value in refusal(error)[2]}
    shown = ErrorFrame(
        # Over a WebSocket this one is documented as a 400.
        status=400 if error.code == "previous_response_not_found" else error.status,
        error=FrameError(
            message=error.message,
            type=error.type,
            param=error.param,
            code=error.code or error.type,
            headers=headers or UNSET,
        ),
        stream_id=lane or UNSET,
    )
    return _encode(shown)


def _framed(event: Event, lane: str) -> bytes:
    data = _encode(event)
    return b'{"stream_id":"%b",%b' % (lane.encode(), data[1:]) if lane else data


def _member(frame: bytes, name: str) -> str:
    """A text member of a frame that may be anything at all; empty if it has none."""
    try:
        return _text.decode(_members.decode(frame)[name]) or ""
    except (*DECODE_ERRORS, KeyError):
        return ""


def _check_kind(frame: bytes) -> None:
    kind = _member(frame, "type")
    if kind not in ("", CREATE):
        message = f"Frames of type {kind[:100]!r} are not served: the only type is {CREATE!r}."
        raise Unsupported(message, param="type", code="unsupported_event_type")


def _checked(create: CreateFrame) -> CreateFrame:
    """The frame as a streamed request. Raises for what has no meaning here, where everything is streamed."""
    if create.background:
        message = "'background' is not supported over a WebSocket: use POST /v1/responses."
        raise Unsupported(message, param="background")
    if create.stream is False:
        raise Unsupported("'stream' cannot be false over a WebSocket: leave it out.", param="stream")
    if create.stream_id is not None and not _LANE.fullmatch(create.stream_id):
        message = "A 'stream_id' has 1 to 256 letters, digits, underscores, hyphens and periods."
        raise InvalidRequest(message, param="stream_id", code="invalid_stream_id")
    return replace(create, stream=True, background=None)


def _check_origin(call: Call[None, None]) -> None:
    """Browsers let any page open WebSockets to any server, and read them: only this server's own pages may."""
    origin = call.headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != call.headers.get(b"host"):
        shown = origin[:100].decode("latin-1")
        raise Forbidden(f"Pages of {shown} may not connect to this server.", code="origin_not_allowed")
