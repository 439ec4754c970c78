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
    Refusal,
    Served,
    Text,
    Tokens,
)
from antiphon.models.chat_chunks import ChunkReader

STOP: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def delta(**fields: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def ending(reason: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


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


def events_of(*chunks: dict[str, Any]) -> list[ModelEvent]:
    return read(stream(*chunks))


def failure(*pieces: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(*pieces)
    return caught.value


# ---------------------------------------------------------------- the wire

HELLO = [Text("Hel"), Text("lo"), Finish("stop")]


def test_a_stream_is_text_then_the_reason_to_stop() -> None:
    assert events_of(delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), STOP) == HELLO


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


def test_only_the_first_choice_is_read() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}
    assert events_of(delta(content="yes"), other, STOP) == [Text("yes"), Finish("stop")]


def test_nothing_comes_after_done() -> None:
    reader = ChunkReader("test")
    reader.feed(stream(delta(content="a"), STOP))
    assert reader.done
    assert reader.ended
    assert reader.feed(stream(delta(content="b"))) == []
    assert reader.close() == []


# ---------------------------------------------------------------- content


def test_refusals_and_reasoning_under_each_of_its_names() -> None:
    assert events_of(
        delta(reasoning_content="a", content=None),
        delta(reasoning="b"),
        delta(reasoning="c", reasoning_details=[{"type": "reasoning.text", "text": "c"}]),
        delta(reasoning_details=[{"type": "reasoning.text", "text": "d"}, {"type": "reasoning.encrypted"}]),
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "e"}]}]),
        delta(content=[{"type": "text", "text": "f"}]),
        delta(refusal="g"),
        STOP,
    ) == [
        *(Reasoning(text) for text in "abcde"),
        Text("f"),
        Refusal("g"),
        Finish("stop"),
    ]


def test_thinking_inside_the_text_is_text() -> None:
    assert events_of(delta(content="<think>hm</think>"), STOP)[0] == Text("<think>hm</think>")


def test_logprobs_come_with_their_text() -> None:
    chunk = delta(content="Hi")
    top = {"token": "Ho", "logprob": -2.0, "bytes": None}
    chunk["choices"][0]["logprobs"] = {
        "content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [top]}],
        "refusal": None,
    }
    text = events_of(chunk, STOP)[0]
    assert isinstance(text, Text)
    assert (text.text, text.logprobs[0].bytes, text.logprobs[0].logprob) == ("Hi", [72, 105], -0.5)
    assert (text.logprobs[0].top_logprobs[0].token, text.logprobs[0].top_logprobs[0].bytes) == ("Ho", [])


@pytest.mark.parametrize("logprobs", [-0.5, {"tokens": ["Hi"]}, {"content": [{"token": 1}]}, {"content": None}])
def test_logprobs_in_a_form_that_openai_does_not_have_are_left_out(logprobs: Any) -> None:
    chunk = delta(content="Hi")
    chunk["choices"][0]["logprobs"] = logprobs
    assert events_of(chunk, STOP) == [Text("Hi"), Finish("stop")]


# ---------------------------------------------------------------- calls

WEATHER = [CallStart(0, "c1", "f"), CallArguments(0, '{"a"'), CallArguments(0, ":1}"), Finish("calls")]


@pytest.mark.parametrize(
    "parts",
    [
        [part(0, "c1", "f", ""), part(0, None, None, '{"a"'), part(0, None, None, ":1}")],
        [part(0, "c1", "f", '{"a"'), part(0, "c1", "f", ":1}")],
        [part(0, "c1", "f"), part(0, "", "", '{"a"'), part(0, "", "", ":1}")],
        [part(None, "c1", "f", '{"a"'), part(None, "c1", None, ":1}")],
        [part(None, "c1", "f", '{"a"'), part(None, "", None, ":1}")],
        [part(0, "c1", "f", '{"a"'), part(0, "c2", None, ":1}")],
        [part(0, "c1", "f", '{"a"'), part(0, None, "f", ":1}")],
        [part(0, "c1"), part(0, None, None, '{"a"'), part(0, None, "f", ":1}")],
    ],
    ids=[
        "as OpenAI",
        "id and name repeated",
        "empty id and name repeated",
        "no index, id repeated",
        "no index, empty id",
        "another id in each chunk",
        "name repeated",
        "name last",
    ],
)
def test_one_call_in_each_of_the_forms_in_which_hosts_stream_it(parts: list[dict[str, Any]]) -> None:
    assert events_of(*(calls(each) for each in parts), ending("tool_calls")) == WEATHER


TWO = [
    CallStart(0, "", "f"),
    CallArguments(0, '{"a":1}'),
    CallStart(1, "", "g"),
    CallArguments(1, '{"b":2}'),
    Finish("calls"),
]


