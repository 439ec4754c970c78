"""Calls that the client executes, seen as plain function calls, and back.

Every chat model knows functions; only some know custom tools, shells, patches or computers. So each of those items has
a function form, `(call_id, name, JSON arguments)`, in which a model makes it and sees it again in its history. Both
directions stand here side by side, since they must agree.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from antiphon.wire.items import (
    ApplyPatchCall,
    ApplyPatchCallOutput,
    ComputerCall,
    ComputerCallOutput,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputPart,
    Item,
    LocalShellCall,
    LocalShellCallOutput,
    ShellCall,
    ShellCallOutput,
    Status,
    ToolSearchCall,
    ToolSearchOutput,
)

LOCAL_SHELL = "local_shell"
SHELL = "shell"
APPLY_PATCH = "apply_patch"
COMPUTER = "computer"
COMPUTER_PREVIEW = "computer_use_preview"
TOOL_SEARCH = "tool_search"
CLIENT_TOOL_SEARCH = "client_tool_search"
"""The kind of a search among tools that the client makes; the model knows it as `TOOL_SEARCH`."""

_dumps = msgspec.json.Encoder().encode


class Call(Struct, frozen=True, kw_only=True):
    """A call in function form. `arguments` is JSON text."""

    call_id: str
    name: str
    arguments: str


class Answer(Struct, frozen=True, kw_only=True):
    """What a call gave, in function form."""

    call_id: str
    output: str | list[InputPart]


def flat_name(namespace: str | None, name: str) -> str:
    """The function name under which a model sees a tool of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def call_of(item: Item) -> Call | None:
    """The item as a function call; None if it is not a call that a client executes."""
    match item:
        case FunctionCall():
            return Call(
                call_id=item.call_id, name=flat_name(item.namespace, item.name), arguments=item.arguments or "{}"
            )
        case CustomToolCall():
            name = flat_name(item.namespace, item.name)
            return Call(call_id=item.call_id, name=name, arguments=_text({"input": item.input}))
        case LocalShellCall():
            action = {key: value for key, value in item.action.items() if key != "type" and value}
            return Call(call_id=item.call_id, name=LOCAL_SHELL, arguments=_text(action))
        case ShellCall():
            return Call(call_id=item.call_id, name=SHELL, arguments=_text(_present(item.action)))
        case ApplyPatchCall():
            return Call(call_id=item.call_id, name=APPLY_PATCH, arguments=_text(item.operation))
        case ComputerCall(action=dict() as action):
            return Call(call_id=item.call_id, name=COMPUTER_PREVIEW, arguments=_text({"action": action}))
        case ComputerCall():
            return Call(call_id=item.call_id, name=COMPUTER, arguments=_text({"actions": item.actions or []}))
        case ToolSearchCall(call_id=str() as call_id):
            return Call(call_id=call_id, name=TOOL_SEARCH, arguments=_text(item.arguments))
    return None


def output_of(item: Item) -> Answer | None:
    """The item as a function's output; None if it is not the output of a call that a client executes."""
    match item:
        case FunctionCallOutput() | CustomToolCallOutput():
            return Answer(call_id=item.call_id, output=item.output)
        case LocalShellCallOutput():
            return Answer(call_id=item.call_id or item.id, output=item.output)
        case ShellCallOutput():
            return Answer(call_id=item.call_id, output=_text(item.output))
        case ApplyPatchCallOutput():
            return Answer(call_id=item.call_id, output=_text({"status": item.status, "output": item.output}))
        case ComputerCallOutput():
            shot = item.output
            picture = InputImage(image_url=shot.image_url, file_id=shot.file_id, detail=shot.detail or "auto")
            return Answer(call_id=item.call_id, output=[picture])
        case ToolSearchOutput(call_id=str() as call_id):
            return Answer(call_id=call_id, output=_text(item.tools))
    return None


class Made(Struct, frozen=True, kw_only=True):
    """A finished call of the model's, to be made into an item: where it came from and what it says."""

    id: str
    call_id: str
    name: str
    namespace: str | None
    arguments: str
    status: Status


