"""Attachments: what a host is given instead of ids and URLs, and what stays as the client sent it."""

import base64
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from antiphon.engine.attachments import Asking, Attachments, image_type
from antiphon.engine.compact import as_sent, compacted, continued, opened
from antiphon.errors import ApiError, InvalidRequest, NotFound
from antiphon.exchange import NO_REPLAY
from antiphon.models.base import ModelRequest
from antiphon.presets import Quirks
from antiphon.testing.blobs_suite import pieces
from antiphon.wire.files import File
from antiphon.wire.items import decode_items

PNG = b"\x89PNG\r\n\x1a\n....."
PNG_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
TEXT_URL = f"data:text/plain;base64,{base64.b64encode(b'Hello').decode()}"
PLAIN = Quirks(images=True, image_urls=False, files=False)
ABLE = Quirks(images=True, image_urls=True, files=True)


@pytest.fixture
async def attachments(bench: Callable[..., Any]) -> Attachments:
    """Two files of ours, a page on the web."""
    made: Attachments = bench().engine.attachments
    for id, name, content in (("file-text", "notes.md", b"Hello"), ("file-png", "a.bin", PNG)):
        await made.files.create("me", pieces(content), file(id, name))
    made.fetcher._transport.pages = {"https://x.example/a.png": PNG, "https://x.example/b": b"Page"}  # type: ignore[attr-defined]
    return made


def file(id: str, name: str) -> Callable[[int], File]:
    return lambda size: File(id=id, bytes=size, created_at=1, filename=name, purpose="user_data")


def asking(quirks: Quirks = PLAIN, owner: str = "me", **more: Any) -> Asking:
    return Asking(owner=owner, quirks=quirks, replay=NO_REPLAY, **more)


def request_of(*parts: dict[str, Any]) -> ModelRequest:
    items = [{"type": "message", "id": "msg_1", "role": "user", "content": list(parts)}]
    return ModelRequest(model="m", items=decode_items(msgspec.json.encode(items)))


async def shown(attachments: Attachments, part: dict[str, Any], quirks: Quirks = PLAIN) -> dict[str, Any]:
    """What becomes of a part."""
    filled = await attachments.filled(request_of(part), asking(quirks))
    return msgspec.to_builtins(filled.items[0])["content"][0]  # type: ignore[no-any-return]


def image(**more: Any) -> dict[str, Any]:
    return {"type": "input_image", **more}


def document(**more: Any) -> dict[str, Any]:
    return {"type": "input_file", **more}


@pytest.mark.parametrize(
    ("part", "quirks", "expected"),
    [
        (image(file_id="file-png"), PLAIN, image(image_url=PNG_URL)),
        (image(file_id="file-png", detail="low"), ABLE, image(image_url=PNG_URL, detail="low")),
        (image(image_url="https://x.example/a.png"), PLAIN, image(image_url=PNG_URL)),
        (document(file_id="file-text"), PLAIN, {"type": "input_text", "text": "[notes.md] Hello"}),
        (document(file_data=TEXT_URL), PLAIN, {"type": "input_text", "text": "[file.txt] Hello"}),
        (document(file_data="SGVsbG8=", filename="a.md"), PLAIN, {"type": "input_text", "text": "[a.md] Hello"}),
        (document(file_data="data:text/x,a%20b", filename="a"), PLAIN, {"type": "input_text", "text": "[a] a b"}),
        (document(file_url="https://x.example/b"), PLAIN, {"type": "input_text", "text": "[b] Page"}),
        (document(file_id="file-png"), PLAIN, image(image_url=PNG_URL)),
        (
            document(file_id="file-text", detail="low"),
            ABLE,
            document(file_data=TEXT_URL.replace("plain", "markdown"), filename="notes.md", detail="low"),
        ),
    ],
)
async def test_a_host_is_given_what_it_takes(
    attachments: Attachments, part: dict[str, Any], quirks: Quirks, expected: dict[str, Any]
) -> None:
    assert await shown(attachments, part, quirks) == expected


@pytest.mark.parametrize(
    ("part", "quirks"),
    [
        (image(image_url="https://elsewhere.example/a.png"), ABLE),
        (image(image_url=PNG_URL), PLAIN),
        (document(file_data="anything"), ABLE),
        (image(file_id="file-missing"), Quirks(images=False)),
        ({"type": "input_text", "text": "Hi"}, PLAIN),
    ],
)
async def test_what_the_host_takes_as_it_is_stays_the_very_same(
    attachments: Attachments, part: dict[str, Any], quirks: Quirks
) -> None:
    request = request_of(part)
    assert await attachments.filled(request, asking(quirks)) is request


@pytest.mark.parametrize(
    ("part", "kind", "code"),
    [
        (image(file_id="file-missing"), NotFound, "file_not_found"),
        (document(file_id="file-missing"), NotFound, "file_not_found"),
        (image(file_id="file-text"), InvalidRequest, "invalid_image"),
        (image(image_url="https://x.example/b"), InvalidRequest, "invalid_image"),
        (image(image_url="https://x.example/gone"), InvalidRequest, "url_not_fetched"),
        (image(image_url="http://169.254.169.254/latest"), InvalidRequest, "url_not_allowed"),
        (image(image_url="file:///etc/passwd"), InvalidRequest, "invalid_url"),
        (document(file_url="http://localhost@x/"), InvalidRequest, "invalid_url"),
        (document(file_data="?"), InvalidRequest, "invalid_file_data"),
        (document(file_data="JWJyb2tlbg=="), InvalidRequest, "invalid_file"),
        (document(file_data="data:,"), InvalidRequest, "file_without_text"),
    ],
)
async def test_what_cannot_be_shown_is_named_with_its_place(
    attachments: Attachments, part: dict[str, Any], kind: type[ApiError], code: str
) -> None:
    for places, at in (({"msg_1": "input[3]"}, "input[3].content[1]"), ({}, "input")):
        with pytest.raises(kind) as caught:
            await attachments.filled(request_of({"type": "input_text", "text": ""}, part), asking(places=places))
        assert (caught.value.code, caught.value.param) == (code, at)


