"""The composition root: what a server that cannot start says, and what one that can."""

import socket
from pathlib import Path

import pytest

from antiphon import app
from antiphon.config import Config, ConfigError, load
from antiphon.errors import Unavailable


def never(_config: Config) -> None:
    raise AssertionError("nothing listens")


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as error:
            app.serve(Config(port=port, data_dir=str(tmp_path)), never)
    assert error.value.problems == [f"port: cannot listen on 127.0.0.1, port {port}: Address already in use."]


def test_a_host_that_is_no_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"port: cannot listen on no\.such\.host\.invalid, port 0: "):
        app.serve(Config(host="no.such.host.invalid", port=0, data_dir=str(tmp_path)), never)


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as error:
        async with app.opened(Config(data_dir=str(tmp_path / "file")), []):
            raise AssertionError("nothing was opened")
    assert error.value.problems == [f"data_dir: {tmp_path}/file cannot be used: File exists."]


def test_any_free_port_is_the_one_that_is_told(tmp_path: Path) -> None:
    class Told(Exception):
        pass

    def told(config: Config) -> None:
        raise Told(config.port)

    with pytest.raises(Told) as port:
        app.serve(Config(port=0, data_dir=str(tmp_path)), told)
    assert port.value.args[0] > 0


async def test_a_replaying_server_leaves_the_database_alone(tmp_path: Path) -> None:
    away = "postgresql://me@127.0.0.1:9/nowhere"
    config = load(None, {}, {"mode": "replay", "database_url": away, "recordings": str(tmp_path)})
    async with app.opened(config, []) as services:
        assert await services.ready() != []  # it has no model host, but a database


async def test_a_server_without_its_database_does_not_start(tmp_path: Path) -> None:
    config = load(None, {}, {"database_url": "postgresql://me:topsecret@127.0.0.1:9/x", "data_dir": str(tmp_path)})
    with pytest.raises(Unavailable, match="cannot be reached") as refused:
        async with app.opened(config, []):
            pass
    assert "topsecret" not in str(refused.value)
