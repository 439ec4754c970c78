"""The Responses API: what a client may ask for, and the response object.

Source: OpenAI's OpenAPI document, `CreateResponse` and `Response`; Open Responses 2026-04-24 for what is required and
never null (temperature, top_p, penalties, top_logprobs, service_tier, truncation).
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from antiphon.wire.base import Full, Metadata, Order, Sparse
from antiphon.wire.items import Item
from antiphon.wire.tools import Tool, ToolChoice

Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
Truncation = Literal["auto", "disabled"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class PlainFormat(Struct, tag_field="type", tag="text"):
    """Free text."""


class JsonObjectFormat(Struct, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchemaFormat(Full, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that a schema allows."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = False


class TextConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The form of the text, and how many words to make."""

    format: PlainFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningConfig(Struct, kw_only=True):
    """How hard to think, and whether to summarise it."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None | UnsetType = UNSET
    context: Literal["auto", "current_turn", "all_turns"] | None | UnsetType = UNSET
    mode: str | None | UnsetType = UNSET


class ConversationRef(Struct):
    """A conversation by id."""

    id: str


class StreamOptions(Sparse, kw_only=True):
    """Options that only a stream has."""

    include_obfuscation: bool | None = None


class PromptRef(Sparse, kw_only=True):
    """A prompt template by id."""

    id: str
    version: str | None = None
    variables: dict[str, Any] | None = None


class ContextManagement(Sparse, kw_only=True, tag_field="type", tag="compaction"):
    """Keeps the context short: compacted once its tokens exceed `compact_threshold` (null: as the model needs)."""

    compact_threshold: Annotated[int, Meta(ge=1000)] | None = None


class CreateResponse(Struct, kw_only=True):
    """The body of `POST /v1/responses`. `input` is decoded in a second step, since items may lack their type."""

    model: Annotated[str, Meta(min_length=1)] | None = None
    input: Raw = Raw(b"[]")
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    include: list[Includable] | None = None
    tools: Raw = Raw(b"[]")
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Truncation | None = None
    metadata: Metadata | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: Annotated[str, Meta(max_length=64)] | None = None
    user: str | None = None
    prompt: PromptRef | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=1024)] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    context_management: Annotated[list[ContextManagement], Meta(min_length=1)] | None = None
    moderation: dict[str, Any] | None = None
    access_programs: dict[str, Any] | None = None
    image: dict[str, Any] | None = None


class InputTokensDetails(Struct, frozen=True, kw_only=True):
    """Of the input tokens, those read from and written to the host's cache."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True, kw_only=True):
    """Of the output tokens, those spent on reasoning."""

    reasoning_tokens: int = 0


class Usage(Struct, kw_only=True):
    """Tokens over all model calls of a response."""

    input_tokens: int = 0
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int = 0


ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class ResponseError(Struct, kw_only=True):
    """Why a response failed. The `code` is one that clients' types know; the `message` has the host's own words."""

    code: ErrorCode
    message: str
    type: str | UnsetType = UNSET
    param: str | None | UnsetType = UNSET


class IncompleteDetails(Struct):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens", "content_filter"]


class Response(Full, kw_only=True):
    """A response. What Open Responses requires is always sent; nothing else is."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | list[Item] | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[Item] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    conversation: ConversationRef | None | UnsetType = UNSET
    prompt_cache_key: str | None = None
    reasoning: ReasoningConfig | None = None
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    temperature: float = 1.0
    text: TextConfig = TextConfig(format=PlainFormat())
    tool_choice: ToolChoice = "auto"
    tools: list[Tool] = []
    top_logprobs: int = 0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    truncation: Truncation = "disabled"
    usage: Usage | None = None
    user: str | UnsetType = UNSET
    metadata: Metadata = {}


class ListQuery(Struct, kw_only=True):
    """The query of every list: `limit` 1-100, `order`, cursors by id."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None
    include: list[Includable] = []
    model: str | None = None


class CountInputTokens(CreateResponse, kw_only=True):
    """The body of `POST /v1/responses/input_tokens`: what a response would be created from."""


class CompactResponse(Struct, kw_only=True):
    """The body of `POST /v1/responses/compact`."""

    model: Annotated[str, Meta(min_length=1)]
    input: Raw = Raw(b"[]")
    instructions: str | None = None
    previous_response_id: str | None = None
    service_tier: ServiceTier | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=1024)] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None


class CompactedResponse(Full, kw_only=True):
    """A compacted context: the user's messages, and one item for all the rest. The input of the next request."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Item]
    usage: Usage


class InputTokens(Full, kw_only=True):
    """How many tokens an input has."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"
