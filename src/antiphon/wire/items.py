"""Items: what goes into a model and what comes out of it, as the Responses and Conversations APIs name them.

One struct per `type`, used alike for input, output, storage and the engine. What a client must send is required; what
only the server adds (`id`, `status`) is optional here and filled in before an item is stored or sent. Nested values
that this server only passes on stay plain JSON. Source: OpenAI's OpenAPI document, `Item`, `OutputItem`,
`ConversationItem`; names judged by the `openai` package.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from antiphon.wire.base import Sparse

Role = Literal["user", "assistant", "system", "developer"]
Status = Literal["in_progress", "completed", "incomplete"]
Phase = Literal["commentary", "final_answer"]
Detail = Literal["low", "high", "auto", "original"]
Id = Annotated[str, Meta(min_length=1, max_length=512)]
CallId = Annotated[str, Meta(min_length=1)]
"""As long as the host makes it: some put the thoughts that led to a call into its id, and want it back."""
LongText = Annotated[str, Meta(max_length=10_485_760)]


# ---------------------------------------------------------------- content parts


class InputText(Sparse, kw_only=True, tag_field="type", tag="input_text"):
    """Text for the model."""

    text: LongText
    prompt_cache_breakpoint: dict[str, Any] | None = None


class InputImage(Sparse, kw_only=True, tag_field="type", tag="input_image"):
    """An image for the model, by URL or data URL (`image_url`) or by the id of an uploaded file."""

    image_url: str | None = None
    file_id: str | None = None
    detail: Detail | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not (self.image_url or self.file_id):
            raise ValueError("An image needs `image_url` or `file_id`")


class InputFile(Sparse, kw_only=True, tag_field="type", tag="input_file"):
    """A file for the model: base64 data, a URL, or the id of an uploaded file."""

    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: Literal["low", "high", "auto"] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not (self.file_data or self.file_id or self.file_url):
            raise ValueError("A file needs `file_data`, `file_id` or `file_url`")


class AudioBytes(Struct):
    """Base64 audio and its format."""

    data: str
    format: Literal["mp3", "wav"]


class InputAudio(Sparse, kw_only=True, tag_field="type", tag="input_audio"):
    """Audio for the model."""

    input_audio: AudioBytes


class TopLogprob(Struct, kw_only=True):
    """One alternative token."""

    token: str
    bytes: list[int] = []
    logprob: float


class Logprob(Struct, kw_only=True):
    """A token of the output with its log probability and the likeliest alternatives."""

    token: str
    bytes: list[int] = []
    logprob: float
    top_logprobs: list[TopLogprob] = []


class OutputText(Struct, kw_only=True, tag_field="type", tag="output_text"):
    """Text from the model. Annotations and logprobs are always sent: clients require the arrays, but may send null."""

    text: str
    annotations: list[dict[str, Any]] | None = []
    logprobs: list[Logprob] | None = []

    def __post_init__(self) -> None:
        if self.annotations is None:
            self.annotations = []
        if self.logprobs is None:
            self.logprobs = []


class Refusal(Struct, tag_field="type", tag="refusal"):
    """The model's refusal, in its own words."""

    refusal: str


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    """Raw reasoning of the model."""

    text: str


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    """A summary of the model's reasoning."""

    text: str


class PlainText(Struct, tag_field="type", tag="text"):
    """Text in a stored conversation message that is neither input nor output."""

    text: str


class ComputerScreenshot(Sparse, kw_only=True, tag_field="type", tag="computer_screenshot"):
    """A picture of a computer's screen."""

    image_url: str | None = None
    file_id: str | None = None
    detail: Detail | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not (self.image_url or self.file_id):
            raise ValueError("A screenshot needs `image_url` or `file_id`")


InputPart = InputText | InputImage | InputFile | InputAudio
MessagePart = (
    InputText
    | InputImage
    | InputFile
    | InputAudio
    | OutputText
    | Refusal
    | PlainText
    | SummaryText
    | ReasoningText
    | ComputerScreenshot
)
OutputPart = OutputText | Refusal | ReasoningText


# ---------------------------------------------------------------- items


class Message(Sparse, kw_only=True, tag_field="type", tag="message"):
    """A message in easy form (string content, no id) or in full."""

    id: Id | None = None
    role: Role
    content: LongText | list[MessagePart]
    status: Status | None = None
    phase: Phase | None = None


