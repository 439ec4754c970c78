"""Is a set of recordings worth anything? Alter every request at every leaf: no altered one may be answered.

A suite is vacuous where a request that is no longer the recorded one still gets the recorded answer. Two kinds of leaf
are free by design and only counted: an id to which nothing else refers, and what redaction has taken out.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from antiphon.exchange import Outgoing, Replay
from antiphon.replay import canonical, redact
from antiphon.replay.entries import Entry
from antiphon.replay.library import Library, Wanted, wanted_from

_IDS: Final = frozenset({"id", "call_id", "tool_call_id"})


class Survivor(Struct, frozen=True, kw_only=True):
    """An altered request that was answered all the same: which recording was altered, where, and who answered."""

    entry: Entry
    path: str
    answered_by: Entry


class Verdict(Struct, kw_only=True):
    """What `verify` found."""

    recordings: int = 0
    altered: int = 0
    free: int = 0
    survivors: list[Survivor] = []
    unreachable: list[Entry] = []

    @property
    def sound(self) -> bool:
        """Whether every altered request was refused."""
        return not self.survivors


def verify(library: Library) -> Verdict:
    """Alters each recorded request at each leaf in turn and looks it up, the way a real request would be."""
    verdict = Verdict(survivors=[], unreachable=[])
    for entry in list(library.entries):
        if entry.method == "GET":
            continue  # has no body: its address is all there is
        verdict.recordings += 1
        body = entry.body
        if library.knows(wanted_for(entry, body)) is None:
            verdict.unreachable.append(entry)
        for path, leaf in canonical.leaves(body):
            altered = canonical.replaced(body, path, alteration(leaf))
            verdict.altered += 1
            found = library.knows(wanted_for(entry, altered))
            if found is None or found.body == altered:
                continue
            if _free(path, leaf, body, altered=altered):
                verdict.free += 1
            else:
                verdict.survivors.append(Survivor(entry=entry, path=canonical.shown(path), answered_by=found))
    return verdict


def wanted_for(entry: Entry, body: Any) -> Wanted:
    """The look-up that a request to this recording's host would lead to."""
    return wanted_from(
        Outgoing(
            method=entry.method,
            url=entry.base_url + entry.endpoint,
            headers={},
            body=msgspec.json.encode(body),
            host=entry.host,
            replay=Replay(test_id=entry.test_id),
        )
    )


def alteration(leaf: Any) -> Any:
    """Something else of the same kind."""
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, (int, float)):
        return leaf + 1
    if isinstance(leaf, str):
        return f"{leaf}~"
    if isinstance(leaf, list):
        return ["~"]
    return {"~": "~"} if isinstance(leaf, dict) else "~"


def _free(path: canonical.Path, leaf: Any, body: Any, *, altered: Any) -> bool:
    """Whether this leaf does not count by design."""
    if isinstance(leaf, str) and redact.REDACTED in leaf:
        return True
    return bool(path) and path[-1] in _IDS and canonical.canonical(altered) == canonical.canonical(body)


def by_path(survivors: list[Survivor]) -> Iterator[tuple[str, list[Survivor]]]:
    """Survivors grouped by where they were altered, most frequent first; indexes do not count."""
    groups: dict[str, list[Survivor]] = {}
    for survivor in survivors:
        plain = "".join("[]" if part[:1].isdigit() else part for part in _split_indexes(survivor.path))
        groups.setdefault(plain, []).append(survivor)
    yield from sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))


def _split_indexes(path: str) -> list[str]:
    return path.replace("]", "[").split("[")
