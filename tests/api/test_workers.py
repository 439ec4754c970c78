"""`antiphon serve --workers N`: processes that share a port are kept, renewed without a request lost, and ended."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from antiphon.testing.host import Host, Reply
from antiphon.testing.server import Server, running, until

MODEL = "scripted/scripted-model"
HI = {"model": MODEL, "input": "Hi"}


def settings(host: Host, **more: Any) -> dict[str, Any]:
    return {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
        "workers": 2,
        "log_level": "info",
        **more,
    }


@contextmanager
def serving(host: Host, folder: Path, **more: Any) -> Iterator[Server]:
    with running(settings(host, **more), folder, process=True) as server:
        until((folder / "server.log").read_text, lambda log: "all processes serve" in log)
        yield server


def children(server: Server) -> set[int]:
    """The processes that serve."""
    assert server.process is not None
    pid = server.process.pid
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def lives(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Clients:
    """Clients that each make one request after another, on connections of their own and on one that stays open."""

    def __init__(self, server: Server, count: int = 4) -> None:
        self.answered = 0
        self.failures: list[object] = []
        self._server = server
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, fresh: bool) -> None:
        kept = self._server.connect()
        try:
            while not self._over.is_set():
                if fresh:
                    status = self._server.post("/responses", HI).status
                else:
                    self._send(kept)
                    answer = kept.getresponse()
                    status = answer.status
                    answer.read()
                if status != 200:
                    self.failures.append(status)
                self.answered += 1
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(error)
        finally:
            kept.close()

    @staticmethod
    def _send(kept: http.client.HTTPConnection) -> None:
        """Sends a request; where the connection was closed while it was idle, as HTTP allows, on a new one."""
        body, headers = json.dumps(HI), {"content-type": "application/json"}
        try:
            kept.request("POST", "/v1/responses", body, headers)
        except BrokenPipeError:
            kept.close()
            kept.request("POST", "/v1/responses", body, headers)


def test_all_processes_answer_and_share_their_state(host: Host, tmp_path: Path, state: dict[str, str]) -> None:
    with serving(host, tmp_path, **state) as server:
        id = server.post("/responses", HI).json["id"]
        assert {server.get(f"/responses/{id}").status for _ in range(20)} == {200}


def test_processes_are_renewed_without_a_request_lost(host: Host, tmp_path: Path, state: dict[str, str]) -> None:
    host.default = Reply(text=["Hel", "lo"])
    with serving(host, tmp_path, **state) as server, Clients(server) as clients:
        old = children(server)
        until(lambda: clients.answered > 20)
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        until(lambda: not children(server) & old and len(children(server)) == 2)
        seen = clients.answered
        until(lambda: clients.answered > seen + 20 or clients.failures)
    assert clients.failures == []


def test_a_process_that_dies_is_started_again(host: Host, tmp_path: Path) -> None:
    with serving(host, tmp_path) as server:
        first, other = sorted(children(server))
        os.kill(first, signal.SIGKILL)
        new = until(lambda: children(server) - {first, other})
        assert len(new) == 1
        until(lambda: server.ask("GET", "/ready").status == 200)


def test_all_end_with_their_parent(host: Host, tmp_path: Path) -> None:
    with serving(host, tmp_path) as server:
        ours = children(server)
        server.kill()
        until(lambda: not any(map(lives, ours)))


def test_a_settings_file_that_is_wrong_meanwhile_renews_nothing(host: Host, tmp_path: Path) -> None:
    with serving(host, tmp_path) as server:
        old = children(server)
        (tmp_path / "antiphon.json").write_text('{"wokers": 3}')
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        log = until((tmp_path / "server.log").read_text, lambda text: "are not renewed" in text)
        assert log.count("there is no such setting") == 1
        assert children(server) == old
        assert server.post("/responses", HI).status == 200


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"database_url": "postgresql://me@127.0.0.1:9/nowhere"}, "cannot be reached"),
        ({"data_dir": "/dev/null/data"}, "cannot be used"),
        ({"mode": "replay"}, "2 processes cannot record or replay"),
        ({"recordings": "recordings"}, "2 processes cannot record or replay"),
    ],
)
def test_what_keeps_the_processes_from_starting_is_said_once(tmp_path: Path, more: dict[str, str], said: str) -> None:
    file = tmp_path / "antiphon.json"
    tree = {"data_dir": str(tmp_path), "find_hosts": False, "port": 0, "workers": 2, "log_level": "warning", **more}
    file.write_text(json.dumps(tree))
    command = [sys.executable, "-m", "antiphon.cli", "serve", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count(said) == 1
