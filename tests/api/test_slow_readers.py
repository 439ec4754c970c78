"""Clients that do not read: memory stays flat, others are served, and nobody is waited for without end (promise P9)."""

import json
import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from antiphon.api.sse import COMMENT
from antiphon.testing import rules
from antiphon.testing.host import Gate, Host, Reply
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
READERS = 1000
PIECES = 60
BYTES_PER_READER_MAX = 512 * 1024
WAIT_S = 20


def settings(host: Host, **timeouts: float) -> dict[str, Any]:
    return {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, "timeouts": timeouts}


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline


def unread(server: Server, path: str, body: Any) -> socket.socket:
    """A request whose answer nobody reads, on a connection that takes little by itself."""
    data = json.dumps(body).encode()
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(WAIT_S)
    reader.connect(("127.0.0.1", urlsplit(server.root).port))
    reader.sendall(b"POST /v1%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(data), data))
    return reader


def rest(reader: socket.socket) -> bytes:
    """What the reader is still given until its answer ends or is broken off."""
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    pieces = []
    try:
        while not (pieces and pieces[-1].endswith(b"0\r\n\r\n")):
            piece = reader.recv(1 << 20)
            if not piece:
                break
            pieces.append(piece)
    except ConnectionResetError:
        pieces.append(b"reset")
    return b"".join(pieces)


def memory(server: Server) -> int:
    """The resident memory of the server's process, in bytes."""
    assert server.process is not None
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def typical_ms(server: Server) -> float:
    """How long another client waits."""
    took = []
    for _ in range(30):
        began = time.perf_counter()
        assert server.get("/models").status == 200
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


@pytest.fixture
def many_sockets() -> Iterator[None]:
    """Room for the readers, and for what the scripted host in this process has to do with them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_sockets")
def test_a_thousand_clients_that_do_not_read_cost_little_memory_and_nobody_any_time(tmp_path: Path, host: Host) -> None:
    host.default = Reply(text=["x" * 10_000] * PIECES)
    with running(settings(host), tmp_path, process=True) as server:
        assert server.post("/chat/completions", {**CHAT, "stream": True}).status == 200
        before, before_ms = memory(server), typical_ms(server)
        readers = [unread(server, "/chat/completions", {**CHAT, "stream": True}) for _ in range(READERS)]
        host.called(READERS + 1)
        until(lambda: all(call.finished.is_set() for call in host.calls))
        assert typical_ms(server) < 20 * before_ms + 20
        host.answer(Reply(text="quick"))
        assert server.post("/chat/completions", CHAT).status == 200
        grown = memory(server) - before
        assert grown < READERS * BYTES_PER_READER_MAX
        assert rest(readers[-1]).count(b"x" * 10_000) == PIECES
        for reader in readers:
            reader.close()


@pytest.mark.parametrize("store", [True, False])
def test_a_client_that_takes_nothing_is_disconnected_and_its_run_goes_on_if_it_is_stored(
    tmp_path: Path, host: Host, store: bool
) -> None:
    host.default = Reply(text=["x" * 10_000] * 2000)
    with running(settings(host, reader_s=0.3), tmp_path, process=True) as server:
        reader = unread(server, "/responses", {"model": MODEL, "input": "Hi", "stream": True, "store": store})
        head = reader.recv(2048)
        if store:
            response_id = json.loads(head.partition(b"data: ")[2].partition(b"\n")[0])["response"]["id"]
            until(lambda: server.get(f"/responses/{response_id}").json["status"] == "completed")
        else:
            host.called(1).abort_seen()
        assert not rest(reader).endswith(b"0\r\n\r\n")
        reader.close()


def test_a_client_that_reads_slowly_is_not_disconnected(tmp_path: Path, host: Host) -> None:
    host.default = Reply(text=["x" * 10_000] * PIECES)
    with running(settings(host, reader_s=0.5), tmp_path, process=True) as server:
        reader = unread(server, "/chat/completions", {**CHAT, "stream": True})
        taken, began = b"", time.monotonic()
        while time.monotonic() - began < 2:
            taken += reader.recv(512)
        assert (taken + rest(reader)).endswith(b"0\r\n\r\n")
        reader.close()


@pytest.mark.parametrize(
    ("path", "body"), [("/chat/completions", CHAT), ("/responses", {"model": MODEL, "input": "Hi"})], ids=["c", "r"]
)
def test_a_silent_stream_shows_signs_of_life_which_clients_do_not_mind(
    tmp_path: Path, host: Host, path: str, body: Any
) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    with running(settings(host, keep_alive_s=0.05), tmp_path) as server:
        connection = server.connect()
        connection.request("POST", f"/v1{path}", json.dumps({**body, "stream": True}))
        answer = connection.getresponse()
        seen = b""
        while seen.count(COMMENT) < 3:
            seen += answer.read1()
        gate.open()
        seen += answer.read()
        connection.close()
    whole = seen.replace(COMMENT, b"")
    assert whole.endswith(b"data: [DONE]\n\n")
    assert b"lo" in whole.partition(b"Hel")[2]
    if path == "/responses":
        rules.check(whole)


def test_the_official_client_reads_past_signs_of_life(tmp_path: Path, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    later = threading.Timer(0.3, gate.open)
    with running(settings(host, keep_alive_s=0.01), tmp_path) as server, server.client() as client:
        later.start()
        stream = client.responses.create(model=MODEL, input="Hi", stream=True)
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == "Hello"
