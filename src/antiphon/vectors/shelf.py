"""What is in memory of one vector store: the rows of the attempts that searches have named.

Searches say which attempts count, so nothing is told when another process changes the store: what is named and not here
is read, and what is no longer named is dropped in time. As a filtered search names only some files, a file is dropped
when another of its attempts counts, or when it was not named by any of the last `UNNAMED_MAX` sets.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from antiphon.vectors.base import Among
from antiphon.vectors.chunk_rows import Name
from antiphon.vectors.exact import View, view_of
from antiphon.vectors.segments import Flags, Ints, Segment, kept

SIGHTS_MAX: Final = 8
"""Sets of files whose rows are marked at a time: repeated searches with a filter are as fast as those without."""
UNNAMED_MAX: Final = 32
_DEAD_SHARE: Final = 0.25


class Sight(NamedTuple):
    """The rows that count for a set of attempts, and the attempts by slot: None for what was forgotten meanwhile."""

    among: Among
    view: View
    names: list[Name | None]


class Shelf:
    """A store's rows. `lock` is held by who reads more of them."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.segments: tuple[Segment, ...] = ()
        self._names: list[Name | None] = []
        self._slots: dict[Name, int] = {}
        self._named: list[int] = []
        self._sets = 0
        self._loading: set[Name] = set()
        self._sights: list[Sight] = []

    def find(self, among: Among) -> Sight | None:
        """The view of this very set, if it still holds."""
        return next((sight for sight in self._sights if sight.among is among), None)

    def missing(self, among: Among) -> list[Name]:
        """The attempts that are named and not here."""
        return [name for name in among.items() if name not in self._slots]

    def begin(self, names: Sequence[Name]) -> dict[Name, int]:
        """Announces that the rows of these attempts are read; returns the slots that they will have."""
        self._loading = set(names)
        return {name: slot for slot, name in enumerate(names, len(self._names))}

    def put(self, slots: dict[Name, int], segments: Sequence[Segment]) -> None:
        """Takes what was read: `segments` are all that there are now. What was forgotten meanwhile is missing again."""
        for name, slot in slots.items():
            good = name in self._loading
            self._names.append(name if good else None)
            self._named.append(self._sets)
            if good:
                self._slots[name] = slot
        self.segments = tuple(segments)
        self._sights.clear()

    def forget(self, file_id: str | None, *, attempt: str | None = None, but: str | None = None) -> None:
        """What is here of a file (None: of the whole store), or of an attempt of its, holds no longer."""
        for name in [*self._slots, *self._loading]:
            mine = file_id in (None, name[0]) and attempt in (None, name[1]) and name[1] != but
            if mine:
                self._loading.discard(name)
                slot = self._slots.pop(name, None)
                if slot is not None:
                    self._names[slot] = None
                    self._sights.clear()

    def sight(self, among: Among) -> Sight:
        """The rows of these attempts, of which none is missing."""
        self._sets += 1
        for name in among.items():
            self._named[self._slots[name]] = self._sets
        self._drop(among)
        slots = np.zeros(len(self._names), np.bool_)
        slots[[self._slots[name] for name in among.items()]] = True
        sight = Sight(among, view_of(self.segments, slots, self._ranks()), self._names)
        self._sights = [sight, *self._sights[: SIGHTS_MAX - 1]]
        return sight

    def size_bytes(self) -> int:
        """Memory of the rows."""
        return sum(segment.size_bytes() for segment in self.segments)

    def _ranks(self) -> Ints:
        """The place of each slot's file in the order of files."""
        order = sorted(range(len(self._names)), key=lambda slot: self._names[slot] or ("", ""))
        ranks: Ints = np.empty(len(order), np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        return ranks

    def _drop(self, among: Among) -> None:
        """Leaves out rows that count no more, where they are many."""
        stay = np.array([self._stays(slot, among) for slot in range(len(self._names))], np.bool_)
        if stay.all():
            return
        rows = sum(map(len, self.segments))
        dead = sum(int(np.count_nonzero(~stay[each.slots])) for each in self.segments)
        if dead > _DEAD_SHARE * rows or (not dead and np.count_nonzero(~stay) > _DEAD_SHARE * len(stay)):
            self._keep(stay)

    def _keep(self, stay: Flags) -> None:
        moved: Ints = (np.cumsum(stay) - 1).astype(np.int32)
        segments = [kept(each, stay[each.slots], moved) for each in self.segments]
        self.segments = tuple(each for each in segments if len(each))
        names = [(name, named) for name, named, good in zip(self._names, self._named, stay, strict=True) if good]
        self._names = [name for name, _ in names]
        self._named = [named for _, named in names]
        self._slots = {name: slot for slot, name in enumerate(self._names) if name is not None}
        self._sights.clear()

    def _stays(self, slot: int, among: Among) -> bool:
        name = self._names[slot]
        if name is None or among.get(name[0], name[1]) != name[1]:
            return False
        return self._sets - self._named[slot] < UNNAMED_MAX
