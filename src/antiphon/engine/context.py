"""A context: what came before and what a request adds, and how a model is shown it."""

from collections.abc import Sequence

from msgspec import json, to_builtins
from msgspec.structs import replace

from antiphon.engine.cite import marked
from antiphon.engine.compact import opened, seen
from antiphon.engine.run import Engine
from antiphon.errors import DECODE_ERRORS, InvalidRequest, NotFound, Unsupported
from antiphon.tools.base import served_as
from antiphon.wire.calls import call_of, output_of
from antiphon.wire.items import (
    AdditionalTools,
    Compaction,
    ConfigurationUpdate,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    McpApprovalRequest,
    McpApprovalResponse,
    Memory,
    Program,
    ProgramOutput,
    Reasoning,
    ReasoningText,
    ShellCall,
)

UNSERVED_ITEMS = (ConfigurationUpdate, Program, ProgramOutput)
"""Items without which the context would mean something else, and which this release cannot honour."""
_CUT_OFF = FunctionCall | ShellCall
"""Calls of the client's form that the model is not shown if they were never finished."""


async def history_of(engine: Engine, owner: str, conversation: str | None, *, previous: str | None) -> list[Item]:
    """What came before: in the conversation, or in the chain that ends with the response `previous`."""
    if conversation is not None:
        return await engine.conversations.history(owner, conversation)
    if previous is not None:
        return await engine.responses.history(owner, previous)
    return []


async def accepted(engine: Engine, items: list[Item], owner: str, *, at: str) -> list[Item]:
    """A client's items, with references replaced by what they stand for; what is encrypted must be this server's.

    A call that the server ran and keeps, sent again as the client was shown it, stands for itself with what it found.
    """
    for index, item in enumerate(items):
        if getattr(item, "memory", None) is not None:
            items[index] = replace(item, memory=None)  # a memory is the server's own
        elif isinstance(item, Reasoning) and item.encrypted_content:
            _opened(engine, item, f"{at}[{index}].encrypted_content")
        elif isinstance(item, Compaction):
            opened(item.encrypted_content, engine.sealer, f"{at}[{index}].encrypted_content")
    wanted = [item.id for item in items if item.id and (isinstance(item, ItemReference) or _ran_here(item))]
    if not wanted:
        return items
    found = await engine.responses.find_items(owner, wanted)
    for index, item in enumerate(items):
        kept = found.get(item.id or "")
        if isinstance(item, ItemReference) and kept is None:
            message = f"Item with id {item.id!r} not found. Items are not kept when 'store' is false."
            raise NotFound(message, param=f"{at}[{index}].id", code="item_not_found")
        if kept is not None and (isinstance(item, ItemReference) or _same(to_builtins(item), to_builtins(kept))):
            items[index] = kept
    return items


def _ran_here(item: Item) -> bool:
    return served_as(item) != "" and not isinstance(item, McpApprovalRequest | McpApprovalResponse)


def _same(shown: object, kept: object) -> bool:
    """Whether what a client sends is what was kept: it may leave things out, and write JSON in its own way."""
    if isinstance(shown, dict) and isinstance(kept, dict):
        return all(_same(value, kept.get(name)) for name, value in shown.items())
    if shown in (None, [], kept):
        return True
    try:
        return isinstance(shown, str) and isinstance(kept, str) and json.decode(shown) == json.decode(kept)
    except DECODE_ERRORS:
        return False


def context_of(engine: Engine, history: list[Item], added: list[Item]) -> tuple[list[Item], list[str]]:
    """History and input as a model sees them, and the calls that await an output."""
    everything = [*history, *added]
    _check_ids(everything, len(history))
    context = seen(everything, engine.sealer)
    # What a compaction item stands for counts as history, so that the input's items keep their numbers.
    return context, _check_pairs(context, len(history) + len(context) - len(everything))


def _check_ids(context: Sequence[Item], own: int) -> None:
    """An item stands once in a context: what the history has already must not be sent again."""
    known: set[str | None] = set()
    for index, item in enumerate(context):
        if item.id in known and index >= own:
            message = f"Duplicate item found with id {item.id}. Remove duplicate items from your input and try again."
            raise InvalidRequest(message, param=f"input[{index - own}].id", code="duplicate_item")
        known.add(item.id)


