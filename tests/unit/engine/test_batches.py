"""A batch that dies between any two of its writes, and goes on: the same files, each line once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from antiphon.engine import batches
from antiphon.engine.batch_lines import Reply
from antiphon.engine.batches import Asked, Lanes, Running, room
from antiphon.engine.jobs import performing
from antiphon.errors import NotFound
from antiphon.limits import BatchesConfig
from antiphon.stores.batches import Batches, Terms
from antiphon.stores.blobs import LocalBlobs
from antiphon.stores.database import Database, Params, Row, Statement
from antiphon.stores.embedded_jobs import EmbeddedJobs
from antiphon.stores.files import Files
from antiphon.stores.jobs import Job
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.signals import LocalSignals
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.workers import Workers
from antiphon.telemetry import Live
from antiphon.wire.base import Page
from antiphon.wire.batches import Batch
from antiphon.wire.files import File, FileListQuery

US = "us"
CHAT = "/v1/chat/completions"
NAMES = [f"line {number}" for number in range(7)]
JOB = Job(id="job_1", owner=US, kind=batches.KIND, payload={"batch": "batch_1"}, attempt=1)


class Killed(Exception):
    """What the process dies of."""


class Mortal(Struct):
    """A database that dies at one of its writes, before or after it took place; later writes never come."""

    database: Database
    writes_left: int = 1_000_000
    afterwards: bool = False

    async def one(self, sql: str, params: Params = ()) -> Row | None:
        """Reads."""
        return await self.database.one(sql, params)

    async def all(self, sql: str, params: Params = ()) -> list[Row]:
        """Reads."""
        return await self.database.all(sql, params)

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Writes."""
        return (await self.transaction((Statement(sql, params),)))[0]

    async def transaction(self, statements: Sequence[Statement]) -> list[int]:
        """Writes, or dies."""
        self.writes_left -= 1
        if self.writes_left < 0 or (self.writes_left == 0 and not self.afterwards):
            raise Killed
        done = await self.database.transaction(statements)
        if self.writes_left == 0:
            raise Killed
        return done

    async def close(self) -> None:
        """Belongs to the test."""


class World:
    """A database and a storage with one new batch, and a model that counts."""

    def __init__(self, database: Database, refused: set[str]) -> None:
        self.database = database
        self.blobs = LocalBlobs(None)
        self.calls: Counter[str] = Counter()
        self.now_s = 1000.0
        self.config = BatchesConfig(lines_at_once=3)
        self.signals = LocalSignals()
        self.refused = refused

    def running(self, database: Database) -> Running:
        """What a process has that works on this database."""
        workers = Workers(database, 60)
        return Running(
            batches=Batches(database),
            files=Files(database, self.blobs, lambda: self.now_s),
            jobs=EmbeddedJobs(database, workers, self.signals),
            signals=self.signals,
            clock=lambda: self.now_s,
            config=self.config,
            line_bytes_max=10_000,
            lanes=Lanes(Live(), self.config),
            ask=self.ask,
            known=self.known,
        )

    async def ask(self, asked: Asked) -> Reply:
        """Answers with what was asked; one line is always refused."""
        name = json.loads(asked.body)["messages"]
        self.calls[name] += 1
        await asyncio.sleep(0)
        status = 400 if name in self.refused else 200
        body = {"about": name, "usage": {"prompt_tokens": 2, "completion_tokens": 1}}
        return Reply(status=status, body=json.dumps(body).encode(), request_id="req_1")

    async def known(self, model: str) -> None:
        """Every model is."""
        if model == "none":
            raise NotFound(f"No model {model}.")

    async def begin(self, names: Sequence[str] = NAMES) -> None:
        """The input and the batch."""
        bodies = [{"model": "m", "messages": name} for name in names]
        lines = [
            json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body})
            for name, body in zip(names, bodies, strict=True)
        ]
        files = self.running(self.database).files

        async def content() -> AsyncIterator[bytes]:
            yield "\n".join(lines).encode()

        def describe(size: int) -> File:
            return File(id="file-in", bytes=size, created_at=1000, filename="in", purpose="batch")

        await files.create(US, content(), describe)
        batch = Batch(
            id="batch_1",
            endpoint=CHAT,
            input_file_id="file-in",
            completion_window="24h",
            status="validating",
            created_at=1000,
            expires_at=2000,
        )
        await Batches(self.database).create(US, Terms(batch=batch))

    async def output(self, file_id: str | None) -> list[Any]:
        """The lines of a file."""
        if file_id is None:
            return []
        pieces = [piece async for piece in await self.running(self.database).files.read(US, file_id)]
        return [json.loads(line) for line in b"".join(pieces).splitlines()]

    async def files(self) -> list[str]:
        """The ids of all files."""
        page: Page[File] = await self.running(self.database).files.list(US, FileListQuery())
        return [file.id for file in page.data]


@asynccontextmanager
async def opened(*refused: str) -> AsyncIterator[World]:
    """A world with a new batch, of which the model refuses some lines."""
    database = open_sqlite(None)
    await migrate(database, migrations())
    world = World(database, set(refused))
    await world.begin()
    yield world
    await world.blobs.close()
    await database.close()


