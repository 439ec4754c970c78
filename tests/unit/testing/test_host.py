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


class Client:
    """Sends requests to the host, each over a connection of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.connections: list[http.client.HTTPConnection] = []

    def ask(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        """One request; closed with the test."""
        connection = http.client.HTTPConnection("127.0.0.1", self.host.port, timeout=5)
        self.connections.append(connection)
        connection.request(method, path, json.dumps(body))
        return connection.getresponse()

    def __call__(self, path: str = "/v1/chat/completions", **body: object) -> http.client.HTTPResponse:
        """One POST."""
        return self.ask("POST", path, {"model": "m", **body})


@pytest.fixture
def post(host: Host) -> Iterator[Client]:
    client = Client(host)
    yield client
    for connection in client.connections:
        connection.close()


def chunks(answer: http.client.HTTPResponse) -> list[dict[str, object]]:
    """The JSON of every server-sent event before `[DONE]`."""
    frames = answer.read().decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def test_a_reply_is_streamed_in_its_pieces_and_whole_when_not_streamed(host: Host, post: Client) -> None:
    reply = Reply(text=["Hel", "lo"], calls=[Call(name="f", arguments=["{", "}"])])
    host.answer(reply, reply)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(post(stream=True)) if chunk["choices"]]  # type: ignore[index]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Hel", "lo"]
    whole = json.loads(post().read())
    assert whole["choices"][0]["message"]["content"] == "Hello"
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert whole["choices"][0]["finish_reason"] == "tool_calls"


def test_requests_are_recorded_with_headers_and_body(host: Host, post: Client) -> None:
    post(temperature=0.5).read()
    assert host.called().json == {"model": "m", "temperature": 0.5}
    assert host.calls[0].headers["content-length"]
    assert host.calls[0].finished.wait(5)


def test_an_error_status_comes_with_its_retry_after(host: Host, post: Client) -> None:
    host.answer(status(429, "slow down", retry_after="7"))
    answer = post()
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert json.loads(answer.read())["error"]["message"] == "slow down"


def test_an_empty_stream_is_empty(host: Host, post: Client) -> None:
    host.answer(EMPTY_STREAM)
    assert post(stream=True).read() == b""


def test_a_closed_stream_is_cut(host: Host, post: Client) -> None:
    host.answer(Raw(steps=[b"data: x\n\n", CLOSE]))
    with pytest.raises(http.client.IncompleteRead):
        post().read()


def test_a_reset_is_a_reset(host: Host, post: Client) -> None:
    host.answer(Raw(steps=[b"data: x\n\n", RESET]))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        post().read()


def test_a_gate_holds_the_answer_until_it_is_opened(host: Host, post: Client) -> None:
    gate = Gate()
    host.answer(Reply(text=["one", gate, "two"]))
    answer = post(stream=True)
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


def test_a_reply_can_be_cut_anywhere(host: Host, post: Client) -> None:
    host.answer(Reply(text=["Hällo"], cut=1))
    assert "H\\u00e4llo" in json.dumps(chunks(post(stream=True)))


def test_models_embeddings_and_completions_are_served(host: Host, post: Client) -> None:
    vectors = json.loads(post("/v1/embeddings", input=["a", "bcd"]).read())["data"]
    assert [vector["embedding"][0] for vector in vectors] == [1.0, 3.0]
    assert json.loads(post("/v1/completions", prompt="x").read())["choices"][0]["text"] == "Hello there."
    assert json.loads(post.ask("GET", "/v1/models").read())["data"][0]["id"] == "scripted-model"
