"""Documents by relevance, asked for in Cohere's words and in Llama Stack's, through a host and through a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.host import Host, Raw, status
from antiphon.testing.server import Server, running
from tiny_models import write_model, write_reranker

MODEL = "scripted/scripted-model"
ASKED = {"model": MODEL, "query": "b", "documents": ["a", {"text": "b"}, "c"]}
LLAMA = "../v1alpha/inference/rerank"


def places(results: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(each["index"], round(each["relevance_score"], 3)) for each in results]


def test_documents_come_back_best_first(server: Server, host: Host) -> None:
    got = server.post("/rerank", ASKED)
    assert places(got.json["results"]) == [(1, 1.0), (0, 0.5), (2, 0.167)]
    assert (got.json["model"], got.json["id"][:7]) == (MODEL, "rerank_")
    assert host.calls[0].json == {"model": "scripted-model", "query": "b", "documents": ["a", "b", "c"]}
    assert host.calls[0].path == "/v1/rerank"


def test_only_the_best_are_shown_and_with_their_text_where_asked_for(server: Server) -> None:
    got = server.post("/rerank", {**ASKED, "top_n": 2, "return_documents": True})
    assert [each["document"]["text"] for each in got.json["results"]] == ["b", "a"]
    assert "document" not in server.post("/rerank", ASKED).json["results"][0]


@pytest.mark.parametrize("query", ["b", {"type": "text", "text": "b"}])
def test_llama_stacks_clients_are_answered_in_their_words(server: Server, query: Any) -> None:
    items = ["a", {"type": "text", "text": "b"}, "c"]
    got = server.ask("POST", "/v1alpha/inference/rerank", {"model": MODEL, "query": query, "items": items})
    assert (got.json.keys(), places(got.json["data"])) == ({"data"}, [(1, 1.0), (0, 0.5), (2, 0.167)])
    body = {"model": MODEL, "query": query, "items": items, "max_num_results": 1}
    assert places(server.ask("POST", "/v1alpha/inference/rerank", body).json["data"]) == [(1, 1.0)]


def test_equal_documents_keep_their_order(server: Server, host: Host) -> None:
    host.answer(
        Raw(
            headers=[("content-type", "application/json")],
            steps=[b'[{"index":1,"score":0},{"index":0,"score":0},{"index":2,"score":0}]'],
        )
    )
    assert [index for index, _ in places(server.post("/rerank", ASKED).json["results"])] == [0, 1, 2]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/rerank", {**ASKED, "documents": []}, "documents"),
        ("/v1/rerank", {**ASKED, "query": ""}, "query"),
        ("/v1/rerank", {**ASKED, "documents": [{"title": "a"}]}, "documents"),
        ("/v1/rerank", {**ASKED, "top_n": 0}, "top_n"),
        ("/v1/rerank", {"model": MODEL, "query": "a"}, "documents"),
        ("/v1alpha/inference/rerank", {"model": MODEL, "query": "a", "items": [{"type": "image_url"}]}, "items"),
    ],
)
def test_wrong_requests_are_refused_with_the_field(server: Server, path: str, body: Any, param: str) -> None:
    got = server.ask("POST", path, body)
    assert got.status == 400
    assert got.json["error"]["param"].startswith(param)


def test_a_host_that_does_not_rerank_says_so(server: Server, host: Host) -> None:
    host.answer(status(404, "no such route"))
    got = server.post("/rerank", ASKED)
    assert (got.status, got.json["error"]["message"]) == (404, "no such route")


def test_a_recorded_ranking_is_replayed(host: Host, tmp_path: Path) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, "recordings": str(tmp_path / "kept")}
    with running({**settings, "mode": "record"}, tmp_path / "one") as recording:
        first = recording.post("/rerank", ASKED)
    asked = len(host.calls)
    with running({"recordings": settings["recordings"], "mode": "replay"}, tmp_path / "two") as replaying:
        second = replaying.post("/rerank", ASKED)
    assert second.json["results"] == first.json["results"]
    assert len(host.calls) == asked


# ---------------------------------------------------------------- models in a folder


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that replays, so that no host can be asked, with two models in a folder."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny-embed")
    write_reranker(folder / "tiny-rerank")
    settings = {
        "hosts": {"here": {"base_url": f"file://{folder}"}},
        "mode": "replay",
        "recordings": str(folder / "none"),
    }
    (folder / "none").mkdir()
    with running(settings, tmp_path_factory.mktemp("local")) as started:
        yield started


def test_a_folder_embeds_even_where_everything_else_is_replayed(local: Server) -> None:
    client = local.client()
    said = client.embeddings.create(model="here/tiny-embed", input=["the dog", "a cat"])
    assert [len(each.embedding) for each in said.data] == [16, 16]
    assert said.usage.prompt_tokens == 8
    assert client.models.retrieve("here/tiny-embed").to_dict()["metadata"] == {
        "embedding_dimension": 16,
        "context_length": 24,
    }


def test_a_folder_reranks(local: Server) -> None:
    body = {"model": "tiny-rerank", "query": "the dog", "documents": ["a cat", "the dog"], "top_n": 1}
    (best,) = local.post("/rerank", body).json["results"]
    assert 0 < best["relevance_score"] < 1


def test_a_folders_models_are_refused_for_other_uses(local: Server) -> None:
    body = {"model": "here/tiny-embed", "messages": [{"role": "user", "content": "Hi"}]}
    assert local.post("/chat/completions", body).json["error"]["code"] == "wrong_model_type"
    got = local.post("/embeddings", {"model": "here/tiny-embed", "input": [1, 2]})
    assert (got.status, got.json["error"]["param"]) == (400, "input")
