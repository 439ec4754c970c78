"""Counting tokens with a vocabulary that comes with the package."""

import base64

import pytest

from antiphon.models.base import Function, ModelRequest
from antiphon.models.tokens import (
    ANSWER_TOKENS,
    CALL_TOKENS,
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    SLICE_CHARS,
    count_tokens,
)
from antiphon.wire.items import FunctionCall, FunctionCallOutput, InputImage, InputText, Item, Message
from antiphon.wire.responses import JsonSchemaFormat

FRAME = ANSWER_TOKENS + MESSAGE_TOKENS + 1


def count(*items: Item, **fields: object) -> int:
    return count_tokens(ModelRequest(model="m", items=items, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("hello world", 2), ("<|endoftext|>", 7), ("Straßenbahnhaltestelle", 7)]
)
def test_a_message_is_its_text_and_a_frame(text: str, tokens: int) -> None:
    """Words that look like special tokens are text like any other."""
    assert count(Message(role="user", content=text)) == FRAME + tokens


def test_instructions_are_a_message() -> None:
    assert count(instructions="hello world") == count(Message(role="user", content="hello world"))


def test_parts_are_counted_each_by_its_kind() -> None:
    image = InputImage(image_url="data:image/png;base64," + base64.b64encode(b"x" * 9000).decode(), detail="low")
    message = Message(role="user", content=[InputText(text="hello world"), image])
    assert count(message) == FRAME + 2 + IMAGE_TOKENS["low"]


def test_calls_and_outputs_are_counted() -> None:
    call = FunctionCall(call_id="c", name="hello", arguments="{}")
    output = FunctionCallOutput(call_id="c", output="hello world")
    assert count(call, output) == ANSWER_TOKENS + 2 * (MESSAGE_TOKENS + 1) + CALL_TOKENS + 1 + 1 + 2


def test_functions_and_schemas_are_counted() -> None:
    plain = count()
    assert count(functions=(Function(name="weather", description="Tells the weather."),)) > plain + 10
    assert count(format=JsonSchemaFormat(name="city", schema={"type": "object"})) > plain + 5


def test_a_long_text_is_counted_in_slices_with_nothing_lost() -> None:
    words = "word " * (SLICE_CHARS // 2)
    assert abs(count(Message(role="user", content=words)) - FRAME - len(words) // 5) <= 4
