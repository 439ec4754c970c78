"""Llama Stack's recordings (its 0.3 format): how it names, reads and writes them.

Llama Stack records the arguments of a client's method, not HTTP. The file's name is a digest over those arguments, so
they are rebuilt here from the request that we would send: members that the method does not know move to `extra_body`,
some numbers are always floats, the path gets its endpoint's `/v1` a second time, and the name of the running test
counts. What a file holds (dumped objects) is turned back into the bytes that a host would have sent.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from antiphon.errors import InvalidRequest
from antiphon.replay import redact
from antiphon.replay.canonical import place_of
from antiphon.replay.recording import Answer, Frame

FILE_NAME: Final = re.compile(r"(?P<lists>models-)?(?P<digest>[0-9a-f]{64}|[0-9a-f]{12})(?(lists)-[0-9a-f]{8})\.json")
COMMON: Final = "common"
TAVILY: Final = "https://api.tavily.com"
TAVILY_SEARCH: Final = "/search"
"""Where the one tool that Llama Stack records sends its requests."""
_SUITE = re.compile(r"(?:.*/)?tests/integration/(?P<suite>[^/]+)/")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{4,}")
_DIGITS: Final = 5
_UNSCOPED: Final = frozenset({"/api/tags", "/v1/models"})
_FLOATS: Final = frozenset({"temperature", "top_p", "frequency_penalty", "presence_penalty"})
_SAMPLING: Final = frozenset(
    [
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "model",
        "n",
        "presence_penalty",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "user",
    ]
)
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "/chat/completions": _SAMPLING
    | frozenset(
        [
            "function_call",
            "functions",
            "max_completion_tokens",
            "messages",
            "parallel_tool_calls",
            "response_format",
            "tool_choice",
            "tools",
            "top_logprobs",
        ]
    ),
    "/completions": _SAMPLING | {"best_of", "echo", "prompt", "suffix"},
    "/embeddings": frozenset({"dimensions", "encoding_format", "input", "model", "user"}),
    "/models": frozenset(),
}
_TYPES: Final[Mapping[tuple[str, bool], str]] = {
    ("/chat/completions", True): "openai.types.chat.chat_completion_chunk.ChatCompletionChunk",
    ("/chat/completions", False): "openai.types.chat.chat_completion.ChatCompletion",
    ("/completions", True): "openai.types.completion.Completion",
    ("/completions", False): "openai.types.completion.Completion",
    ("/embeddings", False): "openai.types.create_embedding_response.CreateEmbeddingResponse",
    ("/models", False): "openai.types.model.Model",
}
_ID_PREFIXES: Final = {
    "file": "file-",
    "vector_store": "vs_",
    "vector_store_file_batch": "batch_",
    "tool_call": "call_",
}


class NumberedIds:
    """The ids of one process: for each test and kind, they count from one."""

    def __init__(self) -> None:
        self._given: Counter[tuple[str, str]] = Counter()

    def next(self, kind: str, test_id: str) -> str:
        """The test's next id of that kind."""
        self._given[kind, test_id] += 1
        return deterministic_id(kind, test_id, self._given[kind, test_id])


class RecordedCall(Struct, frozen=True, kw_only=True):
    """The request in a file. Tool calls (of its web search) have `provider`, `tool_name` and `kwargs` instead."""

    method: str = ""
    url: str = ""
    endpoint: str = ""
    body: msgspec.Raw = msgspec.Raw(b"{}")
    provider: str = ""
    tool_name: str = ""
    kwargs: Any = None


class _RecordedResponse(Struct, frozen=True):
    body: msgspec.Raw
    is_streaming: bool = False


class RecordingFile(Struct, frozen=True, kw_only=True):
    """A recording; the response's body is parsed only when it is wanted."""

    request: RecordedCall
    response: _RecordedResponse
    test_id: str | None = None
    id_normalization_mapping: dict[str, str] = {}


# ---------------------------------------------------------------- names


