"""Compaction: what is summarised, what stays word for word, and what a model sees of it afterwards."""

import msgspec
import pytest
from msgspec.structs import replace

from antiphon.engine.compact import (
    INTRODUCTION,
    SUMMARY_ID,
    Kept,
    compacted,
    continued,
    opened,
    seen,
    spent_in,
    summary_in,
    summary_request,
    threshold_of,
    whole_sealed,
    whole_summary_request,
)
from antiphon.engine.prepare import prepare_count
from antiphon.engine.run import Caller
from antiphon.engine.seal import Sealer
from antiphon.errors import InvalidRequest, Upstream
from antiphon.models.base import NO_ACCESS, Choice, Finish, Function, ModelRequest, Text, Tokens
from antiphon.models.tokens import count_tokens
from antiphon.wire.calls import call_of, output_of
from antiphon.wire.items import (
    Compaction,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from antiphon.wire.responses import ContextManagement

SEALER = Sealer(b"secret")
PROMPT = "Summarise."


def item(name: str) -> Item:
    """`s` system, `d` developer, `u` user, `a` assistant, `r` reasoning, `c` call, `o` its output, `S` a summary."""
    kind, number = name[0], name[1:]
    if kind == "S":
        return Message(id=SUMMARY_ID, role="user", content=[InputText(text=name)])
    if kind in "sdu":
        role = {"s": "system", "d": "developer", "u": "user"}[kind]
        return Message(id=f"msg_{name}", role=role, content=[InputText(text=name)])
    if kind == "a":
        return Message(id=f"msg_{name}", role="assistant", content=[OutputText(text=name)])
    if kind == "r":
        return Reasoning(id=f"rs_{name}", content=[ReasoningText(name)])
    if kind == "c":
        return FunctionCall(id=f"fc_{name}", call_id=f"call_{number}", name="f", arguments="{}")
    return FunctionCallOutput(id=f"fco_{name}", call_id=f"call_{number}", output=name)


def context(names: str) -> list[Item]:
    return [item(name) for name in names.split()]


def names(items: list[Item]) -> str:
    """The other way round; a summary that was read back is `S`, the prompt `?`."""
    return " ".join(name_of(one) for one in items)


def name_of(one: Item) -> str:
    if one.id == SUMMARY_ID:
        return "S"
    if one.id is None:
        return "?"
    return one.id.partition("_")[2]


@pytest.fixture
async def run(bench):
    """A prepared run, to be given other contexts and thresholds."""
    return await bench().prepared(input="hi")


def over(run, items: str, **fields: object):
    """The run on this context, of which every token is one too many."""
    request = replace(run.request, items=context(items))
    return replace(run, request=request, **{"compact_threshold": 1, **fields})


@pytest.mark.parametrize(
    ("before", "shown", "after"),
    [
        pytest.param("u1 a1 u2", "u1 a1 ?", "S u2", id="what is to be answered stays"),
        pytest.param("u1 a1 u2 u3", "u1 a1 ?", "S u2 u3", id="all of what is to be answered stays"),
        pytest.param("s1 u1 a1 u2", "s1 u1 a1 ?", "s1 S u2", id="what holds for good stays, first"),
        pytest.param("u1 a1 d1 u2", "u1 a1 ?", "d1 S u2", id="a developer's latest word stays"),
        pytest.param("u1 c1 o1 c2 o2", "u1 c1 o1 ?", "S u1 c2 o2", id="a loop keeps its task and its last step"),
        pytest.param("u1 c1 o1 r2 c2 o2", "u1 c1 o1 ?", "S u1 r2 c2 o2", id="a step has the thoughts that led to it"),
        pytest.param("u1 c1 o1 c2 c3 o2 o3", "u1 c1 o1 ?", "S u1 c2 c3 o2 o3", id="parallel calls stay together"),
        pytest.param("u1 c1 a1 o1", None, None, id="a call stays with its output across what was said in between"),
        pytest.param("u0 c1 u1 a1 o1", "u0 u1 ?", "S c1 u1 a1 o1", id="an output fetches its call from further back"),
        pytest.param("u1 a1 u2 c1", "u1 a1 u2 ?", "S c1", id="a call that awaits its output survives"),
        pytest.param("S1 a1 u2", "S a1 ?", "S u2", id="an earlier summary is summarised with the rest"),
        pytest.param("u1 u2 S1 c1 o1", "u1 u2 S ?", "S u2 c1 o1", id="a step does not reach back into a summary"),
        pytest.param("u1 a1", "u1 a1 ?", "S", id="nothing is to be answered"),
        pytest.param("u1", None, None, id="there is nothing but what is to be answered"),
        pytest.param("s1 d1 u1 u2", None, None, id="nothing was said by the model yet"),
        pytest.param("S1 u2", None, None, id="a summary alone is not summarised again"),
        pytest.param("u1 c1 o1", None, None, id="one step cannot be shortened"),
    ],
)
def test_a_context_is_divided_so_that_the_answer_can_be_given(run, before, shown, after):
    run = over(run, before)
    asked = summary_request(run, PROMPT)
    assert (names(asked.items) if asked else None) == shown
    if asked:
        made = compacted(run, "sum", SEALER)
        assert names(continued(run.request, made.encrypted_content, SEALER).items) == after
        assert_paired(asked.items, open_calls=False)


def assert_paired(items: list[Item], *, open_calls: bool) -> None:
    calls = [call.call_id for one in items if (call := call_of(one))]
    answers = [answer.call_id for one in items if (answer := output_of(one))]
    assert set(answers) <= set(calls)
    assert open_calls or set(calls) == set(answers)


def test_call_ids_that_come_again_are_paired_in_order(run):
    again = [*context("u1 c1 o1 u2"), replace(item("c1"), id="fc_again"), replace(item("o1"), id="fco_again")]
    run = replace(over(run, "u1"), request=replace(run.request, items=again))
    assert names(summary_request(run, PROMPT).items) == "u1 c1 o1 u2 ?"
    made = compacted(run, "sum", SEALER)
    assert names(continued(run.request, made.encrypted_content, SEALER).items) == "S u2 again again"
    twice = [*context("u1 c1"), replace(item("c1"), id="fc_again"), item("o1")]
    assert names(whole_summary_request(replace(run.request, items=twice), PROMPT).items) == "u1 c1 o1 ?"


def test_a_context_is_compacted_when_it_has_more_tokens_than_the_threshold_and_not_before(run):
    run = over(run, "u1 a1 u2")
    tokens = count_tokens(run.request)
    assert summary_request(replace(run, compact_threshold=tokens), PROMPT) is None
    assert summary_request(replace(run, compact_threshold=tokens - 1), PROMPT) is not None
    assert summary_request(replace(run, compact_threshold=None), PROMPT) is None


@pytest.mark.parametrize(
    ("thresholds", "window", "expected"),
    [((), 8000, None), ((1000,), None, 1000), ((2000, 1000), None, 1000), ((None,), None, None), ((None,), 8000, 6000)],
)
def test_the_threshold_is_the_lowest_named_or_a_share_of_the_window(thresholds, window, expected):
    assert threshold_of([ContextManagement(compact_threshold=each) for each in thresholds], window) == expected


def test_the_summary_is_asked_of_the_conversation_as_it_was_and_not_of_what_the_client_wants_of_the_answer(run):
    asked = replace(
        over(run, "u1 a1 u2").request,
        instructions="Be brief.",
        functions=(Function(name="f"),),
        choice=Choice(mode="required"),
        max_output_tokens=16,
        temperature=2.0,
        top_logprobs=3,
        verbosity="low",
        extra={"prompt_cache_key": "k"},
    )
    request = summary_request(replace(over(run, "u1"), request=asked), PROMPT)
    assert request == ModelRequest(
        model=asked.model,
        items=[*context("u1 a1"), Message(role="user", content=[InputText(text=PROMPT)])],
        instructions="Be brief.",
        functions=(Function(name="f"),),
        choice=Choice(mode="none"),
        extra={"prompt_cache_key": "k"},
    )
    made = compacted(run, "sum", SEALER)
    after = continued(asked, made.encrypted_content, SEALER)
    assert replace(after, items=asked.items) == asked


# ---------------------------------------------------------------- a context that is not to be answered


@pytest.mark.parametrize(
    ("before", "shown", "sealed"),
    [
        pytest.param("u1", "u1 ?", "", id="however short"),
        pytest.param("s1 u1 a1 u2", "s1 u1 a1 u2 ?", "s1", id="what holds for good is sealed"),
        pytest.param("u1 c1 o1", "u1 c1 o1 ?", "", id="a call and its output are summarised together"),
        pytest.param("u1 c1 o1 c2 c3 o3", "u1 c1 o1 c3 o3 ?", "c2", id="a call that awaits its output survives"),
    ],
)
def test_a_whole_context_is_summarised_but_for_open_calls(run, before, shown, sealed):
    request = over(run, before).request
    assert names(whole_summary_request(request, PROMPT).items) == shown
    content = whole_sealed(request, "sum", SEALER)
    assert names(opened(content, SEALER, "input").items) == sealed


def test_an_empty_context_cannot_be_compacted(run):
    with pytest.raises(InvalidRequest, match="nothing to compact"):
        whole_summary_request(replace(run.request, items=[]), PROMPT)


def test_a_run_that_only_compacts_needs_no_threshold_and_leaves_the_users_messages_outside(run):
    run = over(run, "u1 a1", compact_threshold=None, compact_only=True)
    assert names(summary_request(run, PROMPT).items) == "u1 a1 ?"
    assert opened(compacted(run, "sum", SEALER).encrypted_content, SEALER, "input").after_users


# ---------------------------------------------------------------- contexts with compaction items


def compaction(items: str, *, after_users: bool, summary: str = "sum") -> Compaction:
    kept = msgspec.json.encode(Kept(summary=summary, items=context(items), after_users=after_users)).decode()
    return Compaction(id="cmp_1", encrypted_content=SEALER.seal(kept, "compaction"))


@pytest.mark.parametrize(
    ("before", "items", "after_users", "later", "expected"),
    [
        ("u1 a1 u2", "u2", False, "a2 u3", "S u2 a2 u3"),
        ("", "u2", False, "a2 u3", "S u2 a2 u3"),
        ("u1 u2", "", True, "u3", "u1 u2 S u3"),
        ("u1 a1 c1 o1 u2", "s1", True, "u3", "s1 u1 u2 S u3"),
        ("u1", "s1 c1", True, "o1", "s1 u1 S c1 o1"),
        ("u1 d1 a1", "d1 u1", False, "", "d1 S u1"),
    ],
)
def test_a_model_sees_what_an_item_stands_for_and_what_came_after_it(before, items, after_users, later, expected):
    given = [*context(before), compaction(items, after_users=after_users), *context(later)]
    assert names(seen(given, SEALER)) == expected


def test_only_the_latest_item_counts():
    first, second = (compaction("u1", after_users=False, summary=each) for each in ("first", "second"))
    shown = seen([*context("u1"), first, *context("a1 u2"), second, *context("u3")], SEALER)
    assert names(shown) == "S u1 u3"
    assert shown[0].content[0].text == f"{INTRODUCTION}\n\nsecond"


def test_a_context_without_items_is_seen_as_it_is():
    assert seen(context("s1 u1 c1 o1 a1"), SEALER) == context("s1 u1 c1 o1 a1")


def test_a_summary_has_no_authority():
    summary = seen([compaction("", after_users=False)], SEALER)[0]
    assert summary.role == "user"


@pytest.mark.parametrize("content", ["", "x", SEALER.seal("sum"), Sealer(b"other").seal("{}", "compaction")])
def test_foreign_content_is_refused(content):
    with pytest.raises(InvalidRequest) as refused:
        seen([Compaction(encrypted_content=content)], SEALER)
    assert refused.value.code == "invalid_encrypted_content"


def test_content_of_a_later_release_is_refused_and_not_our_error():
    content = SEALER.seal('{"summary": "sum", "items": [{"type": "of a later release"}]}', "compaction")
    with pytest.raises(InvalidRequest, match="another form") as refused:
        opened(content, SEALER, "input[0].encrypted_content")
    assert refused.value.param == "input[0].encrypted_content"


async def test_calls_and_outputs_are_judged_by_what_the_model_sees(bench):
    bench = bench()
    made = {"type": "compaction", "encrypted_content": compaction("c1", after_users=False).encrypted_content}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "done"}
    foreign = {**output, "call_id": "call_9"}
    for given in ([made, output], [foreign, made, output]):
        assert names((await bench.prepared(input=given)).request.items[:-1]) == "S c1"
    for given, message, param in (
        ([made], "No tool output found for function call call_1", "input"),
        ([made, output, foreign], "No tool call found", "input[2]"),
    ):
        with pytest.raises(InvalidRequest, match=message) as refused:
            await bench.prepared(input=given)
        assert refused.value.param == param


