"""Brings a database to the schema of this program, forward only, one numbered file and one transaction at a time.

A migration only adds, so that an older process may go on working beside a newer one; a test reads the files for that.
For the same reason a database that is ahead of this program is none of its concern.
"""

import contextlib
import importlib.resources
from collections.abc import Sequence

from msgspec import Struct

from antiphon.stores.database import Database, Dialect, Duplicate, Statement

_VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL)"
_APPLIED = "SELECT version FROM schema_version"
_APPLY = "INSERT INTO schema_version (version, name) VALUES (?, ?)"


class Migration(Struct, frozen=True):
    """One step of the schema."""

    version: int
    name: str
    statements: tuple[str, ...]


def parse(name: str, text: str) -> Migration:
    """A migration from a file `NNN_what.sql`: a semicolon at a line's end ends a statement, `--` begins a comment."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    statements = [part.strip() for part in "\n".join(lines).rstrip(";\n").split(";\n")]
    return Migration(int(name.partition("_")[0]), name.removesuffix(".sql"), tuple(statements))


def migrations(dialect: Dialect = "sqlite") -> list[Migration]:
    """The migrations that ship with this program for one kind of database, in order."""
    folder = importlib.resources.files("antiphon.stores") / "sql" / dialect
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [parse(file.name, file.read_text("utf-8")) for file in files]


async def versions(database: Database) -> set[int]:
    """Which migrations a database has, once it has had any."""
    return {version for (version,) in await database.all(_APPLIED)}


async def migrate(database: Database, steps: Sequence[Migration]) -> list[Migration]:
    """Applies the steps that are missing, and returns them. Several processes may do so at once."""
    with contextlib.suppress(Duplicate):  # PostgreSQL says so to the second of two that create a table at once
        await database.execute(_VERSIONS)
    applied = await versions(database)
    missing = [step for step in steps if step.version not in applied]
    done = []
    for step in missing:
        # The version comes first: where another process was faster, it is this that fails, and nothing else runs.
        entry = Statement(_APPLY, (step.version, step.name))
        try:
            await database.transaction([entry, *map(Statement, step.statements)])
            done.append(step)
        except Duplicate:
            continue
    return done
