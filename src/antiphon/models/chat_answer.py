"""What chunks of a chat completion say, as model events. Pure.

Everything that hosts do differently is settled here, so that the engine sees one kind of host:

- tool calls without an index, without ids, with the same index for all, with arguments as an object, or all at once;
- the finish reason in the host's own words, or `stop` where there were calls; sent before the usage, or with it;
- reasoning under several names; usage in its own place, or with reasoning counted apart.

The count of tokens and `Finish` are held back until the answer ends, so that `Finish` is always the last event: hosts
send them in any order, some repeat them in every chunk.
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from antiphon.errors import Upstream
from antiphon.models.base import (
    CallArguments,
    CallStart,
    Finish,
    ModelEvent,
    Reasoning,
    Refusal,
    Served,
    Text,
    Tokens,
)
from antiphon.wire.items import Logprob, TopLogprob

FinishReason = Literal["stop", "calls", "length", "filter"]
_FINISH: Final[dict[str, FinishReason]] = {
    "tool_calls": "calls",
    "tool_call": "calls",
    "tool_use": "calls",
    "function_call": "calls",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "content_filter": "filter",
    "content_filtered": "filter",
    "guardrail_intervened": "filter",
    "safety": "filter",
    "recitation": "filter",
    "blocklist": "filter",
    "prohibited_content": "filter",
    "spii": "filter",
    "refusal": "filter",
}
"""The known reasons; every other word means that the model stopped by itself, unless it is one of `_BROKEN`."""
_BROKEN: Final = frozenset({"error", "abort", "aborted", "cancelled", "insufficient_system_resource"})


class _FunctionPart(Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _CallPart(Struct, gc=False):
    index: int | None = None
    id: str | int | None = None
    function: _FunctionPart | None = None


class _Delta(Struct, gc=False):
    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    tool_calls: list[_CallPart] | None = None
    function_call: _FunctionPart | None = None


class _Choice(Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    logprobs: Any = None


class Chunk(Struct, gc=False):
    """A chunk, or a whole completion, as far as it is read; loose wherever hosts are."""

    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    error: Any = None


class _TopToken(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(_TopToken):
    top_logprobs: list[_TopToken] | None = None


_decode_any: Final = msgspec.json.Decoder().decode


class _Call:
    """A call of the running answer. It is announced once its name is known; what comes before that waits."""

    __slots__ = ("announced", "host_id", "name", "number", "texts")

    def __init__(self, number: int) -> None:
        self.number = number
        self.host_id = ""
        self.name = ""
        self.texts: list[str] = []
        self.announced = False

    def is_whole(self) -> bool:
        """Whether the arguments are JSON already, so that more can only be another call's."""
        if not self.texts or not self.texts[-1].rstrip().endswith("}"):
            return False
        try:
            _decode_any("".join(self.texts))
        except msgspec.DecodeError:
            return False
        return True


