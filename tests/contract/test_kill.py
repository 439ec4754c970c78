"""kill -9 under load: what was acknowledged is there, and nothing is half there (P1, P3)."""

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.responses import Responses
from antiphon.stores.sqlite import open_sqlite
from stores_suite import US, ids

KILLS = 15
WRITER = Path(__file__).with_name("killed_writer.py")


def run_and_kill(path: Path, name: str, lines_before: int) -> list[list[str]]:
    """Starts a writer, kills it after so many lines, and returns all the lines that it got out."""
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path), name], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        lines = [writer.stdout.readline() for _ in range(lines_before)]
        writer.kill()
        lines += writer.stdout.readlines()
        assert writer.stderr.read() == b""
    assert all(line.endswith(b"\n") for line in lines)
    return [line.decode().split() for line in lines]


async def check_responses(database: Database, lines: Sequence[Sequence[str]]) -> None:
    """Each begun one is there; each finished one with its output and journal; each ended one is whole."""
    responses = Responses(database)
    finished = {words[1] for words in lines if words[0] == "finished"}
    for id in {words[1] for words in lines if words[0] == "begun"} | finished:
        found, journal = await responses.get(US, id), (await responses.trail(US, id)).journal
        stem = id.replace("resp_", "msg_")
        done = found.status == "completed"
        assert done or id not in finished
        assert (ids(found.output), journal) == (([f"{stem}_out"], b"journal") if done else ([], b""))
        if done:
            assert ids(await responses.history(US, id))[-2:] == [f"{stem}_in", f"{stem}_out"]


async def check_conversation(database: Database, id: str, lines: Sequence[Sequence[str]]) -> None:
    """Positions without gaps, every acknowledged batch in one piece, every turn whole or absent."""
    rows = await database.all("SELECT seq, id FROM items WHERE container = ? ORDER BY seq", (id,))
    (next_seq,) = await database.one("SELECT next_seq FROM conversations WHERE id = ?", (id,)) or (None,)
    assert [seq for seq, _ in rows] == list(range(next_seq))
    found = [item for _, item in rows]
    assert len(set(found)) == len(found)
    assert found == ids(await Conversations(database).history(US, id))
    places = {item: place for place, item in enumerate(found)}
    for words in lines:
        if words[0] in ("appended", "turn") and words[1] == id:
            batch = words[2:] if words[0] == "appended" else words[3:]
            start = places[batch[0]]
            assert found[start : start + len(batch)] == batch
    # What was stored and not acknowledged is whole as well: all that is written here comes in threes.
    assert len(found) % 3 == 0
    for start in range(0, len(found), 3):
        assert len({item.rpartition("_")[0] for item in found[start : start + 3]}) == 1


async def check_turns(database: Database, lines: Sequence[Sequence[str]]) -> None:
    """A turn's response is completed exactly if its items are in the conversation."""
    acknowledged = {words[2] for words in lines if words[0] == "turn"}
    rows = await database.all("SELECT id, status, conversation_id FROM responses WHERE conversation_id IS NOT NULL")
    assert acknowledged <= {id for id, status, _ in rows if status == "completed"}
    for id, status, conversation in rows:
        stem = id.replace("resp_", "msg_")
        (count,) = await database.one(
            "SELECT count(*) FROM items WHERE container = ? AND id IN (?, ?, ?)",
            (conversation, f"{stem}_in", f"{stem}_0", f"{stem}_1"),
        ) or (None,)
        assert count == (3 if status == "completed" else 0)


async def test_what_was_acknowledged_survives_kills_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    path = tmp_path / "antiphon.db"
    said: list[list[str]] = []
    unfinished = 0
    for kill in range(KILLS):
        lines = run_and_kill(path, str(kill), chance.randint(3, 400))
        said += lines
        assert lines[0] == ["failed", str(unfinished)]
        database = open_sqlite(path)
        unfinished = len(await database.all("SELECT id FROM responses WHERE status = 'in_progress'"))
        assert await database.all("PRAGMA integrity_check") == [("ok",)]
        await check_responses(database, lines)
        await check_turns(database, said)
        for conversation in {words[1] for words in said if words[0] in ("appended", "turn")}:
            await check_conversation(database, conversation, said)
        await database.close()
    assert len(said) > 1000
