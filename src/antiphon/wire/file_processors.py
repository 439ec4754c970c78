"""A file read and cut, and not kept: Llama Stack's and OGX's `POST /v1alpha/file-processors/process`.

Source: Llama Stack 0.5 and OGX, `ProcessFileRequest`, `ProcessFileResponse` and `Chunk`.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from antiphon.wire.base import Sparse
from antiphon.wire.chunking import ChunkingStrategyRequestParam


class ProcessFile(Struct, kw_only=True):
    """The form. Of `file` and `file_id` there must be one; without a strategy, the text is not cut."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})] | None = None
    file_id: str | None = None
    options: dict[str, Any] | None = None
    chunking_strategy: ChunkingStrategyRequestParam | None = None


class ProcessedChunkMetadata(Sparse, kw_only=True):
    """Where a chunk comes from. `chunk_window` is its place in the text, in characters."""

    chunk_id: str
    document_id: str
    source: str
    chunk_window: str
    chunk_tokenizer: str
    content_token_count: int
    created_timestamp: int
    updated_timestamp: int


class ProcessedChunk(Struct, kw_only=True):
    """A piece of a file's text, as a vector store takes it."""

    content: str
    chunk_id: str
    metadata: dict[str, Any]
    chunk_metadata: ProcessedChunkMetadata


class ProcessedFile(Struct, kw_only=True):
    """The chunks, and how they came to be."""

    chunks: list[ProcessedChunk]
    metadata: dict[str, Any]
