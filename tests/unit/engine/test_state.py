"""The life of a response, pair by pair."""

from itertools import product
from typing import get_args

import pytest

from antiphon.engine.state import TERMINAL_STATUSES, TRANSITIONS, Cause, Turn, advance, decide
from antiphon.errors import Conflict
from antiphon.wire.responses import ResponseStatus

STATUSES = get_args(ResponseStatus)
CAUSES = get_args(Cause)
MOVES = {
    ("queued", "start"): "in_progress",
    ("queued", "fail"): "failed",
    ("queued", "cancel"): "cancelled",
    ("in_progress", "complete"): "completed",
    ("in_progress", "limit"): "incomplete",
    ("in_progress", "filter"): "incomplete",
    ("in_progress", "fail"): "failed",
    ("in_progress", "cancel"): "cancelled",
}


@pytest.mark.parametrize(("status", "cause"), list(product(STATUSES, CAUSES)))
def test_every_pair_of_status_and_cause_either_moves_as_stated_or_is_refused(status, cause):
    if (status, cause) in MOVES:
        assert advance(status, cause) == MOVES[status, cause]
    else:
        with pytest.raises(Conflict, match=status):
            advance(status, cause)


def test_no_move_leaves_a_terminal_status():
    assert {status for status, _ in TRANSITIONS} == {"queued", "in_progress"}
    assert set(STATUSES) - {"queued", "in_progress"} == TERMINAL_STATUSES


@pytest.mark.parametrize(
    ("finish", "fault", "cause"),
    [
        ("stop", None, "complete"),
        ("calls", None, "complete"),
        ("length", None, "limit"),
        ("filter", None, "filter"),
        (None, None, "fail"),
        ("calls", "bad arguments", "fail"),
        ("stop", "bad arguments", "fail"),
        ("length", "cut off", "limit"),
        ("filter", "cut off", "filter"),
        (None, "cut off", "fail"),
    ],
)
def test_a_turn_leads_to_one_outcome(finish, fault, cause):
    outcome = decide(Turn(finish=finish, fault=fault), at=7)
    assert (outcome.cause, outcome.at) == (cause, 7)
    assert (outcome.error is not None) == (cause == "fail")


def test_a_fault_in_a_finished_turn_is_told_to_the_client():
    outcome = decide(Turn(finish="calls", fault="The model called 'f' with nonsense."), at=0)
    assert outcome.error is not None
    assert outcome.error.message == "The model called 'f' with nonsense."
