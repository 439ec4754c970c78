"""kill -9 under load: what was acknowledged is there afterwards (promises P1 and P3)."""

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.host import Host, Reply
from antiphon.testing.rules import TERMINAL
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
WORKERS = 6
ACKNOWLEDGED_BEFORE_KILL = 60


class Load:
    """Clients that make responses and append items until the server dies, and note what was acknowledged."""

    def __init__(self, server: Server, conversation: str) -> None:
        self.server = server
        self.conversation = conversation
        self.responses: list[dict[str, Any]] = []
        self.items: list[list[str]] = []
        self._changed = threading.Condition()

    def run(self, number: int) -> None:
        """One client."""
        turn = 0
        while True:
            turn += 1
            try:
                if number == 0:
                    self._append(turn)
                else:
                    self._respond(number, turn)
            except (OSError, http.client.HTTPException, ValueError, LookupError):
                return

    def _append(self, turn: int) -> None:
        texts = [f"item {turn}.{index}" for index in range(3)]
        items = [{"role": "user", "content": text} for text in texts]
        got = self.server.post(f"/conversations/{self.conversation}/items", {"items": items})
        assert got.status == 200, got.body
        self._note(self.items, [item["id"] for item in got.json["data"]])

    def _respond(self, number: int, turn: int) -> None:
        body = {"model": MODEL, "input": f"{number}.{turn}", "stream": number % 2 == 0}
        got = self.server.post("/responses", body)
        if got.status != 200:
            raise LookupError(got.body)
        if number % 2:
            self._note(self.responses, got.json)
            return
        frames = [json.loads(frame.partition(b"data: ")[2]) for frame in got.body.split(b"\n\n")[:-2]]
        self._note(self.responses, next(frame["response"] for frame in frames if frame["type"] in TERMINAL))

    def _note(self, where: list[Any], what: Any) -> None:
        with self._changed:
            where.append(what)
            self._changed.notify_all()

    def acknowledged(self, count: int) -> None:
        """Blocks until so many responses were acknowledged, and at least one batch of items."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.responses) >= count and self.items, 30):
                raise TimeoutError(f"only {len(self.responses)} responses, {len(self.items)} batches of items")


@pytest.mark.parametrize("more", [0, 17])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, host: Host, state: dict[str, str], more: int) -> None:
    host.default = Reply(text=["Hel", "lo"])
    settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, **state}
    with running(settings, tmp_path, process=True) as server:
        conversation = server.post("/conversations", {}).json["id"]
        load = Load(server, conversation)
        workers = [threading.Thread(target=load.run, args=(number,), daemon=True) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        load.acknowledged(ACKNOWLEDGED_BEFORE_KILL + more)
        server.kill()
        for worker in workers:
            worker.join(10)
    with running(settings, tmp_path, process=True) as server:
        for response in load.responses:
            assert server.get(f"/responses/{response['id']}").json == response
            assert server.get(f"/responses/{response['id']}/input_items").json["data"]
        check_items(server, conversation, load.items)
        check_nothing_runs(server)


def check_items(server: Server, conversation: str, batches: list[list[str]]) -> None:
    """Every acknowledged item is there once, in order, and batches are whole."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = server.get(f"/conversations/{conversation}/items?order=asc&limit=100{after}").json
        found += page["data"]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    ids = [item["id"] for item in found]
    acknowledged = [item for batch in batches for item in batch]
    assert ids[: len(acknowledged)] == acknowledged
    assert len(ids) == len(set(ids))
    texts = [item["content"][0]["text"] for item in found]
    assert texts == [f"item {turn}.{index}" for turn in range(1, len(texts) // 3 + 1) for index in range(3)]


def check_nothing_runs(server: Server) -> None:
    """No response claims to be still running after the restart."""
    listed = server.get("/responses?limit=100").json["data"]
    assert listed
    assert {response["status"] for response in listed} <= {"completed", "failed"}
