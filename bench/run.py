"""`make bench`: the server's own CPU per request and per streamed event, as a ratio to the model host alone.

Each scenario is sent to a fake host alone, then through Antiphon over the same host; see docs/performance.md.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from host import CHUNKS
from load import Request, load
from writes import PostgresLog, SqliteLog

PATIENCE_S: Final = 20.0
WRITES_S: Final = 0.5


class Scenario(NamedTuple):
    """What is sent through Antiphon, and what costs the host alone as much as it does behind Antiphon.

    `events` are those that a streamed answer has; 0 if it is whole.
    """

    name: str
    requests: Sequence[Request]
    alone: Sequence[Request]
    events: int = 0


def _chat(model: str, **more: object) -> Request:
    body = {"model": model, "messages": [{"role": "user", "content": "Tell me about Ada."}], **more}
    return Request("POST", "/v1/chat/completions", body)


def _response(model: str, **more: object) -> Request:
    return Request("POST", "/v1/responses", {"model": model, "input": "Tell me about Ada.", **more})


def _turn(model: str) -> Request:
    body = {"type": "response.create", "model": model, "input": "Tell me about Ada.", "instructions": "Be brief. " * 9}
    return Request("WEBSOCKET", "/v1/responses", body)


def _embedding(model: str) -> Request:
    return Request("POST", "/v1/embeddings", {"model": model, "input": "Ada"})


_ITEM: Final = {"items": [{"type": "message", "role": "user", "content": "Hi"}]}
_CONVERSATION: Final = (
    Request("POST", "/v1/conversations", {}),
    Request("POST", "/v1/conversations/{id}/items", _ITEM),
    Request("GET", "/v1/conversations/{id}/items"),
)
_BACKGROUND: Final = (
    _response("bench/fast", background=True),
    Request("GET", "/v1/responses/{id}?stream=true"),
)
_MODELS: Final = (Request("GET", "/v1/models"),)
_EVENTS: Final = CHUNKS + 8  # created, in_progress, two added, deltas, three done, completed
SCENARIOS: Final = (
    Scenario("models", _MODELS, _MODELS),
    Scenario("chat", [_chat("bench/fast")], [_chat("fast")]),
    Scenario("chat-stream", [_chat("bench/fast", stream=True)], [_chat("fast", stream=True)], CHUNKS),
    Scenario("chat-stream, paced", [_chat("bench/paced", stream=True)], [_chat("paced", stream=True)], CHUNKS),
    Scenario("responses", [_response("bench/fast")], [_chat("fast", stream=True)]),
    Scenario("responses-stream", [_response("bench/fast", stream=True)], [_chat("fast", stream=True)], _EVENTS),
    Scenario(
        "responses-stream, paced", [_response("bench/paced", stream=True)], [_chat("paced", stream=True)], _EVENTS
    ),
    Scenario("background, followed", _BACKGROUND, [_chat("fast", stream=True)], _EVENTS),
    Scenario("responses-socket", [_turn("bench/fast")], [_chat("fast", stream=True)], _EVENTS),
    Scenario("responses-socket, paced", [_turn("bench/paced")], [_chat("paced", stream=True)], _EVENTS),
    Scenario("conversations", _CONVERSATION, _MODELS * 3),
    Scenario("embeddings", [_embedding("bench/fast")], [_embedding("fast")]),
)


class Server(NamedTuple):
    """A process and where it listens."""

    process: "subprocess.Popen[bytes]"
    port: int


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    parts = subprocess.check_output([shutil.which("ps") or "ps", "-o", "time=", "-p", str(pid)], text=True)
    return sum(float(part) * 60.0**power for power, part in enumerate(reversed(parts.strip().split(":"))))


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(subprocess.check_output([shutil.which("ps") or "ps", "-o", "rss=", "-p", str(pid)], text=True)) / 1024


def measure(server: Server, requests: Sequence[Request], connections: int, seconds: float) -> tuple[float, float]:
    """CPU seconds of the server for one pass of the requests, and passes a second."""
    asyncio.run(load(server.port, requests, connections, min(0.5, seconds)))  # connections, caches, compiled paths
    before, began = cpu_s(server.process.pid), time.monotonic()
    done = asyncio.run(load(server.port, requests, connections, seconds))
    return (cpu_s(server.process.pid) - before) / done, done / (time.monotonic() - began)


def print_costs(antiphon: Server, alone: Server, scenarios: Sequence[Scenario], *, load_of: argparse.Namespace) -> None:
    """The server's CPU, beside that of the host alone."""
    connections, seconds = load_of.connections, load_of.seconds
    print(f"{'scenario':26} {'CPU ms/request':>15} {'host alone':>11} {'ratio':>7} {'us/event':>9} {'per s':>8}")
    for each in scenarios:
        base, _ = measure(alone, each.alone, connections, seconds)
        cost, rate = measure(antiphon, each.requests, connections, seconds)
        event = f"{cost / each.events * 1e6:9.1f}" if each.events else " " * 9
        print(f"{each.name:26} {cost * 1e3:15.3f} {base * 1e3:11.3f} {cost / base:7.1f} {event} {rate:8.0f}")


