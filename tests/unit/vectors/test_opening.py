"""Which indexes a configuration means."""

import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.config import Config, ConfigError
from antiphon.errors import Unavailable
from antiphon.knowledge import IndexConfig, VectorStoresConfig
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing.index_suite import KEY, X, chunk, places, vector
from antiphon.vectors.opening import OnFirstUse, default_index, open_indexes


@pytest.fixture
async def database():
    opened = open_sqlite(None)
    await migrate(opened, migrations())
    yield opened
    await opened.close()


def config(index="", **indexes):
    return Config(vector_stores=VectorStoresConfig(index=index, indexes=indexes))


async def test_without_configuration_there_is_the_database_by_its_names(database):
    indexes = open_indexes(config(), database)
    assert set(indexes) == {"embedded", "faiss", "sqlite-vec"}
    assert len({id(index) for index in indexes.values()}) == 1
    assert default_index(config(), database) == "embedded"
    await indexes["faiss"].add(KEY, "file_a", "1", chunks=[chunk(0, "x", X)])
    found = await indexes["embedded"].semantic(KEY, vector(*X), count=1, among={"file_a": "1"})
    assert places(found) == [("file_a", 0)]
    await indexes["embedded"].close()
    await indexes["faiss"].close()


def test_numpy_is_not_loaded_before_an_index_is_used():
    """It would be a fifth of what a started server takes."""
    start = """
import sys, antiphon.app
from antiphon.config import Config
from antiphon.stores.sqlite import open_sqlite
from antiphon.vectors.opening import open_indexes
open_indexes(Config(), open_sqlite(None))
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout.split()

    assert "antiphon.app" in loaded
    assert "numpy" not in loaded


async def test_a_configured_index_is_there_beside_it_and_may_take_a_name(database, tmp_path: Path):
    elsewhere = IndexConfig(kind="qdrant", url=str(tmp_path / "points"))
    chosen = config("far", far=elsewhere, faiss=elsewhere)
    indexes = open_indexes(chosen, database)
    assert set(indexes) == {"embedded", "far", "faiss", "sqlite-vec"}
    assert indexes["faiss"] is indexes["far"] is not indexes["embedded"]
    assert default_index(chosen, database) == "far"
    assert not (tmp_path / "points").exists()
    await indexes["far"].add(KEY, "file_a", "1", chunks=[chunk(0, "x", X)])
    await indexes["far"].close()
    again = open_indexes(chosen, database)["far"]
    assert places(await again.semantic(KEY, vector(*X), count=1, among={"file_a": "1"})) == [("file_a", 0)]
    await again.close()


async def test_what_is_not_there_is_named(database):
    with pytest.raises(ConfigError, match=r"no index named 'far'.*embedded, faiss, sqlite-vec"):
        default_index(config("far"), database)
    with pytest.raises(ConfigError, match="No index named 'pigeonholes'"):
        open_indexes(config(far=IndexConfig(kind="pigeonholes")), database)


@pytest.mark.parametrize(
    ("settings", "said"),
    [(IndexConfig(kind="qdrant"), "needs a `url`"), (IndexConfig(kind="postgres"), "needs a `database_url`")],
)
async def test_an_index_that_cannot_be_made_is_unavailable_and_says_why(database, settings, said):
    index = open_indexes(config(far=settings), database)["far"]
    for _ in range(2):
        with pytest.raises(Unavailable, match=said):
            await index.keyword(KEY, "x", count=1, among={"file_a": "1"})


async def test_one_that_fails_to_open_is_opened_by_the_next_call():
    class Stubborn:
        opened = 0

        async def open(self):
            Stubborn.opened += 1
            if Stubborn.opened == 1:
                raise Unavailable("not yet")

        async def chunks(self, key, file_id, attempt, *, after, limit):
            return ["a chunk"]

    index = OnFirstUse(Stubborn)
    with pytest.raises(Unavailable, match="not yet"):
        await index.chunks(KEY, "file_a", "1", after=-1, limit=1)
    for _ in range(2):
        assert await index.chunks(KEY, "file_a", "1", after=-1, limit=1) == ["a chunk"]
    assert Stubborn.opened == 2
