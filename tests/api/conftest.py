"""Which API tests run over both databases: those of what is stored. And real MCP servers."""

from collections.abc import Iterator

import pytest

from mcp_server import McpHost

ON_BOTH = {
    "test_conversations",
    "test_older_release",
    "test_stop",
    "test_two_processes",
    "test_workers",
    "test_kill_server",
    "test_sdk_conversations",
    "test_sdk_files",
    "test_sdk_responses",
    "test_sdk_state",
    "test_sdk_uploads",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives those of their tests that ask for a server one of either kind."""
    if metafunc.definition.path.stem in ON_BOTH and "stored_in" in metafunc.fixturenames:
        metafunc.parametrize("stored_in", ("sqlite", "postgres"), indirect=True)


@pytest.fixture(scope="module")
def session_mcp() -> Iterator[McpHost]:
    with McpHost() as started:
        yield started


@pytest.fixture
def mcp(session_mcp: McpHost) -> McpHost:
    """The MCP servers, with nothing asked of them yet."""
    session_mcp.reset()
    return session_mcp
