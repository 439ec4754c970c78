"""What all tests share: the folder beside the repository, a scripted host, and no way out of this machine."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.host import Host

LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", None)


class OutsideLoopback(RuntimeError):
    """A test tried to reach another machine."""


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: refuses connections to, and look-ups of, anything but this machine."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise OutsideLoopback(f"a test connects to {address}")
    elif event == "socket.getaddrinfo" and arguments[0] not in LOOPBACK:
        raise OutsideLoopback(f"a test looks up {arguments[0]}")


sys.addaudithook(_guard)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published documents and recordings that lies beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: it holds the published documents and the recordings of real models")
    return folder


@pytest.fixture(scope="session")
def session_host() -> Iterator[Host]:
    """The scripted host that the tests of one process share."""
    with Host() as started:
        yield started


@pytest.fixture
def host(session_host: Host) -> Host:
    """A scripted host without script and memory."""
    session_host.reset()
    return session_host
