"""What clients ask of a search, in two dialects, becomes one ranking."""

import msgspec
import pytest

from antiphon.vectors.base import Ranking
from antiphon.vectors.wanted import ranking_of, ranking_of_query
from antiphon.wire.search import RankingOptions
from antiphon.wire.vector_stores import QueryParams, SearchMode


@pytest.mark.parametrize(
    ("options", "mode", "wanted"),
    [
        (None, None, Ranking()),
        ({}, "vector", Ranking(mode="semantic")),
        ({"score_threshold": 0.3}, "keyword", Ranking(mode="keyword", score_threshold=0.3)),
        ({"ranker": "auto"}, "hybrid", Ranking(mode="hybrid")),
        ({"ranker": "none"}, None, Ranking(reranker="")),
        ({"ranker": "default-2024-11-15"}, None, Ranking()),
        ({"ranker": "local/cross-encoder"}, None, Ranking(reranker="local/cross-encoder")),
        (
            {"hybrid_search": {"embedding_weight": 3, "text_weight": 1}},
            None,
            Ranking(mode="hybrid", fusion="weighted", vector_weight=0.75),
        ),
        ({"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}, None, Ranking()),
    ],
)
def test_openais_ranking_options(options: object, mode: SearchMode | None, wanted: Ranking) -> None:
    given = None if options is None else msgspec.convert(options, RankingOptions)
    assert ranking_of(given, mode) == wanted


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({}, Ranking()),
        ({"mode": "vector", "score_threshold": 0.5}, Ranking(mode="semantic", score_threshold=0.5)),
        ({"score_threshold": -3}, Ranking()),
        ({"ranker": {"strategy": "rrf", "params": {"k": 10}}}, Ranking(fusion="rrf", rrf_k=10.0)),
        ({"ranker": {"type": "rrf", "params": {"impact_factor": 20}}}, Ranking(fusion="rrf", rrf_k=20.0)),
        ({"ranker": {"strategy": "rrf", "params": {"k": "many"}}}, Ranking(fusion="rrf")),
        ({"ranker": {"strategy": "weighted"}}, Ranking(fusion="weighted")),
        (
            {"ranker": {"strategy": "weighted", "params": {"weights": [1, 3]}}},
            Ranking(fusion="weighted", vector_weight=0.25),
        ),
        (
            {"ranker": {"strategy": "weighted", "params": {"weights": [0, 0]}}},
            Ranking(fusion="weighted", vector_weight=0.5),
        ),
        (
            {"ranker": {"strategy": "weighted", "params": {"alpha": 0.9}}},
            Ranking(fusion="weighted", vector_weight=0.9),
        ),
        ({"ranker": {"strategy": "normalized"}}, Ranking()),
    ],
)
def test_llama_stacks_query_parameters(params: object, wanted: Ranking) -> None:
    assert ranking_of_query(msgspec.convert(params, QueryParams)) == wanted
