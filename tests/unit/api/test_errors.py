"""Errors as clients and the log see them."""

import json
import time

import pytest

from antiphon.api.errors import FRAMES_MAX, brief, refusal, unknown_url, wrong_method
from antiphon.errors import InvalidRequest, RateLimited


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """The error as it is once it was raised."""

    def throw() -> None:
        raise error from cause

    with pytest.raises(type(error)) as caught:
        throw()
    return caught.value


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


def test_a_long_url_is_cut() -> None:
    assert len(unknown_url("GET", "/" + "x" * 100_000, []).message) < 400
    assert len(wrong_method("GET", "/" + "x" * 100_000, ["POST"]).message) < 400


def test_a_traceback_names_places_and_causes_without_source() -> None:
    text = brief(raised(ValueError("outer"), KeyError("inner")))
    assert "ValueError: outer" in text
    assert "KeyError: inner" in text
    assert "test_errors.py:" in text
    assert "raise error" not in text


def test_the_context_of_an_error_is_shown_unless_it_was_suppressed() -> None:
    def inner(*, suppressed: bool) -> None:
        try:
            {}["inner"]
        except KeyError as error:
            other = ValueError("outer")
            if suppressed:
                raise other from None
            other.__context__ = error
            raise other  # noqa: B904 (its context is what this is about)

    for suppressed in (True, False):
        with pytest.raises(ValueError, match="outer") as caught:
            inner(suppressed=suppressed)
        assert ("inner" in brief(caught.value).replace("in test_errors", "").partition("from:")[2]) is not suppressed


def test_a_deep_traceback_is_cut() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011 (it has no words)
        deep(500)
    assert len(brief(caught.value).splitlines()) <= FRAMES_MAX + 2


class Slow(Exception):
    """Takes long to show itself, as validation errors over large inputs do."""

    def __str__(self) -> str:
        raise AssertionError("nobody may ask")


def test_what_is_expensive_to_show_is_not_shown() -> None:
    began = time.perf_counter()
    text = brief(raised(Slow(["x"] * 1_000_000, {"a": object()})))
    assert "Slow: (list, dict)" in text
    assert time.perf_counter() - began < 0.1
    assert len(brief(raised(ValueError("x" * 1_000_000)))) < 2000
