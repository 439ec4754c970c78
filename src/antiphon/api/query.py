"""Query strings as the clients write them: `include[]=a&include[]=b`, `include=a`, `metadata[key]=value`, `limit=5`."""

from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from antiphon.errors import InvalidRequest, misfit

T = TypeVar("T", bound=Struct)
FIELDS_MAX = 1000


class QueryDecoder(Generic[T]):
    """Decodes query strings into one struct type, whose fields are scalars, lists and dictionaries."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        self._shapes = {field.encode_name: _shape(hints[field.name]) for field in msgspec.structs.fields(kind)}

    def decode(self, query: bytes) -> tuple[T, list[str]]:
        """The query and the names that it has but the type has not. Raises `InvalidRequest`."""
        if not query:
            return msgspec.convert({}, self._kind), []
        values: dict[str, Any] = {}
        unknown: list[str] = []
        for name, value in pairs(query):
            field, bracket, key = name.partition("[")
            shape = self._shapes.get(field)
            if shape is list:
                values.setdefault(field, []).append(value)
            elif shape is dict and bracket:
                values.setdefault(field, {})[key.removesuffix("]")] = value
            elif shape is None or bracket:
                unknown.append(name)
            else:
                values[field] = value
        try:
            return msgspec.convert(values, self._kind, strict=False), unknown
        except msgspec.ValidationError as error:
            raise misfit(error) from error


def pairs(query: bytes) -> list[tuple[str, str]]:
    """The names and values of a query string."""
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise InvalidRequest(f"The query string has more than {FIELDS_MAX} parts.") from error


def _shape(hint: Any) -> type:
    origin = get_origin(hint)
    if origin in (list, dict):
        return list if origin is list else dict
    inner = [_shape(each) for each in get_args(hint) if origin is not None and get_origin(each) in (list, dict)]
    return inner[0] if inner else str
