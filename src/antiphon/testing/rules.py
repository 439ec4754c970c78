"""The rules of a Responses stream that clients depend on, as one function over the raw bytes.

`check` reads what a client got from `POST /v1/responses` with `stream: true` (or from a retrieved stream) and raises
`Broken` with every rule that does not hold: framing, numbering, order, identity, agreement of deltas, done events and
the final response, and validity for the `openai` package's own type of each event. Works on any server's stream.
"""

import functools
import json
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct, field

TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
WHOLE = ("response.created", "response.in_progress", "response.queued", *TERMINAL)
NEVER_NULL = (
    *("id", "object", "created_at", "status", "model", "output", "tools", "tool_choice", "truncation"),
    *("parallel_tool_calls", "text", "top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "temperature"),
    *("store", "background", "service_tier", "metadata"),
)
MAY_BE_NULL = (
    *("completed_at", "incomplete_details", "previous_response_id", "instructions", "error", "reasoning", "usage"),
    *("max_output_tokens", "max_tool_calls", "safety_identifier", "prompt_cache_key"),
)
BEYOND_SDK = frozenset(
    {
        ("Response", "presence_penalty"),  # Open Responses requires it
        ("Response", "frequency_penalty"),  # Open Responses requires it
        ("Response", "store"),  # Open Responses requires it
        ("ResponseError", "type"),  # the host's own kind of error, beside the code that clients know
        ("ResponseFunctionCallArgumentsDoneEvent", "name"),  # required by OpenAI's document, absent from the package
        ("ResponseCustomToolCall", "status"),  # every item has a status; the package has it in its other form
        ("ResponseCustomToolCallOutput", "status"),  # likewise
        ("Logprob", "bytes"),  # as in the final part; the event's type in the package lacks it
        ("LogprobTopLogprob", "bytes"),  # likewise
    }
)
"""Fields that are sent although the package's type does not name them, each with its reason."""

WITHOUT_STATUS = ("reasoning", "compaction", "mcp_list_tools", "mcp_approval_request")
"""Items that may have no status; all but the first cannot."""

SDK_MAJOR = 3
"""The major version of the package whose types are the judge."""

UNKNOWN_TO_SDK = frozenset({"response.cancelled"})
"""Events of OpenAI's and our API that the package has no type for."""

PART_TYPES = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
"""Kinds of content part, and the field of the part and of its done event that holds the whole."""
STREAMED_FIELDS = {
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
    "response.mcp_call_arguments": ("mcp_call", "arguments"),
}
"""Pairs of delta and done events that build up one field of an item."""
PHASES = {
    "file_search_call": ("in_progress", "searching", "completed"),
    "mcp_call": ("in_progress", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
}
"""Items of tools that the server runs, and the events that come between added and done, in this order."""
FAILING = ("mcp_call", "mcp_list_tools")
"""Those among them that have an event `failed` in place of the last; others then have none."""


class Broken(AssertionError):
    """Rules that a stream breaks, one a line."""


class Part(Struct):
    """A content part while it is being streamed."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    whole: str | None = None
    done: bool = False


class Open(Struct):
    """An output item while it is being streamed."""

    item: dict[str, Any]
    parts: list[Part] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    whole: str | None = None
    commands: dict[int, list[str]] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    done: dict[str, Any] | None = None


class Stream(Struct, kw_only=True):
    """A stream that keeps the rules."""

    events: list[dict[str, Any]]
    frames: list[bytes]
    items: list[dict[str, Any]]

    @property
    def response(self) -> dict[str, Any]:
        """The response as the terminal event has it."""
        found: dict[str, Any] = self.events[-1]["response"]
        return found

    @property
    def types(self) -> list[str]:
        """The type of every event, in order."""
        return [event["type"] for event in self.events]

    @property
    def text(self) -> str:
        """All output text."""
        return "".join(
            part["text"]
            for item in self.items
            if item["type"] == "message"
            for part in item["content"]
            if part["type"] == "output_text"
        )

    def deltas(self, kind: str = "response.output_text.delta") -> list[str]:
        """The deltas of one kind, in order."""
        return [event["delta"] for event in self.events if event["type"] == kind]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The output items of one type."""
        return [item for item in self.items if item["type"] == kind]


def check(raw: bytes, *, sdk: bool = True) -> Stream:
    """The stream, if it keeps every rule. Raises `Broken` otherwise. `sdk=False` leaves the package's types out."""
    frames, broken = _frames(raw)
    events: list[dict[str, Any]] = []
    for number, frame in enumerate(frames):
        broken += [f"frame {number}: {problem}" for problem in _frame_problems(frame, events)]
    state = _Order()
    if not broken:
        for event in events:
            broken += [f"event {event['sequence_number']} {event['type']}: {x}" for x in state.problems(event)]
        broken += state.end()
        if sdk:
            broken += [problem for event in events for problem in sdk_problems(event)]
    if broken:
        shown = "\n".join(broken[:20])
        raise Broken(f"{len(broken)} broken rules:\n{shown}\n--- stream ---\n{raw[:6000].decode(errors='replace')}")
    return Stream(events=events, frames=frames, items=state.items())


def check_frames(frames: Sequence[str], *, sdk: bool = True) -> Stream:
    """The same for one turn's text frames over a WebSocket, which are the events without their framing."""
    lines = [f"event: {json.loads(frame)['type']}\ndata: {frame}\n\n" for frame in frames]
    return check("".join([*lines, "data: [DONE]\n\n"]).encode(), sdk=sdk)


def _frames(raw: bytes) -> tuple[list[bytes], list[str]]:
    """The frames before `[DONE]`."""
    if not raw.endswith(b"\n\n"):
        return [], [f"the stream does not end with an empty line: {raw[-200:]!r}"]
    frames = raw[:-2].split(b"\n\n")
    if frames[-1] != b"data: [DONE]":
        return [], [f"the last frame is not [DONE]: {frames[-1][:200]!r}"]
    return frames[:-1], []


def _frame_problems(frame: bytes, events: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with a frame; a good one is added to `events`."""
    lines = frame.split(b"\n")
    if len(lines) != 2 or not lines[0].startswith(b"event: ") or not lines[1].startswith(b"data: "):
        yield f"not one event line and one data line: {frame[:200]!r}"
        return
    try:
        event = json.loads(lines[1][6:])
    except ValueError as error:
        yield f"data is not JSON ({error}): {lines[1][:200]!r}"
        return
    if event.get("type") != lines[0][7:].decode():
        yield f"event line {lines[0]!r} but type {event.get('type')!r}"
    if event.get("sequence_number") != len(events):
        yield f"sequence_number {event.get('sequence_number')!r}, expected {len(events)}"
    events.append(event)


class _Order:
    """Where the stream stands: which items and parts are open, and what was said about them."""

    def __init__(self) -> None:
        self.count = 0
        self.head: tuple[str, ...] = ("response.created", "response.in_progress")
        self.response_id: str | None = None
        self.terminal: dict[str, Any] | None = None
        self.open: list[Open] = []

    def problems(self, event: dict[str, Any]) -> Iterator[str]:
        """What is wrong with the next event."""
        kind, position = event["type"], self.count
        self.count += 1
        if self.terminal is not None:
            yield f"after the terminal event {self.terminal['type']}"
        if position == 0 and event.get("response", {}).get("background"):
            self.head = ("response.created", "response.queued", "response.in_progress")
        if position < len(self.head) and kind != self.head[position] and not (position == 2 and kind in TERMINAL):
            yield f"expected {self.head[position]}"
        if position >= len(self.head) and kind in self.head:
            yield "comes again"
        if kind in WHOLE:
            yield from self._whole(event)
        elif kind == "response.output_item.added":
            yield from self._item_added(event)
        elif kind != "error":
            yield from self._within(event)

    def _whole(self, event: dict[str, Any]) -> Iterator[str]:
        response, kind = event["response"], event["type"]
        yield from whole_problems(response)
        self.response_id = self.response_id or response.get("id")
        if response.get("id") != self.response_id:
            yield f"response id {response.get('id')!r}, was {self.response_id!r}"
        expected = kind.removeprefix("response.").replace("created", "in_progress")
        if response.get("status") != expected and not (kind == "response.created" and response["status"] == "queued"):
            yield f"status {response.get('status')!r}, expected {expected!r}"
        if kind in TERMINAL:
            self.terminal = event
        elif response.get("output") != [] or response.get("error") is not None or response.get("usage") is not None:
            yield f"output, error or usage before the end: {response.get('output')!r}, {response.get('error')!r}"

    def _item_added(self, event: dict[str, Any]) -> Iterator[str]:
        item = event["item"]
        if event["output_index"] != len(self.open):
            yield f"output_index {event['output_index']}, expected {len(self.open)}"
        if not item.get("id") or item["id"] in [other.item["id"] for other in self.open]:
            yield f"item id {item.get('id')!r} is missing or taken"
        if item["type"] not in WITHOUT_STATUS and item.get("status") != "in_progress":
            yield f"status of a new item is {item.get('status')!r}"
        running = [other.item["id"] for other in self.open if other.item["type"] in PHASES and other.done is None]
        if running and item["type"] in ("message", "reasoning"):
            yield f"the model speaks before it can know what came of {', '.join(running)}"
        self.open.append(Open(item))

    def _within(self, event: dict[str, Any]) -> Iterator[str]:
        index = event.get("output_index")
        if not isinstance(index, int) or index >= len(self.open):
            yield f"output_index {index!r} was never added"
            return
        state = self.open[index]
        if state.done is not None:
            yield "the item is done already"
        if "item_id" in event and event["item_id"] != state.item["id"]:
            yield f"item_id {event['item_id']!r}, expected {state.item['id']!r}"
        kind = event["type"]
        if kind == "response.output_item.done":
            yield from _item_done(state, event)
        elif "content_index" in event:
            yield from _part_event(state, event)
        elif kind.startswith("response.shell_call_command."):
            yield from _command_event(state, event)
        elif kind.rpartition(".")[0] in STREAMED_FIELDS:
            yield from _field_event(state, event)
        elif (family := kind.removeprefix("response.").partition(".")[0]) in PHASES:
            yield from _phase_event(state, event, family)

    def items(self) -> list[dict[str, Any]]:
        """The items as their done events have them."""
        return [state.done for state in self.open if state.done is not None]

    def end(self) -> Iterator[str]:
        """What is wrong with the stream as a whole."""
        if self.terminal is None:
            yield "no terminal event"
            return
        for state in self.open:
            if state.done is None:
                yield f"item {state.item['id']} is never done"
        response = self.terminal["response"]
        if response["output"] != self.items():
            yield f"final output {response['output']!r} is not the done items {self.items()!r}"
        if response["status"] == "completed" and response["completed_at"] is None:
            yield "completed without completed_at"
        if (response["status"] == "failed") != (response["error"] is not None):
            yield f"status {response['status']} with error {response['error']!r}"
        if (response["status"] == "incomplete") != (response["incomplete_details"] is not None):
            yield f"status {response['status']} with incomplete_details {response['incomplete_details']!r}"


def whole_problems(response: dict[str, Any]) -> Iterator[str]:
    """Fields of a response object that are missing, or null where clients forbid it."""
    for name in NEVER_NULL:
        if response.get(name) is None:
            yield f"response.{name} is missing or null"
    for name in MAY_BE_NULL:
        if name not in response:
            yield f"response.{name} is missing"
    if (usage := response.get("usage")) is not None:
        for part, name in (("input_tokens_details", "cached_tokens"), ("output_tokens_details", "reasoning_tokens")):
            if not isinstance(usage.get(part, {}).get(name), int):
                yield f"usage.{part}.{name} is missing"


def _part_event(state: Open, event: dict[str, Any]) -> Iterator[str]:
    """`content_part.added`, deltas, the kind's own done, `content_part.done`: in this order for each part."""
    kind, index, parts = event["type"], event["content_index"], state.parts
    if kind == "response.content_part.added":
        yield from _part_added(parts, event)
        return
    if index >= len(parts):
        yield f"content_index {index} was never added"
        return
    part = parts[index]
    if part.done:
        yield "the part is done already"
    if kind == "response.content_part.done":
        yield from _part_done(part, event)
    elif kind == f"response.{part.kind}.delta":
        if part.whole is not None:
            yield "a delta after the text was done"
        part.pieces.append(event["delta"])
    elif kind == f"response.{part.kind}.done":
        part.whole = event[PART_TYPES[part.kind]]
        if "".join(part.pieces) != part.whole:
            yield f"deltas {part.pieces!r} do not make {part.whole!r}"
    elif kind == f"response.{part.kind}.annotation.added":
        yield from _annotation_added(part, event)
    else:
        yield f"does not belong to a part of type {part.kind}"


def _part_added(parts: list[Part], event: dict[str, Any]) -> Iterator[str]:
    if event["content_index"] != len(parts) or (parts and not parts[-1].done):
        yield f"content_index {event['content_index']} after {len(parts)} parts, or the part before it is open"
    parts.append(Part(event["part"]["type"]))


def _annotation_added(part: Part, event: dict[str, Any]) -> Iterator[str]:
    annotation, length = event["annotation"], len("".join(part.pieces))
    if event["annotation_index"] != len(part.annotations):
        yield f"annotation_index {event['annotation_index']}, expected {len(part.annotations)}"
    places = [annotation[name] for name in ("index", "start_index", "end_index") if name in annotation]
    if part.whole is not None or not all(0 <= place <= length for place in places):
        yield f"annotation {annotation!r} of a text of which {length} characters have come, or which was done"
    part.annotations.append(annotation)


def _part_done(part: Part, event: dict[str, Any]) -> Iterator[str]:
    part.done = True
    if part.whole is None:
        yield f"no response.{part.kind}.done before it"
    if event["part"]["type"] != part.kind or event["part"].get(PART_TYPES[part.kind]) != part.whole:
        yield f"part {event['part']!r} is not what was streamed: {part.whole!r}"
    if (event["part"].get("annotations") or []) != part.annotations:
        yield f"annotations {event['part'].get('annotations')!r} are not those that were streamed: {part.annotations!r}"


def _field_event(state: Open, event: dict[str, Any]) -> Iterator[str]:
    family, _, phase = event["type"].rpartition(".")
    item_type, name = STREAMED_FIELDS[family]
    if state.item["type"] != item_type:
        yield f"belongs to a {item_type}, not to a {state.item['type']}"
    if state.whole is not None:
        yield "after the field was done"
    if phase == "delta":
        state.pieces.append(event["delta"])
        return
    state.whole = event[name]
    if "".join(state.pieces) != state.whole:
        yield f"deltas {state.pieces!r} do not make {state.whole!r}"


def _command_event(state: Open, event: dict[str, Any]) -> Iterator[str]:
    phase, index = event["type"].rpartition(".")[2], event["command_index"]
    if phase == "added":
        state.commands[index] = [event["command"]]
    elif index not in state.commands:
        yield f"command {index} was never added"
    elif phase == "delta":
        state.commands[index].append(event["delta"])
    elif "".join(state.commands[index]) != event["command"]:
        yield f"deltas {state.commands[index]!r} do not make {event['command']!r}"


def _phase_event(state: Open, event: dict[str, Any], family: str) -> Iterator[str]:
    phase = event["type"].rpartition(".")[2]
    expected = PHASES[family][len(state.phases) :][:1]
    if state.item["type"] != family:
        yield f"belongs to a {family}, not to a {state.item['type']}"
    last = family in FAILING and expected == PHASES[family][-1:]
    if expected != (phase,) and not (last and phase == "failed"):
        yield f"comes after {state.phases!r}"
    state.phases.append(phase)


def _last_phase(item: dict[str, Any], phases: tuple[str, ...]) -> tuple[str, ...]:
    """The last event of a call that ended so: none, if it was cut off."""
    status = item.get("status") or ("failed" if item.get("error") else "completed")
    if status == "completed":
        return phases[-1:]
    return ("failed",) if status == "failed" and item["type"] in FAILING else ()


def _item_done(state: Open, event: dict[str, Any]) -> Iterator[str]:
    item, state.done = event["item"], event["item"]
    if (item["id"], item["type"]) != (state.item["id"], state.item["type"]):
        yield f"item {item['id']}/{item['type']}, added as {state.item['id']}/{state.item['type']}"
    if item["type"] not in WITHOUT_STATUS and item.get("status") not in ("completed", "incomplete", "failed"):
        yield f"status of a done item is {item.get('status')!r}"
    if any(not part.done for part in state.parts):
        yield "with an open part"
    if item["type"] in ("message", "reasoning"):
        content = [
            (part["type"], part.get(PART_TYPES.get(part["type"], "")), part.get("annotations") or [])
            for part in item.get("content") or []
        ]
        if content != [(part.kind, part.whole, part.annotations) for part in state.parts]:
            yield f"content {content!r} is not what was streamed"
    yield from _text_problems(item)
    phases = PHASES.get(item["type"], ())
    if phases and state.phases != [*phases[:-1], *_last_phase(item, phases)]:
        yield f"{item.get('status')} after {state.phases!r}"
    for item_type, name in STREAMED_FIELDS.values():
        if item["type"] == item_type and item[name] != state.whole:
            yield f"{name} {item[name]!r} is not what was streamed: {state.whole!r}"


def _text_problems(item: dict[str, Any]) -> Iterator[str]:
    for part in item.get("content") or []:
        arrays = (part.get("annotations"), part.get("logprobs"))
        if part["type"] == "output_text" and not all(isinstance(array, list) for array in arrays):
            yield "output_text without the arrays annotations and logprobs"


# ---------------------------------------------------------------- the package's own types


@functools.cache
def _sdk_types() -> dict[str, Any]:
    """The package's class for each event type. The package is needed only where streams are checked."""
    from openai.types.responses import ResponseStreamEvent

    union = typing.get_args(ResponseStreamEvent)[0]
    return {typing.get_args(kind.model_fields["type"].annotation)[0]: kind for kind in typing.get_args(union)}


@functools.cache
def _sdk_union() -> Any:
    import pydantic
    from openai.types.responses import ResponseStreamEvent

    return pydantic.TypeAdapter(ResponseStreamEvent)


@functools.cache
def _is_old() -> bool:
    """Whether the installed package is older than these rules, and its types no judge of newer tools and fields."""
    import openai

    return int(openai.__version__.partition(".")[0]) < SDK_MAJOR


def sdk_problems(event: dict[str, Any]) -> list[str]:
    """Where an event is not what the package's type for it says: missing, wrong or unknown fields."""
    if _is_old():
        return []
    kind = _sdk_types().get(event["type"])
    where = f"event {event.get('sequence_number')} {event['type']}"
    if kind is None:
        return [] if event["type"] in UNKNOWN_TO_SDK else [f"{where}: the package has no such event"]
    try:
        found = _sdk_union().validate_python(event, strict=True)
    except ValueError:
        return [f"{where}: {_why(kind, event)}"]
    if type(found) is not kind:
        return [f"{where}: the package takes it for a {type(found).__name__}"]
    return [f"{where}: unknown field {name}" for name in unknown_fields(found)]


def _why(kind: Any, event: dict[str, Any]) -> str:
    """The package's complaint, from the one class that should have fitted."""
    try:
        kind.model_validate(event, strict=True)
    except ValueError as error:
        return str(error)
    return "valid for its class but not for the union"


def unknown_fields(model: Any, path: str = "") -> Iterator[str]:
    """Fields anywhere in a package object that its types do not name and `BEYOND_SDK` does not excuse."""
    if isinstance(model, list):
        for index, value in enumerate(model):
            yield from unknown_fields(value, f"{path}[{index}]")
    if not hasattr(model, "model_extra"):
        return
    for name in model.model_extra or ():
        if (type(model).__name__, name) not in BEYOND_SDK:
            yield f"{path}.{name} of {type(model).__name__}".lstrip(".")
    for name in type(model).model_fields:
        yield from unknown_fields(getattr(model, name), f"{path}.{name}")
