"""Chat completions and text completions: what our routes check of a body that is forwarded as it came, and stored ones.

A body goes to the host with every field the client sent, so only what OpenAI's document limits is declared here; all
else is left alone. Source: OpenAI's OpenAPI document, `CreateChatCompletionRequest`, `CreateCompletionRequest`,
`ChatCompletionList`, `ChatCompletionMessageList`; names judged by the `openai` package.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from antiphon.wire.base import Full, Metadata, Order
from antiphon.wire.responses import Effort, ServiceTier

# ---------------------------------------------------------------- what a client asks for

Model = Annotated[str, Meta(min_length=1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Bias = dict[str, Annotated[float, Meta(ge=-100, le=100)]]
Stop = str | Annotated[list[str], Meta(min_length=1, max_length=4)]
Content = str | Annotated[list[Raw], Meta(min_length=1)]


class SystemMessage(Struct, kw_only=True, tag_field="role", tag="system"):
    """Instructions."""

    content: Content


class DeveloperMessage(Struct, kw_only=True, tag_field="role", tag="developer"):
    """Instructions, by their newer name."""

    content: Content


class UserMessage(Struct, kw_only=True, tag_field="role", tag="user"):
    """What the user says: text, or text, image, audio and file parts."""

    content: Content


class AssistantMessage(Struct, kw_only=True, tag_field="role", tag="assistant"):
    """What the model said; without content where it only called tools."""

    content: Content | None = None
    tool_calls: list[Raw] | None = None


class ToolMessage(Struct, kw_only=True, tag_field="role", tag="tool"):
    """What a tool answered."""

    content: Content
    tool_call_id: str


class FunctionMessage(Struct, kw_only=True, tag_field="role", tag="function"):
    """What a function answered, in the form before tools."""

    content: str | None
    name: str


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class ChatStreamOptions(Struct, kw_only=True):
    """Options that only a stream has."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatTool(Struct, kw_only=True):
    """A tool by its type. Hosts have kinds of their own, so the rest is theirs to judge."""

    type: str


class ChatFormat(Struct, kw_only=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]


class CreateChatCompletion(Struct, kw_only=True):
    """The body of `POST /v1/chat/completions`, as far as it is checked."""

    model: Model
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Choices | None = None
    stop: Stop | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    seed: Seed | None = None
    response_format: ChatFormat | None = None
    tools: Annotated[list[ChatTool], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=128)] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    reasoning_effort: Effort | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: str | None = None
    user: str | None = None


class CreateCompletion(Struct, kw_only=True):
    """The body of `POST /v1/completions`, as far as it is checked."""

    model: Model
    prompt: str | list[Any] | None = None
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Choices | None = None
    stop: Stop | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    seed: Seed | None = None
    suffix: str | None = None
    user: str | None = None


class UpdateChatCompletion(Struct, kw_only=True):
    """The body of `POST /v1/chat/completions/{id}`: only the metadata of a stored completion can change."""

    metadata: Metadata | None


class ChatListQuery(Struct, kw_only=True):
    """The query of both lists of stored completions; `model` and `metadata` filter the list of completions."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = "asc"
    after: str | None = None
    model: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


# ---------------------------------------------------------------- what is kept of a stored completion


class ChatChoice(Full, kw_only=True):
    """One of the `n` answers. `message` is OpenAI's message object."""

    index: int = 0
    message: dict[str, Any]
    finish_reason: str = "stop"
    logprobs: dict[str, Any] | None = None


class StoredChatCompletion(Full, kw_only=True):
    """A chat completion as it is stored and listed. What it was asked with is in its messages."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    metadata: Metadata = msgspec.field(default_factory=dict)
    usage: dict[str, Any] | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    system_fingerprint: str | UnsetType = UNSET


class StoredChatMessage(Full, kw_only=True):
    """An input message of a stored completion: `content` holds what was text, `content_parts` what was parts."""

    id: str
    role: str
    content: str | None = None
    content_parts: list[dict[str, Any]] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])


def rewritten(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """The same JSON object with some members set; all others keep their bytes and their place.

    Raises `msgspec.DecodeError` if the body is no JSON object.
    """
    return _encode({**_members.decode(body), **changes})


# ---------------------------------------------------------------- a whole completion from what a host sent


def stored(answer: bytes, metadata: Mapping[str, str] | None = None) -> StoredChatCompletion | None:
    """A host's whole, unstreamed answer in the form in which it is stored; None if it is no chat completion."""
    try:
        given = msgspec.json.decode(answer)
    except _UNREADABLE:
        return None
    if not isinstance(given, dict) or not isinstance(given.get("choices"), list):
        return None
    kept = {key: value for key, value in given.items() if key in _KEPT and value is not None}
    kept["metadata"] = dict(metadata or {})
    kept["choices"] = [_whole_choice(choice) for choice in given["choices"] if isinstance(choice, dict)]
    return _checked(kept)


