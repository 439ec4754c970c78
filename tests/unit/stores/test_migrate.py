"""Migrations: forward, additive, and shipped with the package."""

import re

import pytest

from antiphon.stores.migrate import Migration, migrate, migrations, parse
from antiphon.stores.sqlite import open_sqlite

ADDITIVE = re.compile(r"^(CREATE (UNIQUE )?(TABLE|INDEX) |ALTER TABLE \w+ ADD COLUMN )")


def test_a_file_is_cut_at_semicolons_that_end_a_line():
    text = (
        "-- What it is for;\nCREATE TABLE a (\n  -- a column;\n  x TEXT DEFAULT 'a;b'\n);\n\nCREATE INDEX i ON a (x);\n"
    )
    statements = ("CREATE TABLE a (\n  x TEXT DEFAULT 'a;b'\n)", "CREATE INDEX i ON a (x)")
    assert parse("007_what_for.sql", text) == Migration(7, "007_what_for", statements)


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_shipped_migrations_are_numbered_without_gaps(dialect):
    steps = migrations(dialect)
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))


def test_both_databases_have_the_same_tables_columns_and_indexes():
    # PostgreSQL writes an index elsewhere and later; in SQLite it would be most of what a part of a journal costs. What
    # its own index of chunks is made of, SQLite does not have.
    own = ("journal_parts_by_container", "vector_chunks_by_word")

    def told(dialect: str) -> list[tuple[str, ...]]:
        return [
            (step.name, *(common(each) for each in step.statements if not any(name in each for name in own)))
            for step in migrations(dialect)
        ]

    assert told("postgres") == told("sqlite")


def common(statement: str) -> str:
    """A statement in SQLite's words."""
    identity = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    statement = statement.replace(identity, "INTEGER PRIMARY KEY").replace(" AUTOINCREMENT", "")
    for column in ("  dimension BIGINT NOT NULL DEFAULT 0,\n", "  words TSVECTOR,\n"):
        statement = statement.replace(column, "") if "vector_chunks" in statement else statement
    return statement.replace("BIGINT", "INTEGER").replace("BYTEA", "BLOB").replace(" WITHOUT ROWID", "")


@pytest.mark.parametrize("step", [*migrations("sqlite"), *migrations("postgres")], ids=lambda step: step.name)
def test_a_migration_only_adds_so_that_an_older_process_may_go_on(step: Migration):
    for statement in step.statements:
        assert ADDITIVE.match(statement), statement


async def test_every_table_has_an_owner():
    database = open_sqlite(None)
    await migrate(database, migrations())
    tables = await database.all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (table,) in tables:
        columns = {row[1]: row for row in await database.all(f"PRAGMA table_info({table})")}
        assert table in ("schema_version", "workers") or columns["owner"][3] == 1, table
    await database.close()