class FunctionCall(Sparse, kw_only=True, tag_field="type", tag="function_call"):
    """The model calls a function of the client's. `arguments` is a JSON string."""

    id: Id | None = None
    call_id: CallId
    name: str
    arguments: str
    namespace: str | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None
    async_: bool | None = msgspec.field(default=None, name="async")


class FunctionCallOutput(Sparse, kw_only=True, tag_field="type", tag="function_call_output"):
    """What a function answered: a string, or text, image and file parts."""

    id: Id | None = None
    call_id: CallId
    output: LongText | list[InputPart]
    name: str | None = None
    namespace: str | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None


class CustomToolCall(Sparse, kw_only=True, tag_field="type", tag="custom_tool_call"):
    """The model calls a custom tool; `input` is free text."""

    id: Id | None = None
    call_id: CallId
    name: str
    input: str
    namespace: str | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None
    async_: bool | None = msgspec.field(default=None, name="async")


class CustomToolCallOutput(Sparse, kw_only=True, tag_field="type", tag="custom_tool_call_output"):
    """What a custom tool answered."""

    id: Id | None = None
    call_id: CallId
    output: LongText | list[InputPart]
    status: Status | None = None
    caller: dict[str, Any] | None = None


def _no_summary() -> list[SummaryText]:
    """Not `list` itself, so that an empty one is sent, too: clients require it."""
    return []


class Reasoning(Sparse, kw_only=True, tag_field="type", tag="reasoning"):
    """The model's reasoning: raw text, summaries, or an encrypted form that only this server can open."""

    id: Id | None = None
    summary: list[SummaryText] = msgspec.field(default_factory=_no_summary)
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class ItemReference(Sparse, kw_only=True, tag_field="type", tag="item_reference"):
    """Stands for an item that is stored already."""

    id: Id


class LocalShellAction(Sparse, kw_only=True, tag_field="type", tag="exec"):
    """A command for the client's shell."""

    command: list[str]
    env: dict[str, str] = msgspec.field(default_factory=dict)
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


class LocalShellCall(Sparse, kw_only=True, tag_field="type", tag="local_shell_call"):
    """The model asks the client to run a command."""

    id: Id | None = None
    call_id: CallId
    action: dict[str, Any]
    status: Status | None = None


class LocalShellCallOutput(Sparse, kw_only=True, tag_field="type", tag="local_shell_call_output"):
    """What the command printed. OpenAI puts the call's id into `id`."""

    id: Id
    output: LongText
    call_id: CallId | None = None
    status: Status | None = None


class ShellCall(Sparse, kw_only=True, tag_field="type", tag="shell_call"):
    """The model asks for shell commands to be run."""

    id: Id | None = None
    call_id: CallId
    action: dict[str, Any]
    environment: dict[str, Any] | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None
    memory: "Memory | None" = None


class ShellCallOutput(Sparse, kw_only=True, tag_field="type", tag="shell_call_output"):
    """What shell commands printed."""

    id: Id | None = None
    call_id: CallId
    output: list[dict[str, Any]]
    max_output_length: int | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None


class ApplyPatchCall(Sparse, kw_only=True, tag_field="type", tag="apply_patch_call"):
    """The model asks the client to create, update or delete a file."""

    id: Id | None = None
    call_id: CallId
    operation: dict[str, Any]
    status: Literal["in_progress", "completed"]
    caller: dict[str, Any] | None = None


class ApplyPatchCallOutput(Sparse, kw_only=True, tag_field="type", tag="apply_patch_call_output"):
    """Whether a patch was applied, and what it printed."""

    id: Id | None = None
    call_id: CallId
    status: Literal["completed", "failed"]
    output: LongText | None = None
    caller: dict[str, Any] | None = None


class ComputerCall(Sparse, kw_only=True, tag_field="type", tag="computer_call"):
    """The model asks the client to act on a computer."""

    id: Id | None = None
    call_id: CallId
    action: dict[str, Any] | None = None
    actions: list[dict[str, Any]] | None = None
    pending_safety_checks: list[dict[str, Any]]
    status: Status | None = None


class ComputerCallOutput(Sparse, kw_only=True, tag_field="type", tag="computer_call_output"):
    """A screenshot after an action."""

    id: Id | None = None
    call_id: CallId
    output: ComputerScreenshot
    acknowledged_safety_checks: list[dict[str, Any]] | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] | None = None


