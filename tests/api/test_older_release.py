"""What release 0.1.0 stored and recorded is served, and a process of that release goes on beside this one (P13).

`release_0_1` holds rows that its server wrote (migrations 001 and 002), what it answered, and a recording of its.
"""

import asyncio
import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from antiphon.stores.database import Database, Statement
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import open_postgres
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing.host import Host
from antiphon.testing.server import Server, running, until

FOLDER = Path(__file__).with_name("release_0_1")
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
RELEASED = {
    "001_start.sql": "1d54c60f62865b62417050190da656e29426cb43a21dd6e1b813b21df689523b",
    "002_files.sql": "eeb6edbeb4b0b527baf21d3b1572a5d93f3c808c5252fc1cd0d37f16c11af33c",
}
"""Migrations that are out, and their SHA-256: what was applied somewhere is never changed."""
MODEL = "scripted/scripted-model"
NOW = int(time.time())

# The statements of release 0.1.0.
BEGIN = (
    "INSERT INTO responses (owner, id, created_at, status, model, previous_response_id, conversation_id, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
FINISH = (
    "UPDATE responses SET status = ?, model = ?, body = ?, journal = ?"
    " WHERE owner = ? AND id = ? AND status IN ('queued', 'in_progress')"
)
ITEM = "INSERT INTO items (owner, container, seq, id, body) VALUES (?, ?, ?, ?, ?)"
CLAIM = "UPDATE conversations SET turn = ? WHERE owner = ? AND id = ? AND turn IS NULL"
END_TURN = "UPDATE conversations SET next_seq = next_seq + ?, turn = NULL WHERE owner = ? AND id = ? AND turn = ?"
APPEND = (
    "INSERT INTO items (owner, container, seq, id, body)"
    " SELECT c.owner, c.id, c.next_seq - v.column1, v.column2, v.column3"
    " FROM conversations c CROSS JOIN (VALUES (?, ?, ?)) v WHERE c.owner = ? AND c.id = ?"
)
LOOSEN = "INSERT INTO loose_contents (owner, content, since_ms) VALUES (?, ?, ?)"
TIE = "DELETE FROM loose_contents WHERE owner = ? AND content = ?"
FILE = (
    "INSERT INTO files (owner, id, created_at, expires_at, purpose, filename, bytes, content)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
COMPLETION = "INSERT INTO completions (owner, id, created_at, model, metadata, body) VALUES (?, ?, ?, ?, ?, ?)"
FORGET = "DELETE FROM responses WHERE owner = ? AND id = ?"


class Older:
    """The database as a process of release 0.1.0 uses it."""

    def __init__(self, folder: Path, state: dict[str, str]) -> None:
        self._file = folder / "data" / "antiphon.db"
        self._url = state.get("database_url", "")

    def make(self) -> None:
        """Its schema, and its rows."""

        async def schema(database: Database) -> None:
            await migrate(database, migrations(database.dialect)[:2])

        self._file.parent.mkdir(exist_ok=True)
        asyncio.run(self._with(schema))
        rows = (FOLDER / "rows.sql").read_text()
        if self._url:
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute(re.sub(r"X'([0-9A-F]*)'", r"'\\x\1'::bytea", rows))  # type: ignore[call-overload]
        else:
            connection = sqlite3.connect(self._file)
            connection.executescript(rows)
            connection.close()

    def run(self, *statements: tuple[str, Sequence[Any]]) -> list[int]:
        """One transaction; how many rows each statement touched."""

        async def transaction(database: Database) -> list[int]:
            return await database.transaction([Statement(sql, tuple(params)) for sql, params in statements])

        return asyncio.run(self._with(transaction))

    async def _with(self, work: Any) -> Any:
        database = open_postgres(self._url) if self._url else open_sqlite(self._file)
        try:
            return await work(database)
        finally:
            await database.close()


@pytest.fixture
def older(tmp_path: Path, state: dict[str, str]) -> Older:
    made = Older(tmp_path, state)
    made.make()
    return made


@pytest.fixture
def newer(older: Older, host: Host, tmp_path: Path, state: dict[str, str]) -> Iterator[Server]:
    hosts = {"scripted": {"base_url": host.url, "preset": "custom"}}
    with running({"hosts": hosts, "secret_key": "the key of this fixture", **state}, tmp_path) as server:
        yield server


def body(id: str, *, created_at: int = NOW, **more: Any) -> bytes:
    """A response as release 0.1.0 stored it."""
    known = next(iter(EXPECTED["responses"].values()))
    kept = {"id": id, "created_at": created_at, "output": [], "status": "in_progress", "completed_at": None}
    return json.dumps({**known, **kept, "usage": None, **more}).encode()


def message(id: str, role: str, text: str) -> bytes:
    kind = "output_text" if role == "assistant" else "input_text"
    part = {"type": kind, "text": text, **({"annotations": [], "logprobs": []} if role == "assistant" else {})}
    return json.dumps({"type": "message", "id": id, "role": role, "status": "completed", "content": [part]}).encode()


def test_migrations_that_are_out_are_as_they_were() -> None:
    folder = Path(migrations.__code__.co_filename).parent / "sql" / "sqlite"
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RELEASED} == RELEASED


def test_what_an_older_release_stored_is_served(newer: Server) -> None:
    for id, response in EXPECTED["responses"].items():
        assert newer.get(f"/responses/{id}").json == response
    conversation = EXPECTED["conversation"]
    items = newer.get(f"/conversations/{conversation['id']}/items?order=asc").json["data"]
    assert items == conversation["items"]
    assert newer.get(f"/chat/completions/{EXPECTED['completion']['id']}").json["choices"][0]["message"]["content"]


def test_streams_of_an_older_release_are_shown_again_to_the_byte(newer: Server) -> None:
    for id, stream in EXPECTED["streams"].items():
        assert newer.get(f"/responses/{id}?stream=true").body.decode() == stream
        frames = stream.split("\n\n")
        got = newer.get(f"/responses/{id}?stream=true&starting_after=3").body.decode()
        assert got == "\n\n".join(frames[4:])


def test_what_an_older_release_stored_is_gone_on_with(newer: Server, host: Host) -> None:
    last = next(iter(EXPECTED["responses"]))
    got = newer.post("/responses", {"model": MODEL, "input": "And my name?", "previous_response_id": last})
    assert got.json["status"] == "completed"
    assert [each["role"] for each in host.calls[-1].json["messages"]] == ["user", "assistant", "user"]
    conversation = EXPECTED["conversation"]
    got = newer.post("/responses", {"model": MODEL, "input": "More", "conversation": conversation["id"]})
    assert got.json["status"] == "completed"
    assert len(host.calls[-1].json["messages"]) == len(conversation["items"]) + 1


def test_an_older_process_makes_a_turn_beside_a_newer_one(newer: Server, older: Older, host: Host) -> None:
    conversation = newer.post("/conversations", {}).json["id"]
    turn = {"model": MODEL, "input": "Mine", "conversation": conversation}
    asked, said = message("msg_a", "user", "Hi"), message("msg_b", "assistant", "Hello")
    assert older.run((CLAIM, ("resp_old", "", conversation))) == [1]
    stored = body("resp_old", conversation={"id": conversation})
    row = ("", "resp_old", NOW, "in_progress", MODEL, None, conversation, stored)
    older.run((BEGIN, row), (ITEM, ("", "resp_old", -1, "msg_a", asked)))
    assert newer.get("/responses/resp_old").json["status"] == "in_progress"
    assert newer.post("/responses", turn).json["error"]["code"] == "conversation_locked"
    ended = body("resp_old", conversation={"id": conversation}, status="completed", completed_at=NOW)
    counts = older.run(
        (FINISH, ("completed", MODEL, ended, b"", "", "resp_old")),
        (ITEM, ("", "resp_old", 0, "msg_b", said)),
        (END_TURN, (2, "", conversation, "resp_old")),
        (APPEND, (2, "msg_a", asked, "", conversation)),
        (APPEND, (1, "msg_b", said, "", conversation)),
    )
    assert counts == [1, 1, 1, 1, 1]
    assert newer.get("/responses/resp_old").json["output"][0]["content"][0]["text"] == "Hello"
    assert newer.post("/responses", turn).json["status"] == "completed"
    assert [each["content"] for each in host.calls[-1].json["messages"]] == ["Hi", "Hello", "Mine"]


def test_an_older_process_respects_what_a_newer_one_holds(newer: Server, older: Older) -> None:
    held = newer.post("/conversations", {}).json["id"]
    assert older.run((CLAIM, ("resp_x", "", held))) == [1]
    assert older.run((CLAIM, ("resp_y", "", held))) == [0]
    response = newer.post("/responses", {"model": MODEL, "input": "Hi"}).json["id"]
    assert older.run((FORGET, ("", response))) == [1]
    assert newer.get(f"/responses/{response}").status == 404


def test_an_older_process_stores_files_and_completions_beside_a_newer_one(newer: Server, older: Older) -> None:
    older.run((LOOSEN, ("", "ab/content", NOW * 1000)))
    file = ("", "file-old", NOW, None, "user_data", "a.txt", 3, "ab/content")
    older.run((TIE, ("", "ab/content")), (FILE, file))
    assert newer.get("/files/file-old").json["filename"] == "a.txt"
    kept = {**EXPECTED["completion"], "id": "chatcmpl-old"}
    older.run((COMPLETION, ("", "chatcmpl-old", NOW, MODEL, "{}", json.dumps(kept).encode())))
    assert newer.get("/chat/completions/chatcmpl-old").json["id"] == "chatcmpl-old"


def test_what_an_older_release_left_behind_long_ago_has_failed(
    older: Older, host: Host, tmp_path: Path, state: dict[str, str]
) -> None:
    for id, created_at in (("resp_young", NOW), ("resp_left", NOW - 7200)):
        row = ("", id, created_at, "in_progress", MODEL, None, None, body(id, created_at=created_at))
        older.run((BEGIN, row))
    with running({"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, **state}, tmp_path) as server:
        left = until(lambda: server.get("/responses/resp_left").json, lambda got: got["status"] == "failed")
        assert "server stopped" in left["error"]["message"]
        assert server.get("/responses/resp_young").json["status"] == "in_progress"


def test_a_recording_of_an_older_release_is_replayed(tmp_path: Path) -> None:
    settings = {"mode": "replay", "recordings": str(FOLDER / "recordings")}
    with running(settings, tmp_path) as server:
        got = server.stream(model=MODEL, input="Who are you?")
        assert got.text == "Recorded by 0.1."
        whole = server.post("/responses", {"model": MODEL, "input": "And whole?"})
        assert whole.json["output"][0]["content"][0]["text"] == "whole"
