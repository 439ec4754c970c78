"""Which files a filter allows."""

import msgspec
import pytest

from antiphon.errors import InvalidRequest
from antiphon.vectors.filters import COMPARISONS_MAX, DEPTH_MAX, allows
from antiphon.wire.search import Filter

FILE = {"author": "Ada", "year": 1843, "price": 9.5, "draft": False, "empty": ""}


def wanted(value: object) -> Filter:
    return msgspec.convert(value, Filter)


def compare(kind: str, key: str, value: object) -> Filter:
    return wanted({"type": kind, "key": key, "value": value})


@pytest.mark.parametrize(
    ("kind", "key", "value", "allowed"),
    [
        ("eq", "author", "Ada", True),
        ("eq", "author", "ada", False),
        ("eq", "year", 1843.0, True),
        ("eq", "year", "1843", False),
        ("eq", "draft", False, True),
        ("eq", "draft", 0, False),
        ("eq", "empty", "", True),
        ("ne", "author", "Eve", True),
        ("ne", "author", "Ada", False),
        ("ne", "year", "1843", True),
        ("ne", "draft", 0, True),
        ("gt", "year", 1842, True),
        ("gt", "year", 1843, False),
        ("gte", "year", 1843, True),
        ("lt", "price", 9.51, True),
        ("lt", "price", 9.5, False),
        ("lte", "price", 9.5, True),
        ("gt", "author", "Aca", True),
        ("gt", "author", 5, False),
        ("lt", "author", 5, False),
        ("gte", "draft", False, False),
        ("gte", "draft", 0, False),
        ("in", "year", [1815, 1843], True),
        ("in", "year", ["1843"], False),
        ("in", "draft", [0], False),
        ("in", "author", [], False),
        ("nin", "year", [1815], True),
        ("nin", "year", ["1843"], True),
        ("nin", "year", [1843], False),
        ("nin", "author", [], True),
    ],
)
def test_a_comparison_holds_within_its_kind(kind, key, value, allowed):
    assert allows(compare(kind, key, value))(FILE) is allowed


@pytest.mark.parametrize("kind", ["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"])
def test_of_a_missing_attribute_no_comparison_is_true(kind):
    value = ["x"] if kind in ("in", "nin") else "x"
    assert allows(compare(kind, "nowhere", value))(FILE) is False


def test_filters_are_joined():
    year, author = compare("gt", "year", 1800), compare("eq", "author", "Eve")
    assert allows(Filter(type="and", filters=[year, author]))(FILE) is False
    assert allows(Filter(type="or", filters=[year, author]))(FILE) is True
    inner = Filter(type="or", filters=[author, compare("lt", "price", 10)])
    assert allows(Filter(type="and", filters=[year, inner]))(FILE) is True


def test_no_filters_at_all_are_all_true_and_none_of_them_is():
    assert allows(Filter(type="and", filters=[]))(FILE) is True
    assert allows(Filter(type="or", filters=[]))(FILE) is False


def nested(depth: int) -> Filter:
    inner = compare("eq", "author", "Ada")
    for _ in range(depth):
        inner = Filter(type="and", filters=[inner])
    return inner


def test_how_deep_and_how_large_filters_may_be():
    assert allows(nested(DEPTH_MAX))(FILE) is True
    with pytest.raises(InvalidRequest, match=f"nested {DEPTH_MAX} deep"):
        allows(nested(DEPTH_MAX + 1))
    with pytest.raises(InvalidRequest, match=f"{COMPARISONS_MAX} comparisons"):
        allows(Filter(type="or", filters=[compare("eq", "year", n) for n in range(COMPARISONS_MAX + 1)]))
