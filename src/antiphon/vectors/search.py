"""A question to a vector store: its queries embedded, both ways searched side by side, the best hits fetched."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar, cast

import msgspec
from msgspec import Struct

from antiphon.errors import Unavailable
from antiphon.knowledge import SearchConfig
from antiphon.models.base import Access
from antiphon.stores.vector_stores import FileFacts, StoreView
from antiphon.vectors.base import Among, Chunk, Hit, Key, Metric, Ranking, VectorIndex, Wanted
from antiphon.vectors.filters import allows
from antiphon.vectors.ranking import Mode, Ranked, adapted, best, by_meaning, by_words, fused, lean, mode_of, reranked
from antiphon.wire.search import Filter


class Embed(Protocol):
    """Texts into vectors of a store's dimension (0: whatever the model gives). Raises `ApiError`s only."""

    def __call__(self, model: str, texts: Sequence[str], *, dimension: int, access: Access) -> Awaitable[list[bytes]]:
        """One vector for each text: little-endian float32."""
        ...


Rerank = Callable[[str, str, Sequence[str], Access], Awaitable[list[float]]]
"""How well documents answer a query, each from 0 to 1, by a model."""

AMONGS_MAX: Final = 32
"""Filters whose files are remembered: an index is fast where it sees the same set again."""
CANDIDATES_MIN: Final = 50

T = TypeVar("T")


class Views(Protocol):
    """Where a search finds what there is to know of a store."""

    async def view(self, owner: str, id: str) -> StoreView:
        """The store. Raises `NotFound`."""
        ...


class _Filtered(NamedTuple):
    view: StoreView
    among: Among


class _Question(Struct, frozen=True, kw_only=True):
    """What one search is about, settled."""

    index: VectorIndex
    key: Key
    model: str
    among: Among
    ranking: Ranking
    mode: Mode
    count: int


