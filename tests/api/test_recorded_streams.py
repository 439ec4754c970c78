"""What real models said, recorded by Llama Stack's tests, played through the whole server.

Every recorded chat stream in `../shared/recordings` is asked for again as a response: its messages become input items,
its functions tools. Each stream must keep the rules and bring exactly the recorded text and calls.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from antiphon.replay.tolerant import key_of
from antiphon.testing.rules import Broken, Stream, check
from antiphon.testing.server import Server, running

SHARES = 8
"""The recordings are spread over so many tests, so that they can run side by side."""
SEEDS = {
    "responses/8ce76cb00986647bbb2175d73915eee068824175e094bf70e5d0fe4711550632.json",
    "agents/5d00fd96a13e0fd9786eaa02261b0c38eb5b6d02ce0a0f3c8d2aaa5aa1b7d5af.json",
}
HOSTS = {"https://api.openai.com": "openai", "http://0.0.0.0:11434": "ollama", "http://localhost:11434": "ollama"}

Said = tuple[str, tuple[tuple[str, str], ...]]
"""Text, and name and arguments of each call."""


class Recording(Struct, frozen=True, kw_only=True):
    """One recorded chat stream."""

    name: str
    test_id: str | None
    host: str
    body: dict[str, Any]
    said: Said
    finish: str | None

    @property
    def question(self) -> tuple[str | None, str, str | None]:
        """What recordings that may answer the same request have in common."""
        return self.test_id, self.host, key_of("/chat/completions", self.body)


def read(folder: Path, file: Path) -> Recording | None:
    """The recording in a file; None if it is no chat stream."""
    text = file.read_text()
    found = json.loads(text)
    for renamed, original in found.get("id_normalization_mapping", {}).items():
        text = text.replace(original, renamed)
    found = json.loads(text)
    request, response = found["request"], found["response"]
    if not str(request.get("endpoint", "")).endswith("/chat/completions") or not response["is_streaming"]:
        return None
    chunks = [chunk["__data__"] for chunk in response["body"]]
    place = next(name for prefix, name in HOSTS.items() if request["url"].startswith(prefix))
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return Recording(
        name=str(file.relative_to(folder)),
        test_id=found.get("test_id"),
        host=place,
        body=request["body"],
        said=said_in(choices),
        finish=next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), None),
    )


def said_in(choices: list[dict[str, Any]]) -> Said:
    """What a model's chunks add up to."""
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    calls: dict[int, list[str]] = {}
    for choice in choices:
        for call in choice["delta"].get("tool_calls") or ():
            found = calls.setdefault(call["index"], ["", ""])
            found[0] += call["function"].get("name") or ""
            found[1] += call["function"].get("arguments") or ""
    return text, tuple((name, arguments) for name, arguments in calls.values())


@cache
def recordings(folder: Path) -> list[Recording]:
    """Every recorded chat stream, in order of file names."""
    return [one for file in sorted(folder.rglob("*.json")) if (one := read(folder, file)) is not None]


