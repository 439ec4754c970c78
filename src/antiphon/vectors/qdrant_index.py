"""Qdrant as an index: a server, or a folder or memory of this process.

All stores of one dimension and metric are one collection, told apart by their payload. A chunk is a point with up to
two vectors: its own, and its words as a sparse one, whose weights Qdrant multiplies by how rare each word is.

Weaker than the index in the database: how rare a word is, Qdrant counts over a whole collection, all owners' stores
together; bm25 takes every text against a fixed length, since the average is known to nobody; equal scores at the end of
a list are cut as Qdrant pleases; a chunk replaces another in a step of its own, after the rest of its call.
"""

import contextlib
import importlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from antiphon.config import ConfigError
from antiphon.errors import Unavailable
from antiphon.knowledge import IndexConfig
from antiphon.vectors.base import Among, Chunk, Key, Match, Metric, Piece
from antiphon.vectors.chunk_rows import check_vector
from antiphon.vectors.exact import K1, B
from antiphon.vectors.terms import asked, packed, unpacked

LENGTH_USUAL: Final = 300.0
"""Words of a text that counts as neither long nor short."""
FILES_FEW: Final = 1_000
"""Attempts that a search names; of more, those that do not count are dropped afterwards, if enough is left."""
_AT_ONCE: Final = 256
_DISTANCES: Final[dict[Metric, str]] = {"cosine": "COSINE", "dot_product": "DOT", "squared_distance": "EUCLID"}
_SPACE: Final = uuid.UUID("5d4b7b1e-5a86-4d0f-9a0c-2f3c7a1e6b54")
_MEANING: Final = "meaning"
_WORDS: Final = "words"

Client = Any
"""Qdrant's, whose library is only imported where it is used."""