def request_digest(method: str, path: str, kwargs: Any, *, test_id: str | None) -> str:
    """The digest that names the recording of a model call."""
    whole = {"method": method, "endpoint": path, "body": _normalised(kwargs)}
    if path not in _UNSCOPED:
        whole["test_id"] = test_id
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def tool_digest(provider: str, tool_name: str, kwargs: Any) -> str:
    """The digest that names the recording of a tool call."""
    whole = {"provider": provider, "tool_name": tool_name, "kwargs": kwargs}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def digests(url: str, body: Any, test_id: str | None) -> list[str]:
    """The names under which Llama Stack would have recorded this request of ours, likeliest first.

    There are several because a request does not tell whether Llama Stack's own default (`stream: false`, an empty
    `extra_body`) would have been sent.
    """
    base, endpoint = place_of(url)
    if url == TAVILY + TAVILY_SEARCH and isinstance(body, dict):
        return [tool_digest("tavily", "web_search", {"query": body.get("query")})]
    if endpoint not in _KNOWN:
        return []
    path = f"{urlsplit(base).path.rstrip('/')}/v1{endpoint}"
    return [request_digest("POST", path, kwargs, test_id=test_id) for kwargs in _arguments(endpoint, body)]


def suite_of(test_id: str | None) -> str:
    """The directory in which a test's recordings stand."""
    match = _SUITE.match(test_id or "")
    return match["suite"] if match else COMMON


def deterministic_id(kind: str, test_id: str, n: int) -> str:
    """The id that Llama Stack gives the `n`-th (from 1) file, store, batch or call of a test while it replays."""
    number = int(hashlib.sha256(test_id.encode()).hexdigest(), 16) % 10**12 + n
    return f"{_ID_PREFIXES[kind]}{number}"


def _arguments(endpoint: str, body: Any) -> Iterator[dict[str, Any]]:
    """The method's arguments that lead to this body."""
    given = {name: value for name, value in (body or {}).items() if value is not None}
    known = _KNOWN[endpoint]
    kwargs = {name: _as_typed(name, value) for name, value in given.items() if name in known}
    extra = {name: value for name, value in given.items() if name not in known}
    if endpoint == "/embeddings":
        kwargs.setdefault("encoding_format", "float")
    if extra:
        kwargs["extra_body"] = extra
    yield kwargs
    numbered = [_numbered(message) for message in kwargs.get("messages") or ()]
    if numbered != kwargs.get("messages", []):  # as Llama Stack's own response loop writes calls
        kwargs = {**kwargs, "messages": numbered}
        yield kwargs
    if endpoint in ("/chat/completions", "/completions") and "stream" not in kwargs:
        kwargs = {**kwargs, "stream": False}
        yield kwargs
    if endpoint == "/completions" and not extra:
        yield {**kwargs, "extra_body": {}}


def _numbered(message: Any) -> Any:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]}


def _as_typed(name: str, value: Any) -> Any:
    if name in _FLOATS and type(value) is int:
        return float(value)
    if name == "logit_bias" and isinstance(value, dict):
        return {token: float(bias) for token, bias in value.items()}
    return value


def _normalised(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _normalised(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_normalised(member) for member in value]
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, str) and "." in value:
        return _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.{_DIGITS}f}", value)
    return value


# ---------------------------------------------------------------- reading


def read_file(path: Path) -> RecordingFile:
    """A recording; raises `InvalidRequest` naming the file if it is none."""
    content = path.read_bytes()
    try:
        recording = msgspec.json.decode(content, type=RecordingFile)
        if not recording.id_normalization_mapping:
            return recording
        for normalised, original in recording.id_normalization_mapping.items():
            content = content.replace(original.encode(), normalised.encode())
        return msgspec.json.decode(content, type=RecordingFile)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"{path} is no recording in Llama Stack's format: {error}") from error


def http_body(endpoint: str, kwargs: Any) -> Any:
    """The body that was sent when a method was called with these arguments."""
    if not isinstance(kwargs, dict) or endpoint == "/models":
        return None
    body = dict(kwargs)
    extra = body.pop("extra_body", None)
    return {**body, **extra} if isinstance(extra, dict) else body


def place(call: RecordedCall) -> tuple[str, str]:
    """The base URL of the host, its doubled `/v1` undone, and the endpoint without its `/v1`."""
    if call.provider == "tavily":
        return TAVILY, TAVILY_SEARCH
    endpoint = call.endpoint.removeprefix("/v1")
    return call.url.removesuffix(call.endpoint).rstrip("/"), endpoint