async def test_a_trigger_is_no_part_of_the_context_and_lets_calls_be_open(bench):
    bench = bench()
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    run = await bench.prepared(input=[{"role": "user", "content": "u1"}, call, {"type": "compaction_trigger"}])
    assert run.compact_only
    assert [type(one) for one in run.input] == [Message, FunctionCall]


async def test_tokens_are_those_of_the_compacted_context(bench):
    bench = bench()
    made = {"type": "compaction", "encrypted_content": compaction("", after_users=False).encrypted_content}
    long = {"role": "user", "content": "word " * 5000}
    caller = Caller(owner="me", access=NO_ACCESS, seed=b"")
    counted = await prepare_count(bench.engine, bench.create(input=[long, made]), caller)
    assert count_tokens(counted) < 100


# ---------------------------------------------------------------- what a model answers


def test_a_summary_is_all_text_that_came():
    said = [Text(" one"), Tokens(1, 1), Text(" two "), Finish("stop"), Tokens(9, 2)]
    assert summary_in(said) == "one two"
    assert spent_in(said) == Tokens(9, 2)
    assert spent_in([Text("one")]) == Tokens(0, 0)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([Text("half"), Finish("length")], "ended with 'length'"),
        ([Text("half"), Finish("filter")], "ended with 'filter'"),
        ([Text("let me call"), Finish("calls")], "ended with 'calls'"),
        ([Text("  "), Finish("stop")], "said nothing"),
        ([Finish("stop")], "said nothing"),
    ],
)
def test_half_a_summary_is_none(said, why):
    with pytest.raises(Upstream, match=why):
        summary_in(said)
