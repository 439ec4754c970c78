"""The forgiving comparison: what another dialect writes otherwise is the same question, another question is not."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from antiphon.exchange import Outgoing, Replay
from antiphon.replay import llama_stack
from antiphon.replay.library import Library, wanted_from
from antiphon.replay.recording import Answer
from antiphon.replay.shapes import fitting
from antiphon.replay.tolerant import key_of

CHAT = "/chat/completions"
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}


def key(*messages: Any, **members: Any) -> str | None:
    """The key of a chat request."""
    return key_of(CHAT, {"model": "m", "messages": list(messages), **members})


def user(content: Any) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": content}


def call(call_id: str, arguments: str = '{"a":1}', **more: Any) -> dict[str, Any]:
    """A call of a function."""
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}, **more}


def output(call_id: str, content: Any) -> dict[str, Any]:
    """A tool's message."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


SAME = [
    (key(user("hi")), key(user([{"type": "text", "text": "hi"}]))),
    (key(user("a b")), key(user([{"type": "text", "text": "a\n"}, {"type": "text", "text": "b"}]))),
    (
        key(user("hi")),
        key(user("hi"), stream=True, stream_options={"include_usage": True}, temperature=0.5, top_p=None),
    ),
    (key(user("hi")), key(user("hi"), tools=[], response_format={"type": "text"}, max_tokens=9)),
    (key({"role": "system", "content": "s"}), key({"role": "developer", "content": "s"})),
    (
        key(user("hi"), tools=[{"type": "function", "function": FUNCTION}]),
        key(user("hi"), tools=[{"type": "function", "function": {"type": "function", "strict": None, **FUNCTION}}]),
    ),
    (
        key({"role": "assistant", "content": "", "tool_calls": [call("x", index=0)]}, output("x", "7")),
        key(
            {"role": "assistant", "tool_calls": [call("y", '{ "a" : 1 }')]},
            output("y", [{"type": "text", "text": "7"}]),
        ),
    ),
    (
        key({"role": "assistant", "tool_calls": [call("x"), call("y")]}, output("x", "1"), output("y", "2")),
        key(
            {"role": "assistant", "tool_calls": [call("p")]},
            output("p", "1"),
            {"role": "assistant", "tool_calls": [call("q")]},
            output("q", "2"),
        ),
    ),
    (
        key(user([{"type": "image_url", "image_url": {"url": "u", "detail": "auto"}}])),
        key(user([{"type": "image_url", "image_url": {"url": "u"}}])),
    ),
]
OTHER = [
    (key(user("hi")), key(user("ho"))),
    (key(user("hi")), key({"role": "assistant", "content": "hi"})),
    (key(user("hi")), key(user("hi"), user("hi"))),
    (key(user("hi")), key(user("hi"), model="n")),
    (key(user("hi")), key(user("hi"), tools=[{"type": "function", "function": FUNCTION}])),
    (key(output("x", "1"), output("y", "2")), key(output("x", "2"), output("y", "1"))),
    (
        key({"role": "assistant", "tool_calls": [call("x")]}, output("x", "1")),
        key({"role": "assistant", "tool_calls": [call("x")]}, output("y", "1")),
    ),
    (
        key({"role": "assistant", "tool_calls": [call("x", '{"a":1}')]}),
        key({"role": "assistant", "tool_calls": [call("x", '{"a":2}')]}),
    ),
    (
        key(user([{"type": "image_url", "image_url": {"url": "u"}}])),
        key(user([{"type": "image_url", "image_url": {"url": "v"}}])),
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_question_in_other_words_has_the_same_key(one: str, other: str) -> None:
    assert one == other


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_question_has_another_key(one: str, other: str) -> None:
    assert one != other


def test_vectors_and_completions_are_asked_for_by_input_and_model() -> None:
    one = {"model": "m", "input": ["a"]}
    assert key_of("/embeddings", one) == key_of(
        "/embeddings", {"model": "m", "input": "a", "encoding_format": "base64"}
    )
    assert key_of("/embeddings", one) != key_of("/embeddings", {**one, "dimensions": 3})
    assert key_of("/completions", {"model": "m", "prompt": "a"}) != key_of(
        "/completions", {"model": "m", "prompt": "b"}
    )


@pytest.mark.parametrize(("endpoint", "body"), [("/models", None), (CHAT, "text"), ("/audio/speech", {})])
def test_where_it_does_not_apply_there_is_no_key(endpoint: str, body: Any) -> None:
    assert key_of(endpoint, body) is None


@pytest.mark.parametrize("odd", [["x"], [None], [{"role": "tool"}], [{"role": "user", "content": [3]}], "x", None, 7])
def test_odd_messages_are_compared_without_a_crash(odd: Any) -> None:
    assert key_of(CHAT, {"model": "m", "messages": odd, "tools": [None, {"type": "x"}]}) is not None


# ---------------------------------------------------------------- look-ups in a directory


def write(directory: Path, name: str, *, test_id: str | None, text: str, streamed: bool = False) -> None:
    """A recording in Llama Stack's format, named so that no digest leads to it."""
    message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    delta = {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": text}}
    body = {"model": "m", "messages": [user("hi")], "stream": streamed}
    chunk = {"__type__": "x.ChatCompletionChunk", "__data__": {"id": "1", "choices": [delta]}}
    whole = {"__type__": "x.ChatCompletion", "__data__": {"id": "1", "choices": [message]}}
    url = "http://0.0.0.0:11434/v1/v1/chat/completions"
    request = {
        "method": "POST",
        "url": url,
        "headers": {},
        "body": body,
        "endpoint": "/v1/chat/completions",
        "model": "m",
    }
    response = {"body": [chunk] if streamed else whole, "is_streaming": streamed}
    recording = {"test_id": test_id, "request": request, "response": response}
    (directory / f"{name * 64}.json").write_text(json.dumps(recording))


def asked(directory: Path, *, test_id: str | None = None, stream: bool = False) -> str:
    """The text that answers a request."""
    body = json.dumps({"model": "m", "messages": [user("hi")], "stream": stream, "seed": 1}).encode()
    url = "http://127.0.0.1:11434/v1/chat/completions"
    wanted = wanted_from(Outgoing(method="POST", url=url, headers={}, body=body, replay=Replay(test_id=test_id)))
    answer = Library.open(directory, "tolerant").answer(wanted)
    assert answer is not None
    if not stream:
        return str(json.loads(answer.body)["choices"][0]["message"]["content"])
    chunks = [json.loads(event) for event in llama_stack.events(answer.body)]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_of_several_the_same_test_answers_then_the_first_file(tmp_path: Path) -> None:
    for name, test_id in (("b", "two"), ("a", "one"), ("c", None)):
        write(tmp_path, name, test_id=test_id, text=f"for {test_id}")
    assert [asked(tmp_path, test_id=test_id) for test_id in ("two", "three", None)] == [
        "for two",
        "for one",
        "for None",
    ]


def test_the_same_shape_is_preferred_and_the_other_is_converted(tmp_path: Path) -> None:
    write(tmp_path, "a", test_id=None, text="whole")
    assert [asked(tmp_path, stream=stream) for stream in (False, True)] == ["whole", "whole"]
    write(tmp_path, "b", test_id=None, text="streamed", streamed=True)
    assert [asked(tmp_path, stream=stream) for stream in (False, True)] == ["whole", "streamed"]


def test_strict_matching_does_not_read_between_the_lines(tmp_path: Path) -> None:
    write(tmp_path, "a", test_id=None, text="whole")
    library = Library.open(tmp_path, "strict")
    body = json.dumps({"model": "m", "messages": [user("hi")]}).encode()
    wanted = wanted_from(Outgoing(method="POST", url="http://h/v1/chat/completions", headers={}, body=body))
    assert library.knows(wanted) is None


# ---------------------------------------------------------------- shapes


def whole(message: dict[str, Any], finish: str) -> Answer:
    """A whole completion."""
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return llama_stack.whole_answer({"id": "1", "created": 5, "model": "m", "choices": [choice], "usage": usage})


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"role": "assistant", "content": "hello"}, "stop"),
        ({"role": "assistant", "content": None, "tool_calls": [call("x"), call("y", "{}")]}, "tool_calls"),
        ({"role": "assistant", "content": None, "refusal": "no"}, "stop"),
        ({"role": "assistant", "content": "so", "reasoning_content": "hm"}, "length"),
    ],
)
def test_a_completion_survives_as_a_stream(message: dict[str, Any], finish: str) -> None:
    stream = fitting(whole(message, finish), CHAT, {"stream": True})
    assert stream.body.endswith(b"data: [DONE]\n\n")
    back = json.loads(fitting(stream, CHAT, {}).body)
    assert back["choices"][0]["message"] == message
    assert back["choices"][0]["finish_reason"] == finish
    assert (back["usage"]["total_tokens"], back["model"]) == (3, "m")


