"""What became of requests under a client's key (`Idempotency-Key`): being worked on, by whom, or answered.

A row is claimed by the one attempt that executes the request. Every write names that claim, so that an attempt whose
worker was given up for dead finds its row in other hands. Keys, requests and answers come here digested and encrypted:
see `api.idempotency`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from msgspec import Struct

from antiphon.clock import Clock
from antiphon.errors import Conflict
from antiphon.stores.database import Database, Duplicate, Statement
from antiphon.stores.table import Table
from antiphon.stores.workers import Workers

IDEMPOTENCY: Final = Table("idempotency")
RUNNING_S_MAX: Final = 86_400
"""After which a row that says it is being worked on counts as forgotten, whoever lives."""
_AT_ONCE: Final = 100

_INSERT = IDEMPOTENCY.insert("id, expires_at, state, worker, claim, request")
_GET = IDEMPOTENCY.select("state, worker, claim, request, response_id, answer", "id = ? AND expires_at > ?")
_EXPIRE = IDEMPOTENCY.delete("id = ? AND expires_at <= ?")
_RETAKE = IDEMPOTENCY.update("worker = ?, claim = ?, request = ?, expires_at = ?", "id = ? AND claim = ?")
_NAME = IDEMPOTENCY.update("response_id = ?", "id = ? AND claim = ?")
_KEEP = IDEMPOTENCY.update("state = ?, request = ?, answer = ?, expires_at = ?", "id = ? AND claim = ?")
_RELEASE = IDEMPOTENCY.delete("id = ? AND claim = ?")
# Every owner's: what no tenant asks for and none sees.
_CLEAN = """DELETE FROM idempotency WHERE (owner, id) IN (
  SELECT owner, id FROM idempotency WHERE expires_at <= ? LIMIT ?
)"""


class Entry(Struct, frozen=True, kw_only=True):
    """A request under a key as it stands. `answer` is there once it is `kept`; one that is `too_large` is not."""

    state: Literal["running", "kept", "too_large"]
    worker: str
    claim: str
    request: str | None
    response_id: str | None
    answer: bytes | None


class Claim(Struct, frozen=True, kw_only=True):
    """The right to execute a request under a key. `response_id` is what an attempt that died had begun already."""

    owner: str
    id: str
    token: str
    response_id: str | None = None


class Idempotency:
    """The requests under keys of all owners, one owner at a time. An answer is kept for `kept_s` seconds."""

    def __init__(self, database: Database, workers: Workers, clock: Clock, *, kept_s: float) -> None:
        self._database = database
        self._workers = workers
        self._clock = clock
        self._kept_s = kept_s
        self._mine: set[str] = set()

    async def open(self, owner: str, id: str, request: str | None) -> Claim | Entry:
        """The right to execute the request, if nobody does or did; else what is known of it.

        `request` is None while the body has not been read. Raises `Conflict` if the key stands for another request.
        """
        while True:
            claim = Claim(owner=owner, id=id, token=os.urandom(16).hex())
            if await self._claim(claim, request):
                return claim
            entry = await self._find(owner, id)
            if entry is None:
                continue
            if request is not None and entry.request not in (None, request):
                message = "This Idempotency-Key was used for another request; use a new key for each new request."
                raise Conflict(message, code="idempotency_key_reused")
            if entry.state != "running" or not await self._is_abandoned(entry):
                return entry
            claim = Claim(owner=owner, id=id, token=claim.token, response_id=entry.response_id)
            if await self._take_over(claim, entry, request):
                return claim

    async def name(self, claim: Claim, response_id: str) -> None:
        """Notes the response that the request leads to, before anything is paid for it."""
        await self._database.execute(_NAME, (response_id, claim.owner, claim.id, claim.token))

    async def keep(self, claim: Claim, request: str, answer: bytes | None) -> None:
        """Ends the execution with an answer; None is one that was too large. Does nothing if the claim was lost."""
        state = "too_large" if answer is None else "kept"
        row = (state, request, answer, self._until(self._kept_s), claim.owner, claim.id, claim.token)
        await self._database.execute(_KEEP, row)
        self._mine.discard(claim.token)

    async def release(self, claim: Claim) -> None:
        """Ends the execution without an answer: the next request under the key is executed anew."""
        self._mine.discard(claim.token)  # should the row stay, the next one takes it over
        await self._database.execute(_RELEASE, (claim.owner, claim.id, claim.token))

    async def clean(self, before_s: float) -> None:
        """Removes what has expired before that moment."""
        while await self._database.execute(_CLEAN, (int(before_s), _AT_ONCE)) == _AT_ONCE:
            pass

    async def _claim(self, claim: Claim, request: str | None) -> bool:
        until = self._until(max(self._kept_s, RUNNING_S_MAX))
        row = (claim.owner, claim.id, until, "running", self._workers.id, claim.token, request)
        expired = Statement(_EXPIRE, (claim.owner, claim.id, int(self._clock())))
        with self._held(claim) as held:
            try:
                await self._database.transaction([expired, Statement(_INSERT, row)])
            except Duplicate:
                return False
            held.append(claim)
        return True

    async def _take_over(self, claim: Claim, entry: Entry, request: str | None) -> bool:
        until = self._until(max(self._kept_s, RUNNING_S_MAX))
        row = (self._workers.id, claim.token, request, until, claim.owner, claim.id, entry.claim)
        with self._held(claim) as held:
            if not await self._database.execute(_RETAKE, row):
                return False
            held.append(claim)
        return True

    @contextmanager
    def _held(self, claim: Claim) -> Iterator[list[Claim]]:
        """Counts a claim as this process's from before others can see it, and no more if it was not made."""
        made: list[Claim] = []
        self._mine.add(claim.token)
        try:
            yield made
        finally:
            if not made:
                self._mine.discard(claim.token)

    async def _find(self, owner: str, id: str) -> Entry | None:
        row = await self._database.one(_GET, (owner, id, int(self._clock())))
        if row is None:
            return None
        state, worker, claim, request, response_id, answer = row
        return Entry(state=state, worker=worker, claim=claim, request=request, response_id=response_id, answer=answer)

    async def _is_abandoned(self, entry: Entry) -> bool:
        """Whether nobody executes it: its worker is dead, or is this one and knows nothing of it."""
        if entry.worker == self._workers.id:
            return entry.claim not in self._mine
        alive, _ = await self._workers.others()
        return entry.worker not in alive

    def _until(self, for_s: float) -> int:
        return int(self._clock() + for_s)
