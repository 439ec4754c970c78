"""Query strings in the forms in which clients write them."""

from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct, field

from antiphon.api.query import FIELDS_MAX, QueryDecoder, pairs
from antiphon.errors import InvalidRequest


class Query(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    stream: bool = False
    include: list[Literal["a", "b"]] = []
    more: list[str] | None = None
    metadata: dict[str, str] = field(default_factory=dict)


decoder = QueryDecoder(Query)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", Query()),
        (b"limit=5&order=asc", Query(limit=5, order="asc")),
        (b"after=x%2Fy+z", Query(after="x/y z")),
        (b"stream=true", Query(stream=True)),
        (b"stream=1", Query(stream=True)),
        (b"include=a&include=b", Query(include=["a", "b"])),
        (b"include[]=a&include%5B%5D=b", Query(include=["a", "b"])),
        (b"include[0]=a&include[1]=b", Query(include=["a", "b"])),
        (b"more[]=x", Query(more=["x"])),
        (b"metadata[k]=v&metadata%5Bl%5D=w", Query(metadata={"k": "v", "l": "w"})),
        (b"limit=5&limit=6", Query(limit=6)),
        (b"after=", Query(after="")),
    ],
)
def test_each_form_is_understood(query, expected) -> None:
    assert decoder.decode(query) == (expected, [])


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (b"limit=0", "limit"),
        (b"limit=101", "limit"),
        (b"limit=", "limit"),
        (b"limit=ten", "limit"),
        (b"limit=1.5", "limit"),
        (b"order=up", "order"),
        (b"include[]=c", "include"),
        (b"stream=perhaps", "stream"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(query, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoder.decode(query)
    assert caught.value.param.partition("[")[0] == param


def test_unknown_names_are_reported() -> None:
    assert decoder.decode(b"limit=3&colour=1&limit[x]=2") == (Query(limit=3), ["colour", "limit[x]"])


def test_a_list_is_not_shared_between_queries() -> None:
    first, _ = decoder.decode(b"")
    first.include.append("a")
    assert decoder.decode(b"") == (Query(), [])


def test_a_query_without_end_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        pairs(b"&".join([b"a=1"] * (FIELDS_MAX + 1)))
