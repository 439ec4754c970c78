"""Runs that have not ended: who works on each, who waits for a worker, and what their journals have so far.

A run has a row from the transaction that stores its response to the one that stores its end. The row names the worker;
each write of a worker states that name, so that one that was given up for dead can change nothing when it comes back.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from antiphon.errors import ApiError, RunLost
from antiphon.stores.database import Database, Mismatch, Statement
from antiphon.stores.table import Table

RUNS = Table("runs")
PARTS = Table("journal_parts")

GATHER_S_EACH: Final = 0.0003
"""For how long parts of journals are gathered, for each live run: so a commit has about as much to do at any load."""
GATHER_S_MIN: Final = 0.001
"""What would be gathered for less than that is not gathered: a timer would be later than that."""
PURGED_AT_ONCE: Final = 500
_LOST: Final = "The run belongs to another worker by now."

_INSERT = RUNS.insert("id, host, worker, attempts, watched, cancelled, body")
_END = RUNS.delete("id = ? AND worker = ?")
_GET = RUNS.select("host, worker, attempts, watched, cancelled, body")
_WATCH = RUNS.update("watched = 2", "id = ? AND watched < 2")
_CANCEL = RUNS.update("cancelled = 1")
_CLAIM = RUNS.update("worker = ?, attempts = attempts + 1", "id = ? AND worker IS NULL")
_SEIZE = RUNS.update("worker = ?, attempts = attempts + 1", "id = ? AND worker = ?")
_RELEASE = RUNS.update("worker = NULL", "id = ? AND worker = ?")
_PART = (
    f"INSERT INTO journal_parts (owner, container, body) SELECT r.owner, r.id, ? FROM runs r "
    f"WHERE {RUNS.owned('r')} AND r.id = ? AND r.worker = ?"
)
# Every owner's: a worker works for all of them.
_WAITING = "SELECT owner, id, host FROM runs WHERE worker IS NULL ORDER BY position LIMIT ?"
_WAITING_COUNT = "SELECT COUNT(*) FROM (SELECT 1 FROM runs WHERE worker IS NULL LIMIT ?) w"
_MINE = "SELECT owner, id FROM runs WHERE worker = ?"
_RUNNING = "SELECT owner, host, COUNT(*) FROM runs WHERE worker IS NOT NULL GROUP BY owner, host"
_INHERIT = (
    "UPDATE runs SET worker = NULL WHERE worker IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM workers WHERE workers.id = runs.worker)"
)

_PURGE = (
    "DELETE FROM journal_parts WHERE position IN (SELECT position FROM journal_parts "
    "WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = journal_parts.container) ORDER BY position LIMIT ?)"
)

DELETE = RUNS.delete()
DELETE_PARTS = PARTS.delete("container = ?")


class RunRow(Struct, frozen=True, kw_only=True):
    """An unfinished run. `body` is the engine's; `worker` None: it waits; `attempts`: how often one took it on.

    `watched`: 0 nobody sees its events as they come, 1 its own client does, 2 followers do too.
    """

    host: str
    body: bytes
    worker: str | None = None
    attempts: int = 0
    watched: int = 0
    cancelled: bool = False


class Queued(Struct, frozen=True, kw_only=True):
    """A run that waits for a worker."""

    owner: str
    id: str
    host: str


class Runs:
    """The unfinished runs, as one worker sees them; `live` are those that it is working on, from the claim on.

    Parts of journals are gathered for at most `gather_s`, and less where few runs are live.
    """

    def __init__(self, database: Database, worker: str, gather_s: float = 0.0) -> None:
        self._database = database
        self.worker = worker
        self.live: set[str] = set()
        self._gather_s = gather_s
        self._gathered: list[_Part] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # to ask for it costs a system call: not for each part
        self._flushes: set[asyncio.Task[None]] = set()

    def begun(self, owner: str, id: str, run: RunRow) -> Statement:
        """The statement that adds a run: part of the transaction that stores its response."""
        flags = (run.attempts, run.watched, int(run.cancelled))
        return Statement(_INSERT, (owner, id, run.host, run.worker, *flags, run.body))

    def ended(self, owner: str, id: str) -> Statement:
        """The statement that removes this worker's run: part of the transaction that stores its end."""
        return Statement(_END, (owner, id, self.worker), 1)

    async def keep(self, owner: str, id: str, part: bytes) -> None:
        """Adds a part to the journal of this worker's run; where many are live, with theirs in one transaction.

        Raises `RunLost` if the run is another worker's by now.
        """
        statement = Statement(_PART, (part, owner, id, self.worker), 1)
        delay_s = min(self._gather_s, len(self.live) * GATHER_S_EACH)
        if delay_s < GATHER_S_MIN:
            await self._keep_at_once(statement)
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if not self._gathered:
            self._loop.call_later(delay_s, self._flush)
        kept = self._loop.create_future()
        self._gathered.append((statement, kept))
        await kept

    async def find(self, owner: str, id: str) -> RunRow | None:
        """The run, if it has not ended."""
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            return None
        host, worker, attempts, watched, cancelled, body = row
        return RunRow(
            host=host,
            worker=worker,
            attempts=attempts,
            watched=watched,
            cancelled=bool(cancelled),
            body=body,
        )

    async def watch(self, owner: str, id: str) -> bool:
        """Asks for its events to be kept as they come; whether that is news."""
        return await self._database.execute(_WATCH, (owner, id)) > 0

    async def cancel(self, owner: str, id: str) -> None:
        """Asks for its end. If its worker dies, the next one reads it here."""
        await self._database.execute(_CANCEL, (owner, id))

    async def claim(self, owner: str, id: str, *, of: str | None = None) -> bool:
        """Takes a run on that waits, or that worker `of` has; whether this worker has it now, and it is live.

        One that is live here already was lost and came back: whoever works on it here must find out first, since by
        the worker's name its writes could not be told from those of the new attempt.
        """
        if id in self.live:
            return False
        self.live.add(id)
        statement = _CLAIM if of is None else _SEIZE
        held = () if of is None else (of,)
        claimed = False
        try:
            claimed = await self._database.execute(statement, (self.worker, owner, id, *held)) > 0
        finally:
            if not claimed:
                self.live.discard(id)
        return claimed

    async def release(self, owner: str, id: str) -> bool:
        """Lets it wait for another worker; whether it was this one's. It is live here no longer."""
        self.live.discard(id)
        return await self._database.execute(_RELEASE, (owner, id, self.worker)) > 0

    # ------------------------------------------------------------ for all owners

    async def inherit(self) -> int:
        """Lets everything wait that had a worker which is no longer known; returns how much that was."""
        return await self._database.execute(_INHERIT)

    async def mine(self) -> set[tuple[str, str]]:
        """Owner and id of every run that this worker has."""
        return {(owner, id) for owner, id in await self._database.all(_MINE, (self.worker,))}

    async def purge(self) -> int:
        """Removes the parts of journals whose runs have ended; returns how many those were.

        The end itself does not wait for that: it would have to look for them among those of all other runs.
        """
        count = 0
        while removed := await self._database.execute(_PURGE, (PURGED_AT_ONCE,)):
            count += removed
        return count

    async def waiting(self, most: int) -> Sequence[Queued]:
        """The runs that have waited longest."""
        rows = await self._database.all(_WAITING, (most,))
        return [Queued(owner=owner, id=id, host=host) for owner, id, host in rows]

    async def waiting_count(self, most: int) -> int:
        """How many runs wait; counts no further than `most`."""
        row = await self._database.one(_WAITING_COUNT, (most,))
        return int(row[0]) if row else 0

    async def running(self) -> dict[tuple[str, str], int]:
        """How many runs have a worker, by owner and host."""
        return {(owner, host): count for owner, host, count in await self._database.all(_RUNNING)}

    # ------------------------------------------------------------ parts of journals

    async def _keep_at_once(self, statement: Statement) -> None:
        try:
            await self._database.transaction((statement,))
        except Mismatch as error:
            raise RunLost(_LOST) from error

    def _flush(self) -> None:
        parts, self._gathered = self._gathered, []
        task = asyncio.ensure_future(self._store(parts))
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)

    async def _store(self, parts: "list[_Part]") -> None:
        """One transaction for all; where a run of another worker's is among them, again without it."""
        while parts:
            try:
                await self._database.transaction([statement for statement, _ in parts])
            except Mismatch as error:
                _, kept = parts.pop(error.index)
                _tell(kept, RunLost(_LOST))
                continue
            except ApiError as error:
                for _, kept in parts:
                    _tell(kept, error)
                return
            for _, kept in parts:
                _tell(kept, None)
            return


_Part = tuple[Statement, "asyncio.Future[None]"]


def _tell(kept: "asyncio.Future[None]", error: ApiError | None) -> None:
    if kept.done():  # whoever waited was cancelled
        return
    if error is None:
        kept.set_result(None)
    else:
        kept.set_exception(error)
