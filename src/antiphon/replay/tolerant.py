"""When do two requests ask a model the same thing? The forgiving comparison, for recordings that other software made.

What counts: the endpoint, the model, the messages in their meaning, the functions offered. What does not: the way in
which a dialect writes them (one text part or a string, empty or absent content, an `index` in a call, a turn's calls in
one message or several, `developer` or `system`, white space between and around texts), ids of calls, the scores of a
file search, sampling parameters, `stream` and `stream_options`, `strict`, null members.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from antiphon.replay.canonical import canonical

_SCORE = re.compile(r"(?<=, score: )-?[0-9.e+-]+(?=, attributes: )")
"""How well a file fits a question, as Llama Stack tells the model: it depends on what embeds."""
_SKIPPED_IN_FUNCTIONS = frozenset({"type", "strict"})


def key_of(endpoint: str, body: Any) -> str | None:
    """The digest that is equal for requests that ask the same; None where this comparison does not apply."""
    meaning = meaning_of(endpoint, body)
    if meaning is None:
        return None
    return hashlib.sha256(msgspec.json.encode([endpoint, meaning], order="deterministic")).hexdigest()


def meaning_of(endpoint: str, body: Any) -> Any:
    """What a body asks, in a form in which equal means equal; None where there is no telling."""
    if not isinstance(body, dict):
        return None
    model = body.get("model")
    if endpoint == "/chat/completions":
        said = {"model": model, "messages": _messages(body.get("messages")), "tools": _tools(body.get("tools"))}
    elif endpoint == "/completions":
        said = {"model": model, "prompt": _one_or_many(body.get("prompt")), "suffix": body.get("suffix") or None}
    elif endpoint == "/embeddings":
        # Few hosts can shorten vectors: the number of dimensions is part of what is asked.
        said = {"model": model, "input": _one_or_many(body.get("input")), "dimensions": body.get("dimensions")}
    else:
        return None
    return canonical(said)


def _one_or_many(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def _messages(messages: Any) -> list[Any]:
    """Messages as a flat list of what is said, called and answered.

    Between two texts, calls come before their outputs: whether a turn's parallel calls are written as one message, or
    as one pair after the other, is a dialect's choice.
    """
    out: list[Any] = []
    calls: list[Any] = []
    outputs: list[Any] = []
    for entry in _entries(messages):
        if "call" in entry:
            calls.append(entry)
        elif "output" in entry:
            outputs.append(entry)
        else:
            out += [*calls, *outputs, entry]
            calls, outputs = [], []
    return [*out, *calls, *outputs]


def _entries(messages: Any) -> Iterator[dict[str, Any]]:
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            yield {"odd": message}
            continue
        role = message.get("role")
        content = _content(message.get("content"))
        if role in ("tool", "function"):
            content = _SCORE.sub("", content) if isinstance(content, str) else content
            call_id = message.get("tool_call_id") or message.get("name")
            # `tool_calls` and `role` keep the ids' meaning for the renaming in `canonical`.
            yield {"role": "tool", "tool_call_id": call_id, "output": content}
            continue
        if content:
            yield {"role": "system" if role == "developer" else role, "content": content}
        if message.get("refusal"):
            yield {"role": role, "refusal": message["refusal"]}
        for call in message.get("tool_calls") or ():
            yield {"tool_calls": [{"id": call.get("id")}], "call": _call(call)}


def _content(content: Any) -> Any:
    """Text as one string with its white space evened out; a list only where there is more than text."""
    if content is None or isinstance(content, str):
        return " ".join((content or "").split())
    parts: list[Any] = []
    texts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            texts.append(text)
            continue
        if texts:
            parts.append(_content(" ".join(texts)))
            texts = []
        parts.append(_part(part))
    if texts or not parts:
        parts.append(_content(" ".join(texts)))
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts


def _part(part: Any) -> Any:
    """A part that is no text; how closely to look at an image is no part of the question."""
    if isinstance(part, dict) and isinstance(part.get("image_url"), dict):
        return {"image_url": part["image_url"].get("url")}
    return _without_nulls(part)


def _call(call: Any) -> Any:
    function = call.get("function") or call.get("custom") or {}
    arguments = function.get("arguments", function.get("input"))
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        arguments = str(arguments).strip()
    return {"name": function.get("name"), "arguments": arguments or {}}


def _tools(tools: Any) -> list[Any]:
    """The functions offered, in order."""
    out = []
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        kept = {name: value for name, value in function.items() if name not in _SKIPPED_IN_FUNCTIONS and value}
        if not (kept.get("parameters") or {}).get("properties"):
            kept.pop("parameters", None)  # no parameters: left out by some, an empty object's schema for others
        out.append(_without_nulls(kept))
    return out


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(member) for member in value]
    return value
