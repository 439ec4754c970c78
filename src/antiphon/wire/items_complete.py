"""Completes items before they are stored or sent: id, status, and content in parts. Pure."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import structs

from antiphon.wire.items import (
    ID_PREFIXES,
    CustomToolCallOutput,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OutputText,
    ToolSearchCall,
    ToolSearchOutput,
)

_WITH_STATUS = frozenset(kind for kind in ID_PREFIXES if "status" in kind.__struct_fields__)  # type: ignore[attr-defined]


def complete_items(items: Iterable[Item], new_child: Callable[[str], str]) -> list[Item]:
    """The same items, each with an id (`new_child(prefix)` makes missing ones), a status and content in parts.

    What an item has, it keeps; items that lack nothing are handed on as they are, others as copies. Kinds without a
    prefix (references) are handed on too: whoever resolves them knows what they stand for.
    """
    return [_complete(item, new_child) for item in items]


def _complete(item: Item, new_child: Callable[[str], str]) -> Item:
    kind = type(item)
    changes: dict[str, Any] = {}
    if item.id is None and kind in ID_PREFIXES:
        changes["id"] = new_child(ID_PREFIXES[kind])
    if kind in _WITH_STATUS and item.status is None:  # type: ignore[union-attr]
        changes["status"] = "completed"
    if isinstance(item, Message) and isinstance(item.content, str):
        part = OutputText if item.role == "assistant" else InputText
        changes["content"] = [part(text=item.content)]
    elif isinstance(item, Message) and any(map(_lacks_detail, item.content)):
        changes["content"] = [_with_detail(part) for part in item.content]
    elif isinstance(item, ToolSearchCall | ToolSearchOutput) and item.execution is None:
        changes["execution"] = "client" if item.call_id else "server"
    elif isinstance(item, FunctionCallOutput | CustomToolCallOutput) and any(map(_lacks_detail, item.output)):
        changes["output"] = [_with_detail(part) for part in item.output]
    return structs.replace(item, **changes) if changes else item


def _lacks_detail(part: object) -> bool:
    """Clients' types require the detail of an image that they read, but not of one that they send."""
    return isinstance(part, InputImage) and part.detail is None


def _with_detail(part: Any) -> Any:
    return structs.replace(part, detail="auto") if _lacks_detail(part) else part
