"""A scripted model host: a real HTTP server on loopback that says what a test tells it to, well-behaved or not.

It speaks OpenAI's chat completions, completions, embeddings and models, records every request, and notices when its
client goes away. Nothing in it waits for time to pass: a `Gate` in a script holds the answer until the test opens it.

    with Host() as host:
        host.answer(Reply(text=["Hel", "lo"]), status(429, retry_after="7"), Raw(steps=[RESET]))

Answers are used up in order; when none is left, `host.default` (a friendly `Reply`) is given.
"""

import asyncio
import base64
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from types import TracebackType
from typing import Any

from msgspec import Struct, field

WAIT_S = 10.0
"""How long a test may wait for something to happen before it has failed."""


class Gate:
    """Holds an answer at one place until the test opens it; tells the test when that place is reached."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Lets the answer go on."""
        with self._lock:
            self._open.set()
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)

    def wait(self) -> None:
        """Blocks the test until the answer has come this far."""
        if not self._reached.wait(WAIT_S):
            raise TimeoutError("the scripted host was never asked for the answer with this gate")

    async def arrived(self) -> None:
        """`wait` for an asynchronous test."""
        await asyncio.to_thread(self.wait)

    async def passed(self) -> None:
        """What the host does at the gate."""
        self._reached.set()
        event = asyncio.Event()
        with self._lock:
            if self._open.is_set():
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()


class Act(Enum):
    """What else a script can do besides sending bytes."""

    RESET = "reset"
    """Reset the connection (TCP RST)."""
    CLOSE = "close"
    """Close the connection in the middle of the body."""
    HANG = "hang"
    """Say nothing more, for ever."""


RESET, CLOSE, HANG = Act.RESET, Act.CLOSE, Act.HANG
Step = bytes | Gate | Act
"""Bytes leave in one write of their own; a `Gate` waits for the test; an `Act` ends the script."""


class Raw(Struct, frozen=True, kw_only=True):
    """An answer byte for byte. `head=False` sends no status line: the steps are all there is."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "text/event-stream"),)
    steps: Sequence[Step] = ()
    head: bool = True


class Call(Struct, frozen=True, kw_only=True):
    """A tool call of the model: its arguments in the pieces in which they are streamed."""

    name: str
    arguments: str | Sequence[str | Gate] = "{}"
    id: str = "call_1"


USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Reply(Struct, frozen=True, kw_only=True):
    """A chat completion in terms of its meaning; sent as a stream or whole, as the request wants it.

    `text`, `reasoning`, `refusal` and arguments are the pieces in which they are streamed; `cut` re-cuts the bytes of
    the stream into pieces of that size, 0 sends them in one; `end` follows the last chunk in place of `[DONE]`.
    """

    text: str | Sequence[str | Gate] = ()
    reasoning: str | Sequence[str | Gate] = ()
    reasoning_field: str = "reasoning_content"
    refusal: str | Sequence[str | Gate] = ()
    calls: Sequence[Call] = ()
    finish: str | None = "auto"
    usage: dict[str, Any] | None = field(default_factory=lambda: USAGE)
    logprobs: bool = False
    together: bool = False
    cut: int | None = None
    end: Sequence[Step] = (b"data: [DONE]\n\n",)
    extra: dict[str, Any] = field(default_factory=dict)

    def chunks(self, model: str) -> list[bytes | Gate]:
        """The chat completion chunks as server-sent events."""
        out: list[bytes | Gate] = [self._chunk(model, {"role": "assistant", "content": ""})]
        for name, pieces in (
            (self.reasoning_field, self.reasoning),
            ("content", self.text),
            ("refusal", self.refusal),
        ):
            out += [
                piece
                if isinstance(piece, Gate)
                else self._chunk(model, {name: piece}, logprobs=self._logprobs(piece) if name == "content" else None)
                for piece in _pieces(pieces)
            ]
        out += self._call_chunks(model)
        if self.finish is not None:
            out.append(self._chunk(model, {}, finish=self._finish()))
        if self.usage is not None:
            out.append(_frame({**self._base(model), "choices": [], "usage": self.usage}))
        return out

    def steps(self, model: str) -> list[Step]:
        """The whole stream, cut as asked for."""
        chunks: list[Step] = [*self.chunks(model), *self.end]
        if self.cut is None:
            return chunks
        joined = b"".join(step for step in chunks if isinstance(step, bytes))
        size = self.cut or len(joined)
        rest: list[Step] = [step for step in chunks if not isinstance(step, bytes)]
        return [*(joined[at : at + size] for at in range(0, len(joined), size)), *rest]

    def body(self, model: str) -> bytes:
        """The whole chat completion."""
        message: dict[str, Any] = {"role": "assistant", "content": _text(self.text) or None}
        message["refusal"] = _text(self.refusal) or None
        if self.reasoning:
            message[self.reasoning_field] = _text(self.reasoning)
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _text(call.arguments)},
                }
                for call in self.calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": self._finish()}
        choice["logprobs"] = self._logprobs(_text(self.text))
        base = {**self._base(model), "object": "chat.completion", "choices": [choice]}
        return json.dumps(base if self.usage is None else {**base, "usage": self.usage}).encode()

    def _base(self, model: str) -> dict[str, Any]:
        head = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000}
        return {**head, "model": model, **self.extra}

    def _chunk(
        self, model: str, delta: dict[str, Any], *, finish: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return _frame({**self._base(model), "choices": [choice]})

    def _call_chunks(self, model: str) -> list[bytes | Gate]:
        out: list[bytes | Gate] = []
        for index, call in enumerate(self.calls):
            head = {"index": index, "id": call.id, "type": "function"}
            start = {**head, "function": {"name": call.name, "arguments": ""}}
            out.append(self._chunk(model, {"tool_calls": [start]}))
            for piece in _pieces(call.arguments):
                if isinstance(piece, Gate):
                    out.append(piece)
                else:
                    more = {"index": index, "function": {"arguments": piece}}
                    out.append(self._chunk(model, {"tool_calls": [more]}))
        return out

    def _finish(self) -> str | None:
        if self.finish != "auto":
            return self.finish
        return "tool_calls" if self.calls else "stop"

    def _logprobs(self, text: str) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        token = {"token": text, "logprob": -0.25, "bytes": list(text.encode())}
        return {"content": [{**token, "top_logprobs": [token]}], "refusal": None}


Answer = Reply | Raw


def status(code: int, message: str = "no", *, retry_after: str | None = None, form: str = "openai") -> Raw:
    """An error status with a body in OpenAI's form, as plain text, or as an HTML page."""
    bodies = {
        "openai": ("application/json", json.dumps({"error": {"message": message, "type": "t", "code": f"c{code}"}})),
        "plain": ("text/plain", message),
        "html": ("text/html", f"<html><head><title>{message}</title></head><body><h1>{message}</h1></body></html>"),
    }
    kind, body = bodies[form]
    headers = [("content-type", kind)] + ([("retry-after", retry_after)] if retry_after else [])
    return Raw(status=code, headers=headers, steps=[body.encode()])


