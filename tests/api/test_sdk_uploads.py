"""The official client uploads files in parts: chunked, out of order, side by side, cancelled, refused."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing.server import Server

HOUR_S = 3600


def begun(client: openai.OpenAI, size: int, **more: Any) -> Any:
    """A new upload."""
    return client.uploads.create(bytes=size, filename="notes.txt", mime_type="text/plain", purpose="user_data", **more)


def added(client: openai.OpenAI, upload: Any, *contents: bytes) -> list[str]:
    """The ids of new parts."""
    return [client.uploads.parts.create(upload.id, data=content).id for content in contents]


def refused(call: Any, *arguments: Any, **more: Any) -> tuple[int, str | None]:
    """Status and code of a refusal."""
    with pytest.raises(openai.APIStatusError) as caught:
        call(*arguments, **more)
    return caught.value.status_code, caught.value.code


def test_a_file_is_uploaded_in_chunks(client: openai.OpenAI, tmp_path: Path) -> None:
    path, content = tmp_path / "big.bin", os.urandom(1_000_003)
    path.write_bytes(content)
    digest = hashlib.md5(content).hexdigest()
    made = client.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=300_000, md5=digest
    )
    assert (made.status, made.file.filename, made.file.bytes) == ("completed", "big.bin", len(content))
    assert client.files.content(made.file.id).read() == content
    assert client.files.retrieve(made.file.id) == made.file


def test_an_upload_and_a_part_have_every_field_of_openais(client: openai.OpenAI, server: Server) -> None:
    upload = begun(client, 3)
    assert upload.id.startswith("upload_")
    assert upload.model_dump() == {
        "id": upload.id,
        "object": "upload",
        "bytes": 3,
        "created_at": upload.created_at,
        "expires_at": upload.created_at + HOUR_S,
        "filename": "notes.txt",
        "purpose": "user_data",
        "status": "pending",
        "file": None,
    }
    part = client.uploads.parts.create(upload.id, data=b"abc")
    assert part.id.startswith("part_")
    assert (part.object, part.upload_id) == ("upload.part", upload.id)
    made = client.uploads.complete(upload.id, part_ids=[part.id])
    assert made.file is not None
    assert made.model_dump(exclude={"file", "status"}) == upload.model_dump(exclude={"file", "status"})
    assert made.file.id.startswith("file-")


def test_parts_come_side_by_side_and_in_any_order(client: openai.OpenAI) -> None:
    contents = [f"part {number};".encode() for number in range(8)]
    upload = begun(client, sum(map(len, contents)))
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda content: added(client, upload, content)[0], contents[::-1]))[::-1]
    digest = hashlib.md5(b"".join(contents)).hexdigest()
    made = client.uploads.complete(upload.id, part_ids=ids, md5=digest)
    assert made.file is not None
    assert client.files.content(made.file.id).read() == b"".join(contents)


def test_completing_again_or_at_once_gives_the_same_file(client: openai.OpenAI) -> None:
    upload = begun(client, 6)
    ids = added(client, upload, b"abc", b"def")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: client.uploads.complete(upload.id, part_ids=ids), range(4)))
    assert len({each.file.id for each in made if each.file}) == 1
    assert [each.filename for each in client.files.list() if each.id == made[0].file.id] == ["notes.txt"]  # type: ignore[union-attr]


def test_the_file_expires_as_its_upload_was_told(client: openai.OpenAI) -> None:
    upload = begun(client, 0, expires_after={"anchor": "created_at", "seconds": 2 * HOUR_S})
    made = client.uploads.complete(upload.id, part_ids=[])
    assert made.file is not None
    assert made.file.expires_at == made.file.created_at + 2 * HOUR_S


def test_a_wrong_size_part_or_checksum_is_a_clear_refusal_and_can_be_mended(client: openai.OpenAI) -> None:
    upload = begun(client, 6)
    first, second = added(client, upload, b"abc", b"def")
    complete = client.uploads.complete
    assert refused(complete, upload.id, part_ids=[first]) == (400, "size_mismatch")
    assert refused(complete, upload.id, part_ids=[first, "part_unknown"]) == (400, "part_not_found")
    wrong = hashlib.md5(b"other").hexdigest()
    assert refused(complete, upload.id, part_ids=[first, second], md5=wrong) == (400, "checksum_mismatch")
    assert complete(upload.id, part_ids=[first, second]).status == "completed"


def test_a_cancelled_upload_takes_nothing_more(client: openai.OpenAI) -> None:
    upload = begun(client, 3)
    ids = added(client, upload, b"abc")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert refused(client.uploads.parts.create, upload.id, data=b"x") == (400, "upload_cancelled")
    assert refused(client.uploads.complete, upload.id, part_ids=ids) == (400, "upload_cancelled")


def test_an_upload_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    for call, more in (
        (client.uploads.parts.create, {"data": b"x"}),
        (client.uploads.complete, {"part_ids": []}),
        (client.uploads.cancel, {}),
    ):
        assert refused(call, "upload_unknown", **more) == (404, "not_found")


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"bytes": -1}, "bytes"),
        ({"bytes": 8 * 2**30 + 1}, "bytes"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"filename": "a\nb"}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
    ],
)
def test_an_upload_that_cannot_be_is_refused_before_it_begins(
    client: openai.OpenAI, changed: dict[str, Any], param: str
) -> None:
    fields = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "user_data", **changed}
    with pytest.raises(openai.BadRequestError) as caught:
        client.uploads.create(**fields)
    assert caught.value.param == param


def test_a_part_without_bytes_in_its_form_is_refused(client: openai.OpenAI, server: Server) -> None:
    upload = begun(client, 3)
    body = b'--b\r\ncontent-disposition: form-data; name="other"\r\n\r\nabc\r\n--b--\r\n'
    head = {"content-type": "multipart/form-data; boundary=b"}
    got = server.ask("POST", f"/v1/uploads/{upload.id}/parts", body, headers=head)
    assert (got.status, got.json["error"]["param"]) == (400, "data")
