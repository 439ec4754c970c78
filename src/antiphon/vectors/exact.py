"""Exact search over segments: the nearest vectors, and the rows whose words match best. Pure.

What is found depends on the rows that count and on nothing else: not on how they lie in segments, and not on rows that
are there and do not count. Sums that decide the order are made row by row, in double precision, so that equal vectors
have equal scores wherever they lie; equal scores are ordered by file and number.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from antiphon.vectors.base import Metric
from antiphon.vectors.segments import Flags, Floats, Ints, Segment, unit

K1: Final = 1.2
B: Final = 0.75
"""bm25's constants: how soon a word's repetition counts no more, and how much a long text is held against it."""
_SPARSE: Final = 4
"""Where fewer than one row of so many counts, the rows are gathered first."""
_SLACK: Final = 1e-5
"""How far single precision may be wrong, relative to the length of vectors."""
_DIGITS: Final = 6
_AT_ONCE: Final = 4096

Scores = NDArray[np.float64]


class Found(Struct, frozen=True):
    """Rows that were found, the best first, by slot and number."""

    slots: Ints
    numbers: Ints
    scores: Scores


class View(Struct, frozen=True):
    """Segments, and which of their rows count: `live` over all rows. `ranks` orders files by slot."""

    segments: Sequence[Segment]
    slots: Ints
    numbers: Ints
    live: Flags
    near: Flags
    ranks: Ints
    norms: Floats
    count: int
    largest: float

    def parts(self) -> Iterator[tuple[Segment, slice]]:
        """Each segment, and where its rows are among all."""
        stops = itertools.accumulate(map(len, self.segments))
        return ((each, slice(stop - len(each), stop)) for each, stop in zip(self.segments, stops, strict=True))


def view_of(segments: Sequence[Segment], slots: Flags, ranks: Ints) -> View:
    """The rows of the files that `slots` marks."""
    of_rows = _joined([each.slots for each in segments], np.int32)
    live = slots[of_rows]
    lengths = _joined([each.lengths for each in segments], np.float32)
    near = live & _joined([each.vectored for each in segments], np.bool_)
    squares = _joined([each.squares for each in segments], np.float32)
    count = int(live.sum())
    mean = float(lengths[live].mean()) if count else 0.0
    return View(
        segments=segments,
        slots=of_rows,
        numbers=_joined([each.numbers for each in segments], np.int32),
        live=live,
        near=near,
        ranks=ranks,
        norms=(K1 * (1 - B + B * lengths / (mean or 1.0))).astype(np.float32),
        count=count,
        largest=float(np.sqrt(squares[near].max(initial=0.0))),
    )


def nearest(view: View, vector: Floats, metric: Metric, *, count: int) -> Found:
    """The rows whose vectors are nearest."""
    wanted = unit(vector) if metric == "cosine" else vector
    scores = np.full(len(view.live), -np.inf, np.float32)
    for segment, part in view.parts():
        near = view.near[part]
        if int(np.count_nonzero(near)) * _SPARSE < len(segment):
            some = np.flatnonzero(near)
            scores[part][some] = _scores(segment.vectors[some], segment.squares[some], wanted, metric=metric)
        else:
            scores[part] = _scores(segment.vectors, segment.squares, wanted, metric=metric)
    scores[~view.near] = -np.inf
    length = float(np.sqrt((wanted.astype(np.float64) ** 2).sum()))
    scale = length * view.largest if metric != "squared_distance" else (length + view.largest) ** 2
    rows = _candidates(scores, count, _SLACK * scale)
    exact = _joined([_exactly(view, some, wanted, metric=metric) for some in _cut(rows)], np.float64)
    return _best(view, rows, exact, count=count)


def matching(view: View, terms: NDArray[np.uint32], *, count: int) -> Found:
    """The rows that have any of these terms, by bm25 among the rows that count."""
    found = [_found(segment, part, terms) for segment, part in view.parts()]
    whole = view.count == len(view.live)
    scores = np.zeros(len(view.live), np.float32)
    for index in range(len(terms)):
        postings = [each[index] for each in found if index in each]
        frequency = sum(
            len(rows) if whole else int(np.count_nonzero(view.live[part][rows])) for part, rows, _ in postings
        )
        for part, rows, counts in postings if frequency else ():
            norms = view.norms[part][rows]
            scores[part][rows] += np.float32(idf(frequency, view.count)) * (counts / (counts + norms))
    scores[~view.live] = 0
    having = np.flatnonzero(scores > 0)
    best = having[_candidates(scores[having], count, 0.0)]
    return _best(view, best, scores[best].astype(np.float64), count=count)


def idf(frequency: int, count: int) -> float:
    """What a word that so many of the rows have is worth."""
    return float(np.log1p((count - frequency + 0.5) / (frequency + 0.5)))


_Posting = tuple[slice, NDArray[np.uint16], Floats]


def _found(segment: Segment, part: slice, terms: NDArray[np.uint32]) -> dict[int, _Posting]:
    """The postings of those terms that a segment has, by the terms' places."""
    kept = segment.postings
    places = np.searchsorted(kept.terms, terms)
    return {
        index: (
            part,
            kept.rows[kept.starts[place] : kept.starts[place + 1]],
            kept.counts[kept.starts[place] : kept.starts[place + 1]].astype(np.float32),
        )
        for index, (place, term) in enumerate(zip(places.tolist(), terms, strict=True))
        if place < len(kept.terms) and kept.terms[place] == term
    }


def _scores(vectors: Floats, squares: Floats, wanted: Floats, *, metric: Metric) -> Floats:
    products: Floats = vectors @ wanted
    if metric != "squared_distance":
        return products
    return 2 * products - squares - np.float32(wanted @ wanted)


def _exactly(view: View, rows: NDArray[np.int64], wanted: Floats, *, metric: Metric) -> Scores:
    vectors = _joined([segment.vectors[some] for segment, some in _by_segment(view, rows)], np.float64)
    vectors = vectors.reshape(len(rows), -1)
    if metric == "squared_distance":
        distances: Scores = -((vectors - wanted) ** 2).sum(axis=1)
        return distances
    products: Scores = (vectors * wanted).sum(axis=1)
    return np.round(products, _DIGITS) if metric == "cosine" else products


def _best(view: View, rows: NDArray[np.int64], scores: Scores, *, count: int) -> Found:
    slots, numbers = view.slots[rows], view.numbers[rows]
    order = np.lexsort((numbers, view.ranks[slots], -scores))[:count]
    return Found(slots[order], numbers[order], scores[order])


def _by_segment(view: View, rows: NDArray[np.int64]) -> Iterator[tuple[Segment, NDArray[np.int64]]]:
    """Rows in order, as each segment counts its own."""
    for segment, part in view.parts():
        some = rows[np.searchsorted(rows, part.start) : np.searchsorted(rows, part.stop)]
        if len(some):
            yield segment, some - part.start


def _candidates(scores: Floats, count: int, slack: float) -> NDArray[np.int64]:
    """The rows, in order, that may be among the best, if scores are wrong by no more than `slack`."""
    least = -np.inf
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count] - 2 * slack
    return np.flatnonzero((scores >= least) & (scores > -np.inf))


def _cut(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Few at a time, so that a thousand equal vectors do not become a matrix of doubles."""
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]


def _joined(arrays: Sequence[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(arrays).astype(kind, copy=False) if arrays else np.empty(0, kind)
