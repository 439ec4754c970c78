"""Vectors in the encoding that the client asked for."""

import base64
import json
import struct

import msgspec
import pytest

from antiphon.api.embeddings import _check, _encoded
from antiphon.errors import InvalidRequest
from antiphon.wire.embeddings import CreateEmbedding, Embeddings

NUMBERS = [0.5, -0.25, 1.0]
PACKED = base64.b64encode(struct.pack("<3f", *NUMBERS)).decode()


def answer(*vectors) -> bytes:
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
    return json.dumps({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}, "own": 2}).encode()


def encoded(body: bytes, wanted: str) -> bytes:
    return _encoded(body, msgspec.json.decode(body, type=Embeddings), wanted)


@pytest.mark.parametrize(("vector", "wanted"), [(NUMBERS, "float"), (PACKED, "base64")])
def test_what_is_right_already_is_passed_on_byte_for_byte(vector, wanted) -> None:
    body = answer(vector, vector)
    assert encoded(body, wanted) is body


def test_numbers_become_base64_of_little_endian_floats() -> None:
    got = json.loads(encoded(answer(NUMBERS, NUMBERS), "base64"))
    assert [each["embedding"] for each in got["data"]] == [PACKED, PACKED]
    assert (got["usage"], got["own"], got["data"][1]["index"]) == ({"prompt_tokens": 1}, 2, 1)


def test_base64_becomes_numbers() -> None:
    assert json.loads(encoded(answer(PACKED), "float"))["data"][0]["embedding"] == NUMBERS


def test_inputs_of_one_kind_up_to_the_limit_are_accepted() -> None:
    given = ["x", ["x", "y"], [1, 2, 3], [[1], [2]]]
    assert [_check(CreateEmbedding(model="m", input=each), 2) for each in given] == [None] * 4


@pytest.mark.parametrize("given", [["x", 1], ["x", [1]], ["x", "y", "z"], [[1], [2], [3]]])
def test_inputs_of_several_kinds_or_too_many_are_refused(given) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _check(CreateEmbedding(model="m", input=given), 2)
    assert caught.value.param == "input"
