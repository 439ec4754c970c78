"""Reranking: documents by their relevance to a query, in Cohere's and Jina's words and in Llama Stack's.

Sources: Cohere's and Jina's `POST /v1/rerank`; Llama Stack 0.3, `POST /v1alpha/inference/rerank`. OpenAI has none.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from antiphon.wire.base import Full, Sparse


class TextPart(Struct, kw_only=True):
    """A text, as an object. Other members of it are not ranked by."""

    text: str
    type: Literal["text"] = "text"


Text = str | TextPart


class CreateRerank(Struct, kw_only=True):
    """The body of `POST /v1/rerank`."""

    model: Annotated[str, Meta(min_length=1)]
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[Text], Meta(min_length=1)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None


class Ranked(Sparse, kw_only=True):
    """A document's place in the request, its relevance from 0 to 1 and, if asked for, the document."""

    index: int
    relevance_score: float
    document: TextPart | None = None


class Reranked(Full, kw_only=True):
    """The answer: the best document first."""

    id: str
    model: str
    results: list[Ranked]
    object: Literal["list"] = "list"


class InferenceRerank(Struct, kw_only=True):
    """The body of Llama Stack's `POST /v1alpha/inference/rerank`."""

    model: Annotated[str, Meta(min_length=1)]
    query: Text
    items: Annotated[list[Text], Meta(min_length=1)]
    max_num_results: Annotated[int, Meta(ge=1)] | None = None


class InferenceReranked(Full, kw_only=True):
    """Llama Stack's answer: the best item first."""

    data: list[Ranked]


def text_of(text: Text) -> str:
    """The text in either form."""
    return text if isinstance(text, str) else text.text