async def check(world: World, status: str = "completed") -> Batch:
    """The batch has ended, its files are whole, its counts are true, and nothing is left over."""
    batch = await Batches(world.database).get(US, "batch_1")
    assert batch.status == status
    output, errors = await world.output(batch.output_file_id), await world.output(batch.error_file_id)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (len(NAMES), len(output), len(errors))
    found = {each["custom_id"] for each in output + errors}
    assert len(output) + len(errors) == len(found) == len(NAMES)
    order = [NAMES.index(each["custom_id"]) for each in output]
    assert order == sorted(order)
    assert batch.usage.total_tokens == 3 * len(output)
    assert len(await world.files()) == 1 + bool(output) + bool(errors)
    for table in ("batch_lines", "loose_contents"):
        assert await world.database.all(f"SELECT * FROM {table}") == []
    assert await Batches(world.database).unfinished() == []
    return batch


async def writes_of_a_whole_batch() -> int:
    """How many writes there are from the beginning to the end."""
    async with opened() as world:
        mortal = Mortal(world.database)
        await batches.perform(world.running(mortal), JOB)
        await check(world)
    return 1_000_000 - mortal.writes_left


@pytest.mark.parametrize("afterwards", [False, True])
async def test_a_batch_that_dies_at_any_write_goes_on_from_there(afterwards: bool) -> None:
    for number in range(1, await writes_of_a_whole_batch() + 1):
        async with opened("line 3") as world:
            assert await performing(_perform(world, Mortal(world.database, number, afterwards)))(JOB) != ""
            await batches.perform(world.running(world.database), JOB)
            await _clean(world)
            await check(world)
            again = sum(world.calls.values()) - len(NAMES)
            assert 0 <= again <= world.config.lines_at_once, "only what was under way is asked again"


def _perform(world: World, database: Database) -> Any:
    async def work(job: Job) -> None:
        await batches.perform(world.running(database), job)

    return work


async def _clean(world: World) -> None:
    """What the recurring clean-up does, a day later."""
    world.now_s += 2
    await world.running(world.database).files.clean(world.now_s)


async def test_a_batch_whose_window_closed_dies_at_any_write_and_still_expires() -> None:
    for number in range(1, 30):
        async with opened() as world:
            world.now_s = 3000
            await performing(_perform(world, Mortal(world.database, number)))(JOB)
            await batches.perform(world.running(world.database), JOB)
            await _clean(world)
            batch = await check(world, "expired")
            assert batch.expired_at is not None


async def test_an_input_that_was_deleted_meanwhile_fails_what_is_left() -> None:
    async with opened() as world:
        mortal = Mortal(world.database, 5)
        await performing(_perform(world, mortal))(JOB)
        await world.running(world.database).files.delete(US, "file-in")
        await batches.perform(world.running(world.database), JOB)
        batch = await Batches(world.database).get(US, "batch_1")
        errors = await world.output(batch.error_file_id)
        assert batch.status == "completed"
        assert {each["error"]["code"] for each in errors} == {"input_file_missing"}
        assert len(errors) + len(await world.output(batch.output_file_id)) == len(NAMES)


async def test_a_batch_that_is_cancelled_while_it_is_validated_counts_what_it_has() -> None:
    async with opened() as world:
        store = Batches(world.database)
        await store.add(US, "batch_1", [(1, "line 0"), (2, "line 1")])
        terms = await store.terms(US, "batch_1")
        assert await store.move(US, replace(terms, batch=replace(terms.batch, status="cancelling")), "validating")
        await batches.perform(world.running(world.database), JOB)
        batch = await store.get(US, "batch_1")
        errors = await world.output(batch.error_file_id)
        assert (batch.status, batch.request_counts.total, batch.request_counts.failed) == ("cancelled", 2, 2)
        assert [each["error"]["code"] for each in errors] == ["batch_cancelled"] * 2


async def test_two_that_run_one_batch_store_each_result_once() -> None:
    async with opened() as world:
        await asyncio.gather(*(performing(_perform(world, world.database))(JOB) for _ in range(2)))
        await batches.perform(world.running(world.database), JOB)
        await _clean(world)
        await check(world)


async def test_what_nobody_put_in_the_queue_is_put_by_the_sweep() -> None:
    async with opened() as world:
        running = world.running(world.database)
        for _ in range(2):
            await batches.sweep(running, JOB)
        rows = await world.database.all("SELECT owner, kind, unique_key FROM jobs")
        assert rows == [(US, batches.KIND, "batch_1")]


async def test_a_batch_that_is_gone_is_no_failure() -> None:
    async with opened() as world:
        other = Job(id="job_2", owner="them", kind=batches.KIND, payload=JOB.payload, attempt=1)
        assert await performing(_perform(world, world.database))(other) == ""
        assert world.calls == {}


def test_there_is_less_room_while_clients_are_served() -> None:
    config = BatchesConfig(lines_at_once=8, live_max=4, lines_at_once_busy=2)
    assert [room(live, config) for live in (0, 4, 5, 100)] == [8, 8, 2, 2]


async def test_a_lane_is_free_again_when_a_client_has_been_served() -> None:
    live, config = Live(), BatchesConfig(lines_at_once=1, live_max=0, lines_at_once_busy=0)
    lanes = Lanes(live, config)

    async def pass_through() -> None:
        async with lanes:
            pass

    with live:
        waiting = asyncio.ensure_future(pass_through())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(5):
        await waiting
