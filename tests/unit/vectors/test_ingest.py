"""Files are ingested wholly or not at all, whatever fails and wherever a process dies (promise P12)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from antiphon.errors import ApiError, InvalidRequest, Unavailable, UpstreamRejected
from antiphon.knowledge import VectorStoresConfig
from antiphon.models.base import Access
from antiphon.stores.blobs import Blobs, LocalBlobs
from antiphon.stores.database import Database
from antiphon.stores.files import Files
from antiphon.stores.jobs import Job, NewJob
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.signals import LocalSignals
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.vector_files import FILE_GONE, NewFile, VectorFiles
from antiphon.stores.vector_stores import VectorStores
from antiphon.vectors import ingest
from antiphon.vectors.base import Block, Chunk, Document, Key, Piece
from antiphon.vectors.ingest import EMPTY, Ingesting
from antiphon.vectors.readers.refused import Refused
from antiphon.wire.chunking import ChunkingStrategyRequestParam
from antiphon.wire.files import File
from antiphon.wire.vector_stores import LastError, VectorStore, VectorStoreFile

US, STORE, FILE = "us", "vs_1", "file-1"
CONFIG = VectorStoresConfig(embed_texts_max=3, embed_chars_max=20, embed_at_once=2, embed_retry_s=0.001)
LINES = [f"line {number}" for number in range(10)]


class Rows:
    """An index in a dictionary."""

    def __init__(self, step: Callable[[str], Awaitable[None]]) -> None:
        self.kept: dict[tuple[str, str, int], Chunk] = {}
        self.largest = 0
        self.fault: ApiError | None = None
        self._step = step

    async def add(self, key: Key, file_id: str, attempt: str, *, chunks: Sequence[Chunk]) -> None:
        if self.fault is not None:
            raise self.fault
        await self._step("add")
        self.largest = max(self.largest, len(chunks))
        self.kept.update({(file_id, attempt, chunk.number): chunk for chunk in chunks})
        await self._step("added")

    async def remove(self, key: Key, file_id: str | None = None, *, but: str | None = None) -> None:
        await self._step("remove")
        gone = [each for each in self.kept if file_id in (None, each[0]) and each[1] != but]
        for each in gone:
            del self.kept[each]
        await self._step("removed")

    def texts(self, attempt: str | None = None) -> list[str]:
        found = sorted((each[2], each[1], chunk.piece.text) for each, chunk in self.kept.items())
        return [text for _, of, text in found if attempt in (None, of)]


class Shop:
    """What ingestion works with: a real database and storage, and everything else as the test wants it."""

    def __init__(self, place: tuple[Database, Blobs], config: VectorStoresConfig = CONFIG) -> None:
        database, blobs = place

        def clock() -> float:
            return 1_000.0

        self.steps: list[str] = []
        self.stop_at: Callable[[list[str]], bool] = lambda _: False
        self.reached = asyncio.Event()
        self.rows = Rows(self._step)
        self.faults: list[ApiError] = []
        self.calls: list[list[str]] = []
        self.length = 2
        self.unreadable: Refused | None = None
        self.put_jobs: list[tuple[str, NewJob]] = []
        self.pulled = 0
        self.ahead = 0
        self.stores = VectorStores(database, clock)
        self.files = VectorFiles(database, clock)
        self.uploads = Files(database, blobs, clock)
        self.signals = LocalSignals()
        self.ingesting = Ingesting(
            stores=self.stores,
            files=self.files,
            uploads=self.uploads,
            jobs=self,  # type: ignore[arg-type]
            signals=self.signals,
            clock=clock,
            config=config,
            indexes={"": self.rows},  # type: ignore[dict-item]
            default_index="",
            read=self._read,
            cut=self._cut,
            embed=self._embed,
        )

    async def _step(self, name: str) -> None:
        """Where a process may die: there, it waits for ever."""
        self.steps.append(name)
        if self.stop_at(self.steps):
            self.reached.set()
            await asyncio.get_running_loop().create_future()

    async def _read(self, source: AsyncIterator[bytes], filename: str) -> Document:
        assert filename == "notes.txt"
        await self._step("read")
        if self.unreadable is not None:
            raise self.unreadable
        text = b"".join([piece async for piece in source]).decode()
        return Document(blocks=tuple(Block(text=line) for line in text.splitlines()))

    def _cut(self, document: Document, strategy: ChunkingStrategyRequestParam | None) -> Iterator[Piece]:
        for block in document.blocks:
            self.pulled += 1
            self.ahead = max(self.ahead, self.pulled - len(self.rows.kept))
            yield Piece(text=block.text, start=0, end=len(block.text))

    async def _embed(self, model: str, texts: Sequence[str], *, dimension: int, access: Access) -> list[bytes]:
        await self._step("embed")
        self.calls.append(list(texts))
        if self.faults:
            raise self.faults.pop(0)
        return [b"\0\0\x80\x3f" * self.length for _ in texts]

    async def put(self, owner: str, job: NewJob) -> str:
        """Takes a job and runs none."""
        self.put_jobs.append((owner, job))
        return "job_1"

    async def prepare(self, lines: Sequence[str] = LINES, *, model: str = "m", dimension: int = 0) -> None:
        """A store to which a file of lines is attached."""
        await self.stores.create(
            US, VectorStore(id=STORE, created_at=1, embedding_model=model or None, embedding_dimension=dimension)
        )
        content = "\n".join(lines).encode()

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        def describe(size: int) -> File:
            return File(id=FILE, bytes=size, created_at=1, filename="notes.txt", purpose="assistants")

        await self.uploads.create(US, pieces(), describe)
        await self.attach()

    async def attach(self, batch: str | None = None) -> None:
        """Attaches the file, again or in a batch."""
        file = NewFile(id=FILE, filename="notes.txt", attributes={})
        await self.files.attach(US, STORE, [file], batch=batch)

    async def perform(self) -> None:
        """Runs the file's job."""
        payload = {"store": STORE, "file": FILE}
        await ingest.perform(self.ingesting, Job(id="job", owner=US, kind=ingest.KIND, payload=payload, attempt=1))

    async def forget(self) -> None:
        """Runs the store's last job."""
        job = Job(id="job", owner=US, kind=ingest.FORGET, payload={"store": STORE}, attempt=1)
        await ingest.forget(self.ingesting, job)

    async def sweep(self) -> list[tuple[str, dict[str, Any]]]:
        """The jobs that a sweep puts."""
        self.put_jobs.clear()
        await ingest.sweep(self.ingesting, Job(id="job", owner="", kind=ingest.SWEEP, payload={}, attempt=1))
        return [(job.kind, job.payload) for _, job in self.put_jobs]

    async def file(self) -> VectorStoreFile:
        """The file as clients see it."""
        return await self.files.get(US, STORE, FILE)

    async def among(self) -> dict[str, str]:
        """What searches may find."""
        return dict((await self.stores.view(US, STORE)).among)

    async def stopped_at(self, step: str) -> "asyncio.Task[None]":
        """The file's job, which has come to this step and waits there."""
        self.stop_at = lambda steps: steps[-1] == step
        task = asyncio.create_task(self.perform())
        async with asyncio.timeout(5):
            await self.reached.wait()
        self.stop_at = lambda _: False
        return task