async def test_nobody_is_shown_the_files_of_others_or_those_deleted(attachments: Attachments) -> None:
    request = request_of(document(file_id="file-text"))
    with pytest.raises(NotFound):
        await attachments.filled(request, asking(owner="them"))
    await attachments.filled(request, asking())
    await attachments.files.delete("me", "file-text")
    with pytest.raises(NotFound):
        await attachments.filled(request, asking())


async def test_a_file_is_read_once_however_often_it_is_shown(attachments: Attachments) -> None:
    for _ in range(3):
        await shown(attachments, document(file_id="file-text"))
    assert attachments._reader.read == ["notes.md"]  # type: ignore[attr-defined]


async def test_outputs_of_calls_have_attachments_too(attachments: Attachments) -> None:
    given = [
        {"type": "function_call_output", "id": "a", "call_id": "1", "output": [image(file_id="file-png")]},
        {"type": "custom_tool_call_output", "id": "b", "call_id": "2", "output": [document(file_id="file-text")]},
        {
            "type": "computer_call_output",
            "id": "c",
            "call_id": "3",
            "output": {"type": "computer_screenshot", "file_id": "file-png"},
        },
        {"type": "function_call_output", "id": "d", "call_id": "4", "output": "text"},
    ]
    request = ModelRequest(model="m", items=decode_items(msgspec.json.encode(given)))
    filled = await attachments.filled(request, asking())
    outputs = [msgspec.to_builtins(item)["output"] for item in filled.items]
    assert outputs == [
        [image(image_url=PNG_URL)],
        [{"type": "input_text", "text": "[notes.md] Hello"}],
        {"type": "computer_screenshot", "image_url": PNG_URL},
        "text",
    ]
    assert list(filled.as_sent) == ["a", "b", "c"]
    assert as_sent(filled, filled.items) == list(request.items)


async def test_a_compacted_context_holds_ids_and_no_contents(
    bench: Callable[..., Any], attachments: Attachments
) -> None:
    made = bench()
    made.engine.attachments.files = attachments.files
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    run = await made.prepared(input=[*said, {"role": "user", "content": [document(file_id="file-text")]}])
    sealed = compacted(run, "A summary.", made.engine.sealer).encrypted_content
    (kept,) = opened(sealed, made.engine.sealer, "input").items
    assert msgspec.to_builtins(kept)["content"] == [document(file_id="file-text")]
    shown_again = continued(run.request, sealed, made.engine.sealer).items[-1]
    assert msgspec.to_builtins(shown_again)["content"] == [{"type": "input_text", "text": "[notes.md] Hello"}]
    assert msgspec.to_builtins(run.input[-1])["content"] == [document(file_id="file-text")]


# ---------------------------------------------------------------- chat


def chat(*parts: Any) -> bytes:
    return msgspec.json.encode([{"role": "system", "content": "Be brief."}, {"role": "user", "content": list(parts)}])


async def test_parts_of_chat_messages_are_filled_in_and_all_else_stays(attachments: Attachments) -> None:
    odd = [{"type": "file", "file": {}}, {"type": "image_url", "image_url": "x"}, {"type": "other", "file": 1}]
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}}
    sent = chat({"type": "file", "file": {"file_id": "file-text"}}, picture, *odd)
    filled = await attachments.filled_chat(sent, asking())
    assert filled is not None
    assert msgspec.json.decode(filled)[1]["content"] == [
        {"type": "text", "text": "[notes.md] Hello"},
        {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "low"}},
        *odd,
    ]
    able = await attachments.filled_chat(sent, asking(ABLE))
    assert able is not None
    data = TEXT_URL.replace("plain", "markdown")
    file_part = {"type": "file", "file": {"filename": "notes.md", "file_data": data}}
    assert msgspec.json.decode(able)[1]["content"] == [file_part, picture, *odd]


@pytest.mark.parametrize(
    "messages",
    [
        b'[ {"role":"user","content":"a \\"file\\" and an \\"image_url\\""} ]',
        b'[{"role":"user","content":[{"type":"file","file":{"file_data":"x"}}]}]',
        b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://y.example/"}}]}]',
        b'[{"role":"user","content":"Hi"}]',
    ],
)
async def test_chat_messages_that_a_host_takes_are_not_touched(attachments: Attachments, messages: bytes) -> None:
    assert await attachments.filled_chat(messages, asking(ABLE)) is None


async def test_a_chat_part_that_cannot_be_shown_is_named_with_its_place(attachments: Attachments) -> None:
    with pytest.raises(NotFound) as caught:
        await attachments.filled_chat(chat("x", {"type": "file", "file": {"file_id": "file-no"}}), asking())
    assert caught.value.param == "messages[1].content[1]"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x0a\x0d\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF....WAVE", None),
        (b"<svg>", None),
        (b"", None),
    ],
)
def test_an_image_is_known_by_its_beginning(content: bytes, kind: str | None) -> None:
    assert image_type(content) == kind
