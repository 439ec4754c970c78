"""Lines of a batch: cut from pieces, judged, and turned into lines of output."""

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from antiphon.engine.batch_lines import (
    Line,
    Reply,
    attempt_id,
    line_id,
    numbered,
    parse,
    result_of,
    unanswered,
    usage_of,
)
from antiphon.wire.batches import BatchError, LineError

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m", "messages": []}}


async def cut(*pieces: bytes, bytes_max: int = 100) -> list[tuple[int, bytes]]:
    """The lines of a file that comes in these pieces."""

    async def come() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [line async for line in numbered(come(), bytes_max)]


@given(some.binary(max_size=60), some.lists(some.integers(0, 60), max_size=5))
async def test_lines_do_not_depend_on_how_a_file_is_cut(text: bytes, cuts: list[int]) -> None:
    text = text.replace(b"\x00", b"\n")
    places = sorted({0, len(text), *(place for place in cuts if place < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    whole = [(number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    assert await cut(*pieces) == whole


async def test_of_a_line_that_is_too_long_only_a_beginning_is_kept() -> None:
    pieces = [b"a\n", *[b"x" * 40] * 50, b"\nb"]
    (_, first), (number, long), (_, last) = await cut(*pieces)
    assert (first, number, last) == (b"a", 2, b"b")
    assert 100 < len(long) <= 200


def test_a_good_line_is_taken_apart() -> None:
    body = b'{"model": "m", "messages": [ ]}'
    raw = b'{"custom_id": "a", "method": "POST", "url": "%b", "body": %b, "more": 1}' % (CHAT.encode(), body)
    assert parse(7, raw, CHAT) == Line(number=7, custom_id="a", model="m", body=body)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"custom_id": ""}, "invalid_request", "custom_id"),
        ({"method": "PUT"}, "invalid_method", "method"),
        ({"url": "/v1/responses"}, "invalid_url", "url"),
        ({"body": []}, "invalid_request", "body"),
        ({"body": {"model": 1, "messages": []}}, "invalid_request", "body.model"),
        ({"body": {**GOOD["body"], "stream": True}}, "streaming_unsupported", "body.stream"),
    ],
)
def test_the_first_thing_that_is_wrong_is_told(change: dict[str, Any], code: str, param: str) -> None:
    found = parse(3, json.dumps({**GOOD, **change}).encode(), CHAT)
    assert isinstance(found, BatchError)
    assert (found.code, found.line, found.param) == (code, 3, param)


@pytest.mark.parametrize("raw", [b"\xff", b"{", b'{"a": 1} x', b'{"a": ' + b"[" * 100_000])
def test_what_is_no_json_is_told(raw: bytes) -> None:
    found = parse(1, raw, CHAT)
    assert isinstance(found, BatchError)
    assert found.code == "invalid_json_line"


def test_stream_false_is_no_stream() -> None:
    body = {**GOOD["body"], "stream": False, "background": None}
    assert isinstance(parse(1, json.dumps({**GOOD, "body": body}).encode(), CHAT), Line)


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_becomes_one_line_whatever_its_layout(status: int) -> None:
    line = Line(number=2, custom_id="a\nb", model="m", body=b"")
    result = result_of("batch_00", line, Reply(status=status, body=b'{\n  "x": "\\n"\r\n}', request_id="req_1"))
    assert (result.seq, result.failed) == (2, status == 400)
    assert result.body.count(b"\n") == 1
    assert json.loads(result.body) == {
        "id": line_id("batch_00", 2),
        "custom_id": "a\nb",
        "response": {"status_code": status, "request_id": "req_1", "body": {"x": "\n"}},
        "error": None,
    }


def test_an_answer_that_is_no_json_is_kept_as_text() -> None:
    line = Line(number=1, custom_id="a", model="m", body=b"")
    result = result_of("batch_0", line, Reply(status=502, body=b"<html>\n\xff", request_id="r"))
    assert json.loads(result.body)["response"]["body"] == "<html>\n�"


def test_a_line_that_was_not_carried_out_says_why() -> None:
    result = unanswered("batch_0", 5, "a", error=LineError(code="batch_expired", message="late"))
    shown = json.loads(result.body)
    assert (result.failed, shown["response"]) == (True, None)
    assert shown["error"] == {"code": "batch_expired", "message": "late"}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            (5, 2, 3, 1, 8),
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 3,
                "input_tokens_details": {"cached_tokens": 2},
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            (5, 2, 3, 1, 8),
        ),
        ({"prompt_tokens": 5, "total_tokens": 5, "completion_tokens_details": None}, (5, 0, 0, 0, 5)),
        (None, (0, 0, 0, 0, 0)),
        ("much", (0, 0, 0, 0, 0)),
    ],
)
def test_usage_is_read_in_the_words_of_every_endpoint(usage: Any, tokens: tuple[int, ...]) -> None:
    found = usage_of(json.dumps({"usage": usage, "x": 1}).encode())
    details = (found.input_tokens_details.cached_tokens, found.output_tokens_details.reasoning_tokens)
    assert (found.input_tokens, details[0], found.output_tokens, details[1], found.total_tokens) == tokens


def test_attempts_differ_by_batch_line_and_attempt_and_by_nothing_else() -> None:
    keys = [attempt_id(*each) for each in (("b", "a", 0), ("b", "a", 1), ("b", "é\n", 0), ("c", "a", 0))]
    assert len(set(keys)) == 4
    assert attempt_id("b", "a", 0) == keys[0]
