"""A process that writes through the stores until it is killed, and says what was acknowledged: see `test_kill`.

    python killed_writer.py DATABASE ROUND

Its first lines, `failed N` and `released N`, are what it found of the process before it.
"""

import asyncio
import os
import sys
from pathlib import Path

from antiphon.errors import Conflict
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.responses import Responses, Turn
from antiphon.stores.sqlite import open_sqlite
from antiphon.wire.conversations import Conversation
from stores_suite import US, assistant, response, user

CONVERSATIONS = [f"conv_{n}" for n in range(4)]


def say(*words: object) -> None:
    """One line, at once: it is in the pipe even if the next instruction is never run."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


async def respond(database: Database, name: str) -> None:
    """Stored responses, one after the other, each continuing the last."""
    responses, previous = Responses(database), None
    for n in range(1_000_000):
        id = f"resp_{name}_{n}"
        await responses.begin(US, response(id, previous=previous), [user(f"msg_{name}_{n}_in", "x" * 500)])
        say("begun", id)
        ended = response(id, assistant(f"msg_{name}_{n}_out"), status="completed", previous=previous)
        await responses.finish(US, ended, b"journal")
        say("finished", id)
        previous = id


async def append(database: Database, name: str, conversation: str) -> None:
    """Items, three at a time."""
    for n in range(1_000_000):
        ids = [f"msg_{name}_{n}_{i}" for i in range(3)]
        await Conversations(database).append(US, conversation, [user(id) for id in ids])
        say("appended", conversation, *ids)


async def take_turns(database: Database, name: str, conversation: str) -> None:
    """Turns, in competition with others for the same conversation."""
    conversations, responses = Conversations(database), Responses(database)
    for n in range(1_000_000):
        id, items = f"resp_{name}_{n}", [user(f"msg_{name}_{n}_in")]
        try:
            await conversations.claim(US, conversation, id, worker="w")
        except Conflict:
            await asyncio.sleep(0.001)
            continue
        await responses.begin(US, response(id, conversation=conversation), items)
        output = [assistant(f"msg_{name}_{n}_{i}") for i in range(2)]
        ended = response(id, *output, status="completed", conversation=conversation)
        await responses.finish(US, ended, b"journal", turn=Turn(conversation=conversation, items=[*items, *output]))
        say("turn", conversation, id, *(item.id for item in (*items, *output)))


async def main(path: Path, name: str) -> None:
    """Cleans up after the process before, then writes for ever."""
    database = open_sqlite(path)
    await migrate(database, migrations())
    say("failed", await Responses(database).fail_left_over(2e9))
    say("released", await Conversations(database).inherit())
    for conversation in CONVERSATIONS:
        if await database.one("SELECT 1 FROM conversations WHERE id = ?", (conversation,)) is None:
            await Conversations(database).create(US, Conversation(id=conversation, created_at=1))
    await asyncio.gather(
        *(respond(database, f"{name}r{n}") for n in range(12)),
        *(append(database, f"{name}a{n}", CONVERSATIONS[n % 4]) for n in range(8)),
        *(take_turns(database, f"{name}t{n}", CONVERSATIONS[n % 4]) for n in range(8)),
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
