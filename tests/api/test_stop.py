"""A server that is told to stop: it takes nothing new, lets what runs end, hands on the rest, and is gone in time."""

import http.client
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from antiphon.testing.host import Gate, Host, Reply
from antiphon.testing.server import Server, running, until
from postgres_server import PostgresServer, name_of

MODEL = "scripted/scripted-model"
HI = {"model": MODEL, "input": "Hi"}
MORE_S = 1.5
"""Beyond `shutdown_s`: to close what was opened, on a machine that is busy."""


@contextmanager
def serving(host: Host, folder: Path, shutdown_s: float = 10, **more: Any) -> Iterator[Server]:
    hosts = {"scripted": {"base_url": host.url, "preset": "custom"}}
    settings = {"hosts": hosts, "timeouts": {"shutdown_s": shutdown_s}, **more}
    with running(settings, folder, process=True) as server:
        yield server


def tell_to_stop(server: Server) -> float:
    """SIGTERM; the moment."""
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    return time.monotonic()


def stopped(server: Server, since_s: float) -> float:
    """How long the server took to be gone."""
    assert server.process is not None
    server.process.wait(20)
    return time.monotonic() - since_s


def refuses(server: Server) -> bool:
    """Whether it takes no connections any more.

    A SYN that meets the listener as it closes may get no answer: TCP asks again after a second.
    """
    connection = server.connect(5)
    try:
        connection.connect()
    except ConnectionError:  # refused, or met the listener as it closed
        return True
    finally:
        connection.close()
    return False


OPEN: list[http.client.HTTPConnection] = []


@pytest.fixture(autouse=True)
def no_connection_is_left_open() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def connection_to(server: Server) -> http.client.HTTPConnection:
    """A connection that is closed after the test."""
    OPEN.append(server.connect())
    return OPEN[-1]


def stream(server: Server, body: dict[str, Any] | None = None, path: str = "/responses") -> http.client.HTTPResponse:
    """A stream of which the first event has come."""
    connection = connection_to(server)
    data = None if body is None else json.dumps({**body, "stream": True})
    connection.request("GET" if body is None else "POST", f"/v1{path}", data, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200
    while b"delta" not in (line := answer.readline()):
        assert line, "the stream has broken off"
    return answer


@pytest.mark.parametrize("path", ["/responses", "/chat/completions"])
def test_what_runs_may_end_and_nothing_new_is_taken(host: Host, tmp_path: Path, path: str) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    body = HI if path == "/responses" else {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    with serving(host, tmp_path) as server:
        answer = stream(server, body, path)
        since_s = tell_to_stop(server)
        until(lambda: refuses(server))
        gate.open()
        assert answer.read().endswith(b"data: [DONE]\n\n")
        assert stopped(server, since_s) < 5


@pytest.mark.parametrize("stored", [True, False])
def test_all_that_runs_on_has_one_deadline_together(
    host: Host, tmp_path: Path, state: dict[str, str], stored: bool
) -> None:
    """A stream, a follower, a run in the background, a batch's line, a WebSocket: none adds its own to another's."""
    host.by_request = lambda request: Reply(text=["x", Gate()]) if request.method == "POST" else None
    with serving(host, tmp_path, shutdown_s=1, **state) as server:
        stream(server, {**HI, "store": stored})
        id = server.post("/responses", {**HI, "background": True}).json["id"]
        stream(server, path=f"/responses/{id}?stream=true")
        batch(server)
        with connect(server.url.replace("http", "ws", 1) + "/responses") as socket:
            socket.send(json.dumps({"type": "response.create", **HI, "store": stored}))
            host.called(4)
            took_s = stopped(server, tell_to_stop(server))
        assert 0.9 < took_s < 1 + MORE_S


def batch(server: Server) -> None:
    """A batch of one line."""
    line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": HI}).encode()
    with server.client() as client:
        file = client.files.create(file=("a.jsonl", line), purpose="batch")
        client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")


def test_a_server_that_does_nothing_stops_at_once(host: Host, tmp_path: Path, state: dict[str, str]) -> None:
    """Also one that has only begun: several times, since what it does first takes a different while each time."""
    for _ in range(4):
        with serving(host, tmp_path, **state) as server:
            idle = connection_to(server)
            idle.request("GET", "/health")
            idle.getresponse().read()
            assert stopped(server, tell_to_stop(server)) < MORE_S


def test_a_database_that_is_away_holds_nobody(
    host: Host, tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    host.answer(Reply(text=["x", Gate()]))
    with serving(host, tmp_path, shutdown_s=0.5, database_url=postgres_url) as server:
        stream(server, HI)
        postgres.sql(f"ALTER DATABASE {name_of(postgres_url)} ALLOW_CONNECTIONS false")
        postgres.cut(postgres_url)
        assert stopped(server, tell_to_stop(server)) < 0.5 + 2 * MORE_S


def test_a_request_that_was_on_its_way_is_answered_and_the_last_of_its_connection(host: Host, tmp_path: Path) -> None:
    gate = Gate()
    host.answer(Reply(text=[gate, "x"]))
    with serving(host, tmp_path) as server:
        connection = connection_to(server)
        connection.request("POST", "/v1/responses", json.dumps(HI), {"content-type": "application/json"})
        gate.wait()
        fresh = connection_to(server)
        fresh.connect()
        until(lambda: server.ask("GET", "/health").status == 200)  # so the one before was accepted
        tell_to_stop(server)
        until(lambda: refuses(server))
        fresh.request("GET", "/ready")
        ready = fresh.getresponse()
        assert (ready.status, ready.headers["connection"]) == (503, "close")
        assert json.loads(ready.read())["missing"] == ["the server is stopping"]
        gate.open()
        assert connection.getresponse().status == 200


def test_a_sockets_turn_may_end_and_no_other_begins(host: Host, tmp_path: Path) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    frames: list[dict[str, Any]] = []
    with serving(host, tmp_path) as server, connect(server.url.replace("http", "ws", 1) + "/responses") as socket:
        socket.send(json.dumps({"type": "response.create", **HI, "store": False}))
        gate.wait()
        tell_to_stop(server)
        until(lambda: refuses(server))
        socket.send(json.dumps({"type": "response.create", **HI}))
        socket.ping().wait(10)  # it has read the frame
        gate.open()
        with pytest.raises(ConnectionClosed) as closed:
            frames += map(json.loads, iter(lambda: socket.recv(timeout=10), None))
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    kinds = [frame["type"] for frame in frames]
    assert kinds.count("response.completed") == 1
    assert frames[-1]["error"]["code"] == "server_stopping"
    assert len(host.calls) == 1


def test_a_key_goes_on_standing_for_the_response_that_was_begun(host: Host, tmp_path: Path) -> None:
    host.answer(Reply(text=["half", Gate()]), Reply(text=["whole"]))
    key = {"idempotency-key": "mine", "content-type": "application/json"}
    with serving(host, tmp_path, shutdown_s=0.2) as server:
        connection = connection_to(server)
        connection.request("POST", "/v1/responses", json.dumps({**HI, "stream": True}), key)
        answer = connection.getresponse()
        first = json.loads(answer.readline() and answer.readline().partition(b"data: ")[2])["response"]["id"]
        stopped(server, tell_to_stop(server))
    with serving(host, tmp_path) as server:
        got = server.post("/responses", {**HI, "stream": True}, key)
        assert first.encode() in got.body
        assert got.body.endswith(b"data: [DONE]\n\n")
        assert [each["id"] for each in server.get("/responses").json["data"]] == [first]
    assert len(host.calls) == 2