# ---------------------------------------------------------------- items of tools that a host or a later release runs


class Memory(Sparse, kw_only=True):
    """What a model did and saw of a call that the server ran: kept with the item, and shown to no client.

    `turn` tells the model calls of one response apart. Without `output`, what the item itself says is told again.
    `files` are those that code wrote: path -> id.
    """

    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[InputPart] | None = None
    turn: int = 0
    files: dict[str, str] = msgspec.field(default_factory=dict)


class FileSearchCall(Sparse, kw_only=True, tag_field="type", tag="file_search_call"):
    """A search in vector stores. `results` are always kept, and shown to a client that asks for them."""

    id: Id | None = None
    queries: list[str]
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] | None = None
    results: list[dict[str, Any]] | None = None
    memory: Memory | None = None


class WebSearchCall(Sparse, kw_only=True, tag_field="type", tag="web_search_call"):
    """A search on the web, or a look at a page. Sources and results are kept, and shown to a client that asks."""

    id: Id | None = None
    action: dict[str, Any] | None = None
    status: Literal["in_progress", "searching", "completed", "failed", "incomplete"] | None = None
    results: list[dict[str, Any]] | None = None
    memory: Memory | None = None


class ImageGenerationCall(Sparse, kw_only=True, tag_field="type", tag="image_generation_call"):
    """An image that was made."""

    id: Id | None = None
    result: str | None = None
    status: Literal["in_progress", "completed", "incomplete", "generating", "failed"] | None = None
    action: str | None = None
    background: str | None = None
    output_format: str | None = None
    quality: str | None = None
    revised_prompt: str | None = None
    size: str | None = None
    error: dict[str, Any] | None = None
    svg_usage: dict[str, Any] | None = None
    memory: Memory | None = None


class CodeInterpreterCall(Sparse, kw_only=True, tag_field="type", tag="code_interpreter_call"):
    """Code that was run in a container. `outputs` are always kept, and shown to a client that asks for them."""

    id: Id | None = None
    code: str | None = None
    container_id: str
    outputs: list[dict[str, Any]] | None = None
    status: Literal["in_progress", "completed", "incomplete", "interpreting", "failed"] | None = None
    memory: Memory | None = None


class McpListTools(Sparse, kw_only=True, tag_field="type", tag="mcp_list_tools"):
    """The tools of an MCP server."""

    id: Id | None = None
    server_label: str
    tools: list[dict[str, Any]]
    error: Any = None
    memory: Memory | None = None


class McpApprovalRequest(Sparse, kw_only=True, tag_field="type", tag="mcp_approval_request"):
    """A question whether an MCP tool may be run."""

    id: Id | None = None
    arguments: str
    name: str
    server_label: str
    memory: Memory | None = None


class McpApprovalResponse(Sparse, kw_only=True, tag_field="type", tag="mcp_approval_response"):
    """The answer to such a question."""

    id: Id | None = None
    approval_request_id: str
    approve: bool
    reason: str | None = None


class McpCall(Sparse, kw_only=True, tag_field="type", tag="mcp_call"):
    """A tool that was run on an MCP server."""

    id: Id | None = None
    arguments: str
    name: str
    server_label: str
    approval_request_id: str | None = None
    error: Any = None
    output: str | None = None
    status: Literal["in_progress", "completed", "incomplete", "calling", "failed"] | None = None
    memory: Memory | None = None


class ToolSearchCall(Sparse, kw_only=True, tag_field="type", tag="tool_search_call"):
    """A search among deferred tools."""

    id: Id | None = None
    call_id: CallId | None = None
    arguments: Any
    execution: Literal["server", "client"] | None = None
    status: Status | None = None
    memory: Memory | None = None


class ToolSearchOutput(Sparse, kw_only=True, tag_field="type", tag="tool_search_output"):
    """The tools that a tool search found."""

    id: Id | None = None
    call_id: CallId | None = None
    tools: list[dict[str, Any]]
    execution: Literal["server", "client"] | None = None
    status: Status | None = None


class AdditionalTools(Sparse, kw_only=True, tag_field="type", tag="additional_tools"):
    """Tools that join in the middle of a conversation."""

    id: Id | None = None
    role: str
    tools: list[dict[str, Any]]


class ConfigurationUpdate(Sparse, kw_only=True, tag_field="type", tag="configuration_update"):
    """A change of reasoning or text settings in the middle of a conversation."""

    id: Id | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None


