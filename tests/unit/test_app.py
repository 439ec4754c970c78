"""The composition root: what a server that cannot start says, and what one that can."""

from pathlib import Path

import pytest

from antiphon import app
from antiphon.config import Config, ConfigError, load
from antiphon.drain import Drain
from antiphon.errors import Unavailable


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as error:
        async with app.opened(Config(data_dir=str(tmp_path / "file")), Drain(0)):
            raise AssertionError("nothing was opened")
    assert error.value.problems == [f"data_dir: {tmp_path}/file cannot be used: File exists."]


async def test_a_replaying_server_leaves_the_database_alone(tmp_path: Path) -> None:
    away = "postgresql://me@127.0.0.1:9/nowhere"
    config = load(None, {}, {"mode": "replay", "database_url": away, "recordings": str(tmp_path)})
    async with app.opened(config, Drain(0)) as services:
        assert await services.ready() != []  # it has no model host, but a database


async def test_a_server_without_its_database_does_not_start(tmp_path: Path) -> None:
    config = load(None, {}, {"database_url": "postgresql://me:topsecret@127.0.0.1:9/x", "data_dir": str(tmp_path)})
    with pytest.raises(Unavailable, match="cannot be reached") as refused:
        async with app.opened(config, Drain(0)):
            pass
    assert "topsecret" not in str(refused.value)
