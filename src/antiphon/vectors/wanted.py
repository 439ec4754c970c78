"""What a client asks of a search, in OpenAI's words and in Llama Stack's, as what is searched for."""

from typing import Any, Final, Literal

from antiphon.errors import InvalidRequest
from antiphon.vectors.base import Ranking
from antiphon.wire.search import RankingOptions
from antiphon.wire.vector_stores import QueryParams, Ranker, SearchMode

_MODES: Final[dict[SearchMode, Literal["semantic", "keyword", "hybrid"]]] = {
    "vector": "semantic",
    "keyword": "keyword",
    "hybrid": "hybrid",
}
OPENAI_RANKERS: Final = ("default-", "default_")
"""OpenAI's rankers are named so, with a date: like `auto`, they stand for the server's own choice."""


def ranking_of(options: RankingOptions | None, mode: SearchMode | None = None) -> Ranking:
    """The ranking that `ranking_options` and Llama Stack's `search_mode` ask for."""
    given = options or RankingOptions()
    named = given.ranker or "auto"
    weights = given.hybrid_search
    total = weights.embedding_weight + weights.text_weight if weights is not None else 0.0
    return Ranking(
        mode=_MODES[mode] if mode is not None else "hybrid" if total else None,
        fusion="weighted" if total and weights is not None else None,
        vector_weight=weights.embedding_weight / total if total and weights is not None else 0.5,
        score_threshold=given.score_threshold or 0.0,
        reranker=_reranker(named),
    )


def _reranker(ranker: str) -> str | None:
    """The model that orders hits anew; None: the configured one, "": none."""
    if ranker == "none":
        return ""
    return None if ranker == "auto" or ranker.startswith(OPENAI_RANKERS) else ranker


def ranking_of_query(params: QueryParams) -> Ranking:
    """The ranking that the parameters of `/v1/vector-io/query` ask for."""
    ranker = params.ranker or Ranker()
    given, strategy = ranker.params, ranker.strategy or ranker.type
    return Ranking(
        mode=_MODES[params.mode] if params.mode is not None else None,
        fusion="weighted" if strategy == "weighted" else "rrf" if strategy == "rrf" else None,
        rrf_k=_number(given.get("k", given.get("impact_factor")), 60.0),
        vector_weight=min(1.0, max(0.0, _vector_weight(given))),
        score_threshold=min(1.0, max(0.0, params.score_threshold)),
    )


def text_of(content: str | list[dict[str, Any]] | dict[str, Any], param: str) -> str:
    """The text of a content: of its parts, those that are texts. Raises `InvalidRequest` where there is none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    if not texts:
        raise InvalidRequest("There is no text among the parts of the content.", param=param)
    return "\n".join(texts)


def _vector_weight(given: dict[str, Any]) -> float:
    """Of `weights`, the first is that of vectors; the others are made to fit."""
    weights = given.get("weights")
    if isinstance(weights, list) and len(weights) > 1 and all(isinstance(each, int | float) for each in weights):
        total = float(sum(weights))
        return weights[0] / total if total > 0 else 0.5
    return _number(given.get("alpha"), 0.5)


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else default
