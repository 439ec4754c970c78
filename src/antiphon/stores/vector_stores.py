"""Vector stores: a row each, and what a search is told of them. What they contain is an index's.

A store's `version` grows in the same transaction as anything that changes what can be found in it. So a search asks for
one small row, and reads the files anew only if another process, or this one, has changed something.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from antiphon.clock import Clock
from antiphon.errors import Conflict, InvalidRequest, NotFound
from antiphon.stores.database import Database, Duplicate, Mismatch, Row, Statement
from antiphon.stores.table import Listing, Table, not_found
from antiphon.wire.base import Metadata, Page
from antiphon.wire.responses import ListQuery
from antiphon.wire.vector_stores import (
    Distance,
    FileCounts,
    StoreExpiresAfter,
    UpdateVectorStore,
    VectorStore,
    VectorStoreListQuery,
)

STORES: Final = Table("vector_stores")
FILES: Final = Table("vector_store_files")
BATCHES: Final = Table("vector_file_batches")
TOUCHED_S: Final = 60
"""How often at most a search is noted as the last activity."""
VIEWS_MAX: Final = 256
"""Stores whose files a process remembers."""
DAY_S: Final = 86_400
_AT_ONCE: Final = 100

_NAMED = (
    "id, created_at, index_name, embedding_model, dimension, metric, last_active_at, expires_days, expires_at, body"
)
_COLUMNS = f"{_NAMED}, version"
_CREATE = STORES.insert(f"{_COLUMNS}, emptied, gone")
_GET = STORES.select(_COLUMNS, "id = ? AND gone = 0")
_PLACE = STORES.select("index_name, embedding_model, dimension, metric, gone")
_COUNTED = "store, status, sum(listed), sum(usage_bytes)"
_COUNTS = FILES.select(_COUNTED, "store = ? AND status <> 'deleted' GROUP BY store, status")
_ALL_COUNTS = FILES.select(
    _COUNTED, f"status <> 'deleted' AND store IN ({', '.join('?' * _AT_ONCE)}) GROUP BY store, status"
)
_UPDATE = STORES.update(
    "body = ?, last_active_at = ?, expires_days = ?, expires_at = ?, version = version + 1",
    "id = ? AND version = ? AND gone = 0",
)
_GOING = STORES.update("gone = 1, version = version + 1", "id = ? AND gone = 0")
_EMPTY = STORES.update("emptied = 1, version = version + 1", "id = ? AND emptied = 0 AND expires_at <= ?")
_ALL_FILES_GO = FILES.update("status = 'deleted'", "store = ?")
_DROP = STORES.delete("id = ? AND gone = 1")
_DROP_BATCHES = BATCHES.delete("store = ?")
_DROP_MEMBERS = Table("vector_batch_files").delete(
    "batch IN (SELECT b.id FROM vector_file_batches b WHERE b.owner = vector_batch_files.owner AND b.store = ?)"
)
_DIMENSION = STORES.update("dimension = ?", "id = ? AND dimension = 0")
_FOUND = FILES.select("id, attempt, filename, attributes", "store = ? AND status = 'completed' ORDER BY position")
_USED = "last_active_at = ?, expires_at = ? + expires_days * 86400"
_USABLE = "id = ? AND gone = 0 AND (expires_at IS NULL OR expires_at > ?)"
_TOUCH = STORES.update(_USED, _USABLE)
_CHANGE = STORES.update(f"version = version + 1, {_USED}", _USABLE)
_OF_FILE = STORES.update(
    "version = version + 1",
    "id IN (SELECT f.store FROM vector_store_files f WHERE f.owner = vector_stores.owner AND f.id = ?)",
)
# Every owner's: what is left to be removed.
_ENDED = "SELECT owner, id FROM vector_stores WHERE gone = 1"
_EXPIRED = "SELECT owner, id FROM vector_stores WHERE expires_at <= ? AND emptied = 0 AND gone = 0"

_decode_attributes = msgspec.json.Decoder(dict[str, str | float | bool]).decode
_Pairs = list[tuple[str, str]]


class FileFacts(Struct, frozen=True, kw_only=True):
    """What a search needs to know of a file that is completely ingested."""

    filename: str
    attributes: Mapping[str, str | float | bool]


class StoreView(Struct, frozen=True, kw_only=True):
    """A store as a search sees it.

    `index` names the index that keeps its chunks; `embedding_model` is "" where it is searched by words only. `among`
    has, of each file that is completely ingested, the attempt that counts; `files` the same files' facts. While nothing
    in the store changed, both are the same objects from one call to the next.
    """

    id: str
    index: str
    embedding_model: str
    dimension: int
    metric: str
    among: Mapping[str, str]
    files: Mapping[str, FileFacts]


class Place(Struct, frozen=True, kw_only=True):
    """Where a store's chunks are kept, and how they are embedded; `gone` if only their removal is left to do."""

    index: str
    embedding_model: str
    dimension: int
    metric: Distance
    gone: bool = False


