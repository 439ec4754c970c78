"""The contract of jobs over a table in SQLite, and over procrastinate on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import jobs_suite
import pg_jobs
from antiphon.engine.jobs import Recurring, serve
from antiphon.errors import Unavailable
from antiphon.stores.embedded_jobs import EmbeddedJobs
from antiphon.stores.jobs import Jobs
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.procrastinate_jobs import ProcrastinateJobs
from antiphon.stores.signals import LocalSignals
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.workers import Workers
from antiphon.testing.database_suite import refused
from jobs_suite import Place, Script, job, until
from stores_suite import US

LEASE_S = 1.5
"""Short: some cases wait for a dead worker's to end."""


@pytest.fixture(scope="session")
def procrastinate_server() -> Iterator[Callable[[], str]]:
    """A running PostgreSQL."""
    with pg_jobs.postgres() as made:
        yield made


@pytest.fixture
def procrastinate_url(procrastinate_server: Callable[[], str]) -> str:
    """The address of a new, empty PostgreSQL database."""
    return procrastinate_server()


@asynccontextmanager
async def embedded(path: Path, lease_s: float = 60) -> AsyncIterator[Jobs]:
    """Jobs in a file of SQLite's, as one process opens them."""
    database = open_sqlite(path, sync="off")
    await migrate(database, migrations())
    yield EmbeddedJobs(database, Workers(database, lease_s), LocalSignals())
    await database.close()


async def forgotten(jobs: EmbeddedJobs, dying: asyncio.Task[None]) -> None:
    """The others find it dead, as they do a killed process; in truth it lives, and may try to go on."""
    await jobs._workers.forget(jobs._workers.id)


@asynccontextmanager
async def on_postgres(url: str) -> AsyncIterator[Jobs]:
    """Jobs of procrastinate's, as one process opens them."""
    jobs = ProcrastinateJobs(url, LEASE_S)
    await jobs.open()
    yield jobs
    await jobs.close()


async def cut_off(jobs: ProcrastinateJobs, dying: asyncio.Task[None]) -> None:
    """No heartbeat comes any more, and no other word: its connections are gone."""
    await jobs._connector.pool.close()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where no jobs are yet."""
    if request.param == "sqlite":
        return Place(lambda: embedded(tmp_path / "antiphon.db"), forgotten)
    url = request.getfixturevalue("procrastinate_url")
    return Place(lambda: on_postgres(url), cut_off)


@pytest.mark.parametrize("case", jobs_suite.CASES, ids=lambda case: case.__name__)
async def test_jobs(case: jobs_suite.Case, place: Place) -> None:
    """Each case of the suite says its own behaviour."""
    await case(place)


# ---------------------------------------------------------------- beyond one implementation


async def test_a_recurring_job_is_put_once_for_all_processes(tmp_path: Path) -> None:
    script = Script()
    script.gate.set()
    kinds, recurring = {"script": script.kind}, [Recurring(kind="script", every_s=10_000_000)]
    database = open_sqlite(tmp_path / "antiphon.db", sync="off")
    await migrate(database, migrations())
    servers = []
    for _ in range(3):
        jobs = EmbeddedJobs(database, Workers(database, 60), LocalSignals())
        servers.append(asyncio.ensure_future(serve(jobs, {} if servers else kinds, recurring)))
        await until(lambda: any(job.payload == {} for job in script.seen))
    rows = await database.all("SELECT unique_key FROM jobs WHERE status = 'waiting' AND unique_key <> '0'")
    for server in servers:
        server.cancel()
    await asyncio.wait(servers)
    await database.close()
    assert len(rows) == 1


async def test_a_database_that_is_away_is_unavailable(procrastinate_url: str) -> None:
    async with on_postgres(procrastinate_url) as jobs:
        await jobs._connector.pool.close()
        for refusal in (jobs.put(US, job()), jobs.get(US, "1"), jobs.clean(done_kept_s=0, dead_kept_s=0)):
            await refused(Unavailable, refusal)


async def test_processes_that_start_at_once_make_one_schema(procrastinate_url: str) -> None:
    opened = [ProcrastinateJobs(procrastinate_url, LEASE_S) for _ in range(3)]
    await asyncio.gather(*(jobs.open() for jobs in opened))
    ids = await asyncio.gather(*(jobs.put(US, job(key="k")) for jobs in opened))
    assert len(set(ids)) == 1
    for jobs in opened:
        await jobs.close()
