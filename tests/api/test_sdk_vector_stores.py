"""The official client drives vector stores: files in, chunks found, everything removed again."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing.host import Gate, Host, Reply, status
from antiphon.testing.server import Server, running

MODEL = "scripted/my-embed"
DAY_S = 86_400
TEXT = b"The ferry to Seixal leaves every half hour.\n\nThe last tram to Graca leaves at midnight."


def settings(host: Host, **more: Any) -> dict[str, Any]:
    """A server with one embedding model."""
    models = {"my-embed": {"kind": "embedding"}, "scripted-model": {"kind": "llm"}}
    described = {"base_url": host.url, "preset": "custom", "models": models}
    return {"hosts": {"scripted": described}, "vector_stores": {"embed_retry_s": 0.01, **more}}


@pytest.fixture(scope="module")
def embedding_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose stores have vectors."""
    more = {"rewrite_model": "scripted/scripted-model"}
    with running(settings(session_host, **more), tmp_path_factory.mktemp("stores")) as started:
        yield started


@pytest.fixture
def server(embedding_server: Server) -> Server:
    return embedding_server


def until(true: Callable[[], Any]) -> Any:
    """What a look gives as soon as it gives something."""
    deadline = time.monotonic() + 20
    while not (found := true()):
        assert time.monotonic() < deadline
    return found


def upload(client: openai.OpenAI, content: bytes = TEXT, name: str = "notes.txt") -> str:
    return client.files.create(file=(name, content), purpose="assistants").id


@pytest.fixture
def store(client: openai.OpenAI) -> str:
    """An empty store."""
    return client.vector_stores.create(name="Papers").id


def found(client: openai.OpenAI, store: str, query: str = "ferry", **more: Any) -> list[str]:
    """The files of the hits."""
    return [hit.file_id for hit in client.vector_stores.search(store, query=query, **more).data]


# ---------------------------------------------------------------- stores


def test_a_store_is_created_changed_and_deleted(client: openai.OpenAI) -> None:
    made = client.vector_stores.create(
        name="Papers",
        description="Of all kinds",
        metadata={"a": "b"},
        expires_after={"anchor": "last_active_at", "days": 2},
    )
    assert (made.object, made.name, made.metadata, made.status) == ("vector_store", "Papers", {"a": "b"}, "completed")
    assert made.expires_after is not None
    assert made.expires_at == (made.last_active_at or 0) + 2 * DAY_S
    assert (made.file_counts.total, made.usage_bytes) == (0, 0)
    assert made.model_extra is not None
    assert made.model_extra["embedding_model"] == MODEL
    assert client.vector_stores.retrieve(made.id) == made
    changed = client.vector_stores.update(made.id, name="Books", metadata={"c": "d"}, expires_after=None)
    assert (changed.name, changed.metadata, changed.expires_at) == ("Books", {"c": "d"}, None)
    deleted = client.vector_stores.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "vector_store.deleted")
    for call in (client.vector_stores.retrieve, client.vector_stores.delete, client.vector_stores.files.list):
        with pytest.raises(openai.NotFoundError) as refused:
            call(made.id)
        assert refused.value.body["message"] == f"Vector store with id '{made.id}' not found."  # type: ignore[index]


def test_stores_are_listed_in_pages(client: openai.OpenAI) -> None:
    made = [client.vector_stores.create(name=str(number)).id for number in range(5)]
    newest = client.vector_stores.list(limit=2)
    assert [store.id for store in newest.data] == made[:2:-1]
    assert newest.has_more
    assert [store.id for store, _ in zip(client.vector_stores.list(limit=2), made, strict=False)] == made[::-1]
    before = client.vector_stores.list(limit=2, before=made[1])
    assert [store.id for store in before.data] == [made[3], made[2]]
    after = client.vector_stores.list(limit=2, order="asc", after=made[0])
    assert [store.id for store in after.data] == made[1:3]
    with pytest.raises(openai.BadRequestError, match="no entry has the id 'vs_none'"):
        client.vector_stores.list(after="vs_none")


