"""What all tests share: the folder beside the repository, a scripted host, and no way out of this machine."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from antiphon.testing.host import Host

if TYPE_CHECKING:
    from antiphon.testing.server import Server
    from antiphon.tools.sandbox.kernel import KernelSandbox
    from postgres_server import PostgresServer

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


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """The PostgreSQL that the tests of one process share."""
    from postgres_server import postgres_server  # most tests do without it

    with postgres_server() as started:
        yield started


@pytest.fixture
def postgres_url(postgres: "PostgresServer") -> Iterator[str]:
    """The URL of an empty database, which goes with the test."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)


@pytest.fixture(scope="session")
def kernel_sandbox() -> "KernelSandbox":
    """The sandbox of this machine's kernel."""
    from antiphon.hosted import SandboxConfig
    from antiphon.tools.sandbox.base import NoSandbox
    from antiphon.tools.sandbox.kernel import KernelSandbox

    sandbox = KernelSandbox(SandboxConfig())
    try:
        asyncio.run(sandbox.check())
    except NoSandbox as none:
        pytest.skip(f"nothing can be run in a sandbox here, and nothing is run without one: {none.message}")
    return sandbox


@pytest.fixture
def host(session_host: Host) -> Host:
    """A scripted host without script and memory."""
    session_host.reset()
    return session_host


def scripted(host: Host) -> dict[str, Any]:
    """Settings of an Antiphon in front of the shared host, named `scripted`."""
    able = {"files": True, "strict_tools": True}
    hosts = {"scripted": {"base_url": host.url, "preset": "custom", "quirks": able}}
    return {"hosts": hosts, "sandbox": {"enabled": True}}


@pytest.fixture(scope="session")
def session_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """An Antiphon that keeps its state in SQLite."""
    from antiphon.testing.server import running  # unit tests do without the whole application

    with running(scripted(session_host), tmp_path_factory.mktemp("antiphon")) as started:
        yield started


@pytest.fixture(scope="session")
def session_server_on_postgres(
    session_host: Host, postgres: "PostgresServer", tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Server"]:
    """An Antiphon that keeps its state in PostgreSQL."""
    from antiphon.testing.server import running

    settings = {**scripted(session_host), "database_url": postgres.new_database()}
    with running(settings, tmp_path_factory.mktemp("antiphon")) as started:
        yield started


@pytest.fixture
def stored_in(request: pytest.FixtureRequest) -> str:
    """The kind of database: `sqlite`, unless the test runs over both."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def state(stored_in: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of a server that has an empty database of this kind to itself."""
    return {} if stored_in == "sqlite" else {"database_url": request.getfixturevalue("postgres_url")}


@pytest.fixture
def server(stored_in: str, request: pytest.FixtureRequest, host: Host) -> "Server":
    """An Antiphon in front of the scripted host, which has no script yet. State of earlier tests may be there."""
    return request.getfixturevalue("session_server" if stored_in == "sqlite" else "session_server_on_postgres")


@pytest.fixture
def client(server: "Server") -> Iterator[Any]:
    """The official client."""
    with server.client() as opened:
        yield opened
