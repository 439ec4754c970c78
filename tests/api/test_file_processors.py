"""`POST /v1alpha/file-processors/process`: a file is read and cut, and nothing is kept."""

import json

import pytest

import made_files as made

PATH = "/v1alpha/file-processors/process"
STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}


def form(content=None, filename="a.txt", **fields):
    """A multipart body, its file first, and the header that belongs to it."""
    parts = [] if content is None else [(f'name="file"; filename="{filename}"', content)]
    parts += [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    body = b"".join(
        b"--b\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), value) for head, value in parts
    )
    return body + b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


def process(server, *given, **fields):
    body, headers = form(*given, **fields)
    return server.ask("POST", PATH, body, headers=headers)


def test_without_a_strategy_a_file_is_one_chunk(server):
    got = process(server, made.pdf(["Hello"], ["world"]), "test.pdf")
    [chunk] = got.json["chunks"]

    assert got.status == 200
    assert chunk["content"] == "Hello\n\nworld"
    assert chunk["metadata"] | {"document_id": ""} == {
        "document_id": "",
        "filename": "test.pdf",
        "chunk_index": 0,
        "page": 1,
    }
    assert chunk["chunk_metadata"]["chunk_id"] == chunk["chunk_id"]
    assert chunk["chunk_metadata"]["document_id"] == chunk["metadata"]["document_id"]
    assert chunk["chunk_metadata"]["content_token_count"] == 3
    assert got.json["metadata"]["page_count"] == 2
    assert got.json["metadata"]["processing_time_ms"] >= 0


@pytest.mark.parametrize("strategy", [STATIC, {"type": "structured", "structured": {"max_chunk_size_tokens": 100}}])
def test_with_a_strategy_it_is_cut(server, strategy):
    text = "# Head\n\n" + "\n\n".join(f"Paragraph {number} of many." for number in range(60))
    chunks = process(server, text.encode(), "a.md", chunking_strategy=json.dumps(strategy)).json["chunks"]

    assert len({chunk["chunk_id"] for chunk in chunks}) == len(chunks) > 1
    assert all(0 < chunk["chunk_metadata"]["content_token_count"] <= 100 for chunk in chunks)
    assert all(chunk["metadata"]["heading"] == "Head" for chunk in chunks)


def test_a_file_that_was_uploaded_is_read_by_its_id(server):
    body, headers = form(b"Some text", purpose="user_data")
    id = server.ask("POST", "/v1/files", body, headers=headers).json["id"]
    asked = [
        process(server, file_id=id, chunking_strategy='{"type": "auto"}'),
        server.ask("POST", PATH, {"file_id": id, "chunking_strategy": {"type": "auto"}}),
        server.ask(
            "POST", PATH, f"file_id={id}".encode(), headers={"content-type": "application/x-www-form-urlencoded"}
        ),
    ]

    for got in asked:
        assert got.status == 200, got.body
        [chunk] = got.json["chunks"]
        assert (chunk["content"], chunk["metadata"]["document_id"]) == ("Some text", id)
        assert chunk["chunk_id"] == asked[0].json["chunks"][0]["chunk_id"]


@pytest.mark.parametrize(
    ("content", "fields", "code", "said"),
    [
        (None, {}, "invalid_value", "got neither"),
        (b"x", {"file_id": "file-1"}, "invalid_value", "got both"),
        (b"x", {"chunking_strategy": "{"}, "invalid_json", "chunking_strategy"),
        (b"x", {"chunking_strategy": '{"type": "other"}'}, "invalid_value", "chunking_strategy"),
        (b"", {}, "invalid_file", "0 bytes"),
        (made.png(), {}, "unsupported_file", "a picture (PNG)"),
        (made.pdf(["secret"], encrypt=True), {}, "invalid_file", "encrypted"),
    ],
)
def test_what_cannot_be_processed_is_a_400_that_says_why(server, content, fields, code, said):
    got = process(server, content, **fields)

    assert (got.status, got.json["error"]["code"]) == (400, code)
    assert said in got.json["error"]["message"]


def test_an_unknown_file_is_a_404(server):
    assert server.ask("POST", PATH, {"file_id": "file-1"}).status == 404


def test_what_is_not_used_is_said(server):
    got = process(server, b"x", options='{"ocr": true}', colour="red")

    assert got.status == 200
    assert got.headers["x-antiphon-warnings"] == "unknown field: colour; options are not used"
