"""Llama Stack's own digests, recomputed for every recording that this project has.

The counts are exact. Those that do not match cannot: they were recorded by older rules, or edited by hand afterwards
(`reference/llama-stack-0.3.md`, 6.8). Tolerant matching reaches them all the same.
"""

from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from antiphon.exchange import Outgoing, Replay
from antiphon.replay import llama_stack
from antiphon.replay.entries import LLAMA_STACK
from antiphon.replay.library import Library, wanted_from
from antiphon.replay.verify import wanted_for

# directory: (files, digest equals the name, of these calls of a tool)
EXPECTED = {
    "agents": (346, 331, 0),
    "batches": (7, 7, 0),
    "common": (26, 26, 0),
    "eval": (8, 8, 0),
    "files": (6, 6, 0),
    "inference": (104, 104, 0),
    "responses": (421, 356, 2),
    "safety": (46, 46, 0),
    "telemetry": (5, 5, 0),
    "tool_runtime": (19, 15, 0),
    "vector_io": (344, 344, 0),
}
SERVED = 1194
"""Model calls and calls of a web search among all files; the others are model lists and `ollama ps`."""
REACHED_OVER_HTTP = 1109
"""Of these, the ones whose digest follows from the HTTP request that we would send, by Llama Stack's rules alone: all
that match at all but one, in which a test sent `messages` to `/completions`."""


def recomputed(file: Path) -> tuple[str, bool]:
    """The digest that a recording should be named after, and whether it is a tool's."""
    found = llama_stack.read_file(file)
    call = found.request
    if call.tool_name:
        return llama_stack.tool_digest(call.provider, call.tool_name, call.kwargs), True
    kwargs = msgspec.json.decode(call.body)
    return llama_stack.request_digest(call.method, urlsplit(call.url).path, kwargs, test_id=found.test_id), False


def test_the_digest_of_every_recording_is_its_name(shared: Path) -> None:
    files: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    tools: Counter[str] = Counter()
    for file in sorted((shared / "recordings").rglob("*.json")):
        match = llama_stack.FILE_NAME.fullmatch(file.name)
        assert match, file
        digest, tool = recomputed(file)
        suite = file.parent.name
        files[suite] += 1
        equal[suite] += digest == match["digest"]
        tools[suite] += tool and digest == match["digest"]
    assert {suite: (files[suite], equal[suite], tools[suite]) for suite in files} == EXPECTED
    assert (sum(files.values()), sum(equal.values())) == (1332, 1248)


def test_the_digest_follows_from_the_http_request(shared: Path) -> None:
    library = Library.open(shared / "recordings", "strict")
    calls = [entry for entry in library.entries if entry.method == "POST" and entry.format == LLAMA_STACK]
    assert len(calls) == SERVED
    reached = 0
    for entry in calls:
        wanted = wanted_for(entry, entry.body)
        reached += entry.key in llama_stack.digests(wanted.url, wanted.body, wanted.test_id)
    assert reached == REACHED_OVER_HTTP


def test_tolerant_matching_reaches_every_model_call(shared: Path) -> None:
    library = Library.open(shared / "recordings", "tolerant")
    calls = [entry for entry in library.entries if entry.method == "POST"]
    missed = [entry.place for entry in calls if library.knows(wanted_for(entry, entry.body)) is None]
    assert missed == []


def test_the_empty_model_list_has_the_published_digest() -> None:
    (digest,) = llama_stack.digests("https://api.openai.com/v1/models", None, None)
    assert digest == "64a2277c90f0f42576f60c1030e3a020403d34a95f56931b792d5939f4cebc57"


def test_the_first_file_of_a_test_has_the_published_id() -> None:
    test_id = (
        "tests/integration/responses/test_tool_responses.py::test_response_sequential_file_search"
        "[openai_client-txt=openai/gpt-4o:emb=openai/text-embedding-3-small:dim=1536]"
    )
    assert llama_stack.deterministic_id("file", test_id, 1) == "file-690481987689"
    assert llama_stack.deterministic_id("vector_store", test_id, 3) == "vs_690481987691"


def test_ids_are_counted_for_each_test_and_kind() -> None:
    ids = llama_stack.NumberedIds()
    given = [
        ids.next(kind, test) for kind, test in (("file", "a"), ("file", "b"), ("vector_store", "a"), ("file", "a"))
    ]
    expected = [("file", "a", 1), ("file", "b", 1), ("vector_store", "a", 1), ("file", "a", 2)]
    assert given == [llama_stack.deterministic_id(*each) for each in expected]


@pytest.mark.parametrize(
    ("test_id", "suite"),
    [
        ("tests/integration/agents/test_agents.py::test_x[a/b]", "agents"),
        ("tests/unit/test_x.py::test_x", "common"),
        (None, "common"),
    ],
)
def test_a_test_id_names_a_directory(test_id: str | None, suite: str) -> None:
    assert llama_stack.suite_of(test_id) == suite


def test_numbers_are_rounded_and_typed_before_hashing() -> None:
    def digest(body: bytes) -> str:
        parsed = msgspec.json.decode(body)
        return llama_stack.digests("http://h/v1/chat/completions", parsed, None)[0]

    one = digest(b'{"model": "m", "temperature": 0, "messages": [{"content": "score 0.1234567"}], "x": null}')
    other = digest(b'{"messages": [{"content": "score 0.12346"}], "model": "m", "temperature": 0.0}')
    assert one == other
    assert one != digest(b'{"model": "m", "temperature": 0.1, "messages": [{"content": "score 0.12346"}]}')


def test_unknown_members_count_as_extra_body() -> None:
    given = {"model": "m", "prompt": "p", "guided_choice": ["a"]}
    kwargs = {"model": "m", "prompt": "p", "extra_body": {"guided_choice": ["a"]}}
    expected = llama_stack.request_digest("POST", "/v1/v1/completions", kwargs, test_id="t")
    assert llama_stack.digests("http://h/v1/completions", given, "t")[0] == expected


def test_embeddings_always_say_their_encoding() -> None:
    kwargs = {"model": "m", "input": ["a"], "encoding_format": "float"}
    expected = llama_stack.request_digest("POST", "/v1/v1/embeddings", kwargs, test_id=None)
    assert llama_stack.digests("http://h/v1/embeddings", {"model": "m", "input": ["a"]}, None) == [expected]


def test_other_endpoints_have_no_digest() -> None:
    assert llama_stack.digests("http://h/v1/audio/speech", {}, None) == []


def test_a_look_up_is_made_for_the_test_of_the_request(shared: Path) -> None:
    library = Library.open(shared / "recordings", "strict")
    entry = next(each for each in library.entries if each.key.startswith("5d00fd96"))
    wanted = wanted_for(entry, entry.body)
    assert library.knows(wanted) == entry
    outgoing = Outgoing(
        method="POST",
        url="https://anywhere.example/v1/chat/completions",
        headers={},
        body=entry.raw_body,
        replay=Replay(test_id=entry.test_id),
    )
    assert library.knows(wanted_from(outgoing)) == entry
    assert library.knows(wanted_from(msgspec.structs.replace(outgoing, replay=Replay(test_id="other")))) is None