def _check_pairs(context: Sequence[Item], own: int) -> list[str]:
    """Each output needs its call before it: models reject, or are confused by, anything else. Calls without output.

    Likewise, what approves or refuses needs its request, and is the only one that does.
    """
    calls: dict[str, bool] = {}
    requests: dict[str | None, bool] = {}
    for index, item in enumerate(context):
        if isinstance(item, McpApprovalRequest):
            requests.setdefault(item.id, False)
        elif isinstance(item, McpApprovalResponse):
            _check_approval(item, requests, f"input[{index - own}]" if index >= own else "input")
        if (call := call_of(item)) is not None and getattr(item, "status", None) != "incomplete":
            calls[call.call_id] = False  # an id may come again: some hosts count their calls anew in every turn
        elif (answer := output_of(item)) is not None:
            if answer.call_id not in calls:
                message = f"No tool call found for function call output with call_id {answer.call_id}."
                at = f"input[{index - own}]" if index >= own else "input"
                raise InvalidRequest(message, param=at, code="tool_call_not_found")
            calls[answer.call_id] = True
    return [call_id for call_id, answered in calls.items() if not answered]


def _check_approval(item: McpApprovalResponse, requests: dict[str | None, bool], at: str) -> None:
    answered = requests.get(item.approval_request_id)
    if answered is None:
        message = f"No approval request found with id {item.approval_request_id!r}."
        raise InvalidRequest(message, param=f"{at}.approval_request_id", code="approval_request_not_found")
    if answered:
        message = f"The approval request {item.approval_request_id!r} was answered already; an answer counts once."
        raise InvalidRequest(message, param=f"{at}.approval_request_id", code="approval_used")
    requests[item.approval_request_id] = True


def for_model(engine: Engine, context: Sequence[Item]) -> list[Item]:
    """The context as the model is shown it: without calls that were cut off, and with what is sealed opened."""
    items: list[Item] = []
    for item in seen(context, engine.sealer):
        if getattr(item, "status", None) == "incomplete" and (isinstance(item, _CUT_OFF) or served_as(item)):
            continue
        if isinstance(item, AdditionalTools):
            continue  # they are among the model's functions
        if isinstance(item, UNSERVED_ITEMS):
            raise unserved(item, "conversation")
        opened = isinstance(item, Reasoning) and item.encrypted_content and not item.content
        items.append(_opened(engine, item, "input") if opened and isinstance(item, Reasoning) else marked(item))
    return _as_calls(engine, items)


def _as_calls(engine: Engine, items: Sequence[Item]) -> list[Item]:
    """What the server ran, as calls and outputs; those of one model call stand together, as the model made them."""
    if not any(map(served_as, items)):
        return list(items)
    out: list[Item] = []
    outputs: list[Item] = []
    between: list[Item] = []  # calls of the client's: of the same model call, if another one of that follows
    turn: int | None = None
    for item in items:
        tool = engine.tools.get(served_as(item))
        memory: Memory | None = getattr(item, "memory", None)
        made_in = memory.turn if memory else None
        if outputs and tool is None and call_of(item) is not None:
            between.append(item)
            continue
        if outputs and (tool is None or made_in is None or made_in != turn):
            out, outputs, between = [*out, *outputs, *between], [], []
        if tool is None:
            out.append(item)
            continue
        pair = tool.seen_among(item, items)
        if pair is None:
            continue
        (call, answer), turn = pair, made_in
        out += between
        between = []
        out.append(FunctionCall(call_id=call.call_id, name=call.name, arguments=call.arguments, status="completed"))
        outputs.append(FunctionCallOutput(call_id=answer.call_id, output=answer.output, status="completed"))
    return [*out, *outputs, *between]


def _opened(engine: Engine, item: Reasoning, at: str) -> Reasoning:
    text = engine.sealer.open(item.encrypted_content or "", at)
    return replace(item, content=[ReasoningText(text)])


def unserved(item: Item, at: str) -> Unsupported:
    """Why an item is refused that another server may honour."""
    kind = type(item).__struct_config__.tag
    return Unsupported(f"Items of type {kind!r} are not served by this server.", param=at, code="unsupported_item")
