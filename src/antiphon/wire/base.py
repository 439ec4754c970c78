"""What all wire types share: how absence is spelt, and the limits that OpenAI's document states for metadata.

Two ways of leaving a field out, chosen per type: `Sparse` types omit fields that hold their default (items and tools,
where null and absent mean the same), `Full` types always send every field, null included, and use UNSET for the few
that may be missing (responses, events, list pages).
"""

from typing import Annotated, Any, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

T = TypeVar("T")
Json = Any
"""Any JSON value."""


class Sparse(Struct, omit_defaults=True):
    """Base of types that leave out what is at its default."""


class Full(Struct):
    """Base of types that always send every field."""


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
"""At most 16 pairs; keys to 64 and values to 512 characters."""

Order = Literal["asc", "desc"]


class Page(Full, Generic[T], kw_only=True):
    """A page of a list. `first_id` and `last_id` are null when it is empty."""

    data: list[T]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
    object: Literal["list"] = "list"


class Deleted(Full, kw_only=True):
    """The answer to a deletion."""

    id: str
    object: str
    deleted: bool = True


__all__ = ["UNSET", "Deleted", "Full", "Json", "Metadata", "Order", "Page", "Sparse", "UnsetType"]