class QdrantIndex:
    """The chunks of all stores that are kept in a Qdrant."""

    def __init__(self, _database: object, config: IndexConfig) -> None:
        try:
            self._library: Any = importlib.import_module("qdrant_client")
        except ImportError as error:
            raise ConfigError(
                ["An index of the kind 'qdrant' needs another package: pip install 'antiphon[qdrant]'."]
            ) from error
        self._models: Any = self._library.models
        self._remote = config.url.startswith(("http://", "https://"))
        self._client: Client = self._connected(config)
        self._made: set[str] = set()

    async def open(self) -> None:
        """Nothing: collections are made when they are needed."""

    async def add(self, key: Key, file_id: str, attempt: str, *, chunks: Sequence[Chunk]) -> None:
        """Puts points."""
        for chunk in chunks:
            if chunk.vector is not None:
                check_vector(key, chunk.vector)
        if not chunks:
            return
        points = [self._point(key, (file_id, attempt), chunk) for chunk in {c.number: c for c in chunks}.values()]
        with self._translated():
            await self._client.upsert(await self._collection(key), points=points, wait=True)

    async def remove(self, key: Key, file_id: str | None = None, *, but: str | None = None) -> None:
        """Removes points."""
        where = self._mine(key, file_id)
        if but is not None:
            where.must_not = [self._equal("attempt", but)]
        with self._translated():
            await self._client.delete(await self._collection(key), points_selector=where, wait=True)

    async def semantic(self, key: Key, vector: bytes, *, count: int, among: Among) -> list[Match]:
        """The nearest: exactly in a process of its own, approximately on a server."""
        check_vector(key, vector)
        values = np.frombuffer(vector, "<f4").tolist()
        return await self._found(key, values, _MEANING, among=among, count=count)

    async def keyword(self, key: Key, query: str, *, count: int, among: Among) -> list[Match]:
        """The best by the sum of their words' weights."""
        terms = asked(query).tolist()
        if not terms:
            return []
        wanted = self._models.SparseVector(indices=terms, values=[1.0] * len(terms))
        return await self._found(key, wanted, _WORDS, among=among, count=count)

    async def chunks(self, key: Key, file_id: str, attempt: str, *, after: int, limit: int) -> list[Chunk]:
        """An attempt's chunks in order."""
        where = self._mine(key, file_id)
        where.must += [
            self._equal("attempt", attempt),
            self._models.FieldCondition(key="number", range=self._models.Range(gt=after, lte=after + limit)),
        ]
        with self._translated():
            points, _ = await self._client.scroll(await self._collection(key), scroll_filter=where, limit=limit)
        return sorted((_chunk(point.payload) for point in points), key=lambda chunk: chunk.number)

    async def fetch(self, key: Key, matches: Sequence[Match]) -> list[Chunk | None]:
        """The chunks at these places."""
        ids = [_id(key, (match.file_id, match.attempt), match.number) for match in matches]
        with self._translated():
            points = await self._client.retrieve(await self._collection(key), ids=ids) if ids else []
        found = {str(point.id): _chunk(point.payload) for point in points}
        return [found.get(id) for id in ids]

    async def close(self) -> None:
        """Ends the connection."""
        await self._client.close()

    def _connected(self, config: IndexConfig) -> Client:
        client = self._library.AsyncQdrantClient
        if self._remote:
            return client(url=config.url, api_key=config.key or None, check_compatibility=False)
        if not config.url:
            raise ConfigError(["An index of the kind 'qdrant' needs a `url`: an address, a folder, or ':memory:'."])
        return client(location=":memory:") if config.url == ":memory:" else client(path=config.url)

    async def _collection(self, key: Key) -> str:
        """The name of a store's collection, which there is from now on."""
        name = f"antiphon_{key.metric}_{key.dimension}" if key.dimension else "antiphon_words"
        if name in self._made:
            return name
        models = self._models
        if not await self._client.collection_exists(name):
            distance = models.Distance[_DISTANCES[key.metric]]
            vectors = {_MEANING: models.VectorParams(size=key.dimension, distance=distance)} if key.dimension else {}
            words = models.SparseVectorParams(modifier=models.Modifier.IDF)
            await self._client.create_collection(name, vectors_config=vectors, sparse_vectors_config={_WORDS: words})
            kinds = dict.fromkeys(("owner", "store", "file", "attempt", "name"), models.PayloadSchemaType.KEYWORD)
            kinds["number"] = models.PayloadSchemaType.INTEGER
            for field, kind in kinds.items() if self._remote else ():  # of no use in a process of its own
                await self._client.create_payload_index(name, field, kind)
        self._made.add(name)
        return name

    async def _found(self, key: Key, query: Any, using: str, *, among: Among, count: int) -> list[Match]:
        if not among:
            return []
        if len(among) > FILES_FEW:
            limit = 2 * count
            points = await self._asked(key, query, using, where=self._mine(key), limit=limit)
            live = [point for point in points if among.get(point.payload["file"]) == point.payload["attempt"]]
            if len(live) >= count or len(points) < limit:
                return _matches(live, key, using)[:count]
        where = self._mine(key)
        names = [_name(name) for name in among.items()]
        where.must.append(self._models.FieldCondition(key="name", match=self._models.MatchAny(any=names)))
        return _matches(await self._asked(key, query, using, where=where, limit=count), key, using)

    async def _asked(self, key: Key, query: Any, using: str, *, where: Any, limit: int) -> list[Any]:
        with self._translated():
            answer = await self._client.query_points(
                await self._collection(key),
                query=query,
                using=using,
                query_filter=where,
                limit=limit,
                with_payload=["file", "attempt", "number"],
            )
        return list(answer.points)

    def _point(self, key: Key, name: tuple[str, str], chunk: Chunk) -> Any:
        terms = unpacked(packed(chunk.piece.text))
        counts = terms.counts.astype(np.float64)
        norm = K1 * (1 - B + B * counts.sum() / LENGTH_USUAL)
        weights = (counts / (counts + norm)).tolist()
        vectors: dict[str, Any] = {_WORDS: self._models.SparseVector(indices=terms.numbers.tolist(), values=weights)}
        if chunk.vector is not None:
            vectors[_MEANING] = np.frombuffer(chunk.vector, "<f4").tolist()
        payload = {
            "owner": key.owner,
            "store": key.store,
            "file": name[0],
            "attempt": name[1],
            "name": _name(name),
            "number": chunk.number,
            "id": chunk.id,
            "piece": msgspec.to_builtins(chunk.piece),
            "metadata": chunk.metadata,
        }
        return self._models.PointStruct(id=_id(key, name, chunk.number), vector=vectors, payload=payload)

    def _mine(self, key: Key, file_id: str | None = None) -> Any:
        must = [self._equal("owner", key.owner), self._equal("store", key.store)]
        return self._models.Filter(must=must + ([] if file_id is None else [self._equal("file", file_id)]))

    def _equal(self, field: str, value: str) -> Any:
        return self._models.FieldCondition(key=field, match=self._models.MatchValue(value=value))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        errors = self._library.http.exceptions
        try:
            yield
        except (errors.ApiException, OSError) as error:
            raise Unavailable("The index is not available: its Qdrant does not answer as it should.") from error


def _id(key: Key, name: tuple[str, str], number: int) -> str:
    return str(uuid.uuid5(_SPACE, "\0".join((key.owner, key.store, *name, str(number)))))


def _name(name: tuple[str, str]) -> str:
    return "\0".join(name)


def _matches(points: Sequence[Any], key: Key, using: str) -> list[Match]:
    """Points as matches; Qdrant says a distance itself, not its square."""
    distances = using == _MEANING and key.metric == "squared_distance"
    matches = [
        Match(
            file_id=point.payload["file"],
            attempt=point.payload["attempt"],
            number=point.payload["number"],
            score=-(float(point.score) ** 2) if distances else float(point.score),
        )
        for point in points
    ]
    return sorted(matches, key=lambda match: (-match.score, match.file_id, match.number))


def _chunk(payload: dict[str, Any]) -> Chunk:
    piece = msgspec.convert(payload["piece"], Piece)
    return Chunk(id=payload["id"], number=payload["number"], piece=piece, metadata=payload["metadata"])
