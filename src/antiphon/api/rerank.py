"""Reranking, under Cohere's and Jina's name and under Llama Stack's."""

from typing import Any

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.errors import InvalidRequest
from antiphon.models.reranking import rerank
from antiphon.wire.rerank import (
    CreateRerank,
    InferenceRerank,
    InferenceReranked,
    Ranked,
    Reranked,
    Text,
    TextPart,
    text_of,
)


@route("POST", "/v1/rerank", body=CreateRerank, answer=Reranked)
async def create_rerank(call: Call[CreateRerank, None]) -> Reranked:
    """Order documents by their relevance to a query."""
    body = call.body
    ranked = await _ranked(call, body.query, body.documents, param="documents")
    if body.return_documents:
        for each in ranked:
            each.document = TextPart(text=text_of(body.documents[each.index]))
    return Reranked(id=call.services.new_id("rerank", call.raw), model=body.model, results=ranked[: body.top_n])


@route("POST", "/v1alpha/inference/rerank", body=InferenceRerank, answer=InferenceReranked)
async def inference_rerank(call: Call[InferenceRerank, None]) -> InferenceReranked:
    """Order items by their relevance to a query, as Llama Stack's clients ask for it."""
    body = call.body
    ranked = await _ranked(call, body.query, body.items, param="items")
    return InferenceReranked(data=ranked[: body.max_num_results])


async def _ranked(call: Call[Any, None], query: Text, documents: list[Text], *, param: str) -> list[Ranked]:
    """All documents, the most relevant first, of equal ones the earlier."""
    services, texts = call.services, [text_of(each) for each in documents]
    most = services.config.limits.rerank_documents_max
    if len(texts) > most:
        message = f"At most {most} {param} are allowed, not {len(texts)}."
        raise InvalidRequest(message, param=param, code="array_above_max_length")
    asking = rerank(services.catalog, call.body.model, text_of(query), documents=texts, access=call.access)
    scores = await call.until_gone(asking)
    ranked = [Ranked(index=index, relevance_score=score) for index, score in enumerate(scores)]
    return sorted(ranked, key=lambda each: -each.relevance_score)