@pytest.fixture
async def place() -> AsyncIterator[tuple[Database, Blobs]]:
    """A database with the schema, and a storage."""
    database, blobs = open_sqlite(None), LocalBlobs(None)
    await migrate(database, migrations())
    yield database, blobs
    await blobs.close()
    await database.close()


@pytest.fixture
def shop(place: tuple[Database, Blobs]) -> Shop:
    return Shop(place)


async def counted(shop: Shop) -> None:
    """The index has exactly the chunks of the attempt that counts, all of them."""
    attempt = (await shop.among())[FILE]
    assert shop.rows.texts() == shop.rows.texts(attempt) == LINES


async def failure(shop: Shop) -> LastError:
    """Why the file failed; nothing of it is left."""
    file = await shop.file()
    assert file.status == "failed"
    assert file.last_error is not None
    assert shop.rows.kept == {}
    assert await shop.among() == {}
    return file.last_error


# ---------------------------------------------------------------- to the end


async def test_a_file_is_read_cut_embedded_indexed_and_published(shop: Shop) -> None:
    await shop.prepare()
    await shop.perform()
    await counted(shop)
    file = await shop.file()
    assert (file.status, file.usage_bytes) == ("completed", sum(len(line) + 8 for line in LINES))
    assert (await shop.stores.get(US, STORE)).embedding_dimension == 2
    numbers = {chunk.number: chunk.id for chunk in shop.rows.kept.values()}
    assert len(set(numbers.values())) == len(LINES)


