"""What passes between parsing, chunking, indexes and search, and the seam behind which an index stands. Pure data.

A document is parsed to blocks, cut into pieces, and the pieces are embedded to chunks. An index keeps chunks: their
texts, postings and vectors. Which of them may be found is not for the index to say: a file's chunks are added under an
*attempt*, and every search names the attempts that count. So a half-ingested file is never seen, whatever crashes, and
what an index has read of an attempt that counts never changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from antiphon.wire.search import Filter

Metric = Literal["cosine", "dot_product", "squared_distance"]
"""How a store compares vectors."""

# ---------------------------------------------------------------- documents


class Block(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A paragraph, heading, table or piece of code of a document, in reading order.

    `level` is a heading's (1 is the highest); `page` counts from 1 where the format has pages, slides or sheets.
    """

    text: str
    kind: Literal["text", "heading", "table", "code"] = "text"
    level: int = 0
    page: int | None = None


class Document(Struct, frozen=True, kw_only=True):
    """A parsed file."""

    blocks: tuple[Block, ...]

    def text(self) -> str:
        """The whole text: blocks with an empty line in between. Offsets of pieces count its characters."""
        return "\n\n".join(block.text for block in self.blocks)


class Piece(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stretch of a document that is embedded and found as one: `text` is what stands from `start` to `end`.

    `page` is where it begins; `heading` the headings above it, the highest first, with " > " between; `tokens` how many
    it has, where that was counted (0: it was not).
    """

    text: str
    start: int
    end: int
    page: int | None = None
    heading: str = ""
    tokens: int = 0


# ---------------------------------------------------------------- chunks


class Chunk(Struct, frozen=True, kw_only=True):
    """A piece in an index. `number` is its place in its file, from 0; `vector` little-endian float32, or None.

    A chunk without vector is found by its words alone. `metadata` is what a client gave with a ready-made chunk.
    """

    id: str
    number: int
    piece: Piece
    vector: bytes | None = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class Key(Struct, frozen=True, kw_only=True):
    """A vector store as an index knows it. `dimension` is 0 where it has no vectors."""

    owner: str
    store: str
    dimension: int = 0
    metric: Metric = "cosine"


class Match(Struct, frozen=True, kw_only=True):
    """Where a chunk is that was found: its text is `fetch`ed. `score` is the way's own, the higher the better.

    Of semantic search: the cosine, the dot product, or the negative squared distance. Of keywords: bm25, above 0.
    """

    file_id: str
    attempt: str
    number: int
    score: float


Among = Mapping[str, str]
"""The files that count, each with the attempt that does. While nothing changed it is the same object."""


class VectorIndex(Protocol):
    """Keeps the chunks of many stores. All methods raise `ApiError`s only (`Unavailable` where the index is away).

    Matches are ordered by score, the best first; equal ones by file id and number. Searches look at many chunks and
    read the text of none: `fetch` does, for the few that are wanted.
    """

    async def open(self) -> None:
        """Prepares what the index needs; called once, before anything else."""
        ...

    async def add(self, key: Key, file_id: str, attempt: str, *, chunks: Sequence[Chunk]) -> None:
        """Adds chunks to a file's attempt; all or none. A chunk with a number that is there already is replaced."""
        ...

    async def remove(self, key: Key, file_id: str | None = None, *, but: str | None = None) -> None:
        """Removes the chunks of a file (None: of the whole store) with their postings and vectors.

        Those of the attempt `but` stay. What is not there is no error.
        """
        ...

    async def semantic(self, key: Key, vector: bytes, *, count: int, among: Among) -> list[Match]:
        """The chunks nearest to a vector. Raises `InvalidRequest` if it has not the store's dimension."""
        ...

    async def keyword(self, key: Key, query: str, *, count: int, among: Among) -> list[Match]:
        """The chunks whose words match best. Any text is a query; words are joined by OR, case and accents ignored."""
        ...

    async def chunks(self, key: Key, file_id: str, attempt: str, *, after: int, limit: int) -> list[Chunk]:
        """The chunks of an attempt whose numbers are above `after`, in order, without vectors."""
        ...

    async def fetch(self, key: Key, matches: Sequence[Match]) -> list[Chunk | None]:
        """The chunks at these places, in the same order, without vectors; None for one that is gone."""
        ...

    async def close(self) -> None:
        """Ends what was opened."""
        ...


# ---------------------------------------------------------------- search


class Ranking(Struct, frozen=True, kw_only=True):
    """How hits are found and ordered. Scores are 0 to 1; those below `score_threshold` are left out.

    `mode` None: as the server is configured. `fusion` joins the two lists of a hybrid search: by reciprocal ranks
    (`rrf`, with the constant `rrf_k`), or by scores (`weighted`; or `adaptive`, which trusts words as far as they have
    found anything). Vectors weigh `vector_weight` (0 to 1); of `adaptive`, it is what holds before that.
    `reranker` names a model that orders the best hits anew; "" is none, and None again as the server is configured.
    """

    mode: Literal["semantic", "keyword", "hybrid"] | None = None
    fusion: Literal["adaptive", "rrf", "weighted"] | None = None
    rrf_k: float = 60.0
    vector_weight: float = 0.5
    score_threshold: float = 0.0
    reranker: str | None = None


class Wanted(Struct, frozen=True, kw_only=True):
    """A search: the best `count` hits over all queries, in the files that the filter allows."""

    queries: tuple[str, ...]
    count: int = 10
    filters: Filter | None = None
    ranking: Ranking = Ranking()


class Hit(Struct, frozen=True, kw_only=True):
    """A chunk that was found, with what is known of its file. `score` is between 0 and 1.

    `similarity` is the way's own score before it was made comparable (a cosine, say), where the hit has a vector.
    """

    file_id: str
    filename: str
    attributes: dict[str, str | float | bool]
    score: float
    chunk: Chunk
    similarity: float | None = None
