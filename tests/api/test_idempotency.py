"""`Idempotency-Key`: a request that is sent again gets the answer of its first execution (promise P7)."""

import contextlib
import http.client
import itertools
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from antiphon.api.server import ROUTES
from antiphon.testing.host import CLOSE, Gate, Host, Raw, Reply, status
from antiphon.testing.server import Got, Server, running

MODEL = "scripted/scripted-model"
WAIT_S = 10
RESPONSE = {"model": MODEL, "input": "Hi"}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
PART = b'--b\r\ncontent-disposition: form-data; name="data"; filename="x"\r\n\r\nabc\r\n--b--\r\n'
UPLOAD = {"bytes": 3, "filename": "a.txt", "mime_type": "text/plain", "purpose": "user_data"}
DOCUMENT = {"document_id": "a", "content": "Hi"}
POSTS = [route.path for route in ROUTES if route.method == "POST"]
KEYS = itertools.count()


def new_key() -> str:
    return f"key-{next(KEYS)}-{time.monotonic_ns()}"


def settings(host: Host, **more: Any) -> dict[str, Any]:
    return {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, **more}


def form(boundary: str, content: bytes = b"content", purpose: str = "user_data") -> tuple[bytes, dict[str, str]]:
    """A multipart body, and the header that belongs to it."""
    parts = [
        b'content-disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode(),
        b'content-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + content,
    ]
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    return body + f"--{boundary}--\r\n".encode(), {"content-type": f"multipart/form-data; boundary={boundary}"}


