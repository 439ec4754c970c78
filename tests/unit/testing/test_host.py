"""The scripted host does on the wire what its script says, and notices its client's leaving."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from antiphon.testing.host import (
    CLOSE,
    EMPTY_STREAM,
    RESET,
    SILENT,
    Call,
    Gate,
    Host,
    Raw,
    Reply,
    status,
)


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    with Host() as started:
        yield started


@pytest.fixture
def host(running: Host) -> Host:
    running.reset()
    return running


def post(host: Host, path: str = "/v1/chat/completions", **body: object) -> http.client.HTTPResponse:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=5)
    connection.request("POST", path, json.dumps({"model": "m", **body}))
    return connection.getresponse()


def chunks(answer: http.client.HTTPResponse) -> list[dict[str, object]]:
    """The JSON of every server-sent event before `[DONE]`."""
    frames = answer.read().decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def test_a_reply_is_streamed_in_its_pieces_and_whole_when_not_streamed(host: Host) -> None:
    reply = Reply(text=["Hel", "lo"], calls=[Call(name="f", arguments=["{", "}"])])
    host.answer(reply, reply)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(post(host, stream=True)) if chunk["choices"]]  # type: ignore[index]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Hel", "lo"]
    whole = json.loads(post(host).read())
    assert whole["choices"][0]["message"]["content"] == "Hello"
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert whole["choices"][0]["finish_reason"] == "tool_calls"


def test_requests_are_recorded_with_headers_and_body(host: Host) -> None:
    post(host, temperature=0.5).read()
    assert host.called().json == {"model": "m", "temperature": 0.5}
    assert host.calls[0].headers["content-length"]
    assert host.calls[0].finished.wait(5)


def test_an_error_status_comes_with_its_retry_after(host: Host) -> None:
    host.answer(status(429, "slow down", retry_after="7"))
    answer = post(host)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert json.loads(answer.read())["error"]["message"] == "slow down"


def test_an_empty_stream_is_empty(host: Host) -> None:
    host.answer(EMPTY_STREAM)
    assert post(host, stream=True).read() == b""


def test_a_closed_stream_is_cut(host: Host) -> None:
    host.answer(Raw(steps=[b"data: x\n\n", CLOSE]))
    with pytest.raises(http.client.IncompleteRead):
        post(host).read()


def test_a_reset_is_a_reset(host: Host) -> None:
    host.answer(Raw(steps=[b"data: x\n\n", RESET]))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        post(host).read()


def test_a_gate_holds_the_answer_until_it_is_opened(host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["one", gate, "two"]))
    answer = post(host, stream=True)
    gate.wait()
    assert b"one" in answer.readline() + answer.readline() + answer.readline()
    gate.open()
    assert b"two" in answer.read()


@pytest.mark.parametrize("answer", [SILENT, Reply(text=[Gate()]), Reply(text=["a", Gate()])])
def test_a_client_that_leaves_is_noticed(host: Host, answer: Reply | Raw) -> None:
    host.answer(answer)
    with socket.create_connection(("127.0.0.1", host.port)) as client:
        body = b'{"model":"m","stream":true}'
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        request = host.called()
    assert request.abort_seen()
    assert not request.finished.is_set()


def test_a_reply_can_be_cut_anywhere(host: Host) -> None:
    host.answer(Reply(text=["Hällo"], cut=1))
    assert "H\\u00e4llo" in json.dumps(chunks(post(host, stream=True)))


def test_models_embeddings_and_completions_are_served(host: Host) -> None:
    vectors = json.loads(post(host, "/v1/embeddings", input=["a", "bcd"]).read())["data"]
    assert [vector["embedding"][0] for vector in vectors] == [1.0, 3.0]
    assert json.loads(post(host, "/v1/completions", prompt="x").read())["choices"][0]["text"] == "Hello there."
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=5)
    connection.request("GET", "/v1/models")
    assert json.loads(connection.getresponse().read())["data"][0]["id"] == "scripted-model"
