"""Server-sent events of a response, one struct per `type`; field names are OpenAI's.

Every event carries `sequence_number`; `engine.emit` alone gives it. Source: OpenAI's OpenAPI document,
`ResponseStreamEvent`; names judged by the `openai` package.
"""

from typing import Any, TypedDict

import msgspec
from msgspec import Struct

from antiphon.wire.items import Item, Logprob, OutputPart
from antiphon.wire.responses import Response


class Event(Struct, kw_only=True):
    """Base of all events."""

    sequence_number: int


class ItemEvent(Event, kw_only=True):
    """An event about one output item."""

    output_index: int
    item_id: str


class PartEvent(ItemEvent, kw_only=True):
    """An event about one content part of an output item."""

    content_index: int


class ItemPlace(TypedDict):
    """Where an item event belongs."""

    output_index: int
    item_id: str


class PartPlace(ItemPlace):
    """Where a part event belongs."""

    content_index: int


class ResponseEvent(Event, kw_only=True):
    """An event that carries the whole response."""

    response: Response


class ResponseCreated(ResponseEvent, tag_field="type", tag="response.created"):
    """First event of every stream."""


class ResponseQueued(ResponseEvent, tag_field="type", tag="response.queued"):
    """Second event of a background response's stream: it waits for a worker."""


class ResponseInProgress(ResponseEvent, tag_field="type", tag="response.in_progress"):
    """The model is asked. Second event of a stream, or third of a background response's."""


class ResponseCompleted(ResponseEvent, tag_field="type", tag="response.completed"):
    """Terminal: the model finished."""


class ResponseIncomplete(ResponseEvent, tag_field="type", tag="response.incomplete"):
    """Terminal: a limit or a filter stopped the model."""


class ResponseFailed(ResponseEvent, tag_field="type", tag="response.failed"):
    """Terminal: something broke."""


class ResponseCancelled(ResponseEvent, tag_field="type", tag="response.cancelled"):
    """Terminal: somebody cancelled the response."""


class OutputItemAdded(Event, kw_only=True, tag_field="type", tag="response.output_item.added"):
    """An output item begins."""

    output_index: int
    item: Item


class OutputItemDone(Event, kw_only=True, tag_field="type", tag="response.output_item.done"):
    """An output item is whole."""

    output_index: int
    item: Item


class ContentPartAdded(PartEvent, kw_only=True, tag_field="type", tag="response.content_part.added"):
    """A content part begins."""

    part: OutputPart


class ContentPartDone(PartEvent, kw_only=True, tag_field="type", tag="response.content_part.done"):
    """A content part is whole."""

    part: OutputPart


class TextDelta(PartEvent, kw_only=True, tag_field="type", tag="response.output_text.delta"):
    """More text."""

    delta: str
    logprobs: list[Logprob] = []


class TextDone(PartEvent, kw_only=True, tag_field="type", tag="response.output_text.done"):
    """The whole text of a part."""

    text: str
    logprobs: list[Logprob] | None = []


class AnnotationAdded(PartEvent, kw_only=True, tag_field="type", tag="response.output_text.annotation.added"):
    """A citation in the text that has come so far."""

    annotation_index: int
    annotation: dict[str, Any]


class RefusalDelta(PartEvent, kw_only=True, tag_field="type", tag="response.refusal.delta"):
    """More of a refusal."""

    delta: str


class RefusalDone(PartEvent, kw_only=True, tag_field="type", tag="response.refusal.done"):
    """The whole refusal."""

    refusal: str


class ReasoningTextDelta(PartEvent, kw_only=True, tag_field="type", tag="response.reasoning_text.delta"):
    """More raw reasoning."""

    delta: str


class ReasoningTextDone(PartEvent, kw_only=True, tag_field="type", tag="response.reasoning_text.done"):
    """The whole raw reasoning."""

    text: str


class FunctionArgumentsDelta(ItemEvent, kw_only=True, tag_field="type", tag="response.function_call_arguments.delta"):
    """More of a function call's arguments."""

    delta: str


class FunctionArgumentsDone(ItemEvent, kw_only=True, tag_field="type", tag="response.function_call_arguments.done"):
    """The whole arguments of a function call."""

    name: str
    arguments: str


class CustomInputDelta(ItemEvent, kw_only=True, tag_field="type", tag="response.custom_tool_call_input.delta"):
    """More of a custom tool's input."""

    delta: str


class CustomInputDone(ItemEvent, kw_only=True, tag_field="type", tag="response.custom_tool_call_input.done"):
    """The whole input of a custom tool."""

    input: str


class ShellCommandAdded(Event, kw_only=True, tag_field="type", tag="response.shell_call_command.added"):
    """A shell command begins."""

    output_index: int
    command_index: int
    command: str


class ShellCommandDelta(Event, kw_only=True, tag_field="type", tag="response.shell_call_command.delta"):
    """More of a shell command."""

    output_index: int
    command_index: int
    delta: str


class ShellCommandDone(Event, kw_only=True, tag_field="type", tag="response.shell_call_command.done"):
    """A whole shell command."""

    output_index: int
    command_index: int
    command: str