def test_every_recorded_stream_adds_up_to_a_completion(shared: Path) -> None:
    library = Library.open(shared / "recordings")
    streams = [entry for entry in library.entries if entry.endpoint == CHAT and entry.streamed]
    for entry in streams:
        deltas = [
            choice["delta"].get("content") or ""
            for event in llama_stack.events(entry.load().body)
            for choice in json.loads(event)["choices"]
        ]
        added = json.loads(fitting(entry.load(), CHAT, {}).body)
        assert "".join(deltas) == (added["choices"][0]["message"]["content"] or "")
    assert len(streams) >= 400


def test_vectors_come_in_the_encoding_that_is_asked_for() -> None:
    vector = [0.5, -1.0, 2.0]
    answer = llama_stack.whole_answer({"data": [{"index": 0, "embedding": vector}]})
    packed = fitting(answer, "/embeddings", {"encoding_format": "base64"})
    (entry,) = json.loads(packed.body)["data"]
    assert struct.unpack("<3f", base64.b64decode(entry["embedding"])) == tuple(vector)
    assert json.loads(fitting(packed, "/embeddings", {}).body)["data"][0]["embedding"] == vector
    assert fitting(answer, "/embeddings", {}) is answer


def test_an_error_is_left_as_it_is() -> None:
    refused = Answer(status=429, headers={"content-type": "application/json"})
    assert fitting(refused, CHAT, {"stream": True}) is refused


