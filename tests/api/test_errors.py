"""Whatever is wrong with a request, the answer has OpenAI's body, an id, and the name of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.host import Host
from antiphon.testing.server import Got, Server, running

MODEL = "scripted/scripted-model"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


def refused(got: Got, code: int) -> dict[str, Any]:
    assert got.status == code
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-request-id"]
    error: dict[str, Any] = got.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings", "/conversations", "/responses"])
@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff\xfe", b'{"model": "\xff"}', b"{" * 10_000, b'{"a":' + b"[" * 100_000]
)
def test_what_is_no_json_object_is_a_400_everywhere(server: Server, path: str, body: bytes) -> None:
    refused(server.post(path, body), 400)


def test_nothing_is_read_into_the_content_type(server: Server, host: Host) -> None:
    for kind in ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"):
        assert server.post("/chat/completions", CHAT, {"content-type": kind}).status == 200
    assert len(host.calls) == 3


def test_an_unknown_url_and_a_wrong_method_are_told_apart(server: Server) -> None:
    assert "/v1/models" in refused(server.ask("GET", "/models"), 404)["message"]
    refused(server.get("/nothing/here"), 404)
    got = server.ask("PUT", "/v1/conversations", {})
    assert refused(got, 405)["code"] == "method_not_allowed"
    assert got.headers["allow"] == "POST"
    assert server.ask("OPTIONS", "/v1/models").headers["allow"] == "GET, HEAD"


def test_head_is_get_without_a_body(server: Server) -> None:
    got = server.ask("HEAD", "/v1/models")
    assert (got.status, got.body) == (200, b"")
    assert got.headers["content-length"] == str(len(server.get("/models").body))


def test_a_clients_request_id_comes_back(server: Server) -> None:
    for path in ("/models", "/nothing"):
        got = server.ask("GET", f"/v1{path}", headers={"x-request-id": "mine-1"})
        assert got.headers["x-request-id"] == "mine-1"


def test_a_body_that_is_too_large_is_a_413_and_the_connection_lives(host: Host, tmp_path: Path) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url}}, "limits": {"body_bytes_max": 100_000}}
    with running(settings, tmp_path) as server:
        connection = server.connect()
        for announced in (True, False):
            data = b" " * 2_000_000
            pieces = iter([data[at : at + 65536] for at in range(0, len(data), 65536)])
            connection.request("POST", "/v1/embeddings", data if announced else pieces, encode_chunked=not announced)
            answer = connection.getresponse()
            assert answer.status == 413
            assert json.loads(answer.read())["error"]["code"] == "request_too_large"
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()


def test_strict_mode_refuses_what_would_be_ignored(host: Host, tmp_path: Path) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url}}, "strict": True}
    with running(settings, tmp_path) as server:
        error = refused(server.post("/conversations", {"colour": "red"}), 400)
        assert (error["code"], error["param"]) == ("unknown_parameter", "colour")
        assert server.post("/chat/completions", {**CHAT, "colour": "red"}).status == 200


def test_a_live_server_with_recordings_records_single_requests(tmp_path: Path, host: Host) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url}}, "recordings": str(tmp_path / "made")}
    with running(settings, tmp_path) as server:
        assert server.post("/chat/completions", CHAT).status == 200
        assert not (tmp_path / "made").exists()
        recorded = server.post("/chat/completions", CHAT, {"x-antiphon-mode": "record"})
        called = len(host.calls)
        replayed = server.post("/chat/completions", CHAT, {"x-antiphon-mode": "replay"})
    assert replayed.body == recorded.body
    assert len(host.calls) == called


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-antiphon-provider-data", "{", 400),
        ("x-antiphon-provider-data", '{"scripted_api_key": "a\\nb"}', 400),
        ("x-antiphon-mode", "rewind", 400),
        ("x-antiphon-mode", "record", 403),
        ("x-llamastack-provider-data", "{", 200),
        ("x-stainless-lang", "python", 200),
        ("openai-organization", "org", 200),
    ],
)
def test_headers_are_understood_refused_or_ignored(server: Server, name: str, value: str, code: int) -> None:
    assert server.post("/chat/completions", CHAT, {name: value}).status == code
