"""The official client drives batches: files in, files out, errors by line, cancel, expiry, lists."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing.host import CLOSE, Gate, Host, Raw, Reply, Request, status
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
CHAT = "/v1/chat/completions"
DEADLINE_S = 30.0


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    """A request of a batch: a chat about its own name, unless told otherwise."""
    if not body and url == CHAT:
        body = {"messages": [{"role": "user", "content": custom_id}]}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": MODEL, **body}}


def start(client: openai.OpenAI, lines: list[Any], endpoint: Any = CHAT, **more: Any) -> Any:
    """A batch of these lines; what is not text already is written as JSON."""
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def until(client: openai.OpenAI, batch: Any, *wanted: str) -> Any:
    """The batch as soon as it has one of these statuses."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := client.batches.retrieve(batch.id)).status not in wanted:
        assert time.monotonic() < deadline, found
    return found


def output(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    """The lines of an output or error file."""
    assert file_id is not None
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def asked(request: Request) -> str:
    """What the model was asked in a chat."""
    return str(request.json["messages"][-1]["content"])


@pytest.fixture
def own(host: Host, tmp_path: Path) -> Iterator[Server]:
    """A server whose files are small, and that asks again at once."""
    batches = {"lines_max": 3, "input_bytes_max": 2000, "retry_s": 0.01, "lines_at_once": 2}
    hosts = {"scripted": {"base_url": host.url, "preset": "custom"}}
    with running({"hosts": hosts, "batches": batches}, tmp_path) as started:
        yield started


# ---------------------------------------------------------------- the endpoints


def test_a_batch_of_chats_goes_from_file_to_file(client: openai.OpenAI, host: Host) -> None:
    host.by_request = lambda request: Reply(text=[f"about {asked(request)}"])
    made = start(client, [line(f"id {number}") for number in range(20)], metadata={"k": "v"})
    assert (made.object, made.status, made.endpoint, made.metadata) == ("batch", "validating", CHAT, {"k": "v"})
    assert made.expires_at == made.created_at + 86_400
    assert made.id.startswith("batch_")
    done = until(client, made, "completed")
    assert done.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    assert (done.errors, done.error_file_id, done.model) == (None, None, MODEL)
    assert made.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    lines = output(client, done.output_file_id)
    assert [each["custom_id"] for each in lines] == [f"id {number}" for number in range(20)]
    assert len({each["id"] for each in lines}) == 20
    for each in lines:
        assert each["error"] is None
        assert each["response"]["status_code"] == 200
        assert each["response"]["request_id"].startswith("req_")
        answer = each["response"]["body"]
        assert answer["choices"][0]["message"]["content"] == f"about {each['custom_id']}"
    usage = [each["response"]["body"]["usage"] for each in lines]
    assert done.usage.input_tokens == sum(each["prompt_tokens"] for each in usage) > 0
    assert done.usage.output_tokens == sum(each["completion_tokens"] for each in usage) > 0
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens


def test_the_output_is_a_file_that_expires_when_it_was_told_to(client: openai.OpenAI, host: Host) -> None:
    seconds = {"anchor": "created_at", "seconds": 3600}
    done = until(client, start(client, [line("a")], output_expires_after=seconds), "completed")
    file = client.files.retrieve(done.output_file_id)
    assert (file.purpose, file.filename) == ("batch_output", f"{done.id}_output.jsonl")
    assert file.expires_at == file.created_at + 3600
    assert file.id in [each.id for each in client.files.list(purpose="batch_output")]


def test_responses_are_stored_like_those_of_clients(client: openai.OpenAI, host: Host) -> None:
    batch = start(client, [line(name, "/v1/responses", input=name) for name in "abc"], "/v1/responses")
    done = until(client, batch, "completed")
    for each in output(client, done.output_file_id):
        found = client.responses.retrieve(each["response"]["body"]["id"])
        assert found.output_text == "Hello there."
        (item,) = client.responses.input_items.list(found.id)
        assert item.content[0].text == each["custom_id"]
    assert done.usage.total_tokens > 0


def test_completions_and_embeddings_are_answered(client: openai.OpenAI, host: Host) -> None:
    texts = [line(name, "/v1/completions", prompt=name) for name in "ab"]
    done = until(client, start(client, texts, "/v1/completions"), "completed")
    bodies = [each["response"]["body"] for each in output(client, done.output_file_id)]
    assert [body["object"] for body in bodies] == ["text_completion"] * 2
    vectors = [line(name, "/v1/embeddings", input=[name, name]) for name in "ab"]
    done = until(client, start(client, vectors, "/v1/embeddings"), "completed")
    bodies = [each["response"]["body"] for each in output(client, done.output_file_id)]
    assert [len(body["data"]) for body in bodies] == [2, 2]


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[]", "invalid_request", None),
        ({"method": "POST", "url": CHAT, "body": {}}, "missing_required_parameter", "custom_id"),
        ({**line("x"), "custom_id": 7}, "invalid_request", "custom_id"),
        ({**line("x"), "method": "GET"}, "invalid_method", "method"),
        ({**line("x"), "url": "/v1/embeddings"}, "invalid_url", "url"),
        ({**line("x"), "body": "text"}, "invalid_request", "body"),
        ({**line("x"), "body": {"messages": []}}, "invalid_request", "body.model"),
        ({**line("x"), "body": {"model": MODEL}}, "invalid_request", "body.messages"),
        (line("x", messages=[], stream=True), "streaming_unsupported", "body.stream"),
        (line("x", messages=[], background=True), "background_unsupported", "body.background"),
        (line("first"), "duplicate_custom_id", "custom_id"),
        ({**line("x"), "body": {"model": "no-such-model", "messages": []}}, "model_not_found", "body.model"),
    ],
)
def test_a_wrong_line_fails_the_batch(
    client: openai.OpenAI, host: Host, wrong: Any, code: str, param: str | None
) -> None:
    failed = until(client, start(client, [line("first"), "", wrong]), "failed")
    assert [(each.code, each.line, each.param) for each in failed.errors.data] == [(code, 3, param)]
    assert failed.errors.data[0].message
    assert failed.failed_at >= failed.created_at
    assert (failed.output_file_id, failed.error_file_id) == (None, None)
    assert host.calls == []


