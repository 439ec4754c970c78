"""Tools that the client executes: how each is offered to a chat model, and what is told while the model calls it.

A tool is offered as a function (`Offer.function`); the model's call of it becomes the item of `Offer.kind`, made by
`wire.calls.item_of`, and `progress` gives the events that this kind of item has between added and done. The engine
knows none of the kinds.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from antiphon.errors import InvalidRequest, Unsupported
from antiphon.models.base import Function
from antiphon.tools.base import Offer, Place
from antiphon.wire.calls import APPLY_PATCH, COMPUTER, COMPUTER_PREVIEW, LOCAL_SHELL, SHELL, flat_name
from antiphon.wire.events import (
    CustomInputDelta,
    CustomInputDone,
    Event,
    ItemPlace,
    ShellCommandAdded,
    ShellCommandDelta,
    ShellCommandDone,
)
from antiphon.wire.items import CustomToolCall, Item, ShellCall
from antiphon.wire.tools import (
    ApplyPatchTool,
    ComputerTool,
    ComputerUsePreviewTool,
    CustomTool,
    FunctionTool,
    Grammar,
    LocalShellTool,
    NamespaceTool,
    ShellTool,
    Tool,
)


def client_offers(tool: Tool, place: str) -> Iterable[Offer]:
    """How the model sees a tool that the client executes. Raises `InvalidRequest` if a shell asks for a container."""
    match tool:
        case FunctionTool() | CustomTool():
            return [_named(tool, None)]
        case NamespaceTool():
            return [replace(_named(member, tool.name), about=tool.description) for member in tool.tools]
        case LocalShellTool():
            return [_fixed(LOCAL_SHELL, "Runs a command on the user's machine.", _LOCAL_SHELL_SCHEMA)]
        case ShellTool():
            if tool.environment and tool.environment.get("type") != "local":
                message = "The tool 'shell' is executed by the client; hosted containers are not served."
                raise InvalidRequest(message, param=f"{place}.environment", code="unsupported_tool")
            return [_fixed(SHELL, "Runs shell commands, in order, on the user's machine.", _SHELL_SCHEMA)]
        case ApplyPatchTool():
            return [_fixed(APPLY_PATCH, "Creates, updates or deletes one file in the workspace.", _PATCH_SCHEMA)]
        case ComputerTool():
            return [_fixed(COMPUTER, "Acts on the user's computer and returns a screenshot.", _COMPUTER_SCHEMA)]
        case ComputerUsePreviewTool():
            size = f"{tool.display_width} x {tool.display_height} pixels, {tool.environment}"
            description = f"Acts on the user's computer ({size}) and returns a screenshot."
            return [_fixed(COMPUTER_PREVIEW, description, _COMPUTER_PREVIEW_SCHEMA)]
        case _:
            kind = str(type(tool).__struct_config__.tag)
            message = f"The tool {kind!r} is not served by this server."
            raise Unsupported(message, param=f"{place}.type", code="unsupported_tool")


def _named(tool: FunctionTool | CustomTool, namespace: str | None) -> Offer:
    name = flat_name(namespace, tool.name)
    if isinstance(tool, FunctionTool):
        parameters = tool.parameters or {"type": "object", "properties": {}}
        function = Function(name=name, description=tool.description, parameters=parameters, strict=tool.strict)
        return Offer(
            function=function, kind="function", name=tool.name, namespace=namespace, tool=tool, deferred=_deferred(tool)
        )
    says = "The tool's input, as free text."
    if isinstance(tool.format, Grammar):
        says = f"The tool's input. It must match this {tool.format.syntax} grammar:\n{tool.format.definition}"
    schema = _object({"input": {"type": "string", "description": says}}, ["input"])
    function = Function(name=name, description=tool.description, parameters=schema)
    return Offer(
        function=function, kind="custom", name=tool.name, namespace=namespace, tool=tool, deferred=_deferred(tool)
    )


def _deferred(tool: FunctionTool | CustomTool) -> bool:
    return tool.defer_loading is True


def _fixed(kind: str, description: str, schema: dict[str, Any]) -> Offer:
    return Offer(function=Function(name=kind, description=description, parameters=schema), kind=kind, name=kind)


# ---------------------------------------------------------------- progress


def progress(item: Item, place: Place) -> Iterator[Event]:
    """The events between added and done of a call that was made whole (functions stream theirs instead)."""
    if isinstance(item, CustomToolCall):
        where: ItemPlace = {"item_id": place.item_id, "output_index": place.output_index}
        if item.input:
            yield CustomInputDelta(sequence_number=place.next_number(), delta=item.input, **where)
        yield CustomInputDone(sequence_number=place.next_number(), input=item.input, **where)
    elif isinstance(item, ShellCall):
        for index, command in enumerate(item.action["commands"]):
            at = {"output_index": place.output_index, "command_index": index}
            yield ShellCommandAdded(sequence_number=place.next_number(), command="", **at)
            yield ShellCommandDelta(sequence_number=place.next_number(), delta=command, **at)
            yield ShellCommandDone(sequence_number=place.next_number(), command=command, **at)


# ---------------------------------------------------------------- schemas


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_MILLISECONDS = {"type": "integer", "description": "Time limit in milliseconds."}
_LOCAL_SHELL_SCHEMA = _object(
    {
        "command": _STRINGS | {"description": "The program and its arguments."},
        "working_directory": {"type": "string"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
        "timeout_ms": _MILLISECONDS,
    },
    ["command"],
)
_SHELL_SCHEMA = _object(
    {
        "commands": _STRINGS | {"description": "Shell commands, run in order."},
        "timeout_ms": _MILLISECONDS,
        "max_output_length": {"type": "integer", "description": "Most characters of output to keep."},
    },
    ["commands"],
)
_PATCH_SCHEMA = _object(
    {
        "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        "path": {"type": "string", "description": "Path of the file, relative to the workspace."},
        "diff": {"type": "string", "description": "The change as a V4A diff; not for delete_file."},
    },
    ["type", "path"],
)
_POINT = {"x": {"type": "integer"}, "y": {"type": "integer"}}
_ACTION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {
            "type": "string",
            "enum": ["click", "double_click", "drag", "keypress", "move", "screenshot", "scroll", "type", "wait"],
        },
        **_POINT,
        "button": {"type": "string", "enum": ["left", "right", "wheel", "back", "forward"]},
        "keys": {"type": "array", "items": {"type": "string"}},
        "text": {"type": "string"},
        "scroll_x": {"type": "integer"},
        "scroll_y": {"type": "integer"},
        "path": {"type": "array", "items": {"type": "object", "properties": _POINT}},
    },
    "required": ["type"],
}
_COMPUTER_SCHEMA = _object({"actions": {"type": "array", "items": _ACTION, "minItems": 1}}, ["actions"])
_COMPUTER_PREVIEW_SCHEMA = _object({"action": _ACTION}, ["action"])
