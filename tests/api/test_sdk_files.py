"""The official client drives files: uploads of every kind, lists, bytes, deletion."""

import http.client
import io
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import antiphon
from antiphon.replay.llama_stack import deterministic_id
from antiphon.testing.host import Host
from antiphon.testing.server import Got, Server, running

HOUR_S = 3600
SMALL_MAX = 100_000
PURPOSES: list[Any] = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


@pytest.fixture(scope="module")
def small(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server that takes small files only, and the folder in which it keeps them."""
    settings = {"hosts": {"scripted": {"base_url": session_host.url}}, "limits": {"file_bytes_max": SMALL_MAX}}
    folder = tmp_path_factory.mktemp("small")
    with running(settings, folder) as started:
        yield started, folder / "data" / "files"


def form(*parts: tuple[str, bytes], boundary: str = "b", end: bool = True) -> bytes:
    """A multipart body of parts, each given by the parameters of its disposition."""
    lines = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (boundary.encode(), head.encode(), body)
        for head, body in parts
    ]
    return b"".join(lines) + (b"--%b--\r\n" % boundary.encode() if end else b"")


def upload(server: Server, body: bytes, content_type: str = "multipart/form-data; boundary=b") -> Got:
    """A POST of a form."""
    return server.ask("POST", "/v1/files", body, headers={"content-type": content_type})


def until(server: Server, true: Callable[[], Any]) -> None:
    """Lets the server work until something is true."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        server.get("/version")


FILE = ('name="file"; filename="a.txt"', b"abc")
EVALS = ('name="purpose"', b"evals")


# ---------------------------------------------------------------- uploads


def test_bytes_paths_streams_and_tuples_are_uploaded(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"from a path")
    with path.open("rb") as opened:
        made = [
            client.files.create(file=b"just bytes", purpose="user_data"),
            client.files.create(file=path, purpose="user_data"),
            client.files.create(file=opened, purpose="user_data"),
            client.files.create(file=("t.jsonl", io.BytesIO(b"{}\n"), "application/jsonl"), purpose="user_data"),
        ]
    assert [each.filename for each in made] == ["upload", "notes.txt", "notes.txt", "t.jsonl"]
    assert [each.bytes for each in made] == [10, 11, 11, 3]
    contents = [client.files.content(each.id).read() for each in made]
    assert contents == [b"just bytes", b"from a path", b"from a path", b"{}\n"]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_file_has_every_field_of_openais(client: openai.OpenAI, server: Server, purpose: Any) -> None:
    made = client.files.create(file=("a.txt", b"abc"), purpose=purpose)
    shown = server.get(f"/files/{made.id}").json
    assert shown == {
        "id": made.id,
        "object": "file",
        "bytes": 3,
        "created_at": made.created_at,
        "expires_at": made.created_at + 30 * 24 * HOUR_S if purpose == "batch" else None,
        "filename": "a.txt",
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    assert made.id.startswith("file-")
    assert client.files.retrieve(made.id) == made
    assert client.files.wait_for_processing(made.id) == made


def test_a_large_file_comes_back_whole(client: openai.OpenAI) -> None:
    content = os.urandom(7_000_001)
    made = client.files.create(file=content, purpose="user_data")
    assert made.bytes == len(content)
    assert client.files.content(made.id).read() == content


def test_an_empty_file_is_kept(client: openai.OpenAI) -> None:
    made = client.files.create(file=("empty", b""), purpose="user_data")
    assert (made.bytes, client.files.content(made.id).read()) == (0, b"")


def test_expiry_is_told_in_either_form(client: openai.OpenAI, server: Server) -> None:
    made = client.files.create(file=b"x", purpose="evals", expires_after={"anchor": "created_at", "seconds": HOUR_S})
    assert made.expires_at == made.created_at + HOUR_S
    as_json = ('name="expires_after"', json.dumps({"anchor": "created_at", "seconds": 2_592_000}).encode())
    got = upload(server, form(EVALS, FILE, as_json))
    assert got.json["expires_at"] == got.json["created_at"] + 2_592_000


@pytest.mark.parametrize(
    ("anchor", "seconds", "param"),
    [
        ("created_at", HOUR_S - 1, "expires_after.seconds"),
        ("created_at", 2_592_001, "expires_after.seconds"),
        ("created_at", "soon", "expires_after.seconds"),
        ("last_active_at", HOUR_S, "expires_after.anchor"),
    ],
)
def test_limits_of_expiry_are_refused(client: openai.OpenAI, anchor: Any, seconds: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=b"x", purpose="evals", expires_after={"anchor": anchor, "seconds": seconds})
    assert refused.value.param == param


# ---------------------------------------------------------------- forms


def test_fields_may_stand_before_or_after_the_file(server: Server) -> None:
    seconds = [('name="expires_after[anchor]"', b"created_at"), ('name="expires_after[seconds]"', b"3600")]
    for parts in ([EVALS, *seconds, FILE], [FILE, *seconds, EVALS], [seconds[1], FILE, EVALS, seconds[0]]):
        got = upload(server, form(*parts))
        assert (got.status, got.json["bytes"], got.json["purpose"]) == (200, 3, "evals")
        assert got.json["expires_at"] == got.json["created_at"] + HOUR_S


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("ünïcödé 文.txt", "ünïcödé 文.txt"),
        ('quo"te.txt', 'quo"te.txt'),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("100%.txt", "100%.txt"),
        ("a" * 255, "a" * 255),
    ],
)
def test_names_of_files_are_kept_without_their_folders(client: openai.OpenAI, sent: str, kept: str) -> None:
    made = client.files.create(file=(sent, b"x"), purpose="evals")
    assert made.filename == kept
    head = client.files.content(made.id).response.headers
    assert head["content-type"] == "application/octet-stream"
    assert head["content-disposition"].startswith('attachment; filename="')
    assert head["content-disposition"].isascii()
    assert "/" not in head["content-disposition"]
    assert "\\" not in head["content-disposition"]


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([FILE], "purpose"),
        ([EVALS], "file"),
        ([], "file"),
        ([FILE, FILE, EVALS], "file"),
        ([FILE, EVALS, EVALS], "purpose"),
        ([FILE, ('name="purpose"', b"fun")], "purpose"),
        ([FILE, ('name="purpose"', b"batch_output")], "purpose"),
        ([FILE, ('name="purpose"', b"\xff")], "purpose"),
        ([FILE, ('name="purpose"', b"x" * 9000)], "purpose"),
        ([FILE, EVALS, *((f'name="f{n}"', b"") for n in range(17))], None),
        ([FILE, EVALS, ("filename=x", b"")], None),
        ([FILE, EVALS, ('name="expires_after"', b"{")], "expires_after"),
        ([FILE, EVALS, ('name="expires_after"', b"7")], "expires_after"),
        ([FILE, EVALS, ('name="expires_after[seconds]"', b"3600")], "expires_after.anchor"),
        ([('name="file"; filename=".."', b"x"), EVALS], "file"),
        ([('name="file"; filename="a\x07b"', b"x"), EVALS], "file"),
        ([('name="file"; filename="%s"' % ("a" * 256), b"x"), EVALS], "file"),
    ],
)
def test_forms_that_make_no_sense_are_refused_and_keep_nothing(
    small: tuple[Server, Path], parts: Any, param: str | None
) -> None:
    server, folder = small
    before = sorted(folder.glob("*"))
    got = upload(server, form(*parts))
    assert got.status == 400, got.body
    assert got.json["error"]["param"] == param
    assert sorted(folder.glob("*")) == before


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(FILE, EVALS, end=False), "multipart/form-data; boundary=b"),
        (form(FILE, EVALS), "multipart/form-data; boundary=other"),
        (form(FILE, EVALS), "multipart/form-data"),
        (form(FILE, EVALS), "multipart/form-data; boundary=" + "b" * 300),
        (b"{}", "application/json"),
        (b"", "multipart/form-data; boundary=b"),
        (b"\x00\xff nonsense", "multipart/form-data; boundary=b"),
        (b"--b\r\n" + b"X-Header: x\r\n" * 20, "multipart/form-data; boundary=b"),
    ],
)
def test_bodies_that_are_no_form_are_refused(server: Server, body: bytes, content_type: str) -> None:
    got = upload(server, body, content_type)
    assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error")


