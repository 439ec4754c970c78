"""The official client drives chat completions, completions, embeddings and models, which are passed through."""

from typing import Any

import openai
import pytest

from antiphon.testing.host import Call, Host, Reply, status
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
HI: Any = [{"role": "user", "content": "Hi"}]


def test_a_chat_is_passed_through_with_fields_we_do_not_know(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hello"]))
    answer = client.chat.completions.create(model=MODEL, messages=HI, temperature=0.5, extra_body={"frobnicate": 1})
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 18
    sent = host.calls[0].json
    assert (sent["model"], sent["messages"], sent["temperature"], sent["frobnicate"]) == (
        *("scripted-model", HI, 0.5, 1),
    )


def test_a_chat_is_streamed_piece_by_piece(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"]))
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True})
    )
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert pieces == ["Hel", "lo"]
    assert chunks[-1].usage is not None
    assert host.calls[0].json["stream_options"] == {"include_usage": True}


def test_chat_tool_calls_are_passed_through(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(calls=[Call(name="f", arguments='{"a": 1}', id="c1")]))
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    (call,) = client.chat.completions.create(model=MODEL, messages=HI, tools=tools).choices[0].message.tool_calls or ()
    assert (call.id, call.type) == ("c1", "function")
    assert host.calls[0].json["tools"] == tools


def test_a_bare_model_name_works_where_it_is_unambiguous(client: openai.OpenAI, host: Host) -> None:
    client.chat.completions.create(model="scripted-model", messages=HI)
    assert host.calls[0].json["model"] == "scripted-model"


def test_completions_are_passed_through(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Once"]), Reply(text=["O", "nce"]))
    assert client.completions.create(model=MODEL, prompt="Tell").choices[0].text == "Once"
    chunks = client.completions.create(model=MODEL, prompt="Tell", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Once"
    assert host.calls[0].json["prompt"] == "Tell"


def test_embeddings_come_in_every_form(client: openai.OpenAI, host: Host) -> None:
    inputs: list[Any] = ["abc", ["a", "bc"], [1, 2], [[1, 2, 3]]]
    for given in inputs:
        for encoding in ("float", "base64"):
            got = client.embeddings.create(model=MODEL, input=given, encoding_format=encoding, dimensions=3)  # type: ignore[arg-type]
            assert got.object == "list"
            assert host.calls[-1].json["input"] == given
            assert host.calls[-1].json["dimensions"] == 3
    default = client.embeddings.create(model=MODEL, input=["a", "bcd"])
    assert [one.embedding[0] for one in default.data] == [1.0, 3.0]


def test_models_are_listed_and_retrieved_with_slashes(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("scripted/a/b")


@pytest.mark.parametrize("form", ["openai", "plain", "html"])
@pytest.mark.parametrize("code", [400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings", "/completions"])
def test_a_hosts_error_keeps_status_and_message(server: Server, host: Host, path: str, code: int, form: str) -> None:
    host.answer(status(code, "not today", retry_after="7" if code == 429 else None, form=form))
    got = server.post(path, {"model": MODEL, "messages": HI, "input": "x", "prompt": "x"})
    assert got.status == code
    assert set(got.json["error"]) == {"message", "type", "param", "code"}
    assert "not today" in got.json["error"]["message"]
    assert "<" not in got.json["error"]["message"]
    if code == 429:
        assert got.headers["retry-after"] == "7"


def test_a_stored_chat_completion_lives_and_dies(client: openai.OpenAI, host: Host) -> None:
    host.answer(
        Reply(text=["Hello"], extra={"id": "chatcmpl-a"}), Reply(text=["Hel", "lo"], extra={"id": "chatcmpl-b"})
    )
    made = client.chat.completions.create(model=MODEL, messages=HI, store=True, metadata={"k": "one"})
    chunks = client.chat.completions.create(model=MODEL, messages=HI, store=True, metadata={"k": "two"}, stream=True)
    streamed_id = {chunk.id for chunk in chunks}.pop()
    assert client.chat.completions.retrieve(made.id).choices[0].message.content == "Hello"
    assert client.chat.completions.retrieve(streamed_id).choices[0].message.content == "Hello"
    listed = client.chat.completions.list(metadata={"k": "one"})
    assert [one.id for one in listed.data] == [made.id]
    assert {made.id, streamed_id} <= {one.id for one in client.chat.completions.list(limit=100)}
    updated = client.chat.completions.update(made.id, metadata={"k": "three"})
    assert updated.metadata == {"k": "three"}
    messages = client.chat.completions.messages.list(made.id)
    assert [message.content for message in messages] == ["Hi"]
    assert client.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.messages.list(made.id)


def test_hosts_that_give_one_id_twice_overwrite_nothing(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["One"], extra={"id": "chatcmpl-7"}), Reply(text=["Two"], extra={"id": "chatcmpl-7"}))
    made = [client.chat.completions.create(model=MODEL, messages=HI, store=True) for _ in range(2)]
    kept = [client.chat.completions.retrieve(one.id).choices[0].message.content for one in made]
    assert kept == ["One", "Two"]


def test_an_unstored_chat_completion_leaves_nothing(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hello"], extra={"id": "chatcmpl-unstored"}))
    made = client.chat.completions.create(model=MODEL, messages=HI)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/chat/completions", {"messages": HI}, "model"),
        ("/chat/completions", {"model": MODEL}, "messages"),
        ("/chat/completions", {"model": MODEL, "messages": "Hi"}, "messages"),
        ("/chat/completions", {"model": MODEL, "messages": HI, "temperature": 3}, "temperature"),
        ("/embeddings", {"model": MODEL}, "input"),
        ("/embeddings", {"model": MODEL, "input": "x", "encoding_format": "hex"}, "encoding_format"),
        ("/completions", {"model": MODEL, "prompt": "x", "n": 0}, "n"),
    ],
)
def test_wrong_bodies_are_a_400_with_their_param(
    server: Server, host: Host, path: str, body: dict[str, Any], param: str
) -> None:
    got = server.post(path, body)
    assert got.status == 400, got.body
    assert (got.json["error"]["param"] or "").startswith(param)
    assert not host.calls


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/responses", 405),
        ("GET", "/nothing", 404),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/responses/resp_unknown", 404),
        ("GET", "/v1/conversations/conv_unknown", 404),
        ("GET", "/v1/chat/completions/chatcmpl-unknown", 404),
    ],
)
def test_every_error_has_openais_body_and_a_request_id(server: Server, method: str, path: str, code: int) -> None:
    got = server.ask(method, path, {} if method != "GET" else None)
    assert got.status == code
    assert set(got.json["error"]) == {"message", "type", "param", "code"}
    assert got.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/providers", "/v1/version", "/v1/health", "/v1/inspect/routes"])
def test_what_older_clients_read_at_start_is_there(server: Server, path: str) -> None:
    got = server.ask("GET", path)
    assert got.status == 200
    assert isinstance(got.json, dict)


def test_a_clients_key_for_the_host_replaces_the_configured_one(server: Server, host: Host) -> None:
    header = {"X-LlamaStack-Provider-Data": '{"scripted_api_key": "their-key"}'}
    assert server.post("/chat/completions", {"model": MODEL, "messages": HI}, header).status == 200
    assert host.calls[0].headers["authorization"] == "Bearer their-key"
