"""Hosts that break, hang or lie, and clients that leave: the response says so, nobody else notices."""

import json
import time
from typing import Any

import pytest

from antiphon.testing.host import (
    CLOSE,
    DONE_ONLY,
    EMPTY_STREAM,
    GARBAGE,
    HANG,
    RESET,
    SILENT,
    Answer,
    Call,
    Gate,
    Host,
    Raw,
    Reply,
    error_inside,
    page,
    status,
)
from antiphon.testing.rules import check
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
ABORT_S = 1.0
"""How long after its client an abandoned upstream call may live."""


def cut(*text: str, end: Any = ()) -> Reply:
    """Some text, no finish reason, and a certain end."""
    return Reply(text=text, finish=None, usage=None, end=end)


BROKEN: list[tuple[str, Answer]] = [
    ("empty stream", EMPTY_STREAM),
    ("nothing but [DONE]", DONE_ONLY),
    ("an HTML page", page()),
    ("garbage", GARBAGE),
    ("an error inside", error_inside("some ", "text")),
    ("an error at once", error_inside()),
    ("cut without a finish reason", cut("some ", "text", end=[b"data: [DONE]\n\n"])),
    ("ended without [DONE]", cut("some ", "text")),
    ("closed in the middle", cut("some ", "text", end=[CLOSE])),
    ("reset in the middle", cut("some ", "text", end=[RESET])),
    ("cut inside a call", Reply(calls=[Call(name="f", arguments=['{"a": '])], finish=None, end=[CLOSE])),
    ("half an event", Raw(steps=[b'data: {"choices": [{"ind', CLOSE])),
    ("not UTF-8", Raw(steps=[b'data: {"choices": "\xff\xfe"}\n\n', b"data: [DONE]\n\n"])),
]


@pytest.mark.parametrize("answer", [each[1] for each in BROKEN], ids=[each[0] for each in BROKEN])
def test_a_broken_answer_is_a_failed_response(server: Server, host: Host, answer: Answer) -> None:
    host.answer(answer, answer)
    stream = server.stream(input="Hi", tools=[{"type": "function", "name": "f"}])
    assert stream.types[-1] == "response.failed"
    assert stream.response["error"]["message"]
    assert "Traceback" not in stream.response["error"]["message"]
    whole = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": [{"type": "function", "name": "f"}]})
    assert (whole.status, whole.json["status"]) == (200, "failed")
    assert server.get(f"/responses/{stream.response['id']}").json == stream.response


def test_what_was_said_before_the_break_is_kept(server: Server, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["some ", "text", gate], finish=None, end=[RESET]))
    connection = server.connect()
    connection.request("POST", "/v1/responses", json.dumps({"model": MODEL, "input": "Hi", "stream": True}))
    answer = connection.getresponse()
    begun = b""
    while b'"delta":"text"' not in begun:
        begun += answer.readline()
    gate.open()
    stream = check(begun + answer.read())
    connection.close()
    assert stream.types[-1] == "response.failed"
    assert stream.text == "some text"
    assert stream.items[0]["status"] == "incomplete"


