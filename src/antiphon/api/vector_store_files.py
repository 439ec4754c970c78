"""The files in vector stores: attached one by one or in batches, listed, changed, read, removed."""

import contextlib
from typing import Final

import msgspec

from antiphon.api.call import Call
from antiphon.api.reply import Reply
from antiphon.api.route import route
from antiphon.api.vector_stores import attach, new_files, put_all
from antiphon.errors import InvalidRequest, NotFound
from antiphon.stores.vector_files import NewFile
from antiphon.vectors.ingest import key_of
from antiphon.wire.base import Page
from antiphon.wire.vector_stores import (
    CreateVectorStoreFile,
    CreateVectorStoreFileBatch,
    FileContentPage,
    FileContentQuery,
    TextContent,
    UpdateVectorStoreFile,
    VectorStoreFile,
    VectorStoreFileBatch,
    VectorStoreFileDeleted,
    VectorStoreFileListQuery,
)

POLL_MS: Final = 100
"""After what time a client that waits for an ingestion is to ask again: a small file takes less."""
_FILES = "/v1/vector_stores/{vector_store_id}/files"
_FILE = f"{_FILES}/{{file_id}}"
_BATCHES = "/v1/vector_stores/{vector_store_id}/file_batches"
_BATCH = f"{_BATCHES}/{{batch_id}}"


@route("POST", _FILES, body=CreateVectorStoreFile, answer=VectorStoreFile)
async def create_vector_store_file(call: Call[CreateVectorStoreFile, None]) -> VectorStoreFile:
    """Attach an uploaded file, which is ingested then. One that failed is tried again."""
    body, store_id = call.body, call.params["vector_store_id"]
    files = await new_files(call, [_wanted(body)], param="file_id")
    await attach(call, store_id, files)
    return await call.services.vector_files.get(call.owner, store_id, body.file_id)


@route("GET", _FILES, query=VectorStoreFileListQuery, answer=Page[VectorStoreFile])
async def list_vector_store_files(call: Call[None, VectorStoreFileListQuery]) -> Page[VectorStoreFile]:
    """List the files of a vector store."""
    store_id = call.params["vector_store_id"]
    await call.services.vector_stores.get(call.owner, store_id)
    return await call.services.vector_files.list(call.owner, store_id, call.query)


@route("GET", _FILE, answer=VectorStoreFile)
async def get_vector_store_file(call: Call[None, None]) -> Reply:
    """Retrieve a file of a vector store."""
    store_id, file_id = call.params["vector_store_id"], call.params["file_id"]
    return _polled(await call.services.vector_files.get(call.owner, store_id, file_id))


@route("POST", _FILE, body=UpdateVectorStoreFile, answer=VectorStoreFile)
async def update_vector_store_file(call: Call[UpdateVectorStoreFile, None]) -> VectorStoreFile:
    """Replace a file's attributes; filters go by them from now on."""
    store_id, file_id = call.params["vector_store_id"], call.params["file_id"]
    attributes = call.body.attributes or {}
    return await call.services.vector_files.update(call.owner, store_id, file_id, attributes=attributes)


@route("DELETE", _FILE, answer=VectorStoreFileDeleted)
async def delete_vector_store_file(call: Call[None, None]) -> VectorStoreFileDeleted:
    """Take a file out of a vector store. The uploaded file stays."""
    store_id, file_id = call.params["vector_store_id"], call.params["file_id"]
    await call.services.vector_files.detach(call.owner, store_id, file_id)
    call.services.engine.signals.send(store_id)
    await put_all(call, store_id, [file_id])
    return VectorStoreFileDeleted(id=file_id)


@route("GET", f"{_FILE}/content", query=FileContentQuery, answer=FileContentPage)
async def get_vector_store_file_content(call: Call[None, FileContentQuery]) -> FileContentPage:
    """Read the texts of a file's chunks, in order."""
    store_id, file_id = call.params["vector_store_id"], call.params["file_id"]
    services, query = call.services, call.query
    await services.vector_files.get(call.owner, store_id, file_id)
    standing = await services.vector_files.standing(call.owner, store_id, file_id)
    place = await services.vector_stores.place(call.owner, store_id)
    if standing is None or place is None or standing.attempt is None or standing.status != "completed":
        return FileContentPage(data=[])
    chunks = await services.ingesting.index(place.index).chunks(
        key_of(call.owner, store_id, place), file_id, standing.attempt, after=_after(query), limit=query.limit + 1
    )
    shown, more = chunks[: query.limit], len(chunks) > query.limit
    data = [TextContent(text=chunk.piece.text) for chunk in shown]
    return FileContentPage(data=data, has_more=more, next_page=str(shown[-1].number) if more else None)


