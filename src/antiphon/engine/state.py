"""The life of a response: its statuses, the table by which they move, and what a finished turn leads to.

                       start           complete
        queued ------------> in_progress ------------> completed
           |                    |   |    limit, filter
           | cancel, fail       |   +----------------> incomplete
           v                    | fail, cancel
        cancelled / failed <----+

A status that ends a response never changes again. Nothing here does I/O; the rest of the engine obeys this file.
"""

from typing import Literal

from msgspec import Struct

from antiphon.errors import Conflict
from antiphon.wire.responses import ResponseError, ResponseStatus

Cause = Literal["start", "complete", "limit", "filter", "fail", "cancel"]

TRANSITIONS: dict[tuple[ResponseStatus, Cause], ResponseStatus] = {
    ("queued", "start"): "in_progress",
    ("queued", "fail"): "failed",
    ("queued", "cancel"): "cancelled",
    ("in_progress", "complete"): "completed",
    ("in_progress", "limit"): "incomplete",
    ("in_progress", "filter"): "incomplete",
    ("in_progress", "fail"): "failed",
    ("in_progress", "cancel"): "cancelled",
}
TERMINAL_STATUSES: frozenset[ResponseStatus] = frozenset({"completed", "incomplete", "failed", "cancelled"})


def advance(status: ResponseStatus, cause: Cause) -> ResponseStatus:
    """The status that follows. Raises `Conflict` where the table has no such move."""
    if (status, cause) not in TRANSITIONS:
        raise Conflict(f"A response that is {status} cannot {cause}.", code="invalid_status")
    return TRANSITIONS[status, cause]


class Outcome(Struct, frozen=True, kw_only=True):
    """How a run ends: why, when (Unix seconds), and with which error if it failed."""

    cause: Cause
    at: int
    error: ResponseError | None = None


class Turn(Struct, frozen=True, kw_only=True):
    """What one model call came to.

    `finish` is why the model stopped (None: it never said), `fault` what was wrong with its calls. `running` calls are
    still to be run by the server; `served` says whether it made any such call, `handed` whether it made one that the
    client runs.
    """

    finish: Literal["stop", "calls", "length", "filter"] | None
    fault: str | None = None
    running: int = 0
    served: bool = False
    handed: bool = False


Step = Literal["run tools", "ask again"]
"""How a run goes on that does not end."""


def decide(turn: Turn, at: int) -> Outcome | Step:
    """How the run goes on after a turn.

    A limit or a filter explains a malformed call, so it outranks one. A call that the client runs completes the
    response, once the server's own calls of the same turn have ended: the client's next request carries it on.
    """
    if turn.finish is None:
        error = ResponseError(code="server_error", message="The model host ended its answer without a finish reason.")
        return Outcome(cause="fail", at=at, error=error)
    if turn.finish == "length":
        return Outcome(cause="limit", at=at)
    if turn.finish == "filter":
        return Outcome(cause="filter", at=at)
    if turn.fault is not None:
        return Outcome(cause="fail", at=at, error=ResponseError(code="server_error", message=turn.fault))
    if turn.running:
        return "run tools"
    if turn.served and not turn.handed:
        return "ask again"
    return Outcome(cause="complete", at=at)
