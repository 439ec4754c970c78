"""Vector stores: created, listed, changed, searched, deleted. What they contain is ingested in the background."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.errors import ApiError, InvalidRequest, NotFound
from antiphon.models.embedding import default_model
from antiphon.stores.vector_files import NewFile
from antiphon.vectors.base import Hit, Wanted
from antiphon.vectors.ingest import Target, put, put_forget
from antiphon.vectors.rewrite import rewritten
from antiphon.vectors.search import source_of
from antiphon.vectors.wanted import ranking_of
from antiphon.wire.base import Page
from antiphon.wire.vector_stores import (
    CreateVectorStore,
    SearchResult,
    SearchResultsPage,
    SearchVectorStore,
    TextContent,
    UpdateVectorStore,
    VectorStore,
    VectorStoreDeleted,
    VectorStoreListQuery,
)

_PUTS_AT_ONCE: Final = 64


@route("POST", "/v1/vector_stores", body=CreateVectorStore, answer=VectorStore)
async def create_vector_store(call: Call[CreateVectorStore, None]) -> VectorStore:
    """Create a vector store, of files that are ingested then."""
    body, stores = call.body, call.services.vector_stores
    ids = list(dict.fromkeys(body.file_ids or ()))
    wanted = [NewFile(id=id, filename="", attributes={}, strategy=body.chunking_strategy) for id in ids]
    files = await new_files(call, wanted, param="file_ids")
    _check_room(call, len(files))
    store_id = await call.new_id("vs")
    begun = False
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            begun = bool(await stores.get(call.owner, store_id))
    if not begun:
        await stores.create(call.owner, await _described(call, store_id))
    await attach(call, store_id, files)
    return await stores.get(call.owner, store_id)


@route("GET", "/v1/vector_stores", query=VectorStoreListQuery, answer=Page[VectorStore])
async def list_vector_stores(call: Call[None, VectorStoreListQuery]) -> Page[VectorStore]:
    """List vector stores."""
    return await call.services.vector_stores.list(call.owner, call.query)


@route("GET", "/v1/vector_stores/{vector_store_id}", answer=VectorStore)
async def get_vector_store(call: Call[None, None]) -> VectorStore:
    """Retrieve a vector store, with its counts of this moment."""
    return await call.services.vector_stores.get(call.owner, call.params["vector_store_id"])


@route("POST", "/v1/vector_stores/{vector_store_id}", body=UpdateVectorStore, answer=VectorStore)
async def update_vector_store(call: Call[UpdateVectorStore, None]) -> VectorStore:
    """Change a vector store's name, metadata or expiry."""
    return await call.services.vector_stores.update(call.owner, call.params["vector_store_id"], call.body)


@route("DELETE", "/v1/vector_stores/{vector_store_id}", answer=VectorStoreDeleted)
async def delete_vector_store(call: Call[None, None]) -> VectorStoreDeleted:
    """Delete a vector store and what it contains. The uploaded files stay."""
    store_id = call.params["vector_store_id"]
    await call.services.vector_stores.delete(call.owner, store_id)
    call.services.engine.signals.send(store_id)
    await put_forget(call.services.jobs, call.owner, store_id)
    return VectorStoreDeleted(id=store_id)


@route("POST", "/v1/vector_stores/{vector_store_id}/search", body=SearchVectorStore, answer=SearchResultsPage)
async def search_vector_store(call: Call[SearchVectorStore, None]) -> SearchResultsPage:
    """Search a vector store for chunks of its files."""
    body, services = call.body, call.services
    queries = [body.query] if isinstance(body.query, str) else list(body.query)
    if body.rewrite_query:
        await services.vector_stores.get(call.owner, call.params["vector_store_id"])  # before a model is paid for it
        queries = await call.until_gone(_rewritten(call, queries))
    wanted = Wanted(
        queries=tuple(queries),
        count=body.max_num_results,
        filters=body.filters,
        ranking=ranking_of(body.ranking_options, body.search_mode),
    )
    search = services.search.search(call.owner, call.params["vector_store_id"], wanted, access=call.access)
    hits = await call.until_gone(search)
    return SearchResultsPage(search_query=queries, data=[_result(hit) for hit in hits])


# ---------------------------------------------------------------- files, for whoever attaches some


