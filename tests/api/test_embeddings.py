"""Embeddings in every form that clients ask for, whatever form the host has."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing.host import Host, Raw, Request
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
NUMBERS = [0.5, -0.25]
PACKED = base64.b64encode(struct.pack("<2f", *NUMBERS)).decode()


def sends(vector: Any) -> Raw:
    """A host that has one form of vector, whatever it is asked for."""
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    said = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    return Raw(headers=[("content-type", "application/json")], steps=[json.dumps(said).encode()])


@pytest.mark.parametrize("vector", [NUMBERS, PACKED], ids=["the host sends numbers", "the host sends base64"])
@pytest.mark.parametrize(
    ("wanted", "shown"),
    [({}, NUMBERS), ({"encoding_format": "float"}, NUMBERS), ({"encoding_format": "base64"}, PACKED)],
)
def test_the_client_gets_the_encoding_that_it_asks_for(
    server: Server, host: Host, vector: Any, wanted: dict[str, str], shown: Any
) -> None:
    host.answer(sends(vector))
    got = server.post("/embeddings", {"model": MODEL, "input": "Hi", **wanted})
    assert got.json["data"][0]["embedding"] == shown
    assert got.json["usage"]["total_tokens"] == 1


@pytest.mark.parametrize("given", ["Hi", ["Hi", "you"], [1, 2, 3], [[1, 2], [3]]])
def test_texts_and_tokens_one_and_many_reach_the_host(client: openai.OpenAI, host: Host, given: Any) -> None:
    answer = client.embeddings.create(model=MODEL, input=given, dimensions=8, user="ann")
    assert host.calls[0].json["input"] == given
    assert (host.calls[0].json["dimensions"], host.calls[0].json["user"]) == (8, "ann")
    assert len(answer.data[0].embedding) == 8


@pytest.mark.parametrize("given", ["", [], [""], ["Hi", 1], [[]], ["Hi", [1]], {"a": 1}, ["Hi"] * 2049])
def test_wrong_inputs_are_refused(server: Server, given: Any) -> None:
    got = server.post("/embeddings", {"model": MODEL, "input": given})
    assert got.status == 400
    assert got.json["error"]["param"].startswith("input")


@pytest.mark.parametrize("vector", ["!!!", "AAA=", {"a": 1}, None])
def test_what_is_no_vector_is_a_502(server: Server, host: Host, vector: Any) -> None:
    host.answer(sends(vector))
    assert server.post("/embeddings", {"model": MODEL, "input": "Hi", "encoding_format": "float"}).status == 502


def test_a_models_dimension_is_learned_from_its_first_vector(host: Host, tmp_path: Path) -> None:
    host.models = ["my-embed-1"]
    host.by_request = lambda request: sends(NUMBERS) if is_embedding(request) else None
    with running({"hosts": {"h": {"base_url": host.url, "preset": "custom"}}}, tmp_path) as server:
        assert server.get("/models/h/my-embed-1").json["model_type"] == "embedding"
        assert "embedding_dimension" not in server.get("/models/h/my-embed-1").json["metadata"]
        server.post("/embeddings", {"model": "my-embed-1", "input": "Hi", "dimensions": 2})
        assert "embedding_dimension" not in server.get("/models/h/my-embed-1").json["metadata"]
        server.post("/embeddings", {"model": "my-embed-1", "input": "Hi"})
        found = server.get("/models/h/my-embed-1").json
        assert found["metadata"]["embedding_dimension"] == 2
        assert found["custom_metadata"]["embedding_dimension"] == 2
        got = server.post("/chat/completions", {"model": "my-embed-1", "messages": [{"role": "user", "content": "Hi"}]})
        assert (got.status, got.json["error"]["code"]) == (400, "wrong_model_type")


def is_embedding(request: Request) -> bool:
    return request.path.endswith("/embeddings")
