"""The table of routes."""

from antiphon.api.route import SOCKET
from antiphon.api.server import ROUTES


def test_no_two_routes_serve_the_same() -> None:
    served = [(route.method, route.path) for route in ROUTES]
    assert len(served) == len(set(served))


def test_each_handler_is_named_and_says_what_it_does() -> None:
    assert [route.path for route in ROUTES if not route.name or not route.summary.endswith(".")] == []


def test_bodies_are_declared_for_what_changes_something() -> None:
    without = [route.path for route in ROUTES if route.method == "POST" and not (route.body or route.form)]
    assert without == [
        "/v1/responses/{response_id}/cancel",
        "/v1/uploads/{upload_id}/cancel",
        "/v1/batches/{batch_id}/cancel",
        "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel",
    ]
    assert [route.path for route in ROUTES if route.method not in ("POST", SOCKET) and route.body] == []


def test_every_json_answer_is_declared() -> None:
    undeclared = [route.path for route in ROUTES if route.answer is None and "octet" not in route.media]
    assert undeclared == ["/openapi.json", "/"]
