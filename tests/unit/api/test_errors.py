"""Errors as clients see them."""

import json

import pytest

from antiphon.api.errors import refusal, unknown_url, wrong_method
from antiphon.errors import InvalidRequest, RateLimited


def test_a_refusal_is_openais_body() -> None:
    status, body, headers = refusal(InvalidRequest("No.", param="input[0].role", code="c"))
    assert status == 400
    assert json.loads(body) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "input[0].role", "code": "c"}
    }
    assert headers == []


@pytest.mark.parametrize(("wait_s", "shown"), [(7, b"7"), (0.2, b"1"), (0, b"0"), (-3, b"0")])
def test_a_wait_is_rounded_up_to_whole_seconds(wait_s, shown) -> None:
    assert refusal(RateLimited("Wait.", retry_after_s=wait_s))[2] == [(b"retry-after", shown)]


def test_an_unknown_url_says_what_was_probably_meant() -> None:
    known = ["/v1/models", "/v1/models/{model:path}", "/v1/chat/completions"]
    assert "Did you mean /v1/models?" in unknown_url("GET", "/models", known).message
    assert "Did you mean /v1/chat/completions?" in unknown_url("POST", "/v1/chat/completion", known).message
    assert "/openapi.json" in unknown_url("GET", "/x", known).message


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/v1/messages", "/v1/messages/count_tokens"])
def test_the_url_of_another_api_is_named_as_what_it_is(path: str) -> None:
    assert "Anthropic's Messages API is not served" in unknown_url("POST", path, ["/v1/models"]).message


def test_a_long_url_is_cut() -> None:
    assert len(unknown_url("GET", "/" + "x" * 100_000, []).message) < 400
    assert len(wrong_method("GET", "/" + "x" * 100_000, ["POST"]).message) < 400
