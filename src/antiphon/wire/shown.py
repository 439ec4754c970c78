"""What of a tool call's item a client sees: nothing of the server's memory, and the rest where it asks for it. Pure."""

from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from antiphon.wire.items import FileSearchCall, Item
from antiphon.wire.responses import Includable

RESULTS: Includable = "file_search_call.results"


def shown(item: Item, include: Collection[str]) -> Item:
    """The item without what `include` does not name, and without memory."""
    if isinstance(item, FileSearchCall):
        results = item.results if RESULTS in include else None
        return replace(item, results=results and [_result(result) for result in results], memory=None)
    return item


def _result(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("similarity", "tokens")}