def item_of(kind: str, call: Made) -> Item:
    """The item of this kind that a function call stands for.

    Raises `ValueError` with a sentence about the arguments if they do not fit the kind.
    """
    return _MAKERS[kind](call)


def _function(call: Made) -> Item:
    return FunctionCall(
        id=call.id,
        call_id=call.call_id,
        name=call.name,
        arguments=call.arguments,
        namespace=call.namespace,
        status=call.status,
    )


def _custom(call: Made) -> Item:
    text = _arguments(call).get("input")
    if not isinstance(text, str):
        raise _misfit(call, "a string `input`")
    return CustomToolCall(
        id=call.id, call_id=call.call_id, name=call.name, input=text, namespace=call.namespace, status=call.status
    )


def _local_shell(call: Made) -> Item:
    given = _arguments(call)
    command = given.get("command")
    if isinstance(command, str):
        command = ["bash", "-lc", command]
    if not _is_strings(command):
        raise _misfit(call, "`command`, a list of strings")
    action = {"type": "exec", "command": command, "env": given.get("env") or {}}
    action |= {key: given[key] for key in ("timeout_ms", "user", "working_directory") if given.get(key) is not None}
    return LocalShellCall(id=call.id, call_id=call.call_id, action=action, status=call.status)


def _shell(call: Made) -> Item:
    given = _arguments(call)
    commands = given.get("commands")
    if not _is_strings(commands):
        raise _misfit(call, "`commands`, a list of strings")
    action = {"commands": commands, "timeout_ms": given.get("timeout_ms")}
    action["max_output_length"] = given.get("max_output_length")
    return ShellCall(id=call.id, call_id=call.call_id, action=action, status=call.status)


def _apply_patch(call: Made) -> Item:
    given = _arguments(call)
    kind, needed = given.get("type"), ["path"]
    if kind not in ("create_file", "update_file", "delete_file"):
        raise _misfit(call, "`type`, one of create_file, update_file, delete_file")
    if kind != "delete_file":
        needed.append("diff")
    if not all(isinstance(given.get(key), str) for key in needed):
        raise _misfit(call, f"strings for {' and '.join(needed)}")
    operation = {"type": kind} | {key: given[key] for key in needed}
    status: Literal["in_progress", "completed"] = "in_progress" if call.status == "in_progress" else "completed"
    return ApplyPatchCall(id=call.id, call_id=call.call_id, operation=operation, status=status)


def _computer(call: Made) -> Item:
    actions = _arguments(call).get("actions")
    if not isinstance(actions, list) or not all(isinstance(action, dict) and "type" in action for action in actions):
        raise _misfit(call, "`actions`, a list of objects with a `type`")
    return ComputerCall(id=call.id, call_id=call.call_id, actions=actions, pending_safety_checks=[], status=call.status)


def _computer_preview(call: Made) -> Item:
    action = _arguments(call).get("action")
    if not isinstance(action, dict) or "type" not in action:
        raise _misfit(call, "`action`, an object with a `type`")
    return ComputerCall(id=call.id, call_id=call.call_id, action=action, pending_safety_checks=[], status=call.status)


def _client_tool_search(call: Made) -> Item:
    arguments = _arguments(call)
    return ToolSearchCall(id=call.id, call_id=call.call_id, arguments=arguments, execution="client", status=call.status)


_MAKERS: dict[str, Callable[[Made], Item]] = {
    "function": _function,
    "custom": _custom,
    LOCAL_SHELL: _local_shell,
    SHELL: _shell,
    APPLY_PATCH: _apply_patch,
    COMPUTER: _computer,
    COMPUTER_PREVIEW: _computer_preview,
    CLIENT_TOOL_SEARCH: _client_tool_search,
}


def _arguments(call: Made) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError as error:
        raise ValueError(f"The model called {call.name!r} with arguments that are not JSON: {error}.") from error
    if not isinstance(given, dict):
        raise _misfit(call, "an object")
    return given


def _misfit(call: Made, wanted: str) -> ValueError:
    return ValueError(f"The model called {call.name!r} with arguments that lack what it takes: {wanted}.")


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _present(value: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in value.items() if each is not None}


def _text(value: object) -> str:
    return _dumps(value).decode()
