"""The document is complete, and valid by itself."""

import json
import re
from typing import Any

import pytest

from antiphon.api.openapi import described, document
from antiphon.api.route import SOCKET
from antiphon.api.server import ROUTES
from antiphon.wire.events import EVENTS

DOCUMENT = described(ROUTES)


def operations():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if not method.startswith("x-"):
                yield path, method, operation


def references(value: Any):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        yield from value.get("discriminator", {}).get("mapping", {}).values()
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_route_has_its_operation() -> None:
    assert len(list(operations())) == len([route for route in ROUTES if route.method != SOCKET])


def test_a_websocket_is_documented_as_open_responses_does() -> None:
    assert DOCUMENT["paths"]["/v1/responses"]["x-openresponses-websocket"] == {
        "description": "Create model responses turn after turn, over one WebSocket.",
        "clientMessage": {"$ref": "#/components/schemas/CreateFrame"},
        "serverMessage": {"$ref": "#/components/schemas/Event"},
        "errorMessage": {"$ref": "#/components/schemas/ErrorFrame"},
    }


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    for each in found:
        node: Any = DOCUMENT
        for part in each.removeprefix("#/").split("/"):
            assert part in node, each
            node = node[part]


def test_no_schema_is_only_another_name() -> None:
    """A validator follows such a name for ever if it is the schema's own."""
    assert [name for name, schema in DOCUMENT["components"]["schemas"].items() if "$ref" in schema] == []


def test_every_event_is_documented() -> None:
    kinds = {each["$ref"].rpartition("/")[2] for each in DOCUMENT["components"]["schemas"]["Event"]["anyOf"]}
    assert kinds == {kind.__name__ for kind in EVENTS}


def test_names_of_schemas_are_allowed_ones() -> None:
    assert [name for name in DOCUMENT["components"]["schemas"] if not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", name)] == []


def test_operation_ids_are_unique_and_summaries_present() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] for _, _, operation in operations())


def test_path_parameters_are_those_of_the_path() -> None:
    for path, _, operation in operations():
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert named == re.findall(r"\{(\w+)\}", path)


def test_errors_are_documented_everywhere() -> None:
    for _, _, operation in operations():
        assert {"4XX", "5XX"} <= operation["responses"].keys()


def test_streams_are_documented() -> None:
    responses = DOCUMENT["paths"]["/v1/responses"]["post"]["responses"]["200"]["content"]
    assert responses["text/event-stream"]["schema"] == {"$ref": "#/components/schemas/Event"}
    assert "text/event-stream" in DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]


def test_what_is_decoded_later_is_documented_now() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    items = {"type": "array", "items": {"$ref": "#/components/schemas/Item"}}
    assert schemas["CreateResponse"]["properties"]["input"] == {"anyOf": [{"type": "string"}, items]}
    assert schemas["CreateItems"]["properties"]["items"] == {**items, "maxItems": 20}
    assert schemas["CreateItems"]["required"] == ["items"]


def test_a_form_is_documented_as_one() -> None:
    body = DOCUMENT["paths"]["/v1/files"]["post"]["requestBody"]
    assert body["content"] == {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/CreateFile"}}}
    form = DOCUMENT["components"]["schemas"]["CreateFile"]
    assert (form["required"], form["properties"]["file"]) == (
        ["file", "purpose"],
        {"type": "string", "format": "binary"},
    )


@pytest.mark.parametrize("name", ["limit", "order", "after", "include"])
def test_a_query_is_documented_with_its_limits(name) -> None:
    operation = DOCUMENT["paths"]["/v1/conversations/{conversation_id}/items"]["get"]
    found = {each["name"]: each["schema"] for each in operation["parameters"] if each["in"] == "query"}
    expected = {
        "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        "order": {"enum": ["asc", "desc"], "default": "desc"},
        "after": {"type": "string"},
    }
    if name in expected:
        assert found[name] == expected[name]
    assert name in found


def test_the_document_is_json_and_made_once() -> None:
    assert json.loads(document(ROUTES)) == DOCUMENT
    assert document(ROUTES) is document(ROUTES)


def test_what_changes_something_may_have_an_idempotency_key_and_nothing_else_does() -> None:
    keyed = {
        (method, path)
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
    }
    unsafe = {
        (each.method.lower(), each.path.replace(":path", "")) for each in ROUTES if each.method in ("POST", "DELETE")
    }
    assert keyed == unsafe
