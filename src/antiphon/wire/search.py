"""Filters and ranking options: how vector stores are searched, by a client or by the `file_search` tool.

Source: OpenAI's OpenAPI document, `ComparisonFilter`, `CompoundFilter`, `RankingOptions`, `HybridSearchOptions`; names
judged by the `openai` package.
"""

from typing import Annotated, Literal

from msgspec import Meta

from antiphon.wire.base import Sparse

AttributeValue = str | float | bool
Unit = Annotated[float, Meta(ge=0, le=1)]


class Filter(Sparse, kw_only=True):
    """Which files may be found, by their attributes.

    A comparison has `key` and `value` (`in` and `nin`: a list of values); `and` and `or` have `filters`.
    """

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
    key: str | None = None
    value: AttributeValue | list[str | float] | None = None
    filters: "list[Filter] | None" = None

    def __post_init__(self) -> None:
        if self.type in ("and", "or"):
            if self.filters is None:
                raise ValueError(f"a filter of type {self.type!r} needs `filters`, a list of filters")
        elif not self.key or self.value is None:
            raise ValueError(f"a filter of type {self.type!r} needs `key` and `value`")
        elif isinstance(self.value, list) != (self.type in ("in", "nin")):
            wanted = "a list of values" if self.type in ("in", "nin") else "one value, no list"
            raise ValueError(f"a filter of type {self.type!r} takes {wanted}")


class HybridSearch(Sparse, kw_only=True):
    """How much the nearness of meaning and the match of words weigh against each other in a hybrid search."""

    embedding_weight: Annotated[float, Meta(ge=0)]
    text_weight: Annotated[float, Meta(ge=0)]


class RankingOptions(Sparse, kw_only=True):
    """How hits are ordered, and which are good enough.

    `auto` and `default-2024-11-15` stand for the server's own choice, `none` for no reranking; any other `ranker` names
    a rerank model.
    """

    ranker: str | None = None
    score_threshold: Unit | None = None
    hybrid_search: HybridSearch | None = None
