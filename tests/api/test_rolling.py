"""A rolling restart of three processes under load: nothing is lost, and what was cut goes on to the byte (P15)."""

import http.client
import itertools
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Self

from antiphon.testing.host import Gate, Host, Reply, Request
from antiphon.testing.rules import check
from antiphon.testing.server import Server, running, until

MODEL = "scripted/scripted-model"
STREAMS = 9
QUEUED = 6
BUSY = 3
DONE = b"data: [DONE]\n\n"


class Fleet:
    """Three processes, of which one at a time is replaced."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._places: list[tuple[AbstractContextManager[Server], Server]] = []
        self._turn = itertools.count()

    def __enter__(self) -> Self:
        self._places = [self._start() for _ in range(3)]
        return self

    def __exit__(self, *_: object) -> None:
        for place, _ in self._places:
            place.__exit__(None, None, None)

    def _start(self) -> tuple[AbstractContextManager[Server], Server]:
        place = running(self._settings, self._folder, process=True)
        return place, place.__enter__()

    def replace_all(self) -> None:
        """Ends each and starts another, one after the other."""
        for number in range(3):
            self._places[number][0].__exit__(None, None, None)
            self._places[number] = self._start()

    @property
    def any(self) -> Server:
        """The next of them, as a balancer would choose."""
        return self._places[next(self._turn) % 3][1]

    @property
    def all(self) -> list[Server]:
        return [server for _, server in self._places]


class Client:
    """Reads one stream, wherever it goes on, until it has all of it."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.raw = b""
        self.id = ""
        self.cuts = 0
        self.begun = threading.Event()
        self._fleet = fleet
        self._number = number
        self._last = -1

    def run(self) -> None:
        body = {"model": MODEL, "input": f"held {self._number}", "stream": True, "background": self._number % 3 == 0}
        self._read("POST", "/v1/responses", body)
        while not self.raw.endswith(DONE):
            self.cuts += 1
            self._read("GET", f"/v1/responses/{self.id}?stream=true&starting_after={self._last}", None)

    def _read(self, method: str, path: str, body: Any) -> None:
        connection = self._fleet.any.connect()
        try:
            connection.request(method, path, json.dumps(body) if body else None, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.status in (200, 503), answer.read()
            while answer.status == 200 and (frame := self._frame(answer)):
                self._take(frame)
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def _frame(self, answer: http.client.HTTPResponse) -> bytes:
        """The next whole frame; empty at the end."""
        frame = b""
        while not frame.endswith(b"\n\n"):
            line = answer.readline()
            if not line:
                return b""
            frame += line
        return frame

    def _take(self, frame: bytes) -> None:
        self.raw += frame
        if frame != DONE:
            event = json.loads(frame.partition(b"\ndata: ")[2])
            self._last = event["sequence_number"]
            self.id = self.id or event["response"]["id"]
            if event["type"].endswith("text.delta"):
                self.begun.set()


def busy(fleet: Fleet, over: threading.Event) -> list[int]:
    """Short requests, each under a key, again on another process if a connection is closed; their statuses."""
    statuses = []
    for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
        key = {"idempotency-key": f"{threading.get_ident()}-{number}"}
        status = None
        while status is None:
            try:
                status = fleet.any.post("/responses", {"model": MODEL, "input": "short"}, key).status
            except (OSError, http.client.HTTPException):
                continue
        statuses.append(status)
    return statuses


def test_a_rolling_restart_loses_no_request_and_cuts_no_stream_for_good(
    host: Host, tmp_path: Path, postgres_url: str
) -> None:
    asked: Counter[str] = Counter()

    def answer(request: Request) -> Reply | None:
        if request.method == "GET" or (said := request.json["messages"][0]["content"]) == "short":
            return None
        asked[said] += 1  # whoever takes it over gets the whole answer
        return Reply(text=["one ", "two ", *([Gate()] if asked[said] == 1 else []), "three"])

    host.by_request = answer
    settings = {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
        "database_url": postgres_url,
        "timeouts": {"shutdown_s": 0.3},
    }
    over = threading.Event()
    with Fleet(settings, tmp_path) as fleet, ThreadPoolExecutor(STREAMS + BUSY) as threads:
        clients = [Client(fleet, number) for number in range(STREAMS)]
        reading = [threads.submit(client.run) for client in clients]
        shorts = [threads.submit(busy, fleet, over) for _ in range(BUSY)]
        queued = [
            fleet.any.post("/responses", {"model": MODEL, "input": f"queued {number}", "background": True}).json["id"]
            for number in range(QUEUED)
        ]
        try:
            assert all(client.begun.wait(10) for client in clients)
            fleet.replace_all()
            for each in reading:
                each.result(30)
        finally:
            over.set()
        for statuses in shorts:
            assert set(statuses.result()) == {200}
        for id in queued:
            ended = partial(fleet.any.get, f"/responses/{id}")
            until(ended, lambda got: got.json["status"] == "completed")
        for client in clients:
            check(client.raw)
            assert client.cuts > 0
            for server in fleet.all:
                assert server.get(f"/responses/{client.id}?stream=true").body == client.raw
