"""kill -9 at every single transaction of a response: what was finished is not paid for again (promise P2)."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from antiphon.engine.journal import decode_part
from antiphon.models.base import Compacted, Finish
from antiphon.testing.rules import check
from clients import LONG, POLICY, Clients
from fleet import Member
from ledger import Told
from stage import Plan, Stage, staged
from upstream import MODEL, words

ENTRY = str(Path(__file__).with_name("dying_server.py"))
CHAT = "/v1/chat/completions"
TRANSACTIONS_MIN = 8
"""Stored, claimed, watched, begun, compacted, said in several parts, ended."""


def wanted(tag: str) -> dict[str, Any]:
    """A response in the background, streamed, whose context is compacted first."""
    said = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Yes."}]
    body = {"model": f"slow/{MODEL}", "input": [*said, {"role": "user", "content": "Go on."}]}
    return {**body, "instructions": f"[{tag}]", "context_management": POLICY, "background": True, "stream": True}


def left(folder: Path, told: Told) -> set[str]:
    """The steps of a response that its database knows as finished. Finds its id, if its client was not told."""
    with closing(sqlite3.connect(folder / "data" / "antiphon.db")) as database:
        rows = database.execute(
            "SELECT id, status FROM responses WHERE CAST(body AS TEXT) LIKE ?", (f"%[{told.tag}]%",)
        ).fetchall()
        if not rows:
            assert told.id is None
            return set()
        ((id, status),) = rows
        assert told.id in (None, id)
        told.id = id
        parts = database.execute("SELECT body FROM journal_parts WHERE container = ? ORDER BY position", (id,))
        entries = [entry for (part,) in parts for entry in decode_part(part)]
    steps = {"summary": Compacted, "answer": Finish}
    ended = status not in ("queued", "in_progress")
    return {step for step, kind in steps.items() if ended or any(isinstance(entry, kind) for entry in entries)}


async def check_resumed(stage: Stage, told: Told, finished: set[str]) -> None:
    """It comes to its end, as one stream that its client saw the beginning of, and was paid for once where it could."""
    await stage.clients.follow(told)
    assert told.final is not None
    assert told.final["status"] == "completed", told.final
    assert told.final["output"][-1]["content"][0]["text"] == "".join(words(told.tag))
    assert [item["type"] for item in told.final["output"]].count("compaction") == 1
    assert await again(stage.clients, told) == await again(stage.clients, told)
    calls = Counter(call.step for call in stage.upstream.calls if call.tag == told.tag)
    assert set(calls) == {"summary", "answer"}
    assert all(count == 1 if step in finished else count <= 2 for step, count in calls.items()), (calls, finished)


async def died(member: Member) -> bool:
    """Waits for a process's death; whether it was killed."""
    assert member.process is not None
    async with asyncio.timeout(10):
        return await member.process.wait() < 0


async def again(clients: Clients, told: Told) -> bytes:
    """The stream, read once more: what its client was shown."""
    root = (await clients.fleet.pick()).root
    async with clients.session.get(f"{root}/v1/responses/{told.id}?stream=true") as answer:
        raw = await answer.read()
    assert [frame.partition(b"data: ")[2].strip() for frame in check(raw).frames] == told.frames
    return raw


@pytest.mark.parametrize("when", ["before", "after"])
async def test_no_finished_step_is_paid_for_twice_whenever_its_process_dies(tmp_path: Path, when: str) -> None:
    deadly, finished = 0, [set[str]()]
    async with staged(Plan(tmp_path, entry=(ENTRY, "responses", when, "1"))) as stage:
        clients, fleet = stage.clients, stage.fleet
        (member,) = fleet.members
        ended, told = False, Told("", "")
        while not ended:
            deadly += 1
            told = clients.ledger.new("step")
            ended = await clients.stream(told, "POST", "/responses", body=wanted(told.tag))
            if not ended:
                assert await died(member)
            finished.append(left(tmp_path, told))
            fleet.entry = (ENTRY, "responses", when, str(deadly + 1))
            await fleet.kill(member)
            await fleet.ready(member)
            if told.id is not None:
                await check_resumed(stage, told, finished[-1])
        assert await stage.count("SELECT COUNT(*) FROM runs") == 0
    assert deadly > TRANSACTIONS_MIN
    assert set().union(*finished) == {"summary", "answer"}
    assert clients.ledger.problems == []


def form() -> aiohttp.FormData:
    """An upload."""
    made = aiohttp.FormData()
    made.add_field("purpose", "batch")
    made.add_field("file", b"content", filename="in.jsonl")
    return made


async def made(clients: Clients, table: str) -> tuple[str, Any]:
    """A path and a body that make one thing of this kind."""
    if table == "batches":
        file = (await clients.ask("POST", "/files", form, key=clients.key())).json["id"]
        return "/batches", {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    if table == "items":
        conversation = (await clients.ask("POST", "/conversations", {}, key=clients.key())).json["id"]
        said = [{"role": "user", "content": text} for text in "ab"]
        return f"/conversations/{conversation}/items", {"items": said}
    if table == "vector_store_files":
        store = (await clients.ask("POST", "/vector_stores", {"embedding_model": ""}, key=clients.key())).json["id"]
        documents = [{"document_id": "a", "content": "Hi"}]
        return "/tool-runtime/rag-tool/insert", {"vector_db_id": store, "documents": documents}
    return f"/{table}", form if table == "files" else {"metadata": {"a": "b"}}


@pytest.mark.parametrize("table", ["batches", "conversations", "files", "items", "vector_store_files"])
async def test_what_was_made_under_a_key_is_not_made_again_when_its_process_dies_before_it_answers(
    tmp_path: Path, table: str
) -> None:
    async with staged(Plan(tmp_path, entry=(ENTRY, table, "after", "1"))) as stage:
        clients, fleet = stage.clients, stage.fleet
        (member,) = fleet.members
        path, body = await made(clients, table)
        before = await stage.count(f"SELECT COUNT(*) FROM {table}")
        answer = asyncio.ensure_future(clients.ask("POST", path, body, key="the key"))
        assert await died(member)
        count = await stage.count(f"SELECT COUNT(*) FROM {table}")
        fleet.entry = (ENTRY, table, "after", "0")
        await fleet.kill(member)
        first, second = await answer, await clients.ask("POST", path, body, key="the key")
        assert first.raw == second.raw
        assert await stage.count(f"SELECT COUNT(*) FROM {table}") == count == before + (2 if table == "items" else 1)
        again = (await clients.ask("GET", path)).json["data"] if table == "items" else []
        assert [item["id"] for item in reversed(again)] == [item["id"] for item in (first.json or {}).get("data", ())]
