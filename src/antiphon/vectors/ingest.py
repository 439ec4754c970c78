"""Files into stores: read, cut, embedded, indexed, published. And out of them again: what nobody finds is removed.

The ingestion of a file is one job, and may be begun anew at any point, by this process or by another. Each time it is
an attempt under an id of its own; only the last that was begun can publish, in one transaction, and whatever is in the
index of other attempts is removed after that. So at every moment either the chunks of one whole attempt are found or
none, and a job that has ended leaves none behind that do not count.

A file's pieces are never all in memory: they are cut as they are embedded, and indexed as they are embedded.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from antiphon.clock import Clock
from antiphon.errors import ApiError, InvalidRequest, NotFound, Unavailable
from antiphon.exchange import NO_REPLAY, Replay
from antiphon.ids import child_id, random_id
from antiphon.knowledge import VectorStoresConfig
from antiphon.models.base import Access
from antiphon.stores.blobs import read_through
from antiphon.stores.files import Files
from antiphon.stores.jobs import Job, Jobs, NewJob, pause_after
from antiphon.stores.signals import Signals, Waiting, while_wanted
from antiphon.stores.vector_files import FILE_GONE, Standing, VectorFiles
from antiphon.stores.vector_stores import Place, VectorStores
from antiphon.vectors.base import Chunk, Document, Key, Piece, VectorIndex
from antiphon.vectors.readers.refused import Refused
from antiphon.vectors.search import Embed
from antiphon.wire.chunking import ChunkingStrategyRequestParam
from antiphon.wire.vector_stores import LastError

KIND: Final = "ingest"
FORGET: Final = "forget_vector_store"
"""The kind of job that removes all that a deleted or expired store contained."""
SWEEP: Final = "sweep_vector_stores"
"""The recurring job that puts what a crash kept from being put."""
LOOK_S: Final = 1.0
"""How often an ingestion looks whether it is still wanted, without having been told."""
READY_S: Final = 3600.0
"""How long the insertion of ready-made chunks may take before it counts as left behind."""
BUSY: Final = frozenset({429, 500, 502, 503, 504})
"""The statuses after which an embedding host is asked again."""
PAUSE_S_MAX: Final = 60.0
EMPTY: Final = LastError(code="invalid_file", message="The file contains no text.")

Read = Callable[[AsyncIterator[bytes], str], Awaitable[Document]]
"""The bytes of a file of that name, parsed. Raises `Refused` for one that cannot be read."""
Cut = Callable[[Document, ChunkingStrategyRequestParam | None], Iterator[Piece]]


class Ingesting(Struct, frozen=True, kw_only=True):
    """What files are ingested with: among it the indexes by name, of which new stores have the default one."""

    stores: VectorStores
    files: VectorFiles
    uploads: Files
    jobs: Jobs
    signals: Signals
    clock: Clock
    config: VectorStoresConfig
    indexes: Mapping[str, VectorIndex]
    default_index: str
    read: Read
    cut: Cut
    embed: Embed

    def index(self, name: str) -> VectorIndex:
        """An index by name. Raises `Unavailable` for one that is no longer configured."""
        if name not in self.indexes:
            raise Unavailable(f"The index '{name}' that the vector store is kept in is not configured.")
        return self.indexes[name]


class Target(Struct, frozen=True, kw_only=True):
    """The file that a job is about."""

    owner: str
    store: str
    file: str
    replay: Replay = NO_REPLAY

    @property
    def path(self) -> tuple[str, str, str]:
        """What names it to the store of files."""
        return self.owner, self.store, self.file


async def put(jobs: Jobs, target: Target) -> None:
    """Asks for a file to be ingested, or for what is left of it to be removed, unless that is being done."""
    payload: dict[str, Any] = {"store": target.store, "file": target.file}
    if target.replay != NO_REPLAY:
        payload["replay"] = msgspec.to_builtins(target.replay)
    await jobs.put(target.owner, NewJob(kind=KIND, payload=payload, key=f"{target.store}/{target.file}"))


async def put_forget(jobs: Jobs, owner: str, store: str) -> None:
    """Asks for all to be removed that a store contained."""
    await jobs.put(owner, NewJob(kind=FORGET, payload={"store": store}, key=store))


async def sweep(ingesting: Ingesting, _job: Job) -> None:
    """Puts a job for every file and store that needs one and may have none."""
    for owner, store in await ingesting.stores.ended():
        await put_forget(ingesting.jobs, owner, store)
    for owner, store, file in await ingesting.files.left(ingesting.clock() - READY_S):
        await put(ingesting.jobs, Target(owner=owner, store=store, file=file))


async def forget(ingesting: Ingesting, job: Job) -> None:
    """Removes what a deleted or expired store contained. Raises `Unavailable` while somebody still adds to it."""
    owner, store = job.owner, job.payload["store"]
    place = await ingesting.stores.place(owner, store)
    if place is None:
        return
    left = await ingesting.files.bury(owner, store)
    await ingesting.index(place.index).remove(key_of(owner, store, place))
    for file in left:
        await put(ingesting.jobs, Target(owner=owner, store=store, file=file))
    if left:
        raise Unavailable(f"{len(left)} files of the vector store '{store}' may still be under way.")
    if place.gone:
        await ingesting.stores.drop(owner, store)


async def perform(ingesting: Ingesting, job: Job) -> None:
    """Brings a file from where it stands to where it is to stand, and the index with it."""
    replay = msgspec.convert(job.payload.get("replay", {}), Replay)
    target = Target(owner=job.owner, store=job.payload["store"], file=job.payload["file"], replay=replay)
    while (place := await ingesting.stores.place(target.owner, target.store)) is not None:
        standing = await ingesting.files.standing(*target.path)
        if standing is None or standing.status != "in_progress":
            await _tidy(ingesting, target, standing, place=place)
            again = await ingesting.files.standing(*target.path)
            if again is None or again.status != "in_progress":  # else it was attached anew in between
                return
        else:
            await _attempt(ingesting, target, standing, place=place)


async def _tidy(ingesting: Ingesting, target: Target, standing: Standing | None, *, place: Place) -> None:
    """Removes every chunk of the file that does not count."""
    counting = standing.attempt if standing is not None and standing.status == "completed" else None
    key = key_of(target.owner, target.store, place)
    await ingesting.index(place.index).remove(key, target.file, but=counting)
    if standing is not None:
        await ingesting.files.settle(*target.path)


async def _attempt(ingesting: Ingesting, target: Target, standing: Standing, *, place: Place) -> None:
    """Ingests the file once, until it is published, fails, or is no longer wanted."""
    attempt = random_id("attempt")
    if not await ingesting.files.begin(*target.path, attempt=attempt):
        return
    if standing.tries >= ingesting.config.ingest_attempts_max:
        message = f"Ingestion was begun {standing.tries} times and never came to its end."
        error = LastError(code="server_error", message=message)
        await ingesting.files.fail(*target.path, attempt=attempt, error=error)
        return
    try:
        filling = _Filling(ingesting, target, attempt=attempt, place=place)
        if await while_wanted(filling.run(standing), _withdrawn(ingesting, target, attempt)):
            await ingesting.files.publish(*target.path, attempt=attempt, usage_bytes=filling.used_bytes)
    except Refused as refused:
        error = LastError(code=refused.code, message=refused.message)
        await ingesting.files.fail(*target.path, attempt=attempt, error=error)


async def _withdrawn(ingesting: Ingesting, target: Target, attempt: str) -> None:
    """Ends when the attempt may not publish any more."""
    with Waiting(ingesting.signals, target.store) as changed:
        while (standing := await ingesting.files.standing(*target.path)) is not None:
            if standing.status != "in_progress" or standing.trying != attempt:
                return
            await changed.wait(LOOK_S)


class _Filling:
    """One attempt's way from the bytes of a file to chunks in an index."""

    def __init__(self, ingesting: Ingesting, target: Target, *, attempt: str, place: Place) -> None:
        self._ingesting = ingesting
        self._target = target
        self._attempt = attempt
        self._place = place
        self._index = ingesting.index(place.index)
        self._access = Access(replay=target.replay)
        self._under_way = asyncio.Semaphore(ingesting.config.embed_at_once)
        self._dimension = place.dimension
        self.used_bytes = 0

    async def run(self, standing: Standing) -> None:
        """Adds every chunk of the file. Raises `Refused`; `ApiError` where the database or the index is away."""
        document = await self._ingesting.read(self._content(), standing.filename)
        pieces = self._ingesting.cut(document, standing.strategy)
        config, number = self._ingesting.config, 0
        rest = _Batches(pieces, texts_max=config.embed_texts_max, chars_max=config.embed_chars_max)
        with _first_of_group():
            async with asyncio.TaskGroup() as tasks:
                while batch := await asyncio.to_thread(rest.next):
                    await self._under_way.acquire()
                    tasks.create_task(self._add(number, batch))
                    number += len(batch)
        if not number:
            raise Refused(EMPTY.code, EMPTY.message)

    async def _content(self) -> AsyncIterator[bytes]:
        """The file's bytes, opened when they are asked for: a parser may have files waiting."""
        try:
            source = await self._ingesting.uploads.read(self._target.owner, self._target.file)
        except NotFound as error:
            raise Refused(FILE_GONE.code, FILE_GONE.message) from error
        async with read_through(source) as pieces:
            async for piece in pieces:
                yield piece

    async def _add(self, number: int, pieces: Sequence[Piece]) -> None:
        try:
            vectors = await self._vectors([piece.text for piece in pieces])
            id = self._target.file.replace("-", "_", 1)
            chunks = [
                Chunk(id=child_id(id, "chunk", at), number=at, piece=piece, vector=vector)
                for at, (piece, vector) in enumerate(zip(pieces, vectors, strict=True), number)
            ]
            key = key_of(self._target.owner, self._target.store, self._place, dimension=self._dimension)
            try:
                await self._index.add(key, self._target.file, self._attempt, chunks=chunks)
            except InvalidRequest as error:
                raise Refused("server_error", error.message) from error
            self.used_bytes += used_bytes(chunks)
        finally:
            self._under_way.release()

    async def _vectors(self, texts: Sequence[str]) -> Sequence[bytes | None]:
        model = self._place.embedding_model
        if not model:
            return [None] * len(texts)
        vectors = await self._embedded(model, texts)
        length = len(vectors[0]) // 4
        if not self._dimension:
            self._dimension = await self._ingesting.stores.settle(self._target.owner, self._target.store, length)
        if length != self._dimension:
            raise Refused("server_error", other_length(model, length, self._dimension))
        return vectors

    async def _embedded(self, model: str, texts: Sequence[str]) -> list[bytes]:
        """The vectors of texts; if the model's host is busy or away, those that it gives later."""
        config, failures = self._ingesting.config, 0
        while True:
            try:
                return await self._ingesting.embed(model, texts, dimension=self._dimension, access=self._access)
            except ApiError as error:
                failures += 1
                if error.status not in BUSY or failures >= config.embed_tries_max:
                    raise Refused("server_error", f"The embedding model '{model}' failed: {error.message}") from error
                retry_after_s = error.retry_after_s or 0.0
            chance = random.random()  # noqa: S311 - no secret
            pause_s = pause_after(failures, first_s=config.embed_retry_s, max_s=PAUSE_S_MAX, chance=chance)
            await asyncio.sleep(max(pause_s, retry_after_s))