def test_every_wrong_line_is_told(client: openai.OpenAI) -> None:
    failed = until(client, start(client, ["{", line("a"), "{", line("a")]), "failed")
    assert [each.line for each in failed.errors.data] == [1, 3, 4]


def test_an_empty_file_fails_the_batch(client: openai.OpenAI) -> None:
    failed = until(client, start(client, ["", " "]), "failed")
    assert [each.code for each in failed.errors.data] == ["empty_file"]


def test_limits_of_the_input_are_named(own: Server) -> None:
    client = own.client()
    many = until(client, start(client, [line(str(number)) for number in range(4)]), "failed")
    assert [(each.code, each.line) for each in many.errors.data] == [("too_many_requests", 4)]
    large = until(client, start(client, [line("x" * 2000)]), "failed")
    assert [each.code for each in large.errors.data] == ["file_too_large"]
    client.close()


@pytest.mark.parametrize("endpoint", ["/v1/moderations", "/v1/nonsense"])
def test_other_endpoints_are_refused(client: openai.OpenAI, endpoint: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/embeddings") as refused:
        start(client, [line("a")], endpoint)
    assert refused.value.param == "endpoint"


def test_another_window_or_file_is_refused(client: openai.OpenAI) -> None:
    file = client.files.create(file=b"{}", purpose="evals")
    for given, kind, param in (
        ({"input_file_id": file.id}, openai.BadRequestError, "input_file_id"),
        ({"input_file_id": "file-none"}, openai.NotFoundError, "input_file_id"),
        ({"input_file_id": file.id, "completion_window": "48h"}, openai.BadRequestError, "completion_window"),
    ):
        with pytest.raises(kind) as refused:
            client.batches.create(**{"endpoint": CHAT, "completion_window": "24h", **given})
        assert refused.value.param == param


def test_a_refused_request_is_in_the_error_file_as_a_client_would_see_it(
    client: openai.OpenAI, server: Server, host: Host
) -> None:
    wrong = {"messages": [{"role": "user", "content": "x"}], "temperature": "warm"}
    batch = start(client, [line("good"), line("wrong", **wrong), line("refused")])
    host.by_request = lambda request: status(401, "bad key") if asked(request) == "refused" else None
    done = until(client, batch, "completed")
    assert done.request_counts.to_dict()["completed"] + done.request_counts.failed == 3
    errors = {each["custom_id"]: each for each in output(client, done.error_file_id)}
    direct = server.post("/chat/completions", {"model": MODEL, **wrong})
    assert errors["wrong"]["response"]["status_code"] == direct.status == 400
    assert errors["wrong"]["response"]["body"] == direct.json
    assert "good" in [each["custom_id"] for each in output(client, done.output_file_id)]


@pytest.mark.parametrize("trouble", [status(429), status(503), Raw(head=False, steps=[CLOSE])])
def test_a_host_that_is_busy_or_away_is_asked_again(own: Server, host: Host, trouble: Any) -> None:
    host.answer(trouble, trouble)
    with own.client() as client:
        done = until(client, start(client, [line("a")]), "completed")
        assert done.request_counts.to_dict() == {"total": 1, "completed": 1, "failed": 0}
    assert len(host.calls) == 3


# ---------------------------------------------------------------- while it runs, and before its end


def test_counts_are_true_while_it_runs(client: openai.OpenAI, host: Host) -> None:
    gates = {name: Gate() for name in "abc"}
    host.by_request = lambda request: Reply(text=[gates[asked(request)], "x"])
    batch = start(client, [line(name) for name in gates])
    for count, gate in enumerate(gates.values()):
        found = client.batches.retrieve(batch.id)
        deadline = time.monotonic() + DEADLINE_S
        while found.request_counts.completed < count or found.request_counts.total < 3:
            assert time.monotonic() < deadline
            found = client.batches.retrieve(batch.id)
        assert (found.status, found.request_counts.completed, found.request_counts.total) == ("in_progress", count, 3)
        gate.open()
    until(client, batch, "completed")


def test_a_cancelled_batch_keeps_what_it_has(client: openai.OpenAI, host: Host) -> None:
    gate = Gate()
    host.by_request = lambda request: Reply(text=[gate, "x"]) if asked(request) != "fast" else None
    batch = start(client, [line("fast"), line("slow"), line("other")])
    deadline = time.monotonic() + DEADLINE_S
    while client.batches.retrieve(batch.id).request_counts.completed < 1:
        assert time.monotonic() < deadline
    told = client.batches.cancel(batch.id)
    assert told.status in ("cancelling", "cancelled")
    assert told.cancelling_at is not None
    done = until(client, batch, "cancelled")
    assert client.batches.cancel(batch.id) == done
    assert [each["custom_id"] for each in output(client, done.output_file_id)] == ["fast"]
    errors = output(client, done.error_file_id)
    assert [(each["custom_id"], each["response"]) for each in errors] == [("slow", None), ("other", None)]
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    assert done.request_counts.to_dict() == {"total": 3, "completed": 1, "failed": 2}
    for request in host.calls:
        if asked(request) != "fast":
            request.abort_seen()
    gate.open()


def test_what_has_ended_cannot_be_cancelled(client: openai.OpenAI, host: Host) -> None:
    done = until(client, start(client, [line("a")]), "completed")
    with pytest.raises(openai.ConflictError, match="completed"):
        client.batches.cancel(done.id)


def test_a_batch_expires_with_what_it_has(host: Host, tmp_path: Path) -> None:
    hosts = {"scripted": {"base_url": host.url, "preset": "custom"}}
    gate = Gate()
    host.by_request = lambda request: Reply(text=[gate, "x"]) if asked(request) != "fast" else None
    with (
        running({"hosts": hosts, "batches": {"window_s": 4}}, tmp_path) as server,
        server.client() as client,
    ):
        done = until(client, start(client, [line("fast"), line("slow"), line("other")]), "expired")
        assert done.expired_at >= done.expires_at
        assert [each["custom_id"] for each in output(client, done.output_file_id)] == ["fast"]
        errors = output(client, done.error_file_id)
        assert [(each["custom_id"], each["error"]["code"]) for each in errors] == [
            ("slow", "batch_expired"),
            ("other", "batch_expired"),
        ]
    gate.open()


def test_clients_come_before_batches(host: Host, tmp_path: Path) -> None:
    settings = {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
        "batches": {"live_max": 1, "lines_at_once_busy": 0},
    }
    gate = Gate()
    host.by_request = lambda request: Reply(text=[gate, "x"]) if asked(request) == "live" else None
    with running(settings, tmp_path) as server, server.client() as client:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "live"}]})
        live = [server.connect() for _ in range(2)]
        for connection in live:
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        host.called(2)
        batch = start(client, [line("a"), line("b")])
        until(client, batch, "in_progress")
        for _ in range(20):
            assert client.batches.retrieve(batch.id).request_counts.completed == 0
        assert [asked(request) for request in host.calls] == ["live", "live"]
        gate.open()
        for connection in live:
            assert connection.getresponse().status == 200
            connection.close()
        until(client, batch, "completed")


