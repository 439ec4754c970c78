"""A host of the chat-completions dialect over a scripted transport: what is sent, what becomes of answers."""

import json
from typing import Any

import pytest

from antiphon.config import Host
from antiphon.errors import ContextTooLong, Upstream, UpstreamRejected, UpstreamTimeout
from antiphon.exchange import Replay, Timeouts
from antiphon.models.base import NO_ACCESS, Access, Finish, ModelEvent, ModelInfo, ModelRequest, Text
from antiphon.models.chat_completions import ChatCompletions, models_in
from antiphon.presets import Quirks
from antiphon.testing.provider import HANG, Answer, Piece, ScriptedTransport, chunks
from antiphon.wire.items import Message

REQUEST = ModelRequest(model="m", items=[Message(role="user", content="hi")])
HELLO = b'{"choices": [{"delta": {"content": "Hello"}, "finish_reason": null}]}'
STOP = b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}'


def provider(*answers: Answer, **host: Any) -> tuple[ChatCompletions, ScriptedTransport]:
    transport = ScriptedTransport(*answers)
    given = {"name": "h", "base_url": "http://host/v1/", **host}
    return ChatCompletions(Host(**given), transport, clock=lambda: 0.0), transport


async def said(chat: ChatCompletions, access: Access = NO_ACCESS) -> list[ModelEvent]:
    stream = await chat.open(REQUEST, access)
    try:
        return [event async for batch in stream for event in batch]
    finally:
        await stream.aclose()


def streaming(*pieces: Piece) -> Answer:
    return Answer(pieces=pieces)


async def test_a_call_is_one_post_to_the_hosts_chat_route() -> None:
    timeouts, replay = Timeouts(idle_s=1.0), Replay(mode="record")
    chat, transport = provider(streaming(*chunks(HELLO, STOP, b"[DONE]")), timeouts=timeouts)
    assert await said(chat, Access(replay=replay)) == [Text("Hello"), Finish("stop")]
    sent = transport.sent[0]
    assert (sent.method, sent.url, sent.host) == ("POST", "http://host/v1/chat/completions", "h")
    assert (sent.timeouts, sent.replay) == (timeouts, replay)
    assert json.loads(sent.body)["messages"] == [{"role": "user", "content": "hi"}]
    assert transport.aborted == []


@pytest.mark.parametrize(
    ("host", "access", "headers"),
    [
        ({}, Access(), {}),
        ({"key": "ours"}, Access(), {"authorization": "Bearer ours"}),
        ({"key": "ours"}, Access(key="theirs"), {"authorization": "Bearer theirs"}),
        (
            {"key": "ours", "provider_data_keys": ("h_api_key",)},
            Access(keys={"h_api_key": "theirs", "other_api_key": "no"}),
            {"authorization": "Bearer theirs"},
        ),
        ({"key": "ours", "quirks": Quirks(api_key_header="api-key")}, Access(), {"api-key": "ours"}),
        ({"headers": {"X-Team": "a"}}, Access(), {"x-team": "a"}),
        ({"key": "ours", "headers": {"Authorization": "Basic x"}}, Access(), {"authorization": "Basic x"}),
    ],
)
async def test_headers_carry_the_clients_key_or_the_configured_one(
    host: dict[str, Any], access: Access, headers: dict[str, str]
) -> None:
    chat, transport = provider(streaming(*chunks(HELLO, STOP)), **host)
    await said(chat, access)
    assert transport.sent[0].headers == {"content-type": "application/json", **headers}


async def test_paths_and_query_are_the_hosts() -> None:
    quirks = Quirks(query={"api-version": "1 2"}, chat_path="/c", embeddings_path="/e", models_path="/m")
    answers = (streaming(*chunks(STOP)), Answer(), Answer(), Answer(pieces=[b'{"data": []}']))
    chat, transport = provider(*answers, quirks=quirks)
    await said(chat)
    for path in ("/embeddings", "/completions"):
        await (await chat.post(path, b"{}")).close()
    assert await chat.models() == []
    assert [sent.url.removeprefix("http://host/v1") for sent in transport.sent] == [
        f"{path}?api-version=1+2" for path in ("/c", "/e", "/completions", "/m")
    ]
    assert [sent.method for sent in transport.sent] == ["POST", "POST", "POST", "GET"]


def test_what_the_host_will_not_be_told_is_known_before_it_is_asked() -> None:
    chat, _ = provider(quirks=Quirks(accepts=frozenset()))
    request = ModelRequest(model="m", items=[], verbosity="low", temperature=1.0)
    assert chat.left_out(request) == ["text.verbosity"]


async def test_post_sends_the_body_as_it_is() -> None:
    body = b'{ "model":"m", "unknown": [1,  2] }'
    chat, transport = provider(Answer(pieces=[b'{"x":', b"1}"], headers={"content-type": "application/json"}))
    incoming = await chat.post("/chat/completions", body)
    assert transport.sent[0].body == body
    assert [piece async for piece in incoming.pieces] == [b'{"x":', b"1}"]


async def test_a_rejection_is_read_closed_and_raised_in_the_hosts_words() -> None:
    body = [b'{"error": {"message": "Key theirs-is-bad', b' is wrong", "code": "invalid_api_key"}}']
    chat, transport = provider(Answer(status=401, pieces=body))
    with pytest.raises(UpstreamRejected) as caught:
        await chat.open(REQUEST, Access(key="theirs-is-bad"))
    assert (caught.value.status, caught.value.message) == (401, "Key *** is wrong")
    assert len(transport.closed) == 1


