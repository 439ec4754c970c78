"""The rules checker accepts a stream that keeps the rules and names each rule that one breaks."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from antiphon.testing.rules import Broken, check

Events = list[dict[str, Any]]

RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "in_progress",
    "model": "m",
    "output": [],
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "top_p": 1.0,
    "text": {"format": {"type": "text"}},
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "temperature": 1.0,
    "store": True,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "completed_at": None,
    "incomplete_details": None,
    "previous_response_id": None,
    "instructions": None,
    "error": None,
    "reasoning": None,
    "usage": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "safety_identifier": None,
    "prompt_cache_key": None,
}
USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}
PART = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [PART]}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}


def good() -> Events:
    """A text message and a function call."""
    in_part = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    in_call = {"output_index": 1, "item_id": "fc_1"}
    done = {**RESPONSE, "status": "completed", "completed_at": 2, "usage": USAGE, "output": [MESSAGE, CALL]}
    new_message = {**MESSAGE, "status": "in_progress", "content": []}
    new_call = {**CALL, "status": "in_progress", "arguments": ""}
    events: Events = [
        {"type": "response.created", "response": RESPONSE},
        {"type": "response.in_progress", "response": RESPONSE},
        {"type": "response.output_item.added", "output_index": 0, "item": new_message},
        {"type": "response.content_part.added", **in_part, "part": {**PART, "text": ""}},
        {"type": "response.output_text.delta", **in_part, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", **in_part, "delta": "lo", "logprobs": []},
        {"type": "response.output_text.done", **in_part, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **in_part, "part": PART},
        {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
        {"type": "response.output_item.added", "output_index": 1, "item": new_call},
        {"type": "response.function_call_arguments.delta", **in_call, "delta": "{}"},
        {"type": "response.function_call_arguments.done", **in_call, "name": "f", "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        {"type": "response.completed", "response": done},
    ]
    return copy.deepcopy(events)


CITED = {"type": "file_citation", "file_id": "file-1", "filename": "a.pdf", "index": 3}
SEARCH = {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "status": "completed", "results": None}


def searched() -> Events:
    """A search that the server runs, and a message that cites what it found."""
    in_part = {"output_index": 1, "item_id": "msg_1", "content_index": 0}
    in_search = {"output_index": 0, "item_id": "fs_1"}
    part = {**PART, "annotations": [CITED]}
    message = {**MESSAGE, "content": [part]}
    done = {**RESPONSE, "status": "completed", "completed_at": 2, "usage": USAGE, "output": [SEARCH, message]}
    new_message = {**MESSAGE, "status": "in_progress", "content": []}
    new_search = {**SEARCH, "status": "in_progress"}
    cited = {"type": "response.output_text.annotation.added", **in_part, "annotation_index": 0, "annotation": CITED}
    events: Events = [
        {"type": "response.created", "response": RESPONSE},
        {"type": "response.in_progress", "response": RESPONSE},
        {"type": "response.output_item.added", "output_index": 0, "item": new_search},
        {"type": "response.file_search_call.in_progress", **in_search},
        {"type": "response.file_search_call.searching", **in_search},
        {"type": "response.file_search_call.completed", **in_search},
        {"type": "response.output_item.done", "output_index": 0, "item": SEARCH},
        {"type": "response.output_item.added", "output_index": 1, "item": new_message},
        {"type": "response.content_part.added", **in_part, "part": {**PART, "text": ""}},
        {"type": "response.output_text.delta", **in_part, "delta": "Hel", "logprobs": []},
        cited,
        {"type": "response.output_text.delta", **in_part, "delta": "lo", "logprobs": []},
        {"type": "response.output_text.done", **in_part, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **in_part, "part": part},
        {"type": "response.output_item.done", "output_index": 1, "item": message},
        {"type": "response.completed", "response": done},
    ]
    return copy.deepcopy(events)


def raw(events: Events, *, renumber: bool = True) -> bytes:
    """The events as a server would send them."""
    if renumber:
        events = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    frames = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return ("".join(frames) + "data: [DONE]\n\n").encode()


def test_a_good_stream_is_accepted_and_readable() -> None:
    stream = check(raw(good()))
    assert stream.text == "Hello"
    assert stream.deltas() == ["Hel", "lo"]
    assert stream.of("function_call") == [CALL]
    assert stream.response["status"] == "completed"


def changed(index: int, **fields: Any) -> Callable[[Events], Events]:
    """Changes fields of one event."""

    def change(events: Events) -> Events:
        events[index].update(fields)
        return events

    return change


def without(*indexes: int) -> Callable[[Events], Events]:
    """Leaves events out."""
    return lambda events: [event for index, event in enumerate(events) if index not in indexes]


def swapped(one: int, other: int) -> Callable[[Events], Events]:
    """Exchanges two events."""

    def change(events: Events) -> Events:
        events[one], events[other] = events[other], events[one]
        return events

    return change


def final(**fields: Any) -> Callable[[Events], Events]:
    """Changes fields of the final response."""

    def change(events: Events) -> Events:
        events[-1]["response"].update(fields)
        return events

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without(0), "expected response.created"),
        (without(1), "expected response.in_progress"),
        (without(2), "was never added"),
        (without(3), "content_index 0 was never added"),
        (without(4), "do not make 'Hello'"),
        (without(6), "no response.output_text.done before it"),
        (without(7), "with an open part"),
        (without(8), "is never done"),
        (without(11), "is not what was streamed"),
        (without(13), "no terminal event"),
        (swapped(12, 13), "after the terminal event"),
        (swapped(5, 6), "a delta after the text was done"),
        (swapped(7, 8), "the item is done already"),
        (changed(5, delta="LO"), "do not make 'Hello'"),
        (changed(5, item_id="msg_2"), "item_id 'msg_2'"),
        (changed(9, output_index=2), "output_index 2, expected 1"),
        (changed(4, logprobs=None), "valid list"),
        (changed(4, colour="red"), "unknown field colour"),
        (changed(10, type="response.mcp_call.arguments.delta"), "no such event"),
        (changed(8, item={**MESSAGE, "id": "msg_9"}), "added as msg_1/message"),
        (changed(8, item={**MESSAGE, "status": "in_progress"}), "status of a done item"),
        (final(id="resp_2"), "response id 'resp_2'"),
        (final(status="failed"), "expected 'completed'"),
        (final(output=[MESSAGE]), "is not the done items"),
        (final(truncation=None), "truncation is missing or null"),
        (final(usage={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}), "cached_tokens is missing"),
        (final(completed_at=None), "completed without completed_at"),
        (final(error={"code": "server_error", "message": "x"}), "with error"),
        (changed(0, response={**RESPONSE, "output": [MESSAGE]}), "before the end"),
    ],
)
def test_a_broken_rule_is_named(change: Callable[[Events], Events], says: str) -> None:
    with pytest.raises(Broken) as broken:
        check(raw(change(good())))
    assert says in str(broken.value)


def test_a_stream_with_a_search_is_accepted() -> None:
    assert check(raw(searched())).of("file_search_call") == [SEARCH]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without(3), "comes after []"),
        (without(4), "comes after ['in_progress']"),
        (without(5), "completed after ['in_progress', 'searching']"),
        (swapped(4, 5), "comes after ['in_progress']"),
        (swapped(5, 6), "the item is done already"),
        (changed(6, item={**SEARCH, "status": "failed"}), "failed after"),
        (changed(5, output_index=1, item_id="msg_1"), "was never added"),
        (swapped(6, 7), "the model speaks before it can know what came of fs_1"),
        (swapped(9, 10), "of a text of which 0 characters have come"),
        (swapped(10, 12), "or which was done"),
        (changed(10, annotation_index=1), "annotation_index 1, expected 0"),
        (without(10), "annotations [{'type': 'file_citation'"),
    ],
)
def test_a_broken_rule_of_searches_and_citations_is_named(change: Callable[[Events], Events], says: str) -> None:
    with pytest.raises(Broken) as broken:
        check(raw(change(searched())))
    assert says in str(broken.value)


def test_gaps_in_numbering_are_named() -> None:
    events = [{**event, "sequence_number": number * 2} for number, event in enumerate(good())]
    with pytest.raises(Broken, match="sequence_number 2, expected 1"):
        check(raw(events, renumber=False))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"data: [DONE]\n\n", b"", "not .DONE."),
        (b"event: response.output_text.done", b"event: response.output_text", "event line"),
        (b"event: response.created\n", b"", "not one event line"),
        (b"[DONE]\n\n", b"[DONE]\n", "does not end with an empty line"),
    ],
)
def test_broken_framing_is_named(old: bytes, new: bytes, says: str) -> None:
    with pytest.raises(Broken, match=says):
        check(raw(good()).replace(old, new))