def assemble(stream: bytes, metadata: Mapping[str, str] | None = None) -> StoredChatCompletion | None:
    """The whole completion that a host streamed; None if the stream holds none, or broke off before it ended."""
    kept: dict[str, Any] = {}
    choices: dict[int, _Growing] = {}
    for chunk in _chunks(stream):
        kept.update((key, value) for key, value in chunk.items() if key in _KEPT and value is not None)
        given = chunk.get("choices")
        for choice in given if isinstance(given, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                choices.setdefault(index if isinstance(index, int) else 0, _Growing()).add(choice)
    if not choices or not all(choice.finish_reason for choice in choices.values()):
        return None
    kept["metadata"] = dict(metadata or {})
    kept["choices"] = [choices[index].choice(index) for index in sorted(choices)]
    return _checked(kept)


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_KEPT = frozenset({"id", "created", "model", "usage", "service_tier", "system_fingerprint"})


def _checked(kept: dict[str, Any]) -> StoredChatCompletion | None:
    try:
        return msgspec.convert({"id": "", "created": 0, "model": ""} | kept, StoredChatCompletion)
    except msgspec.ValidationError:
        return None


def _whole_choice(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    fields = message if isinstance(message, dict) else {}
    shown = {"role": "assistant", "content": None, "refusal": None}
    shown |= {key: value for key, value in fields.items() if value is not None}
    return {
        "index": choice.get("index") or 0,
        "message": shown,
        "finish_reason": choice.get("finish_reason") or "stop",
        "logprobs": choice.get("logprobs"),
    }


def _chunks(stream: bytes) -> Iterator[dict[str, Any]]:
    for line in stream.splitlines():
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            try:
                chunk = msgspec.json.decode(line[5:])
            except _UNREADABLE:
                continue
            if isinstance(chunk, dict):
                yield chunk


class _Growing:
    """A choice that grows chunk by chunk."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: dict[str, list[Any]] = {}

    def add(self, choice: dict[str, Any]) -> None:
        """Takes in one chunk's choice."""
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta")
        for key, value in (delta if isinstance(delta, dict) else {}).items():
            if isinstance(value, str) and key in _TEXTS:
                self._texts.setdefault(key, []).append(value)
            elif key == "tool_calls" and isinstance(value, list):
                for call in value:
                    self._add_call(call)
        logprobs = choice.get("logprobs")
        for key, tokens in (logprobs if isinstance(logprobs, dict) else {}).items():
            if isinstance(tokens, list):
                self._logprobs.setdefault(key, []).extend(tokens)

    def _add_call(self, call: Any) -> None:
        if not isinstance(call, dict):
            return
        index = call.get("index")
        if not isinstance(index, int):
            index = len(self._calls) if call.get("id") else max(len(self._calls) - 1, 0)
        whole = self._calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        whole["id"] = whole["id"] or call.get("id") or ""
        function = call.get("function")
        if isinstance(function, dict):
            whole["function"]["name"] = whole["function"]["name"] or function.get("name") or ""
            arguments = function.get("arguments") or ""
            whole["function"]["arguments"] += arguments if isinstance(arguments, str) else _encode(arguments).decode()

    def choice(self, index: int) -> dict[str, Any]:
        """The whole choice."""
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        message |= {key: "".join(texts) for key, texts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = list(self._calls.values())
        logprobs = {"content": None, "refusal": None} | self._logprobs if self._logprobs else None
        return {"index": index, "message": message, "finish_reason": self.finish_reason, "logprobs": logprobs}


_TEXTS = frozenset({"content", "refusal", "reasoning", "reasoning_content"})
