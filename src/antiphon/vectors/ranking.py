"""From matches to an order: scores made comparable, two lists joined, several queries' results made one. Pure.

All scores are 0 to 1, and none but a fused one depends on what else was found:

- The cosine is itself, and 0 where it is negative: that is what thresholds are known from, and (1 + cos) / 2 would
  press all that embedding models give into the upper half.
- A dot product x above 0 is x / (1 + x), a squared distance d is 1 / (1 + d).
- bm25 is x / (x + 4): half for one rare word among a few thousand chunks.
- `adaptive`: the weighted mean of how both ways place a chunk between the best and what is as good as not found, so
  that the first of both ways has 1. How much words weigh is decided for each query, by how well they found anything.
- `rrf`: the reciprocal ranks, weighted, so that the first of both lists has 1 and the first of only one its weight.
- `weighted`: the weighted mean of both ways' scores, 0 for the way that did not find it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

from antiphon.errors import InvalidRequest
from antiphon.knowledge import SearchConfig
from antiphon.vectors.base import Match, Ranking
from antiphon.vectors.words import words as words_of

Mode = Literal["semantic", "keyword", "hybrid"]
Place = tuple[str, int]
"""A file and a chunk's number."""

BM25_HALF: Final = 4.0
_PRESENT: Final = 3.0
_TELLING: Final = 1.0
_DOUBT: Final = 2.8
"""Fitted on half of the questions of `bench/quality`, and checked on the others: docs/quality.md."""


class Ranked(Struct, frozen=True):
    """A match with a score between 0 and 1; `similarity` is the semantic way's own score, if that way found it."""

    match: Match
    score: float
    similarity: float | None = None

    @property
    def place(self) -> Place:
        """What makes it the same chunk."""
        return self.match.file_id, self.match.number


def mode_of(ranking: Ranking, config: SearchConfig, *, vectors: bool) -> Mode:
    """How a store is searched: one without vectors by its words. Raises `InvalidRequest` if only vectors are asked."""
    if vectors:
        return ranking.mode or config.mode
    if ranking.mode == "semantic":
        raise InvalidRequest(
            "This vector store has no vectors, since no embedding model was there when it was made: it is searched by"
            " keywords only. Allowed are 'keyword', and 'hybrid', which is the same here."
        )
    return "keyword"


def by_meaning(matches: Sequence[Match], metric: str) -> list[Ranked]:
    """Matches of a semantic search."""
    return [Ranked(match, semantic_score(match.score, metric), match.score) for match in matches]


def by_words(matches: Sequence[Match]) -> list[Ranked]:
    """Matches of a keyword search."""
    return [Ranked(match, keyword_score(match.score)) for match in matches]


def semantic_score(raw: float, metric: str) -> float:
    """A cosine, dot product or negative squared distance as a score."""
    if metric == "squared_distance":
        return 1 / (1 - min(0.0, raw))
    above = max(0.0, raw)
    return min(1.0, above) if metric == "cosine" else above / (1 + above)


def keyword_score(raw: float) -> float:
    """A bm25 as a score."""
    above = max(0.0, raw)
    return above / (above + BM25_HALF)


def lean(query: str, bm25: float, text: str) -> float:
    """How far a query's words are to be trusted more than its meaning: the logarithm of the odds.

    `text` is what words find first, with this `bm25`. A name or an error's code is found whole, and its words are rare:
    lean on words. A question in words of its own is found in part, by words that say little: lean on meaning.
    """
    asked = set(words_of(query))
    if not asked:
        return -_DOUBT
    present = len(asked & set(words_of(text))) / len(asked)
    return _PRESENT * present + _TELLING * bm25 / len(asked) - _DOUBT


def adapted(meaning: Sequence[Ranked], words: Sequence[Ranked], ranking: Ranking, *, lean: float) -> list[Ranked]:
    """Two ways' results for one query as one list, the best first, by scores and by how far words are trusted.

    Of the cosine, what counts is where it lies between the best and the last of the list: models differ in what they
    give to texts that have nothing to do with each other. bm25 has a true zero. A chunk that words did not find may be
    one that their list had no room for: it counts as the last of it.
    """
    towards_meaning = ranking.vector_weight
    towards_words = (1 - ranking.vector_weight) * math.exp(lean)
    weight = towards_meaning / (towards_meaning + towards_words)
    near = _between(meaning, min((each.score for each in meaning), default=0.0))
    found = _between([Ranked(each.match, each.match.score) for each in words], 0.0)
    cut = len(words) >= len(meaning)
    missed = min(found.values(), default=0.0) if cut else 0.0
    known = {each.place: each for each in [*words, *meaning]}
    joined = (
        Ranked(
            each.match,
            min(1.0, weight * near.get(place, 0.0) + (1 - weight) * found.get(place, missed)),
            each.similarity,
        )
        for place, each in known.items()
    )
    return sorted(joined, key=_order)


def fused(meaning: Sequence[Ranked], words: Sequence[Ranked], ranking: Ranking, *, fusion: str) -> list[Ranked]:
    """Two ways' results for one query as one list, the best first, by ranks or by scores."""
    value = _by_score if fusion == "weighted" else _by_rank
    weights = (ranking.vector_weight, 1 - ranking.vector_weight)
    scores: dict[Place, float] = {}
    found: dict[Place, Ranked] = {}
    for weight, ranked in zip(weights, (meaning, words), strict=True):
        for rank, each in enumerate(ranked):
            place = each.match.file_id, each.match.number
            scores[place] = scores.get(place, 0.0) + weight * value(each, rank, ranking)
            found.setdefault(place, each)
    # Sums of weights may miss 1 by a last digit.
    joined = (Ranked(each.match, min(1.0, scores[place]), each.similarity) for place, each in found.items())
    return sorted(joined, key=_order)


def best(results: Iterable[Sequence[Ranked]], count: int, threshold: float = 0.0) -> list[Ranked]:
    """The best over several queries: of a chunk that more than one found, the best score counts."""
    ordered = sorted((each for result in results for each in result if each.score >= threshold), key=_order)
    found: dict[Place, Ranked] = {}
    for each in ordered:
        found.setdefault(each.place, each)
        if len(found) == count:
            break
    return list(found.values())


def reranked(candidates: Sequence[Ranked], scores: Sequence[float]) -> list[Ranked]:
    """Candidates with a rerank model's scores, which are cut at 0 and 1."""
    pairs = zip(candidates, scores, strict=True)
    return [Ranked(each.match, min(1.0, max(0.0, score)), each.similarity) for each, score in pairs]


def _between(results: Sequence[Ranked], least: float) -> dict[Place, float]:
    """Where scores lie between the least (0) and the best (1)."""
    span = max((each.score for each in results), default=least) - least
    return {each.place: (each.score - least) / span if span > 0 else 1.0 for each in results}


def _order(ranked: Ranked) -> tuple[float, float, str, int]:
    """The best first. Equal scores are decided by the similarity, then by file and number."""
    similarity = -2.0 if ranked.similarity is None else ranked.similarity
    return -ranked.score, -similarity, ranked.match.file_id, ranked.match.number


def _by_rank(_ranked: Ranked, rank: int, ranking: Ranking) -> float:
    return (ranking.rrf_k + 1) / (ranking.rrf_k + rank + 1)


def _by_score(ranked: Ranked, _rank: int, _ranking: Ranking) -> float:
    return ranked.score
