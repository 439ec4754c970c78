"""Llama Stack's tools over vector stores: documents go in as files; what is found comes out as a model is told it."""

import asyncio
import mimetypes
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final

from antiphon.errors import Conflict, InvalidRequest
from antiphon.fetch import Fetcher
from antiphon.ids import child_id
from antiphon.knowledge import FileSearchConfig
from antiphon.models.base import Access
from antiphon.models.tokens import count_text
from antiphon.stores.vector_files import NewFile
from antiphon.tools.file_search import Searching
from antiphon.vectors.base import Hit, Wanted
from antiphon.vectors.ingest import Ingesting, Target, put
from antiphon.vectors.search import source_of
from antiphon.vectors.wanted import ranking_of_query, text_of
from antiphon.wire.chunking import StaticChunkingStrategy, StaticChunkingStrategyRequestParam
from antiphon.wire.files import File
from antiphon.wire.tool_groups import Content, RagDocument, RagFound, RagInsert, RagQueryConfig, RagSearch
from antiphon.wire.vector_stores import Attributes

NAME_CHARS_MAX: Final = 255
_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Between two looks whether a document is ingested; the last again and again."""
_URL = re.compile(r"(https?|file|data):\S+", re.IGNORECASE)
_FIELD = re.compile(r"\{(index|chunk\.content|metadata)\}")
_COUNTS: Final = frozenset({"token_count", "metadata_token_count", "vector_db_id"})
"""What of a chunk's metadata a model is not told."""


