"""Every limit has a named error: what is just within it is served, and one more is not (promise P10)."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.limits import Limits
from antiphon.testing.host import Gate, Host, Reply
from antiphon.testing.server import Got, Server, running

MODEL = "scripted/scripted-model"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
MOST = 1000
FEW = 3


def body(server: Server, host: Host, more: int) -> Got:
    start = json.dumps({**CHAT, "user": ""}).encode()[:-2]
    return server.post("/chat/completions", start + b"x" * (MOST + more - len(start) - 2) + b'"}')


def file(server: Server, host: Host, more: int) -> Got:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n--b--\r\n'
    )
    head = {"content-type": "multipart/form-data; boundary=b"}
    return server.ask("POST", "/v1/files", form % (b"x" * (MOST + more)), headers=head)


UPLOAD = {"filename": "a", "mime_type": "text/plain", "purpose": "user_data"}


def attach(server: Server, parts: list[dict[str, str]]) -> Got:
    return server.post("/responses", {"model": MODEL, "input": [{"role": "user", "content": parts}]})


def attachments(server: Server, host: Host, more: int) -> Got:
    return attach(server, [{"type": "input_file", "file_data": "SGVsbG8="}] * (FEW + more))


def attachment_bytes(server: Server, host: Host, more: int) -> Got:
    data = [base64.b64encode(b"x" * size).decode() for size in (MOST // 2, MOST // 2 + more)]
    return attach(server, [{"type": "input_file", "file_data": each} for each in data])


def upload(server: Server, host: Host, more: int) -> Got:
    return server.post("/uploads", {**UPLOAD, "bytes": MOST + more})


def part(server: Server, upload_id: str, size: int) -> Got:
    form = b'--b\r\ncontent-disposition: form-data; name="data"; filename="a"\r\n\r\n%b\r\n--b--\r\n' % (b"x" * size)
    head = {"content-type": "multipart/form-data; boundary=b"}
    return server.ask("POST", f"/v1/uploads/{upload_id}/parts", form, headers=head)


def upload_part(server: Server, host: Host, more: int) -> Got:
    return part(server, server.post("/uploads", {**UPLOAD, "bytes": 2 * MOST}).json["id"], MOST + more)


def upload_parts(server: Server, host: Host, more: int) -> Got:
    begun = server.post("/uploads", {**UPLOAD, "bytes": 2 * FEW}).json["id"]
    return [part(server, begun, 1) for _ in range(FEW + more)][-1]


def answer(server: Server, host: Host, more: int) -> Got:
    host.default = sized(MOST + more)
    return server.post("/chat/completions", CHAT)


def answer_for_a_retry(server: Server, host: Host, more: int) -> Got:
    host.default = sized(MOST + more)
    key = {"idempotency-key": f"key-{more}"}
    assert server.post("/chat/completions", CHAT, key).status == 200
    return server.post("/chat/completions", CHAT, key)


def input_items(server: Server, host: Host, more: int) -> Got:
    items = [{"role": "user", "content": "Hi"}] * (FEW + more)
    return server.post("/responses", {"model": MODEL, "input": items})


def tools(server: Server, host: Host, more: int) -> Got:
    given = [{"type": "function", "name": f"f{number}", "parameters": {}} for number in range(FEW + more)]
    return server.post("/responses", {"model": MODEL, "input": "Hi", "tools": given})


def embedding_inputs(server: Server, host: Host, more: int) -> Got:
    return server.post("/embeddings", {"model": MODEL, "input": ["Hi"] * (FEW + more)})


def rerank_documents(server: Server, host: Host, more: int) -> Got:
    return server.post("/rerank", {"model": MODEL, "query": "Hi", "documents": ["Hi"] * (FEW + more)})


def requests_running(server: Server, host: Host, more: int) -> Got:
    """One less than the limit waits for the host, or as many as the limit."""
    gate = Gate()
    waiting = [server.connect() for _ in range(FEW - 1 + more)]
    host.answer(*[Reply(text=["a", gate])] * len(waiting))
    asked = len(host.calls)
    for connection in waiting:
        connection.request("POST", "/v1/completions", json.dumps({"model": MODEL, "prompt": "Hi", "stream": True}))
    host.called(asked + len(waiting))
    got = server.get("/models")
    gate.open()
    for connection in waiting:
        assert connection.getresponse().read()
        connection.close()
    return got


def store_files(server: Server, host: Host, more: int) -> Got:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\na\r\n--b--\r\n'
    )
    head = {"content-type": "multipart/form-data; boundary=b"}
    files = [server.ask("POST", "/v1/files", form, headers=head).json["id"] for _ in range(FEW + more)]
    store = server.post("/vector_stores", {"file_ids": files[1:], "embedding_model": ""}).json["id"]
    return server.post(f"/vector_stores/{store}/files", {"file_id": files[0]})


def inserted_chunks(server: Server, host: Host, more: int) -> Got:
    store = server.post("/vector_stores", {"embedding_model": ""}).json["id"]
    chunks = [{"content": "Hi"}] * (FEW + more)
    return server.post("/vector-io/insert", {"vector_store_id": store, "chunks": chunks})


CASES: dict[str, tuple[Callable[[Server, Host, int], Got], int, int, str]] = {
    "body_bytes_max": (body, MOST, 413, "request_too_large"),
    "file_bytes_max": (file, MOST, 413, "request_too_large"),
    "upload_bytes_max": (upload, MOST, 400, "integer_above_max_value"),
    "upload_part_bytes_max": (upload_part, MOST, 413, "request_too_large"),
    "upload_parts_max": (upload_parts, FEW, 400, "too_many_parts"),
    "answer_bytes_max": (answer, MOST, 502, "upstream_error"),
    "idempotent_answer_bytes_max": (answer_for_a_retry, MOST, 409, "idempotent_answer_too_large"),
    "input_items_max": (input_items, FEW, 400, "array_above_max_length"),
    "attachments_max": (attachments, FEW, 400, "too_many_attachments"),
    "attachments_bytes_max": (attachment_bytes, MOST, 400, "attachments_too_large"),
    "tools_max": (tools, FEW, 400, "array_above_max_length"),
    "embedding_inputs_max": (embedding_inputs, FEW, 400, "array_above_max_length"),
    "rerank_documents_max": (rerank_documents, FEW, 400, "array_above_max_length"),
    "requests_running_max": (requests_running, FEW, 429, "too_many_requests_running"),
    "vector_stores.files_max": (store_files, FEW, 400, "too_many_files"),
    "vector_stores.insert_chunks_max": (inserted_chunks, FEW, 400, "array_above_max_length"),
}


def sized(size: int) -> Reply:
    """A reply whose whole body has so many bytes."""
    return Reply(text="x" * (size - len(Reply(text="x").body("scripted-model")) + 1))


ELSEWHERE = {"socket_bytes_max", "model_calls_max", "tools_at_once"}
"""What is tested in test_sdk_sockets, and in unit/engine/test_dispatch: limits that are no error."""
NAMES = [each for each in Limits.__struct_fields__ if each not in ELSEWHERE] + [name for name in CASES if "." in name]
LIMITS = [(each, each) for each in NAMES]


@pytest.fixture
def limited(request: pytest.FixtureRequest, tmp_path: Path, host: Host) -> Iterator[Server]:
    """A server with one small limit."""
    settings: dict[str, Any] = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}}
    table, _, name = request.param.rpartition(".")
    settings[table or "limits"] = {name: CASES[request.param][1]}
    with running(settings, tmp_path) as started:
        yield started


@pytest.mark.parametrize(("limited", "limit"), LIMITS, indirect=["limited"])
def test_what_is_just_within_a_limit_is_served_and_one_more_is_an_error_with_a_name(
    limited: Server, host: Host, limit: str
) -> None:
    ask, most, status, code = CASES[limit]
    within, beyond = ask(limited, host, 0), ask(limited, host, 1)
    assert within.status == 200, within.body
    assert (beyond.status, beyond.json["error"]["code"]) == (status, code), beyond.body
    assert f" {most} " in beyond.json["error"]["message"]
