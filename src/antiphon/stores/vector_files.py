"""The files in vector stores: a row each, from its attachment to its removal, and the batches they were attached in.

    in_progress  it has still to be ingested, or is being: `trying` names the attempt that may publish it
    completed    the chunks of `attempt`, and no others, can be found
    failed, cancelled
    deleted      nobody sees it any more; the row stays until its chunks are removed

Whatever changes what can be found is committed together with the store's new version. A row is only ever published by
the attempt that it names, so that of two processes that ingest one file, one after it was given up, only one counts.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from antiphon.clock import Clock
from antiphon.errors import Conflict, Unavailable
from antiphon.stores.database import Database, Duplicate, Mismatch, Row, Statement
from antiphon.stores.table import INSERT_ROWS_MAX, Listing, Table, not_found
from antiphon.stores.vector_stores import (
    BATCHES,
    FILES,
    change,
    change_of_file,
    counts_of,
    refusal,
    use,
)
from antiphon.wire.base import Page
from antiphon.wire.chunking import ChunkingStrategyRequestParam, as_cut
from antiphon.wire.responses import ListQuery
from antiphon.wire.vector_stores import (
    Attributes,
    FileCounts,
    FileStatus,
    LastError,
    VectorStoreFile,
    VectorStoreFileBatch,
    VectorStoreFileListQuery,
)

MEMBERS: Final = Table("vector_batch_files")
FILE_GONE: Final = LastError(code="invalid_file", message="The file was deleted before it was ingested.")
LEFT_MAX: Final = 1000
"""Rows that a sweep looks at: those beyond come with the next one."""
_AT_ONCE: Final = 100

_COLUMNS = "id, created_at, status, usage_bytes, attributes, strategy, error_code, error_message"
_SEEN = "store = ? AND listed = 1 AND status <> 'deleted'"
_IN_BATCH = (
    f"{_SEEN} AND EXISTS (SELECT 1 FROM vector_batch_files m WHERE m.owner = vector_store_files.owner"
    " AND m.batch = ? AND m.file = vector_store_files.id)"
)
_GET = FILES.select(_COLUMNS, f"{_SEEN} AND id = ?")
_STATUSES = FILES.select("id, status", f"store = ? AND id IN ({', '.join('?' * _AT_ONCE)})")
_NEW = "store, id, created_at, listed, status, trying, tries, usage_bytes, filename, attributes, strategy"
_ATTACH = {rows: FILES.insert(_NEW, rows) for rows in (1, INSERT_ROWS_MAX)}
_AGAIN = FILES.update(
    "status = 'in_progress', created_at = ?, tries = 0, usage_bytes = 0, filename = ?, attributes = ?, strategy = ?,"
    " error_code = NULL, error_message = NULL",
    "store = ? AND id = ? AND status IN ('failed', 'cancelled', 'deleted')",
)
_ATTRIBUTES = FILES.update("attributes = ?", f"{_SEEN} AND id = ?")
_DETACH = FILES.update("status = 'deleted'", f"{_SEEN} AND id = ?")
_COUNT = FILES.select("count(*)", _SEEN)
_STANDING = FILES.select("status, attempt, trying, tries, filename, strategy", "store = ? AND id = ?")
_TRY = FILES.update("trying = ?, tries = tries + 1", "store = ? AND id = ? AND status = 'in_progress'")
_PUBLISH = FILES.update(
    "status = 'completed', attempt = ?, usage_bytes = ?",
    "store = ? AND id = ? AND status = ? AND trying = ?",
)
_FAIL = FILES.update(
    "status = 'failed', error_code = ?, error_message = ?",
    "store = ? AND id = ? AND status = 'in_progress' AND trying = ?",
)
_SETTLE = FILES.update("trying = NULL", "store = ? AND id = ? AND status IN ('completed', 'failed', 'cancelled')")
_BURY = FILES.delete("store = ? AND id = ? AND status = 'deleted'")
_BURY_IDLE = FILES.delete("store = ? AND status = 'deleted' AND trying IS NULL")
_TRIED = FILES.select("id", "store = ? AND status = 'deleted'")
_FILE_DELETED = FILES.update("status = 'deleted'", "id = ? AND status IN ('completed', 'failed', 'cancelled')")
_FILE_LOST = FILES.update("status = 'failed', error_code = ?, error_message = ?", "id = ? AND status = 'in_progress'")
_STORES_OF = FILES.select("store", "id = ? AND status IN ('failed', 'deleted')")
_BATCH = BATCHES.insert("id, store, created_at, cancelled")
_MEMBERS = {rows: MEMBERS.insert("batch, file", rows) for rows in (1, INSERT_ROWS_MAX)}
_GET_BATCH = BATCHES.select("created_at, cancelled", "id = ? AND store = ?")
_BATCH_COUNTS = FILES.select("status, count(*)", f"{_IN_BATCH} GROUP BY status")
_BATCH_OPEN = FILES.select("id", f"{_IN_BATCH} AND status = 'in_progress'")
_CANCEL = BATCHES.update("cancelled = 1", "id = ? AND store = ?")
_CANCEL_FILES = FILES.update("status = 'cancelled'", f"{_IN_BATCH} AND status = 'in_progress'")
# Every owner's: what is put in the queue again at times, in case it is not there. Ready-made chunks are given time.
_LEFT = (
    "SELECT f.owner, f.store, f.id FROM vector_store_files f"
    " JOIN vector_stores s ON s.owner = f.owner AND s.id = f.store"
    " WHERE f.status IN ('in_progress', 'deleted') AND s.gone = 0 AND (f.listed = 1 OR f.created_at < ?) LIMIT ?"
)

_decode_strategy = msgspec.json.Decoder(ChunkingStrategyRequestParam | None).decode
_Names = list[str]
_Triples = list[tuple[str, str, str]]


class NewFile(Struct, frozen=True, kw_only=True):
    """A file that is to be attached."""

    id: str
    filename: str
    attributes: Attributes
    strategy: ChunkingStrategyRequestParam | None = None


class Standing(Struct, frozen=True, kw_only=True):
    """How a file stands: what its ingestion, and the removal of its chunks, go by."""

    status: FileStatus | Literal["deleted"]
    attempt: str | None
    trying: str | None
    tries: int
    filename: str
    strategy: ChunkingStrategyRequestParam | None


class VectorFiles:
    """The files in the stores of all owners, one owner at a time. What is foreign or missing raises `NotFound`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # ------------------------------------------------------------ what clients do

    async def attach(self, owner: str, store: str, files: Sequence[NewFile], *, batch: str | None = None) -> None:
        """Has files ingested, all or none, as a batch if that has an id.

        One that is in the store stays as it is, unless it failed or was cancelled: that is tried again. Raises
        `InvalidRequest` for a store that has expired, `Conflict` if the batch's id is taken.
        """
        now, wanted = int(self._clock()), {file.id: file for file in files}
        while True:
            there = await self._statuses(owner, store, list(wanted))
            new = [file for file in wanted.values() if file.id not in there]
            again = [file for file in wanted.values() if there.get(file.id) in ("failed", "cancelled", "deleted")]
            statements = [
                use(owner, store, now),
                *_inserted(_ATTACH, [_row(owner, store, now, file=each) for each in new]),
            ]
            statements += [Statement(_AGAIN, _revived(owner, store, now, file=each), 1) for each in again]
            if batch is not None:
                statements.append(Statement(_BATCH, (owner, batch, store, now, 0)))
                statements += _inserted(_MEMBERS, [(owner, batch, id) for id in wanted])
            try:
                await self._database.transaction(statements)
            except Mismatch as error:
                if error.index == 0:
                    raise await refusal(self._database, owner, store) from error
            except Duplicate as error:
                if batch is not None and statements[error.index].sql == _BATCH:
                    raise Conflict(f"A file batch with id '{batch}' exists already.") from error
            else:
                return

    async def get(self, owner: str, store: str, id: str) -> VectorStoreFile:
        """The file."""
        row = await self._database.one(_GET, (owner, store, id))
        if row is None:
            raise not_found(f"File in vector store '{store}'", id)
        return _file(store, row)

    async def list(
        self, owner: str, store: str, query: VectorStoreFileListQuery, *, batch: str | None = None
    ) -> Page[VectorStoreFile]:
        """A page of files, of all or of a batch's. Whether there is such a store is not looked at."""
        where, params = (_SEEN, (store,)) if batch is None else (_IN_BATCH, (store, batch))
        if query.filter is not None:
            where, params = f"{where} AND status = ?", (*params, query.filter)
        paging = ListQuery(limit=query.limit, order=query.order, after=query.after, before=query.before)
        listing = Listing(owner=owner, query=paging, where=where, params=params)
        rows, has_more = await FILES.page(self._database, _COLUMNS, listing)
        first, last = (rows[0][0], rows[-1][0]) if rows else (None, None)
        return Page(data=[_file(store, row) for row in rows], first_id=first, last_id=last, has_more=has_more)

    async def update(self, owner: str, store: str, id: str, *, attributes: Attributes) -> VectorStoreFile:
        """Replaces the attributes, by which filters go from now on."""
        await self._change(owner, store, id, by=Statement(_ATTRIBUTES, (_json(attributes), owner, store, id), 1))
        return await self.get(owner, store, id)

    async def detach(self, owner: str, store: str, id: str) -> None:
        """Takes the file out of the store; its chunks are then left to be removed."""
        await self._change(owner, store, id, by=Statement(_DETACH, (owner, store, id), 1))

    async def count(self, owner: str, store: str) -> int:
        """How many files the store has."""
        row = await self._database.one(_COUNT, (owner, store))
        return int(row[0]) if row else 0

    async def get_batch(self, owner: str, store: str, id: str) -> VectorStoreFileBatch:
        """The batch, with its counts of this moment."""
        row = await self._database.one(_GET_BATCH, (owner, id, store))
        if row is None:
            raise not_found(f"File batch of vector store '{store}'", id)
        counted = await self._database.all(_BATCH_COUNTS, (owner, store, id))
        counts = counts_of([(status, count) for status, count in counted])
        return VectorStoreFileBatch(
            id=id,
            created_at=row[0],
            vector_store_id=store,
            status=batch_status(counts, cancelled=bool(row[1])),
            file_counts=counts,
        )

    async def cancel_batch(self, owner: str, store: str, id: str) -> _Names:
        """Cancels a batch, and the files that are not ingested yet: their ids. Raises `Conflict` for one that ended."""
        batch = await self.get_batch(owner, store, id)
        if batch.status in ("completed", "failed"):
            raise Conflict(f"File batch {id} cannot be cancelled: it is {batch.status}.")
        left = [file for (file,) in await self._database.all(_BATCH_OPEN, (owner, store, id))]
        cancels = Statement(_CANCEL, (owner, id, store)), Statement(_CANCEL_FILES, (owner, store, id))
        await self._database.transaction(cancels)
        return left

    # ------------------------------------------------------------ ingestion

    async def standing(self, owner: str, store: str, id: str) -> Standing | None:
        """How the file stands, also one that nobody sees; None if there is nothing of it."""
        row = await self._database.one(_STANDING, (owner, store, id))
        if row is None:
            return None
        status, attempt, trying, tries, filename, strategy = row
        return Standing(
            status=status,
            attempt=attempt,
            trying=trying,
            tries=tries,
            filename=filename,
            strategy=_decode_strategy(strategy),
        )

    async def begin(self, owner: str, store: str, id: str, *, attempt: str) -> bool:
        """Makes this the attempt that may publish the file; False if it is not to be ingested any more."""
        return bool(await self._database.execute(_TRY, (attempt, owner, store, id)))

    async def publish(self, owner: str, store: str, id: str, *, attempt: str, usage_bytes: int) -> bool:
        """Lets the attempt's chunks be found, all at once; False if it is not the one that may."""
        return await self._published(owner, store, id, what=("in_progress", attempt, usage_bytes))

    async def fail(self, owner: str, store: str, id: str, *, attempt: str, error: LastError) -> bool:
        """Ends the attempt for that reason; False if it is not the one that counts."""
        row = (error.code, error.message, owner, store, id, attempt)
        return bool(await self._database.execute(_FAIL, row))

    async def settle(self, owner: str, store: str, id: str) -> None:
        """Notes that no chunk is left but those that count; a file that is deleted goes."""
        await self._database.transaction([Statement(sql, (owner, store, id)) for sql in (_SETTLE, _BURY)])

    async def left(self, ready_before_s: float) -> _Triples:
        """Owner, store and id of files that are to be ingested or removed; all of these may be under way."""
        rows = await self._database.all(_LEFT, (int(ready_before_s), LEFT_MAX))
        return [(owner, store, id) for owner, store, id in rows]

    async def bury(self, owner: str, store: str) -> _Names:
        """Forgets the deleted files of a store that nobody ingests, and returns those that somebody may."""
        await self._database.execute(_BURY_IDLE, (owner, store))
        return [id for (id,) in await self._database.all(_TRIED, (owner, store))]

    async def stores_of(self, owner: str, id: str) -> _Names:
        """The stores in which something of this deleted file is left."""
        return [store for (store,) in await self._database.all(_STORES_OF, (owner, id))]

    # ------------------------------------------------------------ ready-made chunks

    async def open_ready(self, owner: str, store: str, id: str) -> None:
        """Makes room for ready-made chunks, which count once they are published. Raises `Conflict` for a taken id."""
        now = int(self._clock())
        row = (owner, store, id, now, 0, "deleted", id, 0, 0, "", b"{}", b"null")
        try:
            await self._database.transaction([use(owner, store, now), Statement(_ATTACH[1], row)])
        except Mismatch as error:
            raise await refusal(self._database, owner, store) from error
        except Duplicate as error:
            raise Conflict(f"Chunks with the id '{id}' were inserted already.") from error

    async def publish_ready(self, owner: str, store: str, id: str, *, usage_bytes: int) -> None:
        """Lets ready-made chunks be found. Raises `Unavailable` if it took so long that they were given up."""
        if not await self._published(owner, store, id, what=("deleted", id, usage_bytes)):
            raise Unavailable("The insertion took so long that it was given up; try again.")
        await self.settle(owner, store, id)

    async def _published(self, owner: str, store: str, id: str, *, what: tuple[str, str, int]) -> bool:
        status, attempt, usage_bytes = what
        row = (attempt, usage_bytes, owner, store, id, status, attempt)
        statements = [change(owner, store, int(self._clock())), Statement(_PUBLISH, row, 1)]
        try:
            await self._database.transaction(statements)
        except Mismatch:
            return False
        return True

    async def _change(self, owner: str, store: str, id: str, *, by: Statement) -> None:
        try:
            await self._database.transaction([change(owner, store, int(self._clock())), by])
        except Mismatch as error:
            if error.index == 0:
                raise await refusal(self._database, owner, store) from error
            raise not_found(f"File in vector store '{store}'", id) from error

    async def _statuses(self, owner: str, store: str, ids: Sequence[str]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            filled = [*some, *[some[0]] * (_AT_ONCE - len(some))]
            found.update(dict(await self._database.all(_STATUSES, (owner, store, *filled))))
        return found


def batch_status(counts: FileCounts, *, cancelled: bool) -> FileStatus:
    """How a batch stands. It failed if every one of its files did."""
    if cancelled:
        return "cancelled"
    if counts.in_progress:
        return "in_progress"
    return "failed" if counts.total and counts.failed == counts.total else "completed"


def file_deleted(owner: str, id: str) -> list[Statement]:
    """What goes with the deletion of an uploaded file: it leaves every store, and is ingested into none any more."""
    return [
        change_of_file(owner, id),
        Statement(_FILE_DELETED, (owner, id)),
        Statement(_FILE_LOST, (FILE_GONE.code, FILE_GONE.message, owner, id)),
    ]


def _inserted(sql: Mapping[int, str], rows: Sequence[Row]) -> list[Statement]:
    whole = len(rows) - len(rows) % INSERT_ROWS_MAX
    many = [
        Statement(sql[INSERT_ROWS_MAX], tuple(value for row in rows[start : start + INSERT_ROWS_MAX] for value in row))
        for start in range(0, whole, INSERT_ROWS_MAX)
    ]
    return [*many, *(Statement(sql[1], row) for row in rows[whole:])]


def _row(owner: str, store: str, now: int, *, file: NewFile) -> Row:
    described = (file.filename, _json(file.attributes), _json(file.strategy))
    return (owner, store, file.id, now, 1, "in_progress", None, 0, 0, *described)


def _revived(owner: str, store: str, now: int, *, file: NewFile) -> Row:
    return (now, file.filename, _json(file.attributes), _json(file.strategy), owner, store, file.id)


def _file(store: str, row: Row) -> VectorStoreFile:
    id, created_at, status, usage_bytes, attributes, strategy, code, message = row
    return VectorStoreFile(
        id=id,
        created_at=created_at,
        status=status,
        usage_bytes=usage_bytes,
        vector_store_id=store,
        last_error=None if code is None else LastError(code=code, message=message),
        chunking_strategy=as_cut(_decode_strategy(strategy)),
        attributes=msgspec.json.decode(attributes, type=dict[str, str | float | bool]),
    )


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