@pytest.mark.parametrize(
    "chunks",
    [
        [calls(part(0, "c1", "f", '{"a":1}')), calls(part(1, "c2", "g", '{"b":2}'))],
        [calls(part(0, "c1", "f", '{"a":1}'), part(1, "c2", "g", '{"b":2}'))],
        [calls(part(0, "c1", "f", '{"a":1}')), calls(part(0, "c2", "g", '{"b":2}'))],
        [calls(part(0, "", "f", '{"a":1}')), calls(part(0, "", "g", '{"b":2}'))],
        [calls(part(None, "c1", "f", '{"a":1}'), part(None, "c2", "g", '{"b":2}'))],
        [calls(part(None, None, "f", '{"a":1}')), calls(part(None, None, "g", '{"b":2}'))],
        [calls(part(0, "c1", "f", {"a": 1})), calls(part(1, "c2", "g", {"b": 2}))],
        [
            calls(part(0, "c1", "f", '{"a":1}')),
            calls(part(1, "c2", "g", "")),
            calls(part(1, None, None, '{"b":2}')),
        ],
    ],
    ids=[
        "as OpenAI",
        "all in one chunk",
        "same index, new id",
        "same index, empty ids",
        "no index",
        "no index, no ids",
        "arguments as objects",
        "one whole, one streamed",
    ],
)
@pytest.mark.parametrize("reason", ["tool_calls", "stop", "function_call"])
def test_two_calls_in_each_of_the_forms_in_which_hosts_send_them(chunks: list[Any], reason: str) -> None:
    events = events_of(*chunks, ending(reason))
    ids = [event.call_id for event in events if isinstance(event, CallStart)]
    assert ids in (["c1", "c2"], ["", ""])
    nameless = [CallStart(each.index, "", each.name) if isinstance(each, CallStart) else each for each in events]
    assert nameless == TWO


def test_the_same_function_twice_with_one_index_and_no_ids_is_two_calls_once_the_first_is_whole() -> None:
    events = events_of(calls(part(0, "", "f", '{"a":1}')), calls(part(0, "", "f", '{"a":2}')), STOP)
    assert [event.index for event in events if isinstance(event, CallStart)] == [0, 1]


def test_the_function_call_of_old() -> None:
    first, second = {"name": "f", "arguments": '{"a"'}, {"arguments": ":1}"}
    events = events_of(delta(function_call=first), delta(function_call=second), ending("function_call"))
    assert events == [CallStart(0, "", "f"), *WEATHER[1:]]


def test_interleaved_calls_are_told_apart_by_index() -> None:
    events = events_of(
        calls(part(0, "c1", "f", "{")), calls(part(1, "c2", "g", "{")), calls(part(0, arguments="}")), STOP
    )
    assert [(event.index, event.text) for event in events if isinstance(event, CallArguments)] == [
        (0, "{"),
        (1, "{"),
        (0, "}"),
    ]


def test_a_call_that_never_says_its_name_is_a_broken_answer() -> None:
    assert "without a name" in failure(stream(calls(part(0, "c1", None, "{}")), STOP)).message


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("tool_calls", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "filter"),
        ("SAFETY", "filter"),
        ("something new", "stop"),
    ],
)
def test_finish_reasons_in_the_words_of_hosts(said: str, meant: str) -> None:
    """`tool_calls` without any call is a plain stop."""
    assert events_of(delta(content="a"), ending(said))[-1].reason == meant  # type: ignore[union-attr]


def test_a_limit_is_a_limit_also_where_there_were_calls() -> None:
    assert events_of(calls(part(0, "c1", "f", '{"a')), ending("length"))[-1] == Finish("length")


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_a_host_that_gives_up_has_not_finished(reason: str) -> None:
    assert reason in failure(stream(delta(content="a"), ending(reason))).message


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Tokens(3, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}, Tokens(3, 2)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Tokens(9, 5, cached=4, reasoning=3, cache_write=1),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}, Tokens(9, 5, cached=4)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 21}, Tokens(9, 12, reasoning=7)),
        ({"prompt_tokens": None, "completion_tokens": "2", "total_tokens": 2.0}, Tokens(0, 2)),
    ],
    ids=["plain", "nulls", "OpenAI's details", "DeepSeek's cache", "reasoning counted apart", "odd types"],
)
def test_usage_is_read_and_comes_right_before_the_finish(usage: dict[str, Any], tokens: Tokens) -> None:
    with_choice = {**STOP, "usage": usage}
    alone = {"choices": [], "usage": usage}
    groq = {**STOP, "x_groq": {"id": "r", "usage": usage}}
    assert events_of(delta(content="a"), with_choice) == [Text("a"), tokens, Finish("stop")]
    assert events_of(alone, delta(content="a"), STOP) == [Text("a"), tokens, Finish("stop")]
    assert events_of(delta(content="a"), STOP, alone) == [Text("a"), tokens, Finish("stop")]
    assert events_of(delta(content="a"), groq) == [Text("a"), tokens, Finish("stop")]


def test_the_last_count_holds() -> None:
    first = {**delta(content="a"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    last = {**STOP, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    assert events_of(first, last) == [Text("a"), Tokens(3, 2), Finish("stop")]


def test_the_service_tier_is_said_once() -> None:
    chunk = {**delta(content="a"), "service_tier": "flex"}
    assert events_of(chunk, chunk, STOP) == [Served("flex"), Text("a"), Text("a"), Finish("stop")]


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
