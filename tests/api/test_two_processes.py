"""Two processes on one database: what one has begun, the other follows, cancels, deletes, waits for, and continues."""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from antiphon.testing.host import Call, Gate, Host, Reply
from antiphon.testing.rules import check
from antiphon.testing.server import Server, running, until
from postgres_server import PostgresServer

MODEL = "scripted/scripted-model"
HI = {"model": MODEL, "input": "Hi"}
SOON_S = 0.05
"""How late a follower on another process may see what the model said."""


class Two(NamedTuple):
    """Both processes."""

    here: Server
    there: Server


@contextmanager
def two(host: Host, folder: Path, **more: Any) -> Iterator[Two]:
    settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, **more}
    with running(settings, folder, process=True) as here, running(settings, folder, process=True) as there:
        yield Two(here, there)


@pytest.fixture(scope="module")
def two_on_sqlite(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two(session_host, tmp_path_factory.mktemp("two")) as started:
        yield started


@pytest.fixture(scope="module")
def two_on_postgres(
    session_host: Host, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    with two(session_host, tmp_path_factory.mktemp("two"), database_url=postgres.new_database()) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgres"])
def pair(request: pytest.FixtureRequest, host: Host) -> Two:
    found: Two = request.getfixturevalue(f"two_on_{request.param}")
    return found


class Stream:
    """A stream that is read frame by frame."""

    def __init__(self, server: Server, body: dict[str, Any] | None = None, path: str = "/responses") -> None:
        self.connection = server.connect()
        data = None if body is None else json.dumps({**body, "stream": True})
        headers = {"content-type": "application/json"}
        self.connection.request("GET" if body is None else "POST", f"/v1{path}", data, headers)
        self.answer: http.client.HTTPResponse = self.connection.getresponse()
        assert self.answer.status == 200
        self.raw = b""
        self.frames: list[bytes] = []

    def next(self) -> dict[str, Any]:
        """The next event; empty at `[DONE]`."""
        frame = b""
        while not frame.endswith(b"\n\n"):
            line = self.answer.readline()
            assert line, "the stream has broken off"
            frame += line
        self.raw += frame
        self.frames.append(frame)
        return {} if frame == b"data: [DONE]\n\n" else json.loads(frame.partition(b"\ndata: ")[2])

    def until(self, kind: str) -> dict[str, Any]:
        while (event := self.next())["type"] != kind:
            pass
        return event

    def rest(self) -> bytes:
        """Everything, once it has ended."""
        while self.next():
            pass
        self.close()
        return self.raw

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def follower(server: Server, id: str, after: int | None = None) -> Stream:
    return Stream(server, path=f"/responses/{id}?stream=true{'' if after is None else f'&starting_after={after}'}")


# ---------------------------------------------------------------- following


@pytest.mark.parametrize("background", [False, True])
def test_a_stream_that_is_cut_anywhere_goes_on_elsewhere_to_the_byte(pair: Two, host: Host, background: bool) -> None:
    gate = Gate()
    host.answer(Reply(reasoning=["Hm"], text=["one ", gate, "two "], calls=[Call(name="f", arguments=["{", "}"])]))
    body = {**HI, "background": background, "tools": [{"type": "function", "name": "f"}]}
    own = Stream(pair.here, body)
    id = own.next()["response"]["id"]
    while own.next().get("delta") != "one ":
        pass
    live = [follower(pair.there, id, k) for k in range(len(own.frames))]
    seen = len(own.frames)
    gate.open()
    whole = own.rest()
    check(whole)
    for k, each in enumerate(live):
        assert each.rest() == b"".join(own.frames[k + 1 :])
    assert seen > 5
    for k in range(len(own.frames) - 1):
        assert follower(pair.there, id, k).rest() == b"".join(own.frames[k + 1 :])
    assert follower(pair.there, id).rest() == whole == follower(pair.here, id).rest()


def test_what_the_model_says_is_soon_seen_elsewhere(pair: Two, host: Host) -> None:
    """The middle one of thirty, since this machine may be busy with other things."""
    gates = [Gate() for _ in range(30)]
    host.answer(Reply(text=[piece for gate in gates for piece in (gate, "x")]))
    own = Stream(pair.here, HI)
    id = own.next()["response"]["id"]
    there = follower(pair.there, id)
    took_s = []
    for gate in gates:
        gate.wait()
        began = time.perf_counter()
        gate.open()
        there.until("response.output_text.delta")
        took_s.append(time.perf_counter() - began)
    assert own.rest() == there.rest()
    assert statistics.median(took_s) < SOON_S, took_s


# ---------------------------------------------------------------- ending


@pytest.mark.parametrize("background", [False, True])
def test_cancelling_elsewhere_stops_the_model_within_a_second(pair: Two, host: Host, background: bool) -> None:
    host.answer(Reply(text=["Half of ", Gate(), "it"]))
    own = Stream(pair.here, {**HI, "background": background})
    id = own.next()["response"]["id"]
    own.until("response.output_text.delta")
    moment = time.monotonic()
    got = pair.there.post(f"/responses/{id}/cancel", {})
    assert host.called(1).abort_seen() - moment < 1
    assert (got.status, got.json["status"]) == (200, "cancelled")
    assert got.json["output"][0]["content"][0]["text"] == "Half of "
    assert own.rest() == follower(pair.there, id).rest()
    assert b"response.cancelled" in own.raw


def test_what_is_deleted_elsewhere_stops_and_is_gone(pair: Two, host: Host) -> None:
    host.answer(Reply(text=["x", Gate()]))
    own = Stream(pair.here, {**HI, "background": True})
    id = own.next()["response"]["id"]
    own.until("response.output_text.delta")
    there = follower(pair.there, id)
    assert pair.there.ask("DELETE", f"/v1/responses/{id}").status == 200
    host.called(1).abort_seen()
    for stream in (own, there):
        assert b"event: error" in stream.rest()
    assert pair.here.get(f"/responses/{id}").status == 404


# ---------------------------------------------------------------- waiting for each other


def test_a_conversation_that_is_in_use_elsewhere_is_locked(pair: Two, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["x", gate]))
    conversation = pair.here.post("/conversations", {}).json["id"]
    own = Stream(pair.here, {**HI, "conversation": conversation})
    own.until("response.output_text.delta")
    refused = pair.there.post("/responses", {**HI, "conversation": conversation})
    assert (refused.status, refused.json["error"]["code"]) == (409, "conversation_locked")
    gate.open()
    own.rest()
    assert pair.there.post("/responses", {**HI, "conversation": conversation}).status == 200
    assert len(pair.here.get(f"/conversations/{conversation}/items").json["data"]) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_under_a_key_that_is_carried_out_elsewhere_is_waited_for(pair: Two, host: Host, stream: bool) -> None:
    gate = Gate()
    host.answer(Reply(text=["x", gate]))
    key = {"idempotency-key": f"key-{time.monotonic_ns()}"}
    got: dict[str, Any] = {}

    def ask(name: str, server: Server) -> None:
        got[name] = server.post("/responses", {**HI, "stream": stream}, key)

    threads = [threading.Thread(target=ask, args=(name, getattr(pair, name))) for name in ("here", "there")]
    threads[0].start()
    gate.wait()
    threads[1].start()
    gate.open()
    for thread in threads:
        thread.join(20)
    assert got["here"].body == got["there"].body
    assert got["there"].headers["idempotent-replayed"] == "true"
    assert len(host.calls) == 1


# ---------------------------------------------------------------- batches and files


def test_a_batch_that_was_made_here_is_cancelled_there(pair: Two, host: Host) -> None:
    host.default = Reply(text=["x", Gate()])
    lines = [
        json.dumps({"custom_id": f"{n}", "method": "POST", "url": "/v1/chat/completions", "body": body})
        for n, body in enumerate([{"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}] * 3)
    ]
    with pair.here.client() as client:
        file = client.files.create(file=("a.jsonl", "\n".join(lines).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    host.called(3)
    moment = time.monotonic()
    for server in pair:  # whichever process carries it out
        assert server.post(f"/batches/{batch.id}/cancel", {}).json["status"] in ("cancelling", "cancelled")
    assert all(call.abort_seen() - moment < 1 for call in host.calls)
    ended = until(lambda: pair.there.get(f"/batches/{batch.id}").json, lambda got: got["status"] == "cancelled")
    assert ended == pair.here.get(f"/batches/{batch.id}").json


def test_a_file_that_was_uploaded_here_is_read_and_deleted_there(pair: Two) -> None:
    with pair.here.client() as here, pair.there.client() as there:
        id = here.files.create(file=("a.txt", b"content"), purpose="user_data").id
        assert there.files.content(id).read() == b"content"
        assert there.files.delete(id).deleted
        assert pair.here.get(f"/files/{id}/content").status == 404


# ---------------------------------------------------------------- one comes, one goes


def test_a_process_that_came_a_moment_ago_cancels_what_another_does(
    host: Host, tmp_path: Path, state: dict[str, str]
) -> None:
    host.answer(Reply(text=["x", Gate()]))
    settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, **state}
    with running(settings, tmp_path, process=True) as here:
        own = Stream(here, HI)
        id = own.next()["response"]["id"]
        own.until("response.output_text.delta")
        with running(settings, tmp_path, process=True) as there:
            moment = time.monotonic()
            assert there.post(f"/responses/{id}/cancel", {}).json["status"] == "cancelled"
            assert host.called(1).abort_seen() - moment < 1
        own.rest()
