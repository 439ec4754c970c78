"""Exact search: held against the plainest way of computing the same, however rows lie in segments."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from antiphon.vectors.exact import K1, B, matching, nearest, view_of
from antiphon.vectors.segments import Row, compacted, kept, segment_of
from antiphon.vectors.terms import asked, packed

WORDS = [f"w{n}" for n in range(40)]


@pytest.fixture
def rows():
    """Three hundred rows of thirty files, some without a vector, some equal."""
    chance = np.random.default_rng(7)
    made = []
    for n in range(300):
        text = " ".join(chance.choice(WORDS, size=int(chance.integers(0, 30)), p=weights()))
        vector = np.round(chance.standard_normal(4), 1).astype("<f4").tobytes()
        made.append((Row(n % 30, n // 30, packed(text), None if n % 17 == 0 else vector), text))
    return made


def weights():
    raw = np.array([1 / (n + 1) for n in range(len(WORDS))])
    return raw / raw.sum()


def segments(rows, sizes, metric):
    made, start = [], 0
    for size in sizes:
        made.append(segment_of([row for row, _ in rows[start : start + size]], 4, metric))
        start += size
    return made


def plain_nearest(rows, wanted, metric, live):
    def score(vector):
        v = np.frombuffer(vector, "<f4").astype(float)
        if metric == "squared_distance":
            return -float(((v - wanted) ** 2).sum())
        product = float(v @ wanted)
        lengths = np.linalg.norm(v) * np.linalg.norm(wanted)
        return product if metric == "dot_product" else round(product / lengths if lengths else 0, 6)

    found = [(-score(row.vector), row.slot, row.number) for row, _ in rows if live[row.slot] and row.vector]
    return [(slot, number, -score) for score, slot, number in sorted(found)]


def plain_matching(rows, query, live):
    counted = [(row, Counter(text.split())) for row, text in rows if live[row.slot]]
    mean = sum(c.total() for _, c in counted) / len(counted)
    found = []
    for row, c in counted:
        score = 0.0
        for word in set(query.split()):
            df = sum(word in other for _, other in counted)
            idf = math.log(1 + (len(counted) - df + 0.5) / (df + 0.5))
            score += idf * c[word] / (c[word] + K1 * (1 - B + B * c.total() / mean))
        if score:
            found.append((row.slot, row.number, score))
    return found


def got(found):
    return list(zip(found.slots.tolist(), found.numbers.tolist(), found.scores.tolist(), strict=True))


LAYOUTS = [(300,), (100, 200), (7, 1, 150, 42, 100)]
RANKS = np.arange(30, dtype=np.int32)
ALL = np.ones(30, bool)
FEW = np.isin(np.arange(30), [3, 11, 29])


@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize("live", [ALL, FEW], ids=["all", "few"])
@pytest.mark.parametrize("metric", ["cosine", "dot_product", "squared_distance"])
def test_the_nearest_are_those_of_a_plain_computation(rows, sizes, live, metric):
    wanted = np.array([0.3, -1.0, 0.5, 2.0], np.float32)
    view = view_of(segments(rows, sizes, metric), live, RANKS)
    found = got(nearest(view, wanted, metric, count=20))
    expected = plain_nearest(rows, wanted.astype(float), metric, live)[:20]
    assert [score for *_, score in found] == pytest.approx([score for *_, score in expected], abs=2e-6)
    if metric == "dot_product":
        assert [place[:2] for place in found] == [place[:2] for place in expected]


@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize("live", [ALL, FEW], ids=["all", "few"])
def test_words_score_as_bm25_among_the_rows_that_count(rows, sizes, live):
    view = view_of(segments(rows, sizes, "cosine"), live, RANKS)
    found = got(matching(view, asked("w0 w3 w30 nowhere"), count=1000))
    expected = {(slot, number): score for slot, number, score in plain_matching(rows, "w0 w3 w30", live)}
    assert {(slot, number): score for slot, number, score in found} == pytest.approx(expected, rel=1e-5)
    assert [score for *_, score in found] == sorted((score for *_, score in found), reverse=True)


@pytest.mark.parametrize("metric", ["cosine", "dot_product", "squared_distance"])
def test_the_layout_changes_no_score_and_no_order(rows, metric):
    wanted = np.array([1.0, 1.0, 0.0, 0.0], np.float32)
    results = []
    for sizes in LAYOUTS:
        for made in (segments(rows, sizes, metric), compacted(segments(rows, sizes, metric))):
            view = view_of(made, ALL, RANKS)
            results.append(
                (got(nearest(view, wanted, metric, count=50)), got(matching(view, asked("w1 w7"), count=50)))
            )
    assert all(result == results[0] for result in results)


def test_small_segments_are_merged_into_few(rows):
    stack = []
    for row, _ in rows:
        stack = compacted([*stack, segment_of([row], 4, "cosine")])
    sizes = [len(each) for each in stack]
    assert sum(sizes) == 300
    assert all(larger >= 2 * smaller for larger, smaller in itertools.pairwise(sizes))


def test_what_is_left_out_changes_nothing_for_the_rest(rows):
    (whole,) = segments(rows, (300,), "cosine")
    moved = (np.cumsum(FEW) - 1).astype(np.int32)
    rest = kept(whole, FEW[whole.slots], moved)
    assert len(rest) == 30
    before = view_of([whole], FEW, RANKS)
    after = view_of([rest], np.ones(3, bool), RANKS[:3])
    wanted = np.array([1.0, 0.0, 0.0, 1.0], np.float32)
    for find in (
        lambda view: nearest(view, wanted, "cosine", count=9),
        lambda view: matching(view, asked("w0 w5"), count=9),
    ):
        assert [(moved[slot], number, score) for slot, number, score in got(find(before))] == got(find(after))


def test_of_a_thousand_equal_vectors_the_first_are_found():
    same = np.ones(4, "<f4").tobytes()
    made = segment_of([Row(0, n, b"", same) for n in range(9_000)], 4, "cosine")
    found = nearest(view_of([made], np.ones(1, bool), RANKS[:1]), np.ones(4, np.float32), "cosine", count=3)
    assert got(found) == [(0, 0, 1.0), (0, 1, 1.0), (0, 2, 1.0)]


def test_nothing_is_found_in_nothing():
    view = view_of([], np.zeros(0, bool), RANKS[:0])
    assert got(nearest(view, np.ones(4, np.float32), "cosine", count=3)) == []
    assert got(matching(view, asked("w1"), count=3)) == []
