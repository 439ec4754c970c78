"""What hosts say when something is wrong, as our errors."""

import json
from typing import Any

import pytest

from antiphon.errors import ApiError, ContextTooLong, Upstream, UpstreamRejected
from antiphon.models.chat_errors import MESSAGE_CHARS_MAX, Refused, cleaned, rejection, retry_after_s


def rejected(status: int, body: Any, headers: dict[str, str] | None = None, secrets: tuple[str, ...] = ()) -> ApiError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rejection("h", Refused(status=status, headers=headers or {}, body=data, at=0.0), secrets)


def test_openais_body_keeps_status_message_type_param_and_code() -> None:
    body = {"error": {"message": "No such model.", "type": "invalid_request_error", "param": "model", "code": "gone"}}
    error = rejected(404, body)
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.body()) == (404, body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "model not found"}, "model not found"),
        ({"error": {"message": "m", "code": 400}}, "m"),
        ({"error": {"message": {"deep": 1}}}, '{"deep":1}'),
        ({"error": {"type": "x"}}, '{"type":"x"}'),
        ([{"error": {"message": "from Gemini"}}], "from Gemini"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, "field required (body.messages)"),
        ({"object": "error", "message": "old vLLM", "code": 400}, "old vLLM"),
        ({"message": "plain"}, "plain"),
        ({"error": {"message": "Provider error", "metadata": {"raw": "busy"}}}, "Provider error: busy"),
        (b"  no healthy\nupstream ", "no healthy upstream"),
        (b"<html><head><title>t</title></head><body><h1>502 Bad &amp; worse</h1></body></html>", "502 Bad & worse"),
        (b"", "Host 'h' answered with status 503 and no message."),
        (b"<html></html>", "Host 'h' answered with status 503 and no message."),
        (b"{}", "{}"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 5000, "[" * (MESSAGE_CHARS_MAX - 3) + "..."),
        (b'{"error":' * 50 + b"1" + b"}" * 50, None),
    ],
)
def test_the_message_is_found_in_every_known_form(body: Any, message: str | None) -> None:
    error = rejected(503, body)
    assert error.status == 503
    assert error.message == message or message is None


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "upstream_error"),
        (401, "authentication_error", "invalid_api_key"),
        (403, "permission_error", "forbidden"),
        (404, "invalid_request_error", "model_not_found"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (500, "upstream_error", "upstream_error"),
        (503, "upstream_error", "upstream_error"),
    ],
)
def test_a_status_without_words_still_says_what_it_is(status: int, kind: str, code: str) -> None:
    error = rejected(status, b"")
    assert (error.status, error.type, error.code) == (status, kind, code)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 600])
def test_a_status_that_is_neither_answer_nor_error_is_a_bad_gateway(status: int) -> None:
    error = rejected(status, b"")
    assert type(error) is Upstream
    assert str(status) in error.message


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "the request exceeds the available context size, try increasing it",
        "input length (9000 tokens) exceeds the model's context window",
        "Please reduce the length of the messages or completion.",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "The prompt is too long: 210000 tokens > 200000 maximum",
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
        "prompt length 9000 exceeds context length 8192",
    ],
)
def test_a_context_that_is_too_long_is_recognised_in_the_words_of_each_host(message: str) -> None:
    error = rejected(400, {"error": {"message": message}})
    assert isinstance(error, ContextTooLong)
    assert (error.status, error.code, error.message) == (400, "context_length_exceeded", message)


def test_a_context_that_is_too_long_is_recognised_by_its_code() -> None:
    assert isinstance(rejected(400, {"error": {"message": "m", "code": "context_length_exceeded"}}), ContextTooLong)


@pytest.mark.parametrize("message", ["Your prompt was flagged.", "max_tokens is too large", "Image is too long a URL"])
def test_other_bad_requests_are_not_mistaken_for_it(message: str) -> None:
    assert type(rejected(400, {"error": {"message": message}})) is UpstreamRejected


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT", "date": "Thu, 01 Jan 1970 00:01:20 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_seconds_or_a_date_by_the_hosts_clock(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers, now=60.0) == wait_s


def test_a_rejection_carries_the_wait() -> None:
    assert rejected(429, {"error": "slow"}, {"retry-after": "7"}).retry_after_s == 7.0


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Incorrect API key provided: sk-proj-abcdefgh1234.", "Incorrect API key provided: ***"),
        ("Invalid token gsk_abcdefgh1234, sorry", "Invalid token ***, sorry"),
        ("You sent 'Bearer abc.def'", "You sent '***'"),
        ("my configured-secret was repeated", "my *** was repeated"),
    ],
)
def test_no_message_shows_a_key(message: str, shown: str) -> None:
    assert cleaned(message, secrets=("configured-secret",)) == shown


def test_a_long_message_is_cut() -> None:
    assert len(cleaned("x" * 10_000)) == MESSAGE_CHARS_MAX