def _polled(shown: VectorStoreFile | VectorStoreFileBatch) -> Reply:
    """The answer to whoever may be waiting: OpenAI's clients look again after the time that it names."""
    headers = [(b"openai-poll-after-ms", b"%d" % POLL_MS)] if shown.status == "in_progress" else []
    return Reply(msgspec.json.encode(shown), headers=headers)


def _after(query: FileContentQuery) -> int:
    """The number of the last chunk of the page before."""
    if query.page is None:
        return -1
    if not (query.page.isascii() and query.page.isdigit() and len(query.page) < 10):
        raise InvalidRequest(f"'page' is not a `next_page` of this list: {query.page[:100]!r}.", param="page")
    return int(query.page)


# ---------------------------------------------------------------- batches


@route("POST", _BATCHES, body=CreateVectorStoreFileBatch, answer=VectorStoreFileBatch)
async def create_vector_store_file_batch(call: Call[CreateVectorStoreFileBatch, None]) -> VectorStoreFileBatch:
    """Attach many uploaded files."""
    services, body, store_id = call.services, call.body, call.params["vector_store_id"]
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            begun = await services.vector_files.get_batch(call.owner, store_id, call.begun)
            await put_all(call, store_id, [file.id for file in _wanted_of(body)])
            return begun
    files = await new_files(call, _wanted_of(body), param="file_ids" if body.files is None else "files")
    batch_id = await call.new_id("vsfb")
    await attach(call, store_id, files, batch=batch_id)
    return await services.vector_files.get_batch(call.owner, store_id, batch_id)


@route("GET", _BATCH, answer=VectorStoreFileBatch)
async def get_vector_store_file_batch(call: Call[None, None]) -> Reply:
    """Retrieve a batch of files, with its counts of this moment."""
    store_id, batch_id = call.params["vector_store_id"], call.params["batch_id"]
    return _polled(await call.services.vector_files.get_batch(call.owner, store_id, batch_id))


@route("POST", f"{_BATCH}/cancel", answer=VectorStoreFileBatch)
async def cancel_vector_store_file_batch(call: Call[None, None]) -> VectorStoreFileBatch:
    """Cancel a batch: files that are not ingested yet will not be."""
    files, store_id, batch_id = call.services.vector_files, call.params["vector_store_id"], call.params["batch_id"]
    left = await files.cancel_batch(call.owner, store_id, batch_id)
    call.services.engine.signals.send(store_id)
    await put_all(call, store_id, left)
    return await files.get_batch(call.owner, store_id, batch_id)


@route("GET", f"{_BATCH}/files", query=VectorStoreFileListQuery, answer=Page[VectorStoreFile])
async def list_vector_store_batch_files(call: Call[None, VectorStoreFileListQuery]) -> Page[VectorStoreFile]:
    """List the files of a batch."""
    files, store_id, batch_id = call.services.vector_files, call.params["vector_store_id"], call.params["batch_id"]
    await files.get_batch(call.owner, store_id, batch_id)
    return await files.list(call.owner, store_id, call.query, batch=batch_id)


def _wanted_of(body: CreateVectorStoreFileBatch) -> list[NewFile]:
    """The files of a batch, each once; those given as `files` have their own attributes and chunking."""
    if body.files is not None:
        wanted = [_wanted(each) for each in body.files]
    else:
        attributes, strategy = body.attributes or {}, body.chunking_strategy
        wanted = [NewFile(id=id, filename="", attributes=attributes, strategy=strategy) for id in body.file_ids or ()]
    return list({file.id: file for file in wanted}.values())


def _wanted(body: CreateVectorStoreFile) -> NewFile:
    return NewFile(id=body.file_id, filename="", attributes=body.attributes or {}, strategy=body.chunking_strategy)