def print_writes(
    antiphon: Server, log: SqliteLog | PostgresLog, scenarios: Sequence[Scenario], *, connections: int
) -> None:
    """What the database's log gets of each."""
    print(f"{'scenario':26} {'log bytes/request':>18} {'per event':>10} {'commits/request':>16}")
    for each in scenarios:
        with log.held():
            before = log.written()
            done = asyncio.run(load(antiphon.port, each.requests, connections, WRITES_S))
            after = log.written()
        size, commits = (after.bytes - before.bytes) / done, (after.commits - before.commits) / done
        event = f"{size / each.events:10.0f}" if each.events else " " * 10
        print(f"{each.name:26} {size:18.0f} {event} {commits:16.2f}")


@contextmanager
def started(command: Sequence[str], port: int, path: str) -> Iterator[Server]:
    """A server's process, once it answers."""
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=keep, stdout=log, stderr=log)
        try:
            _wait(process, f"http://127.0.0.1:{port}{path}")
            yield Server(process, port)
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode()[-2000:])
            raise
        finally:
            process.terminate()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 (our own server)
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{url} did not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Runs the scenarios and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose name has this")
    parser.add_argument("--database-url", default="", help="a PostgreSQL, instead of SQLite in a folder of its own")
    parser.add_argument("--writes", action="store_true", help="what is written to the database's log, not CPU")
    args = parser.parse_args()
    here = Path(__file__).parent
    host_port, port = _free_port(), _free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        started([sys.executable, str(here / "host.py"), str(host_port)], host_port, "/v1/models") as alone,
    ):
        settings = {
            "find_hosts": False,
            "data_dir": folder,
            "database_url": args.database_url,
            "log_level": "warning",
            "hosts": {"bench": {"base_url": f"http://127.0.0.1:{host_port}/v1"}},
        }
        file = Path(folder) / "bench.json"
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "antiphon.cli", "serve", "--config", str(file), "--port", str(port)]
        began = time.monotonic()
        with started(command, port, "/v1/models") as antiphon:
            pid = antiphon.process.pid
            start = f"{time.monotonic() - began:.2f} s, {cpu_s(pid):.2f} s CPU, {resident_mib(pid):.0f} MiB"
            print(f"start to first answer: {start}\n{args.connections} connections, {args.seconds:g} s each\n")
            scenarios = [each for each in SCENARIOS if args.only in each.name]
            if args.writes:
                url = args.database_url
                log = PostgresLog(url) if url else SqliteLog(Path(folder) / "antiphon.db")
                print_writes(antiphon, log, scenarios, connections=args.connections)
            else:
                print_costs(antiphon, alone, scenarios, load_of=args)
            print(f"\nafter all that: {resident_mib(pid):.0f} MiB")


if __name__ == "__main__":
    main()
