"""Processes that serve one database: who is alive. What a dead one had begun, another takes over.

A worker says every third of a lease that it is alive for one lease more. One that stopped saying so is dead, whatever
it thinks itself: it finds what it had begun in other hands, since each of its writes names it (`runs.worker = ?`).
Hosts' clocks must agree to well within a lease.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from antiphon.stores.database import Database, Duplicate

_JOIN: Final = "INSERT INTO workers (id, alive_until_ms) VALUES (?, ?)"
_BEAT: Final = "UPDATE workers SET alive_until_ms = ? WHERE id = ?"
_LEAVE: Final = "DELETE FROM workers WHERE id = ?"
_ALL: Final = "SELECT id, alive_until_ms FROM workers WHERE id <> ? ORDER BY id"


class Workers:
    """This process among the workers. `id` names it for as long as it lives, and no other process ever."""

    def __init__(self, database: Database, lease_s: float, worker_id: str | None = None) -> None:
        self._database = database
        self.lease_s = lease_s
        self.id = worker_id or _own_id()

    async def beat(self) -> None:
        """Says that this process is alive; joins the others if they do not know it, or gave it up."""
        until_ms = int((time.time() + self.lease_s) * 1000)
        while not await self._database.execute(_BEAT, (until_ms, self.id)):
            try:
                await self._database.execute(_JOIN, (self.id, until_ms))
            except Duplicate:
                continue
            return

    async def others(self) -> tuple[list[str], list[str]]:
        """The other workers: those alive, and the dead who have not been forgotten."""
        now_ms = int(time.time() * 1000)
        alive: list[str] = []
        dead: list[str] = []
        for worker, until_ms in await self._database.all(_ALL, (self.id,)):
            (alive if until_ms >= now_ms and not _is_known_dead(worker) else dead).append(worker)
        return alive, dead

    async def gone(self, holders: Iterable[str]) -> list[str]:
        """Those of the workers that something was seen to belong to, a moment ago, who live no longer."""
        alive, _ = await self.others()
        return [worker for worker in holders if worker != self.id and worker not in alive]

    async def forget(self, worker: str) -> None:
        """Removes a worker that nothing belongs to any longer; this process, when it ends, says so itself."""
        await self._database.execute(_LEAVE, (worker,))


def _own_id() -> str:
    """A name that says on which machine, in which name space of processes, which process this is, since when."""
    return f"{_machine()}-{os.getpid()}-{_started(os.getpid())}-{os.urandom(4).hex()}"


def _is_known_dead(worker: str) -> bool:
    """Whether the worker was a process of this machine that is gone: then nobody needs to wait for its lease's end."""
    machine, _, rest = worker.partition("-")
    pid, _, rest = rest.partition("-")
    started = rest.partition("-")[0]
    return machine == _machine() != "" and pid.isdigit() and _started(int(pid)) != started


def _machine() -> str:
    """This boot of this machine and its name space of processes; "" where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").replace("-", "").strip()
        return f"{boot[:16]}{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did: a number that comes again gives another moment."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "gone"
