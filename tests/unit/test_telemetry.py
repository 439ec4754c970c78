"""The log and the listeners."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from antiphon.telemetry import Counts, RequestEnded, Telemetry, configure, log_request

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
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("antiphon.x").exception("it failed")
    (line,) = read()
    assert "ValueError: broken" in line["exception"]


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