async def new_files(call: Call[Any, Any], files: Sequence[NewFile], *, param: str) -> list[NewFile]:
    """The files with the names under which they were uploaded. Raises `NotFound`, naming the first that was not."""
    uploads = call.services.files

    async def named(file: NewFile) -> NewFile:
        try:
            upload = await uploads.get(call.owner, file.id)
        except NotFound as error:
            raise NotFound(error.message, param=param) from error
        return NewFile(id=file.id, filename=upload.filename, attributes=file.attributes, strategy=file.strategy)

    found: list[NewFile] = []
    for start in range(0, len(files), _PUTS_AT_ONCE):
        found += await asyncio.gather(*map(named, files[start : start + _PUTS_AT_ONCE]))
    return found


async def attach(call: Call[Any, Any], store_id: str, files: Sequence[NewFile], *, batch: str | None = None) -> None:
    """Attaches files to a store and has them ingested. Raises `InvalidRequest` for more than a store may have."""
    services = call.services
    if not files:
        return
    _check_room(call, len(files) + await services.vector_files.count(call.owner, store_id))
    await services.vector_files.attach(call.owner, store_id, files, batch=batch)
    await put_all(call, store_id, [file.id for file in files])


async def put_all(call: Call[Any, Any], store_id: str, ids: Sequence[str]) -> None:
    """Asks for files to be ingested, or for what is left of them to be removed."""
    jobs, replay = call.services.jobs, call.access.replay
    targets = [Target(owner=call.owner, store=store_id, file=id, replay=replay) for id in ids]
    for start in range(0, len(targets), _PUTS_AT_ONCE):
        await asyncio.gather(*(put(jobs, target) for target in targets[start : start + _PUTS_AT_ONCE]))


def _check_room(call: Call[Any, Any], count: int) -> None:
    files_max = call.services.config.vector_stores.files_max
    if count > files_max:
        message = f"A vector store may have {files_max} files; these would be {count}."
        raise InvalidRequest(message, param="file_ids", code="too_many_files")


# ---------------------------------------------------------------- what a new store is


async def _described(call: Call[CreateVectorStore, None], store_id: str) -> VectorStore:
    """The store that a request asks for."""
    body, now = call.body, int(call.services.clock())
    model, dimension = await _embedding(call)
    return VectorStore(
        id=store_id,
        created_at=now,
        last_active_at=now,
        name=body.name or "",
        description=body.description,
        expires_after=body.expires_after,
        metadata=body.metadata or {},
        embedding_model=model,
        embedding_dimension=dimension or None,
        metric=body.metric or "cosine",
        provider_id=_index(call),
    )


def _index(call: Call[CreateVectorStore, None]) -> str:
    """The index of a new store. Raises `InvalidRequest` for one that is not there."""
    ingesting, name = call.services.ingesting, call.body.provider_id
    if name is None:
        return ingesting.default_index
    if name not in ingesting.indexes:
        known = ", ".join(map(repr, ingesting.indexes))
        raise InvalidRequest(f"There is no index {name[:100]!r}; there are {known}.", param="provider_id")
    return name


async def _embedding(call: Call[CreateVectorStore, None]) -> tuple[str, int]:
    """The embedding model of a new store and the length of its vectors; "" and 0 where these are not there."""
    body, services = call.body, call.services
    wanted = body.embedding_model
    if wanted is None:
        wanted = await default_model(services.catalog, services.config.vector_stores.embedding_model)
        if not wanted:
            call.warn("no embedding model is configured, or several are there: the store is searched by words only")
    if not wanted:
        return "", body.embedding_dimension or 0
    try:
        resolved = await services.catalog.resolve(wanted, call.access, kind="embedding")
    except ApiError as error:
        error.param = "embedding_model"
        raise
    known, asked = resolved.info.dimension or 0, body.embedding_dimension or 0
    if 0 < known < asked:
        message = f"The model '{resolved.id}' has {known} dimensions, so {asked} is impossible."
        raise InvalidRequest(message, param="embedding_dimension", code="dimension_mismatch")
    return resolved.id, asked or known


# ---------------------------------------------------------------- search


async def _rewritten(call: Call[Any, Any], queries: Sequence[str]) -> list[str]:
    config = call.services.config.vector_stores
    if not config.rewrite_model:
        call.warn("rewrite_query is not obeyed: no model is configured for it (vector_stores.rewrite_model)")
        return list(queries)
    catalog, prompt = call.services.catalog, config.rewrite_prompt
    asked = [rewritten(catalog, config.rewrite_model, query, prompt=prompt, access=call.access) for query in queries]
    return await asyncio.gather(*asked)


def _result(hit: Hit) -> SearchResult:
    source = source_of(hit)
    return SearchResult(
        file_id=source.file_id,
        filename=source.filename,
        score=hit.score,
        attributes=source.attributes,
        content=[TextContent(text=hit.chunk.piece.text)],
    )
