"""What the store of batches promises, on any database: cases of an open database with the schema."""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from antiphon.errors import Conflict, NotFound
from antiphon.stores.batches import Batches, Result, Terms
from antiphon.stores.database import Database
from antiphon.testing.database_suite import refused
from antiphon.wire.batches import Batch, BatchListQuery, BatchUsage, CachedTokens, ReasoningTokens, RequestCounts
from stores_suite import THEM, US

USAGE = BatchUsage(
    input_tokens=5,
    input_tokens_details=CachedTokens(cached_tokens=2),
    output_tokens=3,
    output_tokens_details=ReasoningTokens(reasoning_tokens=1),
    total_tokens=8,
)


def terms(id: str = "batch_1", status: str = "validating") -> Terms:
    """A batch as it is stored."""
    batch = Batch(
        id=id,
        endpoint="/v1/responses",
        input_file_id="file-1",
        completion_window="24h",
        status=status,  # type: ignore[arg-type]
        created_at=1,
    )
    return Terms(batch=batch, output_expires_s=3600)


async def running(database: Database, count: int) -> Batches:
    """The store, with a batch of so many lines that is in progress."""
    batches, given = Batches(database), terms()
    await batches.create(US, given)
    await batches.add(US, "batch_1", [(seq, f"line {seq}") for seq in range(1, count + 1)])
    begun = replace(given.batch, status="in_progress", request_counts=RequestCounts(total=count))
    assert await batches.begin(US, replace(given, batch=begun))
    return batches


def result(seq: int, *, failed: bool = False) -> Result:
    """How a line ended."""
    return Result(seq=seq, failed=failed, body=b"result %d\n" % seq, usage=BatchUsage() if failed else USAGE)


async def a_batch_is_kept_as_it_was_given(database: Database) -> None:
    """With what was asked of its files; its id once."""
    batches = Batches(database)
    await batches.create(US, terms())
    assert await batches.terms(US, "batch_1") == terms()
    await refused(Conflict, batches.create(THEM, terms()))


async def nobody_sees_the_batches_of_others(database: Database) -> None:
    """Nor changes them."""
    batches = Batches(database)
    await batches.create(THEM, terms())
    await refused(NotFound, batches.get(US, "batch_1"))
    assert (await batches.list(US, BatchListQuery())).data == []
    assert not await batches.move(US, terms(status="failed"), "validating")
    await batches.close(US, "batch_1")
    assert await batches.unfinished() == [(THEM, "batch_1")]


async def lists_page_from_the_newest(database: Database) -> None:
    """True about more."""
    batches = Batches(database)
    for number in range(5):
        await batches.create(US, terms(f"batch_{number}"))
    first = await batches.list(US, BatchListQuery(limit=3))
    rest = await batches.list(US, BatchListQuery(limit=3, after=first.last_id))
    assert [batch.id for batch in first.data + rest.data] == [f"batch_{number}" for number in range(4, -1, -1)]
    assert (first.has_more, rest.has_more) == (True, False)


async def a_status_changes_once(database: Database) -> None:
    """Of many who want to change it, one does."""
    batches = Batches(database)
    await batches.create(US, terms())
    moves = [batches.move(US, terms(status=status), "validating") for status in ("cancelling", "failed") * 3]
    assert sum(await asyncio.gather(*moves)) == 1


async def a_batch_begins_with_all_its_lines(database: Database) -> None:
    """Not while some are missing; once it has begun, nobody removes them."""
    batches, given = Batches(database), terms()
    await batches.create(US, given)
    await batches.add(US, "batch_1", [(seq, "x") for seq in range(1, 70)])
    begun = replace(given.batch, status="in_progress", request_counts=RequestCounts(total=70))
    assert not await batches.begin(US, replace(given, batch=begun))
    await batches.add(US, "batch_1", [(70, "x")])
    assert await batches.begin(US, replace(given, batch=begun))
    await batches.drop(US, "batch_1")
    assert len(await batches.pending(US, "batch_1")) == 70
    assert len(await batches.pending(US, "batch_1", 60)) == 10


async def a_line_has_one_result_and_is_counted_once(database: Database) -> None:
    """Whoever comes first; all results of one call, or none."""
    batches = await running(database, 4)
    kept = await asyncio.gather(*(batches.keep(US, "batch_1", [result(1)]) for _ in range(3)))
    assert sorted(kept) == [False, False, True]
    assert await batches.keep(US, "batch_1", [result(3, failed=True)])
    assert not await batches.keep(US, "batch_1", [result(2), result(3)])
    assert not await batches.keep(THEM, "batch_1", [result(2)])
    batch = await batches.get(US, "batch_1")
    assert batch.request_counts == RequestCounts(total=4, completed=1, failed=1)
    assert batch.usage == USAGE
    assert await batches.done(US, "batch_1") == {1, 3}
    assert await batches.pending(US, "batch_1") == [(2, "line 2"), (4, "line 4")]


async def results_are_read_in_the_order_of_the_input(database: Database) -> None:
    """Those that ended in one way, a few at a time."""
    batches = await running(database, 5)
    for seq in (4, 2, 5, 1):
        await batches.keep(US, "batch_1", [result(seq, failed=seq == 2)])
    first = await batches.results(US, "batch_1", failed=False, after=0, limit=2)
    rest = await batches.results(US, "batch_1", failed=False, after=first[-1][0], limit=2)
    assert first + rest == [(seq, b"result %d\n" % seq) for seq in (1, 4, 5)]
    assert await batches.results(US, "batch_1", failed=True, after=0, limit=9) == [(2, b"result 2\n")]


async def nothing_is_counted_for_a_batch_that_has_ended(database: Database) -> None:
    """And nothing is left of its lines once it is closed."""
    batches = await running(database, 600)
    ended = await batches.terms(US, "batch_1")
    assert await batches.move(US, replace(ended, batch=replace(ended.batch, status="completed")), "in_progress")
    assert not await batches.keep(US, "batch_1", [result(1)])
    await batches.close(US, "batch_1")
    assert await batches.pending(US, "batch_1") == []
    assert await batches.unfinished() == []
    assert (await batches.get(US, "batch_1")).request_counts == RequestCounts(total=600)


Case = Callable[[Database], Awaitable[None]]

CASES: list[Case] = [
    a_batch_is_kept_as_it_was_given,
    nobody_sees_the_batches_of_others,
    lists_page_from_the_newest,
    a_status_changes_once,
    a_batch_begins_with_all_its_lines,
    a_line_has_one_result_and_is_counted_once,
    results_are_read_in_the_order_of_the_input,
    nothing_is_counted_for_a_batch_that_has_ended,
]
