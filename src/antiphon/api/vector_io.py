"""Llama Stack's own routes to a vector store: chunks that a client made by itself, put in and found again."""

from array import array
from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

from msgspec.structs import replace

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.errors import ApiError, Conflict, InvalidRequest
from antiphon.ids import child_id
from antiphon.models.embedding import packed
from antiphon.stores.table import not_found
from antiphon.stores.vector_stores import Place
from antiphon.vectors.base import Chunk, Hit, Piece, Wanted
from antiphon.vectors.ingest import key_of, used_bytes
from antiphon.vectors.search import source_of
from antiphon.vectors.wanted import ranking_of_query, text_of
from antiphon.wire.vector_stores import FoundChunk, FoundChunks, InsertChunks, QueryChunks, ReadyChunk

_ABOUT: Final = "chunk_metadata"
"""Where, among a chunk's metadata, that is kept which Llama Stack's clients do not give to the model."""


@route("POST", "/v1/vector-io/insert", body=InsertChunks, answer=type(None))
async def insert_chunks(call: Call[InsertChunks, None]) -> None:
    """Put ready-made chunks into a vector store; those without vectors are embedded."""
    services, body = call.services, call.body
    store_id = _store_id(body)
    await services.vector_stores.view(call.owner, store_id)
    place = await _place(call, store_id)
    _check(call, body.chunks)
    insert_id = await call.new_id("chunks")
    vectors = await call.until_gone(_vectors(call, place, body.chunks))
    if not body.chunks:
        return
    place = await _settled(call, store_id, place, vectors=vectors)
    try:
        await services.vector_files.open_ready(call.owner, store_id, insert_id)
    except Conflict:  # an execution that was cut short had come so far
        standing = await services.vector_files.standing(call.owner, store_id, insert_id)
        if standing is not None and standing.status == "completed":
            return
    chunks = [_chunk(each, insert_id, at, vector=vectors[at]) for at, each in enumerate(body.chunks)]
    index, key = services.ingesting.index(place.index), key_of(call.owner, store_id, place)
    at_once = services.config.vector_stores.embed_texts_max
    for start in range(0, len(chunks), at_once):
        await index.add(key, insert_id, insert_id, chunks=chunks[start : start + at_once])
    try:
        await services.vector_files.publish_ready(call.owner, store_id, insert_id, usage_bytes=used_bytes(chunks))
    except ApiError:
        await index.remove(key, insert_id)
        raise


@route("POST", "/v1/vector-io/query", body=QueryChunks, answer=FoundChunks)
async def query_chunks(call: Call[QueryChunks, None]) -> FoundChunks:
    """Find chunks in a vector store."""
    body = call.body
    wanted = Wanted(
        queries=(text_of(body.query, "query"),), count=body.params.max_chunks, ranking=ranking_of_query(body.params)
    )
    search = call.services.search.search(call.owner, _store_id(body), wanted, access=call.access)
    hits = await call.until_gone(search)
    return FoundChunks(chunks=[_found(hit) for hit in hits], scores=[hit.score for hit in hits])


def _store_id(body: InsertChunks | QueryChunks) -> str:
    """The store, by its older or its newer name. Raises `InvalidRequest` where neither is given."""
    store_id = body.vector_store_id or body.vector_db_id
    if not store_id:
        raise InvalidRequest(
            "A vector store must be named.", param="vector_store_id", code="missing_required_parameter"
        )
    return store_id


async def _place(call: Call[Any, Any], store_id: str) -> Place:
    place = await call.services.vector_stores.place(call.owner, store_id)
    if place is None or place.gone:
        raise not_found("Vector store", store_id)
    return place


def _check(call: Call[Any, Any], chunks: Sequence[ReadyChunk]) -> None:
    """Raises `InvalidRequest` for too many chunks, a text that is empty, or a vector that is none."""
    chunks_max = call.services.config.vector_stores.insert_chunks_max
    if len(chunks) > chunks_max:
        message = f"At most {chunks_max} chunks are allowed, not {len(chunks)}."
        raise InvalidRequest(message, param="chunks", code="array_above_max_length")
    for number, chunk in enumerate(chunks):
        if not text_of(chunk.content, f"chunks[{number}].content").strip():
            raise InvalidRequest("The chunk has no text.", param=f"chunks[{number}].content")
        if chunk.embedding is not None and not chunk.embedding:
            raise InvalidRequest("The embedding is empty.", param=f"chunks[{number}].embedding")


async def _vectors(call: Call[Any, Any], place: Place, chunks: Sequence[ReadyChunk]) -> list[bytes | None]:
    """The vector of each chunk: its own, or the embedding model's; None where the store has no such model."""
    vectors = [_packed(chunk.embedding, number) for number, chunk in enumerate(chunks)]
    missing = [at for at, vector in enumerate(vectors) if vector is None] if place.embedding_model else []
    at_once = call.services.config.vector_stores.embed_texts_max
    for start in range(0, len(missing), at_once):
        some = missing[start : start + at_once]
        texts = [text_of(chunks[at].content, "chunks") for at in some]
        made = await call.services.ingesting.embed(
            place.embedding_model, texts, dimension=place.dimension, access=call.access
        )
        for at, vector in zip(some, made, strict=True):
            vectors[at] = vector
    return vectors


async def _settled(call: Call[Any, Any], store_id: str, place: Place, *, vectors: Sequence[bytes | None]) -> Place:
    """The place, with a dimension if there are vectors. Raises `InvalidRequest` for a vector of another length."""
    first = next((len(vector) // 4 for vector in vectors if vector is not None), 0)
    dimension = place.dimension
    if first and not dimension:
        dimension = await call.services.vector_stores.settle(call.owner, store_id, first)
    for number, vector in enumerate(vectors):
        if vector is not None and len(vector) // 4 != dimension:
            message = f"The embedding has {len(vector) // 4} numbers; the vector store has {dimension}."
            raise InvalidRequest(message, param=f"chunks[{number}].embedding", code="dimension_mismatch")
    return replace(place, dimension=dimension)


def _packed(embedding: Sequence[float] | None, number: int) -> bytes | None:
    if embedding is None:
        return None
    vector = array("f", embedding)
    if not all(map(isfinite, vector)):
        message = "The embedding has a number that is too large for 32 bits."
        raise InvalidRequest(message, param=f"chunks[{number}].embedding")
    return packed(vector)


def _chunk(given: ReadyChunk, insert_id: str, number: int, *, vector: bytes | None) -> Chunk:
    text, metadata = text_of(given.content, "chunks"), dict(given.metadata)
    named = metadata.pop("chunk_id", None)
    if given.chunk_metadata is not None:
        metadata[_ABOUT] = given.chunk_metadata
    id = given.chunk_id or (named if isinstance(named, str) else "") or child_id(insert_id, "chunk", number)
    piece = Piece(text=text, start=0, end=len(text))
    return Chunk(id=id, number=number, piece=piece, vector=vector, metadata=metadata)


def _found(hit: Hit) -> FoundChunk:
    chunk, source = hit.chunk, source_of(hit)
    metadata = dict(chunk.metadata) or {**source.attributes, "filename": source.filename}
    about = metadata.pop(_ABOUT, None)
    metadata.setdefault("document_id", source.file_id)
    return FoundChunk(content=chunk.piece.text, metadata=metadata, chunk_id=chunk.id, chunk_metadata=about)
