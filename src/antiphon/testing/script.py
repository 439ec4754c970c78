"""What the scripted host can be told to say: replies in terms of their meaning, raw bytes, and misbehaviour.

A `Reply` is a chat completion, streamed or whole as the request wants it; a `Raw` is an answer byte for byte. Between
pieces a `Gate` holds the answer until the test opens it, so that nothing ever waits for time to pass.
"""

import asyncio
import base64
import json
import struct
import threading
from collections.abc import Sequence
from enum import Enum
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
                for piece in pieces_of(pieces)
            ]
        out += self._call_chunks(model)
        if self.finish is not None:
            out.append(self._chunk(model, {}, finish=self._finish()))
        if self.usage is not None:
            out.append(frame({**self._base(model), "choices": [], "usage": self.usage}))
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
        message: dict[str, Any] = {"role": "assistant", "content": text_of(self.text) or None}
        message["refusal"] = text_of(self.refusal) or None
        if self.reasoning:
            message[self.reasoning_field] = text_of(self.reasoning)
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": text_of(call.arguments)},
                }
                for call in self.calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": self._finish()}
        choice["logprobs"] = self._logprobs(text_of(self.text))
        base = {**self._base(model), "object": "chat.completion", "choices": [choice]}
        return json.dumps(base if self.usage is None else {**base, "usage": self.usage}).encode()

    def _base(self, model: str) -> dict[str, Any]:
        head = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000}
        return {**head, "model": model, **self.extra}

    def _chunk(
        self, model: str, delta: dict[str, Any], *, finish: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return frame({**self._base(model), "choices": [choice]})

    def _call_chunks(self, model: str) -> list[bytes | Gate]:
        out: list[bytes | Gate] = []
        for index, call in enumerate(self.calls):
            head = {"index": index, "id": call.id, "type": "function"}
            start = {**head, "function": {"name": call.name, "arguments": ""}}
            out.append(self._chunk(model, {"tool_calls": [start]}))
            for piece in pieces_of(call.arguments):
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
    error = frame({"error": {"message": message, "type": "server_error", "code": 500}})
    chunks = Reply(text=before, finish=None, usage=None).chunks("m") if before else []
    return Raw(steps=[*chunks, error])


def frame(chunk: dict[str, Any]) -> bytes:
    """A chunk as a server-sent event."""
    return b"data: %b\n\n" % json.dumps(chunk).encode()


def pieces_of(text: str | Sequence[str | Gate]) -> Sequence[str | Gate]:
    """The pieces in which something is streamed."""
    return ([text] if text else []) if isinstance(text, str) else text


def text_of(text: str | Sequence[str | Gate]) -> str:
    """The pieces put together."""
    return "".join(piece for piece in pieces_of(text) if isinstance(piece, str))


def whole(body: dict[str, Any]) -> Raw:
    """A JSON body of status 200."""
    return Raw(headers=[("content-type", "application/json")], steps=[json.dumps(body).encode()])


def completion(reply: Reply, body: dict[str, Any], model: str) -> Raw:
    """The reply in the form of the old completions."""
    head = {"id": "cmpl-scripted", "object": "text_completion", "created": 1_700_000_000, "model": model}
    if not body.get("stream"):
        choice = {"index": 0, "text": text_of(reply.text), "finish_reason": "stop", "logprobs": None}
        return whole({**head, "choices": [choice], "usage": reply.usage})
    steps: list[Step] = [
        piece
        if isinstance(piece, Gate)
        else frame({**head, "choices": [{"index": 0, "text": piece, "finish_reason": None, "logprobs": None}]})
        for piece in pieces_of(reply.text)
    ]
    return Raw(steps=[*steps, *reply.end])


def ranking(body: dict[str, Any]) -> dict[str, Any]:
    """A relevance for each document: 1 for the query's own text, else less the further back it stands."""
    scores = [1.0 if one == body["query"] else 0.5 / (1 + index) for index, one in enumerate(body["documents"])]
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return {"model": body["model"], "results": sorted(results, key=lambda one: -float(one["relevance_score"]))}


def images() -> dict[str, Any]:
    """One image, which is none to look at."""
    return {"created": 1, "data": [{"b64_json": base64.b64encode(b"image").decode()}], "size": "1024x1024"}


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
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
