"""No secret reaches a recording, and nothing else is lost."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.replay import redact
from antiphon.replay.redact import REDACTED

SECRETS = [
    "sk-proj-abcDEF1234567890abcdef",
    "sk-ant-api03-ABCDEFGHIJ1234567890-xyz",
    "gsk_abcdefghij1234567890abcd",
    "hf_ABCDEFghijkl1234567890mnop",
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "xoxb-1234567890-abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "dapi0123456789abcdef0123456789abcdef",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
]
HARMLESS = [
    "task-oriented-dialogue-systems-2024",
    "the risk-based approach",
    "sk-learn",
    "Bearer of news",
    "ask-me-anything",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_key_is_taken_out(secret: str) -> None:
    assert redact.text(f"use {secret} now") == f"use {REDACTED} now"
    assert redact.json({"a": [{"b": secret}]}) == {"a": [{"b": REDACTED}]}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_resembles_a_key_stays(text: str) -> None:
    assert redact.text(text) == text


def test_a_bearer_token_keeps_the_word_bearer() -> None:
    assert redact.text("Authorization: Bearer abcdefghijklmnop==") == f"Authorization: Bearer {REDACTED}"


@pytest.mark.parametrize("name", ["api_key", "API-Key", "password", "openai_api_key", "client_secret", "Authorization"])
def test_members_that_hold_secrets_lose_their_text(name: str) -> None:
    assert redact.json({name: "hunter2", "x": "hunter2"}) == {name: REDACTED, "x": "hunter2"}


def test_a_schema_that_describes_a_password_is_no_password() -> None:
    schema = {"properties": {"password": {"type": "string"}}}
    assert redact.json(schema) == schema


def test_secrets_inside_a_calls_arguments_are_taken_out() -> None:
    assert redact.text('{"user": "ada", "password": "hunter2"}') == f'{{"user": "ada", "password": "{REDACTED}"}}'
    assert redact.text(r'"{\"api_key\": \"hunter2\"}"') == rf'"{{\"api_key\": \"{REDACTED}\"}}"'


def test_the_requests_own_key_is_taken_out_wherever_it_stands() -> None:
    keys = redact.keys_in(
        {"Authorization": "Bearer local-key-1", "x-tenant-token": "another1", "accept": "text/event-stream"}
    )
    assert keys == ("local-key-1", "another1")
    assert redact.text("you sent local-key-1", keys) == f"you sent {REDACTED}"
    assert redact.keys_in({"authorization": "Bearer EMPTY"}) == ()


def test_headers_are_denied_unless_listed() -> None:
    given_headers = {"Content-Type": "application/json", "X-Request-Id": "1", "Set-Cookie": "a", "Retry-After": "7"}
    assert redact.headers(given_headers, redact.ANSWER_HEADERS) == {
        "content-type": "application/json",
        "retry-after": "7",
    }


def test_a_url_loses_its_credentials() -> None:
    url = "https://user:pass@h.example:8/v1/models?key=abc&api-version=2024-01&sig=x"
    assert redact.url(url) == "https://h.example:8/v1/models?api-version=2024-01&key=[redacted]&sig=[redacted]"


@pytest.mark.parametrize("value", [*SECRETS, '{"password": "x y"}', "Bearer abcdefghijklmnop"])
def test_redacting_twice_changes_nothing_more(value: str) -> None:
    once = redact.text(value)
    assert redact.text(once) == once
    assert redact.pieces([once.encode()]) == [once.encode()]


@given(st.data(), st.lists(st.sampled_from([*SECRETS[:4], "é", "plain ", "data: {}\n\n"]), max_size=8))
def test_a_secret_is_found_across_any_boundaries(data: st.DataObject, parts: list[str]) -> None:
    whole = " ".join(parts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    clean = redact.pieces(pieces)
    assert len(clean) == len(pieces)
    assert b"".join(clean).decode() == redact.text(whole.decode())


def events(*texts: str, **more: Any) -> list[bytes]:
    """A stream that says these texts, one an event, on the second of two calls."""
    said = [{"tool_calls": [{"index": 1, "function": {"arguments": text}}], **more} for text in texts]
    return [b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() for delta in said]


def test_a_secret_that_a_model_says_token_by_token_is_found() -> None:
    cleaned = redact.pieces(events("key sk-", "proj-abc", "DEF1234567890", "abcdef", " noted", content="x"))
    wanted = events(f"key {REDACTED}", "", "", "", " noted", content="x")
    assert [json.loads(each[6:]) for each in cleaned] == [json.loads(each[6:]) for each in wanted]
    assert cleaned[-1] == wanted[-1]
    assert b"local" not in b"".join(redact.pieces(events("your local", "-key", "-1"), ["local-key-1"]))
    assert b"hunter" not in b"".join(redact.pieces(events('{"pass', 'word": "hun', 'ter2"}')))


def test_a_stream_without_secrets_keeps_its_bytes() -> None:
    given_pieces = [*events("sk-", "learn", content="a"), b"data: {broken\n\n", b"data: [1]\n\n", b"data: [DONE]\n\n"]
    assert redact.pieces(given_pieces) == given_pieces


def test_the_tokens_of_a_secret_lose_the_bytes_that_spell_them_out() -> None:
    tokens = [
        {"logprobs": {"content": [{"token": text, "bytes": list(text.encode())}]}}
        for text in ("sk-proj-abc", "DEF1234567890abcdef")
    ]
    cleaned = redact.deltas([{"choices": [{"index": 0, **each}]} for each in tokens])
    found = [each["choices"][0]["logprobs"]["content"][0] for each in cleaned]
    assert found == [{"token": REDACTED, "bytes": None}, {"token": "", "bytes": None}]


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_bytes_without_secrets_stay_as_they_are(pieces: list[bytes]) -> None:
    assert redact.pieces(pieces) == pieces


def test_a_secret_among_bytes_that_are_no_text_is_found() -> None:
    secret = SECRETS[0].encode()
    assert redact.pieces([b"\xff" + secret[:5], secret[5:] + b"\xfe"]) == [b"\xff" + REDACTED.encode(), b"\xfe"]


def test_a_picture_stays_a_picture() -> None:
    picture: Any = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 20).decode()
    assert redact.json({"image_url": {"url": picture}}) == {"image_url": {"url": picture}}