def test_files_of_a_new_store_are_chunked_as_asked(client: openai.OpenAI) -> None:
    files = [upload(client, b"word " * 500), upload(client)]
    made = client.vector_stores.create(
        file_ids=files,
        chunking_strategy={
            "type": "static",
            "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
        },
    )
    assert made.file_counts.total == 2
    ready = until(lambda: (got := client.vector_stores.retrieve(made.id)).status == "completed" and got)
    assert ready.file_counts.completed == 2
    assert ready.usage_bytes > 0
    file = client.vector_stores.files.retrieve(files[0], vector_store_id=made.id)
    assert file.chunking_strategy is not None
    assert file.chunking_strategy.static.max_chunk_size_tokens == 100  # type: ignore[union-attr]
    assert len(list(client.vector_stores.files.content(files[0], vector_store_id=made.id))) == 5


def test_a_store_names_index_model_and_metric_as_llama_stacks_clients_do(client: openai.OpenAI) -> None:
    body = {
        "embedding_model": MODEL,
        "embedding_dimension": 4,
        "provider_id": "faiss",
        "provider_vector_store_id": "mine",
        "metric": "dot_product",
    }
    made = client.vector_stores.create(extra_body=body).model_extra or {}
    assert (made["provider_id"], made["embedding_dimension"], made["metric"]) == ("faiss", 4, "dot_product")
    with pytest.raises(openai.BadRequestError, match="There is no index 'milvus'; there are 'embedded', 'faiss'"):
        client.vector_stores.create(extra_body={"provider_id": "milvus"})
    with pytest.raises(openai.NotFoundError) as refused:
        client.vector_stores.create(extra_body={"embedding_model": "scripted-elsewhere/none"})
    assert refused.value.param == "embedding_model"
    with pytest.raises(openai.BadRequestError, match="cannot be used for embeddings"):
        client.vector_stores.create(extra_body={"embedding_model": "scripted/scripted-model"})


def test_without_vectors_a_store_is_searched_by_words_and_says_so(client: openai.OpenAI) -> None:
    made = client.vector_stores.create(extra_body={"embedding_model": ""})
    assert made.model_extra is not None
    assert (made.model_extra["embedding_model"], made.model_extra["search"]) == (None, "keyword")
    file = upload(client)
    client.vector_stores.files.create_and_poll(file, vector_store_id=made.id)
    assert found(client, made.id, "tram") == [file]
    assert found(client, made.id, "zeppelin") == []
    with pytest.raises(openai.BadRequestError, match="searched by keywords only"):
        found(client, made.id, extra_body={"search_mode": "vector"})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days"),
        ({"file_ids": ["file-none"]}, "file_ids"),
        ({"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 99}}}, "chunking_strategy"),
        ({"embedding_dimension": 0}, "embedding_dimension"),
        ({"metric": "manhattan"}, "metric"),
    ],
)
def test_what_no_store_can_be_is_refused(server: Server, body: dict[str, Any], param: str) -> None:
    got = server.post("/vector_stores", body)
    assert got.status == (404 if param == "file_ids" else 400)
    assert got.json["error"]["param"].startswith(param)


# ---------------------------------------------------------------- files


def test_a_file_is_attached_found_and_taken_out(client: openai.OpenAI, store: str) -> None:
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=("notes.txt", TEXT), attributes={"city": "Lisbon", "year": 2024, "old": False}
    )
    assert (file.object, file.status, file.last_error, file.vector_store_id) == (
        "vector_store.file",
        "completed",
        None,
        store,
    )
    assert file.usage_bytes > len(TEXT)
    assert file.attributes == {"city": "Lisbon", "year": 2024.0, "old": False}
    hit = client.vector_stores.search(store, query="When does the ferry leave?").data[0]
    assert (hit.file_id, hit.filename, hit.attributes) == (file.id, "notes.txt", file.attributes)
    assert hit.content[0].text == TEXT.decode()
    assert 0 < hit.score <= 1
    content = client.vector_stores.files.content(file.id, vector_store_id=store)
    assert [(part.type, part.text) for part in content] == [("text", TEXT.decode())]
    again = client.vector_stores.files.create(store, file_id=file.id, attributes={"city": "Porto"})
    assert again == file
    deleted = client.vector_stores.files.delete(file.id, vector_store_id=store)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "vector_store.file.deleted")
    assert found(client, store) == []
    assert client.files.retrieve(file.id).id == file.id
    assert client.vector_stores.retrieve(store).file_counts.total == 0
    for call in (client.vector_stores.files.retrieve, client.vector_stores.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id, vector_store_id=store)


