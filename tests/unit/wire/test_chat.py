"""Chat completions, completions and embeddings on the wire: what is refused, what is kept, what is put together."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from antiphon.wire.chat import (
    CreateChatCompletion,
    CreateCompletion,
    StoredChatCompletion,
    UpdateChatCompletion,
    assemble,
    rewritten,
    stored,
)
from antiphon.wire.embeddings import CreateEmbedding, mixed

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> CreateChatCompletion:
    body = {"model": "m", "messages": [USER], **fields}
    return msgspec.json.decode(json.dumps(body).encode(), type=CreateChatCompletion)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"unknown": {"x": 1}, "tools": [{"type": "browser_search"}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}], "reasoning": "hm"}]},
        {"messages": [{"role": "tool", "content": [{"type": "text", "text": "x"}], "tool_call_id": "c"}]},
        {"temperature": 2, "top_p": 0, "n": 128, "top_logprobs": 20, "presence_penalty": -2, "stop": ["a"] * 4},
        {"temperature": None, "stop": None, "metadata": None, "logit_bias": None, "tool_choice": {"type": "function"}},
        {"stop": "x", "logit_bias": {"5": -100}, "metadata": {"a": "b"}, "response_format": {"type": "text"}},
        {"max_tokens": 1, "max_completion_tokens": 1, "seed": -1, "stream_options": {"include_usage": True}},
    ],
)
def test_a_body_within_the_limits_is_taken(fields: dict[str, Any]) -> None:
    assert chat(**fields).model == "m"


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"model": ""}, "$.model"),
        ({"messages": []}, "$.messages"),
        ({"messages": [{"role": "user"}]}, "$.messages[0]"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "$.messages[0].role"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "$.messages[1]"),
        ({"messages": [{"role": "user", "content": []}]}, "$.messages[0].content"),
        ({"temperature": 2.1}, "$.temperature"),
        ({"top_p": -0.1}, "$.top_p"),
        ({"n": 0}, "$.n"),
        ({"n": 129}, "$.n"),
        ({"top_logprobs": 21}, "$.top_logprobs"),
        ({"presence_penalty": 2.1}, "$.presence_penalty"),
        ({"frequency_penalty": -2.1}, "$.frequency_penalty"),
        ({"stop": ["a"] * 5}, "$.stop"),
        ({"max_tokens": 0}, "$.max_tokens"),
        ({"max_completion_tokens": 0}, "$.max_completion_tokens"),
        ({"logit_bias": {"5": 101}}, "$.logit_bias"),
        ({"metadata": {"k" * 65: "v"}}, "`key` in `$.metadata`"),
        ({"metadata": {"k": "v" * 513}}, "$.metadata"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "$.metadata"),
        ({"tools": [{"type": "function"}] * 129}, "$.tools"),
        ({"functions": []}, "$.functions"),
        ({"response_format": {"type": "xml"}}, "$.response_format.type"),
        ({"reasoning_effort": "heroic"}, "$.reasoning_effort"),
        ({"service_tier": "gold"}, "$.service_tier"),
        ({"modalities": ["smell"]}, "$.modalities[0]"),
        ({"seed": 2**63}, "$.seed"),
    ],
)
def test_what_exceeds_the_published_limits_is_refused_by_name(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        chat(**fields)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [{"best_of": 21}, {"logprobs": 6}, {"n": 0}, {"max_tokens": -1}, {"temperature": -1}, {"prompt": 5}, {"model": 5}],
)
def test_a_text_completion_beyond_its_limits_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(fields))):
        msgspec.convert({"model": "m", "prompt": "p", **fields}, CreateCompletion)


def test_an_update_needs_metadata() -> None:
    with pytest.raises(msgspec.ValidationError, match="metadata"):
        msgspec.json.decode(b"{}", type=UpdateChatCompletion)


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2], [[1], [2, 3]], ["a"] * 2048])
def test_inputs_that_can_be_embedded(given: Any) -> None:
    body = msgspec.convert({"model": "m", "input": given, "dimensions": 1}, CreateEmbedding)
    assert not mixed(body)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ""},
        {"input": []},
        {"input": ["a", ""]},
        {"input": [[]]},
        {"input": ["a"] * 2049},
        {"input": [-1]},
        {"input": {"a": 1}},
        {"input": "a", "dimensions": 0},
        {"input": "a", "encoding_format": "hex"},
    ],
)
def test_inputs_that_cannot(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=list(fields)[-1]):
        msgspec.convert({"model": "m", **fields}, CreateEmbedding)


def test_a_list_of_different_kinds_is_mixed() -> None:
    assert mixed(msgspec.convert({"model": "m", "input": ["a", 1]}, CreateEmbedding))


def test_rewriting_sets_members_and_leaves_all_others_as_they_were() -> None:
    body = b'{"model":"host/m","messages":[ 1.50, {"a" : "\xc3\xbc"}],"big":123456789012345678901234567890}'
    assert rewritten(body, {"model": "m", "store": False}) == (
        b'{"model":"m","messages":[ 1.50, {"a" : "\xc3\xbc"}],"big":123456789012345678901234567890,"store":false}'
    )


# ---------------------------------------------------------------- stored completions


def stream(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "chatcmpl-1", "created": 5, "model": "m", "object": "chat.completion.chunk", "choices": [choice]}


def official(completion: StoredChatCompletion | None) -> ChatCompletion:
    assert completion is not None
    return ChatCompletion.model_validate_json(msgspec.json.encode(completion), strict=True)


def test_a_streamed_completion_is_put_together() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    more = {"index": 0, "function": {"arguments": ":1}"}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    data = stream(
        chunk(role="assistant", content="Hel", reasoning_content="hm"),
        chunk(content="lo"),
        chunk(tool_calls=[call]),
        chunk(tool_calls=[more]),
        chunk(finish="tool_calls"),
        {**chunk(), "choices": [], "usage": usage},
    )
    whole = official(assemble(data, {"k": "v"}))
    message = whole.choices[0].message
    assert (whole.id, whole.created, whole.model, whole.choices[0].finish_reason) == (
        "chatcmpl-1",
        5,
        "m",
        "tool_calls",
    )
    assert (message.content, message.tool_calls[0].to_dict()["function"]) == (  # type: ignore[index]
        "Hello",
        {"name": "f", "arguments": '{"a":1}'},
    )
    assert whole.usage is not None
    assert whole.usage.total_tokens == 5
    assert whole.to_dict()["metadata"] == {"k": "v"}


def test_each_of_several_choices_is_put_together() -> None:
    token = {"token": "b", "logprob": -1.0, "bytes": [98], "top_logprobs": []}
    second = chunk(1, content="b")
    second["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    data = stream(chunk(1, finish="length", content=""), chunk(0, content="a"), second, chunk(0, finish="stop"))
    whole = official(assemble(data))
    assert [choice.message.content for choice in whole.choices] == ["a", "b"]
    assert [choice.finish_reason for choice in whole.choices] == ["stop", "length"]
    assert whole.choices[0].logprobs is None
    assert whole.choices[1].logprobs is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"data: [DONE]\n\n",
        b"<html></html>",
        b"data: nonsense\n\n",
        b"data: [1]\n\n",
        stream(chunk(content="cut off")),
        stream(chunk(content="a", finish="stop"), chunk(1, content="the other was cut")),
        stream({**chunk(finish="stop"), "created": "yesterday"}),
    ],
)
def test_what_is_no_whole_stream_gives_nothing(data: bytes) -> None:
    assert assemble(data) is None


def test_a_whole_answer_is_stored_as_it_was() -> None:
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "service_tier": "default",
        "x_host": {"extra": 1},
    }
    whole = official(stored(json.dumps(answer).encode(), {"k": "v"}))
    assert (whole.choices[0].message.content, whole.service_tier) == ("Hello", "default")
    assert not hasattr(whole, "x_host")


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"choices": 1}', b'{"choices": [], "created": "x"}', b'"\xff"']
)
def test_what_is_no_completion_is_not_stored(answer: bytes) -> None:
    assert stored(answer) is None


_NAMES = st.sampled_from(
    [
        "id",
        "choices",
        "delta",
        "message",
        "index",
        "finish_reason",
        "content",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "logprobs",
        "usage",
        "created",
    ]
)
_ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 5), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_NAMES, inner, max_size=4)),
    max_leaves=12,
)


@given(_ODD, _ODD, _ODD, _ODD)
def test_odd_answers_are_stored_as_the_official_type_or_not_at_all(
    delta: Any, reason: Any, call: Any, whole: Any
) -> None:
    choices = [{"delta": delta, "message": whole, "finish_reason": reason}, {"delta": {"tool_calls": [call]}}, whole]
    answers = [{"choices": choices}, {"choices": whole, "usage": delta}]
    for made in (assemble(stream(*answers)), *(stored(json.dumps(answer).encode()) for answer in answers)):
        assert made is None or msgspec.convert(msgspec.to_builtins(made), StoredChatCompletion) == made


def test_every_recorded_stream_is_put_together_as_the_official_type(shared: Path) -> None:
    seen = 0
    for file in sorted((shared / "recordings").glob("*/*.json")):
        recorded = json.loads(file.read_bytes())
        body = recorded["response"]["body"]
        if recorded["request"].get("endpoint") != "/v1/chat/completions" or not isinstance(body, list):
            continue
        seen += 1
        chunks = [each["__data__"] for each in body]
        deltas = [choice["delta"] for each in chunks for choice in each["choices"]]
        said = "".join(each.get("content") or "" for each in deltas)
        assert (official(assemble(stream(*chunks))).choices[0].message.content or "") == said, file.name
    assert seen == 468
