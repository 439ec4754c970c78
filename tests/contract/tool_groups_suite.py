"""Registered tool groups, on any database: cases of an open database with the schema."""

import asyncio

import pytest

from antiphon.errors import Conflict, InvalidRequest
from antiphon.stores.database import Database
from antiphon.stores.tool_groups import Registered, ToolGroups

US, THEM = "us", "them"
LAB = Registered(id="mcp::lab", provider_id="mcp", uri="https://a.example/mcp", args={"deep": [1, {"é": None}]})
BARE = Registered(id="Zoo/a", provider_id="mcp", uri="https://b.example/mcp")


def groups(database: Database) -> ToolGroups:
    return ToolGroups(database, lambda: 1000.0)


async def a_group_is_kept_as_it_was_registered(database: Database) -> None:
    store = groups(database)
    for group in (LAB, BARE):
        await store.register(US, group, most=2)
    again = groups(database)
    assert await again.list(US) == [BARE, LAB]
    assert await again.find(US, "mcp::lab") == LAB


async def each_owner_has_groups_of_its_own(database: Database) -> None:
    store = groups(database)
    theirs = Registered(id=LAB.id, provider_id="other", uri="https://c.example/mcp")
    await store.register(US, LAB, most=1)
    assert (await store.list(THEM), await store.find(THEM, LAB.id)) == ([], None)
    assert not await store.delete(THEM, LAB.id)
    await store.register(THEM, theirs, most=1)
    assert (await store.find(US, LAB.id), await store.find(THEM, LAB.id)) == (LAB, theirs)
    assert await store.delete(US, LAB.id)
    assert (await store.list(US), await store.list(THEM)) == ([], [theirs])
    assert not await store.delete(US, LAB.id)


async def a_group_may_come_again_but_not_as_another(database: Database) -> None:
    store = groups(database)
    await asyncio.gather(*(store.register(US, LAB, most=1) for _ in range(5)))
    other = Registered(id=LAB.id, provider_id="mcp", uri="https://a.example/other")
    with pytest.raises(Conflict, match="registered already, as another"):
        await store.register(US, other, most=5)
    assert await store.list(US) == [LAB]


async def an_owner_has_only_so_many(database: Database) -> None:
    store = groups(database)
    await store.register(US, LAB, most=1)
    with pytest.raises(InvalidRequest, match="At most 1 tool groups"):
        await store.register(US, BARE, most=1)
    await store.register(THEM, BARE, most=1)
    await store.register(US, LAB, most=1)


CASES = [
    a_group_is_kept_as_it_was_registered,
    each_owner_has_groups_of_its_own,
    a_group_may_come_again_but_not_as_another,
    an_owner_has_only_so_many,
]