def test_whoever_waits_is_told_to_look_again_soon(client: openai.OpenAI, host: Host, store: str) -> None:
    gate = Gate()
    host.answer(Reply(text=["", gate]))
    file = client.vector_stores.files.create(store, file_id=upload(client))
    assert file.status == "in_progress"
    waiting = client.vector_stores.files.with_raw_response.retrieve(file.id, vector_store_id=store)
    assert waiting.headers["openai-poll-after-ms"] == "100"
    gate.open()
    until(lambda: client.vector_stores.files.retrieve(file.id, vector_store_id=store).status != "in_progress")
    ended = client.vector_stores.files.with_raw_response.retrieve(file.id, vector_store_id=store)
    assert "openai-poll-after-ms" not in ended.headers


def test_attributes_are_replaced_and_filters_go_by_them_at_once(client: openai.OpenAI, store: str) -> None:
    file = client.vector_stores.files.create_and_poll(upload(client), vector_store_id=store, attributes={"n": 1})
    only: Any = {"type": "eq", "key": "n", "value": 2}
    assert found(client, store, filters=only) == []
    changed = client.vector_stores.files.update(file.id, vector_store_id=store, attributes={"n": 2})
    assert changed.attributes == {"n": 2.0}
    assert found(client, store, filters=only) == [file.id]
    assert client.vector_stores.files.update(file.id, vector_store_id=store, attributes=None).attributes == {}
    assert found(client, store, filters=only) == []


@pytest.mark.parametrize(
    "attributes",
    [
        {str(number): number for number in range(17)},
        {"k" * 65: 1},
        {"k": "v" * 513},
        {"k": None},
        {"k": [1]},
    ],
    ids=["pairs", "key", "value", "null", "list"],
)
def test_attributes_have_limits(server: Server, client: openai.OpenAI, store: str, attributes: dict[str, Any]) -> None:
    file = upload(client)
    bodies = {
        "files": {"file_id": file, "attributes": attributes},
        "file_batches": {"file_ids": [file], "attributes": attributes},
    }
    for path, body in bodies.items():
        got = server.post(f"/vector_stores/{store}/{path}", body)
        assert (got.status, got.json["error"]["param"].split(".")[0]) == (400, "attributes")
    largest = {f"{number:064}": "v" * 512 for number in range(16)}
    made = client.vector_stores.files.create(store, file_id=file, attributes=largest)
    assert made.attributes == largest


def test_files_are_listed_in_pages_and_by_status(client: openai.OpenAI, store: str) -> None:
    good = [upload(client) for _ in range(3)]
    bad = upload(client, b"", "empty.txt")
    batch = client.vector_stores.file_batches.create_and_poll(store, file_ids=[*good, bad])
    files = client.vector_stores.files
    assert [file.id for file in files.list(store, limit=2)] == [bad, *reversed(good)]
    assert [file.id for file in files.list(store, order="asc", filter="completed")] == good
    failed = files.list(store, filter="failed").data
    assert [file.id for file in failed] == [bad]
    assert failed[0].last_error is not None
    assert failed[0].last_error.code == "invalid_file"
    assert "0 bytes" in failed[0].last_error.message
    listed = client.vector_stores.file_batches.list_files
    of_batch = listed(batch.id, vector_store_id=store, filter="completed", limit=1)
    assert [file.id for file in of_batch] == good[::-1]
    with pytest.raises(openai.BadRequestError):
        files.list(store, filter="lost")  # type: ignore[arg-type]


