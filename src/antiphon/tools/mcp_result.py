"""What an MCP server says, as data: its tools as functions, its results as a model is told them. Pure.

Nothing of it is trusted: names, schemas and sizes are whatever the server likes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from antiphon.connectors import McpConfig
from antiphon.errors import ApiError, McpRefused
from antiphon.wire.items import InputImage, InputPart, InputText
from antiphon.wire.tools import McpFilter

NAME_CHARS_MAX = 64
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")


class Server(Struct, frozen=True, kw_only=True):
    """Where a server is, with what it is asked, and whether a client chose its address.

    `args` are what its tools are given where a call says nothing else.
    """

    url: str
    headers: Mapping[str, str]
    guarded: bool
    args: Mapping[str, Any] = {}


def error_of(error: ApiError) -> dict[str, Any]:
    """A failed call's error, as the item shows it."""
    if isinstance(error, McpRefused) and error.http_status is None:
        return {"type": "mcp_protocol_error", "code": error.number, "message": error.message}
    status = error.http_status if isinstance(error, McpRefused) else error.status
    return {"type": "http_error", "code": status, "message": error.message}


# ---------------------------------------------------------------- tools


def harmless(hints: Mapping[str, Any]) -> bool:
    """Whether a tool says of itself that a second call does no harm."""
    return any(hints.get(hint) is True for hint in ("readOnlyHint", "idempotentHint"))


def matches(wanted: Sequence[str] | McpFilter | None, name: str, hints: Mapping[str, Any] | None) -> bool:
    """Whether a filter lets a tool through; None lets all. Without hints, only names are looked at."""
    if wanted is None:
        return True
    if not isinstance(wanted, McpFilter):
        return name in wanted
    if wanted.tool_names is not None and name not in wanted.tool_names:
        return False
    if wanted.read_only is None or hints is None:
        return True
    return wanted.read_only == (hints.get("readOnlyHint") is True)


def listed(tools: Iterable[Mapping[str, Any]], config: McpConfig) -> tuple[list[dict[str, Any]], list[str]]:
    """The tools as an item shows them, and for those that are left out, which and why."""
    found: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    for tool in tools:
        name = str(tool.get("name", ""))
        fault = _fault(name, tool, found, config=config)
        if fault:
            wrong.append(f"{name[:NAME_CHARS_MAX]!r} {fault}")
            continue
        shown: dict[str, Any] = {"name": name, "input_schema": tool.get("inputSchema") or {"type": "object"}}
        for key in ("description", "annotations"):
            if tool.get(key):
                shown[key] = tool[key]
        found[name] = shown
    return list(found.values()), wrong


def _fault(name: str, tool: Mapping[str, Any], found: Mapping[str, Any], *, config: McpConfig) -> str:
    if not name.strip() or len(name) > 256:
        return "has no usable name"
    if name in found:
        return "is there twice"
    if len(found) >= config.tools_max:
        return f"is beyond the {config.tools_max} tools that are allowed"
    schema = tool.get("inputSchema")
    size = len(msgspec.json.encode([schema, tool.get("description"), tool.get("annotations")]))
    if size > config.tool_bytes_max:
        return f"is described in {size} bytes; {config.tool_bytes_max} are allowed"
    return _schema_fault(schema)


def _schema_fault(schema: Any) -> str:
    """What of a schema would be refused by model hosts, and with it the whole request."""
    if schema is None:
        return ""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return "takes something that is no object"
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(each, dict | bool) for each in properties.values()):
        return "has a schema whose `properties` are none"
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        return "has a schema whose `required` is no list of names"
    return ""


def function_name(name: str) -> str:
    """A name as every model host takes it."""
    return _UNFIT.sub("_", name)[:NAME_CHARS_MAX]


def parameters(schema: Any) -> dict[str, Any]:
    """A tool's schema as a function's."""
    return {"type": "object", **schema} if isinstance(schema, dict) else {"type": "object"}


# ---------------------------------------------------------------- results


class Told(Struct, frozen=True, kw_only=True):
    """A result: what the model is told, and the same as one text."""

    parts: list[InputPart]
    text: str


def told(result: Mapping[str, Any], config: McpConfig, *, images: bool) -> Told:
    """What a model is told of a result: texts, images where the model takes some, and words for everything else."""
    blocks = [block for block in result.get("content") or () if isinstance(block, dict)]
    shown: list[InputPart] = []
    texts: list[str] = []
    left, room = config.result_bytes_max, config.image_bytes_max if images else 0
    for block in blocks:
        picture = _image(block, room)
        if picture is not None:
            room -= len(picture)
            shown.append(InputImage(image_url=picture))
        text = _described(block) if block.get("type") != "text" else str(block.get("text", ""))
        cut = _cut(text, left, config.result_bytes_max)
        left -= len(text.encode(errors="replace"))
        if picture is None and cut:
            shown.append(InputText(text=cut))
        if cut:
            texts.append(cut)
    structured = result.get("structuredContent")
    if structured is not None and not any(block.get("type") == "text" for block in blocks):
        said = _cut(msgspec.json.encode(structured).decode(), max(left, 0), config.result_bytes_max)
        shown.append(InputText(text=said))
        texts.append(said)
    if not shown:
        shown.append(InputText(text=""))
    return Told(parts=shown, text="\n".join(texts))


def _cut(text: str, left: int, most: int) -> str:
    """The text as far as there is room; "" where there was none before it."""
    whole = text.encode(errors="replace")
    if len(whole) <= left:
        return text
    if left <= 0:
        return ""
    return f"{whole[:left].decode(errors='ignore')}\n[cut off here: more than the {most} bytes that are allowed]"


def _image(block: Mapping[str, Any], room: int) -> str | None:
    """An image as a data URL, if it is one and there is room."""
    kind, content = block.get("mimeType"), block.get("data")
    if block.get("type") != "image" or kind not in _IMAGES or not isinstance(content, str) or len(content) > room:
        return None
    return f"data:{kind};base64,{content}"


def _described(block: Mapping[str, Any]) -> str:
    """What is no text, in words."""
    kind = block.get("type")
    if kind == "resource":
        resource = block.get("resource") or {}
        if isinstance(resource.get("text"), str):
            return str(resource["text"])
        return f"[resource {resource.get('uri')}: {_size(resource.get('mimeType'), resource.get('blob'))}]"
    if kind == "resource_link":
        words = [str(block[key]) for key in ("name", "title", "description", "mimeType") if block.get(key)]
        return f"[resource {block.get('uri')}: {', '.join(words)}]"
    return f"[{kind}: {_size(block.get('mimeType'), block.get('data'))}]"


def _size(kind: Any, content: Any) -> str:
    bytes_ = len(content) * 3 // 4 if isinstance(content, str) else 0
    return f"{kind or 'unknown type'}, about {bytes_} bytes"


def without_bytes(blocks: Any) -> Iterator[Any]:
    """The blocks of a failed result as its item shows them: texts, and words for everything else."""
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            yield block if block.get("type") == "text" else {"type": "text", "text": _described(block)}
