"""The database fails under a running server: a clear 503, no half state, and the same server works on afterwards (P14).

Each fault is the operating system's or SQLite's own: a limit on the size of files, which a full disk is to a process;
a database of so many pages and no more; another process that holds the lock; a file without its schema.
"""

import contextlib
import json
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.host import Gate, Host, Reply
from antiphon.testing.rules import TERMINAL
from antiphon.testing.server import Got, Server, running

MODEL = "scripted/scripted-model"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "store": True}
BIG = "x" * 200_000
Fault = Callable[[Server, Path], AbstractContextManager[None]]


@contextlib.contextmanager
def full_disk(server: Server, folder: Path) -> Iterator[None]:
    """No file of the server's grows any more."""
    assert server.process is not None
    limit, most = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, most))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, most))


@contextlib.contextmanager
def held(server: Server, folder: Path) -> Iterator[None]:
    """Another process writes and does not come to an end."""
    other = sqlite3.connect(folder / "data" / "antiphon.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextlib.contextmanager
def moved_away(server: Server, folder: Path) -> Iterator[None]:
    """The database's files are elsewhere: what SQLite writes on into them would be lost with the process."""
    data, elsewhere = folder / "data", folder / "elsewhere"
    elsewhere.mkdir()
    for file in data.glob("antiphon.db*"):
        file.rename(elsewhere / file.name)
    yield
    for file in elsewhere.iterdir():
        file.rename(data / file.name)
    elsewhere.rmdir()


FAULTS = [full_disk, moved_away]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


@pytest.fixture
def server(tmp_path: Path, host: Host) -> Iterator[Server]:
    """A server in a process of its own, with something stored."""
    settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}}
    with running(settings, tmp_path, process=True) as started:
        for write in operations(started).values():
            assert write().status == 200
        yield started


def operations(server: Server) -> dict[str, Callable[[], Got]]:
    """A write of every kind."""
    conversation = server.post("/conversations", {}).json.get("id", "none")
    body = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\ncontent\r\n--b--\r\n'
    )
    form = {"content-type": "multipart/form-data; boundary=b"}
    items = {"items": [{"role": "user", "content": BIG}]}
    return {
        "response": lambda: server.post("/responses", {"model": MODEL, "input": BIG}),
        "response in a conversation": lambda: server.post(
            "/responses", {"model": MODEL, "input": BIG, "conversation": conversation}
        ),
        "streamed response": lambda: server.post("/responses", {"model": MODEL, "input": BIG, "stream": True}),
        "conversation": lambda: server.post("/conversations", items),
        "items": lambda: server.post(f"/conversations/{conversation}/items", items),
        "deletion": lambda: server.ask("DELETE", f"/v1/conversations/{conversation}"),
        "file": lambda: server.ask("POST", "/v1/files", body, headers=form),
        "chat": lambda: server.post("/chat/completions", CHAT),
        "request under a key": lambda: server.post(
            "/embeddings", {"model": MODEL, "input": "Hi"}, {"idempotency-key": os.urandom(8).hex()}
        ),
    }


def stored(server: Server) -> dict[str, Any]:
    """All that can be seen of what is stored."""
    lists = {path: server.get(path) for path in ("/responses?limit=100", "/files", "/chat/completions")}
    assert {got.status for got in lists.values()} == {200}
    return {path: got.json["data"] for path, got in lists.items()}


@each_fault
def test_every_write_is_a_clear_503_that_leaves_nothing_and_works_again_afterwards(
    server: Server, tmp_path: Path, fault: Fault
) -> None:
    before, writes = stored(server), operations(server)
    with fault(server, tmp_path):
        for name, write in writes.items():
            got = write()
            assert (name, got.status, got.json["error"]["code"]) == (name, 503, "service_unavailable")
            assert got.json["error"]["message"].startswith("The ")
        assert server.get("/responses").status == 200
        assert server.ask("GET", "/health").status == 200
    assert stored(server) == before
    for name, write in writes.items():
        assert (name, write().status) == (name, 200)


@each_fault
def test_an_unstored_answer_needs_no_database(server: Server, tmp_path: Path, fault: Fault) -> None:
    with fault(server, tmp_path):
        for stream in (False, True):
            assert (
                server.post("/responses", {"model": MODEL, "input": "Hi", "store": False, "stream": stream}).status
                == 200
            )
            assert server.post("/chat/completions", {**CHAT, "store": False, "stream": stream}).status == 200


@each_fault
def test_a_stream_whose_end_cannot_be_stored_ends_as_failed(
    server: Server, host: Host, tmp_path: Path, fault: Fault
) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    connection = server.connect()
    connection.request("POST", "/v1/responses", json.dumps({"model": MODEL, "input": "Hi", "stream": True}))
    answer = connection.getresponse()  # it has begun, and is stored
    gate.wait()
    with fault(server, tmp_path):
        gate.open()
        frames = answer.read().split(b"\n\n")
    connection.close()
    assert frames[-2] == b"data: [DONE]"
    events = [json.loads(frame.partition(b"data: ")[2]) for frame in frames[:-2]]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events if event["type"] in TERMINAL] == ["response.failed"]
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert server.get(f"/responses/{events[0]['response']['id']}").json["status"] != "completed"
    assert server.post("/responses", {"model": MODEL, "input": "Hi"}).json["status"] == "completed"


@each_fault
def test_a_chat_stream_that_cannot_be_stored_ends_with_an_error(
    server: Server, host: Host, tmp_path: Path, fault: Fault
) -> None:
    before = stored(server)
    with fault(server, tmp_path):
        got = server.post("/chat/completions", {**CHAT, "stream": True})
    assert got.status == 200
    assert b"[DONE]" not in got.body
    assert json.loads(got.body.rpartition(b"data: ")[2])["error"]["code"] == "service_unavailable"
    assert stored(server) == before


@each_fault
def test_a_turn_whose_end_cannot_be_stored_leaves_its_conversation_as_it_was_and_free(
    server: Server, host: Host, tmp_path: Path, fault: Fault
) -> None:
    conversation = server.post("/conversations", {"items": [{"role": "user", "content": "before"}]}).json["id"]
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    connection = server.connect()
    body = {"model": MODEL, "input": "Hi", "stream": True, "conversation": conversation}
    connection.request("POST", "/v1/responses", json.dumps(body))
    answer = connection.getresponse()
    gate.wait()
    with fault(server, tmp_path):
        gate.open()
        answer.read()
    connection.close()
    assert len(server.get(f"/conversations/{conversation}/items").json["data"]) == 1


def test_another_process_that_holds_the_database_is_waited_for_then_reported(server: Server, tmp_path: Path) -> None:
    with held(server, tmp_path):
        got = server.post("/conversations", {})
        assert (got.status, got.json["error"]["message"]) == (
            503,
            "The database is not available: another process holds it.",
        )
        assert server.get("/responses").status == 200
    assert server.post("/conversations", {}).status == 200


def test_a_database_that_was_removed_takes_nothing_that_would_be_lost(server: Server, tmp_path: Path) -> None:
    for file in (tmp_path / "data").glob("antiphon.db*"):
        file.unlink()
    got = server.post("/conversations", {})
    assert got.status == 503
    assert "removed" in got.json["error"]["message"]
