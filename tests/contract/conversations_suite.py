"""What conversations and their turns promise, as cases that run over any migrated, empty `Database`."""

import asyncio

from antiphon.errors import Conflict, NotFound
from antiphon.stores.database import Database
from antiphon.stores.responses import Responses, Turn
from antiphon.testing.database_suite import refused
from antiphon.wire.conversations import Conversation
from antiphon.wire.items import Item
from stores_suite import (
    US,
    Case,
    assistant,
    conversation,
    ids,
    pages_agree,
    response,
    stored,
    user,
)

# ---------------------------------------------------------------- conversations


async def a_conversation_keeps_its_items_in_the_order_of_their_arrival(database: Database) -> None:
    """First items, appended items, a turn's; each page of them, both ways."""
    conversations = await conversation(database, "conv_1", user("msg_z"), user("msg_a"))
    await conversations.append(US, "conv_1", [user(f"msg_{n}") for n in range(45, 0, -1)])
    await conversations.append(US, "conv_1", [])
    expected = ["msg_z", "msg_a", *(f"msg_{n}" for n in range(45, 0, -1))]
    assert ids(await conversations.history(US, "conv_1")) == expected
    await pages_agree(lambda query: conversations.list_items(US, "conv_1", query), expected)


async def concurrent_appends_neither_mix_nor_lose_items(database: Database) -> None:
    """Forty at once, each of up to forty items."""
    conversations = await conversation(database, "conv_1")
    batches = [[f"msg_{n}_{i}" for i in range(n)] for n in range(40)]
    await asyncio.gather(*(conversations.append(US, "conv_1", [user(id) for id in batch]) for batch in batches))
    found = ids(await conversations.history(US, "conv_1"))
    assert sorted(found) == sorted(id for batch in batches for id in batch)
    for batch in batches[1:]:
        start = found.index(batch[0])
        assert found[start : start + len(batch)] == batch


async def an_item_id_occurs_once_in_a_conversation(database: Database) -> None:
    """The conflict names it, and nothing of the call is stored; another conversation may have it too."""
    conversations = await conversation(database, "conv_1", user("msg_1"))
    error = await refused(Conflict, conversations.append(US, "conv_1", [user("msg_2"), user("msg_1")]))
    assert "'msg_1'" in error.message
    error = await refused(Conflict, conversations.append(US, "conv_1", [user("msg_3"), user("msg_3")]))
    assert "'msg_3'" in error.message
    twice = conversations.create(US, Conversation(id="conv_2", created_at=1), [user("msg_4"), user("msg_4")])
    assert "'msg_4'" in (await refused(Conflict, twice)).message
    await refused(NotFound, conversations.get(US, "conv_2"))
    await conversation(database, "conv_3", user("msg_1"))
    await conversations.append(US, "conv_1", [user("msg_9")])
    assert ids(await conversations.history(US, "conv_1")) == ["msg_1", "msg_9"]


async def single_items_are_read_and_deleted(database: Database) -> None:
    """A deleted item is gone from pages and context; what came later keeps its place."""
    conversations = await conversation(database, "conv_1", user("msg_1"), user("msg_2"), user("msg_3"))
    assert await conversations.get_item(US, "conv_1", "msg_2") == user("msg_2")
    after = await conversations.delete_item(US, "conv_1", "msg_2")
    assert after == await conversations.get(US, "conv_1")
    await refused(NotFound, conversations.get_item(US, "conv_1", "msg_2"))
    await refused(NotFound, conversations.delete_item(US, "conv_1", "msg_2"))
    await conversations.append(US, "conv_1", [user("msg_4")])
    assert ids(await conversations.history(US, "conv_1")) == ["msg_1", "msg_3", "msg_4"]


async def metadata_is_replaced(database: Database) -> None:
    """Not merged."""
    conversations = await conversation(database, "conv_1")
    assert (await conversations.get(US, "conv_1")).metadata == {"a": "b"}
    assert (await conversations.update(US, "conv_1", {"c": "d"})).metadata == {"c": "d"}
    assert (await conversations.get(US, "conv_1")).metadata == {"c": "d"}


