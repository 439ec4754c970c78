"""Answers in the chat-completions dialect: bytes in any pieces in, model events out."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ApiError, ContextTooLong, Upstream, UpstreamRejected
from antiphon.models.base import (
    CallArguments,
    CallStart,
    Finish,
    ModelEvent,
    Reasoning,
    Served,
    Text,
    Tokens,
)
from antiphon.models.chat_chunks import ChunkReader

STOP: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def delta(**fields: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def calls(*parts: dict[str, Any]) -> dict[str, Any]:
    return delta(tool_calls=list(parts))


def part(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    made: dict[str, Any] = {"function": {"name": name, "arguments": arguments}, "id": call_id}
    return made if index is None else {**made, "index": index}


def stream(*chunks: dict[str, Any], done: bool = True) -> bytes:
    frames = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    return frames + (b"data: [DONE]\n\n" if done else b"")


def read(*pieces: bytes) -> list[ModelEvent]:
    reader = ChunkReader("test")
    events = [event for each in pieces for event in reader.feed(each)]
    return events + reader.close()


def failure(*pieces: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(*pieces)
    return caught.value


# ---------------------------------------------------------------- the wire

HELLO = [Text("Hel"), Text("lo"), Finish("stop")]


def test_a_stream_is_text_then_the_reason_to_stop() -> None:
    assert read(stream(delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), STOP)) == HELLO


@pytest.mark.parametrize(
    "form",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"data: ", b"data:"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"\n\n" + data,
        lambda data: b": keep-alive\n\n" + data.replace(b"\n\n", b"\n\n: ping\n\n"),
        lambda data: data.replace(b"data: {", b"id: 7\nretry: 5\nevent: message\ndata: {"),
        lambda data: data.removesuffix(b"data: [DONE]\n\n"),
        lambda data: data.removesuffix(b"\n\n"),
        lambda data: data.removesuffix(b"\n\ndata: [DONE]\n\n"),
        lambda data: data.replace(b"}\n\n", b"}\n"),
        lambda data: data.replace(b'"choices":', b'\ndata: "choices":'),
        lambda data: data + b"data: garbage after the end\n\n",
        lambda data: data.removesuffix(b"data: [DONE]\n\n") + b'data: {"choices": [], "usa',
    ],
    ids=[
        "CRLF",
        "no space",
        "byte order mark",
        "blank lines first",
        "comments",
        "other fields",
        "no DONE",
        "no last blank line",
        "no last line end",
        "no blank lines",
        "an event over several lines",
        "garbage after DONE",
        "cut after the finish",
    ],
)
def test_the_same_events_in_another_form(form: Any) -> None:
    data = form(stream(delta(content="Hel"), delta(content="lo"), STOP))
    assert read(data) == HELLO
    assert read(*[data[n : n + 1] for n in range(len(data))]) == HELLO


def test_a_whole_completion_where_a_stream_was_asked_for() -> None:
    whole = {
        "object": "chat.completion",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "reasoning_content": "hm",
                    "tool_calls": [part(call_id="c1", name="f", arguments='{"a":1}')],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    assert read(json.dumps(whole, indent=1).encode()) == [
        Served("default"),
        Reasoning("hm"),
        Text("Hello"),
        CallStart(0, "c1", "f"),
        CallArguments(0, '{"a":1}'),
        Tokens(3, 2),
        Finish("calls"),
    ]


def test_nothing_comes_after_done() -> None:
    reader = ChunkReader("test")
    reader.feed(stream(delta(content="a"), STOP))
    assert reader.done
    assert reader.ended
    assert reader.feed(stream(delta(content="b"))) == []
    assert reader.close() == []


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty answer"),
        (b"\n\n: ping\n\n", "empty answer"),
        (b"data: [DONE]\n\n", "empty answer"),
        (b"<!DOCTYPE html><html><head><title>x</title></head><body><h1>Bad Gateway</h1></body></html>", "Bad Gateway"),
        (b"upstream connect error\n", "upstream connect error"),
        (b"upstream connect error", "upstream connect error"),
        (b"data: not json\n\n", "not json"),
        (b'data: {"choices": 7}\n\n', "no chat completion"),
        (b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', "no chat completion"),
        (b"data: " + b'{"usage":' + b"[" * 5000 + b"\n\n", "no chat completion"),
        (b'{"choices": [{"message": {"content": "cut of', "no chat completion"),
        (b"{}", "without saying which"),
        (stream({"error": [""]}), "without saying which"),
        (stream(delta(content="a"), done=False), "without a finish reason"),
        (stream(delta(content="a"), done=True), "without a finish reason"),
        (stream(delta(content="a"), done=False)[:-9], "empty answer"),
    ],
)
def test_what_is_no_whole_answer_is_an_upstream_error_that_says_so(body: bytes, words: str) -> None:
    error = failure(body)
    assert isinstance(error, Upstream)
    assert error.status == 502
    assert words in error.message
    assert failure(*[body[n : n + 1] for n in range(len(body))]).message == error.message


@pytest.mark.parametrize(
    "form",
    [
        lambda error: b"data: %b\n\n" % json.dumps({"error": error}).encode(),
        lambda error: b"event: error\ndata: %b\n\n" % json.dumps(error).encode(),
        lambda error: b"event: error\r\ndata: %b\r\n\r\n" % json.dumps({"error": error}).encode(),
        lambda error: b"error: %b\n\n" % json.dumps(error).encode(),
        lambda error: b"data: %b\n\n" % json.dumps({"object": "error", **error}).encode(),
        lambda error: b"data: %b\n\n" % json.dumps([{"error": error}]).encode(),
        lambda error: json.dumps({"error": error}).encode(),
    ],
    ids=["data", "event", "event and body", "error line", "old vLLM", "array", "whole body"],
)
def test_an_error_inside_an_answer_keeps_the_hosts_words_and_status(form: Any) -> None:
    error = failure(form({"message": "Too busy.", "code": 503}))
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.message) == (503, "Too busy.")


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        ({"message": "m", "type": "server_error"}, Upstream, 502, "upstream_error"),
        ({"message": "m", "code": "429"}, UpstreamRejected, 429, "rate_limit_exceeded"),
        ({"message": "m", "code": "rate_limit_exceeded"}, UpstreamRejected, 429, "rate_limit_exceeded"),
        ({"message": "m", "code": "context_length_exceeded", "param": "messages"}, ContextTooLong, 400, None),
        ({"message": "This model's maximum context length is 8192 tokens."}, ContextTooLong, 400, None),
        ("just words", Upstream, 502, "upstream_error"),
    ],
)
def test_the_kind_of_an_error_inside_an_answer(error: Any, kind: type, status: int, code: str | None) -> None:
    raised = failure(stream(delta(content="a"), {"error": error}))
    assert type(raised) is kind
    assert (raised.status, raised.code) == (status, code or "context_length_exceeded")


def test_what_was_said_before_an_error_is_not_lost() -> None:
    reader = ChunkReader("test")
    assert reader.feed(stream(delta(content="a"), {"error": {"message": "m"}}, delta(content="b"))) == [Text("a")]
    assert reader.ended
    with pytest.raises(Upstream, match="m"):
        reader.close()


def test_a_key_that_a_host_repeats_is_not_shown() -> None:
    reader = ChunkReader("test", secrets=("my-secret-key",))
    reader.feed(stream({"error": {"message": "Bad key my-secret-key, or sk-abcdefghijkl."}}))
    with pytest.raises(Upstream) as caught:
        reader.close()
    assert caught.value.message == "Bad key ***, or ***"


# ---------------------------------------------------------------- any pieces


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(marks)]


_TEXT = st.text(max_size=6)
_CHUNKS = st.lists(
    st.one_of(
        st.builds(lambda text: delta(content=text), _TEXT),
        st.builds(lambda text: delta(reasoning=text), _TEXT),
        st.builds(lambda index, text: calls(part(index, f"c{index}", "f", text)), st.integers(0, 2), _TEXT),
        st.just({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
        st.just(STOP),
        st.just({"error": {"message": "m", "code": 500}}),
    ),
    max_size=8,
)
_JOINTS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\n: ping\n\n", b"\n"])


def outcome(*pieces: bytes) -> tuple[list[ModelEvent], str]:
    """All events, and how the answer failed if it did."""
    reader = ChunkReader("test")
    events = [event for each in pieces for event in reader.feed(each)]
    try:
        return events + reader.close(), ""
    except ApiError as error:
        return events, error.message


@given(_CHUNKS, _JOINTS, st.lists(st.integers(0, 5000), max_size=12), st.booleans())
def test_the_same_bytes_give_the_same_events_however_they_are_cut(
    chunks: list[dict[str, Any]], joint: bytes, places: list[int], done: bool
) -> None:
    frames = [b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + joint for chunk in chunks]
    data = b"".join(frames) + (b"data: [DONE]" + joint if done else b"")
    assert outcome(*cut(data, places)) == outcome(data)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_garbage_is_never_an_answer_and_never_another_exception(data: bytes, places: list[int]) -> None:
    events, failed = outcome(*cut(data, places))
    assert failed
    assert not any(isinstance(event, Finish) for event in events)


_NAMES = st.sampled_from(
    [
        "choices",
        "delta",
        "message",
        "index",
        "finish_reason",
        "content",
        "reasoning",
        "reasoning_details",
        "refusal",
        "tool_calls",
        "function_call",
        "id",
        "function",
        "name",
        "arguments",
        "logprobs",
        "token",
        "usage",
        "prompt_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "x_groq",
        "service_tier",
        "error",
        "code",
        "type",
        "detail",
        "object",
        "text",
    ]
)
_ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 600), st.floats(allow_nan=False, allow_infinity=False), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_NAMES, inner, max_size=3)),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(_NAMES, _ODD, max_size=4), max_size=3), st.booleans())
def test_json_of_any_shape_is_read_or_refused(chunks: list[dict[str, Any]], whole: bool) -> None:
    """Hosts are not typed: a member may hold anything."""
    data = json.dumps(chunks[0]).encode() if whole and chunks else stream(*chunks)
    events, failed = outcome(data)
    assert bool(failed) != any(isinstance(event, Finish) for event in events)


@given(_ODD, _ODD, _ODD, _ODD, _ODD)
def test_a_chunk_with_odd_values_in_the_right_places_is_read_or_refused(
    content: Any, reasoning: Any, call: Any, logprobs: Any, usage: Any
) -> None:
    odd = {"content": content, "reasoning": reasoning, "tool_calls": [{"index": 0, "function": call}]}
    chunk = {"choices": [{"delta": odd, "logprobs": logprobs, "finish_reason": "stop"}], "usage": usage}
    events, failed = outcome(stream(chunk))
    assert bool(failed) != any(isinstance(event, Finish) for event in events)


# ---------------------------------------------------------------- real models


def test_every_recorded_stream_is_read_in_full_whatever_the_pieces(shared: Path) -> None:
    """468 streams of gpt-4o, llama3.2 and others: the text, the calls and the count are what was recorded."""
    seen = 0
    for file in sorted((shared / "recordings").glob("*/*.json")):
        recorded = json.loads(file.read_bytes())
        body = recorded["response"]["body"]
        if recorded["request"].get("endpoint") != "/v1/chat/completions" or not isinstance(body, list):
            continue
        seen += 1
        chunks = [chunk["__data__"] for chunk in body]
        data = stream(*chunks)
        events = read(data)
        assert read(*[data[n : n + 97] for n in range(0, len(data), 97)]) == events, file.name
        check_recorded(chunks, events)
    assert seen == 468


def check_recorded(chunks: list[dict[str, Any]], events: list[ModelEvent]) -> None:
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    text = "".join(each.get("content") or "" for each in deltas)
    parts = [each for one in deltas for each in one.get("tool_calls") or ()]
    assert "".join(event.text for event in events if isinstance(event, Text)) == text
    assert [event.call_id for event in events if isinstance(event, CallStart)] == [
        each["id"] for each in parts if each.get("id")
    ]
    assert sum(len(event.text) for event in events if isinstance(event, CallArguments)) == sum(
        len(each["function"].get("arguments") or "") for each in parts
    )
    usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    counted = [event for event in events if isinstance(event, Tokens)]
    if usage is not None:
        assert (counted[0].input, counted[0].output) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert events[-1] == Finish("calls" if parts else "stop")