async def test_calls_are_small_and_few_at_once_and_nothing_is_read_far_ahead(shop: Shop) -> None:
    lines = [f"{number}" for number in range(3000)]
    await shop.prepare([*lines, "x" * 50])
    await shop.perform()
    assert shop.rows.texts() == [*lines, "x" * 50]
    assert max(map(len, shop.calls)) == shop.rows.largest == CONFIG.embed_texts_max
    assert all(len(call) == 1 or sum(map(len, call)) <= CONFIG.embed_chars_max for call in shop.calls)
    assert shop.ahead <= CONFIG.embed_texts_max * (CONFIG.embed_at_once + 2)


async def test_without_an_embedding_model_chunks_have_no_vectors(shop: Shop) -> None:
    await shop.prepare(model="")
    await shop.perform()
    await counted(shop)
    assert shop.calls == []
    assert all(chunk.vector is None for chunk in shop.rows.kept.values())


async def test_a_file_that_is_done_is_not_done_again(shop: Shop) -> None:
    await shop.prepare()
    await shop.perform()
    before = dict(shop.rows.kept)
    await shop.perform()
    assert shop.rows.kept == before
    assert shop.steps.count("read") == 1


# ---------------------------------------------------------------- crashes


async def test_whoever_dies_at_any_step_is_followed_by_one_that_leaves_exactly_what_counts(
    place: tuple[Database, Blobs],
) -> None:
    complete = Shop(place)
    await complete.prepare()
    await complete.perform()
    steps = len(complete.steps)
    assert steps > 10
    await complete.stores.delete(US, STORE)
    await complete.forget()
    await complete.uploads.delete(US, FILE)
    for count in range(1, steps + 1):
        shop = Shop(place)
        await shop.prepare()
        shop.stop_at = lambda steps, last=count: len(steps) == last  # type: ignore[misc]
        dying = asyncio.create_task(shop.perform())
        async with asyncio.timeout(5):
            await shop.reached.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        found = await shop.among()
        assert found == {} or shop.rows.texts(found[FILE]) == LINES, f"half a file after step {count}"
        shop.stop_at = lambda _: False
        await shop.perform()
        await counted(shop)
        await shop.stores.delete(US, STORE)
        await shop.forget()
        await shop.uploads.delete(US, FILE)
        assert shop.rows.kept == {}


async def test_of_two_that_ingest_a_file_the_later_one_counts(shop: Shop) -> None:
    await shop.prepare()
    first = await shop.stopped_at("added")
    await shop.perform()
    await first
    await counted(shop)


async def test_what_no_attempt_survives_is_given_up(place: tuple[Database, Blobs]) -> None:
    shop = Shop(place, VectorStoresConfig(ingest_attempts_max=2))
    await shop.prepare()
    for attempt in ("a", "b"):
        assert await shop.files.begin(US, STORE, FILE, attempt=attempt)
    await shop.perform()
    error = await failure(shop)
    assert error == LastError(code="server_error", message="Ingestion was begun 2 times and never came to its end.")


async def test_a_sweep_puts_a_job_for_all_that_was_left(shop: Shop) -> None:
    await shop.prepare()
    assert await shop.sweep() == [(ingest.KIND, {"store": STORE, "file": FILE})]
    await shop.perform()
    assert await shop.sweep() == []
    await shop.files.detach(US, STORE, FILE)
    assert await shop.sweep() == [(ingest.KIND, {"store": STORE, "file": FILE})]
    await shop.stores.delete(US, STORE)
    assert await shop.sweep() == [(ingest.FORGET, {"store": STORE})]
    await shop.forget()
    assert shop.rows.kept == {}
    assert await shop.sweep() == []
    assert await shop.stores.place(US, STORE) is None


# ---------------------------------------------------------------- failures


async def test_a_busy_embedding_host_is_asked_again(shop: Shop) -> None:
    await shop.prepare()
    shop.faults = [UpstreamRejected("Busy.", status=429, retry_after_s=0.001), UpstreamRejected("Gone.", status=503)]
    await shop.perform()
    await counted(shop)