class _Batches:
    """Pieces in batches: so many at most, and of so many characters unless one alone has more."""

    def __init__(self, pieces: Iterator[Piece], *, texts_max: int, chars_max: int) -> None:
        self._pieces = (piece for piece in pieces if piece.text.strip())
        self._texts_max = texts_max
        self._chars_max = chars_max
        self._held: Piece | None = None

    def next(self) -> list[Piece]:
        """The next batch; empty when there is none. Cutting takes time: to be called in a thread, one call at once."""
        batch: list[Piece] = []
        chars = 0
        while len(batch) < self._texts_max:
            piece, self._held = self._held or next(self._pieces, None), None
            if piece is None:
                break
            if batch and chars + len(piece.text) > self._chars_max:
                self._held = piece
                break
            batch.append(piece)
            chars += len(piece.text)
        return batch


@contextlib.contextmanager
def _first_of_group() -> Iterator[None]:
    """Several tasks may fail; the first says why."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


def key_of(owner: str, store: str, place: Place, *, dimension: int | None = None) -> Key:
    """A store as its index knows it."""
    length = place.dimension if dimension is None else dimension
    return Key(owner=owner, store=store, dimension=length, metric=place.metric)


def used_bytes(chunks: Sequence[Chunk]) -> int:
    """What the texts and vectors of chunks take."""
    return sum(len(chunk.piece.text.encode()) + len(chunk.vector or b"") for chunk in chunks)


def other_length(model: str, length: int, dimension: int) -> str:
    """Why vectors cannot be kept in a store."""
    return f"The embedding model '{model}' gives vectors of length {length}; the vector store has {dimension}."
