"""The log and the listeners."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from antiphon.telemetry import FRAMES_MAX, Counts, RequestEnded, Telemetry, brief, configure, log_request

ENDED = RequestEnded(method="GET", route="/v1/models/{id}", status=200, ms=1.5, request_id="req_1")


@pytest.fixture
def lines() -> Iterator[Callable[[str], Callable[[], list[dict[str, Any]]]]]:
    """Configures the log at a level; gives what reads its lines. The root logger is put back afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)

    def start(level: str) -> Callable[[], list[dict[str, Any]]]:
        stream = io.StringIO()
        configure(level, stream)
        return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

    yield start
    root.handlers[:], root.level = before


def test_a_line_is_json_with_the_callers_extra_fields(lines: Any) -> None:
    read = lines("info")
    logging.getLogger("antiphon.x").info("hello %s", "world", extra={"request_id": "req_1", "odd": {1}})
    (line,) = read()
    assert (line["level"], line["logger"], line["message"]) == ("info", "antiphon.x", "hello world")
    assert (line["request_id"], line["odd"]) == ("req_1", [1])
    assert line["time"].endswith("Z")
    assert set(line) == {"time", "level", "logger", "message", "request_id", "odd"}


def test_an_exception_stays_on_one_line(lines: Any) -> None:
    read = lines("info")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("antiphon.x").exception("it failed")
    (line,) = read()
    assert "ValueError: invalid literal" in line["exception"]


def test_what_json_cannot_hold_is_written_as_text(lines: Any) -> None:
    read = lines("info")
    logging.getLogger("antiphon.x").info("x", extra={"thing": ValueError("odd"), "bad": "\udcff"})
    (line,) = read()
    assert line["thing"] == "ValueError('odd')"


def test_less_severe_lines_are_left_out(lines: Any) -> None:
    read = lines("warning")
    logging.getLogger("antiphon.x").info("quiet")
    log_request(ENDED)
    assert read() == []


def test_configuring_twice_writes_once(lines: Any) -> None:
    lines("info")
    read = lines("info")
    logging.getLogger("antiphon.x").info("once")
    assert len(read()) == 1


def test_every_listener_hears_of_a_request(lines: Any) -> None:
    read = lines("info")
    counts = Counts()
    telemetry = Telemetry(counts, log_request)
    telemetry.ended(ENDED)
    telemetry.ended(ENDED)
    key = ("GET", "/v1/models/{id}", 200)
    assert (counts.requests[key], counts.ms[key]) == (2, 3.0)
    assert [line["message"] for line in read()] == ["GET /v1/models/{id} 200"] * 2
    assert read()[0]["request_id"] == "req_1"


# ---------------------------------------------------------------- tracebacks


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """The error as it is once it was raised."""

    def throw() -> None:
        raise error from cause

    with pytest.raises(type(error)) as caught:
        throw()
    return caught.value


def test_a_traceback_names_places_and_causes_without_source() -> None:
    text = brief(raised(ValueError("outer"), KeyError("inner")))
    assert "ValueError: outer" in text
    assert "KeyError: inner" in text
    assert "test_telemetry.py:" in text
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
        assert ("inner" in brief(caught.value).replace("in test_telemetry", "").partition("from:")[2]) is not suppressed


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