def answer_from(recording: RecordingFile) -> Answer:
    """What the host sent, as HTTP."""
    _, endpoint = place(recording.request)
    body = _dumped(msgspec.json.decode(recording.response.body))
    if recording.request.provider:
        told = msgspec.json.decode(body["content"])
        return whole_answer({"query": told["query"], "results": told["top_k"]})
    if endpoint == "/models":
        return whole_answer({"object": "list", "data": body})
    if recording.response.is_streaming:
        return stream_answer(body)
    return whole_answer(body)


def whole_answer(body: Any) -> Answer:
    """A JSON answer in one piece."""
    frame = Frame(0, msgspec.json.encode(body))
    return Answer(status=200, headers={"content-type": "application/json"}, frames=(frame,))


def stream_answer(chunks: Sequence[Any]) -> Answer:
    """A stream with one piece a chunk, ended by `[DONE]`."""
    frames = [Frame(0, b"data: %b\n\n" % msgspec.json.encode(chunk)) for chunk in chunks]
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return Answer(status=200, headers=headers, frames=(*frames, Frame(0, b"data: [DONE]\n\n")))


def _dumped(value: Any) -> Any:
    """Dumped objects without their wrapping."""
    if isinstance(value, list):
        return [_dumped(member) for member in value]
    if isinstance(value, dict) and "__data__" in value:
        return value["__data__"]
    return value


# ---------------------------------------------------------------- writing


class NewFile(Struct, frozen=True, kw_only=True):
    """A recording to be written: where, relative to the recordings' directory, and what."""

    path: Path
    text: str


def file_from(url: str, body: Any, answer: Answer, *, test_id: str | None) -> NewFile | None:
    """An exchange in Llama Stack's format; None if it cannot hold it (errors, cut streams, other endpoints)."""
    base, endpoint = place_of(url)
    names = digests(url, body, test_id)
    if not names or answer.status != 200 or answer.end != "complete":
        return None
    streamed = answer.headers.get("content-type", "").startswith("text/event-stream")
    kind = _TYPES.get((endpoint, streamed))
    payload = _payload(answer, endpoint, streamed=streamed)
    if kind is None or payload is None:
        return None
    digest, name = names[0], f"{names[0]}.json"
    if endpoint == "/models":
        ids = sorted({model["id"] for model in payload})
        name = f"models-{digest}-{hashlib.sha256('|'.join(ids).encode()).hexdigest()[:8]}.json"
    wrapped = [{"__type__": kind, "__data__": _anonymous(each, digest)} for each in payload]
    kwargs = next(_arguments(endpoint, body))
    recording = {
        "test_id": test_id,
        "request": {
            "method": "POST",
            "url": f"{base}/v1{endpoint}",
            "headers": {},
            "body": kwargs,
            "endpoint": f"/v1{endpoint}",
            "model": kwargs.get("model", ""),
        },
        "response": {"body": wrapped if streamed or endpoint == "/models" else wrapped[0], "is_streaming": streamed},
        "id_normalization_mapping": {},
    }
    text = json.dumps(recording, indent=2) + "\n"
    return NewFile(path=Path(suite_of(test_id)) / name, text=text)


def _payload(answer: Answer, endpoint: str, *, streamed: bool) -> list[Any] | None:
    """The JSON objects of an answer; None if there are none."""
    texts = events(answer.body) if streamed else [answer.body]
    try:
        objects = [msgspec.json.decode(text) for text in texts]
    except msgspec.DecodeError:
        return None
    if endpoint == "/models":
        listed = objects[0].get("data") if isinstance(objects[0], dict) else None
        return listed if isinstance(listed, list) else None
    return objects or None


def events(body: bytes) -> list[bytes]:
    """The data of a stream's server-sent events, without the closing `[DONE]`."""
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    found = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return [line for line in found if line != b"[DONE]"]


def _anonymous(each: Any, digest: str) -> Any:
    """A dumped object without secrets, and with what differs in every run made constant."""
    each = redact.json(each)
    if isinstance(each, dict) and each.get("object") != "model":
        if "id" in each:
            each["id"] = f"rec-{digest[:12]}"
        if "created" in each:
            each["created"] = 0
    return each
