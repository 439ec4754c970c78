"""Bytes in the blob storage and the rows that they belong to: neither is ever left without the other.

Bytes come first and their row after, so that what can be seen is whole. Before the bytes comes a row in
`loose_contents`, which the bytes' own row replaces in one transaction: whatever ends in between, the bytes are known to
belong to nobody, and `sweep` removes them. A deletion goes the same way back.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from antiphon.clock import Clock
from antiphon.errors import ApiError, Unavailable
from antiphon.ids import random_id
from antiphon.stores.blobs import Blobs
from antiphon.stores.database import Database, Mismatch, Row, Statement
from antiphon.stores.table import Table
from antiphon.stores.workers import Workers

LOOSE = Table("loose_contents", "since_ms")
LOOSE_S_MAX: Final = 86_400
"""How long an upload may take before its bytes count as left behind, where other servers use the same database."""
AT_ONCE: Final = 100

log = logging.getLogger("antiphon.stores")

_LOOSEN = LOOSE.insert("content, since_ms, worker")
_TOUCH = LOOSE.update("since_ms = ?", "content = ?")
_TIE = LOOSE.delete("content = ?")
# Every owner's: what no tenant asks for and none sees.
_LEFT_OVER = "SELECT owner, content FROM loose_contents WHERE since_ms < ? LIMIT ?"
_HOLDERS = "SELECT DISTINCT worker FROM loose_contents WHERE worker IS NOT NULL"
_LEFT_BY = "SELECT owner, content FROM loose_contents WHERE worker = ? LIMIT ?"


class Contents:
    """The bytes that rows of other tables name by a key."""

    def __init__(self, database: Database, blobs: Blobs, clock: Clock, *, workers: Workers | None = None) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._workers = workers

    async def put(
        self, owner: str, content: AsyncIterator[bytes], rows: Callable[[str, int], Sequence[Statement]]
    ) -> None:
        """Stores the content, then, in one transaction, what `rows` makes of its key and size.

        If anything raises, nothing is kept: what the content, `rows` and the transaction raise is passed on, a
        `Mismatch` or `Duplicate` with the index of its statement among `rows`.
        """
        key, kept = random_id("blob"), False
        try:
            await self._database.execute(_LOOSEN, self._loose(owner, key))
            size = await self._blobs.put(key, content)
            # Last, so that the indexes of the others are their own.
            statements = [*rows(key, size), Statement(_TIE, (owner, key), 1)]
            await self._commit(statements)
            kept = True
        finally:
            if not kept:
                await self._give_up(owner, key)

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A range of the bytes, or all. Raises `NotFound` if the storage has lost them."""
        return await self._blobs.read(key, start, length)

    def loosened(self, owner: str, key: str) -> Statement:
        """Says that these bytes belong to nobody; for the transaction that removes their row."""
        return Statement(_LOOSEN, self._loose(owner, key))

    async def remove(self, owner: str, key: str) -> bool:
        """Removes bytes that belong to nobody, and forgets them; whether that could be done now."""
        try:
            await self._blobs.delete(key)
            await self._database.execute(_TIE, (owner, key))
        except ApiError as error:
            log.warning("bytes of a file stay for the next clean-up", extra={"exception": error.message})
            return False
        return True

    async def sweep(self, loose_before_s: float) -> None:
        """Removes bytes that belong to nobody: what a dead worker left, and what is older than that moment."""
        await self._sweep(_LEFT_OVER, _ms(loose_before_s))
        # Who holds bytes said before that it lives: seen here first and not among the living then, it is dead.
        holders = [worker for (worker,) in await self._database.all(_HOLDERS)]
        for worker in await self._workers.gone(holders) if self._workers and holders else ():
            await self._sweep(_LEFT_BY, worker)

    async def _sweep(self, which: str, param: int | str) -> None:
        """Removes loose bytes, until none is left or one cannot be removed now."""
        while loose := await self._database.all(which, (param, AT_ONCE)):
            if not all([await self.remove(owner, key) for owner, key in loose]):
                return

    async def _commit(self, statements: Sequence[Statement]) -> None:
        try:
            await self._database.transaction(statements)
        except Mismatch as error:
            if error.index < len(statements) - 1:
                raise
            raise Unavailable("The upload took so long that its bytes were given up; try again.") from error

    async def _give_up(self, owner: str, key: str) -> None:
        """Removes the bytes of a failed upload, unless they do belong to a row.

        Who was cancelled in the middle of the last transaction does not know. A write to the same row comes after it.
        """
        try:
            if await self._database.execute(_TOUCH, (_ms(self._clock()), owner, key)):
                await self.remove(owner, key)
        except ApiError as error:
            log.warning("bytes of an upload stay for the next clean-up", extra={"exception": error.message})

    def _loose(self, owner: str, key: str) -> Row:
        return (owner, key, _ms(self._clock()), self._workers and self._workers.id)


def _ms(time_s: float) -> int:
    """Finer than a second: a server is up again in less, and must tell its own uploads from those that were cut off."""
    return int(time_s * 1000)
