"""What of an item a client sees."""

import pytest

from antiphon.api.visible import all_visible, visible
from antiphon.wire.items import FunctionCall, InputText, Logprob, Message, OutputText, Reasoning, ReasoningText

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
ANSWER = Message(role="assistant", content=[OutputText(text="a", logprobs=[Logprob(token="a", logprob=-1)])])
THOUGHT = Reasoning(id="rs_1", content=[ReasoningText("hm"), ReasoningText("m")])
SEALED = Reasoning(id="rs_2", encrypted_content="sealed")


def seal(text: str) -> str:
    return f"<{text}>"


def test_logprobs_are_shown_only_if_included() -> None:
    assert visible(ANSWER, [], seal).content == [OutputText(text="a")]
    assert visible(ANSWER, [LOGPROBS], seal) == ANSWER
    assert ANSWER.content[0].logprobs


def test_encrypted_reasoning_is_shown_only_if_included() -> None:
    assert visible(SEALED, [], seal).encrypted_content is None
    assert visible(SEALED, [ENCRYPTED], seal) == SEALED


def test_open_reasoning_is_sealed_where_its_encrypted_form_is_asked_for() -> None:
    assert visible(THOUGHT, [], seal) is THOUGHT
    assert visible(THOUGHT, [ENCRYPTED], seal).encrypted_content == "<hmm>"
    assert visible(Reasoning(id="rs_3"), [ENCRYPTED], seal).encrypted_content is None


@pytest.mark.parametrize(
    "item",
    [
        Message(role="user", content="text"),
        Message(role="user", content=[InputText(text="x")]),
        Message(role="assistant", content=[OutputText(text="x")]),
        FunctionCall(call_id="c", name="f", arguments="{}"),
    ],
)
def test_everything_else_is_shown_as_it_is(item) -> None:
    assert visible(item, [], seal) is item


def test_a_list_is_shown_item_by_item() -> None:
    assert all_visible([ANSWER, THOUGHT], [LOGPROBS], seal) == [ANSWER, THOUGHT]
