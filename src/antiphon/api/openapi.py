"""The OpenAPI document, made from the routes and their types."""

import functools
import operator
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Raw

from antiphon import __version__
from antiphon.api.idempotency import SAFE
from antiphon.api.route import SOCKET, Route
from antiphon.wire.conversations import ITEMS_MAX
from antiphon.wire.events import EVENTS, Event
from antiphon.wire.items import Item
from antiphon.wire.tools import Tool

REFERENCE: Final = "#/components/schemas/{name}"
_ANY_EVENT: Final[Any] = functools.reduce(operator.or_, EVENTS)
_UNIONS: Final[dict[str, Any]] = {"Item": Item, "Event": _ANY_EVENT, "Tool": Tool}
_PAGE_OF_ITEMS = re.compile(rb"Page_antiphon\.wire\.items\.[\w.]+")
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_encode = msgspec.json.Encoder().encode
_FEW_ITEMS = Annotated[list[Item], Meta(max_length=ITEMS_MAX)]
_SECOND_STEP: Final[dict[tuple[str, str], Any]] = {
    ("CreateResponse", "input"): str | list[Item],
    ("CreateResponse", "tools"): list[Tool],
    ("CompactResponse", "input"): str | list[Item] | None,
    ("CreateFrame", "input"): str | list[Item],
    ("CreateFrame", "tools"): list[Tool],
    ("CountInputTokens", "input"): str | list[Item],
    ("CountInputTokens", "tools"): list[Tool],
    ("CreateConversation", "items"): _FEW_ITEMS,
    ("CreateItems", "items"): _FEW_ITEMS,
}
"""Fields that their types leave raw, because they are decoded in a second step, and what they hold."""
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


_IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "New for each new request: sent again with the same one, a request gets the first answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


@functools.lru_cache(maxsize=4)
def document(routes: tuple[Route, ...]) -> bytes:
    """The document as JSON; made once."""
    return _encode(described(routes))


def described(routes: Iterable[Route]) -> dict[str, Any]:
    """The document as a tree."""
    routes = tuple(routes)
    kinds = {_key(each): each for route in routes for each in _types(route) if each is not None}
    schemas, components = msgspec.json.schema_components(map(_whole, kinds.values()), ref_template=REFERENCE)
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        if route.method == SOCKET:
            paths.setdefault(path, {})["x-openresponses-websocket"] = _connection(route, by_kind)
        else:
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_kind, components)
    tree = {
        "openapi": "3.1.0",
        "info": {
            "title": "Antiphon",
            "version": __version__,
            "description": "OpenAI's API over any model. Every error has the body of the schema `Error`.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR},
            "responses": {
                "Error": {
                    "description": "What is wrong, in OpenAI's form.",
                    "content": {"application/json": {"schema": {"$ref": REFERENCE.format(name="Error")}}},
                }
            },
        },
    }
    return _named(tree)


def _named(tree: dict[str, Any]) -> dict[str, Any]:
    """The same document in which the large unions stand once, under names of their own, instead of wherever used."""
    unions, _ = msgspec.json.schema_components(list(_UNIONS.values()), ref_template=REFERENCE)
    text = _encode(tree)
    for name, union in zip(_UNIONS, unions, strict=True):
        text = text.replace(_encode(union), _encode({"$ref": REFERENCE.format(name=name)}))
    text = _PAGE_OF_ITEMS.sub(b"ItemPage", text)
    named: dict[str, Any] = msgspec.json.decode(text)
    named["components"]["schemas"].update(zip(_UNIONS, unions, strict=True))
    return named


def _types(route: Route) -> tuple[Any, ...]:
    return (route.body, route.form, route.query, route.answer, route.events)


def _key(kind: Any) -> str:
    return repr(kind)


def _whole(kind: Any) -> Any:
    """The type itself, or one like it in which raw fields have the type that the second step gives them.

    `Event` stands for all of its kinds.
    """
    if kind is Event:
        return _ANY_EVENT
    if not any(isinstance(kind, type) and kind.__name__ == name for name, _ in _SECOND_STEP):
        return kind
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        held = _SECOND_STEP.get((kind.__name__, field.name), field.type)
        if field.default is NODEFAULT:
            fields.append((field.name, held))
        else:
            fields.append((field.name, held, UNSET if isinstance(field.default, Raw) else field.default))
    return msgspec.defstruct(kind.__name__, fields, namespace={"__doc__": kind.__doc__}, kw_only=True)


def _operation(route: Route, by_kind: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {route.media: {"schema": _schema(route.answer, by_kind)}}
    if route.media != "application/json":
        content = {route.media: {"schema": {"type": "string"}}}
    if route.events is not None:
        content["text/event-stream"] = {"schema": by_kind[_key(route.events)]}
    shown: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route, by_kind, components),
            *([] if route.method in SAFE else [_IDEMPOTENCY_KEY]),
        ],
        "responses": {
            str(route.status): {"description": "The answer.", "content": content},
            "4XX": {"$ref": "#/components/responses/Error"},
            "5XX": {"$ref": "#/components/responses/Error"},
        },
    }
    if route.body is not None:
        shown["requestBody"] = {
            "required": route.body_required,
            "content": {"application/json": {"schema": by_kind[_key(route.body)]}},
        }
    if route.form is not None:
        form = {"schema": by_kind[_key(route.form)]}
        shown["requestBody"] = {"required": True, "content": {"multipart/form-data": form}}
    return shown


def _connection(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    """A WebSocket, which OpenAPI has no words for, in those of Open Responses."""
    events = {"serverMessage": by_kind[_key(route.events)]} if route.events is not None else {}
    return {
        "description": route.summary,
        "clientMessage": _schema(route.body, by_kind),
        "errorMessage": _schema(route.answer, by_kind),
        **events,
    }


def _schema(kind: Any, by_kind: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"} if kind is None else by_kind[_key(kind)]
    return schema


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    return parts[1] if len(parts) > 1 and parts[0] == "v1" else "server"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name, _ in _PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route, by_kind: dict[str, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    name = by_kind[_key(route.query)]["$ref"].rpartition("/")[2]
    return [_query_parameter(field, schema) for field, schema in components[name]["properties"].items()]


def _query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object":
        return {"name": name, "in": "query", "style": "deepObject", "explode": True, "schema": schema}
    # Absence says it; a query string has no null.
    kinds = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(kinds) == 1:
        schema = kinds[0]
    return {"name": name, "in": "query", "schema": schema}
