"""An Antiphon on SQLite that dies at the n-th transaction of the first response (or what else) that it makes.

    python dying_server.py TABLE before|after N serve ...

It dies before the transaction is begun, or when it is committed and before anybody is told.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from antiphon import app, cli
from antiphon.config import Config
from antiphon.stores.database import Statement
from antiphon.stores.sqlite import Sqlite


class DyingSqlite(Sqlite):
    """The database that counts."""

    def __init__(self, path: Path, table: str, when: str, *, deadly: int) -> None:
        super().__init__(path, "normal")
        self._insert = f"INSERT INTO {table} "
        self._when = when
        self._deadly = deadly
        self._count = 0
        self._id: object = None

    async def transaction(self, statements: Sequence[Statement]) -> list[int]:
        """A transaction; perhaps the last."""
        if self._id is None:
            self._id = next((each.params[1] for each in statements if each.sql.startswith(self._insert)), None)
        counts = self._id is not None and any(self._id in each.params for each in statements)
        self._count += counts
        deadly = counts and self._count == self._deadly
        if deadly and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = await super().transaction(statements)
        if deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def main(table: str, when: str, deadly: int, *arguments: str) -> None:
    """Serves until it dies."""

    def open_database(config: Config) -> DyingSqlite:
        Path(config.data_dir).mkdir(parents=True, exist_ok=True)
        return DyingSqlite(Path(config.data_dir) / "antiphon.db", table, when, deadly=deadly)

    app.open_database = open_database
    sys.exit(cli.main(arguments))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
