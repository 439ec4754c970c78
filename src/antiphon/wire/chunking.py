"""How a file's text is cut into the pieces that are found: what a client asks for, and what a store's file says.

Source: OpenAI's OpenAPI document, `ChunkingStrategyRequestParam` and `ChunkingStrategyResponse`; names judged by the
`openai` package. `structured` is ours.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

CHUNK_TOKENS: Final = 800
OVERLAP_TOKENS: Final = 400
CHUNK_TOKENS_MIN: Final = 100
CHUNK_TOKENS_MAX: Final = 4096

ChunkTokens = Annotated[int, Meta(ge=CHUNK_TOKENS_MIN, le=CHUNK_TOKENS_MAX)]


class StaticChunkingStrategy(Struct, kw_only=True):
    """Windows over a text's tokens: how long they are, and how much of its predecessor each repeats (half at most)."""

    max_chunk_size_tokens: ChunkTokens
    chunk_overlap_tokens: Annotated[int, Meta(ge=0)]

    def __post_init__(self) -> None:
        if 2 * self.chunk_overlap_tokens > self.max_chunk_size_tokens:
            raise ValueError(
                f"`chunk_overlap_tokens` ({self.chunk_overlap_tokens}) must not exceed half of "
                f"`max_chunk_size_tokens` ({self.max_chunk_size_tokens})"
            )


class AutoChunkingStrategyRequestParam(Struct, kw_only=True, tag_field="type", tag="auto"):
    """The default: windows of 800 tokens of which 400 repeat."""


class StaticChunkingStrategyRequestParam(Struct, kw_only=True, tag_field="type", tag="static"):
    """Windows of the client's own size."""

    static: StaticChunkingStrategy


class StructuredChunkingStrategy(Struct, frozen=True, kw_only=True):
    """Pieces along the document's own seams, of so many tokens at most."""

    max_chunk_size_tokens: ChunkTokens = CHUNK_TOKENS


class StructuredChunkingStrategyRequestParam(Struct, kw_only=True, tag_field="type", tag="structured"):
    """Pieces that keep headings, paragraphs, tables' rows and pages whole where they can. An extension of ours."""

    structured: StructuredChunkingStrategy = StructuredChunkingStrategy()


ChunkingStrategyRequestParam = (
    AutoChunkingStrategyRequestParam | StaticChunkingStrategyRequestParam | StructuredChunkingStrategyRequestParam
)
"""What a client may ask for."""


class StaticChunkingStrategyResponseParam(Struct, kw_only=True, tag_field="type", tag="static"):
    """Windows, as of `auto` too."""

    static: StaticChunkingStrategy


class StructuredChunkingStrategyResponseParam(Struct, kw_only=True, tag_field="type", tag="structured"):
    """Pieces along the document's seams."""

    structured: StructuredChunkingStrategy


class OtherChunkingStrategyResponseParam(Struct, kw_only=True, tag_field="type", tag="other"):
    """It is not known how the file was cut: its chunks came ready-made."""


ChunkingStrategyResponse = (
    StaticChunkingStrategyResponseParam | StructuredChunkingStrategyResponseParam | OtherChunkingStrategyResponseParam
)
"""What a store's file says of its pieces."""


def as_cut(strategy: ChunkingStrategyRequestParam | None) -> ChunkingStrategyResponse:
    """What is said of a file that is cut as asked; None is `auto`, which is spelt out."""
    match strategy:
        case StaticChunkingStrategyRequestParam(static=static):
            return StaticChunkingStrategyResponseParam(static=static)
        case StructuredChunkingStrategyRequestParam(structured=structured):
            return StructuredChunkingStrategyResponseParam(structured=structured)
    auto = StaticChunkingStrategy(max_chunk_size_tokens=CHUNK_TOKENS, chunk_overlap_tokens=OVERLAP_TOKENS)
    return StaticChunkingStrategyResponseParam(static=auto)
