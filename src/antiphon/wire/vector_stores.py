"""The Vector Stores API: stores, the files attached to them, batches of files, and search.

Source: OpenAI's OpenAPI document, `VectorStoreObject`, `VectorStoreFileObject`, `VectorStoreFileBatchObject` and the
requests that belong to them; names judged by the `openai` package. What Llama Stack's clients send beside it, and what
is ours, is said where it stands.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from antiphon.wire.base import Full, Metadata, Order, Sparse
from antiphon.wire.chunking import ChunkingStrategyRequestParam, ChunkingStrategyResponse
from antiphon.wire.search import Filter, RankingOptions

FileStatus = Literal["in_progress", "completed", "cancelled", "failed"]
FILES_AT_CREATION_MAX: Final = 500
BATCH_FILES_MAX: Final = 2000
DAYS_MAX: Final = 365
RESULTS_MAX: Final = 50
CONTENT_CHUNKS: Final = 1000
CONTENT_CHUNKS_MAX: Final = 10_000

Attributes = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)] | float | bool], Meta(max_length=16)
]
"""At most 16 pairs; keys to 64 characters, texts to 512."""
SearchMode = Literal["vector", "keyword", "hybrid"]
"""How Llama Stack's clients name the ways to search."""
Distance = Literal["cosine", "dot_product", "squared_distance"]


# ---------------------------------------------------------------- stores


class FileCounts(Struct, frozen=True, kw_only=True):
    """How many files there are, and how they stand."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class StoreExpiresAfter(Struct, kw_only=True):
    """When a store is to vanish by itself: so many days after it was last used."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=DAYS_MAX)]


class VectorStore(Full, kw_only=True):
    """A store. `embedding_model` and what follows is ours; without an embedding model it is searched by words only."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str = ""
    description: str | None = None
    usage_bytes: int = 0
    file_counts: FileCounts = FileCounts()
    status: Literal["expired", "in_progress", "completed"] = "completed"
    expires_after: StoreExpiresAfter | None = None
    expires_at: int | None = None
    last_active_at: int | None = None
    metadata: Metadata = field(default_factory=dict)
    embedding_model: str | None = None
    embedding_dimension: int | None = None
    metric: Distance = "cosine"
    provider_id: str = ""
    search: Literal["hybrid", "keyword"] = "hybrid"


class CreateVectorStore(Struct, kw_only=True):
    """The body of `POST /v1/vector_stores`.

    Llama Stack's clients add `embedding_model` ("" for a store without vectors), `embedding_dimension`, `provider_id`
    (the index) and `provider_vector_store_id` (not obeyed); `metric` is ours.
    """

    name: str | None = None
    description: str | None = None
    file_ids: Annotated[list[str], Meta(max_length=FILES_AT_CREATION_MAX)] | None = None
    expires_after: StoreExpiresAfter | None = None
    chunking_strategy: ChunkingStrategyRequestParam | None = None
    metadata: Metadata | None = None
    embedding_model: str | None = None
    embedding_dimension: Annotated[int, Meta(ge=1)] | None = None
    provider_id: str | None = None
    provider_vector_store_id: str | None = None
    metric: Distance | None = None


class UpdateVectorStore(Struct, kw_only=True):
    """The body of `POST /v1/vector_stores/{vector_store_id}`: what is given is replaced, null takes it away."""

    name: str | None | UnsetType = UNSET
    expires_after: StoreExpiresAfter | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET


class VectorStoreListQuery(Full, kw_only=True):
    """The query of `GET /v1/vector_stores`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None


class VectorStoreDeleted(Full, kw_only=True):
    """The answer to a store's deletion."""

    id: str
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: bool = True


# ---------------------------------------------------------------- files


class LastError(Full, kw_only=True):
    """Why a file could not be ingested."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class VectorStoreFile(Full, kw_only=True):
    """A file in a store. `usage_bytes` is what its texts and vectors take."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    usage_bytes: int = 0
    created_at: int
    vector_store_id: str
    status: FileStatus = "in_progress"
    last_error: LastError | None = None
    chunking_strategy: ChunkingStrategyResponse
    attributes: Attributes = field(default_factory=dict)


class CreateVectorStoreFile(Struct, kw_only=True):
    """The body of `POST /v1/vector_stores/{vector_store_id}/files`."""

    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategyRequestParam | None = None


class UpdateVectorStoreFile(Struct, kw_only=True):
    """The body of `POST /v1/vector_stores/{vector_store_id}/files/{file_id}`: all attributes are replaced."""

    attributes: Attributes | None


