"""Serving: what a server says that cannot listen, and one that can."""

import socket
from pathlib import Path

import pytest

from antiphon import serving
from antiphon.config import Config, ConfigError


def never(_config: Config) -> None:
    raise AssertionError("nothing listens")


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as error:
            serving.serve(Config(port=port, data_dir=str(tmp_path)), never)
    assert error.value.problems == [f"port: cannot listen on 127.0.0.1, port {port}: Address already in use."]


def test_a_host_that_is_no_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"port: cannot listen on no\.such\.host\.invalid, port 0: "):
        serving.serve(Config(host="no.such.host.invalid", port=0, data_dir=str(tmp_path)), never)


def test_any_free_port_is_the_one_that_is_told(tmp_path: Path) -> None:
    class Told(Exception):
        pass

    def told(config: Config) -> None:
        raise Told(config.port)

    with pytest.raises(Told) as port:
        serving.serve(Config(port=0, data_dir=str(tmp_path)), told)
    assert port.value.args[0] > 0
