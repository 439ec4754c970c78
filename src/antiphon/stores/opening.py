"""Which database a configuration means, and which signals and jobs go with it."""

from pathlib import Path

from antiphon.config import Config, ConfigError, state_folder
from antiphon.stores.database import Database
from antiphon.stores.embedded_jobs import EmbeddedJobs
from antiphon.stores.jobs import Jobs
from antiphon.stores.migrate import Migration, migrate, migrations
from antiphon.stores.polled_signals import PolledSignals
from antiphon.stores.signals import LocalSignals, Signals
from antiphon.stores.sqlite import Sqlite
from antiphon.stores.workers import Workers


def open_database(config: Config) -> Database:
    """The database of `database_url`, or else a file in `data_dir`. Raises `Unavailable` or `ConfigError`.

    A replaying server starts from nothing each time, since its ids repeat: it keeps its state in memory.
    """
    if config.mode == "replay":
        return Sqlite(None, config.sqlite_sync)
    if not config.database_url:
        return Sqlite(_file(config), config.sqlite_sync)
    try:
        from antiphon.stores.postgres import open_postgres  # an extra
    except ImportError as error:
        raise ConfigError(
            ["database_url: PostgreSQL needs another package: pip install 'antiphon[postgres]'."]
        ) from error
    return open_postgres(config.database_url)


async def migrated(config: Config) -> list[Migration]:
    """Brings the database up to date; returns what had to be applied. Raises as `open_database`."""
    database = open_database(config)
    try:
        return await migrate(database, migrations(database.dialect))
    finally:
        await database.close()


def open_signals(config: Config, database: Database) -> Signals:
    """Signals between all processes that have this database open."""
    if isinstance(database, Sqlite):
        return LocalSignals() if config.mode == "replay" else PolledSignals(database.foreign_commits)
    from antiphon.stores.pg_signals import PostgresSignals  # an extra

    return PostgresSignals(config.database_url)


def open_jobs(config: Config, database: Database, workers: Workers, *, signals: Signals) -> Jobs:
    """The queue of jobs that belongs to the database."""
    if isinstance(database, Sqlite):
        return EmbeddedJobs(database, workers, signals)
    from antiphon.stores.procrastinate_jobs import ProcrastinateJobs  # an extra

    return ProcrastinateJobs(config.database_url, config.background.lease_s)


def _file(config: Config) -> Path:
    with state_folder(config) as folder:
        return folder / "antiphon.db"