@pytest.mark.parametrize(("status", "calls"), [(503, 8), (400, 1), (401, 1)])
async def test_a_failing_embedding_host_fails_the_file(shop: Shop, status: int, calls: int) -> None:
    await shop.prepare(["one"])
    shop.faults = [UpstreamRejected("No.", status=status) for _ in range(20)]
    await shop.perform()
    assert await failure(shop) == LastError(code="server_error", message="The embedding model 'm' failed: No.")
    assert len(shop.calls) == calls
    shop.faults = []
    await shop.attach()
    await shop.perform()
    assert (await shop.file()).status == "completed"
    assert (await shop.file()).last_error is None


async def test_vectors_of_another_length_than_the_store_has_fail_the_file(shop: Shop) -> None:
    await shop.prepare(dimension=3)
    await shop.perform()
    said = "The embedding model 'm' gives vectors of length 2; the vector store has 3."
    assert await failure(shop) == LastError(code="server_error", message=said)


async def test_a_file_that_cannot_be_read_fails_with_the_reason(shop: Shop) -> None:
    await shop.prepare()
    shop.unreadable = Refused("unsupported_file", "No reader.")
    await shop.perform()
    assert await failure(shop) == LastError(code="unsupported_file", message="No reader.")


@pytest.mark.parametrize("lines", [[], ["", "  "]])
async def test_a_file_without_text_fails(shop: Shop, lines: list[str]) -> None:
    await shop.prepare(lines)
    await shop.perform()
    assert await failure(shop) == EMPTY


async def test_an_index_that_refuses_fails_the_file_and_one_that_is_away_does_not(shop: Shop) -> None:
    await shop.prepare()
    shop.rows.fault = Unavailable("Away.")
    with pytest.raises(Unavailable):
        await shop.perform()
    assert (await shop.file()).status == "in_progress"
    shop.rows.fault = InvalidRequest("Not so.")
    await shop.perform()
    assert await failure(shop) == LastError(code="server_error", message="Not so.")


async def test_an_index_that_is_no_longer_configured_is_waited_for(shop: Shop) -> None:
    await shop.prepare()
    shop.ingesting.indexes.clear()  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="not configured"):
        await shop.perform()
    assert (await shop.file()).status == "in_progress"


# ---------------------------------------------------------------- what is not wanted any more


async def test_a_cancelled_batch_ends_what_runs(shop: Shop) -> None:
    await shop.prepare()
    await shop.attach(batch="vsfb_1")
    running = await shop.stopped_at("embed")
    assert await shop.files.cancel_batch(US, STORE, "vsfb_1") == [FILE]
    shop.signals.send(STORE)
    await running
    assert (await shop.file()).status == "cancelled"
    assert shop.rows.kept == {}


async def test_a_removed_file_is_ingested_no_further(shop: Shop) -> None:
    await shop.prepare()
    running = await shop.stopped_at("added")
    await shop.files.detach(US, STORE, FILE)
    shop.signals.send(STORE)
    await running
    assert shop.rows.kept == {}
    assert await shop.files.standing(US, STORE, FILE) is None


async def test_a_file_that_is_attached_again_meanwhile_is_ingested_by_the_same_job(shop: Shop) -> None:
    await shop.prepare()
    running = await shop.stopped_at("added")
    await shop.files.detach(US, STORE, FILE)
    await shop.attach()
    assert await shop.files.begin(US, STORE, FILE, attempt="another")
    shop.signals.send(STORE)
    await running
    await counted(shop)


async def test_a_deleted_upload_fails_the_file_while_it_is_ingested_and_leaves_the_store_after(shop: Shop) -> None:
    await shop.prepare()
    running = await shop.stopped_at("embed")
    await shop.uploads.delete(US, FILE)
    shop.signals.send(STORE)
    await running
    assert await failure(shop) == FILE_GONE


async def test_a_store_that_is_deleted_waits_for_what_is_under_way(shop: Shop) -> None:
    await shop.prepare()
    running = await shop.stopped_at("added")
    await shop.stores.delete(US, STORE)
    with pytest.raises(Unavailable, match="1 files of the vector store 'vs_1' may still be under way"):
        await shop.forget()
    shop.signals.send(STORE)
    await running
    await shop.forget()
    assert shop.rows.kept == {}
    assert await shop.stores.place(US, STORE) is None
