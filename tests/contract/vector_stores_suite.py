"""What vector stores promise, on any database: cases of a place with an open database that has the schema."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from antiphon.errors import Conflict, InvalidRequest, NotFound, Unavailable
from antiphon.stores.database import Database
from antiphon.stores.vector_files import FILE_GONE, NewFile, VectorFiles, file_deleted
from antiphon.stores.vector_stores import DAY_S, TOUCHED_S, FileFacts, Place, VectorStores
from antiphon.testing.database_suite import refused
from antiphon.wire.chunking import StaticChunkingStrategy, StaticChunkingStrategyRequestParam
from antiphon.wire.vector_stores import (
    FileCounts,
    LastError,
    StoreExpiresAfter,
    UpdateVectorStore,
    VectorStore,
    VectorStoreFileListQuery,
    VectorStoreListQuery,
)
from stores_suite import THEM, US

NOW = 1_000_000
BROKEN = LastError(code="invalid_file", message="Broken.")
SMALL = StaticChunkingStrategyRequestParam(
    static=StaticChunkingStrategy(max_chunk_size_tokens=100, chunk_overlap_tokens=10)
)


class Shelf(Struct):
    """A database, seen by one process, and a clock that the case moves."""

    database: Database
    now_s: float = NOW

    def stores(self) -> VectorStores:
        """The stores, as another process would open them."""
        return VectorStores(self.database, lambda: self.now_s)

    @property
    def files(self) -> VectorFiles:
        """Their files."""
        return VectorFiles(self.database, lambda: self.now_s)

    async def made(self, id: str = "vs_1", owner: str = US, days: int | None = None) -> VectorStores:
        """The stores, with one more."""
        stores = self.stores()
        expires_after = None if days is None else StoreExpiresAfter(anchor="last_active_at", days=days)
        await stores.create(owner, store(id, self.now_s, expires_after))
        return stores

    async def attach(self, *ids: str, batch: str | None = None, at: str = "vs_1", owner: str = US) -> None:
        """Attaches files that have a number each."""
        await self.files.attach(owner, at, [file(id) for id in ids], batch=batch)

    async def ingest(self, *ids: str, at: str = "vs_1") -> None:
        """Publishes files, with 10 bytes each."""
        for id in ids:
            assert await self.files.begin(US, at, id, attempt=f"{id}-try")
            assert await self.files.publish(US, at, id, attempt=f"{id}-try", usage_bytes=10)
            await self.files.settle(US, at, id)

    async def statuses(self, at: str = "vs_1") -> dict[str, str]:
        """How the files stand that can be seen, in the order of their attachment."""
        page = await self.files.list(US, at, VectorStoreFileListQuery(order="asc"))
        return {each.id: each.status for each in page.data}


def store(id: str = "vs_1", created_at: float = NOW, expires_after: StoreExpiresAfter | None = None) -> VectorStore:
    """A store as it is created."""
    return VectorStore(
        id=id,
        created_at=int(created_at),
        last_active_at=int(created_at),
        name="Papers",
        description="Of all kinds",
        expires_after=expires_after,
        metadata={"a": "b"},
        embedding_model="local/small",
        embedding_dimension=3,
        metric="dot_product",
        provider_id="fast",
    )


def file(id: str) -> NewFile:
    """A file that is to be attached."""
    return NewFile(id=id, filename=f"{id}.txt", attributes={"number": float(id[-1])}, strategy=SMALL)


async def a_store_is_kept_as_it_was_given(shelf: Shelf) -> None:
    """With name, metadata, and where its chunks are; its id once."""
    stores = await shelf.made()
    assert await stores.get(US, "vs_1") == store()
    assert await stores.place(US, "vs_1") == Place(
        index="fast", embedding_model="local/small", dimension=3, metric="dot_product"
    )
    await refused(Conflict, stores.create(THEM, store()))


async def nobody_sees_the_stores_of_others(shelf: Shelf) -> None:
    """Nor their files, nor their batches."""
    stores = await shelf.made()
    await shelf.attach("f1", batch="b1")
    files = shelf.files
    for call in (
        stores.get(THEM, "vs_1"),
        stores.update(THEM, "vs_1", UpdateVectorStore(name="mine")),
        stores.delete(THEM, "vs_1"),
        stores.view(THEM, "vs_1"),
        files.attach(THEM, "vs_1", [file("f2")]),
        files.get(THEM, "vs_1", "f1"),
        files.update(THEM, "vs_1", "f1", attributes={}),
        files.detach(THEM, "vs_1", "f1"),
        files.get_batch(THEM, "vs_1", "b1"),
        files.cancel_batch(THEM, "vs_1", "b1"),
        files.open_ready(THEM, "vs_1", "chunks"),
    ):
        await refused(NotFound, call)
    assert (await stores.list(THEM, VectorStoreListQuery())).data == []
    assert (await files.list(THEM, "vs_1", VectorStoreFileListQuery())).data == []
    assert not await files.begin(THEM, "vs_1", "f1", attempt="t")
    assert await stores.place(THEM, "vs_1") is None
    assert await shelf.statuses() == {"f1": "in_progress"}


async def an_update_replaces_what_it_names(shelf: Shelf) -> None:
    """And nothing else; null takes away."""
    stores = await shelf.made(days=2)
    await stores.update(US, "vs_1", UpdateVectorStore(name="Books"))
    named = await stores.get(US, "vs_1")
    assert (named.name, named.metadata, named.description) == ("Books", {"a": "b"}, "Of all kinds")
    assert named.expires_at == NOW + 2 * DAY_S
    bare = await stores.update(US, "vs_1", UpdateVectorStore(name=None, metadata=None, expires_after=None))
    assert (bare.name, bare.metadata, bare.expires_after, bare.expires_at) == ("", {}, None, None)


async def lists_page_in_both_directions(shelf: Shelf) -> None:
    """Stores and files alike, by cursors that stay right while something is added."""
    for number in range(5):
        await shelf.made(f"vs_{number}")
    await shelf.attach(*[f"f{number}" for number in range(5)], at="vs_0")
    stores, files = shelf.stores(), shelf.files

    async def shelves(**query: object) -> tuple[list[str], bool]:
        page = await stores.list(US, VectorStoreListQuery(**query))  # type: ignore[arg-type]
        return [each.id[-1] for each in page.data], page.has_more

    async def papers(**query: object) -> tuple[list[str], bool]:
        page = await files.list(US, "vs_0", VectorStoreFileListQuery(**query))  # type: ignore[arg-type]
        return [each.id[-1] for each in page.data], page.has_more

    for listed, prefix in ((shelves, "vs_"), (papers, "f")):
        assert await listed(limit=2) == (["4", "3"], True)
        assert await listed(limit=2, after=f"{prefix}3") == (["2", "1"], True)
        assert await listed(limit=2, after=f"{prefix}1") == (["0"], False)
        assert await listed(limit=2, before=f"{prefix}1") == (["3", "2"], True)
        assert await listed(limit=2, order="asc", after=f"{prefix}0") == (["1", "2"], True)
        assert await listed(order="asc", after=f"{prefix}0", before=f"{prefix}3") == (["1", "2"], False)
        await refused(InvalidRequest, listed(after="unknown"))


async def files_are_listed_by_status(shelf: Shelf) -> None:
    """Of the whole store, or of a batch."""
    await shelf.made()
    await shelf.attach("f1", "f2", batch="b1")
    await shelf.attach("f3")
    await shelf.ingest("f1", "f3")

    async def listed(status: str, batch: str | None = None) -> list[str]:
        query = VectorStoreFileListQuery(filter=status)  # type: ignore[arg-type]
        return [each.id for each in (await shelf.files.list(US, "vs_1", query, batch=batch)).data]

    assert await listed("completed") == ["f3", "f1"]
    assert await listed("completed", "b1") == ["f1"]
    assert await listed("in_progress", "b1") == ["f2"]
    assert await listed("failed") == []


async def a_file_is_shown_as_it_was_attached(shelf: Shelf) -> None:
    """Its chunking as it will be done, its attributes, and later its size."""
    stores = await shelf.made()
    await shelf.attach("f1")
    shown = await shelf.files.get(US, "vs_1", "f1")
    assert (shown.status, shown.usage_bytes, shown.created_at, shown.last_error) == ("in_progress", 0, NOW, None)
    assert shown.attributes == {"number": 1.0}
    assert shown.chunking_strategy.static == SMALL.static  # type: ignore[union-attr]
    assert (await stores.get(US, "vs_1")).status == "in_progress"
    await shelf.ingest("f1")
    assert (await shelf.files.get(US, "vs_1", "f1")).usage_bytes == 10
    whole = await stores.get(US, "vs_1")
    assert (whole.status, whole.usage_bytes, whole.file_counts) == ("completed", 10, FileCounts(completed=1, total=1))


async def a_file_is_attached_once(shelf: Shelf) -> None:
    """Again it changes nothing, unless it had failed, was cancelled, or was taken away: then it is tried anew."""
    await shelf.made()
    await shelf.attach("f1", "f1", "f2", "f3", "f4", batch="b1")
    await shelf.ingest("f1")
    assert await shelf.files.begin(US, "vs_1", "f2", attempt="t2")
    assert await shelf.files.fail(US, "vs_1", "f2", attempt="t2", error=BROKEN)
    await shelf.files.detach(US, "vs_1", "f3")
    assert await shelf.files.cancel_batch(US, "vs_1", "b1") == ["f4"]
    assert await shelf.statuses() == {"f1": "completed", "f2": "failed", "f4": "cancelled"}
    assert (await shelf.files.get(US, "vs_1", "f2")).last_error == BROKEN
    await shelf.attach("f1", "f2", "f3", "f4")
    assert await shelf.statuses() == {
        "f1": "completed",
        "f2": "in_progress",
        "f3": "in_progress",
        "f4": "in_progress",
    }
    assert (await shelf.files.get(US, "vs_1", "f2")).last_error is None


async def thousands_of_files_are_attached_at_once(shelf: Shelf) -> None:
    """In one transaction, all or none."""
    await shelf.made()
    ids = [f"file-{number}" for number in range(2000)]
    await shelf.attach(*ids, batch="b1")
    assert (await shelf.files.get_batch(US, "vs_1", "b1")).file_counts == FileCounts(in_progress=2000, total=2000)
    assert await shelf.files.count(US, "vs_1") == 2000
    await refused(Conflict, shelf.attach("f1", batch="b1"))
    assert await shelf.files.count(US, "vs_1") == 2000


async def only_the_attempt_that_a_file_names_publishes_it(shelf: Shelf) -> None:
    """One that was given up finds that it was."""
    stores = await shelf.made()
    await shelf.attach("f1")
    files = shelf.files
    assert await files.begin(US, "vs_1", "f1", attempt="old")
    assert await files.begin(US, "vs_1", "f1", attempt="new")
    assert not await files.publish(US, "vs_1", "f1", attempt="old", usage_bytes=1)
    assert not await files.fail(US, "vs_1", "f1", attempt="old", error=BROKEN)
    assert (await stores.view(US, "vs_1")).among == {}
    assert await files.publish(US, "vs_1", "f1", attempt="new", usage_bytes=1)
    assert (await stores.view(US, "vs_1")).among == {"f1": "new"}
    assert not await files.begin(US, "vs_1", "f1", attempt="later")
    standing = await files.standing(US, "vs_1", "f1")
    assert standing is not None
    assert (standing.attempt, standing.trying, standing.tries, standing.strategy) == ("new", "new", 2, SMALL)


async def a_view_is_the_same_until_something_changes(shelf: Shelf) -> None:
    """And then another in every process, though only one made the change."""
    here, elsewhere = await shelf.made(), shelf.stores()
    await shelf.attach("f1", "f2")
    await shelf.ingest("f1")
    first, other = await here.view(US, "vs_1"), await elsewhere.view(US, "vs_1")
    assert first.files == {"f1": FileFacts(filename="f1.txt", attributes={"number": 1.0})}
    again = await here.view(US, "vs_1")
    assert again.among is first.among
    assert again.files is first.files
    await shelf.files.update(US, "vs_1", "f1", attributes={"number": 7.0})
    for stores, was in ((here, first), (elsewhere, other)):
        now = await stores.view(US, "vs_1")
        assert now.files is not was.files
        assert now.files["f1"].attributes == {"number": 7.0}
    await shelf.ingest("f2")
    assert (await here.view(US, "vs_1")).among == {"f1": "f1-try", "f2": "f2-try"}
    await shelf.files.detach(US, "vs_1", "f1")
    assert (await here.view(US, "vs_1")).among == {"f2": "f2-try"}


async def a_batch_stands_as_its_files_do(shelf: Shelf) -> None:
    """It failed if all of them did; a batch that ended is not cancelled, one that is cancelled stays so."""
    await shelf.made()
    files = shelf.files
    await shelf.attach("f1", "f2", batch="b1")
    await shelf.attach("f3", batch="b2")
    await shelf.attach("f2", "f4", batch="b3")
    await shelf.ingest("f1", "f2")
    assert await files.begin(US, "vs_1", "f3", attempt="t")
    assert await files.fail(US, "vs_1", "f3", attempt="t", error=BROKEN)
    assert await files.cancel_batch(US, "vs_1", "b3") == ["f4"]
    shown = {id: await files.get_batch(US, "vs_1", id) for id in ("b1", "b2", "b3")}
    assert {id: each.status for id, each in shown.items()} == {"b1": "completed", "b2": "failed", "b3": "cancelled"}
    assert shown["b3"].file_counts == FileCounts(completed=1, cancelled=1, total=2)
    assert not await files.publish(US, "vs_1", "f4", attempt="t", usage_bytes=1)
    for ended in ("b1", "b2"):
        await refused(Conflict, files.cancel_batch(US, "vs_1", ended))
    assert await files.cancel_batch(US, "vs_1", "b3") == []
    await refused(NotFound, files.get_batch(US, "vs_2", "b1"))


async def what_is_removed_stays_known_until_its_chunks_are_gone(shelf: Shelf) -> None:
    """A removed file is seen by nobody, and left to whoever removes chunks."""
    await shelf.made()
    await shelf.attach("f1", "f2")
    await shelf.ingest("f1", "f2")
    await shelf.files.detach(US, "vs_1", "f1")
    await refused(NotFound, shelf.files.get(US, "vs_1", "f1"))
    await refused(NotFound, shelf.files.detach(US, "vs_1", "f1"))
    assert await shelf.files.left(NOW) == [(US, "vs_1", "f1")]
    await shelf.files.settle(US, "vs_1", "f1")
    assert await shelf.files.standing(US, "vs_1", "f1") is None
    assert await shelf.files.left(NOW) == []


async def a_deleted_store_is_gone_at_once_and_dropped_when_it_is_empty(shelf: Shelf) -> None:
    """Files that somebody may be ingesting are waited for."""
    stores = await shelf.made()
    await shelf.attach("f1", "f2", "f3", batch="b1")
    await shelf.ingest("f1")
    assert await shelf.files.begin(US, "vs_1", "f2", attempt="t")
    await stores.delete(US, "vs_1")
    for call in (stores.get(US, "vs_1"), stores.view(US, "vs_1"), stores.delete(US, "vs_1"), shelf.attach("f4")):
        await refused(NotFound, call)
    assert not await shelf.files.publish(US, "vs_1", "f2", attempt="t", usage_bytes=1)
    assert await stores.ended() == [(US, "vs_1")]
    assert await shelf.files.left(NOW) == []
    assert await shelf.files.bury(US, "vs_1") == ["f2"]
    await shelf.files.settle(US, "vs_1", "f2")
    assert await shelf.files.bury(US, "vs_1") == []
    await stores.drop(US, "vs_1")
    assert await stores.ended() == []
    for table in ("vector_stores", "vector_store_files", "vector_file_batches", "vector_batch_files"):
        assert await shelf.database.all(f"SELECT owner FROM {table}") == []


async def a_store_expires_when_it_was_not_used_for_days(shelf: Shelf) -> None:
    """Searches and changes put that off; once expired it has no files, and is not brought back."""
    stores = await shelf.made(days=1)
    await shelf.attach("f1")
    await shelf.ingest("f1")
    shelf.now_s += TOUCHED_S - 1
    await stores.view(US, "vs_1")
    assert (await stores.get(US, "vs_1")).last_active_at == NOW, "noted at most once a minute"
    shelf.now_s += 1
    await stores.view(US, "vs_1")
    shown = await stores.get(US, "vs_1")
    assert (shown.last_active_at, shown.expires_at) == (NOW + TOUCHED_S, NOW + TOUCHED_S + DAY_S)
    assert await stores.ended() == []
    shelf.now_s += DAY_S
    assert (await stores.get(US, "vs_1")).status == "expired"
    for call in (
        stores.view(US, "vs_1"),
        shelf.attach("f2"),
        shelf.files.update(US, "vs_1", "f1", attributes={}),
        stores.update(US, "vs_1", UpdateVectorStore(expires_after=None)),
    ):
        assert (await refused(InvalidRequest, call)).code == "vector_store_expired"
    assert (await stores.update(US, "vs_1", UpdateVectorStore(name="Old"))).name == "Old"
    assert await stores.ended() == [(US, "vs_1")]
    assert await stores.ended() == []
    assert await shelf.files.left(NOW) == [(US, "vs_1", "f1")]
    emptied = await stores.get(US, "vs_1")
    assert (emptied.status, emptied.file_counts, emptied.usage_bytes) == ("expired", FileCounts(), 0)


async def a_deleted_upload_leaves_every_store(shelf: Shelf) -> None:
    """Where it was still to be ingested, it fails and says why."""
    stores = await shelf.made()
    await shelf.made("vs_2")
    await shelf.attach("f1", "f2")
    await shelf.ingest("f1", "f2")
    await shelf.attach("f1", at="vs_2")
    assert (await stores.view(US, "vs_1")).among.keys() == {"f1", "f2"}
    await shelf.database.transaction(file_deleted(US, "f1"))
    assert (await stores.view(US, "vs_1")).among.keys() == {"f2"}
    assert await shelf.statuses() == {"f2": "completed"}
    assert (await shelf.files.get(US, "vs_2", "f1")).last_error == FILE_GONE
    assert sorted(await shelf.files.stores_of(US, "f1")) == ["vs_1", "vs_2"]


async def ready_made_chunks_count_when_they_are_all_there(shelf: Shelf) -> None:
    """They are found and measured, and listed nowhere; a crash in the middle leaves them to be removed."""
    stores = await shelf.made()
    files = shelf.files
    await files.open_ready(US, "vs_1", "chunks_1")
    await files.open_ready(US, "vs_1", "chunks_2")
    await refused(Conflict, files.open_ready(US, "vs_1", "chunks_1"))
    assert (await stores.view(US, "vs_1")).among == {}
    await files.publish_ready(US, "vs_1", "chunks_1", usage_bytes=7)
    await refused(Unavailable, files.publish_ready(US, "vs_1", "chunks_1", usage_bytes=7))
    assert (await stores.view(US, "vs_1")).among == {"chunks_1": "chunks_1"}
    shown = await stores.get(US, "vs_1")
    assert (shown.usage_bytes, shown.file_counts) == (7, FileCounts())
    assert await shelf.statuses() == {}
    assert await files.left(NOW) == [], "somebody may still be at it"
    assert await files.left(NOW + 1) == [(US, "vs_1", "chunks_2")]


async def a_dimension_is_settled_once(shelf: Shelf) -> None:
    """By whoever comes first."""
    stores = shelf.stores()
    await stores.create(US, VectorStore(id="vs_1", created_at=NOW))
    assert (await stores.get(US, "vs_1")).search == "keyword"
    assert [await stores.settle(US, "vs_1", length) for length in (5, 8)] == [5, 5]
    assert (await stores.view(US, "vs_1")).dimension == 5
    await refused(NotFound, stores.settle(THEM, "vs_1", 3))


Case = Callable[[Shelf], Awaitable[None]]

CASES: list[Case] = [
    a_store_is_kept_as_it_was_given,
    nobody_sees_the_stores_of_others,
    an_update_replaces_what_it_names,
    lists_page_in_both_directions,
    files_are_listed_by_status,
    a_file_is_shown_as_it_was_attached,
    a_file_is_attached_once,
    thousands_of_files_are_attached_at_once,
    only_the_attempt_that_a_file_names_publishes_it,
    a_view_is_the_same_until_something_changes,
    a_batch_stands_as_its_files_do,
    what_is_removed_stays_known_until_its_chunks_are_gone,
    a_deleted_store_is_gone_at_once_and_dropped_when_it_is_empty,
    a_store_expires_when_it_was_not_used_for_days,
    a_deleted_upload_leaves_every_store,
    ready_made_chunks_count_when_they_are_all_there,
    a_dimension_is_settled_once,
]
