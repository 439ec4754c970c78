"""kill -9 in the middle of a batch, again and again: each custom_id has one result (promise P11)."""

import json
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.host import Gate, Host, Reply, Request
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
LINES = 200
KILLS = (20, 60, 61, 120, 190)
"""How many calls the host has had when the server is killed."""
AT_ONCE = 8
DEADLINE_S = 60.0


def lines(endpoint: str) -> bytes:
    """The input: requests that name themselves."""
    field = "messages" if endpoint.endswith("/chat/completions") else "input"
    made = []
    for number in range(LINES):
        said: Any = [{"role": "user", "content": f"line {number}"}]
        body = {"model": MODEL, field: said if field == "messages" else f"line {number}"}
        made.append(json.dumps({"custom_id": f"line {number}", "method": "POST", "url": endpoint, "body": body}))
    return "\n".join(made).encode()


def start(server: Server, endpoint: Any) -> str:
    """A batch of them."""
    with server.client() as client:
        file = client.files.create(file=("in.jsonl", lines(endpoint)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
        return str(batch.id)


def ended(server: Server, batch_id: str) -> Any:
    """The batch at its end; on the way there its counts never go back."""
    seen, deadline = 0, time.monotonic() + DEADLINE_S
    while True:
        found = server.get(f"/batches/{batch_id}").json
        counts = found["request_counts"]
        assert counts["completed"] >= seen
        seen = counts["completed"]
        if found["status"] not in ("validating", "in_progress", "finalizing"):
            return found
        assert time.monotonic() < deadline, found


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_a_batch_survives_kills_with_each_result_once(host: Host, tmp_path: Path, endpoint: str) -> None:
    reached, count = threading.Condition(), 0

    def answer(request: Request) -> Reply:
        nonlocal count
        with reached:
            count += 1
            reached.notify_all()
        return Reply(text=[f"about {request.json['messages'][-1]['content']}"])

    host.by_request = answer
    settings = {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
        "batches": {"lines_at_once": AT_ONCE},
    }
    batch_id, completed = "", []
    for kill in KILLS:
        with running(settings, tmp_path, process=True) as server:
            batch_id = batch_id or start(server, endpoint)
            completed.append(server.get(f"/batches/{batch_id}").json["request_counts"]["completed"])
            with reached:
                assert reached.wait_for(lambda kill=kill: count >= kill, DEADLINE_S), (count, kill)
            server.kill()
    with running(settings, tmp_path, process=True) as server:
        batch = ended(server, batch_id)
        files = server.get("/files?purpose=batch_output").json["data"]
        output = server.get(f"/files/{batch['output_file_id']}/content").body
    assert (batch["status"], batch["error_file_id"]) == ("completed", None)
    assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
    assert [each["id"] for each in files] == [batch["output_file_id"]]
    results = [json.loads(each) for each in output.splitlines()]
    assert [each["custom_id"] for each in results] == [f"line {number}" for number in range(LINES)]
    assert all(f"about {each['custom_id']}" in json.dumps(each["response"]["body"]) for each in results)
    # Paid twice is only what was under way at a kill.
    calls = Counter(request.json["messages"][-1]["content"] for request in host.calls)
    assert len(calls) == LINES
    assert sum(calls.values()) - LINES <= len(KILLS) * AT_ONCE
    assert completed == sorted(completed)


def test_a_server_that_stops_hands_its_batch_on(host: Host, tmp_path: Path) -> None:
    """Without waiting for its end, and without a failure: the next server goes on at once."""
    gate = Gate()
    host.by_request = lambda request: Reply(text=[gate, "x"]) if "line 150" in str(request.json) else None
    settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, "timeouts": {"shutdown_s": 1}}
    with running(settings, tmp_path, process=True) as server:
        batch_id = start(server, "/v1/chat/completions")
        host.called(151)
        assert server.process is not None
        server.process.terminate()
        server.process.wait(20)
    with closing(sqlite3.connect(tmp_path / "data" / "antiphon.db")) as database:
        rows = database.execute("SELECT status, attempts FROM jobs WHERE kind = 'batch'").fetchall()
    assert rows == [("waiting", 0)]
    gate.open()
    with running(settings, tmp_path, process=True) as server:
        batch = ended(server, batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", LINES)
    assert len(host.calls) - LINES <= AT_ONCE
