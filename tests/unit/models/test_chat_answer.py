"""What chunks of a chat completion say, as model events, whatever the host's way of saying it."""

import json
from typing import Any

import msgspec
import pytest

from antiphon.errors import Upstream
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
from antiphon.models.chat_answer import Answer, Chunk

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


def events_of(*chunks: dict[str, Any]) -> list[ModelEvent]:
    answer, events = Answer("test"), list[ModelEvent]()
    for chunk in chunks:
        answer.feed(msgspec.json.decode(json.dumps(chunk), type=Chunk), events)
    return events + answer.end()


def failure(*chunks: dict[str, Any]) -> Upstream:
    with pytest.raises(Upstream) as caught:
        events_of(*chunks)
    return caught.value


def test_only_the_first_choice_is_read() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}
    assert events_of(delta(content="yes"), other, STOP) == [Text("yes"), Finish("stop")]


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
    assert "without a name" in failure(calls(part(0, "c1", None, "{}")), STOP).message


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
    assert reason in failure(delta(content="a"), ending(reason)).message


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
