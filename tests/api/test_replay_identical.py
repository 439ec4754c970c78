"""What was recorded once is answered again without the host, byte for byte, as often as one likes."""

from pathlib import Path
from typing import Any

import pytest

from antiphon.testing.host import Call, Host, Reply, error_inside, status
from antiphon.testing.rules import check
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
TOOLS = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}, {"type": "shell"}]
SCENES: list[tuple[str, Any, dict[str, Any]]] = [
    ("text", Reply(text=["Hel", "lo"]), {"input": "a"}),
    ("bytes cut anywhere", Reply(text=["Grüße"], cut=3), {"input": "b"}),
    (
        "calls",
        Reply(calls=[Call(name="f", arguments=["{", "}"]), Call(name="f", id="2")]),
        {"input": "c", "tools": TOOLS},
    ),
    ("reasoning", Reply(reasoning=["H", "m"], text=["so"]), {"input": "d", "include": ["reasoning.encrypted_content"]}),
    ("a call without an id", Reply(calls=[Call(name="f", id="")]), {"input": "e", "tools": TOOLS}),
    ("a limit", Reply(text=["cut"], finish="length"), {"input": "f"}),
    ("an error inside", error_inside("some"), {"input": "g"}),
]


def settings(host_url: str, folder: Path, mode: str) -> dict[str, Any]:
    """Settings for recording or replaying."""
    hosts = {"scripted": {"base_url": host_url, "preset": "custom", "models": {"scripted-model": {}}}}
    return {"mode": mode, "recordings": str(folder / "recordings"), "hosts": hosts, "secret_key": "k" * 32}


def ask(server: Server, body: dict[str, Any]) -> bytes:
    """A streamed response's bytes."""
    got = server.post("/responses", {"model": MODEL, "stream": True, **body})
    assert got.status == 200, got.body
    check(got.body)
    return got.body


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Each scene as recorded, then as replayed by three servers, one after the other, that cannot reach the host."""
    folder = tmp_path_factory.mktemp("replay")
    found: dict[str, list[bytes]] = {}
    with Host() as host:
        url = host.url
        with running(settings(url, folder, "record"), folder / "recording") as server:
            for name, reply, body in SCENES:
                host.answer(reply)
                found[name] = [ask(server, body)]
    for turn in range(3):
        with running(settings(url, folder, "replay"), folder / f"replaying-{turn}") as server:
            for name, _, body in SCENES:
                found[name].append(ask(server, body))
    return found


@pytest.mark.parametrize("scene", [name for name, _, _ in SCENES])
def test_the_same_request_after_a_restart_gives_the_same_bytes(played: dict[str, list[bytes]], scene: str) -> None:
    _, *replays = played[scene]
    assert replays[0] == replays[1] == replays[2]


@pytest.mark.parametrize("scene", [name for name, _, _ in SCENES])
def test_a_replay_says_what_was_recorded(played: dict[str, list[bytes]], scene: str) -> None:
    live, replay = (check(raw) for raw in played[scene][:2])
    assert live.types == replay.types
    for kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
        assert live.deltas(kind) == replay.deltas(kind)
    assert live.response["status"] == replay.response["status"]
    assert live.response["usage"] == replay.response["usage"]


def test_equal_requests_are_answered_first_in_first_out(tmp_path: Path) -> None:
    with Host() as host:
        url = host.url
        with running(settings(url, tmp_path, "record"), tmp_path / "a") as server:
            host.answer(Reply(text=["one"]), Reply(text=["two"]))
            first, second = (check(ask(server, {"input": "again"})).text for _ in range(2))
    assert (first, second) == ("one", "two")


def test_errors_and_their_retry_after_are_replayed(tmp_path: Path) -> None:
    with Host() as host:
        url = host.url
        with running(settings(url, tmp_path, "record"), tmp_path / "a") as server:
            host.answer(status(429, "slow down", retry_after="7"))
            assert server.post("/responses", {"model": MODEL, "input": "x"}).status == 429
    with running(settings(url, tmp_path, "replay"), tmp_path / "b") as server:
        got = server.post("/responses", {"model": MODEL, "input": "x"})
        assert (got.status, got.headers["retry-after"]) == (429, "7")
        assert "slow down" in got.json["error"]["message"]


def test_a_miss_is_loud_and_shows_the_nearest_recording(tmp_path: Path) -> None:
    with Host() as host:
        url = host.url
        with running(settings(url, tmp_path, "record"), tmp_path / "a") as server:
            ask(server, {"input": "the question"})
    with running(settings(url, tmp_path, "replay"), tmp_path / "b") as server:
        got = server.post("/responses", {"model": MODEL, "input": "another question"})
        assert (got.status, got.json["error"]["code"]) == (400, "recording_not_found")
        assert "messages[0]" in got.json["error"]["message"]


def test_a_conversation_of_tools_replays_with_the_same_ids(tmp_path: Path) -> None:
    def converse(server: Server) -> list[bytes]:
        first = ask(server, {"input": "go", "tools": TOOLS})
        (call,) = check(first).of("function_call")
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "7"}
        previous = check(first).response["id"]
        return [first, ask(server, {"input": [output], "previous_response_id": previous, "tools": TOOLS})]

    with Host() as host:
        url = host.url
        host.answer(Reply(calls=[Call(name="f")]), Reply(text=["Seven"]))
        with running(settings(url, tmp_path, "record"), tmp_path / "a") as server:
            assert check(converse(server)[1]).text == "Seven"
    replays = []
    for turn in range(2):
        with running(settings(url, tmp_path, "replay"), tmp_path / f"b{turn}") as server:
            replays.append(converse(server))
    assert replays[0] == replays[1]
    assert check(replays[0][1]).text == "Seven"
