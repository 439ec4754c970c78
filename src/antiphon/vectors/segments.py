"""Rows of chunks in memory: their vectors and postings as arrays that never change. Pure, and exact.

A store is a sequence of segments. New rows make a segment of their own; small ones are merged, so that there are few;
rows that count no more are left out when a segment is made anew. As nothing is changed in place, a search may go on
over segments on another thread while the store moves on.
"""

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from antiphon.vectors.base import Metric
from antiphon.vectors.terms import unpacked

ROWS_MAX: Final = 32_768
"""Rows of a segment at most: a posting's row fits 16 bits, and a merge takes less than a second of a thread."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Flags = NDArray[np.bool_]


class Row(Struct, frozen=True):
    """A chunk as it is read from a database: `slot` is its file's place in the store, `vector` None if it has none."""

    slot: int
    number: int
    terms: bytes
    vector: bytes | None


class Postings(Struct, frozen=True):
    """Which rows have a term, and how often: those of `terms[i]` stand from `starts[i]` to `starts[i + 1]`."""

    terms: NDArray[np.uint32]
    starts: NDArray[np.int64]
    rows: NDArray[np.uint16]
    counts: NDArray[np.uint8]

    def spread(self) -> NDArray[np.uint32]:
        """The term of each posting."""
        return np.repeat(self.terms, np.diff(self.starts))


class Segment(Struct, frozen=True):
    """Rows by arrays of equal length. `lengths` counts each row's words; `vectored` says which have a vector."""

    slots: Ints
    numbers: Ints
    lengths: Floats
    vectored: Flags
    vectors: Floats
    squares: Floats
    postings: Postings

    def __len__(self) -> int:
        return len(self.slots)

    def size_bytes(self) -> int:
        """Memory it takes."""
        arrays = (self.slots, self.numbers, self.lengths, self.vectored, self.vectors, self.squares)
        kept = (self.postings.terms, self.postings.starts, self.postings.rows, self.postings.counts)
        return sum(array.nbytes for array in (*arrays, *kept))


def segment_of(rows: Sequence[Row], dimension: int, metric: Metric) -> Segment:
    """A segment of rows; a vector of another dimension counts as none."""
    vectored = np.array([row.vector is not None and len(row.vector) == 4 * dimension > 0 for row in rows], bool)
    vectors: Floats = np.zeros((len(rows), dimension), np.float32)
    if vectored.any():
        joined = b"".join(row.vector or b"" for row, good in zip(rows, vectored, strict=True) if good)
        vectors[vectored] = np.frombuffer(joined, "<f4").reshape(-1, dimension)
    if metric == "cosine":
        vectors = unit(vectors)
    kept = [unpacked(row.terms) for row in rows]
    sizes = np.array([len(each.numbers) for each in kept], np.int64)
    counts: NDArray[np.uint8] = np.concatenate([each.counts for each in kept] or [np.empty(0, np.uint8)])
    numbers: NDArray[np.uint32] = np.concatenate([each.numbers for each in kept] or [np.empty(0, np.uint32)])
    rows_of = np.repeat(np.arange(len(rows)), sizes)
    return Segment(
        slots=np.array([row.slot for row in rows], np.int32),
        numbers=np.array([row.number for row in rows], np.int32),
        lengths=np.bincount(rows_of, weights=counts, minlength=len(rows)).astype(np.float32),
        vectored=vectored,
        vectors=vectors,
        squares=(vectors * vectors).sum(axis=1, dtype=np.float32),
        postings=_postings(numbers, rows_of.astype(np.uint16), counts),
    )


def unit(vectors: Floats) -> Floats:
    """The vectors at length 1; one without a direction stays as it is."""
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=-1, keepdims=True))
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def merged(segments: Sequence[Segment]) -> Segment:
    """One segment of several, rows in the same order."""
    starts = itertools.accumulate((len(each) for each in segments[:-1]), initial=0)
    rows = [each.postings.rows + np.uint16(start) for each, start in zip(segments, starts, strict=True)]
    return Segment(
        slots=np.concatenate([each.slots for each in segments]),
        numbers=np.concatenate([each.numbers for each in segments]),
        lengths=np.concatenate([each.lengths for each in segments]),
        vectored=np.concatenate([each.vectored for each in segments]),
        vectors=np.concatenate([each.vectors for each in segments]),
        squares=np.concatenate([each.squares for each in segments]),
        postings=_postings(
            np.concatenate([each.postings.spread() for each in segments]),
            np.concatenate(rows),
            np.concatenate([each.postings.counts for each in segments]),
        ),
    )


def compacted(segments: Sequence[Segment]) -> list[Segment]:
    """The same rows in few segments: each at least twice as large as the next, or as large as may be."""
    stack: list[Segment] = []
    for each in segments:
        stack.append(each)
        run = 1
        size = len(each)
        while run < len(stack):
            before = len(stack[-run - 1])
            if before >= 2 * size or before + size > ROWS_MAX:
                break
            size += before
            run += 1
        if run > 1:
            stack[-run:] = [merged(stack[-run:])]
    return stack


def kept(segment: Segment, keep: Flags, slots: Ints) -> Segment:
    """The rows that `keep` marks, their files renumbered by `slots`."""
    places: NDArray[np.int64] = np.cumsum(keep) - 1
    old = segment.postings
    stay = keep[old.rows]
    return Segment(
        slots=slots[segment.slots[keep]],
        numbers=segment.numbers[keep],
        lengths=segment.lengths[keep],
        vectored=segment.vectored[keep],
        vectors=segment.vectors[keep],
        squares=segment.squares[keep],
        postings=_postings(old.spread()[stay], places[old.rows[stay]].astype(np.uint16), old.counts[stay]),
    )


def _postings(terms: NDArray[np.uint32], rows: NDArray[np.uint16], counts: NDArray[np.uint8]) -> Postings:
    """Postings in the order of rows, put in the order of terms."""
    order = np.argsort(terms, kind="stable")
    terms = terms[order]
    first = np.flatnonzero(np.diff(terms, prepend=~terms[:1]))
    starts = np.append(first, len(terms)).astype(np.int64)
    return Postings(terms[first], starts, rows[order], counts[order])