def page() -> Raw:
    """An HTML page with status 200, as a proxy's login page is."""
    return Raw(headers=[("content-type", "text/html")], steps=[b"<html><body>Please log in</body></html>"])


EMPTY_STREAM = Raw()
"""A stream that ends before it begins."""
DONE_ONLY = Raw(steps=[b"data: [DONE]\n\n"])
"""A stream of nothing but its end."""
SILENT = Raw(steps=[HANG], head=False)
"""Never answers, not even with a status line."""
GARBAGE = Raw(steps=[b"data: {not json\n\n", b"data: [DONE]\n\n"])
"""Chunks that are no JSON."""


def error_inside(*before: str, message: str = "the engine exploded") -> Raw:
    """A stream of status 200 that carries an error object after some text."""
    error = _frame({"error": {"message": message, "type": "server_error", "code": 500}})
    chunks = Reply(text=before, finish=None, usage=None).chunks("m") if before else []
    return Raw(steps=[*chunks, error])


def _frame(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk).encode()


def _pieces(text: str | Sequence[str | Gate]) -> Sequence[str | Gate]:
    return ([text] if text else []) if isinstance(text, str) else text


def _text(text: str | Sequence[str | Gate]) -> str:
    return "".join(piece for piece in _pieces(text) if isinstance(piece, str))


class Request:
    """What arrived, and how it ended: `finished` when the answer went out whole, `aborted` when the client left."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
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

    def __enter__(self) -> "Host":
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
        body = request.json if answer is None or isinstance(answer, Reply) else {}
        if answer is None and request.path.endswith("/embeddings"):
            return _json(_embeddings(body))
        answer = answer or self.default
        if isinstance(answer, Raw):
            return answer
        model = body.get("model", "scripted-model")
        if request.path.endswith("/completions") and not request.path.endswith("/chat/completions"):
            return _completion(answer, body, model)
        if body.get("stream"):
            return Raw(steps=answer.steps(model))
        gates = [piece for piece in _pieces(answer.text) if isinstance(piece, Gate)]
        return Raw(headers=[("content-type", "application/json")], steps=[*gates, answer.body(model)])

    def _models(self, request: Request) -> Raw:
        if not request.path.endswith("/models"):
            return status(404, f"no {request.path}")
        listed = [{"id": name, "object": "model", "created": 1, "owned_by": "script"} for name in self.models]
        return _json({"object": "list", "data": listed})


def _json(body: dict[str, Any]) -> Raw:
    return Raw(headers=[("content-type", "application/json")], steps=[json.dumps(body).encode()])


def _completion(reply: Reply, body: dict[str, Any], model: str) -> Raw:
    """The reply in the form of the old completions."""
    head = {"id": "cmpl-scripted", "object": "text_completion", "created": 1_700_000_000, "model": model}
    if not body.get("stream"):
        choice = {"index": 0, "text": _text(reply.text), "finish_reason": "stop", "logprobs": None}
        return _json({**head, "choices": [choice], "usage": reply.usage})
    steps: list[Step] = [
        piece
        if isinstance(piece, Gate)
        else _frame({**head, "choices": [{"index": 0, "text": piece, "finish_reason": None, "logprobs": None}]})
        for piece in _pieces(reply.text)
    ]
    return Raw(steps=[*steps, *reply.end])


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """A vector for each input: its length, then zeros; as numbers or as base64 of 32-bit floats."""
    given = body["input"]
    batch = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    size = body.get("dimensions") or 4
    vectors = [[float(len(one)), *([0.0] * (size - 1))] for one in batch]
    as_text = body.get("encoding_format") == "base64"
    packed = [base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() for vector in vectors]
    data = [
        {"object": "embedding", "index": index, "embedding": one}
        for index, one in enumerate(packed if as_text else vectors)
    ]
    return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}


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
    return Request(method, path.partition("?")[0], headers, body)


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