async def test_a_rejection_whose_body_breaks_off_is_still_that_rejection() -> None:
    chat, _ = provider(Answer(status=503, pieces=[b"busy", Upstream("reset")]))
    with pytest.raises(UpstreamRejected, match="busy") as caught:
        await chat.open(REQUEST)
    assert caught.value.status == 503


async def test_an_endless_rejection_is_not_read_to_its_end() -> None:
    chat, transport = provider(Answer(status=500, pieces=[b"x" * 300_000, HANG]))
    with pytest.raises(UpstreamRejected):
        await chat.open(REQUEST)
    assert len(transport.aborted) == 1


async def test_a_date_to_retry_after_is_measured_by_the_clock() -> None:
    headers = {"retry-after": "Thu, 01 Jan 1970 00:00:09 GMT"}
    chat, _ = provider(Answer(status=429, headers=headers))
    with pytest.raises(UpstreamRejected) as caught:
        await chat.open(REQUEST)
    assert caught.value.retry_after_s == 9.0


async def test_a_context_that_is_too_long_is_told_apart() -> None:
    body = b'{"error": {"message": "maximum context length is 10", "code": "context_length_exceeded"}}'
    chat, _ = provider(Answer(status=400, pieces=[body]))
    with pytest.raises(ContextTooLong):
        await chat.open(REQUEST)


async def test_a_connection_that_breaks_after_the_finish_reason_breaks_nothing() -> None:
    chat, _ = provider(streaming(*chunks(HELLO, STOP), Upstream("reset")))
    assert await said(chat) == [Text("Hello"), Finish("stop")]


async def test_a_connection_that_breaks_before_it_does() -> None:
    chat, _ = provider(streaming(*chunks(HELLO), UpstreamTimeout("idle")))
    with pytest.raises(UpstreamTimeout):
        await said(chat)


async def test_an_error_inside_the_stream_comes_after_what_was_said_with_it() -> None:
    both = b"".join(each for each in chunks(HELLO, b'{"error": {"message": "Too busy.", "code": 503}}') if each)  # type: ignore[misc]
    chat, _ = provider(streaming(both, HANG))
    stream = await chat.open(REQUEST)
    batches = aiter(stream)
    assert await anext(batches) == [Text("Hello")]
    with pytest.raises(UpstreamRejected, match="Too busy"):
        await anext(batches)
    await stream.aclose()


async def test_a_host_that_keeps_the_connection_after_done_is_not_waited_for() -> None:
    chat, transport = provider(streaming(*chunks(HELLO, STOP, b"[DONE]"), HANG))
    assert await said(chat) == [Text("Hello"), Finish("stop")]
    assert len(transport.aborted) == 1


async def test_a_larger_answer_than_allowed_is_broken_off() -> None:
    chat, transport = provider(streaming(*chunks(HELLO, HELLO, STOP)), answer_bytes_max=120)
    with pytest.raises(Upstream, match="larger answer"):
        await said(chat)
    assert len(transport.aborted) == 1


@pytest.mark.parametrize("body", [b"<html>login</html>", b"{}", b'"x"', b"[" * 9000, b"\xff", b""])
async def test_what_is_no_list_of_models_is_an_upstream_error(body: bytes) -> None:
    chat, _ = provider(Answer(pieces=[body]))
    with pytest.raises(Upstream, match="no list of models"):
        await chat.models()


@pytest.mark.parametrize(
    ("listed", "models"),
    [
        (
            {"data": [{"id": "gpt", "object": "model", "created": 5, "owned_by": "openai"}]},
            [ModelInfo(id="gpt", created=5, owned_by="openai")],
        ),
        ([{"id": "together", "context_length": 8}], [ModelInfo(id="together", context_window=8)]),
        ({"data": [{"id": "vllm", "max_model_len": 4096}]}, [ModelInfo(id="vllm", context_window=4096)]),
        ({"data": [{"id": "groq", "context_window": 131072}]}, [ModelInfo(id="groq", context_window=131072)]),
        (
            {"data": [{"id": "llama.cpp", "meta": {"n_ctx_train": 32}, "created": "x"}]},
            [ModelInfo(id="llama.cpp", context_window=32)],
        ),
        (
            {"data": [{"id": "e", "architecture": {"output_modalities": ["embeddings"]}}]},
            [ModelInfo(id="e", kind="embedding")],
        ),
        ({"data": [{"id": "r", "type": "rerank"}]}, [ModelInfo(id="r", kind="rerank")]),
        ({"models": [{"name": "llama3:8b", "model": "llama3:8b"}]}, [ModelInfo(id="llama3:8b")]),
        (["a", "b", "a", 7, {}], [ModelInfo(id="a"), ModelInfo(id="b")]),
        ({"data": [{"id": "o", "context_length": None, "top_provider": {"context_length": 9}}]}, None),
    ],
    ids=["OpenAI", "bare list", "vLLM", "Groq", "llama.cpp", "OpenRouter", "rerank", "Ollama", "names", "nested"],
)
def test_models_are_read_from_each_known_form(listed: Any, models: list[ModelInfo] | None) -> None:
    assert models_in(listed) == (models or [ModelInfo(id="o", context_window=9)])