def test_content_is_read_in_pages(server: Server, client: openai.OpenAI, store: str) -> None:
    strategy: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    text = " ".join(f"word{number}" for number in range(1000))
    file = client.vector_stores.files.create_and_poll(
        upload(client, text.encode()), vector_store_id=store, chunking_strategy=strategy
    )
    path, texts, page = f"/vector_stores/{store}/files/{file.id}/content", [], ""
    while True:
        got = server.get(f"{path}?limit=7{page}").json
        texts += [part["text"] for part in got["data"]]
        if not got["has_more"]:
            break
        assert len(got["data"]) == 7
        page = f"&page={got['next_page']}"
    assert got["next_page"] is None
    assert "".join(texts) == text
    assert server.get(f"{path}?page=x").status == 400


def test_what_is_not_there_is_not_found(client: openai.OpenAI, store: str) -> None:
    files, batches = client.vector_stores.files, client.vector_stores.file_batches
    other = client.vector_stores.create().id
    file = upload(client)
    batch = batches.create(store, file_ids=[file]).id
    calls: list[Callable[[], Any]] = [
        lambda: client.vector_stores.update("vs_none", name="x"),
        lambda: client.vector_stores.search("vs_none", query="x"),
        lambda: files.create("vs_none", file_id=file),
        lambda: files.create(store, file_id="file-none"),
        lambda: files.retrieve(file, vector_store_id=other),
        lambda: files.update(file, vector_store_id=other, attributes={}),
        lambda: files.content(file, vector_store_id=other),
        lambda: batches.create(store, file_ids=[file, "file-none"]),
        lambda: batches.create("vs_none", file_ids=[file]),
        lambda: batches.retrieve(batch, vector_store_id=other),
        lambda: batches.cancel(batch, vector_store_id=other),
        lambda: batches.list_files(batch, vector_store_id=other),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as refused:
            call()
        assert refused.value.code == "not_found"
    assert client.vector_stores.retrieve(store).file_counts.total == 1


def test_a_deleted_upload_is_found_no_more(client: openai.OpenAI, store: str) -> None:
    kept, gone = (client.vector_stores.files.create_and_poll(upload(client), vector_store_id=store).id for _ in "ab")
    assert sorted(found(client, store)) == sorted([kept, gone])
    client.files.delete(gone)
    assert found(client, store) == [kept]
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.files.retrieve(gone, vector_store_id=store)


# ---------------------------------------------------------------- failures


def test_a_failing_embedding_host_fails_the_file_which_can_be_tried_again(
    client: openai.OpenAI, host: Host, store: str
) -> None:
    file = upload(client)
    host.answer(status(503), status(429), status(400, "Too odd."))
    failed = client.vector_stores.files.create_and_poll(file, vector_store_id=store)
    assert failed.status == "failed"
    assert failed.last_error is not None
    assert failed.last_error.code == "server_error"
    assert f"The embedding model '{MODEL}' failed: " in failed.last_error.message
    assert "Too odd." in failed.last_error.message
    assert found(client, store) == []
    again = client.vector_stores.files.create_and_poll(file, vector_store_id=store)
    assert (again.status, again.last_error) == ("completed", None)
    assert found(client, store) == [file]


def test_vectors_longer_than_the_models_are_refused_or_fail_the_file(client: openai.OpenAI) -> None:
    wanted = {"embedding_model": MODEL, "embedding_dimension": 5}
    known = client.vector_stores.create().model_extra or {}
    if known["embedding_dimension"] is None:  # no answer of the model was seen yet
        store = client.vector_stores.create(extra_body=wanted).id
        failed = client.vector_stores.files.create_and_poll(upload(client), vector_store_id=store)
        assert failed.last_error is not None
        assert failed.last_error.message.endswith("gives vectors of length 4; the vector store has 5.")
    with pytest.raises(openai.BadRequestError, match="has 4 dimensions, so 5 is impossible"):
        client.vector_stores.create(extra_body=wanted)


# ---------------------------------------------------------------- batches


def test_a_batch_attaches_files_with_attributes_of_their_own(client: openai.OpenAI, store: str) -> None:
    first, second = upload(client), upload(client)
    strategy: Any = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}}
    batch = client.vector_stores.file_batches.create(
        store,
        files=[{"file_id": first, "attributes": {"n": 1}}, {"file_id": second, "chunking_strategy": strategy}],
    )
    assert (batch.object, batch.vector_store_id, batch.file_counts.total) == ("vector_store.files_batch", store, 2)
    batch = client.vector_stores.file_batches.poll(batch.id, vector_store_id=store)
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    shown = [client.vector_stores.files.retrieve(id, vector_store_id=store) for id in (first, second)]
    assert [file.attributes for file in shown] == [{"n": 1.0}, {}]
    sizes = [file.chunking_strategy.static.max_chunk_size_tokens for file in shown]  # type: ignore[union-attr]
    assert sizes == [800, 200]


