"""Whether the server is alive, whether it can work, and what it shows a person."""

import re

from antiphon.testing.host import Host
from antiphon.testing.server import Server


def test_a_server_with_a_host_is_alive_and_ready(server: Server) -> None:
    assert server.ask("GET", "/health").json == {"status": "OK"}
    got = server.ask("GET", "/ready")
    assert (got.status, got.json) == (200, {"status": "ready", "missing": []})


def test_the_page_is_complete_in_itself_and_names_a_model(server: Server, host: Host) -> None:
    got = server.ask("GET", "/")
    text = got.body.decode()
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in got.headers["content-security-policy"]
    assert not re.search(r"<script|<link|<img|@import|url\(", text)
    assert "scripted/scripted-model" in text
    assert f"{server.url}/responses" in text
    assert "from openai import OpenAI" in text
