"""Models in OpenAI's shape, with what Llama Stack's and OGX's clients look for beside it."""

import pytest

from antiphon.testing.server import Server

OPENAI = {"id", "object", "created", "owned_by"}
OGX = {"model_type", "provider_id", "provider_resource_id"}
LLAMA_STACK = {"identifier", "provider_id", "provider_resource_id", "model_type", "metadata"}


def test_a_model_has_the_fields_of_three_worlds(server: Server) -> None:
    listed = server.get("/models").json
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert model.keys() >= OPENAI | LLAMA_STACK | {"custom_metadata"}
    assert model["custom_metadata"].keys() >= OGX
    assert (model["id"], model["identifier"], model["object"]) == (*["scripted/scripted-model"] * 2, "model")


@pytest.mark.parametrize("name", ["scripted/scripted-model", "scripted-model", "scripted%2Fscripted-model"])
def test_a_model_is_found_by_its_id_and_its_bare_name(server: Server, name: str) -> None:
    assert server.get(f"/models/{name}").json["id"] == "scripted/scripted-model"


def test_the_older_prefix_of_llama_stack_works(server: Server) -> None:
    assert server.ask("GET", "/v1/openai/v1/models").json == server.get("/models").json
    assert server.ask("GET", "/v1/openai/v1/models/scripted-model").status == 200


@pytest.mark.parametrize("name", ["nobody", "nobody/nothing", "a/b/c/d", "scripted/nothing", ""])
def test_an_unknown_model_is_a_404(server: Server, name: str) -> None:
    got = server.get(f"/models/{name}")
    assert (got.status, got.json["error"]["code"], got.json["error"]["param"]) == (404, "model_not_found", "model")
