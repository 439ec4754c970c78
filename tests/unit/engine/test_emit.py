"""Model events in, wire events out: a table of streams, and the properties that hold for all of them."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from antiphon.engine import journal
from antiphon.engine.emit import Emitter
from antiphon.engine.state import Outcome, decide
from antiphon.models.base import (
    CallArguments,
    CallStart,
    Compacted,
    Finish,
    ModelEvent,
    Reasoning,
    Refusal,
    Served,
    Text,
    Tokens,
)
from antiphon.tools.offers import offers
from antiphon.wire.events import TERMINAL, Event, event_type
from antiphon.wire.items import Logprob
from antiphon.wire.responses import Response, ResponseError
from antiphon.wire.tools import (
    ApplyPatchTool,
    ComputerTool,
    ComputerUsePreviewTool,
    CustomTool,
    FunctionTool,
    LocalShellTool,
    NamespaceTool,
    ShellTool,
)

TOOLS = [
    FunctionTool(name="f", parameters={"type": "object"}),
    CustomTool(name="note"),
    NamespaceTool(name="crm", description="", tools=[FunctionTool(name="find")]),
    LocalShellTool(),
    ShellTool(),
    ApplyPatchTool(),
    ComputerTool(),
    ComputerUsePreviewTool(display_width=800, display_height=600, environment="linux"),
]
SDK_EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def begun() -> Response:
    return Response(id="resp_00ff", created_at=1, status="in_progress", model="m", tools=TOOLS)


def emitted(model_events: list[ModelEvent]) -> list[Event]:
    emitter = Emitter(begun(), offers(TOOLS, {}), {})
    out = [*emitter.open(), *emitter.feed(model_events)]
    return [*out, *emitter.close(decide(emitter.turn, at=9))]


def types(events: list[Event]) -> list[str]:
    return [event_type(event).removeprefix("response.") for event in events]


def final(events: list[Event]) -> Response:
    return events[-1].response


CUSTOM_INPUT = '{"input": "hey"}'
TABLE: dict[str, tuple[list[ModelEvent], str]] = {
    "text": (
        [Text("a"), Text("b"), Finish("stop")],
        """
        output_item.added content_part.added output_text.delta output_text.delta
        output_text.done content_part.done output_item.done completed
        """,
    ),
    "reasoning, then text": (
        [Reasoning("hm"), Text("a"), Finish("stop")],
        """
        output_item.added content_part.added reasoning_text.delta
        reasoning_text.done content_part.done output_item.done
        output_item.added content_part.added output_text.delta
        output_text.done content_part.done output_item.done completed
        """,
    ),
    "text, then a refusal in the same message": (
        [Text("a"), Refusal("no"), Finish("stop")],
        """
        output_item.added content_part.added output_text.delta output_text.done content_part.done
        content_part.added refusal.delta refusal.done content_part.done output_item.done completed
        """,
    ),
    "text, then a call": (
        [Text("a"), CallStart(0, "c1", "f"), CallArguments(0, "{}"), Finish("calls")],
        """
        output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done
        output_item.added function_call_arguments.delta function_call_arguments.done output_item.done completed
        """,
    ),
    "a custom tool": (
        [CallStart(0, "c1", "note"), CallArguments(0, CUSTOM_INPUT), Finish("calls")],
        """
        output_item.added custom_tool_call_input.delta custom_tool_call_input.done output_item.done completed
        """,
    ),
    "a shell": (
        [CallStart(0, "c1", "shell"), CallArguments(0, '{"commands": ["ls"]}'), Finish("calls")],
        """
        output_item.added shell_call_command.added shell_call_command.delta shell_call_command.done
        output_item.done completed
        """,
    ),
    "a compaction, then text": (
        [Compacted("sealed"), Text("a"), Finish("stop")],
        """
        output_item.added output_item.done
        output_item.added content_part.added output_text.delta
        output_text.done content_part.done output_item.done completed
        """,
    ),
    "nothing but a finish": ([Finish("stop")], "completed"),
    "nothing at all": ([], "failed"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_stream_has_exactly_these_events(name):
    model_events, expected = TABLE[name]
    assert types(emitted(model_events)) == ["created", "in_progress", *expected.split()]


@pytest.mark.parametrize(
    ("name", "arguments", "item"),
    [
        ("f", '{"x": 1}', {"type": "function_call", "name": "f", "arguments": '{"x": 1}'}),
        ("crm__find", "{}", {"type": "function_call", "name": "find", "namespace": "crm"}),
        ("unheard_of", "{}", {"type": "function_call", "name": "unheard_of"}),
        ("note", CUSTOM_INPUT, {"type": "custom_tool_call", "name": "note", "input": "hey"}),
        ("local_shell", '{"command": ["ls", "-l"]}', {"type": "local_shell_call"}),
        ("shell", '{"commands": ["ls"]}', {"type": "shell_call"}),
        ("apply_patch", '{"type": "delete_file", "path": "a"}', {"type": "apply_patch_call"}),
        ("computer", '{"actions": [{"type": "screenshot"}]}', {"type": "computer_call"}),
        ("computer_use_preview", '{"action": {"type": "wait"}}', {"type": "computer_call"}),
    ],
)
def test_a_call_becomes_the_item_of_its_tool(name, arguments, item):
    events = emitted([CallStart(0, "c1", name), CallArguments(0, arguments), Finish("calls")])
    made = msgspec.to_builtins(final(events).output[0])
    assert {key: made.get(key) for key in item} == item
    assert made["call_id"] == "c1"
    assert made["status"] == "completed"
    assert final(events).status == "completed"


MISFITS = [
    ("f", '{"x": '),
    ("note", "[]"),
    ("note", '{"input": 3}'),
    ("shell", '{"commands": []}'),
    ("shell", "{"),
    ("local_shell", '{"command": 1}'),
    ("apply_patch", '{"type": "rename_file"}'),
    ("apply_patch", '{"type": "update_file", "path": "a"}'),
    ("computer", "{}"),
    ("computer_use_preview", '{"action": []}'),
]


@pytest.mark.parametrize(("name", "arguments"), MISFITS)
def test_arguments_that_do_not_fit_fail_the_response_and_say_why(name, arguments):
    response = final(emitted([CallStart(0, "c1", name), CallArguments(0, arguments), Finish("calls")]))
    assert response.status == "failed"
    assert repr(name) in response.error.message


def test_a_call_that_a_limit_cut_off_is_incomplete_and_no_fault():
    response = final(emitted([CallStart(0, "c1", "f"), CallArguments(0, '{"x": '), Finish("length")]))
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"


def test_a_custom_call_that_a_limit_cut_off_was_never_shown():
    events = emitted([CallStart(0, "c1", "note"), CallArguments(0, '{"inp'), Finish("length")])
    assert types(events) == ["created", "in_progress", "incomplete"]


def test_calls_whose_arguments_interleave_are_kept_apart():
    model_events = [CallStart(0, "c1", "f"), CallStart(1, "c2", "f")]
    model_events += [
        CallArguments(0, '{"a'),
        CallArguments(1, '{"b'),
        CallArguments(0, '":1}'),
        CallArguments(1, '":2}'),
    ]
    response = final(emitted([*model_events, Finish("calls")]))
    assert [(item.call_id, item.arguments) for item in response.output] == [("c1", '{"a":1}'), ("c2", '{"b":2}')]


def test_a_whole_call_is_done_as_soon_as_the_next_begins():
    events = emitted([CallStart(0, "c1", "f"), CallArguments(0, "{}"), CallStart(1, "c2", "f"), Finish("calls")])
    seen = types(events)
    assert seen.index("output_item.done") < seen.index("output_item.added", 3)


def test_calls_without_an_id_get_different_ones():
    response = final(emitted([CallStart(index, "", "f") for index in range(4)] + [Finish("calls")]))
    assert len({item.call_id for item in response.output}) == 4


def test_a_call_without_arguments_has_an_empty_object():
    assert final(emitted([CallStart(0, "c1", "f"), Finish("calls")])).output[0].arguments == "{}"


def test_a_stream_that_broke_closes_what_was_open_as_incomplete():
    emitter = Emitter(begun(), {}, {})
    emitter.open()
    emitter.feed([Text("half")])
    error = ResponseError(code="server_error", message="gone")
    *closing, last = emitter.close(Outcome(cause="fail", at=2, error=error))
    assert types(closing) == ["output_text.done", "content_part.done", "output_item.done"]
    assert closing[-1].item.status == "incomplete"
    assert last.response.error == error


def test_usage_is_what_the_host_reported_last():
    usage = final(emitted([Tokens(1, 1), Tokens(10, 5, cached=3, reasoning=2), Finish("stop")])).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (10, 5, 15)
    assert usage.input_tokens_details.cached_tokens == 3
    assert usage.output_tokens_details.reasoning_tokens == 2


def test_usage_is_the_sum_of_the_compaction_and_the_answer():
    model_events = [Tokens(1, 1), Tokens(100, 20, cached=7), Compacted("sealed"), Tokens(10, 5, cached=3)]
    usage = final(emitted([*model_events, Finish("stop")])).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (110, 25, 135)
    assert usage.input_tokens_details.cached_tokens == 10
    assert final(emitted([*model_events[:3], Finish("stop")])).usage.total_tokens == 120


def test_a_compaction_item_is_whole_when_it_is_done():
    added, done = emitted([Compacted("sealed"), Finish("stop")])[2:4]
    assert (added.item.encrypted_content, done.item.encrypted_content) == ("", "sealed")
    assert added.item.id == done.item.id == "cmp_00ff0000"


def test_a_call_that_follows_a_compaction_has_said_nothing_yet():
    emitter = Emitter(begun(), {}, {})
    emitter.feed([Compacted("sealed")])
    assert (emitter.half_said, emitter.compacted) == (False, "sealed")
    emitter.feed([Text("half")])
    assert emitter.half_said


def test_the_final_service_tier_is_the_one_that_served():
    assert final(emitted([Served("priority"), Finish("stop")])).service_tier == "priority"


# ---------------------------------------------------------------- properties

TEXTS = st.text(max_size=5)
PLAIN = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(Text, TEXTS, st.lists(st.builds(Logprob, token=TEXTS, logprob=st.just(-0.5)), max_size=2)),
    st.builds(Reasoning, TEXTS),
    st.builds(Refusal, TEXTS),
    st.builds(Tokens, st.integers(0, 9), st.integers(0, 9)),
    st.builds(Served, st.sampled_from(["default", "flex"])),
    st.builds(Compacted, TEXTS),
    st.builds(CallStart, st.integers(0, 2), st.sampled_from(["", "c1", "c2"]), st.sampled_from(["f", "note", "shell"])),
    st.builds(CallArguments, st.integers(0, 2), st.sampled_from(["{}", '{"input":', '"x"}', '{"commands":["a"]}'])),
)
STREAMS = st.builds(
    lambda events, finish: [*events, *finish],
    st.lists(PLAIN, max_size=12),
    st.lists(st.builds(Finish, st.sampled_from(["stop", "calls", "length", "filter"])), max_size=1),
)


@st.composite
def streams_in_batches(draw):
    events = draw(STREAMS)
    cuts = sorted(draw(st.sets(st.integers(0, len(events)), max_size=5)))
    edges = [0, *cuts, len(events)]
    return events, [events[start:end] for start, end in itertools.pairwise(edges)]


@given(streams_in_batches())
def test_batches_do_not_matter_although_each_is_printed_before_the_next_is_known(case):
    events, batches = case
    emitter = Emitter(begun(), offers(TOOLS, {}), {})
    printed = [msgspec.json.encode(event) for event in emitter.open()]
    for batch in batches:
        printed += [msgspec.json.encode(event) for event in emitter.feed(batch)]
    printed += [msgspec.json.encode(event) for event in emitter.close(decide(emitter.turn, at=9))]
    assert printed == [msgspec.json.encode(event) for event in emitted(events)]


@st.composite
def text_in_pieces(draw):
    text = draw(st.text(max_size=30))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    edges = [0, *cuts, len(text)]
    return text, [text[start:end] for start, end in itertools.pairwise(edges)]


@given(text_in_pieces(), text_in_pieces(), text_in_pieces())
def test_any_chunking_of_the_same_output_gives_the_same_items(thought, said, argument):
    def events(thoughts: list[str], texts: list[str], arguments: list[str]) -> list[ModelEvent]:
        out: list[ModelEvent] = [Reasoning(piece) for piece in thoughts]
        out += [Text(piece) for piece in texts]
        out += [CallStart(0, "c1", "f"), CallArguments(0, '{"a":"')]
        out += [CallArguments(0, msgspec.json.encode(piece).decode()[1:-1]) for piece in arguments]
        return [*out, CallArguments(0, '"}'), Finish("calls")]

    whole = final(emitted(events([thought[0]], [said[0]], [argument[0]])))
    pieces = final(emitted(events(thought[1], said[1], argument[1])))
    assert pieces == whole


@given(STREAMS)
def test_every_stream_is_well_formed(model_events):
    events = emitted(model_events)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert types(events)[:2] == ["created", "in_progress"]
    assert [isinstance(event, TERMINAL) for event in events] == [False] * (len(events) - 1) + [True]
    added = [event.output_index for event in events if event_type(event) == "response.output_item.added"]
    done = [event for event in events if event_type(event) == "response.output_item.done"]
    assert added == sorted(set(added))
    assert sorted(event.output_index for event in done) == added
    assert final(events).output == [event.item for event in sorted(done, key=lambda event: event.output_index)]
    for event in events:
        SDK_EVENT.validate_json(msgspec.json.encode(event))


@given(STREAMS)
def test_a_run_is_shown_again_from_its_journal_byte_for_byte(model_events):
    emitter = Emitter(begun(), offers(TOOLS, {}), {})
    events = [*emitter.open(), *emitter.feed(model_events)]
    events += emitter.close(decide(emitter.turn, at=9))
    head = journal.Journal(service_tier=begun().service_tier, sealed=False)
    part = journal.encode(emitter.journal)
    response = msgspec.json.decode(msgspec.json.encode(emitter.response), type=Response)
    again = Emitter(head.begun(response), offers(TOOLS, {}), {})
    shown = [*again.open(), *again.feed(journal.decode_part(part)), *again.close(journal.outcome_of(response))]
    assert msgspec.json.encode(shown) == msgspec.json.encode(events)
