"""Streams and responses are what the document of Open Responses says, in all that it knows."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from antiphon.testing.host import EMPTY_STREAM, Answer, Call, Host, Reply, error_inside
from antiphon.testing.server import Server

FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
EVERYTHING: dict[str, Any] = {
    "instructions": "Be brief",
    "temperature": 0.2,
    "reasoning": {"effort": "low"},
    "text": {"verbosity": "low"},
    "metadata": {"a": "b"},
    "safety_identifier": "s",
    "max_output_tokens": 20,
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    "parallel_tool_calls": False,
    "truncation": "auto",
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
}
UNKNOWN_TO_IT = {"response.reasoning_text.delta", "response.reasoning_text.done"}
"""Events for which OpenAI's document, which wins, has another name."""


@pytest.mark.parametrize("asked", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize(
    "answer",
    [
        Reply(text=["a", "b"], reasoning=["t"], logprobs=True),
        Reply(refusal=["no"]),
        Reply(calls=[Call(name="f", arguments=['{"a"', ":1}"])]),
        Reply(text=["a"], finish="length"),
        EMPTY_STREAM,
        error_inside("a"),
    ],
    ids=["text", "refusal", "call", "incomplete", "empty", "error"],
)
def test_streams_and_responses_are_valid(
    server: Server, host: Host, shared: Path, answer: Answer, asked: dict[str, Any]
) -> None:
    document = json.loads((shared / "openapi" / "openresponses-2026-04-24.json").read_text())
    schemas = document["components"]["schemas"]
    kinds = [
        (name, schema["properties"]["type"]) for name, schema in schemas.items() if name.endswith("StreamingEvent")
    ]
    names = {kind["enum"][0]: name for name, kind in kinds}

    def check(name: str, value: Any) -> None:
        jsonschema_rs.validate({"$ref": f"#/components/schemas/{name}", "components": document["components"]}, value)

    host.answer(answer)
    stream = server.stream(input="Hi", tools=[FUNCTION], **asked)
    for event in stream.events:
        if event["type"] not in UNKNOWN_TO_IT:
            check(names[event["type"]], event)
    check("ResponseResource", server.get(f"/responses/{stream.response['id']}").json)