class Rag:
    """Inserts into vector stores and searches them, in Llama Stack's words."""

    def __init__(self, ingesting: Ingesting, search: Searching, fetcher: Fetcher, *, config: FileSearchConfig) -> None:
        self._ingesting = ingesting
        self._search = search
        self._fetcher = fetcher
        self._config = config

    # ------------------------------------------------------------ what goes in

    async def insert(self, owner: str, wanted: RagInsert, insert_id: str, *, access: Access) -> None:
        """Puts documents into a store; they can be found when this returns. The same insertion again adds nothing.

        Raises `NotFound` for the store, `InvalidRequest` for a document that cannot be fetched or read: others stay.
        """
        store = wanted.vector_store_id or wanted.vector_db_id
        if not store:
            message = "A vector store must be named."
            raise InvalidRequest(message, param="vector_store_id", code="missing_required_parameter")
        files = self._ingesting.files
        await self._ingesting.stores.view(owner, store)
        room = self._ingesting.config.files_max - await files.count(owner, store)
        if len(wanted.documents) > room:
            message = f"The vector store has room for {room} files; these would be {len(wanted.documents)}."
            raise InvalidRequest(message, param="documents", code="too_many_files")
        size, ids = wanted.chunk_size_in_tokens, []
        windows = StaticChunkingStrategy(max_chunk_size_tokens=size, chunk_overlap_tokens=size // 4)
        cut = StaticChunkingStrategyRequestParam(static=windows)
        for number, document in enumerate(wanted.documents):
            about = {name: value for name, value in document.metadata.items() if name != "filename"}
            content, name = await self._content(document, f"documents[{number}].content", access)
            id = child_id(insert_id, "file", number).replace("_", "-", 1)
            with suppress(Conflict):  # an execution that was cut short had come so far
                await self._upload(owner, id, name, body=content)
            attributes: Attributes = {"document_id": document.document_id, **about}
            await files.attach(owner, store, [NewFile(id=id, filename=name, attributes=attributes, strategy=cut)])
            await put(self._ingesting.jobs, Target(owner=owner, store=store, file=id, replay=access.replay))
            ids.append(id)
        for number, id in enumerate(ids):
            await self._ingested(owner, store, id, at=f"documents[{number}]")

    async def _content(self, document: RagDocument, at: str, access: Access) -> tuple[bytes, str]:
        """A document's bytes, and the name of its file."""
        content, kind = document.content, document.mime_type or "text/plain"
        url = content.get("uri") if isinstance(content, dict) else content
        if isinstance(url, str) and _URL.fullmatch(url.strip()):
            fetched = await self._fetcher.get(url.strip(), param=at, replay=access.replay)
            body, kind = fetched.content, document.mime_type or fetched.content_type
        else:
            body = text_of(content, at).encode(errors="replace")
        if not body.strip():
            raise InvalidRequest("The document is empty.", param=at)
        given = document.metadata.get("filename")
        suffix = mimetypes.guess_extension(kind) or ".txt"
        name = given if isinstance(given, str) and given else f"{document.document_id}{suffix}"
        return body, name[:NAME_CHARS_MAX]

    async def _upload(self, owner: str, id: str, name: str, *, body: bytes) -> None:
        async def content() -> AsyncIterator[bytes]:
            yield body

        def file(size: int) -> File:
            now = int(self._ingesting.clock())
            return File(id=id, bytes=size, created_at=now, filename=name, purpose="assistants")

        await self._ingesting.uploads.create(owner, content(), file)

    async def _ingested(self, owner: str, store: str, id: str, *, at: str) -> None:
        """Returns when the file can be found. Raises `InvalidRequest` if it cannot be read."""
        looks = 0
        while (file := await self._ingesting.files.get(owner, store, id)).status == "in_progress":
            await asyncio.sleep(_PAUSES_S[min(looks, len(_PAUSES_S) - 1)])
            looks += 1
        if file.status != "completed":
            why = file.last_error.message if file.last_error else file.status
            raise InvalidRequest(f"The document was not ingested: {why}", param=at, code="document_not_ingested")

    # ------------------------------------------------------------ what comes out

    async def query(self, owner: str, content: Content, asked: RagSearch, *, access: Access) -> RagFound:
        """What is found, the best of all stores first. Raises `InvalidRequest`, `NotFound` for a store."""
        config = asked.query_config or RagQueryConfig()
        names = list(dict.fromkeys([*asked.vector_store_ids, *asked.vector_db_ids]))
        _check(config, names)
        text = text_of(content, "query")
        wanted = Wanted(queries=(text,), count=config.max_chunks, ranking=ranking_of_query(config))
        found = await asyncio.gather(*(self._search.search(owner, store, wanted, access=access) for store in names))
        pairs = [(hit, store) for hits, store in zip(found, names, strict=True) for hit in hits]
        best = sorted(pairs, key=lambda pair: -pair[0].score)[: config.max_chunks]
        shown = _within(best, config.max_tokens_in_context)
        metadata = {
            "document_ids": [source_of(hit).file_id for hit, _ in shown],
            "chunks": [hit.chunk.piece.text for hit, _ in shown],
            "scores": [hit.score for hit, _ in shown],
            "vector_db_ids": [store for _, store in shown],
        }
        if not best:
            return RagFound(content=None, metadata=metadata)
        told = self._config
        texts = [
            told.header.format(count=len(best), name=told.name),
            *(_chunk(config.chunk_template, index, hit) for index, (hit, _) in enumerate(shown, 1)),
            told.footer.format(count=len(best), name=told.name),
            told.closing.format(query=text, cite=""),
        ]
        return RagFound(content=[{"type": "text", "text": each} for each in texts], metadata=metadata)


def _check(config: RagQueryConfig, stores: Sequence[str]) -> None:
    """Raises `InvalidRequest` for what cannot be asked."""
    if not stores:
        message = "No vector store is named; name some in 'vector_store_ids'."
        raise InvalidRequest(message, param="vector_store_ids", code="missing_required_parameter")
    if not {"{index}", "{chunk.content}"} <= {found[0] for found in _FIELD.finditer(config.chunk_template)}:
        message = "The template must have the fields {index} and {chunk.content}; it may have {metadata}."
        raise InvalidRequest(message, param="query_config.chunk_template")


def _within(found: Sequence[tuple[Hit, str]], tokens_max: int) -> list[tuple[Hit, str]]:
    """As many of the best as a model's context has room for."""
    shown, tokens = [], 0
    for hit, store in found:
        tokens += hit.chunk.piece.tokens or count_text(hit.chunk.piece.text)
        if tokens > tokens_max:
            break
        shown.append((hit, store))
    return shown


def _chunk(template: str, index: int, hit: Hit) -> str:
    source = source_of(hit)
    about: dict[str, Any] = {"chunk_id": hit.chunk.id, "document_id": source.file_id, "source": source.filename}
    about |= {name: value for name, value in source.attributes.items() if name not in _COUNTS}
    fields = {"index": str(index), "chunk.content": hit.chunk.piece.text, "metadata": str(about)}
    return _FIELD.sub(lambda field: fields[field[1]], template)
