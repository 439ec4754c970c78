"""A running Antiphon for tests: in a thread of this process, or as a process of its own that can be killed.

    with Host() as host, running({"hosts": {"h": {"base_url": host.url}}}, folder) as server:
        server.client().responses.create(model="h/scripted-model", input="Hi")

Either way it is a real server on a real socket, since in-process transports buffer and hide disconnects.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from antiphon import config, serving
from antiphon.testing import rules

START_S = 20.0
"""How long a server may take to start before a test has failed."""


WAIT_S = 15.0
"""How long `until` looks before a test has failed."""

T = TypeVar("T")


class Got(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Server:
    """A running server. `url` is what a client takes as base URL, `root` the address without `/v1`."""

    def __init__(self, root: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self.root = root
        self.url = f"{root}/v1"
        self.process = process

    def client(self, **options: Any) -> Any:
        """An `openai.OpenAI` that talks to this server and never retries."""
        import openai  # the server itself does without the package

        return openai.OpenAI(base_url=self.url, **{"api_key": "unused", "max_retries": 0, "timeout": 30, **options})

    def connect(self, timeout_s: float = 30) -> http.client.HTTPConnection:
        """A connection of one's own, for what a client library would smooth over."""
        return http.client.HTTPConnection(urlsplit(self.root).netloc, timeout=timeout_s)

    def ask(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Got:
        """One request, `path` from the root; a body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Got(status=answer.status, headers=found, body=answer.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Got:
        """A POST, `path` below `/v1`."""
        return self.ask("POST", f"/v1{path}", body, headers=headers)

    def stream(self, **body: Any) -> rules.Stream:
        """A streamed response that keeps the rules of a stream; raises `rules.Broken` otherwise."""
        got = self.post("/responses", {"model": "scripted/scripted-model", **body, "stream": True})
        assert got.status == 200, got.body
        assert got.headers["content-type"].startswith("text/event-stream"), got.headers
        return rules.check(got.body)

    def get(self, path: str) -> Got:
        """A GET, `path` below `/v1`."""
        return self.ask("GET", f"/v1{path}")

    def kill(self) -> None:
        """SIGKILL: the server gets no chance to finish anything."""
        assert self.process is not None, "a server in a thread cannot be killed: start it with process=True"
        self.process.kill()
        self.process.wait(START_S)


@contextmanager
def running(settings: Mapping[str, Any], folder: Path, *, process: bool = False) -> Iterator[Server]:
    """A server with these settings (as a configuration file has them) and its data in `folder`.

    It finds no hosts by itself and listens on a free port. Several may run in one folder one after the other.
    """
    tree = {"find_hosts": False, "port": 0, "data_dir": str(folder / "data"), "log_level": "warning", **settings}
    file = folder / "antiphon.json"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(tree))
    with _process(file) if process else _thread(file) as server:
        yield server


@contextmanager
def _thread(file: Path) -> Iterator[Server]:
    server = serving.Server(config.load(file, {}))
    thread = threading.Thread(target=server.run, name="antiphon", daemon=True)
    thread.start()
    _until(lambda: server.started or not thread.is_alive())
    if not server.started:
        raise RuntimeError("the server did not start; its log says why")
    port = server.servers[0].sockets[0].getsockname()[1]
    running = Server(f"http://127.0.0.1:{port}")
    try:
        _until(lambda: running.ask("GET", "/ready").status == 200)
        yield running
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join(START_S)


@contextmanager
def _process(file: Path) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "antiphon.cli", "serve", "--config", str(file), "--port", str(port)]
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME", "VIRTUAL_ENV")}
    with (file.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=keep, stdout=log, stderr=log)  # noqa: S603 (our own interpreter)
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        _until(lambda: _is_ready(server))
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(look: Callable[[], T], good: Callable[[T], Any] = bool) -> T:
    """What is seen once it is good; looks again and again, for things that no event tells of."""
    deadline = time.monotonic() + WAIT_S
    while not good(seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {WAIT_S:g} s there is still {seen!r}")
        time.sleep(0.005)
    return seen


def _is_ready(server: Server) -> bool:
    assert server.process is not None
    if server.process.poll() is not None:
        raise RuntimeError(f"the server ended with {server.process.returncode}; its log says why")
    try:
        return server.ask("GET", "/ready").status == 200
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _until(true: Any) -> None:
    deadline = time.monotonic() + START_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server was not ready within {START_S:g} s")
        time.sleep(0.01)
