"""The official client sends files and images: by id, as data, by URL, to hosts that take them or do not."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

from antiphon.testing.host import Host
from antiphon.testing.server import Server, running, until

PLAIN, ABLE = "plain/scripted-model", "able/scripted-model"
PNG = b"\x89PNG\r\n\x1a\nand so on"
PNG_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
SHOWN = '<file name="{}">\n{}\n</file>'


def pdf(text: str) -> bytes:
    """One page that says so."""
    drawn = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    content, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(content)
    return content + b"xref\n0 6\n0000000000 65535 f \n" + table + end


@contextmanager
def site(pages: dict[str, bytes]) -> Iterator[str]:
    """A web server on loopback with these pages."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = pages.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with site({"/a.png": PNG, "/notes.md": b"From the web.", "/big": b"x" * 200_001}) as url:
        yield url


@pytest.fixture(scope="module")
def inputs(session_host: Host, web: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in front of one host under two names: one takes text and inline images, the other everything."""
    settings = {
        "hosts": {
            "plain": {"base_url": session_host.url, "preset": "custom", "quirks": {"image_urls": False}},
            "able": {"base_url": session_host.url, "preset": "custom", "quirks": {"files": True}},
        },
        "fetch": {"allowed_networks": ["127.0.0.1/32"], "ports": [], "bytes_max": 200_000},
    }
    with running(settings, tmp_path_factory.mktemp("inputs")) as started:
        yield started


@pytest.fixture
def client(inputs: Server, host: Host) -> Iterator[openai.OpenAI]:
    with inputs.client() as opened:
        yield opened


def uploaded(client: openai.OpenAI, name: str, content: bytes) -> str:
    return client.files.create(file=(name, content), purpose="user_data").id


def user(*parts: dict[str, Any]) -> Any:
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": "What is it?"}]}]


def seen(host: Host, message: int = 0) -> Any:
    """The content of a message in the last request to the host."""
    return host.calls[-1].json["messages"][message]["content"]


def texts(*said: str) -> list[dict[str, str]]:
    """As parts of a chat message."""
    return [{"type": "text", "text": text} for text in said]


def refused(call: Any, **arguments: Any) -> tuple[int, str | None]:
    with pytest.raises(openai.APIStatusError) as caught:
        call(**arguments)
    return caught.value.status_code, caught.value.code


# ---------------------------------------------------------------- responses


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("notes.txt", "The sea is gr\u00fcn.".encode(), "The sea is gr\u00fcn."),
        ("report.pdf", pdf("The report says 42."), "The report says 42."),
    ],
)
def test_a_file_becomes_text_for_a_model_that_takes_none(
    client: openai.OpenAI, host: Host, name: str, content: bytes, text: str
) -> None:
    file_id = uploaded(client, name, content)
    client.responses.create(model=PLAIN, input=user({"type": "input_file", "file_id": file_id}))
    assert seen(host) == texts(SHOWN.format(name, text), "What is it?")


def test_a_file_is_data_for_a_model_that_takes_files(client: openai.OpenAI, host: Host) -> None:
    content = pdf("x")
    data = f"data:application/pdf;base64,{base64.b64encode(content).decode()}"
    file_id = uploaded(client, "report.pdf", content)
    client.responses.create(model=ABLE, input=user({"type": "input_file", "file_id": file_id}))
    assert seen(host)[0] == {"type": "file", "file": {"filename": "report.pdf", "file_data": data}}


def test_a_file_comes_as_data_or_from_a_url_as_well(client: openai.OpenAI, host: Host, web: str) -> None:
    inline = base64.b64encode(b"Inline.").decode()
    parts: list[dict[str, Any]] = [
        {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;base64,{inline}"},
        {"type": "input_file", "file_url": f"{web}/notes.md"},
    ]
    client.responses.create(model=PLAIN, input=user(*parts))
    shown = (SHOWN.format("a.txt", "Inline."), SHOWN.format("notes.md", "From the web."), "What is it?")
    assert seen(host) == texts(*shown)


def test_an_image_is_data_for_a_model_whose_host_fetches_none(client: openai.OpenAI, host: Host, web: str) -> None:
    file_id = uploaded(client, "a.png", PNG)
    by_url = {"type": "input_image", "image_url": f"{web}/a.png", "detail": "low"}
    by_id = {"type": "input_image", "file_id": file_id, "detail": "auto"}
    client.responses.create(model=PLAIN, input=user(by_url, by_id))
    assert [part.get("image_url", {}).get("url") for part in seen(host)] == [PNG_URL, PNG_URL, None]
    client.responses.create(model=ABLE, input=user(by_url, by_id))
    assert [part.get("image_url", {}).get("url") for part in seen(host)] == [f"{web}/a.png", PNG_URL, None]


def test_what_was_sent_is_stored_as_it_was_sent(client: openai.OpenAI, host: Host) -> None:
    file_id = uploaded(client, "notes.txt", b"Secret.")
    made = client.responses.create(model=PLAIN, input=user({"type": "input_file", "file_id": file_id}))
    (item,) = client.responses.input_items.list(made.id).data
    assert item.to_dict()["content"][0] == {"type": "input_file", "file_id": file_id}  # type: ignore[index]
    client.responses.create(model=ABLE, input="Again", previous_response_id=made.id)
    assert seen(host)[0]["file"]["filename"] == "notes.txt"


@pytest.mark.parametrize("stream", [False, True])
def test_a_deleted_file_reaches_no_model_any_more(client: openai.OpenAI, host: Host, stream: bool) -> None:
    file_id = uploaded(client, "notes.txt", b"Secret.")
    conversation = client.conversations.create().id
    part = {"type": "input_file", "file_id": file_id}
    made = client.responses.create(model=PLAIN, input=user(part))
    client.responses.create(model=PLAIN, input=user(part), conversation=conversation)
    client.files.delete(file_id)
    asked = len(host.calls)
    create, again = client.responses.create, {"model": PLAIN, "input": "Again", "stream": stream}
    assert refused(create, **again, previous_response_id=made.id) == (404, "file_not_found")
    assert refused(create, **again, conversation=conversation) == (404, "file_not_found")
    assert len(host.calls) == asked
    client.conversations.items.create(conversation, items=[{"role": "user", "content": "Still usable"}])


def test_a_file_is_shown_in_the_background(client: openai.OpenAI, host: Host) -> None:
    file_id = uploaded(client, "notes.txt", b"Quiet.")
    made = client.responses.create(model=PLAIN, input=user({"type": "input_file", "file_id": file_id}), background=True)
    until(lambda: client.responses.retrieve(made.id).status, lambda status: status == "completed")
    assert seen(host) == texts(SHOWN.format("notes.txt", "Quiet."), "What is it?")


def test_tokens_of_files_are_counted(client: openai.OpenAI, inputs: Server) -> None:
    file_id = uploaded(client, "notes.txt", b"word " * 500)
    counted = client.responses.input_tokens.count(model=PLAIN, input=user({"type": "input_file", "file_id": file_id}))
    assert 500 <= counted.input_tokens <= 550


def test_a_compacted_context_keeps_the_id_of_a_file(client: openai.OpenAI, host: Host, inputs: Server) -> None:
    file_id = uploaded(client, "notes.txt", b"Kept.")
    said = user({"type": "input_file", "file_id": file_id})
    sent = inputs.post("/responses/compact", {"model": PLAIN, "input": said}).json["output"]
    assert sent[0]["content"][0] == {"type": "input_file", "file_id": file_id}
    client.responses.create(model=PLAIN, input=[*sent, {"role": "user", "content": "Go on."}])
    shown = [message["content"] for message in host.calls[-1].json["messages"]]
    assert texts(SHOWN.format("notes.txt", "Kept."), "What is it?") in shown


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"type": "input_file", "file_url": "http://169.254.169.254/latest/meta-data"}, "url_not_allowed"),
        ({"type": "input_file", "file_url": "http://2130706433/"}, "invalid_url"),
        ({"type": "input_image", "image_url": "http://localhost@127.0.0.1/"}, "invalid_url"),
        ({"type": "input_image", "image_url": "{web}/notes.md"}, "invalid_image"),
        ({"type": "input_file", "file_url": "{web}/big"}, "url_not_fetched"),
        ({"type": "input_file", "file_url": "{web}/missing"}, "url_not_fetched"),
        ({"type": "input_file", "file_data": "JVBERi0xLjQK", "filename": "broken.pdf"}, "invalid_file"),
    ],
)
def test_what_cannot_be_shown_is_a_400_before_the_model_is_asked(
    client: openai.OpenAI, host: Host, web: str, part: dict[str, str], code: str
) -> None:
    given = {name: value.replace("{web}", web) for name, value in part.items()}
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=PLAIN, input=user(given))
    assert (caught.value.code, caught.value.param) == (code, "input[0].content[0]")
    assert host.calls == []


# ---------------------------------------------------------------- chat completions


def test_chat_takes_files_and_images_too(client: openai.OpenAI, host: Host, web: str) -> None:
    file_id = uploaded(client, "notes.txt", b"In chat.")
    content: Any = [
        {"type": "file", "file": {"file_id": file_id}},
        {"type": "file", "file": {"file_data": base64.b64encode(b"Inline.").decode(), "filename": "a.md"}},
        {"type": "image_url", "image_url": {"url": f"{web}/a.png", "detail": "low"}},
    ]
    client.chat.completions.create(model=PLAIN, messages=[{"role": "user", "content": content}], store=True)
    assert seen(host) == [
        {"type": "text", "text": SHOWN.format("notes.txt", "In chat.")},
        {"type": "text", "text": SHOWN.format("a.md", "Inline.")},
        {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "low"}},
    ]
    client.files.delete(file_id)
    messages: Any = [{"role": "user", "content": content}]
    assert refused(client.chat.completions.create, model=PLAIN, messages=messages) == (404, "file_not_found")


def test_chat_without_such_parts_goes_on_byte_for_byte(inputs: Server, host: Host) -> None:
    messages = b'[ {"role":"user", "content":[{"type":"image_url","image_url":{"url":"https://a.example/\\u0061"}}]} ]'
    assert inputs.post("/chat/completions", b'{"model":"able/scripted-model","messages":%b}' % messages).status == 200
    assert messages in host.calls[-1].body
