"""A folder answers as a host does: embeddings and relevance in OpenAI's and Cohere's words, and clear refusals."""

import asyncio
import base64
import importlib.util
import json
import struct
import threading

import numpy as np
import pytest

from antiphon.config import Config, ConfigError, HostConfig
from antiphon.errors import ApiError, ContextTooLong, InvalidRequest, NotFound, Unsupported, Upstream
from antiphon.exchange import Incoming, Outgoing
from antiphon.limits import LocalConfig
from antiphon.models.base import NO_ACCESS, ModelRequest
from antiphon.models.catalog import Catalog, catalog_of
from antiphon.models.embedding import default_model, embed
from antiphon.models.local.onnx import Graph
from antiphon.models.local.provider import Local
from antiphon.models.reranking import rerank
from tiny_models import HEADS, HIDDEN, LAYERS, Reference, ids_of, random_tensors, write_model, write_reranker

TEXTS = ["the dog runs", "a big red fish sleeps under the small blue cat", "cat"]


class NoNetwork:
    """A transport that nobody may use."""

    async def send(self, request: Outgoing) -> Incoming:
        raise AssertionError(f"{request.url} was asked")

    async def close(self) -> None:
        """Nothing is open."""


def catalog(folder, **local) -> Catalog:
    host = HostConfig(base_url=f"file://{folder}", local=LocalConfig(**local))
    return catalog_of(Config(hosts={"here": host}, find_hosts=False), NoNetwork())


@pytest.fixture
def folder(tmp_path):
    """A folder with a model that embeds and one that reranks."""
    write_model(tmp_path / "tiny-embed")
    write_reranker(tmp_path / "tiny-rerank")
    return tmp_path


def provider(folder, **local) -> Local:
    found = catalog(folder, **local).provider("here")
    assert isinstance(found, Local)
    return found


async def asked(local: Local, path: str, **body):
    incoming = await local.post(path, json.dumps(body).encode(), NO_ACCESS)
    assert incoming.headers["content-type"] == "application/json"
    return json.loads(await incoming.read())


REFERENCE = Reference(random_tensors(), layers=LAYERS, heads=HEADS)


async def test_texts_are_embedded_through_the_same_door_as_with_any_host(folder) -> None:
    vectors = await embed(catalog(folder), "here/tiny-embed", TEXTS, access=NO_ACCESS)
    found = [np.frombuffer(vector, "<f4") for vector in vectors]
    assert np.allclose(found, [REFERENCE.vector(ids_of(text)[0]) for text in TEXTS], atol=1e-5)


async def test_documents_are_ranked_through_the_same_door_as_with_any_host(folder) -> None:
    scores = await rerank(catalog(folder), "here/tiny-rerank", "the dog", documents=TEXTS, access=NO_ACCESS)
    head = ("bert.pooler.dense", "classifier")
    reference = Reference(random_tensors("bert.", head=head), layers=LAYERS, heads=HEADS, prefix="bert.")
    assert np.allclose(scores, [reference.relevance(*ids_of("the dog", text), head) for text in TEXTS], atol=1e-5)


async def test_the_models_are_listed_and_the_one_that_embeds_is_the_default(folder) -> None:
    found = catalog(folder)
    await found.refresh()
    shown = {model.id: model for model in await found.list()}
    assert shown["here/tiny-embed"].custom_metadata.embedding_dimension == HIDDEN
    assert {name: model.model_type for name, model in shown.items()} == {
        "here/tiny-embed": "embedding",
        "here/tiny-rerank": "rerank",
    }
    assert await default_model(found, "") == "here/tiny-embed"
    (entry,) = await found.providers()
    assert (entry.provider_type, entry.health.status) == ("inline::sentence-transformers", "OK")


async def test_the_answer_is_openais_with_the_tokens_counted(folder) -> None:
    said = await asked(provider(folder), "/embeddings", model="tiny-embed", input=TEXTS)
    assert [(each["object"], each["index"]) for each in said["data"]] == [("embedding", place) for place in range(3)]
    tokens = sum(len(ids_of(text)[0]) for text in TEXTS)
    assert (said["object"], said["model"]) == ("list", "tiny-embed")
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