def test_unknown_fields_are_reported(server: Server) -> None:
    got = upload(server, form(FILE, EVALS, ('name="colour"', b"red")))
    assert (got.status, got.headers["x-antiphon-warnings"]) == (200, "unknown field: colour")


# ---------------------------------------------------------------- size


@pytest.mark.parametrize("size", [SMALL_MAX + 1, SMALL_MAX * 30])
def test_a_file_over_the_limit_is_refused_and_nothing_is_kept(small: tuple[Server, Path], size: int) -> None:
    server, folder = small
    before = sorted(folder.glob("*"))
    with server.client() as client, pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=b"x" * size, purpose="evals")
    assert refused.value.status_code == 413
    assert sorted(folder.glob("*")) == before


def test_a_file_of_exactly_the_limit_is_taken(small: tuple[Server, Path]) -> None:
    with small[0].client() as client:
        assert client.files.create(file=b"x" * SMALL_MAX, purpose="evals").bytes == SMALL_MAX


def test_an_upload_without_announced_length_is_limited_as_well(small: tuple[Server, Path]) -> None:
    connection = small[0].connect()
    body = form(EVALS, ('name="file"; filename="a"', b"x" * 2 * SMALL_MAX))
    head = {"content-type": "multipart/form-data; boundary=b", "transfer-encoding": "chunked"}
    connection.request("POST", "/v1/files", iter([body]), head, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_an_upload_that_breaks_off_keeps_nothing(small: tuple[Server, Path]) -> None:
    server, folder = small
    before = sorted(folder.glob("*"))
    host, _, port = server.root.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as leaving:
        body = form(EVALS, FILE)
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        leaving.sendall(head.encode() + b"content-type: multipart/form-data; boundary=b\r\n\r\n" + body[:-9])
        until(server, lambda: list(folder.glob("*.part")))
    until(server, lambda: not list(folder.glob("*.part")))
    assert sorted(folder.glob("*")) == before


# ---------------------------------------------------------------- reading and deleting


def test_lists_page_filter_and_order(small: tuple[Server, Path]) -> None:
    with small[0].client() as client:
        for file in client.files.list():
            client.files.delete(file.id)
        made = [client.files.create(file=b"x", purpose=purpose).id for purpose in PURPOSES]
        assert [each.id for each in client.files.list(order="asc", limit=2)] == made
        assert [each.id for each in client.files.list()] == made[::-1]
        page = client.files.list(limit=4, order="asc")
        assert ([each.id for each in page.data], page.has_more) == (made[:4], True)
        rest = client.files.list(limit=4, order="asc", after=made[3])
        assert ([each.id for each in rest.data], rest.has_more) == (made[4:], False)
        assert [each.id for each in client.files.list(purpose="vision")] == [made[3]]
    listed = small[0].get("/files?limit=10000").json
    assert (listed["object"], listed["first_id"], listed["last_id"]) == ("list", made[-1], made[0])


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "order=up", "after=file-unknown"])
def test_queries_that_make_no_sense_are_refused(server: Server, query: str) -> None:
    got = server.get(f"/files?{query}")
    assert (got.status, got.json["error"]["param"]) == (400, query.partition("=")[0])


