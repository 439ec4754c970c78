"""Texts into vectors, in order, whatever form and order the host sends them in."""

import base64
import json
import struct

import msgspec
import pytest

from antiphon.errors import InvalidRequest, Upstream
from antiphon.models.base import NO_ACCESS
from antiphon.models.embedding import default_model, embed, packed, vector_of
from scripted_provider import Scripted, catalog_with

FIRST, SECOND = [0.5, -0.25, 1.0], [0.0, 2.0, -3.5]


def small(numbers: list[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def answer(*vectors, **indexes) -> dict:
    order = indexes.get("order", range(len(vectors)))
    data = [
        {"object": "embedding", "index": index, "embedding": each} for index, each in zip(order, vectors, strict=True)
    ]
    return {"object": "list", "data": data, "model": "m"}


async def embedded(body, texts=("a", "b"), **more) -> list[bytes]:
    return await embed(catalog_with(Scripted(body), "embedding"), "h/m", list(texts), access=NO_ACCESS, **more)


async def test_each_text_gets_its_vector_as_little_endian_floats() -> None:
    assert await embedded(answer(FIRST, SECOND)) == [small(FIRST), small(SECOND)]


async def test_vectors_are_put_in_order_by_their_index() -> None:
    assert await embedded(answer(SECOND, FIRST, order=[1, 0])) == [small(FIRST), small(SECOND)]


async def test_a_host_without_indexes_is_taken_to_answer_in_order() -> None:
    assert await embedded({"data": [{"embedding": FIRST}, {"embedding": SECOND}]}) == [small(FIRST), small(SECOND)]


async def test_a_host_may_send_base64_though_it_was_asked_for_numbers() -> None:
    as_text = [base64.b64encode(small(each)).decode() for each in (FIRST, SECOND)]
    assert await embedded(answer(*as_text)) == [small(FIRST), small(SECOND)]


async def test_the_host_is_asked_once_in_the_words_that_recordings_are_found_by() -> None:
    host = Scripted(answer(FIRST, SECOND))
    await embed(catalog_with(host, "embedding"), "h/m", ["a", "b"], access=NO_ACCESS)
    assert host.asked == [("/embeddings", {"model": "m", "input": ["a", "b"], "encoding_format": "float"})]


async def test_dimensions_are_sent_only_where_given() -> None:
    host = Scripted(answer(FIRST))
    await embed(catalog_with(host, "embedding"), "h/m", ["a"], access=NO_ACCESS, dimensions=3)
    assert host.asked[0][1]["dimensions"] == 3


async def test_no_texts_ask_nobody() -> None:
    host = Scripted()
    assert await embed(catalog_with(host, "embedding"), "h/m", [], access=NO_ACCESS) == []
    assert host.asked == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (answer(FIRST), "not one for each of 2 texts"),
        (answer(FIRST, SECOND, FIRST), "not one for each of 2 texts"),
        (answer(FIRST, SECOND, order=[1, 1]), "not one for each of 2 texts"),
        (answer(FIRST, SECOND, order=[1, 2]), "not one for each of 2 texts"),
        (answer(FIRST, [1.0]), "vectors of lengths [1, 3]"),
        (answer([], []), "vectors of lengths [0]"),
        (answer(FIRST, [1e39, 0.0, 0.0]), "a number that is not finite"),
        (answer(FIRST, base64.b64encode(small([float("nan"), 1, 2])).decode()), "a number that is not finite"),
        (answer(FIRST, "AAA="), "bytes length not a multiple of item size"),
        (answer(FIRST, {"a": 1}), "neither numbers nor base64"),
        (answer(FIRST, ["1"]), "Expected `float`"),
        ({"error": {"message": "no"}}, "missing required field `data`"),
        (b"<html>", "malformed"),
    ],
)
async def test_nonsense_is_the_hosts_fault_and_says_which(body, why) -> None:
    with pytest.raises(Upstream, match="Host 'h' sent embeddings that cannot be read") as caught:
        await embedded(body)
    assert why in caught.value.message


async def test_vectors_of_another_length_than_asked_for_are_refused() -> None:
    with pytest.raises(Upstream, match="length 3 where 2 was asked for"):
        await embedded(answer(FIRST, SECOND), dimensions=2)


async def test_an_empty_text_is_the_callers_fault() -> None:
    with pytest.raises(InvalidRequest, match="Text 1 to embed is empty"):
        await embedded(answer(FIRST, SECOND), texts=("a", ""))


async def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="cannot be used for embeddings"):
        await embed(catalog_with(Scripted(), "llm"), "h/m", ["a"], access=NO_ACCESS)


@pytest.mark.parametrize(("dimensions", "learned"), [(None, 3), (3, None)])
async def test_a_models_dimension_is_learned_unless_it_was_chosen(dimensions, learned) -> None:
    catalog = catalog_with(Scripted(answer(FIRST)), "embedding")
    await embed(catalog, "h/m", ["a"], access=NO_ACCESS, dimensions=dimensions)
    assert (await catalog.get("h/m")).custom_metadata.embedding_dimension == learned


@pytest.mark.parametrize("vector", ["!!!", "AAA=", {"x": 1}, [1, "2"], None])
def test_what_is_no_vector_is_an_error(vector) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (several kinds, caught by that name)
        vector_of(msgspec.Raw(json.dumps(vector).encode()))


def test_both_forms_of_a_vector_are_the_same_bytes() -> None:
    for form in (FIRST, base64.b64encode(small(FIRST)).decode()):
        assert packed(vector_of(msgspec.Raw(json.dumps(form).encode()))) == small(FIRST)


@pytest.mark.parametrize(
    ("kind", "configured", "found"),
    [("embedding", "", "h/m"), ("llm", "", ""), ("embedding", "other", "other"), ("llm", "other", "other")],
)
async def test_the_default_is_the_configured_model_or_the_only_one(kind, configured, found) -> None:
    assert await default_model(catalog_with(Scripted(), kind), configured) == found
