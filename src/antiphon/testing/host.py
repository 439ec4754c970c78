"""A scripted model host: a real HTTP server on loopback that says what a test tells it to, well-behaved or not.

It speaks OpenAI's chat completions, completions, embeddings and models, and Cohere's rerank, records every request, and
notices when its client goes away. Nothing in it waits for time to pass: a `Gate` in a script holds the answer until the
test opens it.

    with Host() as host:
        host.answer(Reply(text=["Hel", "lo"]), status(429, retry_after="7"), Raw(steps=[RESET]))

Answers are used up in order; when none is left, `host.default` (a friendly `Reply`) is given.
"""

import asyncio
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from antiphon.testing.script import (
    CLOSE,
    DONE_ONLY,
    EMPTY_STREAM,
    GARBAGE,
    HANG,
    RESET,
    SILENT,
    USAGE,
    WAIT_S,
    Act,
    Answer,
    Call,
    Gate,
    Raw,
    Reply,
    Step,
    completion,
    embeddings,
    error_inside,
    images,
    page,
    pieces_of,
    ranking,
    status,
    whole,
)

__all__ = [
    "CLOSE",
    "DONE_ONLY",
    "EMPTY_STREAM",
    "GARBAGE",
    "HANG",
    "RESET",
    "SILENT",
    "USAGE",
    "WAIT_S",
    "Act",
    "Answer",
    "Call",
    "Gate",
    "Host",
    "Raw",
    "Reply",
    "Request",
    "Step",
    "error_inside",
    "page",
    "status",
]


class Request:
    """What arrived, and how it ended: `finished` when the answer went out whole, `aborted` when the client left."""

    def __init__(self, method: str, path: str, *, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.finished = threading.Event()
        self.aborted = threading.Event()
        self.aborted_at_s: float | None = None

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def abort_seen(self) -> float:
        """Blocks until the client has gone away; the moment on the monotonic clock."""
        if not self.aborted.wait(WAIT_S) or self.aborted_at_s is None:
            raise TimeoutError(f"{self.method} {self.path} was not aborted")
        return self.aborted_at_s

    def abort(self) -> None:
        """Notes that the client has gone away."""
        self.aborted_at_s = time.monotonic()
        self.aborted.set()


class Host:
    """The scripted host. A context manager; `url` ends in `/v1`."""

    def __init__(self, models: Sequence[str] = ("scripted-model",)) -> None:
        self.models = list(models)
        self.default: Answer = Reply(text=["Hello", " there", "."])
        self.by_request: Callable[[Request], Answer | None] = lambda _request: None
        self.requests: list[Request] = []
        self.port = 0
        self._script: deque[Answer] = deque()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-host", daemon=True)

    @property
    def url(self) -> str:
        """The base URL, as one would configure it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, *answers: Answer) -> None:
        """The next answers to model calls, in order."""
        self._script.extend(answers)

    def reset(self) -> None:
        """Forgets script and requests, as if new."""
        self._script.clear()
        self.requests.clear()
        self.models = ["scripted-model"]
        self.default = Reply(text=["Hello", " there", "."])
        self.by_request = lambda _request: None

    @property
    def calls(self) -> list[Request]:
        """The model calls that arrived: every POST, no model list."""
        return [request for request in self.requests if request.method == "POST"]

    def called(self, count: int = 1) -> Request:
        """Blocks until that many model calls have arrived; returns the last of them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.calls) >= count, WAIT_S):
                raise TimeoutError(f"{len(self.calls)} model calls arrived, expected {count}")
        return self.calls[count - 1]

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening and drops every connection; the port answers nobody any more."""
        if self._thread.is_alive():
            self._run(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(WAIT_S)
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            early = b""
            while (request := await _read_request(reader, early)) is not None:
                early = await self._serve(request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, _ScriptEnds):
            pass
        finally:
            writer.close()

    async def _serve(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Answers one request while watching whether its client is still there; the byte read too much."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        play = asyncio.ensure_future(_play(writer, self._choose(request)))
        watch = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((play, watch), return_when=asyncio.FIRST_COMPLETED)
            if not play.done() and _early(watch):
                await asyncio.wait((play,))
            if not play.done():
                request.abort()
                raise ConnectionResetError
            watch.cancel()
            await asyncio.wait((watch,))
            if (error := play.exception()) is None:
                request.finished.set()
            elif isinstance(error, ConnectionError):
                request.abort()
            play.result()
        finally:
            play.cancel()
            watch.cancel()
        return _early(watch)

    def _choose(self, request: Request) -> Raw:
        if request.method == "GET":
            return self._models(request)
        answer = self.by_request(request) or (self._script.popleft() if self._script else None)
        if answer is None and "/images/" in request.path:
            return whole(images())
        body = request.json if answer is None or isinstance(answer, Reply) else {}
        if answer is None and request.path.endswith("/embeddings"):
            return whole(embeddings(body))
        if answer is None and request.path.endswith("/rerank"):
            return whole(ranking(body))
        answer = answer or self.default
        if isinstance(answer, Raw):
            return answer
        model = body.get("model", "scripted-model")
        if request.path.endswith("/completions") and not request.path.endswith("/chat/completions"):
            return completion(answer, body, model)
        if body.get("stream"):
            return Raw(steps=answer.steps(model))
        gates = [piece for piece in pieces_of(answer.text) if isinstance(piece, Gate)]
        return Raw(headers=[("content-type", "application/json")], steps=[*gates, answer.body(model)])

    def _models(self, request: Request) -> Raw:
        if not request.path.endswith("/models"):
            return status(404, f"no {request.path}")
        listed = [{"id": name, "object": "model", "created": 1, "owned_by": "script"} for name in self.models]
        return whole({"object": "list", "data": listed})


# ---------------------------------------------------------------- HTTP, by hand: a library would not let us misbehave


class _ScriptEnds(Exception):
    """The script breaks off the connection."""


def _early(watch: "asyncio.Future[bytes]") -> bytes:
    """The byte of the next request that the watch for the client's leaving has read, if any."""
    return b"" if not watch.done() or watch.cancelled() or watch.exception() else watch.result()


async def _read_request(reader: asyncio.StreamReader, early: bytes) -> Request | None:
    try:
        head = early + await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path.partition("?")[0], headers=headers, body=body)


async def _play(writer: asyncio.StreamWriter, answer: Raw) -> None:
    if answer.head:
        lines = [f"HTTP/1.1 {answer.status} Scripted", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    for step in answer.steps:
        if isinstance(step, Gate):
            await step.passed()
        elif isinstance(step, Act):
            await _act(writer, step)
        elif step:
            writer.write(b"%x\r\n%b\r\n" % (len(step), step) if answer.head else step)
            await writer.drain()
    if answer.head:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _act(writer: asyncio.StreamWriter, act: Act) -> None:
    if act is HANG:
        await asyncio.Event().wait()
    if act is RESET:
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    raise _ScriptEnds