class Compaction(Sparse, kw_only=True, tag_field="type", tag="compaction"):
    """An earlier part of the context in encrypted, shortened form."""

    id: Id | None = None
    encrypted_content: str


class CompactionTrigger(Sparse, kw_only=True, tag_field="type", tag="compaction_trigger"):
    """Asks for the context to be compacted."""

    id: Id | None = None


class Program(Sparse, kw_only=True, tag_field="type", tag="program"):
    """A program of programmatic tool calling."""

    id: Id
    call_id: CallId
    code: str
    fingerprint: str


class ProgramOutput(Sparse, kw_only=True, tag_field="type", tag="program_output"):
    """The result of such a program."""

    id: Id
    call_id: CallId
    result: str
    status: Literal["completed", "incomplete"]


Item = (
    Message
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | Reasoning
    | ItemReference
    | LocalShellCall
    | LocalShellCallOutput
    | ShellCall
    | ShellCallOutput
    | ApplyPatchCall
    | ApplyPatchCallOutput
    | ComputerCall
    | ComputerCallOutput
    | FileSearchCall
    | WebSearchCall
    | ImageGenerationCall
    | CodeInterpreterCall
    | McpListTools
    | McpApprovalRequest
    | McpApprovalResponse
    | McpCall
    | ToolSearchCall
    | ToolSearchOutput
    | AdditionalTools
    | ConfigurationUpdate
    | Compaction
    | CompactionTrigger
    | Program
    | ProgramOutput
)

ID_PREFIXES: dict[type, str] = {
    Message: "msg",
    FunctionCall: "fc",
    FunctionCallOutput: "fco",
    CustomToolCall: "ctc",
    CustomToolCallOutput: "ctco",
    Reasoning: "rs",
    LocalShellCall: "lsh",
    LocalShellCallOutput: "lsho",
    ShellCall: "sh",
    ShellCallOutput: "sho",
    ApplyPatchCall: "apc",
    ApplyPatchCallOutput: "apco",
    ComputerCall: "cu",
    ComputerCallOutput: "cuo",
    FileSearchCall: "fs",
    WebSearchCall: "ws",
    ImageGenerationCall: "ig",
    CodeInterpreterCall: "ci",
    McpListTools: "mcpl",
    McpApprovalRequest: "mcpr",
    McpApprovalResponse: "mcprr",
    McpCall: "mcp",
    ToolSearchCall: "tsc",
    ToolSearchOutput: "tso",
    AdditionalTools: "at",
    ConfigurationUpdate: "cfg",
    Compaction: "cmp",
    CompactionTrigger: "cmpt",
}
"""The prefix of a new id for each kind of item that may come without one."""

_decoder: msgspec.json.Decoder[Item] = msgspec.json.Decoder(Item)
_list_decoder = msgspec.json.Decoder(list[Item])
_raw_list_decoder = msgspec.json.Decoder(list[Raw])
_probe = msgspec.json.Decoder(dict[str, Raw])
_NULL = Raw(b"null")
_dumps = encode_item = msgspec.json.Encoder().encode


def decode_item(data: bytes) -> Item:
    """One item from JSON. Raises `msgspec.ValidationError`."""
    return _decoder.decode(data)


def decode_items(data: bytes | Raw) -> list[Item]:
    """A JSON array of items, where an item may lack its `type`, or have null there.

    Clients send messages as `{"role", "content"}` and references as `{"id"}`: OpenAI's document makes `type` optional
    there and only there. Raises `msgspec.ValidationError`.
    """
    try:
        return _list_decoder.decode(data)
    except msgspec.ValidationError as error:
        if "missing required field `type`" not in str(error) and not str(error).startswith("Expected `str` - at"):
            raise
    typed = [_with_type(bytes(raw)) for raw in _raw_list_decoder.decode(data)]
    return _list_decoder.decode(b"[%b]" % b",".join(typed))


def _with_type(item: bytes) -> bytes:
    """The same JSON object with the `type` it would have had."""
    if not item.startswith(b"{"):
        return item
    fields = _probe.decode(item)
    if bytes(fields.pop("type", _NULL)) != b"null":
        return item
    if "role" in fields or "content" in fields:
        return _dumps({"type": "message", **fields})
    return _dumps({"type": "item_reference", **fields}) if fields.keys() == {"id"} else item