class VectorStoreFileListQuery(VectorStoreListQuery, kw_only=True):
    """The query of a list of files."""

    filter: FileStatus | None = None


class VectorStoreFileDeleted(Full, kw_only=True):
    """The answer to a file's removal from a store."""

    id: str
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: bool = True


class TextContent(Full, kw_only=True):
    """A text."""

    type: Literal["text"] = "text"
    text: str


class FileContentQuery(Full, kw_only=True):
    """The query of a file's content. `page` is `next_page` of the page before; both are ours."""

    limit: Annotated[int, Meta(ge=1, le=CONTENT_CHUNKS_MAX)] = CONTENT_CHUNKS
    page: str | None = None


class FileContentPage(Full, kw_only=True):
    """The texts of a file's chunks, in order."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextContent]
    has_more: bool = False
    next_page: str | None = None


# ---------------------------------------------------------------- batches


class VectorStoreFileBatch(Full, kw_only=True):
    """Files that were attached together."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: FileStatus
    file_counts: FileCounts


class CreateVectorStoreFileBatch(Struct, kw_only=True):
    """The body of `POST /v1/vector_stores/{vector_store_id}/file_batches`: `file_ids`, or `files`."""

    file_ids: Annotated[list[str], Meta(min_length=1, max_length=BATCH_FILES_MAX)] | None = None
    files: Annotated[list[CreateVectorStoreFile], Meta(min_length=1, max_length=BATCH_FILES_MAX)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategyRequestParam | None = None

    def __post_init__(self) -> None:
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("either `file_ids` or `files` must be given, and not both")


# ---------------------------------------------------------------- search


class SearchVectorStore(Struct, kw_only=True):
    """The body of `POST /v1/vector_stores/{vector_store_id}/search`; `search_mode` is Llama Stack's."""

    query: (
        Annotated[str, Meta(min_length=1)]
        | Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=RESULTS_MAX)]
    )
    filters: Filter | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=RESULTS_MAX)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = False
    search_mode: SearchMode | None = None


class SearchResult(Full, kw_only=True):
    """A chunk that was found, and the file it belongs to."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | float | bool]
    content: list[TextContent]


class SearchResultsPage(Full, kw_only=True):
    """The answer to a search; `search_query` is what was looked for."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: bool = False
    next_page: str | None = None


# ---------------------------------------------------------------- Llama Stack's own routes


class ReadyChunk(Struct, kw_only=True):
    """A chunk that a client made by itself: a text, or parts of which texts are kept."""

    content: str | list[dict[str, Any]] | dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    embedding: list[float] | None = None
    chunk_id: str | None = None
    chunk_metadata: dict[str, Any] | None = None


class InsertChunks(Struct, kw_only=True):
    """The body of `POST /v1/vector-io/insert`. `ttl_seconds` is not obeyed, as it is not by Llama Stack."""

    chunks: list[ReadyChunk]
    vector_db_id: str | None = None
    vector_store_id: str | None = None
    ttl_seconds: int | None = None


class Ranker(Sparse, kw_only=True):
    """How two lists are joined, as Llama Stack says it: `params` has `k`, or `alpha`, or `weights`."""

    strategy: Literal["rrf", "weighted", "normalized"] | None = None
    type: Literal["rrf", "weighted", "normalized"] | None = None
    params: dict[str, Any] = field(default_factory=dict)


class QueryParams(Struct, kw_only=True):
    """How chunks are looked for."""

    max_chunks: Annotated[int, Meta(ge=1, le=RESULTS_MAX)] = 3
    mode: SearchMode | None = None
    score_threshold: float = 0.0
    ranker: Ranker | None = None


class QueryChunks(Struct, kw_only=True):
    """The body of `POST /v1/vector-io/query`."""

    query: str | list[dict[str, Any]] | dict[str, Any]
    vector_db_id: str | None = None
    vector_store_id: str | None = None
    params: QueryParams = field(default_factory=QueryParams)


class FoundChunk(Full, kw_only=True):
    """A chunk that was found."""

    content: str
    metadata: dict[str, Any]
    chunk_id: str
    embedding: list[float] | None = None
    chunk_metadata: dict[str, Any] | None = None


class FoundChunks(Full, kw_only=True):
    """The answer to a query: chunks, and as many scores from 0 to 1."""

    chunks: list[FoundChunk]
    scores: list[float]
