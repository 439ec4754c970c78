"""A stage for tests with processes that die: a model host, some processes of Antiphon before it, and clients."""

import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import Clients, session
from fleet import Fleet
from ledger import Ledger
from upstream import Upstream

Count = Callable[[str], Awaitable[int]]
"""Counts what is in the database, by a statement."""


@dataclass
class Plan:
    """What is to happen. `database_url` is "" for SQLite; `frozen_share` of the kills are a SIGSTOP for 1.5 leases."""

    folder: Path
    processes: int = 1
    kills: int = 300
    seed: int = 1
    pause_s_max: float = 1.0
    database_url: str = ""
    lease_s: float = 2.0
    frozen_share: float = 0.0
    entry: tuple[str, ...] = ("-m", "antiphon.cli")


@dataclass
class Stage:
    """What is on it. `count` looks into the database."""

    plan: Plan
    upstream: Upstream
    fleet: Fleet
    clients: Clients
    count: Count


@asynccontextmanager
async def staged(plan: Plan) -> AsyncIterator[Stage]:
    """All of it, running until the block ends; whatever still runs then is killed."""
    chance, upstream = random.Random(plan.seed), Upstream()
    await upstream.start()
    fleet = Fleet(plan.folder, lambda number: _settings(plan, upstream.url(number)), plan.processes, chance)
    fleet.entry = plan.entry
    try:
        async with session() as opened:
            await fleet.start()
            clients = Clients(fleet, Ledger(), random.Random(plan.seed + 1), opened)
            yield Stage(plan, upstream, fleet, clients, _count(plan))
    finally:
        await fleet.close()
        await upstream.close()


def _settings(plan: Plan, url: str) -> dict[str, Any]:
    return {
        "hosts": {"slow": {"base_url": url, "preset": "custom"}},
        "database_url": plan.database_url,
        "background": {"lease_s": plan.lease_s, "attempts_max": 1000},
        "batches": {"retry_s": 0.2},
        "jobs": {"clean_every_s": 2},
        "timeouts": {"keep_alive_s": 2},
    }


def _count(plan: Plan) -> Count:
    return _counted_in_postgres(plan) if plan.database_url else _counted_in_sqlite(plan)


def _counted_in_sqlite(plan: Plan) -> Count:
    async def count(sql: str) -> int:
        with closing(sqlite3.connect(plan.folder / "data" / "antiphon.db", timeout=5)) as database:
            return int(database.execute(sql).fetchone()[0])

    return count


def _counted_in_postgres(plan: Plan) -> Count:
    async def count(sql: str) -> int:
        import psycopg

        async with await psycopg.AsyncConnection.connect(plan.database_url) as database:
            row = await (await database.execute(sql.encode())).fetchone()
            return int(row[0]) if row else 0

    return count
