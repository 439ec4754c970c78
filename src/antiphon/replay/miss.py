"""What to say when no recording answers a request: what was asked, what came nearest, and where the two differ."""

from typing import Final

from antiphon.replay.canonical import quoted
from antiphon.replay.library import Nearest, Wanted

PATHS_MAX: Final = 5
MESSAGE_CHARS_MAX: Final = 1500


def message(wanted: Wanted, nearest: Nearest | None, *, paths_max: int = PATHS_MAX) -> str:
    """The error's sentence; short enough for an error body, however large the requests are."""
    asked = f"{wanted.method} {wanted.endpoint} of host {wanted.host!r}"
    if wanted.model:
        asked += f" (model {wanted.model!r})"
    said = f"No recording answers {asked}"
    if wanted.test_id:
        said += f" in test {wanted.test_id!r}"
    if nearest is None:
        return f"{said}; there is no recording of this kind at all."
    said += f". The nearest is {nearest.entry.place} of scenario {nearest.entry.scenario!r}"
    if not nearest.differences:
        return f"{said}: the same body, {_otherwise(wanted, nearest)}."[:MESSAGE_CHARS_MAX]
    shown = [
        f"{path}: {quoted(left)} is wanted, {quoted(right)} is recorded"
        for path, left, right in nearest.differences[:paths_max]
    ]
    more = len(nearest.differences) - len(shown)
    tail = f"; and {more} more" if more else ""
    return f"{said}; they differ at {'; '.join(shown)}{tail}."[:MESSAGE_CHARS_MAX]


def _otherwise(wanted: Wanted, nearest: Nearest) -> str:
    """Why a recording with an equal body does not answer."""
    entry = nearest.entry
    reasons = []
    if entry.test_id != wanted.test_id:
        reasons.append(f"recorded for test {entry.test_id!r}")
    if entry.host != wanted.host:
        reasons.append(f"recorded for host {entry.host!r}")
    if entry.base_url != wanted.base_url:
        reasons.append(f"recorded at {entry.base_url}")
    return " and ".join(reasons) or "but its name does not fit its content"
