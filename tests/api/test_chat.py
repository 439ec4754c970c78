"""Chat completions: passed through as they are, honest about broken hosts, and kept where that is asked for."""

import json
from typing import Any

import openai
import pytest

from antiphon.testing.host import CLOSE, Call, Gate, Host, Raw, Reply, error_inside, page, status
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
HI: Any = [{"role": "user", "content": "Hi"}]
CHAT = "/chat/completions"


def body(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HI, **more}


def events(data: bytes) -> list[Any]:
    frames = [frame.removeprefix(b"data: ") for frame in data.split(b"\n\n") if frame]
    return [frame if frame == b"[DONE]" else json.loads(frame) for frame in frames]


def test_only_the_model_of_a_request_is_changed(server: Server, host: Host) -> None:
    given = body(frobnicate={"a": [1, 2.50, None]}, temperature=0.1, stop=["x"])
    assert server.post(CHAT, given).status == 200
    assert host.calls[0].json == {**given, "model": "scripted-model"}


def test_what_only_this_server_obeys_is_not_sent_on(server: Server, host: Host) -> None:
    got = server.post(CHAT, body(store=True, metadata={"k": "v"}))
    assert host.calls[0].json == {**body(), "model": "scripted-model"}
    assert "x-antiphon-warnings" not in got.headers
    got = server.post(CHAT, body(metadata={"k": "v"}))
    assert got.headers["x-antiphon-warnings"] == "metadata is kept only together with store"


def test_a_whole_answer_comes_byte_for_byte(server: Server, host: Host) -> None:
    answer = b'{"id": "x",  "choices": [], "own": [1,2 ]}'
    host.answer(Raw(headers=[("content-type", "application/json")], steps=[answer]))
    assert server.post(CHAT, body()).body == answer


@pytest.mark.parametrize("cut", [None, 1, 7, 0])
def test_a_stream_comes_byte_for_byte_however_it_was_cut(server: Server, host: Host, cut: int | None) -> None:
    reply = Reply(text=["Hel", "lo \u00fc"], calls=[Call(name="f", arguments=["{", "}"])], cut=cut)
    host.answer(reply)
    got = server.post(CHAT, body(stream=True))
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    sent = [step for step in reply.steps("scripted-model") if isinstance(step, bytes)]
    assert got.body == b"".join(sent)


@pytest.mark.parametrize("stream", [True, False])
def test_a_rejection_is_an_http_error_streamed_or_not(server: Server, host: Host, stream: bool) -> None:
    host.answer(status(429, "slow down", retry_after="7"))
    got = server.post(CHAT, body(stream=stream))
    assert (got.status, got.headers["retry-after"]) == (429, "7")
    assert got.json["error"]["message"] == "slow down"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("answer", [page(), Raw(), Raw(steps=[b"data: {"])], ids=["page", "nothing", "half"])
def test_what_is_no_answer_is_a_502(server: Server, host: Host, stream: bool, answer: Raw) -> None:
    host.answer(answer)
    got = server.post(CHAT, body(stream=stream))
    assert got.status == 502
    assert got.json["error"]["type"] == "upstream_error"


def test_an_error_inside_a_whole_200_is_an_error(server: Server, host: Host) -> None:
    said = json.dumps({"error": {"message": "out of credit", "code": 402}}).encode()
    host.answer(Raw(headers=[("content-type", "application/json")], steps=[said]))
    got = server.post(CHAT, body())
    assert got.status == 402
    assert got.json["error"]["message"] == "out of credit"


@pytest.mark.parametrize("end", [(), (CLOSE,), (b'data: {"choices": [{"ind', CLOSE)], ids=["end", "close", "half"])
def test_a_stream_that_breaks_off_ends_with_an_error_and_no_done(server: Server, host: Host, end: Any) -> None:
    host.answer(Reply(text=["Hel", "lo"], finish=None, usage=None, end=end))
    got = events(server.post(CHAT, body(stream=True)).body)
    assert got[-1]["error"]["type"] == "upstream_error"
    assert [each["choices"][0]["delta"].get("content") for each in got[1:-1]] == ["Hel", "lo"]


def test_the_client_raises_what_a_broken_stream_says(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"], finish=None, usage=None, end=[CLOSE]))
    stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)


def test_a_hosts_own_error_event_is_passed_on_and_is_the_last(server: Server, host: Host) -> None:
    host.answer(error_inside("some", message="the engine exploded"))
    got = events(server.post(CHAT, body(stream=True)).body)
    assert got[-1]["error"]["message"] == "the engine exploded"
    assert len([each for each in got if "error" in each]) == 1


