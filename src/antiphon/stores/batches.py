"""Batches: a row each, and a row for each line of the input that has still to reach an output file.

A line's result and the batch's counts are committed together, once: that it has one already is the condition of the
write. So counts are true at every moment, whoever runs the batch, and however often it is begun anew.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.errors import Conflict
from antiphon.stores.database import Database, Duplicate, Mismatch, Row, Statement
from antiphon.stores.table import INSERT_ROWS_MAX, Listing, Table, not_found
from antiphon.wire.base import Full, Page
from antiphon.wire.batches import (
    Batch,
    BatchListQuery,
    BatchStatus,
    BatchUsage,
    CachedTokens,
    ReasoningTokens,
    RequestCounts,
)
from antiphon.wire.responses import ListQuery

BATCHES = Table("batches")
LINES = Table("batch_lines", "seq")
ROWS_AT_ONCE: Final = 256
"""Rows in one transaction: a commit holds up everybody else."""

_COLUMNS = "id, status, total, completed, failed, input_tokens, cached_tokens, output_tokens, reasoning_tokens, body"
_GET = BATCHES.select(_COLUMNS)
_CREATE = BATCHES.insert(f"{_COLUMNS}, open")
_MOVE = BATCHES.update("status = ?, total = ?, body = ?", "id = ? AND status = ?")
_BEGIN = BATCHES.update(
    "status = ?, total = ?, body = ?",
    "id = ? AND status = 'validating'"
    " AND ? = (SELECT count(*) FROM batch_lines l WHERE l.owner = batches.owner AND l.batch = batches.id)",
)
_COUNT = BATCHES.update(
    "completed = completed + ?, failed = failed + ?, input_tokens = input_tokens + ?,"
    " cached_tokens = cached_tokens + ?, output_tokens = output_tokens + ?, reasoning_tokens = reasoning_tokens + ?",
    "id = ? AND status IN ('in_progress', 'cancelling', 'finalizing')",
)
_CLOSE = BATCHES.update("open = 0")
_ADD = LINES.insert("batch, seq, custom_id, failed", INSERT_ROWS_MAX)
_ADD_ONE = LINES.insert("batch, seq, custom_id, failed")
_RESULT = LINES.update("failed = ?, body = ?", "batch = ? AND seq = ? AND body IS NULL")
_DONE = LINES.select("seq", "batch = ? AND body IS NOT NULL ORDER BY seq")
_PENDING = LINES.select("seq, custom_id", "batch = ? AND seq > ? AND body IS NULL ORDER BY seq LIMIT ?")
_RESULTS = LINES.select("seq, body", "batch = ? AND failed = ? AND seq > ? AND body IS NOT NULL ORDER BY seq LIMIT ?")
_FIRST = LINES.select("seq", "batch = ? ORDER BY seq LIMIT 1")
_DROP = LINES.delete(
    "batch = ? AND seq < ? AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.owner = batch_lines.owner"
    " AND b.id = batch_lines.batch AND b.status IN ('in_progress', 'cancelling', 'finalizing'))"
)
# Every owner's: what is put in the queue again at times, in case it is not there.
_OPEN = "SELECT owner, id FROM batches WHERE open = 1 ORDER BY position"


_Strings = list[tuple[str, str]]
_Lines = list[tuple[int, str]]
_Bodies = list[tuple[int, bytes]]


class Terms(Full, kw_only=True):
    """A batch as it is stored: with what was asked of its files, and whether its window closed before its end."""

    batch: Batch
    output_expires_s: int | None = None
    expired: bool = False


class Result(Struct, frozen=True, kw_only=True):
    """How a line ended: its line of the output or error file, and the tokens it took."""

    seq: int
    failed: bool
    body: bytes
    usage: BatchUsage = BatchUsage()


class Batches:
    """The batches of all owners, one owner at a time. A foreign or missing id raises `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner: str, terms: Terms) -> None:
        """Stores a new batch. Raises `Conflict` if its id is taken."""
        batch = terms.batch
        row = (owner, batch.id, batch.status, 0, 0, 0, 0, 0, 0, 0, msgspec.json.encode(terms), 1)
        try:
            await self._database.execute(_CREATE, row)
        except Duplicate as error:
            raise Conflict(f"A batch with id '{batch.id}' exists already.") from error

    async def get(self, owner: str, id: str) -> Batch:
        """The batch, with its counts of this moment."""
        return (await self.terms(owner, id)).batch

    async def terms(self, owner: str, id: str) -> Terms:
        """The batch, and what was asked of its files."""
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("Batch", id)
        return _terms(row)

    async def list(self, owner: str, query: BatchListQuery) -> Page[Batch]:
        """A page of batches, the newest first."""
        listing = Listing(owner=owner, query=ListQuery(limit=query.limit, after=query.after))
        rows, has_more = await BATCHES.page(self._database, _COLUMNS, listing)
        found = [_terms(row).batch for row in rows]
        first, last = (found[0].id, found[-1].id) if found else (None, None)
        return Page(data=found, first_id=first, last_id=last, has_more=has_more)

    async def move(self, owner: str, terms: Terms, was: BatchStatus) -> bool:
        """Stores the batch as it is now, if its status was that; says whether it was."""
        batch = terms.batch
        body = msgspec.json.encode(terms)
        row = (batch.status, batch.request_counts.total, body, owner, batch.id, was)
        return bool(await self._database.execute(_MOVE, row))

    async def begin(self, owner: str, terms: Terms) -> bool:
        """Stores a batch that is in progress now, if it was validating and all its lines are stored."""
        batch = terms.batch
        body, total = msgspec.json.encode(terms), batch.request_counts.total
        return bool(await self._database.execute(_BEGIN, (batch.status, total, body, owner, batch.id, total)))

    async def close(self, owner: str, id: str) -> None:
        """Removes the lines of a batch that has ended; nothing more is to be done for it."""
        await self.drop(owner, id)
        await self._database.execute(_CLOSE, (owner, id))

    async def unfinished(self) -> _Strings:
        """Owner and id of every batch for which something is to be done."""
        return [(owner, id) for owner, id in await self._database.all(_OPEN)]

    # ------------------------------------------------------------ lines

    async def add(self, owner: str, id: str, lines: _Lines) -> None:
        """Stores lines of the input: number and custom_id."""
        rows = [(owner, id, seq, custom_id, 0) for seq, custom_id in lines]
        whole = len(rows) - len(rows) % INSERT_ROWS_MAX
        statements = [
            Statement(_ADD, tuple(value for row in rows[start : start + INSERT_ROWS_MAX] for value in row))
            for start in range(0, whole, INSERT_ROWS_MAX)
        ]
        await self._database.transaction([*statements, *(Statement(_ADD_ONE, row) for row in rows[whole:])])

    async def drop(self, owner: str, id: str) -> None:
        """Removes all lines, some at a time; none of a batch that is under way."""
        while (first := await self._database.one(_FIRST, (owner, id))) is not None:
            if not await self._database.execute(_DROP, (owner, id, first[0] + ROWS_AT_ONCE)):
                return

    async def done(self, owner: str, id: str) -> set[int]:
        """The numbers of the lines that have a result."""
        return {seq for (seq,) in await self._database.all(_DONE, (owner, id))}

    async def pending(self, owner: str, id: str, after: int = 0) -> _Lines:
        """Number and custom_id of lines without a result, beyond a number; a few at a time."""
        rows = await self._database.all(_PENDING, (owner, id, after, ROWS_AT_ONCE))
        return [(seq, custom_id) for seq, custom_id in rows]

    async def results(self, owner: str, id: str, *, failed: bool, after: int, limit: int) -> _Bodies:
        """Number and output of lines that ended in one way, beyond a number."""
        rows = await self._database.all(_RESULTS, (owner, id, int(failed), after, limit))
        return [(seq, body) for seq, body in rows]

    async def keep(self, owner: str, id: str, results: Sequence[Result]) -> bool:
        """Stores results and counts them, all or none: False if one was there already, or the batch has ended."""
        statements = []
        for result in results:
            usage = result.usage
            line = (int(result.failed), result.body, owner, id, result.seq)
            counts = (
                int(not result.failed),
                int(result.failed),
                usage.input_tokens,
                usage.input_tokens_details.cached_tokens,
                usage.output_tokens,
                usage.output_tokens_details.reasoning_tokens,
            )
            statements += [Statement(_RESULT, line, 1), Statement(_COUNT, (*counts, owner, id), 1)]
        try:
            await self._database.transaction(statements)
        except Mismatch:
            return False
        return True


def _terms(row: Row) -> Terms:
    _, status, total, completed, failed, input_tokens, cached, output_tokens, reasoning, body = row
    terms = msgspec.json.decode(body, type=Terms)
    usage = BatchUsage(
        input_tokens=input_tokens,
        input_tokens_details=CachedTokens(cached_tokens=cached),
        output_tokens=output_tokens,
        output_tokens_details=ReasoningTokens(reasoning_tokens=reasoning),
        total_tokens=input_tokens + output_tokens,
    )
    counts = RequestCounts(total=total, completed=completed, failed=failed)
    return replace(terms, batch=replace(terms.batch, status=status, request_counts=counts, usage=usage))
