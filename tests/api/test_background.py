"""Background responses: queued, polled, followed, cut and resumed, cancelled; and stored streams that lost a client."""

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing.host import HANG, Call, Gate, Host, Raw, Reply, status
from antiphon.testing.rules import check
from antiphon.testing.server import Server, running, until

MODEL = "scripted/scripted-model"
WAIT_S = 10.0
HI = {"model": MODEL, "input": "Hi"}
BACKGROUND = {**HI, "background": True}


def ended(server: Server, id: str) -> dict[str, Any]:
    """The response, once it has ended."""
    return until(
        lambda: server.get(f"/responses/{id}").json, lambda got: got["status"] not in ("queued", "in_progress")
    )


def follow(server: Server, id: str, after: int | None = None) -> bytes:
    """The response's stream to its end, after an event."""
    query = "" if after is None else f"&starting_after={after}"
    got = server.get(f"/responses/{id}?stream=true{query}")
    assert got.status == 200, got.body
    return got.body


OPEN: "list[Streaming]" = []


@pytest.fixture(autouse=True)
def no_stream_is_left_open() -> Iterator[None]:
    """Closes what a test has opened."""
    yield
    while OPEN:
        OPEN.pop().leave()


class Streaming:
    """A stream that is read event by event, and may be left."""

    def __init__(self, server: Server, body: dict[str, Any] | None, path: str = "/responses") -> None:
        self.connection = server.connect()
        method = "GET" if body is None else "POST"
        data = None if body is None else json.dumps({**body, "stream": True})
        self.connection.request(method, f"/v1{path}", data, {"content-type": "application/json"})
        self.answer = self.connection.getresponse()
        self.raw = b""
        OPEN.append(self)

    def frames(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Frames and their events, as they come."""
        frame = b""
        while line := self.answer.readline():
            frame += line
            if line == b"\n":
                self.raw += frame
                if frame != b"data: [DONE]\n\n":
                    yield frame, json.loads(frame.partition(b"\ndata: ")[2])
                frame = b""

    def until(self, kind: str) -> dict[str, Any]:
        """Reads up to the first event of this type."""
        return next(event for _, event in self.frames() if event["type"] == kind)

    def leave(self) -> None:
        """Closes the connection."""
        self.answer.close()
        self.connection.close()


def test_a_background_response_is_queued_and_then_completed(server: Server, client: openai.OpenAI, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    made = client.responses.create(model=MODEL, input="Hi", background=True)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    gate.wait()
    assert until(lambda: client.responses.retrieve(made.id).status, lambda got: got != "queued") == "in_progress"
    gate.open()
    response = ended(server, made.id)
    assert (response["status"], response["output"][0]["content"][0]["text"]) == ("completed", "Hello")
    assert response["background"] is True


def test_a_background_stream_keeps_all_rules_and_tells_of_the_queue(server: Server, host: Host) -> None:
    stream = server.stream(input="Hi", background=True)
    kinds = [event["type"] for event in stream.events]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert stream.response["background"] is True


@pytest.mark.parametrize("background", [False, True])
def test_a_stream_that_is_cut_anywhere_goes_on_to_the_byte(server: Server, host: Host, background: bool) -> None:
    host.answer(Reply(reasoning=["Hm"], text=["one ", "two ", "three"], calls=[Call(name="f", arguments=["{", "}"])]))
    tools = [{"type": "function", "name": "f"}]
    whole = Streaming(server, {**HI, "tools": tools, "background": background})
    frames = list(whole.frames())
    assert len(frames) > 15
    check(whole.raw)
    id = frames[0][1]["response"]["id"]
    for k in range(len(frames)):
        rest = b"".join(frame for frame, _ in frames[k + 1 :]) + b"data: [DONE]\n\n"
        assert follow(server, id, after=k) == rest
    assert follow(server, id) == whole.raw


@pytest.mark.parametrize("background", [False, True])
def test_followers_of_a_live_stream_see_what_its_client_sees(server: Server, host: Host, background: bool) -> None:
    gates = [Gate() for _ in range(3)]
    host.answer(Reply(text=["a", gates[0], "b", gates[1], "c", gates[2], "d"]))
    own = Streaming(server, {**HI, "background": background})
    id = own.until("response.created")["response"]["id"]
    followers = []
    for gate in gates:
        gate.wait()
        follower = Streaming(server, None, f"/responses/{id}?stream=true")
        assert follower.until("response.output_text.delta")["delta"] == "a"
        followers.append(follower)
        gate.open()
    late = Streaming(server, None, f"/responses/{id}?stream=true&starting_after=4")
    for each in (own, late, *followers):
        assert list(each.frames())[-1][1]["type"] == "response.completed"
    check(own.raw)
    assert {each.raw for each in followers} == {own.raw}
    assert own.raw.endswith(late.raw)


def test_a_client_that_leaves_a_stored_stream_can_come_back_to_it(server: Server, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    own = Streaming(server, HI)
    seen = own.until("response.output_text.delta")
    id = json.loads(own.raw.split(b"\n\n")[0].partition(b"\ndata: ")[2])["response"]["id"]
    own.leave()
    back = Streaming(server, None, f"/responses/{id}?stream=true&starting_after={seen['sequence_number']}")
    gate.wait()
    gate.open()
    rest = list(back.frames())
    assert rest[-1][1]["type"] == "response.completed"
    assert own.raw + back.raw == follow(server, id)
    assert not host.calls[-1].aborted.is_set()


def test_the_official_client_resumes_a_stream(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["one ", "two ", "three"]))
    with client.responses.create(model=MODEL, input="Hi", background=True, stream=True) as stream:
        events = list(stream)
    id = events[0].response.id
    with client.responses.retrieve(id, stream=True, starting_after=events[4].sequence_number) as stream:
        assert list(stream) == events[5:]


@pytest.mark.parametrize("background", [True, False])
def test_cancelling_stops_the_model_and_keeps_what_it_said(server: Server, host: Host, background: bool) -> None:
    gate = Gate()
    host.answer(Reply(text=["Half of ", gate, "it"]))
    own = Streaming(server, {**HI, "background": background})
    id = own.until("response.created")["response"]["id"]
    own.until("response.output_text.delta")
    moment = time.monotonic()
    got = server.post(f"/responses/{id}/cancel", {})
    assert host.called(1).abort_seen() - moment < 1
    assert (got.status, got.json["status"]) == (200, "cancelled")
    assert got.json["output"][0]["status"] == "incomplete"
    assert got.json["output"][0]["content"][0]["text"] == "Half of "
    assert list(own.frames())[-1][1]["type"] == "response.cancelled"
    assert follow(server, id) == own.raw
    assert server.post(f"/responses/{id}/cancel", {}).json == got.json == server.get(f"/responses/{id}").json


def test_cancelling_a_response_that_has_ended_returns_it(server: Server, client: openai.OpenAI, host: Host) -> None:
    done = client.responses.create(model=MODEL, input="Hi")
    assert client.responses.cancel(done.id).status == "completed"
    assert server.post("/responses/resp_none/cancel", {}).status == 404


def test_a_cancelled_turn_frees_its_conversation_and_adds_nothing(server: Server, host: Host) -> None:
    conversation = server.post("/conversations", {}).json["id"]
    host.answer(Reply(text=["x", Gate()]), Reply(text=["yes"]))
    id = server.post("/responses", {**BACKGROUND, "conversation": conversation}).json["id"]
    refused = server.post("/responses", {**HI, "conversation": conversation})
    assert (refused.status, refused.json["error"]["code"]) == (409, "conversation_locked")
    assert server.post(f"/responses/{id}/cancel", {}).json["status"] == "cancelled"
    assert server.get(f"/conversations/{conversation}/items").json["data"] == []
    assert server.post("/responses", {**HI, "conversation": conversation}).json["status"] == "completed"


def test_a_background_turn_is_appended_to_its_conversation(server: Server, host: Host) -> None:
    conversation = server.post("/conversations", {}).json["id"]
    for text in ("one", "two"):
        ended(server, server.post("/responses", {**BACKGROUND, "input": text, "conversation": conversation}).json["id"])
    items = server.get(f"/conversations/{conversation}/items?order=asc").json["data"]
    assert [item["role"] for item in items] == ["user", "assistant", "user", "assistant"]
    assert [message["role"] for message in host.calls[-1].json["messages"]] == ["user", "assistant", "user"]


def test_a_chain_continues_a_background_response_once_it_has_ended(server: Server, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["one", gate]), Reply(text=["two"]))
    id = server.post("/responses", BACKGROUND).json["id"]
    gate.wait()
    assert server.post("/responses", {**BACKGROUND, "previous_response_id": id}).status == 409
    gate.open()
    ended(server, id)
    second = server.post("/responses", {**BACKGROUND, "previous_response_id": id}).json
    assert ended(server, second["id"])["status"] == "completed"
    assert len(host.calls[-1].json["messages"]) == 3


def test_a_response_that_is_deleted_while_it_runs_stops_and_is_gone(server: Server, host: Host) -> None:
    host.answer(Reply(text=["x", Gate()]))
    own = Streaming(server, BACKGROUND)
    id = own.until("response.created")["response"]["id"]
    own.until("response.output_text.delta")
    assert server.ask("DELETE", f"/v1/responses/{id}").status == 200
    host.called(1).abort_seen()
    assert list(own.frames())[-1][1]["type"] == "error"
    assert server.get(f"/responses/{id}").status == 404


def test_the_hosts_refusal_is_the_background_responses_failure(server: Server, host: Host) -> None:
    host.answer(status(429, retry_after="7"))
    response = ended(server, server.post("/responses", BACKGROUND).json["id"])
    assert (response["status"], response["error"]["code"]) == ("failed", "rate_limit_exceeded")
    check(follow(server, response["id"]))


def test_the_clients_own_key_reaches_the_host_from_the_queue_and_stands_nowhere(server: Server, host: Host) -> None:
    headers = {"x-antiphon-provider-data": json.dumps({"api_key": "sk-the-clients-own"})}
    id = server.post("/responses", BACKGROUND, headers).json["id"]
    assert ended(server, id)["status"] == "completed"
    assert host.calls[-1].headers["authorization"] == "Bearer sk-the-clients-own"


# ---------------------------------------------------------------- servers of their own


def settings(host: Host, **background: Any) -> dict[str, Any]:
    """One scripted host, and how runs are kept."""
    return {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}, "background": background}


def test_the_queue_is_bounded_and_served_in_order(host: Host, tmp_path: Path) -> None:
    gates = [Gate() for _ in range(3)]
    host.answer(*(Reply(text=[gate, "x"]) for gate in gates))
    with running(settings(host, running_max=1, waiting_max=2), tmp_path) as server:
        first = server.post("/responses", {**BACKGROUND, "input": "0"}).json
        gates[0].wait()
        waiting = [server.post("/responses", {**BACKGROUND, "input": str(n)}).json for n in (1, 2)]
        full = server.post("/responses", BACKGROUND)
        assert (full.status, full.json["error"]["code"]) == (429, "queue_full")
        assert int(full.headers["retry-after"]) > 0
        assert [server.get(f"/responses/{each['id']}").json["status"] for each in waiting] == ["queued", "queued"]
        assert server.post(f"/responses/{waiting[1]['id']}/cancel", {}).json["status"] == "cancelled"
        check(follow(server, waiting[1]["id"]))
        gates[0].open()
        gates[1].open()
        assert [ended(server, each["id"])["status"] for each in (first, waiting[0])] == ["completed", "completed"]
        assert [call.json["messages"][0]["content"] for call in host.calls] == ["0", "1"]


def test_a_response_may_take_only_so_long(host: Host, tmp_path: Path) -> None:
    host.answer(Reply(text=["x", Gate()]), Reply(text=["x", Gate()]))
    with running(settings(host, run_s_max=0.2), tmp_path) as server:
        for body in (BACKGROUND, HI):
            response = ended(server, server.post("/responses", body).json["id"])
            assert response["status"] == "failed"
            assert "0.2 seconds" in response["error"]["message"]
        assert all(call.abort_seen() for call in host.calls)


@pytest.mark.parametrize("body", [BACKGROUND, HI], ids=["background", "foreground"])
def test_a_killed_servers_response_goes_on_after_the_restart(host: Host, tmp_path: Path, body: Any) -> None:
    host.answer(Reply(text=["half", Gate()]), Reply(text=["whole"]))
    with running(settings(host), tmp_path, process=True) as server:
        own = Streaming(server, {**body, "metadata": {"watched": "yes"}})
        id = own.until("response.created")["response"]["id"]
        own.until("response.output_text.delta")
        unseen = server.post("/responses", BACKGROUND).json["id"] if body is BACKGROUND else None
        server.kill()
    host.answer(Reply(text=["whole"]))
    with running(settings(host), tmp_path, process=True) as server:
        response = ended(server, id)
        assert response["status"] == "completed"
        assert [item["status"] for item in response["output"]] == ["incomplete", "completed"]
        assert [item["content"][0]["text"] for item in response["output"]] == ["half", "whole"]
        again = follow(server, id)
        check(again)
        assert again.startswith(own.raw)
        if unseen is not None:
            assert [item["content"][0]["text"] for item in ended(server, unseen)["output"]] == ["whole"]


def test_a_server_that_is_told_to_stop_hands_its_runs_on(host: Host, tmp_path: Path) -> None:
    host.answer(Reply(text=["half", Gate()]))
    changed = {**settings(host), "timeouts": {"shutdown_s": 0.2}}
    with running(changed, tmp_path, process=True) as server:
        id = server.post("/responses", BACKGROUND).json["id"]
        host.called(1)
    host.answer(Reply(text=["whole"]))
    with running(changed, tmp_path, process=True) as server:
        response = ended(server, id)
        assert [item["content"][0]["text"] for item in response["output"]] == ["whole"]
        assert server.get("/responses?limit=1").json["data"][0]["id"] == id


def test_a_run_that_ends_every_process_is_given_up(host: Host, tmp_path: Path) -> None:
    host.default = Raw(steps=[HANG])
    with running(settings(host), tmp_path, process=True) as server:
        id = server.post("/responses", BACKGROUND).json["id"]
        host.called(1)
        server.kill()
    with running(settings(host, attempts_max=1), tmp_path, process=True) as server:
        response = ended(server, id)
        assert (response["status"], len(host.calls)) == ("failed", 1)
        assert "1 processes ended" in response["error"]["message"]


def test_a_conversation_is_free_after_a_crash(host: Host, tmp_path: Path) -> None:
    host.answer(Reply(text=["x", Gate()]))
    with running(settings(host), tmp_path, process=True) as server:
        conversation = server.post("/conversations", {}).json["id"]
        try:
            Streaming(server, {**HI, "store": False, "conversation": conversation}).until("response.output_text.delta")
        finally:
            server.kill()
    with running(settings(host), tmp_path, process=True) as server:
        assert server.post("/responses", {**HI, "conversation": conversation}).status == 200


def test_an_unread_stream_is_no_reason_not_to_stop(host: Host, tmp_path: Path) -> None:
    host.answer(Reply(text=["x", Gate()]))
    with running({**settings(host), "timeouts": {"shutdown_s": 0.2}}, tmp_path, process=True) as server:
        own = Streaming(server, HI)
        own.until("response.output_text.delta")
        assert server.process is not None
        server.process.terminate()
        assert server.process.wait(WAIT_S) is not None
        with pytest.raises((http.client.HTTPException, OSError, StopIteration)):
            own.until("response.completed")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_whose_run_another_attempt_goes_on_with_is_told_the_rest(
    tmp_path: Path, host: Host, stream: bool
) -> None:
    """As after a pause of its process that was longer than its lease."""
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]), Reply(text=["Hello", " again"]))
    settings = {"hosts": {"scripted": {"base_url": host.url, "preset": "custom"}}}
    with running(settings, tmp_path) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.post, "/responses", {**HI, "stream": stream})
        gate.wait()
        with closing(sqlite3.connect(tmp_path / "data" / "antiphon.db", timeout=5)) as database:
            until(lambda: database.execute("SELECT 1 FROM runs WHERE worker IS NOT NULL").fetchall())
            with database:
                database.execute("UPDATE runs SET worker = NULL")
        got = asked.result(WAIT_S)
        response = check(got.body).response if stream else got.json
        assert (response["status"], response["output"][-1]["content"][0]["text"]) == ("completed", "Hello again")
        assert ended(server, response["id"]) == response
        assert len(host.calls) == 2
        if stream:
            assert follow(server, response["id"]) == got.body
