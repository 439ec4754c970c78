"""A PostgreSQL that goes away and comes back, as a client of the server sees it (promise P14)."""

import time
from pathlib import Path

from antiphon.testing.host import Host, Reply
from antiphon.testing.server import START_S, Server, running
from postgres_server import postgres_server

ASK = {"model": "scripted/scripted-model", "input": "Hi"}


def back(server: Server) -> None:
    """Waits until the server says that it is ready."""
    deadline = time.monotonic() + START_S
    while server.ask("GET", "/ready").status != 200:
        assert time.monotonic() < deadline


def test_while_the_database_is_away_requests_are_503_and_afterwards_all_is_there(host: Host, tmp_path: Path) -> None:
    host.default = Reply(text="Hello")
    with postgres_server() as postgres:
        url = postgres.url.replace("postgres:@", "postgres:topsecret@")
        settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, "database_url": url}
        with running(settings, tmp_path, process=True) as server:
            kept = server.post("/responses", ASK).json
            postgres.stop()
            for got in (
                server.post("/responses", ASK),
                server.get(f"/responses/{kept['id']}"),
                server.post("/conversations", {}),
                server.ask("GET", "/ready"),
            ):
                assert got.status == 503, got.body
                assert got.json["error"]["code"] == "service_unavailable"
                assert "The database is not available" in got.json["error"]["message"]
            assert (
                server.post("/chat/completions", {**ASK, "messages": [{"role": "user", "content": "Hi"}]}).status == 200
            )
            postgres.start()
            back(server)
            assert server.get(f"/responses/{kept['id']}").json == kept
            again = server.post("/responses", ASK)
            assert again.status == 200, again.body
            assert again.json["status"] == "completed"
    assert "topsecret" not in (tmp_path / "server.log").read_text()