def test_a_cancelled_batch_ingests_nothing_more(client: openai.OpenAI, host: Host, store: str) -> None:
    gate = Gate()
    host.answer(*[Reply(text=["", gate])] * 2)
    files = [upload(client), upload(client)]
    called = len(host.calls)
    batch = client.vector_stores.file_batches.create(store, file_ids=files)
    host.called(called + 1)
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
    assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", 2)
    gate.open()
    assert client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store).status == "cancelled"
    host.reset()
    assert found(client, store) == []
    done = client.vector_stores.file_batches.create_and_poll(store, file_ids=files)
    assert done.file_counts.completed == 2
    with pytest.raises(openai.ConflictError, match="cannot be cancelled: it is completed"):
        client.vector_stores.file_batches.cancel(done.id, vector_store_id=store)


@pytest.mark.parametrize("body", [{}, {"file_ids": []}, {"file_ids": ["a"], "files": [{"file_id": "a"}]}])
def test_a_batch_names_its_files_in_one_way(server: Server, store: str, body: dict[str, Any]) -> None:
    assert server.post(f"/vector_stores/{store}/file_batches", body).status == 400


# ---------------------------------------------------------------- search


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": []},
        {"query": "x", "max_num_results": 0},
        {"query": "x", "max_num_results": 51},
        {"query": "x", "ranking_options": {"score_threshold": 2}},
        {"query": "x", "filters": {"type": "like", "key": "a", "value": "b"}},
        {"query": "x", "search_mode": "psychic"},
    ],
)
def test_what_cannot_be_searched_for_is_refused(server: Server, store: str, body: dict[str, Any]) -> None:
    got = server.post(f"/vector_stores/{store}/search", body)
    assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error")


def test_a_question_is_rewritten_by_a_model_where_there_is_one(
    server: Server, client: openai.OpenAI, host: Host, store: str, tmp_path: Path
) -> None:
    client.vector_stores.files.create_and_poll(upload(client), vector_store_id=store)
    asked = len(host.calls)
    host.answer(Reply(text="ferry Seixal"))
    page = client.vector_stores.search(store, query="How do I get over the river?", rewrite_query=True)
    assert page.model_extra is not None
    assert page.model_extra["search_query"] == ["ferry Seixal"]
    said = [message["content"] for message in host.calls[asked].json["messages"]]
    assert said[-1] == "How do I get over the river?"
    with running(settings(host), tmp_path) as plain, plain.client() as other:
        bare = other.vector_stores.create().id
        got = plain.post(f"/vector_stores/{bare}/search", {"query": ["a", "b"], "rewrite_query": True})
        assert got.json["search_query"] == ["a", "b"]
        assert "no model is configured" in got.headers["x-antiphon-warnings"]


# ---------------------------------------------------------------- Llama Stack's own routes


