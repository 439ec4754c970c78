"""Settings of what the server knows: how files are parsed, indexed, searched, and shown to a model."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct


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


class SearchConfig(Struct, frozen=True, kw_only=True):
    """How vector stores are searched where the request does not say."""

    mode: Annotated[Literal["semantic", "keyword", "hybrid"], Meta(description="By meaning, by words, or both.")] = (
        "hybrid"
    )


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
        for template, known in fields.items():
            try:
                getattr(self, template).format(**dict.fromkeys(known, ""))
            except (LookupError, ValueError, AttributeError) as error:
                names = ", ".join(f"{{{name}}}" for name in known)
                raise ValueError(f"{template}: the fields of this template are {names}") from error