def edit(boundary: str) -> tuple[bytes, dict[str, str]]:
    """A form with an image to edit, and the header that belongs to it."""
    fields = {"model": MODEL, "prompt": "A hat"}
    parts = [f'content-disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    parts.append('content-disposition: form-data; name="image"; filename="a.png"\r\n\r\nimage')
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    return body.encode(), {"content-type": f"multipart/form-data; boundary={boundary}"}


def post(server: Server, path: str, body: Any, key: str, **headers: str) -> Got:
    return server.post(path, body, {"idempotency-key": key, **headers})


def batch(server: Server) -> dict[str, Any]:
    """What makes a batch of one line."""
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    file = server.ask("POST", "/v1/files", *form("b", json.dumps(line).encode(), "batch")[:1], headers=form("b")[1])
    return {"input_file_id": file.json["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def in_store(path: str, server: Server) -> tuple[str, Any, dict[str, str]]:
    """A request to a route of a vector store that has a file."""
    file, upload = (server.ask("POST", "/v1/files", form("b")[0], headers=form("b")[1]).json["id"] for _ in "12")
    made = server.post("/vector_stores", {"file_ids": [file], "embedding_model": ""})  # asks no host, now or later
    store = f"/vector_stores/{made.json['id']}"
    path = path.replace("/vector_stores/{vector_store_id}", store).replace("{file_id}", file)
    if path.endswith("/cancel"):
        batch_id = server.post(f"{store}/file_batches", {"file_ids": [upload]}).json["id"]
        return path.replace("{batch_id}", batch_id), b"", {}
    bodies: dict[str, Any] = {
        f"/v1{store}": {"name": "Papers"},
        f"/v1{store}/search": {"query": "content"},
        f"/v1{store}/files": {"file_id": upload},
        f"/v1{store}/files/{file}": {"attributes": {"a": 1}},
        f"/v1{store}/file_batches": {"file_ids": [upload]},
        "/v1/vector-io/insert": {"vector_db_id": store.rpartition("/")[2], "chunks": [{"content": "Hi"}]},
        "/v1/vector-io/query": {"vector_db_id": store.rpartition("/")[2], "query": "Hi"},
        "/v1/tool-runtime/rag-tool/insert": {"vector_db_id": store.rpartition("/")[2], "documents": [DOCUMENT]},
        "/v1/tool-runtime/rag-tool/query": {"vector_db_ids": [store.rpartition("/")[2]], "content": "Hi"},
        "/v1/tool-runtime/invoke": {
            "tool_name": "insert_into_memory",
            "kwargs": {"vector_db_id": store.rpartition("/")[2], "documents": [DOCUMENT]},
        },
    }
    return path, bodies[path], {}


def upload_example(path: str, server: Server) -> tuple[str, Any, dict[str, str]]:
    """A request that concerns an upload."""
    upload = server.post("/uploads", UPLOAD).json["id"]
    place = path.replace("{upload_id}", upload)
    if path.endswith("cancel"):
        return place, b"", {}
    part, head = (
        b'--b\r\ncontent-disposition: form-data; name="data"; filename="x"\r\n\r\nabc\r\n--b--\r\n',
        form("b")[1],
    )
    if path.endswith("parts"):
        return place, part, head
    added = server.ask("POST", f"/v1/uploads/{upload}/parts", part, headers=head).json["id"]
    return place, {"part_ids": [added]}, {}


FORMS = {"/v1/files": form, "/v1alpha/file-processors/process": form, "/v1/images/edits": edit}


def example(path: str, server: Server) -> tuple[str, Any, dict[str, str]]:
    """A request to a route: its path, body and headers."""
    if "{vector_store_id}" in path or "vector-io" in path or "tool-runtime" in path:
        return in_store(path, server)
    if "{container_id}" in path:
        return path.replace("{container_id}", server.post("/containers", {"name": "a"}).json["id"]), *form("one")
    if "{conversation_id}" in path:
        conversation = server.post("/conversations", {}).json["id"]
        body = {"items": [{"role": "user", "content": "Hi"}]} if path.endswith("items") else {"metadata": {"a": "b"}}
        return path.replace("{conversation_id}", conversation), body, {}
    if "{completion_id}" in path:
        completion = server.post("/chat/completions", {**CHAT, "store": True}).json["id"]
        return path.replace("{completion_id}", completion), {"metadata": {"a": "b"}}, {}
    if "{response_id}" in path:
        return path.replace("{response_id}", server.post("/responses", RESPONSE).json["id"]), b"", {}
    if path == "/v1/batches":
        return path, batch(server), {}
    if "{batch_id}" in path:
        return path.replace("{batch_id}", server.post("/batches", batch(server)).json["id"]), b"", {}
    if path in FORMS:
        return path, *FORMS[path]("one")
    if "{upload_id}" in path:
        return upload_example(path, server)
    bodies: dict[str, Any] = {
        "/v1/chat/completions": {**CHAT, "store": True},
        "/v1/completions": {"model": MODEL, "prompt": "Hi"},
        "/v1/embeddings": {"model": MODEL, "input": "Hi"},
        "/v1/images/generations": {"model": MODEL, "prompt": "A cat"},
        "/v1/rerank": {"model": MODEL, "query": "Hi", "documents": ["a", "b"]},
        "/v1alpha/inference/rerank": {"model": MODEL, "query": "Hi", "items": ["a", "b"]},
        "/v1/responses": RESPONSE,
        "/v1/responses/compact": RESPONSE,
        "/v1/responses/input_tokens": RESPONSE,
        "/v1/uploads": UPLOAD,
        "/v1/containers": {"name": "a"},
        "/v1/toolgroups": {"toolgroup_id": "a", "provider_id": "mcp", "mcp_endpoint": {"uri": "https://a.example/"}},
        "/v1/conversations": {"items": [{"role": "user", "content": "Hi"}]},
        "/v1/vector_stores": {"name": "Papers", "embedding_model": ""},
    }
    return path, bodies[path], {}


def check_replay(first: Got, second: Got) -> None:
    """The same answer, said to be a repetition."""
    own = {"x-request-id", "idempotent-replayed"}
    assert (second.status, second.body) == (first.status, first.body)
    assert {k: v for k, v in second.headers.items() if k not in own} == {
        k: v for k, v in first.headers.items() if k not in own
    }
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


@pytest.mark.parametrize("path", POSTS)
def test_every_post_is_executed_once_and_answered_twice(
    server: Server, host: Host, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, body, headers = example(path, server)
    before, key = len(host.calls), new_key()
    first = post(server, path.removeprefix("/v1"), body, key, **headers)
    once = len(host.calls)
    host.default = Reply(text=["Something", " else"])
    second = post(server, path.removeprefix("/v1"), body, key, **headers)
    assert first.status == 200, first.body
    check_replay(first, second)
    assert once <= before + 1
    if "batch" in path:  # its one line is asked in its own time
        assert len(host.calls) <= before + 1
    else:
        assert len(host.calls) == once
    assert [each.message for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("key", ["", "  ", "x" * 256, "a\tb", "gr\u00fcn"])
def test_a_key_that_is_none_is_refused_on_every_post(server: Server, host: Host, path: str, key: str) -> None:
    path = path.replace("{", "").replace("}", "")
    got = post(server, path.removeprefix("/v1"), b"{}", key)
    assert (got.status, got.json["error"]["code"]) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize("key", ["x", "x" * 255, '"quoted, as the draft of the IETF has it"'])
def test_keys_of_up_to_255_characters_are_kept_apart(server: Server, host: Host, key: str) -> None:
    first = post(server, "/conversations", {}, key)
    assert first.json["id"] == post(server, "/conversations", {}, key).json["id"]
    assert first.json["id"] != post(server, "/conversations", {}, new_key()).json["id"]


def test_another_request_under_the_same_key_is_a_conflict(server: Server, host: Host) -> None:
    key = new_key()
    assert post(server, "/conversations", {"metadata": {"a": "b"}}, key).status == 200
    for path, body in (
        ("/conversations", {"metadata": {"a": "c"}}),
        ("/conversations?x=1", {"metadata": {"a": "b"}}),
        ("/chat/completions", CHAT),
    ):
        got = post(server, path, body, key)
        assert (got.status, got.json["error"]["code"]) == (409, "idempotency_key_reused")
    assert host.calls == []


def test_a_deletion_is_answered_twice_and_a_get_is_not_concerned(server: Server, host: Host) -> None:
    key = {"idempotency-key": new_key()}
    path = f"/v1/conversations/{server.post('/conversations', {}).json['id']}"
    assert server.ask("GET", path, headers=key).status == 200
    first, second = (server.ask("DELETE", path, headers=key) for _ in range(2))
    check_replay(first, second)
    assert server.ask("GET", path, headers=key).status == 404


@pytest.mark.parametrize("body", [{**RESPONSE, "stream": True}, {**RESPONSE, "stream": True, "store": False}])
def test_a_stream_is_given_again_byte_for_byte(server: Server, host: Host, body: Any) -> None:
    key = new_key()
    first, second = (post(server, "/responses", {**body, "unknown": 1}, key) for _ in range(2))
    assert first.body.endswith(b"data: [DONE]\n\n")
    assert "unknown" in first.headers["x-antiphon-warnings"]
    check_replay(first, second)
    assert len(host.calls) == 1


def test_a_chat_stream_is_given_again_byte_for_byte(server: Server, host: Host) -> None:
    key = new_key()
    first, second = (post(server, "/chat/completions", {**CHAT, "stream": True}, key) for _ in range(2))
    check_replay(first, second)
    assert len(host.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_requests_at_the_same_time_lead_to_one_call_and_get_the_same_answer(
    server: Server, host: Host, stream: bool
) -> None:
    gate, key = Gate(), new_key()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(post, server, "/responses", {**RESPONSE, "stream": stream}, key) for _ in range(8)]
        gate.wait()
        gate.open()
        got = [each.result(WAIT_S) for each in asked]
    assert {each.status for each in got} == {200}
    assert len({each.body for each in got}) == 1
    assert sum("idempotent-replayed" in each.headers for each in got) == 7
    assert len(host.calls) == 1


@pytest.mark.parametrize("code", [400, 404, 429, 500, 503])
def test_a_refusal_is_not_kept(server: Server, host: Host, code: int) -> None:
    key = new_key()
    host.answer(status(code))
    assert post(server, "/chat/completions", CHAT, key).status == code
    got = post(server, "/chat/completions", CHAT, key)
    assert got.status == 200
    assert "idempotent-replayed" not in got.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses", RESPONSE),
        ("/responses", {**RESPONSE, "stream": True}),
        ("/chat/completions", {**CHAT, "stream": True}),
        ("/completions", {"model": MODEL, "prompt": "Hi", "stream": True}),
    ],
)
def test_an_answer_that_tells_of_a_failure_is_not_kept_whatever_its_status(
    server: Server, host: Host, path: str, body: Any
) -> None:
    key = new_key()
    host.answer(Raw(steps=[*Reply(text=["Hel"], finish=None, usage=None).chunks("m"), CLOSE]))
    failed = post(server, path, body, key)
    assert (failed.status, b"broke off" in failed.body) == (200, True)
    first, second = (post(server, path, body, key) for _ in range(2))
    assert b"there" in first.body
    check_replay(first, second)


def test_a_request_that_was_refused_may_be_corrected_under_its_key(server: Server, host: Host) -> None:
    key = new_key()
    assert post(server, "/responses", {"model": MODEL, "input": 7}, key).status == 400
    assert post(server, "/responses", RESPONSE, key).status == 200


def open_request(server: Server, path: str, body: Any, key: str) -> http.client.HTTPConnection:
    connection = server.connect()
    connection.request("POST", f"/v1{path}", json.dumps(body), {"idempotency-key": key})
    return connection


def test_an_unstored_answer_whose_client_left_is_made_anew(server: Server, host: Host) -> None:
    gate, key = Gate(), new_key()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    connection = open_request(server, "/chat/completions", {**CHAT, "stream": True}, key)
    gate.wait()
    connection.close()
    host.calls[0].abort_seen()
    got = post(server, "/chat/completions", {**CHAT, "stream": True}, key)
    assert "idempotent-replayed" not in got.headers
    assert len(host.calls) == 2


@pytest.mark.parametrize(
    ("path", "body"), [("/responses", RESPONSE), ("/chat/completions", {**CHAT, "store": True})], ids=["r", "c"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_stored_answer_whose_client_left_is_there_for_the_retry(
    server: Server, host: Host, path: str, body: Any, stream: bool
) -> None:
    gate, key = Gate(), new_key()
    whole = Raw(headers=[("content-type", "application/json")], steps=[gate, Reply(text="lo").body("scripted-model")])
    host.answer(Reply(text=["Hel", gate, "lo"]) if stream or path == "/responses" else whole)
    connection = open_request(server, path, {**body, "stream": stream}, key)
    gate.wait()
    connection.close()
    with ThreadPoolExecutor(1) as pool:
        retry = pool.submit(post, server, path, {**body, "stream": stream}, key)
        gate.open()
        got = retry.result(WAIT_S)
    assert (got.status, got.headers["idempotent-replayed"]) == (200, "true")
    assert b"lo" in got.body
    assert len(host.calls) == 1


def test_an_upload_is_made_once_whatever_boundary_its_form_has(server: Server, host: Host) -> None:
    key = new_key()
    got = []
    for boundary in ("one", "another-boundary"):
        body, headers = form(boundary, b"x" * 300_000)
        got.append(post(server, "/files", body, key, **headers))
    check_replay(*got)
    for body, headers in (form("one", b"y" * 300_000), form("one", b"x" * 300_000, "batch")):
        refused = post(server, "/files", body, key, **headers)
        assert (refused.status, refused.json["error"]["code"]) == (409, "idempotency_key_reused")


def test_an_answer_that_is_too_large_is_a_conflict_afterwards(tmp_path: Path, host: Host) -> None:
    host.default = Reply(text=["x" * 3000])
    with running(settings(host, limits={"idempotent_answer_bytes_max": 1500}), tmp_path) as server:
        key = new_key()
        assert post(server, "/chat/completions", CHAT, key).status == 200
        got = post(server, "/chat/completions", CHAT, key)
        assert (got.status, got.json["error"]["code"]) == (409, "idempotent_answer_too_large")
        host.default = Reply(text=["x"])
        key = new_key()
        check_replay(*(post(server, "/chat/completions", CHAT, key) for _ in range(2)))


def test_an_answer_is_forgotten_after_its_time(tmp_path: Path, host: Host) -> None:
    with running(settings(host, idempotency_s=1), tmp_path) as server:
        key = new_key()
        first = post(server, "/conversations", {}, key).json["id"]
        until(lambda: post(server, "/conversations", {}, key).json["id"] != first)


# ---------------------------------------------------------------- what is in the database


def rows(folder: Path, table: str = "idempotency") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "data" / "antiphon.db")) as database:
        return database.execute(f"SELECT * FROM {table}").fetchall()


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline


def test_neither_key_nor_request_nor_answer_can_be_read_in_the_database(tmp_path: Path, host: Host) -> None:
    host.default = Reply(text=["the secret answer"])
    body = {**RESPONSE, "input": "the secret question", "store": False}
    with running(settings(host), tmp_path) as server:
        first = post(server, "/responses", body, "the-secret-key")
        assert "the secret answer" in first.body.decode()
        check_replay(first, post(server, "/responses", body, "the-secret-key"))
        assert len(rows(tmp_path)) == 1
    files = [*(tmp_path / "data").glob("antiphon.db*")]
    assert files
    assert all(b"secret" not in file.read_bytes() for file in files)


@pytest.fixture
def killed(tmp_path: Path, host: Host) -> Iterator[Server]:
    """A server in a process of its own."""
    with running(settings(host), tmp_path, process=True) as server:
        yield server


@pytest.mark.parametrize("body", [RESPONSE, {**RESPONSE, "stream": True}, {**RESPONSE, "store": False}])
def test_killed_after_the_work_and_before_the_reply_was_read(
    tmp_path: Path, host: Host, killed: Server, body: Any
) -> None:
    key = new_key()
    connection = open_request(killed, "/responses", body, key)
    until(lambda: [row for row in rows(tmp_path) if row[3] == "kept"])
    killed.kill()
    connection.close()
    with running(settings(host), tmp_path, process=True) as server:
        got = post(server, "/responses", body, key)
        assert (got.status, got.headers["idempotent-replayed"]) == (200, "true")
        assert b"there" in got.body
        check = post(server, "/responses", {**body, "input": "another"}, key)
        assert check.json["error"]["code"] == "idempotency_key_reused"
    assert len(host.calls) == 1


@pytest.mark.parametrize(
    "body",
    [
        RESPONSE,
        {**RESPONSE, "stream": True},
        {**RESPONSE, "stream": True, "background": True},
        {**RESPONSE, "store": False},
    ],
)
def test_killed_in_the_middle_the_retry_is_answered_by_the_next_process(
    tmp_path: Path, host: Host, killed: Server, body: Any
) -> None:
    gate, key = Gate(), new_key()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    connection = open_request(killed, "/responses", body, key)
    gate.wait()
    until(lambda: len(rows(tmp_path, "responses")) == body.get("store", True))
    assert [row[3] for row in rows(tmp_path)] == ["running"]
    named = [row[7] for row in rows(tmp_path)]
    killed.kill()
    connection.close()
    with running(settings(host), tmp_path, process=True) as server:
        first, second = (post(server, "/responses", body, key) for _ in range(2))
        assert b"there" in first.body
        check_replay(first, second)
        if body.get("store", True):  # it is the same response, which the next process goes on with
            assert named[0].encode() in first.body
            assert [each["id"] for each in server.get("/responses").json["data"]] == named
        else:
            assert named == [None]
    assert len(host.calls) == 2


def test_a_request_on_another_process_waits_for_the_one_that_executes(
    tmp_path: Path, host: Host, killed: Server
) -> None:
    gate, key = Gate(), new_key()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    body = {**CHAT, "stream": True}
    with running(settings(host), tmp_path) as other, ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, killed, "/chat/completions", body, key)
        gate.wait()
        second = pool.submit(post, other, "/chat/completions", body, key)
        gate.open()
        check_replay(first.result(WAIT_S), second.result(WAIT_S))
    assert len(host.calls) == 1


def test_a_request_that_waits_goes_on_when_the_process_that_executes_is_killed(
    tmp_path: Path, host: Host, killed: Server
) -> None:
    gate, key = Gate(), new_key()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    body = {**CHAT, "stream": True}
    with running(settings(host), tmp_path) as other, ThreadPoolExecutor(1) as pool:
        connection = open_request(killed, "/chat/completions", body, key)
        gate.wait()
        second = pool.submit(post, other, "/chat/completions", body, key)
        killed.kill()
        connection.close()
        got = second.result(WAIT_S)
    assert (got.status, "idempotent-replayed" in got.headers) == (200, False)
    assert len(host.calls) == 2