def test_ready_made_chunks_are_found_with_and_without_vectors(server: Server, client: openai.OpenAI) -> None:
    store = client.vector_stores.create(extra_body={"embedding_model": ""}).id
    chunks = [
        {"content": "zebra", "metadata": {"document_id": "doc-1", "n": 1}, "embedding": [1, 0, 0], "chunk_id": "c1"},
        {"content": [{"type": "text", "text": "okapi"}], "metadata": {"chunk_id": "c2"}, "embedding": [0, 1, 0]},
        {"content": "quagga", "chunk_metadata": {"source": "book"}},
    ]
    inserted = server.post("/vector-io/insert", {"vector_db_id": store, "chunks": chunks, "ttl_seconds": 60})
    assert (inserted.status, inserted.json) == (200, None)
    shown = client.vector_stores.retrieve(store)
    assert (shown.model_extra or {})["embedding_dimension"] == 3
    assert (shown.file_counts.total, client.vector_stores.files.list(store).data) == (0, [])
    got = server.post("/vector-io/query", {"vector_store_id": store, "query": [{"type": "text", "text": "zebra"}]}).json
    assert [chunk["chunk_id"] for chunk in got["chunks"]] == ["c1"]
    assert got["chunks"][0]["metadata"] == {"document_id": "doc-1", "n": 1}
    assert len(got["scores"]) == 1
    about = server.post("/vector-io/query", {"vector_db_id": store, "query": "quagga"}).json["chunks"][0]
    assert about["chunk_metadata"] == {"source": "book"}
    hit = client.vector_stores.search(store, query="zebra").data[0]
    assert (hit.file_id, hit.attributes) == ("doc-1", {"document_id": "doc-1", "n": 1.0})
    wrong = server.post("/vector-io/insert", {"vector_db_id": store, "chunks": [{"content": "x", "embedding": [1]}]})
    assert (wrong.status, wrong.json["error"]["code"]) == (400, "dimension_mismatch")
    assert wrong.json["error"]["message"] == "The embedding has 1 numbers; the vector store has 3."


def test_chunks_are_embedded_where_the_store_has_a_model(server: Server, client: openai.OpenAI, store: str) -> None:
    assert server.post("/vector-io/insert", {"vector_db_id": store, "chunks": [{"content": "zebra"}]}).status == 200
    got = server.post("/vector-io/query", {"vector_db_id": store, "query": "x", "params": {"mode": "vector"}}).json
    assert [chunk["content"] for chunk in got["chunks"]] == ["zebra"]
    file = client.vector_stores.files.create_and_poll(upload(client), vector_store_id=store)
    params = {"mode": "keyword", "max_chunks": 1}
    one = server.post("/vector-io/query", {"vector_db_id": store, "query": "ferry", "params": params}).json["chunks"][0]
    assert one["metadata"] == {"filename": "notes.txt", "document_id": file.id}


@pytest.mark.parametrize(
    ("chunk", "param"),
    [
        ({"content": " "}, "chunks[0].content"),
        ({"content": [{"type": "image"}]}, "chunks[0].content"),
        ({"content": "x", "embedding": []}, "chunks[0].embedding"),
        ({"content": "x", "embedding": [1e300]}, "chunks[0].embedding"),
        ({"metadata": {}}, "chunks[0].content"),
    ],
)
def test_what_is_no_chunk_is_refused(server: Server, store: str, chunk: dict[str, Any], param: str) -> None:
    got = server.post("/vector-io/insert", {"vector_db_id": store, "chunks": [chunk]})
    assert (got.status, got.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize("path", ["insert", "query"])
def test_a_store_must_be_named_and_be_there(server: Server, path: str) -> None:
    body: dict[str, Any] = {"chunks": []} if path == "insert" else {"query": "x"}
    assert server.post(f"/vector-io/{path}", body).status == 400
    assert server.post(f"/vector-io/{path}", {**body, "vector_db_id": "vs_none"}).status == 404


def test_indexes_are_listed_among_the_providers(server: Server) -> None:
    listed = [each for each in server.get("/providers").json["data"] if each["api"] == "vector_io"]
    assert [each["provider_id"] for each in listed] == ["embedded", "faiss", "sqlite-vec"]
    assert server.get("/providers/faiss").json["api"] == "vector_io"


def test_the_older_path_serves_the_same(server: Server, store: str) -> None:
    assert server.ask("GET", f"/v1/openai/v1/vector_stores/{store}").json["id"] == store
