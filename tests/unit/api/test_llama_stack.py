"""Llama Stack's clients: no `[DONE]`, and the response's id in the events of items and parts."""

import json

from antiphon.api import llama_stack
from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server

WITH_ID = {f"response.{part}.{phase}" for part in ("output_item", "content_part") for phase in ("added", "done")}


def events(body: bytes) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]


def streamed(server: Server, headers: dict[str, str]) -> bytes:
    asked = {"model": "scripted/scripted-model", "input": "Hi", "stream": True}
    tools = [{"type": "function", "name": "f"}]
    return server.post("/responses", {**asked, "tools": tools}, headers).body


def test_their_streams_differ_in_the_id_alone(server: Server, host: Host) -> None:
    host.default = Reply(text=['event: response.output_item.added\ndata: {"a', '": 1}'], calls=[Call(name="f")])

    theirs = events(streamed(server, {"x-llamastack-client-version": "0.7.5"}))
    ours = events(streamed(server, {}).removesuffix(b"data: [DONE]\n\n"))

    response = theirs[0]["response"]
    assert isinstance(response, dict)
    assert {event["type"] for event in theirs if event.get("response_id") == response["id"]} == WITH_ID
    assert [event.keys() - {"response_id"} for event in theirs] == [event.keys() for event in ours]


def test_frames_without_a_response_stay_as_they_are() -> None:
    spoken = llama_stack.Spoken()

    assert spoken(b"data: 1\n\n") == b"data: 1\n\n"
    assert spoken(b"data: 2\n\ndata: [DONE]\n\n") == b"data: 2\n\n"
