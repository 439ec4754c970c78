"""Settings of what the server knows: how files are parsed, indexed, searched, and shown to a model."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from antiphon.settings import SECRET, check_templates

REWRITE_PROMPT: Final = """\
You turn a question into a query for a search engine over documents. Answer with the query alone: the terms and short \
phrases that a passage with the answer would contain, in the language of the question, without explanation."""


class ParsingConfig(Struct, frozen=True, kw_only=True):
    """Files are read in a process of their own, within these bounds."""

    at_once: Annotated[int, Meta(ge=1, description="How many files are read at the same time.")] = 2
    time_s: Annotated[int, Meta(ge=1, description="How long a file may take.")] = 60
    cpu_s: Annotated[int, Meta(ge=1, description="How much of a processor's time a file may take.")] = 60
    memory_bytes: Annotated[
        int, Meta(ge=2**27, description="How much memory a file's process may use, its program included.")
    ] = 2**30
    file_bytes_max: Annotated[int, Meta(ge=1, description="How large a file may be.")] = 512 * 2**20
    expanded_bytes_max: Annotated[
        int, Meta(ge=1, description="To how much an archive (DOCX, XLSX, EPUB) may expand.")
    ] = 512 * 2**20
    pages_max: Annotated[int, Meta(ge=1, description="How many pages, slides or sheets a file may have.")] = 5_000
    chars_max: Annotated[
        int, Meta(ge=1, description="How much text a file may have, in characters; each block counts 100 more.")
    ] = 128 * 2**20


class IndexConfig(Struct, frozen=True, kw_only=True):
    """An index that vector stores can be kept in."""

    kind: Annotated[
        str, Meta(description="`embedded` (in the database), `postgres`, `qdrant`, or a plug-in's name.")
    ] = "embedded"
    url: Annotated[
        str, Meta(description="Where it listens; of `qdrant` also a folder, or `:memory:`. The database's need none.")
    ] = ""
    key: Annotated[str, Meta(description="Its API key.", extra=SECRET)] = ""
    memory_bytes_max: Annotated[
        int, Meta(ge=0, description="`embedded`: memory for the latest searched stores, of each process.")
    ] = 1_073_741_824
    exact_rows_max: Annotated[
        int, Meta(ge=0, description="`postgres`: stores of so many chunks are searched without an approximate index.")
    ] = 20_000
    options: Annotated[dict[str, str], Meta(description="A plug-in's own settings.")] = msgspec.field(
        default_factory=dict
    )


class SearchConfig(Struct, frozen=True, kw_only=True):
    """How vector stores are searched where the request does not say."""

    mode: Annotated[Literal["semantic", "keyword", "hybrid"], Meta(description="By meaning, by words, or both.")] = (
        "hybrid"
    )
    fusion: Annotated[
        Literal["adaptive", "rrf", "weighted"],
        Meta(
            description="How `hybrid` joins the two: by scores and by how well words found anything (`adaptive`), by"
            " ranks (`rrf`), or by scores alone (`weighted`)."
        ),
    ] = "adaptive"
    candidates: Annotated[
        int, Meta(ge=1, description="Either way looks at so many chunks for each that is wanted, and at 50 at least.")
    ] = 5
    reranker: Annotated[str, Meta(description="A rerank model that orders the best anew; empty: none.")] = ""
    rerank_candidates: Annotated[int, Meta(ge=1, description="How many of each query's best it is given.")] = 50


class VectorStoresConfig(Struct, frozen=True, kw_only=True):
    """`/v1/vector_stores`: which index and which embedding model, and how files are ingested."""

    index: Annotated[str, Meta(description="The index of new stores, of those in `indexes`; empty: the database.")] = ""
    indexes: Annotated[dict[str, IndexConfig], Meta(description="Indexes by name (`provider_id`).")] = msgspec.field(
        default_factory=dict
    )
    embedding_model: Annotated[
        str, Meta(description="Embeds new stores; empty: the only embedding model there is, or none.")
    ] = ""
    parsing: Annotated[ParsingConfig, Meta(description="How files are read.")] = ParsingConfig()
    search: Annotated[SearchConfig, Meta(description="How stores are searched.")] = SearchConfig()
    files_max: Annotated[int, Meta(ge=1, description="Files in one store.")] = 10_000
    insert_chunks_max: Annotated[int, Meta(ge=1, description="Ready-made chunks in one insertion.")] = 10_000
    ingest_at_once: Annotated[int, Meta(ge=1, description="Files that one process ingests at once.")] = 4
    ingest_attempts_max: Annotated[
        int, Meta(ge=1, description="How often a file's ingestion is begun before it is given up as failed.")
    ] = 10
    embed_texts_max: Annotated[int, Meta(ge=1, description="Texts in one call of the embedding model.")] = 64
    embed_chars_max: Annotated[int, Meta(ge=1, description="Characters in one such call, if not in one text.")] = (
        200_000
    )
    embed_at_once: Annotated[int, Meta(ge=1, description="Such calls under way for one file.")] = 2
    embed_tries_max: Annotated[int, Meta(ge=1, description="How often a busy or absent embedding host is asked.")] = 8
    embed_retry_s: Annotated[float, Meta(gt=0, description="First pause before it is asked again; it doubles.")] = 1.0
    rewrite_model: Annotated[
        str, Meta(description="Chat model that turns questions into search terms (`rewrite_query`); empty: none does.")
    ] = ""
    rewrite_prompt: Annotated[str, Meta(description="What that model is told.")] = REWRITE_PROMPT


class FileSearchConfig(Struct, frozen=True, kw_only=True):
    """The `file_search` tool: what a model is told of it and of what it finds. The defaults are Llama Stack's."""

    name: Annotated[str, Meta(description="The function that the model calls.")] = "knowledge_search"
    description: Annotated[str, Meta(description="What the model is told of it.")] = (
        "Search for information in a database."
    )
    query_description: Annotated[str, Meta(description="What the model is told of its argument.")] = (
        "The query to search for. Can be a natural language sentence or keywords."
    )
    header: Annotated[str, Meta(description="Before the results. Fields: {name}, {count}.")] = (
        "{name} tool found {count} chunks:\nBEGIN of {name} tool results.\n"
    )
    result: Annotated[
        str,
        Meta(
            description="Each result. Fields: {index}, {file_id}, {filename}, {score}, {inverse_distance} (of unit"
            " vectors: Llama Stack's score), {attributes}, {text}. A citation is made from the marker `<|{file_id}|>`."
        ),
    ] = "[{index}] document_id: {file_id}, score: {score}{attributes} (cite as <|{file_id}|>)\n{text}\n"
    footer: Annotated[str, Meta(description="After the results. Fields: {name}, {count}.")] = (
        "END of {name} tool results.\n"
    )
    closing: Annotated[str, Meta(description="At the end. Fields: {query}, {cite}.")] = (
        'The above results were retrieved to help answer the user\'s query: "{query}". Use them as supporting'
        " information only in answering this query.{cite}\n"
    )
    cite: Annotated[str, Meta(description="How to cite; nothing is said of it where nothing was found.")] = (
        " Cite sources immediately at the end of sentences before punctuation, using `<|file-id|>` format (e.g., 'This"
        " is a fact <|file-Cn3MSNn72ENTiiq11Qda4A|>.'). Do not add extra punctuation. Use only the file IDs provided"
        " (do not invent new ones)."
    )

    def __post_init__(self) -> None:
        """Raises `ValueError` for a template with a field that there is not."""
        fields = {
            "header": ("name", "count"),
            "result": ("index", "file_id", "filename", "score", "inverse_distance", "attributes", "text"),
            "footer": ("name", "count"),
            "closing": ("query", "cite"),
        }
        check_templates(self, fields)
