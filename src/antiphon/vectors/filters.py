"""Which files a filter allows, by their attributes. Pure.

A comparison is about a value: where a file has no attribute of that key, none is true, `ne` and `nin` included.
Numbers, strings and booleans are equal only within their kind, and only numbers and strings have an order (strings that
of code points): `gt` between different kinds is false, `ne` is true.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from antiphon.errors import InvalidRequest
from antiphon.wire.search import AttributeValue, Filter

DEPTH_MAX: Final = 16
"""How deep `and` and `or` may be nested."""
COMPARISONS_MAX: Final = 1_000

Attributes = Mapping[str, AttributeValue]
Allows = Callable[[Attributes], bool]

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def allows(wanted: Filter) -> Allows:
    """The question that a filter asks of a file's attributes. Raises `InvalidRequest` for one that is too large."""
    if _comparisons(wanted, 1) > COMPARISONS_MAX:
        raise InvalidRequest(f"A filter may have {COMPARISONS_MAX} comparisons.", param="filters")
    return _question(wanted)


def _comparisons(wanted: Filter, depth: int) -> int:
    if wanted.filters is None:
        return 1
    if depth > DEPTH_MAX:
        raise InvalidRequest(f"Filters may be nested {DEPTH_MAX} deep.", param="filters")
    return sum(_comparisons(each, depth + 1) for each in wanted.filters)


def _question(wanted: Filter) -> Allows:
    if wanted.type in ("and", "or"):
        parts = [_question(each) for each in wanted.filters or ()]
        if wanted.type == "and":
            return lambda attributes: all(part(attributes) for part in parts)
        return lambda attributes: any(part(attributes) for part in parts)
    key, holds = wanted.key or "", _comparison(wanted)
    return lambda attributes: key in attributes and holds(attributes[key])


def _comparison(wanted: Filter) -> Callable[[AttributeValue], bool]:
    value: Any = wanted.value
    if wanted.type in ("in", "nin"):
        among = {(_kind(each), each) for each in value}
        return lambda mine: ((_kind(mine), mine) in among) == (wanted.type == "in")
    if wanted.type in ("eq", "ne"):
        return lambda mine: (_kind(mine) is _kind(value) and mine == value) == (wanted.type == "eq")
    order = _ORDERS[wanted.type]
    return lambda mine: _kind(mine) is _kind(value) is not bool and order(mine, value)


def _kind(value: object) -> type:
    """An integer is a number like any other; a boolean is none."""
    return float if type(value) is int else type(value)