def items(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Chat messages as input items."""
    for message in messages:
        if message["role"] == "tool":
            output = parts(message["content"])
            yield {"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}
            continue
        if message.get("content"):
            yield {"role": message["role"], "content": parts(message["content"])}
        for call in message.get("tool_calls") or ():
            yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def parts(content: Any) -> Any:
    """Chat content parts as input parts."""
    if isinstance(content, str):
        return content
    return [
        {"type": "input_image", "detail": "auto", "image_url": part["image_url"]["url"]}
        if part["type"] == "image_url"
        else {"type": "input_text", "text": part["text"]}
        for part in content
    ]


def request(recording: Recording) -> dict[str, Any]:
    """The recorded chat request as a request for a response."""
    body = recording.body
    made = {
        "model": f"{recording.host}/{body['model']}",
        "input": list(items(body["messages"])),
        "stream": True,
        "store": False,
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "tools": [{"type": "function", **tool["function"]} for tool in body.get("tools") or ()],
    }
    if form := body.get("response_format"):
        made["text"] = {"format": {**form.get("json_schema", {}), "type": form["type"]}}
    return made


def heard(stream: Stream) -> Said:
    """What a stream's items add up to."""
    calls = tuple((call["name"], call["arguments"]) for call in stream.of("function_call"))
    return stream.text, calls


@pytest.fixture(scope="module")
def replaying(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without any host that answers from the recordings."""
    settings = {
        "mode": "replay",
        "recordings": str(shared / "recordings"),
        "recordings_match": "tolerant",
        "hosts": {
            "openai": {"base_url": "https://api.openai.com/v1", "key": "none"},
            "ollama": {"base_url": "http://127.0.0.1:11434/v1"},
        },
    }
    with running(settings, tmp_path_factory.mktemp("replaying")) as started:
        yield started


def problems(server: Server, recording: Recording, answers: set[Said], **more: Any) -> Iterator[str]:
    """What is wrong with the server's version of a recording."""
    header = {"X-LlamaStack-Provider-Data": json.dumps({"__test_id": recording.test_id})} if recording.test_id else {}
    got = server.post("/responses", request(recording) | more, header)
    if got.status != 200:
        yield f"{recording.name}: {got.status} {got.body[:500].decode()}"
        return
    try:
        stream = check(got.body)
    except Broken as error:
        yield f"{recording.name}: {error}"
        return
    if heard(stream) not in answers:
        yield f"{recording.name}: {heard(stream)!r} instead of {recording.said!r}"
    if stream.types[-1] != "response.completed":
        yield f"{recording.name}: {stream.types[-1]} {stream.response['error']!r}"
    if more:
        for after in (-1, len(stream.events) // 2):
            query = "" if after < 0 else f"&starting_after={after}"
            again = server.get(f"/responses/{stream.response['id']}?stream=true{query}").body
            if again != b"".join(part + b"\n\n" for part in got.body.split(b"\n\n")[after + 1 : -1]):
                yield f"{recording.name}: another stream after event {after}"


def answers_of(known: list[Recording]) -> dict[Any, set[Said]]:
    """What may be said to each question: some were asked several times."""
    answers: dict[Any, set[Said]] = {}
    for recording in known:
        answers.setdefault(recording.question, set()).add(recording.said)
    return answers


@pytest.mark.parametrize("share", range(SHARES))
def test_recorded_streams_keep_the_rules_and_lose_nothing(replaying: Server, shared: Path, share: int) -> None:
    known = recordings(shared / "recordings")
    answers, mine = answers_of(known), known[share::SHARES]
    found = [problem for one in mine for problem in problems(replaying, one, answers[one.question])]
    assert len(mine) >= 25
    assert found == []


@pytest.mark.parametrize("share", range(SHARES))
def test_recorded_streams_go_through_the_queue_and_the_journal_to_the_byte(
    replaying: Server, shared: Path, share: int
) -> None:
    known = recordings(shared / "recordings")
    answers, mine = answers_of(known), known[share::SHARES]
    found = [
        problem
        for one in mine
        for problem in problems(replaying, one, answers[one.question], background=True, store=True)
    ]
    assert len(mine) >= 25
    assert found == []


def test_the_recordings_are_many_and_of_both_kinds(shared: Path) -> None:
    known = recordings(shared / "recordings")
    assert len(known) >= 200
    assert {one.body["model"] for one in known} >= {"gpt-4o", "llama3.2:3b-instruct-fp16"}
    for kind in (0, 1):
        assert sum(bool(one.said[kind]) for one in known) >= 50
    assert {one.name for one in known} >= SEEDS


def test_the_seeds_are_answered_from_their_own_recordings(replaying: Server, shared: Path) -> None:
    seeds = [one for one in recordings(shared / "recordings") if one.name in SEEDS]
    found = [problem for one in seeds for problem in problems(replaying, one, {one.said})]
    assert (len(seeds), found) == (2, [])
