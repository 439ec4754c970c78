"""Relevance from 0 to 1 in the order of the documents, out of what different hosts call reranking."""

import pytest

from antiphon.errors import InvalidRequest, Upstream
from antiphon.models.base import NO_ACCESS
from antiphon.models.reranking import rerank
from antiphon.presets import Quirks
from scripted_provider import Scripted, catalog_with

COHERE = {"id": "x", "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}
JINA = {
    "results": [{"index": 1, "document": {"text": "b"}, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
}
TEI = [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]
DATA = {"data": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}


async def scores(body, **quirks) -> list[float]:
    catalog = catalog_with(Scripted(body), "rerank", quirks=Quirks(**quirks))
    return await rerank(catalog, "h/m", "q", documents=["a", "b"], access=NO_ACCESS)


@pytest.mark.parametrize("body", [COHERE, JINA, TEI, DATA], ids=["Cohere", "Jina", "TEI", "Voyage"])
async def test_scores_come_in_the_order_of_the_documents(body) -> None:
    assert await scores(body) == [0.1, 0.9]


async def test_the_host_is_asked_in_coheres_words() -> None:
    host = Scripted(COHERE)
    await rerank(catalog_with(host, "rerank"), "h/m", "q", documents=["a", "b"], access=NO_ACCESS)
    assert host.asked == [("/rerank", {"model": "m", "query": "q", "documents": ["a", "b"]})]


async def test_a_host_may_call_the_documents_texts() -> None:
    host = Scripted(TEI)
    await rerank(
        catalog_with(host, "rerank", quirks=Quirks(rerank_documents="texts")),
        "h/m",
        "q",
        documents=["a", "b"],
        access=NO_ACCESS,
    )
    assert host.asked[0][1] == {"model": "m", "query": "q", "texts": ["a", "b"]}


async def test_logits_become_relevance() -> None:
    body = {"results": [{"index": 0, "relevance_score": 0.0}, {"index": 1, "relevance_score": -2000.0}]}
    assert await scores(body, rerank_logits=True) == [0.5, 0.0]
    body = {"results": [{"index": 0, "relevance_score": 2.0}, {"index": 1, "relevance_score": -2.0}]}
    assert await scores(body, rerank_logits=True) == pytest.approx([0.8807970779, 0.1192029220])


async def test_logits_that_nobody_announced_are_refused_with_the_way_out() -> None:
    body = {"results": [{"index": 0, "relevance_score": 7.7}, {"index": 1, "relevance_score": -2.3}]}
    with pytest.raises(Upstream, match=r"from -2.3 to 7.7, not 0 to 1.*hosts.h.quirks.rerank_logits"):
        await scores(body)


async def test_a_hosts_rounding_is_forgiven() -> None:
    assert await scores([{"index": 0, "score": 1.0000001}, {"index": 1, "score": -1e-7}]) == [1.0, 0.0]


async def test_no_documents_ask_nobody() -> None:
    host = Scripted()
    assert await rerank(catalog_with(host, "rerank"), "h/m", "q", documents=[], access=NO_ACCESS) == []
    assert host.asked == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"results": [{"index": 0, "relevance_score": 1}]}, "not one for each of 2 documents"),
        ([{"index": 0, "score": 1}, {"index": 0, "score": 1}], "not one for each of 2 documents"),
        ([{"index": 0, "score": 1}, {"index": 2, "score": 1}], "not one for each of 2 documents"),
        ([{"index": 0, "score": 1}, {"index": 1}], "a result without a finite score"),
        ({"error": {"message": "no"}}, "not one for each of 2 documents"),
        (b"<html>", "malformed"),
    ],
)
async def test_nonsense_is_the_hosts_fault_and_says_which(body, why) -> None:
    with pytest.raises(Upstream, match="Host 'h' sent scores that cannot be read") as caught:
        await scores(body)
    assert why in caught.value.message


async def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="cannot be used for reranking"):
        await rerank(catalog_with(Scripted(), "embedding"), "h/m", "q", documents=["a"], access=NO_ACCESS)