# ---------------------------------------------------------------- hosts


def test_a_server_without_hosts_learns_them_from_the_recordings(shared: Path) -> None:
    hosts = {host.name: host for host in Library.open(shared / "recordings").hosts()}
    assert {name: host.base_url for name, host in hosts.items()} == {
        "fireworks": "https://api.fireworks.ai/inference/v1",
        "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
        "ollama": "http://127.0.0.1:11434/v1",
        "openai": "https://api.openai.com/v1",
        "vllm": "http://127.0.0.1:8000/v1",
    }
    dimensions = {model.id: model.dimension for model in hosts["ollama"].models if model.kind == "embedding"}
    assert dimensions["all-minilm:l6-v2"] == 384
    assert "gpt-4o" in {model.id for model in hosts["openai"].models}
    assert "gpt-4o" not in {model.id for model in hosts["ollama"].models}


@pytest.mark.parametrize(("matching", "count"), [("tolerant", 14), ("strict", 118)])
def test_the_models_of_a_host_are_listed(shared: Path, matching: Any, count: int) -> None:
    library = Library.open(shared / "recordings", matching)
    wanted = wanted_from(Outgoing(method="GET", url="http://127.0.0.1:11434/v1/models", headers={}, host="ollama"))
    answer = library.answer(wanted)
    assert answer is not None
    models = json.loads(answer.body)["data"]
    assert len(models) == count
    assert {"id", "object", "created", "owned_by"} <= models[0].keys()
