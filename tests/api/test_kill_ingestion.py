"""kill -9 in the middle of ingestion, again and again: every file ends, whole or not at all (promise P12)."""

import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from antiphon.testing.host import Host, Reply, Request
from antiphon.testing.script import Raw, embeddings, status, whole
from antiphon.testing.server import Server, running

FILES = 12
PIECES = 30
KILLS = (3, 10, 30)
"""How many calls the host has had when the server is killed."""
DEADLINE_S = 60.0
STRATEGY = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
NEVER = "unwanted"
"""What the scripted host refuses to embed."""


def text(number: int) -> str:
    """A text of some pieces; the last file has one that the host refuses."""
    refused = f" {NEVER}" if number == FILES - 1 else ""
    return " ".join(f"file{number}word{at}" for at in range(20 * PIECES)) + refused


def start(server: Server) -> tuple[str, list[str]]:
    """A store and the files that are attached to it."""
    with server.client() as client:
        files = [
            client.files.create(file=(f"{number}.txt", text(number).encode()), purpose="assistants").id
            for number in range(FILES)
        ]
        store = client.vector_stores.create().id
        strategy: Any = STRATEGY
        client.vector_stores.file_batches.create(store, file_ids=files, chunking_strategy=strategy)
        return store, files


def ended(server: Server, store: str) -> dict[str, Any]:
    """Every file, when none is in progress any more."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = {each["id"]: each for each in server.get(f"/vector_stores/{store}/files?limit=100").json["data"]}
        if all(each["status"] != "in_progress" for each in found.values()):
            return found
        assert time.monotonic() < deadline, Counter(each["status"] for each in found.values())


def content(server: Server, store: str, file: str) -> str:
    """All texts that are in the store of a file."""
    page = server.get(f"/vector_stores/{store}/files/{file}/content?limit=10000").json
    assert not page["has_more"]
    return "".join(part["text"] for part in page["data"])


def test_files_end_whole_or_not_at_all_whenever_the_server_is_killed(host: Host, tmp_path: Path) -> None:
    reached, count = threading.Condition(), 0

    def answer(request: Request) -> Reply | Raw:
        nonlocal count
        with reached:
            count += 1
            reached.notify_all()
        return status(400, NEVER) if NEVER in str(request.json["input"]) else whole(embeddings(request.json))

    host.by_request = answer
    models = {"my-embed": {"kind": "embedding"}}
    settings = {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom", "models": models}},
        "vector_stores": {"embed_texts_max": 8, "ingest_at_once": 3},
        "background": {"lease_s": 1},
    }
    store, files = "", list[str]()
    for kill in KILLS:
        with running(settings, tmp_path, process=True) as server:
            if not store:
                store, files = start(server)
            with reached:
                assert reached.wait_for(lambda kill=kill: count >= kill, DEADLINE_S), (count, kill)
            server.kill()
    with running(settings, tmp_path, process=True) as server:
        found = ended(server, store)
        assert [found[file]["status"] for file in files] == ["completed"] * (FILES - 1) + ["failed"]
        assert NEVER in found[files[-1]]["last_error"]["message"]
        for number, file in enumerate(files[:-1]):
            assert content(server, store, file) == text(number)
        hits = server.post(f"/vector_stores/{store}/search", {"query": "file11word0", "search_mode": "keyword"}).json
        assert files[-1] not in [hit["file_id"] for hit in hits["data"]]
    with closing(sqlite3.connect(tmp_path / "data" / "antiphon.db")) as database:
        counting = dict(database.execute("SELECT id, attempt FROM vector_store_files WHERE status = 'completed'"))
        kept = set(database.execute("SELECT file, attempt FROM vector_chunks"))
    assert kept == set(counting.items()), "the index has what counts and nothing else"
