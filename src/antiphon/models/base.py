"""The whole contract between the engine and the world of models: one request, eight kinds of event, two protocols.

A provider turns a `ModelRequest` into `ModelEvent`s. It knows a dialect, never a socket (that is `exchange.Transport`)
and never a response (that is `engine`). Events come in batches: what arrived together is handed over together, and
leaves the server in one write.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from antiphon.exchange import NO_REPLAY, Incoming, Replay
from antiphon.wire.items import Item, Logprob
from antiphon.wire.responses import (
    InputTokensDetails,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputTokensDetails,
    ReasoningConfig,
    Usage,
)

# ---------------------------------------------------------------- what is asked


class Function(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function as the model sees it; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Choice(Struct, frozen=True, kw_only=True):
    """Which functions the model may call: `names` restricts to some (None: all), `mode` says whether it must."""

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] | None = None


class Access(Struct, frozen=True, kw_only=True):
    """What a client's request carries for the model host: its own key, and how to record or replay.

    `keys` are the members of the provider-data header, among which each host has names of its own
    (`openai_api_key`, `vllm_api_token`); `key` is one that holds for whatever host is asked.
    """

    key: str | None = None
    replay: Replay = NO_REPLAY
    keys: Mapping[str, str] = msgspec.field(default_factory=dict)

    def key_for(self, names: Sequence[str]) -> str | None:
        """The client's key for a host that knows it under these names; None: the host's configured key is used."""
        return next((self.keys[name] for name in names if self.keys.get(name)), self.key)


NO_ACCESS = Access()


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One model call, free of any dialect. `items` is the whole context in order, `instructions` not included.

    Optional parameters are None where the client said nothing: the host's own default then holds. `extra` holds
    parameters that are forwarded by name to hosts that know them (`service_tier`, `prompt_cache_key`, ...). `as_sent`
    has, by id, the items whose files were filled in for this host, as the client sent them: what is kept is kept so.
    """

    model: str
    items: Sequence[Item]
    instructions: str | None = None
    functions: tuple[Function, ...] = ()
    choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None
    logprobs: bool = False
    format: JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: str | None = None
    reasoning: ReasoningConfig | None = None
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)
    as_sent: Mapping[str, Item] = msgspec.field(default_factory=dict)


# ---------------------------------------------------------------- what comes back


class Text(Struct, frozen=True, tag="text", array_like=True):
    """More text of the answer."""

    text: str
    logprobs: list[Logprob] = []


class Refusal(Struct, frozen=True, tag="refusal", array_like=True):
    """More of a refusal."""

    text: str


class Reasoning(Struct, frozen=True, tag="reasoning", array_like=True):
    """More raw reasoning."""

    text: str


class CallStart(Struct, frozen=True, tag="call", array_like=True):
    """The model begins to call a function. `index` tells a turn's calls apart; `call_id` is "" if the host has none."""

    index: int
    call_id: str
    name: str


class CallArguments(Struct, frozen=True, tag="arguments", array_like=True):
    """More of the arguments (JSON text) of the call with this index."""

    index: int
    text: str


class Tokens(Struct, frozen=True, tag="tokens", array_like=True):
    """What the host counted. The last report of a call holds."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0

    def usage(self) -> Usage:
        """As the Responses API reports it."""
        return Usage(
            input_tokens=self.input,
            input_tokens_details=InputTokensDetails(cached_tokens=self.cached, cache_write_tokens=self.cache_write),
            output_tokens=self.output,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=self.reasoning),
            total_tokens=self.input + self.output,
        )


class Served(Struct, frozen=True, tag="served", array_like=True):
    """The service tier that the host says it used."""

    service_tier: str


class Finish(Struct, frozen=True, tag="finish", array_like=True):
    """The model stopped: by itself (`stop`), to call functions, at its limit, or by a filter. Comes once."""

    reason: Literal["stop", "calls", "length", "filter"]


class Cited(Struct, frozen=True, tag="cited", array_like=True):
    """A citation at the end of the text so far: an annotation of OpenAI's, but for its place. No provider sends it.

    The last `chars` characters of the text are what cites; 0: nothing in the text does.
    """

    annotation: dict[str, Any]
    chars: int = 0


class Compacted(Struct, frozen=True, tag="compacted", array_like=True):
    """The engine's own entry in a run's journal, which no provider sends: the context was compacted to this.

    What was counted before it belongs to the model call that made the summary.
    """

    encrypted_content: str


ModelEvent = Text | Refusal | Reasoning | CallStart | CallArguments | Tokens | Served | Finish | Compacted | Cited


class ModelStream(Protocol):
    """An answer that has begun. Iterate once; `aclose` at any time aborts the call at the host.

    Iteration raises `Upstream` when the stream breaks off, is no stream, carries an error, or ends without a `Finish`.
    """

    def __aiter__(self) -> AsyncIterator[list[ModelEvent]]: ...

    async def aclose(self) -> None:
        """Ends the call; aborts it at the host if it is not over."""
        ...


# ---------------------------------------------------------------- who does it


class ModelInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model as its host lists it. `id` is the host's own name; `dimension` only for embedding models."""

    id: str
    kind: Literal["llm", "embedding", "rerank", "image"] = "llm"
    created: int = 0
    owned_by: str = ""
    context_window: int | None = None
    dimension: int | None = None


class Provider(Protocol):
    """A model host behind one dialect. All methods raise `ApiError`s only."""

    async def open(self, request: ModelRequest, access: Access) -> ModelStream:
        """Starts a model call; returns once the host has accepted it. Raises `UpstreamRejected` if it does not."""
        ...

    def left_out(self, request: ModelRequest) -> list[str]:
        """The parameters that were given and this host will not be told, by the Responses API's names."""
        ...

    async def post(self, path: str, body: bytes, access: Access, *, content_type: str = "application/json") -> Incoming:
        """Sends an OpenAI-shaped body to `path` (`/chat/completions`, `/embeddings`, `/images/edits`, ...).

        Returns an OpenAI-shaped answer of status 200, streamed or whole; raises `UpstreamRejected` for others.
        """
        ...

    async def models(self, access: Access) -> list[ModelInfo]:
        """The host's models."""
        ...
