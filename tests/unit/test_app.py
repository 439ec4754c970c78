"""The composition root: what a server that cannot start says, and what one that can."""

import json
from pathlib import Path
from typing import Any

import pytest

from antiphon import app
from antiphon.config import Config, ConfigError, load
from antiphon.drain import Drain
from antiphon.errors import Unavailable
from antiphon.replay.recording import Answer, Exchange, Frame, Request, Scenario, write_scenario


def answered(body: Any) -> Answer:
    """A host's whole answer."""
    headers = {"content-type": "application/json"}
    return Answer(status=200, headers=headers, frames=(Frame(0, json.dumps(body).encode()),))


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


async def test_a_replaying_server_knows_which_recorded_models_embed(tmp_path: Path) -> None:
    body = {"model": "vectors", "input": ["a"]}
    listed = Exchange(
        request=Request(method="GET", host="h", url="http://h/v1/models", headers={}, body=None),
        answer=answered({"data": [{"id": "m"}]}),
    )
    embedded = Exchange(
        request=Request(method="POST", host="h", url="http://h/v1/embeddings", headers={}, body=body),
        answer=answered({"data": [{"index": 0, "embedding": [1.0, 0.0]}]}),
    )
    write_scenario(tmp_path / "a.json", Scenario(name="a", exchanges=(listed, embedded)))
    config = load(None, {}, {"mode": "replay", "recordings": str(tmp_path), "data_dir": str(tmp_path)})
    async with app.opened(config, Drain(0)) as services:
        await services.catalog.refresh()
        found = await services.catalog.only("embedding")
    assert found is not None
    assert (found.id, found.info.dimension) == ("h/vectors", 2)


async def test_a_server_without_its_database_does_not_start(tmp_path: Path) -> None:
    config = load(None, {}, {"database_url": "postgresql://me:topsecret@127.0.0.1:9/x", "data_dir": str(tmp_path)})
    with pytest.raises(Unavailable, match="cannot be reached") as refused:
        async with app.opened(config, Drain(0)):
            pass
    assert "topsecret" not in str(refused.value)