class ShellOutputDelta(ItemEvent, kw_only=True, tag_field="type", tag="response.shell_call_output_content.delta"):
    """More of what a shell command printed: `stdout`, `stderr` or both."""

    command_index: int
    delta: dict[str, str]


class ShellOutputDone(ItemEvent, kw_only=True, tag_field="type", tag="response.shell_call_output_content.done"):
    """The whole output of a shell command."""

    command_index: int
    output: list[dict[str, Any]]


class CodeInterpreterInProgress(
    ItemEvent, kw_only=True, tag_field="type", tag="response.code_interpreter_call.in_progress"
):
    """A call of the code interpreter begins."""


class CodeDelta(ItemEvent, kw_only=True, tag_field="type", tag="response.code_interpreter_call_code.delta"):
    """More of the code."""

    delta: str


class CodeDone(ItemEvent, kw_only=True, tag_field="type", tag="response.code_interpreter_call_code.done"):
    """The whole code."""

    code: str


class CodeInterpreterInterpreting(
    ItemEvent, kw_only=True, tag_field="type", tag="response.code_interpreter_call.interpreting"
):
    """The code is run."""


class CodeInterpreterCompleted(
    ItemEvent, kw_only=True, tag_field="type", tag="response.code_interpreter_call.completed"
):
    """The code has been run."""


class FileSearchInProgress(ItemEvent, kw_only=True, tag_field="type", tag="response.file_search_call.in_progress"):
    """A search begins."""


class FileSearchSearching(ItemEvent, kw_only=True, tag_field="type", tag="response.file_search_call.searching"):
    """The vector stores are asked."""


class FileSearchCompleted(ItemEvent, kw_only=True, tag_field="type", tag="response.file_search_call.completed"):
    """The search has ended."""


class McpListToolsInProgress(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_list_tools.in_progress"):
    """An MCP server is asked for its tools."""


class McpListToolsCompleted(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_list_tools.completed"):
    """It has said them."""


class McpListToolsFailed(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_list_tools.failed"):
    """It could not be asked."""


class McpCallInProgress(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_call.in_progress"):
    """A call of an MCP server's tool begins."""


class McpArgumentsDelta(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_call_arguments.delta"):
    """More of its arguments."""

    delta: str


class McpArgumentsDone(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_call_arguments.done"):
    """Its whole arguments."""

    arguments: str


class McpCallCompleted(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_call.completed"):
    """The tool has answered."""


class McpCallFailed(ItemEvent, kw_only=True, tag_field="type", tag="response.mcp_call.failed"):
    """The tool could not be run, or said that it failed."""


class WebSearchInProgress(ItemEvent, kw_only=True, tag_field="type", tag="response.web_search_call.in_progress"):
    """A search begins."""


class WebSearchSearching(ItemEvent, kw_only=True, tag_field="type", tag="response.web_search_call.searching"):
    """The web is asked."""


class WebSearchCompleted(ItemEvent, kw_only=True, tag_field="type", tag="response.web_search_call.completed"):
    """The search has ended."""


class ImageInProgress(ItemEvent, kw_only=True, tag_field="type", tag="response.image_generation_call.in_progress"):
    """An image begins."""


class ImageGenerating(ItemEvent, kw_only=True, tag_field="type", tag="response.image_generation_call.generating"):
    """The image model is asked."""


class ImagePartial(ItemEvent, kw_only=True, tag_field="type", tag="response.image_generation_call.partial_image"):
    """The image as far as it has come, in base64; `partial_image_index` counts from 0."""

    partial_image_b64: str
    partial_image_index: int
    background: str | None = None
    output_format: str | None = None
    quality: str | None = None
    size: str | None = None


class ImageCompleted(ItemEvent, kw_only=True, tag_field="type", tag="response.image_generation_call.completed"):
    """The image is there."""


class ErrorEvent(Event, kw_only=True, tag_field="type", tag="error"):
    """Something broke outside any response."""

    code: str | None
    message: str
    param: str | None


TERMINAL = (ResponseCompleted, ResponseIncomplete, ResponseFailed, ResponseCancelled)
"""The events that end a stream; exactly one does."""

_encode = msgspec.json.Encoder().encode


def event_type(event: Event) -> str:
    """The event's `type`."""
    return str(type(event).__struct_config__.tag)


def frame(event: Event) -> bytes:
    """The event as a server-sent event: an `event:` line equal to the body's `type`, then the body."""
    return b"event: %b\ndata: %b\n\n" % (_FRAME_NAMES[type(event)], _encode(event))


def _all_events() -> list[type[Event]]:
    found: list[type[Event]] = []
    waiting: list[type[Event]] = [Event]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__struct_config__.tag is not None:
                found.append(kind)
    return found


EVENTS: tuple[type[Event], ...] = tuple(_all_events())
"""Every event this server can send."""

_FRAME_NAMES = {kind: str(kind.__struct_config__.tag).encode() for kind in EVENTS}
DONE_FRAME = b"data: [DONE]\n\n"
"""The literal that ends a stream in Open Responses and Chat Completions."""