class _Body(Struct, frozen=True, kw_only=True):
    """What is stored of a store beside what statements look at."""

    name: str
    description: str | None
    metadata: Metadata


class _Seen(Struct, frozen=True, kw_only=True):
    """The files of a store at one version."""

    version: int
    among: Mapping[str, str]
    files: Mapping[str, FileFacts]


class VectorStores:
    """The vector stores of all owners, one owner at a time. A foreign, missing or deleted id raises `NotFound`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._seen: dict[tuple[str, str], _Seen] = {}

    async def create(self, owner: str, store: VectorStore) -> None:
        """Stores a new one. Raises `Conflict` if its id is taken."""
        days = None if store.expires_after is None else store.expires_after.days
        row = (
            *(owner, store.id, store.created_at, store.provider_id, store.embedding_model or ""),
            *(store.embedding_dimension or 0, store.metric, store.created_at, days),
            *(_expiry(store.created_at, days), _body(store), 1, 0, 0),
        )
        try:
            await self._database.execute(_CREATE, row)
        except Duplicate as error:
            raise Conflict(f"A vector store with id '{store.id}' exists already.") from error

    async def get(self, owner: str, id: str) -> VectorStore:
        """The store, with its counts of this moment."""
        row = await self._row(owner, id)
        return self._shown(row, await self._database.all(_COUNTS, (owner, id)))

    async def list(self, owner: str, query: VectorStoreListQuery) -> Page[VectorStore]:
        """A page of stores, the newest first unless the query wants them otherwise."""
        paging = ListQuery(limit=query.limit, order=query.order, after=query.after, before=query.before)
        listing = Listing(owner=owner, query=paging, where="gone = 0")
        rows, has_more = await STORES.page(self._database, _COLUMNS, listing)
        ids = [row[0] for row in rows]
        if not rows:
            return Page(data=[])
        filled = (ids * _AT_ONCE)[:_AT_ONCE]
        counts = await self._database.all(_ALL_COUNTS, (owner, *filled))
        data = [self._shown(row, [each for each in counts if each[0] == row[0]]) for row in rows]
        return Page(data=data, first_id=ids[0], last_id=ids[-1], has_more=has_more)

    async def update(self, owner: str, id: str, wanted: UpdateVectorStore) -> VectorStore:
        """Changes what is given. Raises `InvalidRequest` where the expiry of an expired store is to change."""
        now = int(self._clock())
        while True:
            row = await self._row(owner, id)
            store = changed(self._shown(row, []), wanted)
            days = None if store.expires_after is None else store.expires_after.days
            if store.status == "expired":
                if wanted.expires_after is not UNSET:
                    raise expired(id)
                active_at, expires_at = row[6], row[8]
            else:
                active_at, expires_at = now, _expiry(now, days)
            change = (_body(store), active_at, days, expires_at, owner, id, row[10])
            if await self._database.execute(_UPDATE, change):
                return await self.get(owner, id)

    async def delete(self, owner: str, id: str) -> None:
        """Removes the store from sight, with its files; what it contains is then left to be removed."""
        try:
            await self._database.transaction([Statement(_GOING, (owner, id), 1), Statement(_ALL_FILES_GO, (owner, id))])
        except Mismatch as error:
            raise not_found("Vector store", id) from error
        self._seen.pop((owner, id), None)

    # ------------------------------------------------------------ searches

    async def view(self, owner: str, id: str) -> StoreView:
        """The store as a search sees it, which counts as activity. Raises `InvalidRequest` for one that has expired."""
        row = await self._row(owner, id)
        now, version, expires_at = int(self._clock()), row[10], row[8]
        if expires_at is not None and expires_at <= now:
            raise expired(id)
        if now - row[6] >= TOUCHED_S:
            await self._database.execute(_TOUCH, (now, now, owner, id, now))
        seen = self._seen.pop((owner, id), None)
        if seen is None or seen.version != version:
            seen = await self._files(owner, id, version)
        self._seen[owner, id] = seen  # the last is the one that was used last
        if len(self._seen) > VIEWS_MAX:
            self._seen.pop(next(iter(self._seen)))
        _, _, index, model, dimension, metric, *_ = row
        return StoreView(
            id=id,
            index=index,
            embedding_model=model,
            dimension=dimension,
            metric=metric,
            among=seen.among,
            files=seen.files,
        )

    async def _files(self, owner: str, id: str, version: int) -> _Seen:
        """The files that can be found; at least as new as the version."""
        rows = await self._database.all(_FOUND, (owner, id))
        files = {
            file: FileFacts(filename=filename, attributes=_decode_attributes(attributes))
            for file, _, filename, attributes in rows
        }
        return _Seen(version=version, among={file: attempt for file, attempt, _, _ in rows}, files=files)

    # ------------------------------------------------------------ what ingestion and removal need

    async def place(self, owner: str, id: str) -> Place | None:
        """Where the chunks of a store are, also of one that is gone; None if nothing of it is left."""
        row = await self._database.one(_PLACE, (owner, id))
        if row is None:
            return None
        index, model, dimension, metric, gone = row
        return Place(index=index, embedding_model=model, dimension=dimension, metric=metric, gone=bool(gone))

    async def settle(self, owner: str, id: str, dimension: int) -> int:
        """Gives a store that has none yet this dimension, and returns the one that it has."""
        await self._database.execute(_DIMENSION, (dimension, owner, id))
        place = await self.place(owner, id)
        if place is None:
            raise not_found("Vector store", id)
        return place.dimension

    async def ended(self) -> _Pairs:
        """Owner and id of every store of which something has still to be removed; from the expired, takes the files."""
        now = int(self._clock())
        found = [(owner, id) for owner, id in await self._database.all(_EXPIRED, (now,))]
        for owner, id in found:
            await self._database.transaction(
                [Statement(_EMPTY, (owner, id, now)), Statement(_ALL_FILES_GO, (owner, id))]
            )
        return found + [(owner, id) for owner, id in await self._database.all(_ENDED)]

    async def drop(self, owner: str, id: str) -> None:
        """Removes what is left of a store that is gone and empty."""
        drops = (_DROP_MEMBERS, _DROP_BATCHES, _DROP)
        await self._database.transaction([Statement(drop, (owner, id)) for drop in drops])

    async def _row(self, owner: str, id: str) -> Row:
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("Vector store", id)
        return row

    def _shown(self, row: Row, counted: Sequence[Row]) -> VectorStore:
        id, created_at, index, model, dimension, metric, active_at, days, expires_at, body, _ = row
        kept = msgspec.json.decode(body, type=_Body)
        counts = counts_of([(status, count) for _, status, count, _ in counted])
        over = expires_at is not None and expires_at <= self._clock()
        return VectorStore(
            id=id,
            created_at=created_at,
            name=kept.name,
            description=kept.description,
            usage_bytes=sum(int(used) for *_, used in counted),
            file_counts=counts,
            status="expired" if over else "in_progress" if counts.in_progress else "completed",
            expires_after=None if days is None else StoreExpiresAfter(anchor="last_active_at", days=days),
            expires_at=expires_at,
            last_active_at=active_at,
            metadata=kept.metadata,
            embedding_model=model or None,
            embedding_dimension=dimension or None,
            metric=metric,
            provider_id=index,
            search="hybrid" if model else "keyword",
        )


def changed(store: VectorStore, wanted: UpdateVectorStore) -> VectorStore:
    """The store as an update wants it."""
    changes: dict[str, Any] = {}
    if wanted.name is not UNSET:
        changes["name"] = wanted.name or ""
    if wanted.metadata is not UNSET:
        changes["metadata"] = wanted.metadata or {}
    if wanted.expires_after is not UNSET:
        changes["expires_after"] = wanted.expires_after
    return replace(store, **changes)


def counts_of(counted: Sequence[tuple[str, int]]) -> FileCounts:
    """Counts by status, and their sum."""
    counts: dict[str, Any] = {status: int(count) for status, count in counted}
    return FileCounts(**counts, total=sum(counts.values()))


def expired(id: str) -> InvalidRequest:
    """The error for whatever needs a store that has expired."""
    return InvalidRequest(f"Vector store '{id}' has expired.", code="vector_store_expired")


async def refusal(database: Database, owner: str, id: str) -> InvalidRequest | NotFound:
    """Why a store could not be changed: there is none, or it has expired."""
    row = await database.one(_GET, (owner, id))
    return not_found("Vector store", id) if row is None else expired(id)


def change(owner: str, id: str, now: int) -> Statement:
    """Notes, with what it stands beside in a transaction, that something else can be found. Needs a store in use."""
    return Statement(_CHANGE, (now, now, owner, id, now), 1)


def use(owner: str, id: str, now: int) -> Statement:
    """Notes that a store was used. Needs a store in use."""
    return Statement(_TOUCH, (now, now, owner, id, now), 1)


def change_of_file(owner: str, file_id: str) -> Statement:
    """Notes a change in every store that a file is in."""
    return Statement(_OF_FILE, (owner, file_id))


def _body(store: VectorStore) -> bytes:
    return msgspec.json.encode(_Body(name=store.name, description=store.description, metadata=store.metadata))


def _expiry(active_at: int, days: int | None) -> int | None:
    return None if days is None else active_at + days * DAY_S