def test_a_deleted_file_is_gone_with_its_bytes(small: tuple[Server, Path]) -> None:
    server, folder = small
    with server.client() as client:
        before = len(list(folder.glob("*")))
        made = client.files.create(file=b"x", purpose="evals")
        assert len(list(folder.glob("*"))) == before + 1
        deleted = client.files.delete(made.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "file", True)
        assert len(list(folder.glob("*"))) == before
        for refusal in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                refusal(made.id)


def test_head_tells_the_size_without_the_bytes(client: openai.OpenAI, server: Server) -> None:
    made = client.files.create(file=b"x" * 5000, purpose="evals")
    got = server.ask("HEAD", f"/v1/files/{made.id}/content")
    assert (got.status, got.headers["content-length"], got.body) == (200, "5000", b"")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=2999990-", 2_999_990, 3_000_000), ("bytes=-5", 2_999_995, 3_000_000)],
)
def test_a_range_of_a_file_is_sent(client: openai.OpenAI, server: Server, asked: str, start: int, end: int) -> None:
    content = os.urandom(3_000_000)
    made = client.files.create(file=content, purpose="evals")
    got = server.ask("GET", f"/v1/files/{made.id}/content", headers={"range": asked})
    assert (got.status, got.body) == (206, content[start:end])
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/3000000"
    assert got.headers["content-length"] == str(end - start)