def test_a_host_that_ends_without_done_is_helped_out(server: Server, host: Host) -> None:
    host.answer(Reply(text=["Hello"], end=[]))
    assert events(server.post(CHAT, body(stream=True)).body)[-1] == b"[DONE]"


# ---------------------------------------------------------------- stored ones


def kept(server: Server, completion_id: str) -> Any:
    got = server.get(f"{CHAT}/{completion_id}")
    return got.json if got.status == 200 else None


def test_a_stored_stream_has_one_id_and_is_there_when_it_ends(server: Server, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"], calls=[Call(name="f", arguments=['{"a"', ": 1}"])]))
    got = events(server.post(CHAT, body(stream=True, store=True, metadata={"k": "v"})).body)
    assert got[-1] == b"[DONE]"
    (completion_id,) = {each["id"] for each in got[:-1]}
    assert completion_id.startswith("chatcmpl-")
    assert completion_id != "chatcmpl-scripted"
    found = kept(server, completion_id)
    message = found["choices"][0]["message"]
    assert (message["content"], found["choices"][0]["finish_reason"]) == ("Hello", "tool_calls")
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (found["metadata"], found["usage"]["total_tokens"]) == ({"k": "v"}, 18)


def test_a_broken_stream_is_not_kept(server: Server, host: Host) -> None:
    host.answer(Reply(text=["Hel"], finish=None, usage=None, end=[CLOSE]))
    got = events(server.post(CHAT, body(stream=True, store=True)).body)
    assert "error" in got[-1]
    assert kept(server, got[0]["id"]) is None


def test_a_stored_completion_survives_its_client(server: Server, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["one", gate, " two"]))
    connection = server.connect()
    connection.request("POST", f"/v1{CHAT}", json.dumps(body(stream=True, store=True, metadata={"mark": "left"})))
    gate.wait()
    connection.close()
    gate.open()
    assert host.calls[0].finished.wait(5)
    for _ in range(1000):
        found = server.get(f"{CHAT}?metadata[mark]=left").json["data"]
        if found:
            break
    assert found[0]["choices"][0]["message"]["content"] == "one two"


def test_stored_completions_are_listed_by_model_order_and_page(server: Server) -> None:
    marks = [server.post(CHAT, body(store=True, metadata={"mark": "paged"})).json["id"] for _ in range(5)]
    query = f"{CHAT}?metadata[mark]=paged"
    assert [each["id"] for each in server.get(query).json["data"]] == marks
    assert [each["id"] for each in server.get(f"{query}&order=desc").json["data"]] == marks[::-1]
    first = server.get(f"{query}&limit=3").json
    assert (first["has_more"], first["last_id"]) == (True, marks[2])
    rest = server.get(f"{query}&limit=3&after={first['last_id']}").json
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (marks[3:], False)
    assert server.get(f"{query}&model=nobody").json["data"] == []
    for name in (MODEL, "scripted-model"):  # as it was asked for, and as the answer calls it
        assert len(server.get(f"{query}&model={name}").json["data"]) == 5


def test_messages_in_parts_are_listed_as_parts(server: Server) -> None:
    parts = [{"type": "text", "text": "Hi"}]
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": parts, "name": "ann"}]
    completion_id = server.post(CHAT, {"model": MODEL, "messages": messages, "store": True}).json["id"]
    listed = server.get(f"{CHAT}/{completion_id}/messages").json["data"]
    assert [(each["role"], each["content"], each["content_parts"]) for each in listed] == [
        ("system", "Be kind.", None),
        ("user", None, parts),
    ]
    assert listed[1]["name"] == "ann"
    page = server.get(f"{CHAT}/{completion_id}/messages?limit=1&order=desc").json
    assert ([each["role"] for each in page["data"]], page["has_more"]) == (["user"], True)


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [("GET", "", None), ("POST", "", {"metadata": {}}), ("DELETE", "", None), ("GET", "/messages", None)],
)
def test_an_unknown_completion_is_a_404(server: Server, method: str, path: str, given: Any) -> None:
    got = server.ask(method, f"/v1{CHAT}/chatcmpl-nobody{path}", given)
    assert got.status == 404
    assert "chatcmpl-nobody" in got.json["error"]["message"]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {str(each): "v" for each in range(17)}}, "metadata"),
    ],
)
def test_metadata_has_its_limits(server: Server, given: Any, param: str) -> None:
    completion_id = server.post(CHAT, body(store=True)).json["id"]
    got = server.post(f"{CHAT}/{completion_id}", given)
    assert got.status == 400
    assert got.json["error"]["param"].startswith(param)