async def a_deleted_conversation_takes_its_items_along_but_no_responses(database: Database) -> None:
    """Its id then is unknown to every method."""
    conversations = await conversation(database, "conv_1", user("msg_1"))
    await stored(Responses(database), "resp_1")
    await conversations.delete(US, "conv_1")
    await refused(NotFound, conversations.delete(US, "conv_1"))
    await refused(NotFound, conversations.history(US, "conv_1"))
    await refused(NotFound, conversations.append(US, "conv_1", [user("msg_2")]))
    assert await Responses(database).find_items(US, ["msg_1", "msg_2"]) == {}
    assert (await Responses(database).get(US, "resp_1")).status == "completed"


# ---------------------------------------------------------------- turns


async def a_turn_appends_its_items_with_its_response_and_releases_its_claim(database: Database) -> None:
    """Items that a client added meanwhile stand before it."""
    conversations, responses = await conversation(database, "conv_1", user("msg_1")), Responses(database)
    await conversations.claim(US, "conv_1", "resp_1", worker="w")
    begun = response("resp_1", conversation="conv_1")
    await responses.begin(US, begun, [user("msg_2")])
    await conversations.append(US, "conv_1", [user("msg_3")])
    ended = response("resp_1", assistant("msg_4"), status="completed", conversation="conv_1")
    await responses.finish(US, ended, b"", turn=Turn(conversation="conv_1", items=[user("msg_2"), *ended.output]))
    assert ids(await conversations.history(US, "conv_1")) == ["msg_1", "msg_3", "msg_2", "msg_4"]
    await conversations.claim(US, "conv_1", "resp_2", worker="w")


async def one_turn_at_a_time(database: Database) -> None:
    """The second is a conflict until the first is released; a stranger's release changes nothing."""
    conversations = await conversation(database, "conv_1")
    claims = (conversations.claim(US, "conv_1", f"resp_{n}", worker="w") for n in range(8))
    results = await asyncio.gather(*claims, return_exceptions=True)
    refusals = [result for result in results if isinstance(result, Conflict)]
    assert (results[0], len(refusals)) == (None, 7)
    assert {(error.code, error.param) for error in refusals} == {("conversation_locked", "conversation")}
    await conversations.release(US, "conv_1", "resp_9")
    await refused(Conflict, conversations.claim(US, "conv_1", "resp_9", worker="w"))
    await conversations.release(US, "conv_1", "resp_0")
    await conversations.claim(US, "conv_1", "resp_9", worker="w")
    assert await conversations.inherit() == 1
    await conversations.claim(US, "conv_1", "resp_10", worker="w")


async def a_turn_that_cannot_be_appended_leaves_its_response_unfinished(database: Database) -> None:
    """No half state: neither the response's end nor any item is there."""
    conversations, responses = await conversation(database, "conv_1", user("msg_1")), Responses(database)
    await responses.begin(US, response("resp_1", conversation="conv_1"), [user("msg_2")])
    ended = response("resp_1", assistant("msg_3"), status="completed", conversation="conv_1")

    async def finish(*items: Item) -> Conflict:
        return await refused(Conflict, responses.finish(US, ended, b"", turn=Turn(conversation="conv_1", items=items)))

    assert (await finish(user("msg_2"))).code == "conversation_locked"
    await conversations.claim(US, "conv_1", "resp_1", worker="w")
    assert "'msg_1'" in (await finish(user("msg_2"), user("msg_1"))).message
    assert (await responses.get(US, "resp_1")).status == "in_progress"
    assert await responses.find_items(US, ["msg_3"]) == {}
    assert ids(await conversations.history(US, "conv_1")) == ["msg_1"]
    await conversations.delete(US, "conv_1")
    assert "deleted" in (await finish(user("msg_2"))).message
    await responses.finish(US, response("resp_1", status="failed"), b"")


CASES: tuple[Case, ...] = (
    a_conversation_keeps_its_items_in_the_order_of_their_arrival,
    concurrent_appends_neither_mix_nor_lose_items,
    an_item_id_occurs_once_in_a_conversation,
    single_items_are_read_and_deleted,
    metadata_is_replaced,
    a_deleted_conversation_takes_its_items_along_but_no_responses,
    a_turn_appends_its_items_with_its_response_and_releases_its_claim,
    one_turn_at_a_time,
    a_turn_that_cannot_be_appended_leaves_its_response_unfinished,
)