def test_a_range_outside_the_file_is_refused_with_its_size(client: openai.OpenAI, server: Server) -> None:
    made = client.files.create(file=b"abc", purpose="evals")
    got = server.ask("GET", f"/v1/files/{made.id}/content", headers={"range": "bytes=3-"})
    assert (got.status, got.headers["content-range"]) == (416, "bytes */3")
    assert got.json["error"]["code"] == "range_not_satisfiable"


def test_several_ranges_are_answered_with_the_whole_file(client: openai.OpenAI, server: Server) -> None:
    made = client.files.create(file=b"abcdef", purpose="evals")
    got = server.ask("GET", f"/v1/files/{made.id}/content", headers={"range": "bytes=0-1,3-4"})
    assert (got.status, got.body, got.headers["accept-ranges"]) == (200, b"abcdef", "bytes")


def test_a_file_that_is_deleted_while_it_is_sent_is_sent_whole(client: openai.OpenAI, server: Server) -> None:
    content = os.urandom(20_000_000)
    made = client.files.create(file=content, purpose="evals")
    connection = server.connect()
    connection.request("GET", f"/v1/files/{made.id}/content")
    answer: http.client.HTTPResponse = connection.getresponse()
    start = answer.read(1000)
    client.files.delete(made.id)
    assert start + answer.read() == content
    connection.close()


def test_the_old_address_serves_files_too(client: openai.OpenAI, server: Server) -> None:
    made = client.files.create(file=b"x", purpose="evals")
    assert server.ask("GET", f"/v1/openai/v1/files/{made.id}").json["id"] == made.id


# ---------------------------------------------------------------- a life beyond one request


def test_a_kill_in_the_middle_leaves_neither_file_nor_bytes(host: Host, tmp_path: Path) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url}}}
    folder = tmp_path / "data" / "files"
    with running(settings, tmp_path, process=True) as server:
        kept = server.client().files.create(file=b"acknowledged", purpose="user_data")
        place = server.root.removeprefix("http://").partition(":")
        with socket.create_connection((place[0], int(place[2]))) as uploading:
            body = form(EVALS, ('name="file"; filename="a"', b"x" * 3_000_000))
            head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
            uploading.sendall(head.encode() + b"content-type: multipart/form-data; boundary=b\r\n\r\n" + body[:-9])
            until(server, lambda: any(part.stat().st_size for part in folder.glob("*.part")))
            server.kill()
    assert len(list(folder.glob("*"))) == 2
    with running(settings, tmp_path, process=True) as server:
        client = server.client()
        assert [each.id for each in client.files.list()] == [kept.id]
        assert client.files.content(kept.id).read() == b"acknowledged"
        until(server, lambda: not list(folder.glob("*.part")))
        assert len(list(folder.glob("*"))) == 1


def test_replayed_files_have_the_ids_of_their_tests(tmp_path: Path) -> None:
    test_id = "tests/integration/responses/test_tool_responses.py::test_x"
    data = {"X-LlamaStack-Provider-Data": json.dumps({"__test_id": test_id})}
    settings = {"mode": "replay", "recordings": str(Path(antiphon.__file__).parent / "recordings")}
    ids = []
    for start in ("one", "two"):
        with running(settings, tmp_path / start) as server:
            client = server.client()
            made = [client.files.create(file=b"a", purpose="user_data", extra_headers=data).id for _ in range(2)]
            assert made == [deterministic_id("file", test_id, 1), deterministic_id("file", test_id, 2)]
            ids.append([client.files.create(file=content, purpose="user_data").id for content in (b"a", b"a", b"b")])
            assert client.files.content(ids[-1][2]).read() == b"b"
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3
    assert not (tmp_path / "one" / "data" / "files").exists()