async def test_base64_holds_the_same_numbers(folder) -> None:
    local = provider(folder)
    plain = await asked(local, "/embeddings", model="tiny-embed", input="cat")
    assert plain == await asked(local, "/embeddings", model="tiny-embed", input="cat", encoding_format=None)
    packed = await asked(local, "/embeddings", model="tiny-embed", input="cat", encoding_format="base64")
    numbers = struct.unpack(f"<{HIDDEN}f", base64.b64decode(packed["data"][0]["embedding"]))
    assert list(numbers) == plain["data"][0]["embedding"]


async def test_fewer_dimensions_are_the_first_ones_made_to_length_one(folder) -> None:
    local = provider(folder)
    whole = np.array((await asked(local, "/embeddings", model="tiny-embed", input="cat"))["data"][0]["embedding"])
    short = (await asked(local, "/embeddings", model="tiny-embed", input="cat", dimensions=4))["data"][0]["embedding"]
    assert np.allclose(short, whole[:4] / np.linalg.norm(whole[:4]), atol=1e-6)


async def test_many_texts_keep_their_order_over_batches_and_threads(folder) -> None:
    texts = [" ".join(["dog", "cat", "fish"][place % 3 :] * (1 + place % 5)) for place in range(700)]
    vectors = await embed(catalog(folder, threads=3), "here/tiny-embed", texts, access=NO_ACCESS)
    wanted = {text: REFERENCE.vector(ids_of(text)[0]) for text in set(texts)}
    found = np.array([np.frombuffer(vector, "<f4") for vector in vectors])
    assert np.allclose(found, [wanted[text] for text in texts], atol=1e-5)


@pytest.mark.parametrize(("top_n", "shown"), [(None, 3), (2, 2), (9, 3)])
async def test_ranked_documents_come_best_first_as_many_as_asked_for(folder, top_n, shown) -> None:
    said = await asked(provider(folder), "/rerank", model="tiny-rerank", query="the dog", documents=TEXTS, top_n=top_n)
    scores = [each["relevance_score"] for each in said["results"]]
    assert (len(scores), scores) == (shown, sorted(scores, reverse=True))
    assert said["usage"]["total_tokens"] == sum(len(ids_of("the dog", text)[0]) for text in TEXTS)


@pytest.mark.parametrize("long_texts", ["cut", "average", "refuse"])
async def test_long_texts_are_cut_averaged_or_refused(tmp_path, long_texts) -> None:
    write_model(tmp_path / "m", max_position_embeddings=6)
    texts = ["cat", "the dog runs over a big red fish"]
    found = catalog(tmp_path / "m", long_texts=long_texts)
    if long_texts == "refuse":
        with pytest.raises(ContextTooLong, match="Text 1 is longer than the 6 tokens that 'm' takes"):
            await embed(found, "here/m", texts, access=NO_ACCESS)
        assert len(await embed(found, "here/m", texts[:1], access=NO_ACCESS)) == 1
        return
    vectors = await embed(found, "here/m", texts, access=NO_ACCESS)
    parts = ["the dog runs over", "a big red fish"][: 1 if long_texts == "cut" else 2]
    rows = [REFERENCE.hidden(ids, segments).mean(axis=0) for ids, segments in map(ids_of, parts)]
    wanted = np.mean(rows, axis=0)
    assert np.allclose(np.frombuffer(vectors[1], "<f4"), wanted / np.linalg.norm(wanted), atol=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "error", "why"),
    [
        ("/embeddings", {"model": "tiny-embed", "input": [1, 2]}, InvalidRequest, "arrays of tokens"),
        ("/embeddings", {"model": "tiny-embed", "input": [""]}, InvalidRequest, "not empty"),
        ("/embeddings", {"model": "tiny-embed", "input": "x", "dimensions": 17}, InvalidRequest, "16 dimensions"),
        ("/embeddings", {"model": "gone", "input": "x"}, NotFound, "'gone' is not in the folder of host 'here'"),
        ("/embeddings", {"model": "tiny-rerank", "input": "x"}, InvalidRequest, "cannot be used for embeddings"),
        ("/rerank", {"model": "tiny-embed", "query": "x", "documents": []}, InvalidRequest, "for reranking"),
        ("/rerank", {"model": "tiny-rerank", "query": "x"}, InvalidRequest, "documents"),
        ("/chat/completions", {"model": "tiny-embed"}, Unsupported, "no /chat/completions"),
    ],
)
async def test_what_a_model_cannot_do_is_said(folder, path, body, error, why) -> None:
    with pytest.raises(error, match=why):
        await asked(provider(folder), path, **body)


