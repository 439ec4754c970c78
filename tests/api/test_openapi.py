"""The OpenAPI document as it is served."""

from antiphon.api.openapi import described
from antiphon.api.server import ROUTES
from antiphon.testing.server import Server


def test_the_document_is_the_one_of_the_routes(server: Server) -> None:
    got = server.ask("GET", "/openapi.json")
    assert got.headers["content-type"] == "application/json"
    assert got.json == described(ROUTES)
    assert got.json["openapi"].startswith("3.1")


def test_every_documented_get_without_parameters_is_there(server: Server) -> None:
    paths = server.ask("GET", "/openapi.json").json["paths"]
    plain = [path for path, methods in paths.items() if "get" in methods and "{" not in path]
    assert len(plain) > 8
    assert {server.ask("GET", path).status for path in plain} == {200}
