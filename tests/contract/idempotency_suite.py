"""Requests under a key, on any database: cases of an open database with the schema."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.errors import Conflict
from antiphon.stores.database import Database, Statement
from antiphon.stores.idempotency import Claim, Entry, Idempotency
from antiphon.stores.workers import Workers

US, THEM = "us", "them"
DAY_S = 86_400


class Clock:
    """A time that the test moves on."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def worker(database: Database, name: str, clock: Clock | None = None, *, lease_s: float = 60) -> Idempotency:
    """One of the processes of a database."""
    workers = Workers(database, lease_s, name)
    await workers.beat()
    return Idempotency(database, workers, clock or Clock(), kept_s=600)


async def claimed(store: Idempotency, id: str = "key", request: str | None = "request") -> Claim:
    found = await store.open(US, id, request)
    assert isinstance(found, Claim)
    return found


async def entry(store: Idempotency, id: str = "key", request: str | None = "request") -> Entry:
    found = await store.open(US, id, request)
    assert isinstance(found, Entry)
    return found


async def one_of_many_executes_and_the_others_see_it_run(database: Database) -> None:
    here, there = await worker(database, "here"), await worker(database, "there")
    found = await asyncio.gather(*(store.open(US, "key", "request") for store in (here, there) for _ in range(10)))
    assert sum(isinstance(each, Claim) for each in found) == 1
    assert {each.state for each in found if isinstance(each, Entry)} == {"running"}


class Late:
    """A database that says late that it has committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.committed, self.told = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def transaction(self, statements: Sequence[Statement]) -> list[int]:
        counts = await self._database.transaction(statements)
        self.committed.set()
        await self.told.wait()
        return counts


async def a_claim_counts_from_before_anybody_can_see_it(database: Database) -> None:
    late = Late(database)
    store = await worker(late, "here")  # type: ignore[arg-type]
    first = asyncio.ensure_future(store.open(US, "key", "request"))
    await late.committed.wait()
    assert (await entry(store)).state == "running"
    late.told.set()
    assert isinstance(await first, Claim)


async def a_kept_answer_is_found_on_every_worker_until_it_expires(database: Database) -> None:
    clock = Clock()
    here, there = await worker(database, "here", clock), await worker(database, "there", clock)
    await here.keep(await claimed(here), "request", b"answer")
    clock.now_s += 599
    for store in (here, there):
        found = await entry(store)
        assert (found.state, found.answer) == ("kept", b"answer")
    clock.now_s += 2
    assert (await claimed(there)).response_id is None


async def an_answer_that_was_too_large_is_remembered_without_it(database: Database) -> None:
    store = await worker(database, "here")
    await store.keep(await claimed(store), "request", None)
    found = await entry(store)
    assert (found.state, found.answer) == ("too_large", None)


async def a_key_stands_for_one_request_while_it_runs_and_after(database: Database) -> None:
    store = await worker(database, "here")
    claim = await claimed(store)
    with pytest.raises(Conflict) as refused:
        await store.open(US, "key", "another")
    assert refused.value.code == "idempotency_key_reused"
    await store.keep(claim, "request", b"answer")
    with pytest.raises(Conflict):
        await store.open(US, "key", "another")


async def a_request_whose_body_still_arrives_is_told_apart_at_its_end(database: Database) -> None:
    store = await worker(database, "here")
    claim = await claimed(store, request=None)
    assert (await entry(store, request="anything")).state == "running"
    await store.keep(claim, "request", b"answer")
    assert (await entry(store)).answer == b"answer"
    with pytest.raises(Conflict):
        await store.open(US, "key", "anything")


async def owners_have_their_own_keys(database: Database) -> None:
    store = await worker(database, "here")
    await store.keep(await claimed(store), "request", b"answer")
    assert isinstance(await store.open(THEM, "key", "another"), Claim)


async def what_was_released_is_executed_anew_also_as_another_request(database: Database) -> None:
    store = await worker(database, "here")
    await store.release(await claimed(store))
    assert await claimed(store, request="another")


async def what_a_dead_worker_was_doing_is_taken_over_by_one_with_what_it_had_begun(database: Database) -> None:
    dead = await worker(database, "dead", lease_s=-1)
    here, there = await worker(database, "here"), await worker(database, "there")
    await dead.name(await claimed(dead), "resp_1")
    found = await asyncio.gather(*(store.open(US, "key", "request") for store in (here, there) for _ in range(5)))
    claims = [each for each in found if isinstance(each, Claim)]
    assert [claim.response_id for claim in claims] == ["resp_1"]


async def what_a_forgotten_worker_was_doing_is_taken_over_too(database: Database) -> None:
    gone, here = await worker(database, "gone"), await worker(database, "here")
    await claimed(gone)
    await Workers(database, 60, "here").forget("gone")
    assert await claimed(here)


async def a_worker_that_lost_its_row_writes_nothing_there(database: Database) -> None:
    late = await worker(database, "late", lease_s=-1)
    here = await worker(database, "here")
    lost = await claimed(late)
    claim = await claimed(here)
    await late.keep(lost, "request", b"too late")
    await late.release(lost)
    assert (await entry(here)).state == "running"
    await here.keep(claim, "request", b"answer")
    assert (await entry(late)).answer == b"answer"


async def an_attempt_of_this_worker_that_left_its_row_behind_is_taken_over(database: Database) -> None:
    await claimed(await worker(database, "here"))
    assert await claimed(await worker(database, "here"))


async def what_has_expired_is_removed_however_much_it_is(database: Database) -> None:
    clock = Clock()
    store = await worker(database, "here", clock)
    for number in range(250):
        await store.keep(await claimed(store, f"key-{number}"), "request", b"answer")
    clock.now_s += 300
    await store.keep(await claimed(store, "late"), "request", b"answer")
    running = await claimed(store, "running")
    await store.clean(clock.now_s + 400)
    assert await database.all("SELECT id FROM idempotency ORDER BY id") == [("late",), ("running",)]
    await store.clean(clock.now_s + DAY_S)
    assert await database.all("SELECT id FROM idempotency") == []
    await store.release(running)


CASES = [
    a_claim_counts_from_before_anybody_can_see_it,
    one_of_many_executes_and_the_others_see_it_run,
    a_kept_answer_is_found_on_every_worker_until_it_expires,
    an_answer_that_was_too_large_is_remembered_without_it,
    a_key_stands_for_one_request_while_it_runs_and_after,
    a_request_whose_body_still_arrives_is_told_apart_at_its_end,
    owners_have_their_own_keys,
    what_was_released_is_executed_anew_also_as_another_request,
    what_a_dead_worker_was_doing_is_taken_over_by_one_with_what_it_had_begun,
    what_a_forgotten_worker_was_doing_is_taken_over_too,
    a_worker_that_lost_its_row_writes_nothing_there,
    an_attempt_of_this_worker_that_left_its_row_behind_is_taken_over,
    what_has_expired_is_removed_however_much_it_is,
]