async def test_no_model_of_a_folder_chats(folder) -> None:
    request = ModelRequest(model="tiny-embed", items=[])
    with pytest.raises(InvalidRequest, match="cannot be used for chat"):
        await provider(folder).open(request)
    assert provider(folder).left_out(request) == []


async def test_a_model_that_breaks_after_the_start_is_an_upstream_error(folder) -> None:
    local = provider(folder)
    (folder / "tiny-embed" / "tokenizer.json").write_text("{}")
    with pytest.raises(Upstream, match=r"Host 'here' cannot run its model: .*tokenizer.json"):
        await asked(local, "/embeddings", model="tiny-embed", input="x")


async def test_vectors_of_another_length_than_the_configuration_says_are_refused(folder) -> None:
    graph = Graph()
    graph.input("input_ids", "int64", ["batch", "length"])
    graph.node("Cast", ["input_ids"], "sentence_embedding", attributes={"to": 1})
    graph.output("sentence_embedding", ["batch", "length"])
    write_model(folder / "wrong", model_type="exported")
    (folder / "wrong" / "model.safetensors").unlink()
    (folder / "wrong" / "model.onnx").write_bytes(graph.model())
    with pytest.raises(Upstream, match=r"its vectors have 3 numbers, not the 16 of config.json"):
        await asked(provider(folder), "/embeddings", model="wrong", input="x")


def test_a_broken_folder_stops_the_start_and_names_the_file(folder) -> None:
    (folder / "tiny-embed" / "model.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(ConfigError, match=r"hosts.here.base_url: .*tiny-embed/model.safetensors: its header"):
        catalog(folder)


def test_a_missing_package_is_named_with_the_extra(folder, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ConfigError, match=r"hosts.here: .* need onnxruntime: pip install 'antiphon\[local\]'"):
        catalog(folder)


async def test_the_event_loop_is_free_while_a_model_works(folder) -> None:
    """The provider's only thread is held: the loop goes on, and the answer comes when the thread is free."""
    local, held, free = provider(folder, threads=1), threading.Event(), threading.Event()
    local._threads.submit(lambda: (held.set(), free.wait(10)))
    asking = asyncio.create_task(asked(local, "/embeddings", model="tiny-embed", input="cat"))
    await asyncio.sleep(0)
    assert held.wait(10)
    assert not asking.done()
    free.set()
    assert len((await asking)["data"]) == 1


async def test_of_one_request_no_more_work_waits_than_there_are_threads(folder) -> None:
    """So a short request that comes later waits for the batches under way, not for a whole long request."""
    local = provider(folder, threads=1)
    order: list[str] = []

    async def request(name: str, texts: list[str]) -> None:
        await asked(local, "/embeddings", model="tiny-embed", input=texts)
        order.append(name)

    await request("warm", ["cat"])
    await asyncio.gather(request("long", ["dog " * 20] * 2000), request("short", ["cat"]))
    assert order == ["warm", "short", "long"]


async def test_an_abandoned_request_stops_after_its_batch(folder) -> None:
    local = provider(folder, threads=1)
    asking = asyncio.create_task(asked(local, "/embeddings", model="tiny-embed", input=["dog " * 20] * 2000))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert local._threads._work_queue.qsize() <= 1
    assert len((await asked(local, "/embeddings", model="tiny-embed", input="cat"))["data"]) == 1


async def test_every_refusal_is_an_api_error(folder) -> None:
    with pytest.raises(ApiError):
        await provider(folder).post("/embeddings", b"{", NO_ACCESS)