class Answer:
    """One answer as it grows, chunk by chunk."""

    __slots__ = ("_by_index", "_calls", "_host", "_reason", "_tier", "_usage")

    def __init__(self, host: str) -> None:
        self._host = host
        self._by_index: dict[int, _Call] = {}
        self._calls: list[_Call] = []
        self._reason: FinishReason | None = None
        self._usage: Any = None
        self._tier: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the host has said why it stopped."""
        return self._reason is not None

    def end(self) -> list[ModelEvent]:
        """The last events. Raises `Upstream` if the answer broke off."""
        reason = self._reason
        if reason is None:
            raise Upstream(f"Host {self._host!r} broke off its answer: it ended without a finish reason.")
        if not all(call.announced for call in self._calls):
            raise Upstream(f"Host {self._host!r} sent a tool call without a name.")
        if reason in ("stop", "calls"):
            reason = "calls" if self._calls else "stop"
        tokens = _tokens(self._usage)
        return [Finish(reason)] if tokens is None else [tokens, Finish(reason)]

    def feed(self, chunk: Chunk, events: list[ModelEvent]) -> None:
        """Adds the chunk's events to `events`."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        elif chunk.x_groq is not None and isinstance(chunk.x_groq, dict) and chunk.x_groq.get("usage"):
            self._usage = chunk.x_groq["usage"]
        tier = chunk.service_tier
        if tier is not None and tier != self._tier and isinstance(tier, str):
            self._tier = tier
            events.append(Served(tier))
        for choice in chunk.choices or ():
            if not choice.index:
                self._choice(choice, events)

    def _choice(self, choice: _Choice, events: list[ModelEvent]) -> None:
        delta = choice.message if choice.delta is None else choice.delta
        if delta is not None:
            self._delta(delta, choice.logprobs, events)
        reason = choice.finish_reason
        if reason:
            word = reason.lower() if isinstance(reason, str) else "stop"
            if word in _BROKEN:
                raise Upstream(f"Host {self._host!r} broke off its answer with the finish reason {reason!r}.")
            self._reason = _FINISH.get(word, "stop")

    def _delta(self, delta: _Delta, logprobs: Any, events: list[ModelEvent]) -> None:
        thought = delta.reasoning_content or delta.reasoning or delta.reasoning_details
        if thought:
            events.extend(Reasoning(text) for text in _texts(thought))
        content = delta.content
        if content or logprobs is not None:
            if isinstance(content, str) and logprobs is None:
                events.append(Text(content))
            else:
                _content(content, _logprobs(logprobs), events)
        if delta.refusal and isinstance(delta.refusal, str):
            events.append(Refusal(delta.refusal))
        if delta.tool_calls:
            for part in delta.tool_calls:
                self._call(part, events)
        elif delta.function_call is not None:
            self._call(_CallPart(index=0, function=delta.function_call), events)

    def _call(self, part: _CallPart, events: list[ModelEvent]) -> None:
        function = part.function or _FunctionPart()
        host_id = "" if part.id is None else str(part.id)
        name = function.name or ""
        given = function.arguments
        text = "" if given is None else given if isinstance(given, str) else msgspec.json.encode(given).decode()
        call = self._find(part.index, host_id, name, text=text)
        if call is None:
            call = _Call(len(self._calls))
            self._calls.append(call)
        if part.index is not None:
            self._by_index[part.index] = call
        call.host_id = call.host_id or host_id
        call.name = call.name or name
        if text:
            call.texts.append(text)
        if call.announced:
            if text:
                events.append(CallArguments(call.number, text))
        elif call.name:
            call.announced = True
            events.append(CallStart(call.number, call.host_id, call.name))
            events.extend(CallArguments(call.number, waiting) for waiting in call.texts)

    def _find(self, index: int | None, host_id: str, name: str, *, text: str) -> _Call | None:
        """The call that this part goes on with; None if it begins one.

        An index decides, unless the part says a name again where the call before it is complete, or under another id.
        Without one the id decides; without both, a part with a name begins a call, unless it only repeats itself.
        """
        if index is None and host_id:
            known = next((call for call in self._calls if call.host_id == host_id), None)
            if known is not None or name:
                return known
        last = self._calls[-1] if self._calls else None
        call = last if index is None else self._by_index.get(index)
        if call is None or not name or not call.name:
            return call
        if host_id and call.host_id:
            return call if host_id == call.host_id else None
        if name != call.name:
            return None
        return None if text and call.is_whole() else call


# ---------------------------------------------------------------- odd values


def _texts(value: Any, depth: int = 4) -> list[str]:
    """The texts in what a host calls reasoning: a string, or a list of parts that hold one somewhere."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict) and depth:
        inner = value.get("text") or value.get("thinking") or value.get("summary") or value.get("content")
        return _texts(inner, depth - 1)
    if isinstance(value, list) and depth:
        return [text for each in value for text in _texts(each, depth - 1) if text]
    return []


def _content(content: Any, logprobs: list[Logprob], events: list[ModelEvent]) -> None:
    """Content in parts (Mistral's reasoning models mix `thinking` with text), or with logprobs."""
    parts = content if isinstance(content, list) else [content or ""]
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "thinking":
            events.extend(Reasoning(text) for text in _texts(part.get("thinking")))
        elif texts := [text for text in _texts(part) if text or logprobs]:
            events.append(Text("".join(texts), logprobs))
            logprobs = []


def _logprobs(value: Any) -> list[Logprob]:
    """OpenAI's logprobs; other forms (plain numbers, parallel arrays) have no place in the Responses API."""
    if not isinstance(value, dict) or not value.get("content"):
        return []
    try:
        tokens = msgspec.convert(value["content"], list[_Token])
    except msgspec.ValidationError:
        return []
    return [
        Logprob(
            token=token.token,
            bytes=token.bytes or [],
            logprob=token.logprob,
            top_logprobs=[
                TopLogprob(token=top.token, bytes=top.bytes or [], logprob=top.logprob)
                for top in token.top_logprobs or ()
            ],
        )
        for token in tokens
    ]


def _tokens(usage: Any) -> Tokens | None:
    """The host's count. Some count reasoning apart from the output; their total tells."""
    if not isinstance(usage, dict):
        return None
    prompt, completion, total = (_count(usage, f"{name}_tokens") for name in ("prompt", "completion", "total"))
    given, made = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _count(given, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens", "cached_tokens")
    reasoning = _count(made, "reasoning_tokens") or _count(usage, "reasoning_tokens")
    beyond = max(0, total - prompt - completion)
    return Tokens(
        input=prompt,
        output=completion + beyond,
        cached=cached,
        reasoning=reasoning or (beyond if completion else 0),
        cache_write=_count(given, "cache_write_tokens", "cache_creation_tokens"),
    )


def _count(counts: Any, *names: str) -> int:
    """The first of these members that is a count; 0 if none is."""
    for name in names:
        value = counts.get(name) if isinstance(counts, dict) else None
        if isinstance(value, (int, float)) and value > 0:
            return int(value)
    return 0
