"""Embeddings: what our route checks of a body that is forwarded as it came.

Source: OpenAI's OpenAPI document, `CreateEmbeddingRequest`: one text, one array of tokens, or up to 2048 of either.
"""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

Text = Annotated[str, Meta(min_length=1)]
Token = Annotated[int, Meta(ge=0)]
TokenArray = Annotated[list[Token], Meta(min_length=1, max_length=2048)]
Input = Text | Annotated[list[Text | Token | TokenArray], Meta(min_length=1, max_length=2048)]
"""As loose as one type can be: that all entries of a list are of one kind is judged by `mixed`."""


class CreateEmbedding(Struct, kw_only=True):
    """The body of `POST /v1/embeddings`, as far as it is checked."""

    model: Annotated[str, Meta(min_length=1)]
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None


class EmbeddingUsage(Struct, kw_only=True):
    """The tokens of an embeddings call."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class Embedding(Struct, kw_only=True):
    """One vector; a list of numbers, or base64 of 32-bit floats."""

    index: int = 0
    embedding: Raw
    object: str = "embedding"


class Embeddings(Struct, kw_only=True):
    """A host's answer, as far as we read it."""

    data: list[Embedding]
    model: str = ""
    object: str = "list"
    usage: EmbeddingUsage | None = None


def mixed(body: CreateEmbedding) -> bool:
    """Whether a list of inputs mixes texts, tokens and token arrays, which OpenAI's document does not allow."""
    return isinstance(body.input, list) and len({type(each) for each in body.input}) > 1
