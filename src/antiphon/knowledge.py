"""Settings of what the server knows: how files are parsed, indexed, searched, and shown to a model."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from antiphon.settings import SECRET


class ParsingConfig(Struct, frozen=True, kw_only=True):
    """Files are read in a process of their own, within these bounds."""


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
        Literal["rrf", "weighted"],
        Meta(description="How `hybrid` joins the two: by ranks (`rrf`), or by scores (`weighted`)."),
    ] = "rrf"
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


class FileSearchConfig(Struct, frozen=True, kw_only=True):
    """The `file_search` tool: what a model is told of it and of what it finds."""