def test_an_error_inside_a_stream_keeps_its_message(server: Server, host: Host) -> None:
    host.answer(error_inside("a", message="the engine exploded"))
    assert "the engine exploded" in server.stream(input="Hi").response["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("form", ["openai", "plain", "html"])
@pytest.mark.parametrize("code", [400, 401, 404, 429, 500, 503])
def test_a_rejection_keeps_its_status(server: Server, host: Host, code: int, form: str, stream: bool) -> None:
    host.answer(status(code, "not today", retry_after="7" if code in (429, 503) else None, form=form))
    got = server.post("/responses", {"model": MODEL, "input": "Hi", "stream": stream})
    assert got.status == code
    assert "not today" in got.json["error"]["message"]
    if code in (429, 503):
        assert got.headers["retry-after"] == "7"
    assert len(host.calls) == 1, "a request that may have been executed is never repeated"


def test_a_host_that_cannot_be_reached_is_a_502(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Host() as other:
        settings = {
            "hosts": {"gone": {"base_url": other.url, "models": {"m": {}}}},
            "timeouts": {"connect_s": 0.5},
        }
        with running(settings, tmp_path_factory.mktemp("gone")) as lonely:
            other.close()
            got = lonely.post("/responses", {"model": "gone/m", "input": "Hi"})
            assert got.status in (502, 503)
            assert "gone" in got.json["error"]["message"]


def test_others_are_served_while_one_host_says_nothing(server: Server, host: Host) -> None:
    host.answer(SILENT)
    connection = server.connect()
    connection.request("POST", "/v1/responses", json.dumps({"model": MODEL, "input": "Hi", "store": False}))
    host.called(1)
    began = time.monotonic()
    assert server.stream(input="Hi").types[-1] == "response.completed"
    assert time.monotonic() - began < 1
    connection.close()
    host.calls[0].abort_seen()


def test_a_host_that_never_answers_is_a_504(host: Host, tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
        "timeouts": {"first_byte_s": 0.3, "idle_s": 0.3},
    }
    with running(settings, tmp_path_factory.mktemp("slow")) as slow:
        host.answer(SILENT, Reply(text=["one"], finish=None, end=[HANG]))
        got = slow.post("/responses", {"model": MODEL, "input": "Hi"})
        assert (got.status, got.json["error"]["code"]) == (504, "upstream_timeout")
        assert slow.stream(input="Hi").types[-1] == "response.failed"
        host.calls[0].abort_seen()
        host.calls[1].abort_seen()


# ---------------------------------------------------------------- clients that leave


def leave(server: Server, path: str, body: str, gate: Gate) -> float:
    """Asks, waits until the host is at the gate, and hangs up; the moment of that."""
    connection = server.connect()
    connection.request("POST", f"/v1{path}", body, {"content-type": "application/json"})
    gate.wait()
    assert connection.sock is not None
    moment = time.monotonic()
    connection.close()
    return moment


CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
RESPONSES: dict[str, Any] = {"model": MODEL, "input": "Hi", "store": False}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("before", [(), ("one",)], ids=["before the first token", "after the first token"])
@pytest.mark.parametrize(("path", "body"), [("/chat/completions", CHAT), ("/responses", RESPONSES)])
def test_a_client_that_leaves_cancels_the_upstream_call(
    server: Server, host: Host, path: str, body: dict[str, Any], before: tuple[str, ...], stream: bool
) -> None:
    gate = Gate()
    answer = Reply(text=[*before, gate, "never"])
    host.answer(answer if before else Raw(steps=[gate], head=False))
    moment = leave(server, path, json.dumps({**body, "stream": stream}), gate)
    assert host.called(1).abort_seen() - moment < ABORT_S
    assert not host.calls[0].finished.is_set()


def newest(server: Server, mark: str, *statuses: str) -> dict[str, Any]:
    """The newest response, as soon as it is the one that is marked so and has one of these statuses."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found: list[dict[str, Any]] = server.get("/responses?limit=1").json["data"]
        if found and found[0]["metadata"] == {"mark": mark} and found[0]["status"] in statuses:
            return found[0]
    raise TimeoutError(f"no response {mark} became {statuses}")


@pytest.mark.parametrize("stream", [True, False])
def test_a_stored_run_survives_its_client(server: Server, host: Host, stream: bool) -> None:
    gate = Gate()
    host.answer(Reply(text=["one", gate, " two"]))
    mark = f"mark-{stream}"
    asked = {"model": MODEL, "input": "Hi", "stream": stream, "metadata": {"mark": mark}}
    body = json.dumps(asked)
    leave(server, "/responses", body, gate)
    newest(server, mark, "in_progress")
    assert not host.calls[0].aborted.is_set()
    gate.open()
    assert host.calls[0].finished.wait(5)
    found = newest(server, mark, "completed", "failed", "cancelled")
    assert found["status"] == "completed"
    assert found["output"][0]["content"][0]["text"] == "one two"


def test_a_client_that_leaves_an_unstored_turn_frees_its_conversation(server: Server, host: Host) -> None:
    made = server.post("/conversations", {}).json["id"]
    gate = Gate()
    host.answer(Reply(text=["one", gate]))
    asked = {"model": MODEL, "input": "Hi", "store": False, "stream": True, "conversation": made}
    body = json.dumps(asked)
    leave(server, "/responses", body, gate)
    host.calls[0].abort_seen()
    assert server.stream(input="Hi", conversation=made).types[-1] == "response.completed"