# ---------------------------------------------------------------- lists, and others'


def test_lists_page_from_the_newest(client: openai.OpenAI) -> None:
    made = [start(client, ["{"]).id for _ in range(5)]
    page = client.batches.list(limit=2)
    assert ([each.id for each in page.data], page.has_more) == ([made[4], made[3]], True)
    page = client.batches.list(limit=2, after=made[3])
    assert [each.id for each in page.data] == [made[2], made[1]]
    assert [each.id for each in client.batches.list(limit=2)][:5] == made[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "after=batch_none"])
def test_queries_that_make_no_sense_are_refused(server: Server, query: str) -> None:
    got = server.get(f"/batches?{query}")
    assert (got.status, got.json["error"]["param"]) == (400, query.partition("=")[0])


def test_an_unknown_batch_is_not_found(client: openai.OpenAI) -> None:
    for refusal in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="batch_none"):
            refusal("batch_none")


# ---------------------------------------------------------------- recorded ones


def test_recorded_batches_are_replayed_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    recordings = shared / "recordings" / "batches"
    requests = [json.loads(path.read_bytes())["request"] for path in sorted(recordings.glob("*.json"))]
    settings = {"mode": "replay", "recordings": str(recordings)}
    seen = []
    for place in ("one", "two"):
        with running(settings, tmp_path / place) as server, server.client() as client:
            for endpoint in (CHAT, "/v1/completions", "/v1/embeddings"):
                bodies = [each["body"] for each in requests if each["endpoint"] == endpoint]
                lines = [
                    {"custom_id": f"r{number}", "method": "POST", "url": endpoint, "body": body}
                    for number, body in enumerate(bodies)
                ]
                done = until(client, start(client, lines, endpoint), "completed")
                assert done.request_counts.to_dict() == {"total": len(lines), "completed": len(lines), "failed": 0}
                seen.append((place, client.files.content(done.output_file_id).read()))
    half = len(seen) // 2
    assert [content for _, content in seen[:half]] == [content for _, content in seen[half:]]