class Search:
    """Searches the stores of all owners, one at a time."""

    def __init__(
        self,
        stores: Views,
        indexes: Mapping[str, VectorIndex],
        config: SearchConfig,
        *,
        embed: Embed,
        rerank: Rerank,
    ) -> None:
        self._stores = stores
        self._indexes = indexes
        self._config = config
        self._embed = embed
        self._rerank = rerank
        self._filtered: OrderedDict[tuple[str, str, bytes], _Filtered] = OrderedDict()

    async def check(self, owner: str, store_id: str) -> None:
        """Raises `NotFound` if there is no such store, `InvalidRequest` if it has expired."""
        await self._stores.view(owner, store_id)

    async def search(self, owner: str, store_id: str, wanted: Wanted, *, access: Access) -> list[Hit]:
        """The best hits over all queries, the best first, each chunk once.

        Raises `NotFound` for the store, `InvalidRequest` for a filter or a mode that the store does not allow,
        `Unavailable` where its index is away, and what embedding and reranking raise.
        """
        view = await self._stores.view(owner, store_id)
        among = self._among(owner, view, wanted.filters)
        question = self._question(owner, view, wanted, among=among)
        queries = list(dict.fromkeys(wanted.queries))
        if not among or not queries:
            return []
        results = await self._ranked(question, queries, access)
        reranker = self._config.reranker if wanted.ranking.reranker is None else wanted.ranking.reranker
        if reranker:
            asked = dict(zip(queries, results, strict=True))
            results = await self._anew(question, reranker, asked, access=access)
        hits = best(results, wanted.count, wanted.ranking.score_threshold)
        found = await question.index.fetch(question.key, [each.match for each in hits])
        return [_hit(each, chunk, view.files) for each, chunk in zip(hits, found, strict=True) if chunk is not None]

    def _question(self, owner: str, view: StoreView, wanted: Wanted, *, among: Among) -> _Question:
        index = self._indexes.get(view.index)
        if index is None:
            known = ", ".join(sorted(self._indexes))
            raise Unavailable(f"The index '{view.index}' of this vector store is not configured. There are: {known}.")
        vectors = bool(view.embedding_model and view.dimension)
        return _Question(
            index=index,
            key=Key(owner=owner, store=view.id, dimension=view.dimension, metric=cast("Metric", view.metric)),
            model=view.embedding_model,
            among=among,
            ranking=wanted.ranking,
            mode=mode_of(wanted.ranking, self._config, vectors=vectors),
            count=max(CANDIDATES_MIN, self._config.candidates * wanted.count),
        )

    async def _ranked(self, question: _Question, queries: Sequence[str], access: Access) -> list[list[Ranked]]:
        """Each query's candidates."""
        if question.mode == "keyword":
            return await self._by_words(question, queries)
        if question.mode == "semantic":
            return await self._by_meaning(question, queries, access)
        fusion = question.ranking.fusion or self._config.fusion
        if fusion != "adaptive":
            # The first asks a host: what the second does, it does meanwhile.
            meaning, words = await asyncio.gather(
                self._by_meaning(question, queries, access), self._by_words(question, queries)
            )
            return [fused(*ways, question.ranking, fusion=fusion) for ways in zip(meaning, words, strict=True)]
        meaning, judged = await asyncio.gather(
            self._by_meaning(question, queries, access), self._judged(question, queries)
        )
        return [
            adapted(near, words, question.ranking, lean=trust)
            for near, (words, trust) in zip(meaning, judged, strict=True)
        ]

    async def _by_meaning(self, question: _Question, queries: Sequence[str], access: Access) -> list[list[Ranked]]:
        vectors = await self._embed(question.model, queries, dimension=question.key.dimension, access=access)
        key, count, among = question.key, question.count, question.among
        found = [question.index.semantic(key, vector, count=count, among=among) for vector in vectors]
        return [by_meaning(matches, key.metric) for matches in await all_of(found)]

    async def _by_words(self, question: _Question, queries: Sequence[str]) -> list[list[Ranked]]:
        count, among = question.count, question.among
        found = [question.index.keyword(question.key, query, count=count, among=among) for query in queries]
        return [by_words(matches) for matches in await all_of(found)]

    async def _judged(self, question: _Question, queries: Sequence[str]) -> list[tuple[list[Ranked], float]]:
        """What words find, and how far they are to be trusted: by the text of the best."""
        results = await self._by_words(question, queries)
        first = [ranked[0].match for ranked in results if ranked]
        texts = iter(await question.index.fetch(question.key, first))

        def trust(query: str, ranked: Sequence[Ranked]) -> float:
            chunk = next(texts) if ranked else None
            return lean(query, ranked[0].match.score, chunk.piece.text) if chunk is not None else 0.0

        return [(ranked, trust(query, ranked)) for query, ranked in zip(queries, results, strict=True)]

    async def _anew(
        self, question: _Question, model: str, results: Mapping[str, Sequence[Ranked]], *, access: Access
    ) -> list[list[Ranked]]:
        """Each query's best candidates, ordered by a rerank model."""

        async def one(query: str, candidates: Sequence[Ranked]) -> list[Ranked]:
            found = await question.index.fetch(question.key, [each.match for each in candidates])
            pairs = [(each, chunk) for each, chunk in zip(candidates, found, strict=True) if chunk is not None]
            if not pairs:
                return []
            scores = await self._rerank(model, query, [chunk.piece.text for _, chunk in pairs], access)
            return reranked([each for each, _ in pairs], scores)

        most = self._config.rerank_candidates
        return await all_of([one(query, ranked[:most]) for query, ranked in results.items()])

    def _among(self, owner: str, view: StoreView, wanted: Filter | None) -> Among:
        """The attempts that count and that the filter allows: the same object for the same question."""
        if wanted is None:
            return view.among
        key = owner, view.id, msgspec.json.encode(wanted)
        known = self._filtered.get(key)
        if known is None or known.view.files is not view.files or known.view.among is not view.among:
            allowed = allows(wanted)
            among = {id: view.among[id] for id, facts in view.files.items() if allowed(facts.attributes)}
            known = self._filtered[key] = _Filtered(view, among)
        self._filtered.move_to_end(key)
        if len(self._filtered) > AMONGS_MAX:
            self._filtered.popitem(last=False)
        return known.among


async def all_of(work: Sequence[Awaitable[T]]) -> list[T]:
    """What all of it gives; one alone needs no task."""
    return [await work[0]] if len(work) == 1 else list(await asyncio.gather(*work))


def _hit(ranked: Ranked, chunk: Chunk, files: Mapping[str, FileFacts]) -> Hit:
    facts = files[ranked.match.file_id]
    return Hit(
        file_id=ranked.match.file_id,
        filename=facts.filename,
        attributes=dict(facts.attributes),
        score=ranked.score,
        chunk=chunk,
        similarity=ranked.similarity,
    )


class Source(Struct, frozen=True, kw_only=True):
    """Where a hit comes from, as clients are told."""

    file_id: str
    filename: str
    attributes: dict[str, str | float | bool]


def source_of(hit: Hit) -> Source:
    """The hit's file; of a ready-made chunk, the document that its metadata name."""
    given = hit.chunk.metadata
    if not given:
        return Source(file_id=hit.file_id, filename=hit.filename, attributes=hit.attributes)
    plain = {name: value for name, value in given.items() if isinstance(value, str | int | float | bool)}
    return Source(
        file_id=str(given.get("document_id") or hit.file_id),
        filename=str(given.get("filename") or hit.filename),
        attributes={**hit.attributes, **plain},
    )
