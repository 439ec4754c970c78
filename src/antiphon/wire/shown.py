"""What of a tool call's item a client sees: nothing of the server's memory, and the rest where it asks for it. Pure."""

from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from antiphon.wire.items import (
    CodeInterpreterCall,
    FileSearchCall,
    ImageGenerationCall,
    Item,
    McpApprovalRequest,
    McpCall,
    McpListTools,
    ShellCall,
    ToolSearchCall,
    WebSearchCall,
)
from antiphon.wire.responses import Includable

RESULTS: Includable = "file_search_call.results"
WEB_RESULTS: Includable = "web_search_call.results"
WEB_SOURCES: Includable = "web_search_call.action.sources"
OUTPUTS: Includable = "code_interpreter_call.outputs"


def shown(item: Item, include: Collection[str]) -> Item:
    """The item without what `include` does not name, and without memory."""
    match item:
        case FileSearchCall():
            results = item.results if RESULTS in include else None
            return replace(item, results=results and [_result(result) for result in results], memory=None)
        case WebSearchCall():
            action, results = item.action, item.results if WEB_RESULTS in include else None
            if action and WEB_SOURCES not in include:
                action = {name: value for name, value in action.items() if name != "sources"}
            return replace(item, action=action, results=results, memory=None)
        case CodeInterpreterCall():
            hidden = item.outputs and OUTPUTS not in include
            return replace(item, outputs=None if hidden else item.outputs, memory=None)
        case ShellCall() | ImageGenerationCall() | ToolSearchCall() | McpListTools() | McpCall() | McpApprovalRequest():
            return replace(item, memory=None)
        case _:
            return item


def _result(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("similarity", "tokens")}
