"""One answer, two shapes: a whole chat completion as a stream and back, vectors as floats and as base64.

A recording of one shape can so answer a request for the other, where the forgiving comparison found it.
"""

import base64
import struct
from typing import Any, Final

import msgspec

from antiphon.replay.llama_stack import events, stream_answer, whole_answer
from antiphon.replay.recording import Answer

_CHUNK: Final = "chat.completion.chunk"


def fitting(answer: Answer, endpoint: str, body: Any) -> Answer:
    """`answer` in the shape that the request with this body expects; as it is where that is not possible."""
    if answer.status != 200 or answer.end != "complete" or not isinstance(body, dict):
        return answer
    streamed = answer.headers.get("content-type", "").startswith("text/event-stream")
    if endpoint == "/chat/completions" and streamed != bool(body.get("stream")):
        return _assembled(answer) if streamed else _split(answer)
    if endpoint == "/embeddings":
        return _encoded(answer, body.get("encoding_format") or "float")
    return answer


def _split(answer: Answer) -> Answer:
    """A whole completion as a stream: for each choice one chunk with all it says and one that ends it, then usage."""
    whole = msgspec.json.decode(answer.body)
    head = {"id": whole.get("id"), "object": _CHUNK, "created": whole.get("created"), "model": whole.get("model")}
    chunks = []
    for choice in whole.get("choices") or ():
        index, message = choice.get("index", 0), choice.get("message") or {}
        calls = [{**call, "index": at} for at, call in enumerate(message.get("tool_calls") or ())]
        delta = {**message, "tool_calls": calls or None}
        said = {"index": index, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": None}
        ended = {"index": index, "delta": {}, "logprobs": None, "finish_reason": choice.get("finish_reason")}
        chunks += [{**head, "choices": [said]}, {**head, "choices": [ended]}]
    if whole.get("usage"):
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return stream_answer(chunks)


def _assembled(answer: Answer) -> Answer:
    """A stream as the whole completion that it adds up to."""
    whole: dict[str, Any] = {"object": "chat.completion", "choices": [], "usage": None}
    choices: dict[int, dict[str, Any]] = {}
    for event in events(answer.body):
        chunk = msgspec.json.decode(event)
        for name in ("id", "created", "model", "system_fingerprint", "service_tier", "usage"):
            if chunk.get(name) is not None:
                whole[name] = chunk[name]
        for part in chunk.get("choices") or ():
            index = part.get("index", 0)
            empty: dict[str, Any] = {"message": {"role": "assistant", "content": None}, "finish_reason": None}
            choice = choices.setdefault(index, {"index": index, "logprobs": None, **empty})
            _add(choice["message"], part.get("delta") or {})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            for tokens, more in (part.get("logprobs") or {}).items():
                if more:
                    choice["logprobs"] = choice["logprobs"] or {}
                    choice["logprobs"].setdefault(tokens, []).extend(more)
    whole["choices"] = [choices[index] for index in sorted(choices)]
    return whole_answer(whole)


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Adds a delta to a message: texts grow, calls are found by their index."""
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value or ():
                _add_call(message.setdefault("tool_calls", []), call)
        elif name == "role":
            message["role"] = value or message["role"]
        elif isinstance(value, str):
            message[name] = (message.get(name) or "") + value


def _add_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    index = piece.get("index") or 0
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[index], piece.get("function") or {}
    call["id"] = piece.get("id") or call["id"]
    call["function"]["name"] = function.get("name") or call["function"]["name"]
    call["function"]["arguments"] += function.get("arguments") or ""


def _encoded(answer: Answer, encoding: str) -> Answer:
    """Vectors as the request wants them: lists of floats, or base64 of little-endian float32."""
    whole = msgspec.json.decode(answer.body)
    changed = False
    for entry in whole.get("data") or ():
        vector = entry.get("embedding")
        if encoding == "base64" and isinstance(vector, list):
            entry["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            changed = True
        elif encoding == "float" and isinstance(vector, str):
            packed = base64.b64decode(vector)
            entry["embedding"] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
            changed = True
    return whole_answer(whole) if changed else answer
