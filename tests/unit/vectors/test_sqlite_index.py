"""The embedded index: what it keeps in memory, and for how long."""

import asyncio

import pytest

from antiphon.errors import Unavailable
from antiphon.knowledge import IndexConfig
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing.index_suite import KEY, X, Y, chunk, places, vector
from antiphon.vectors.base import Key
from antiphon.vectors.shelf import UNNAMED_MAX
from antiphon.vectors.sqlite_index import EmbeddedIndex


class Reads:
    """A database that counts reads."""

    dialect = "sqlite"

    def __init__(self, database):
        self.inner = database
        self.count = 0
        self.broken = False

    async def all(self, sql, params=()):
        self.count += 1
        if self.broken:
            raise Unavailable("gone")
        return await self.inner.all(sql, params)

    async def execute(self, sql, params=()):
        return await self.inner.execute(sql, params)

    async def transaction(self, statements):
        return await self.inner.transaction(statements)


@pytest.fixture
async def database():
    opened = open_sqlite(None)
    await migrate(opened, migrations())
    yield Reads(opened)
    await opened.close()


@pytest.fixture
async def index(database):
    made = EmbeddedIndex(database, IndexConfig())
    yield made
    await made.close()


async def fill(index, files, key=KEY, chunks=1):
    for n in range(files):
        some = [chunk(number, f"apples n{n}", X) for number in range(chunks)]
        await index.add(key, f"file_{n:03}", "1", chunks=some)
    return {f"file_{n:03}": "1" for n in range(files)}


async def near(index, among, key=KEY):
    return places(await index.semantic(key, vector(*X), count=100, among=among))


async def test_a_store_is_read_once_and_then_only_what_is_new(index, database):
    among = await fill(index, 40)
    await near(index, among)
    read = database.count
    await near(index, among)
    await index.keyword(KEY, "apples", count=5, among=dict(among))
    assert database.count == read
    await index.add(KEY, "file_new", "1", chunks=[chunk(0, "pears", Y)])
    assert len(await near(index, among | {"file_new": "1"})) == 41
    assert database.count == read + 1


async def test_many_searches_at_once_read_a_store_once(index, database):
    among = await fill(index, 3)
    await asyncio.gather(*(near(index, among) for _ in range(20)))
    assert database.count == 1


async def test_files_of_any_number_of_chunks_are_read_whole(index):
    for n, chunks in enumerate((600, 1, 1_001, 0, 500, 3)):
        await index.add(KEY, f"file_{n}", "1", chunks=[chunk(number, "x", X) for number in range(chunks)])
        await index.add(KEY, f"file_{n}", "0", chunks=[chunk(number, "x", X) for number in range(700)])
    among = {f"file_{n}": "1" for n in range(6)}
    found = await index.semantic(KEY, vector(*X), count=10_000, among=among)
    assert len(found) == 600 + 1 + 1_001 + 500 + 3
    assert {match.attempt for match in found} == {"1"}


async def test_a_failing_read_harms_no_later_one(index, database):
    among = await fill(index, 3)
    database.broken = True
    with pytest.raises(Unavailable):
        await near(index, among)
    database.broken = False
    assert len(await near(index, among)) == 3


async def test_stores_that_were_not_searched_for_longest_leave_when_memory_is_full(database):
    index = EmbeddedIndex(database, IndexConfig(memory_bytes_max=2_000))
    keys = [Key(owner="ada", store=f"vs_{n}", dimension=3) for n in range(4)]
    among = {}
    for key in keys:
        among = await fill(index, 1, key, chunks=20)
    for key in keys:
        assert len(await near(index, among, key)) == 20
    kept = index.memory_bytes()
    assert 0 < kept <= 2_000
    read = database.count
    assert len(await near(index, among, keys[-1])) == 20
    assert database.count == read
    assert len(await near(index, among, keys[0])) == 20
    assert database.count == read + 1
    await index.close()


async def test_one_store_that_is_larger_than_the_bound_is_searched_nevertheless(database):
    index = EmbeddedIndex(database, IndexConfig(memory_bytes_max=0))
    among = await fill(index, 1, chunks=20)
    assert len(await near(index, among)) == 20
    await index.close()


async def test_what_is_no_longer_named_leaves_memory_in_time(index):
    among = await fill(index, 20, chunks=10)
    await near(index, among)
    whole = index.memory_bytes()
    for _ in range(UNNAMED_MAX + 1):
        assert await near(index, {"file_003": "1"}) == [("file_003", n) for n in range(10)]
    assert index.memory_bytes() < whole / 4
    assert len(await near(index, among)) == 100


async def test_a_replaced_attempt_leaves_memory(index):
    before = await fill(index, 4, chunks=50)
    await near(index, before)
    size = index.memory_bytes()
    for n in range(4):
        await index.add(KEY, f"file_{n:03}", "2", chunks=[chunk(number, "pears", X) for number in range(50)])
    after = dict.fromkeys(before, "2")
    assert len(await near(index, after)) == 100
    assert await index.keyword(KEY, "apples", count=10, among=after) == []
    assert index.memory_bytes() < 1.5 * size


async def test_what_is_replaced_while_it_is_read_is_read_again(index):
    among = await fill(index, 30, chunks=100)
    searching = asyncio.ensure_future(near(index, among))
    await asyncio.sleep(0)
    await index.add(KEY, "file_029", "1", chunks=[chunk(0, "pears", Y)])
    await searching
    (match,) = await index.keyword(KEY, "pears", count=10, among=among)
    assert (match.file_id, match.number) == ("file_029", 0)


async def test_long_work_leaves_the_loop_and_gives_the_same(database, monkeypatch):
    index = EmbeddedIndex(database, IndexConfig())
    among = await fill(index, 5, chunks=30)
    here = await near(index, among), await index.keyword(KEY, "apples n3", count=9, among=among)
    monkeypatch.setattr("antiphon.vectors.sqlite_index.VALUES_INLINE_MAX", 0)
    monkeypatch.setattr("antiphon.vectors.sqlite_index.ROWS_INLINE_MAX", 0)
    assert (await near(index, among), await index.keyword(KEY, "apples n3", count=9, among=among)) == here
    await index.close()
