"""How relevant documents are to a query, by whichever reranking model a name leads to.

Hosts agree on `POST /rerank` and on little else: Cohere, Jina and vLLM answer `results` with a `relevance_score`,
Text Embeddings Inference a bare list with a `score`; llama.cpp sends logits. Every answer is understood; what must be
known before asking, or cannot be seen in the answer, is a quirk of the host.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from antiphon.egress import read_whole
from antiphon.errors import Upstream
from antiphon.models.base import Access
from antiphon.models.catalog import Catalog

PATH: Final = "/rerank"
_ROUNDING: Final = 1e-3
"""How far from 0..1 a score may be for the host's rounding."""

_encode = msgspec.json.Encoder().encode


class _Score(Struct, kw_only=True):
    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Scores(Struct, kw_only=True):
    results: list[_Score] | None = None
    data: list[_Score] | None = None


_answers = msgspec.json.Decoder(_Scores | list[_Score])


async def rerank(catalog: Catalog, model: str, query: str, *, documents: Sequence[str], access: Access) -> list[float]:
    """The relevance of each document to the query, 0 to 1, in the order of the documents.

    Raises `ApiError`s only: what `Catalog.resolve` and `Provider.post` raise, and `Upstream` for an answer that is not
    one score per document.
    """
    resolved = await catalog.resolve(model, access, kind="rerank")
    if not documents:
        return []
    quirks = resolved.quirks
    body: dict[str, Any] = {"model": resolved.model, "query": query, quirks.rerank_documents: list(documents)}
    incoming = await resolved.provider.post(PATH, _encode(body), access)
    answer = await read_whole(incoming, bytes_max=resolved.answer_bytes_max)
    try:
        scores = _read(answer, len(documents))
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        why = str(error).partition(" - at ")[0]
        raise Upstream(f"Host {resolved.host!r} sent scores that cannot be read: {why[:200]}.") from error
    if quirks.rerank_logits:
        return [_logistic(score) for score in scores]
    if not all(-_ROUNDING <= score <= 1 + _ROUNDING for score in scores):
        message = (
            f"Host {resolved.host!r} sent scores from {min(scores):g} to {max(scores):g}, not 0 to 1:"
            f" if they are logits, set `hosts.{resolved.host}.quirks.rerank_logits`."
        )
        raise Upstream(message)
    return [min(max(score, 0.0), 1.0) for score in scores]


def _read(answer: bytes, count: int) -> list[float]:
    """The scores by index. Raises `ValueError` where they are not one for each document."""
    decoded = _answers.decode(answer)
    given = decoded if isinstance(decoded, list) else decoded.results or decoded.data or []
    found = {each.index: each.score if each.relevance_score is None else each.relevance_score for each in given}
    if len(given) != count or found.keys() != set(range(count)):
        raise ValueError(f"not one for each of {count} documents")
    scores = [score for index in range(count) if (score := found[index]) is not None and math.isfinite(score)]
    if len(scores) != count:
        raise ValueError("a result without a finite score")
    return scores


def _logistic(logit: float) -> float:
    small = math.exp(-abs(logit))
    return (1 if logit >= 0 else small) / (1 + small)
