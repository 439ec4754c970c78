"""Items are appended exactly once, in order, without gaps (P3): random histories against a list."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.errors import Conflict, NotFound
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.responses import Responses, Turn
from antiphon.stores.sqlite import open_sqlite
from stores_suite import US, conversation, ids, pages_agree, response, user

ITEM_IDS = st.integers(0, 60).map(lambda n: f"msg_{n}")
APPEND = st.tuples(st.just("append"), st.lists(ITEM_IDS, max_size=5))
TURN = st.tuples(st.just("turn"), st.lists(ITEM_IDS, max_size=4))
DELETE = st.tuples(st.just("delete"), ITEM_IDS)
ROUNDS = st.lists(st.lists(st.one_of(APPEND, TURN, DELETE), min_size=1, max_size=8), max_size=6)
"""What happens at once, several times in a row."""


async def act(database: Database, number: str, kind: str, what: list[str] | str) -> None:
    """One thing that a client does."""
    conversations, responses = Conversations(database), Responses(database)
    if kind == "append":
        await conversations.append(US, "conv_1", [user(id) for id in what])
    elif kind == "delete":
        assert isinstance(what, str)
        await conversations.delete_item(US, "conv_1", what)
    else:
        ended = response(f"resp_{number}", status="completed", conversation="conv_1")
        turn = Turn(conversation="conv_1", items=[user(id) for id in what])
        await responses.finish(US, ended, b"", turn=turn)


def expected(model: list[str], kind: str, what: list[str] | str) -> type[Exception] | None:
    """What a list would do: changes it, or says which refusal is due."""
    if isinstance(what, str):
        if what not in model:
            return NotFound
        model.remove(what)
    elif kind == "append" or kind == "turn":
        if len({*model, *what}) < len(model) + len(what):
            return Conflict
        model += what
    return None


async def live(rounds: list[list[tuple[str, list[str] | str]]], path: Path | None) -> None:
    database = open_sqlite(path, sync="off")
    await migrate(database, migrations())
    conversations = await conversation(database, "conv_1")
    model: list[str] = []
    for number, actions in enumerate(rounds):
        # One turn a round: it is claimed and begun before, and ends among the other things.
        turns = [place for place, (kind, _) in enumerate(actions) if kind == "turn"]
        chosen = [action for place, action in enumerate(actions) if action[0] != "turn" or place == turns[0]]
        if turns:
            await conversations.claim(US, "conv_1", f"resp_{number}", worker="w")
            await Responses(database).begin(US, response(f"resp_{number}", conversation="conv_1"), [])
        calls = [act(database, str(number), kind, what) for kind, what in chosen]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for (kind, what), result in zip(chosen, results, strict=True):
            refusal = expected(model, kind, what)
            assert type(result) is (refusal or type(None)), (kind, what, result)
        await conversations.release(US, "conv_1", f"resp_{number}")
        assert ids(await conversations.history(US, "conv_1")) == model
    if model:
        await pages_agree(lambda query: conversations.list_items(US, "conv_1", query), model)
    await database.close()


@pytest.mark.parametrize("place", ["memory", "file"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rounds=ROUNDS)
def test_a_conversation_behaves_like_a_list_whatever_happens_at_once(
    place: str, rounds: list[list[tuple[str, list[str] | str]]]
) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(live(rounds, None if place == "memory" else Path(folder) / "antiphon.db"))
