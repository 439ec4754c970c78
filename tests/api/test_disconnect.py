"""Clients that leave the passed-through routes: the host's work ends with them, at every moment."""

import json
import time
from typing import Any

import pytest

from antiphon.testing.host import Gate, Host, Raw, Reply
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
ABORT_S = 1.0
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
JSON = [("content-type", "application/json")]


@pytest.mark.parametrize(
    ("path", "body", "steps"),
    [
        ("/completions", {"model": MODEL, "prompt": "Hi"}, None),
        ("/completions", {"model": MODEL, "prompt": "Hi", "stream": True}, None),
        ("/completions", {"model": MODEL, "prompt": "Hi", "stream": True}, [b'data: {"choices": []}\n\n']),
        ("/embeddings", {"model": MODEL, "input": "Hi"}, None),
        ("/embeddings", {"model": MODEL, "input": "Hi"}, [b'{"data": [']),
        ("/chat/completions", CHAT, [b'{"choices": [']),
    ],
)
def test_the_host_is_left_within_a_second(server: Server, host: Host, path: str, body: Any, steps: Any) -> None:
    gate = Gate()
    kind = [("content-type", "text/event-stream")] if body.get("stream") else JSON
    host.answer(Raw(headers=kind, steps=[*(steps or []), gate], head=steps is not None))
    connection = server.connect()
    connection.request("POST", f"/v1{path}", json.dumps(body))
    gate.wait()
    moment = time.monotonic()
    connection.close()
    assert host.called(1).abort_seen() - moment < ABORT_S


def test_a_client_that_leaves_in_the_middle_of_its_own_body_costs_nothing(server: Server, host: Host) -> None:
    connection = server.connect()
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("content-length", "1000")
    connection.endheaders(b'{"model": ')
    connection.close()
    assert server.ask("GET", "/health").status == 200
    assert host.calls == []


def test_others_are_served_while_a_client_does_not_read(server: Server, host: Host) -> None:
    host.answer(Reply(text=["x" * 1_000_000] * 40))
    connection = server.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": True}))
    host.called(1)
    host.answer(Reply(text=["Hello"]))
    began = time.monotonic()
    assert server.post("/chat/completions", CHAT).json["choices"][0]["message"]["content"] == "Hello"
    assert time.monotonic() - began < ABORT_S
    connection.close()
    host.calls[0].abort_seen()
