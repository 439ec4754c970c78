"""Record against a host, then replay without it: identical pieces, loud misses, no secret on the disk."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.egress import LiveTransport
from antiphon.errors import InvalidRequest, ReplayMiss, Upstream, UpstreamTimeout
from antiphon.exchange import NO_REPLAY, Incoming, Outgoing, Replay, Timeouts
from antiphon.replay.recording import read_scenario
from antiphon.replay.transport import ReplayOptions, ReplayTransport, open_transport
from antiphon.testing.host import CLOSE, HANG, RESET, Gate, Host, Raw, Reply, status

SECRET = "sk-proj-abcDEF1234567890abcdef"


class Unreachable:
    """A live transport that must not be used."""

    async def send(self, request: Outgoing) -> Incoming:
        raise AssertionError(f"a replaying server called {request.url}")

    async def close(self) -> None:
        """Nothing to close."""


class Scripted:
    """A live transport that answers with given pieces."""

    def __init__(self, *answers: list[bytes]) -> None:
        self.answers = list(answers)

    async def send(self, request: Outgoing) -> Incoming:
        answer = self.answers.pop(0)

        async def pieces() -> AsyncIterator[bytes]:
            for piece in answer:
                yield piece

        return Incoming(200, {"content-type": "text/event-stream", "x-request-id": "r"}, pieces())

    async def close(self) -> None:
        """Nothing to close."""


def chat(url: str, text: str = "hi", *, replay: Replay = NO_REPLAY, idle_s: float = 300, **more: Any) -> Outgoing:
    """A chat request that carries a key."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}], **more}
    return Outgoing(
        method="POST",
        url=f"{url}/chat/completions",
        headers={"authorization": f"Bearer {SECRET}", "content-type": "application/json"},
        body=json.dumps(body).encode(),
        host="fake",
        replay=replay,
        timeouts=Timeouts(idle_s=idle_s),
    )


@asynccontextmanager
async def recording(directory: Path, **options: Any) -> AsyncIterator[ReplayTransport]:
    """A transport that records over the network."""
    transport = open_transport(ReplayOptions(mode="record", directory=directory, **options), LiveTransport())
    yield transport
    await transport.close()


def replaying(directory: Path, **options: Any) -> ReplayTransport:
    """A transport that only replays."""
    return open_transport(ReplayOptions(mode="replay", directory=directory, **options), Unreachable())


async def heard(transport: ReplayTransport, request: Outgoing) -> tuple[int, list[bytes]]:
    """Status and pieces of an answer that comes whole."""
    answer = await transport.send(request)
    return answer.status, [piece async for piece in answer.pieces]


def stored(directory: Path) -> list[Any]:
    """All exchanges on the disk."""
    return [each for file in sorted(directory.glob("*.json")) for each in read_scenario(file).exchanges]


def files(directory: Path) -> list[Path]:
    """All files on the disk."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def retime(file: Path, frames: list[Any]) -> None:
    """Replaces the frames of a scenario's only exchange."""
    whole = json.loads(file.read_text())
    whole["exchanges"][0]["answer"]["frames"] = frames
    file.write_text(json.dumps(whole))


# ---------------------------------------------------------------- the same again


async def test_what_was_recorded_is_replayed_piece_by_piece(host: Host, tmp_path: Path) -> None:
    gate = Gate()
    host.answer(Raw(steps=["é".encode()[:1], gate, "é".encode()[1:] + b"data: [DONE]\n\n"]))
    async with recording(tmp_path) as transport:
        answer = await transport.send(chat(host.url))
        pieces = aiter(answer.pieces)
        live = [await anext(pieces)]
        gate.open()
        live += [piece async for piece in pieces]
    assert len(live) == 2
    assert await heard(replaying(tmp_path), chat("http://elsewhere.invalid/v1")) == (200, live)


@given(pieces=st.lists(st.binary(min_size=1, max_size=9), max_size=6))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_pieces_keep_their_boundaries(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    async def play() -> None:
        directory = tmp_path_factory.mktemp("recordings")
        recorder = open_transport(ReplayOptions(mode="record", directory=directory), Scripted(pieces))
        assert await heard(recorder, chat("http://h/v1")) == (200, pieces)
        assert await heard(replaying(directory), chat("http://h/v1")) == (200, pieces)

    asyncio.run(play())


async def test_errors_are_replayed_with_their_retry_after(host: Host, tmp_path: Path) -> None:
    host.answer(status(429, "slow down", retry_after="7"))
    async with recording(tmp_path) as transport:
        await heard(transport, chat(host.url))
    answer = await replaying(tmp_path).send(chat(host.url))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert b"slow down" in await answer.read()


@pytest.mark.parametrize(("end", "error"), [(RESET, Upstream), (CLOSE, Upstream), (HANG, UpstreamTimeout)])
async def test_a_cut_stream_is_replayed_as_a_cut_stream(
    host: Host, tmp_path: Path, end: Any, error: type[Upstream]
) -> None:
    gate = Gate()
    host.answer(Raw(steps=[b"data: 1\n\n", gate, end]))
    messages = []
    async with recording(tmp_path) as transport:
        answer = await transport.send(chat(host.url, idle_s=0.05))
        pieces = aiter(answer.pieces)
        assert await anext(pieces) == b"data: 1\n\n"
        gate.open()
        with pytest.raises(error) as caught:
            await anext(pieces)
        messages.append(caught.value.message)
    pieces = aiter((await replaying(tmp_path).send(chat(host.url))).pieces)
    assert await anext(pieces) == b"data: 1\n\n"
    with pytest.raises(error) as caught:
        await anext(pieces)
    assert type(caught.value) is error
    assert [caught.value.message] == messages


async def test_a_host_that_could_not_be_reached_is_replayed_so(host: Host, tmp_path: Path) -> None:
    host.answer(Raw(steps=[RESET], head=False))
    async with recording(tmp_path) as transport:
        with pytest.raises(Upstream):
            await transport.send(chat(host.url))
    with pytest.raises(Upstream, match="Model host fake"):
        await replaying(tmp_path).send(chat(host.url))


async def test_replay_keeps_the_recorded_pace_if_asked_to(tmp_path: Path) -> None:
    async with _one_recorded(tmp_path):
        pass
    retime(tmp_path / "default.json", [[0, "a"], [80, "b"]])
    took = []
    for speed in (None, 4.0, 1.0):
        now = asyncio.get_running_loop().time
        begun = now()
        assert await heard(replaying(tmp_path, speed=speed), chat("http://h/v1")) == (200, [b"a", b"b"])
        took.append(now() - begun)
    assert took[1] >= 0.02
    assert took[2] >= 0.08
    assert took[0] < took[2]


@asynccontextmanager
async def _one_recorded(directory: Path, *answers: list[bytes]) -> AsyncIterator[ReplayTransport]:
    """A directory with one recording for each answer, all to the same request."""
    transport = open_transport(ReplayOptions(mode="record", directory=directory), Scripted(*(answers or ([b"x"],))))
    for _ in answers or (1,):
        await heard(transport, chat("http://h/v1"))
    yield transport


# ---------------------------------------------------------------- which answer


async def test_equal_requests_are_answered_first_in_first_out_and_then_by_the_last(tmp_path: Path) -> None:
    async with _one_recorded(tmp_path, [b"one"], [b"two"]):
        pass
    transport = replaying(tmp_path)
    got = [(await heard(transport, chat("http://h/v1")))[1] for _ in range(4)]
    assert got == [[b"one"], [b"two"], [b"two"], [b"two"]]
    assert (await heard(replaying(tmp_path), chat("http://h/v1")))[1] == [b"one"]


async def test_concurrent_requests_are_recorded_in_the_order_in_which_they_went_out(host: Host, tmp_path: Path) -> None:
    gates = [Gate(), Gate()]
    host.answer(Reply(text=["first", gates[0]]), Reply(text=["second", gates[1]]))
    async with recording(tmp_path) as transport:
        first = await transport.send(chat(host.url))
        second = await transport.send(chat(host.url))
        gates[1].open()
        late = b"".join([piece async for piece in second.pieces])
        gates[0].open()
        early = b"".join([piece async for piece in first.pieces])
    assert (b"first" in early, b"second" in late) == (True, True)
    transport = replaying(tmp_path)
    assert [b"".join((await heard(transport, chat(host.url)))[1]) for _ in range(2)] == [early, late]


async def test_many_at_once_are_all_recorded(host: Host, tmp_path: Path) -> None:
    async with recording(tmp_path) as transport:
        await asyncio.gather(*(heard(transport, chat(host.url, f"question {n}")) for n in range(24)))
    transport = replaying(tmp_path)
    assert len(stored(tmp_path)) == 24
    for n in range(24):
        assert (await heard(transport, chat(host.url, f"question {n}")))[0] == 200


async def test_a_miss_names_the_nearest_recording_and_the_differing_paths(host: Host, tmp_path: Path) -> None:
    async with recording(tmp_path) as transport:
        await heard(transport, chat(host.url, "the question", temperature=0))
        await heard(transport, chat(host.url, "something else", top_p=1, n=2))
    with pytest.raises(ReplayMiss) as caught:
        await replaying(tmp_path).send(chat(host.url, "another question " + "x" * 9000, temperature=0, user=SECRET))
    message = caught.value.message
    assert "default.json#1" in message
    assert 'messages[0].content: "another question' in message
    assert '"the question" is recorded' in message
    assert 'user: "[redacted]" is wanted, nothing is recorded' in message
    assert len(message) < 1500
    assert SECRET not in message


async def test_a_miss_in_an_empty_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReplayMiss, match="no recording of this kind"):
        await replaying(tmp_path).send(chat("http://h/v1"))


async def test_a_test_has_a_scenario_of_its_own(host: Host, tmp_path: Path) -> None:
    host.answer(Reply(text=["for one"]), Reply(text=["for two"]), Reply(text=["for all"]))
    async with recording(tmp_path) as transport:
        for test_id in ("one", "two", None):
            await heard(transport, chat(host.url, replay=Replay(test_id=test_id)))
    assert {file.name for file in files(tmp_path)} == {"one.json", "two.json", "default.json"}
    transport = replaying(tmp_path)
    for test_id, text in (("two", b"for two"), ("one", b"for one"), ("three", b"for all"), ("one", b"for one")):
        answer = await heard(transport, chat(host.url, replay=Replay(test_id=test_id)))
        assert text in b"".join(answer[1])


# ---------------------------------------------------------------- modes


async def test_record_if_missing_calls_once(host: Host, tmp_path: Path) -> None:
    options = ReplayOptions(mode="record-if-missing", directory=tmp_path)
    for _ in range(2):
        transport = open_transport(options, LiveTransport())
        for _ in range(2):
            assert (await heard(transport, chat(host.url)))[0] == 200
        await transport.close()
    assert len(host.calls) == 1


async def test_record_if_missing_asks_for_the_models_and_keeps_them(host: Host, tmp_path: Path) -> None:
    transport = open_transport(ReplayOptions(mode="record-if-missing", directory=tmp_path), LiveTransport())
    await heard(transport, chat(host.url))
    listing = Outgoing(method="GET", url=f"{host.url}/models", headers={}, host="fake")
    for _ in range(2):
        assert b"scripted-model" in b"".join((await heard(transport, listing))[1])
    await transport.close()
    assert len([request for request in host.requests if request.method == "GET"]) == 1


async def test_recording_again_replaces_what_was_recorded_before(host: Host, tmp_path: Path) -> None:
    for text in ("old", "new"):
        host.answer(Reply(text=[text]), Reply(text=[f"{text} again"]))
        async with recording(tmp_path) as transport:
            for _ in range(2):
                await heard(transport, chat(host.url))
            if text == "old":
                await heard(transport, chat(host.url, "another"))
    assert len(stored(tmp_path)) == 3
    transport = replaying(tmp_path)
    texts = [b"".join((await heard(transport, chat(host.url)))[1]) for _ in range(2)]
    assert (b"new" in texts[0], b"new again" in texts[1]) == (True, True)


async def test_a_request_can_choose_its_own_mode(host: Host, tmp_path: Path) -> None:
    transport = open_transport(ReplayOptions(directory=tmp_path / "new"), LiveTransport())
    await heard(transport, chat(host.url))
    assert files(tmp_path) == []
    host.answer(Reply(text=["kept"]))
    for mode in ("record", "replay", "replay"):
        answer = await heard(transport, chat(host.url, replay=Replay(mode=mode)))
        assert b"kept" in b"".join(answer[1])
    with pytest.raises(ReplayMiss):
        await transport.send(chat(host.url, "unheard of", replay=Replay(mode="replay")))
    await transport.close()
    assert len(host.calls) == 2


async def test_an_unknown_mode_and_a_missing_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="'rewind' is no replay mode"):
        await open_transport(ReplayOptions(directory=tmp_path), Unreachable()).send(
            chat("http://h/v1", replay=Replay(mode="rewind"))
        )
    with pytest.raises(InvalidRequest, match="need a directory"):
        await open_transport(ReplayOptions(), Unreachable()).send(chat("http://h/v1", replay=Replay(mode="replay")))
    with pytest.raises(InvalidRequest, match="does not exist"):
        replaying(tmp_path / "missing")


async def test_a_directory_may_hold_both_formats(shared: Path, tmp_path: Path) -> None:
    async with _one_recorded(tmp_path):
        pass
    seed = "5d00fd96a13e0fd9786eaa02261b0c38eb5b6d02ce0a0f3c8d2aaa5aa1b7d5af.json"
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / seed).write_bytes((shared / "recordings" / "agents" / seed).read_bytes())
    (tmp_path / "notes.json").write_text("{}")
    names = [(found.name, [model.id for model in found.models]) for found in replaying(tmp_path).hosts()]
    assert names == [("fake", ["m"]), ("ollama", ["llama3.2:3b-instruct-fp16"])]


# ---------------------------------------------------------------- what is written


async def test_no_secret_reaches_the_disk(host: Host, tmp_path: Path) -> None:
    echo = [f"data: your key {SECRET[:9]}".encode(), f"{SECRET[9:]} is wrong\n\n".encode()]
    host.answer(Raw(headers=[("content-type", "text/event-stream"), ("set-cookie", "session=abc")], steps=echo))
    request = chat(f"{host.url}", f"my key is {SECRET}", metadata={"api_key": "hunter2hunter2"})
    request = msgspec.structs.replace(request, url=f"{request.url}?key=querysecret")
    async with recording(tmp_path) as transport:
        live = await heard(transport, request)
    assert SECRET in b"".join(live[1]).decode()
    written = "".join(file.read_text() for file in files(tmp_path))
    for secret in (SECRET, SECRET[9:], "hunter2", "querysecret", "session=abc", "set-cookie"):
        assert secret not in written
    _, pieces = await heard(replaying(tmp_path), request)
    assert b"".join(pieces) == b"data: your key [redacted] is wrong\n\n"


async def test_a_secret_that_the_model_repeats_token_by_token_does_not_reach_the_disk(
    host: Host, tmp_path: Path
) -> None:
    for number, form in enumerate(("antiphon", "llama-stack")):
        host.answer(Reply(text=["Your key: ", SECRET[:5], SECRET[5:14], SECRET[14:], "."]))
        async with recording(tmp_path / str(number), format=form) as transport:
            await heard(transport, chat(host.url, f"repeat {SECRET}"))
    written = "".join(file.read_text() for file in files(tmp_path))
    assert SECRET[5:14] not in written
    assert SECRET[14:] not in written


async def test_another_key_finds_the_same_recording(host: Host, tmp_path: Path) -> None:
    async with recording(tmp_path) as transport:
        live = await heard(transport, chat(host.url))
    other = msgspec.structs.replace(chat(host.url), headers={})
    assert (await heard(replaying(tmp_path), other))[0] == live[0]


async def test_what_a_killed_recorder_left_half_written_is_not_read_and_goes_with_the_next_write(
    host: Host, tmp_path: Path
) -> None:
    (tmp_path / ".default.json.part").write_text('{"format": "antiphon-recording/1", "scen')
    async with recording(tmp_path) as transport:
        await heard(transport, chat(host.url))
    assert [file.name for file in files(tmp_path)] == ["default.json"]


async def test_an_exchange_that_the_client_left_is_not_recorded(host: Host, tmp_path: Path) -> None:
    gate = Gate()
    host.answer(Raw(steps=[b"data: 1\n\n", gate]))
    async with recording(tmp_path) as transport:
        answer = await transport.send(chat(host.url))
        await anext(aiter(answer.pieces))
        await answer.close()
        await asyncio.to_thread(host.calls[0].abort_seen)
    assert files(tmp_path) == []


async def test_a_stream_whose_reader_stops_at_its_last_event_is_recorded(host: Host, tmp_path: Path) -> None:
    gate = Gate()
    host.answer(Raw(steps=[b"data: 1\n\n", b"data: [DONE]\n\n", gate]))
    async with recording(tmp_path) as transport:
        answer = await transport.send(chat(host.url))
        seen = b""
        async for piece in answer.pieces:
            seen += piece
            if seen.endswith(b"[DONE]\n\n"):
                break
        await answer.close()
    (exchange,) = stored(tmp_path)
    assert (exchange.parsed_answer().body, exchange.parsed_answer().end) == (seen, "complete")


async def test_the_end_of_an_answer_comes_after_the_recording_is_on_the_disk(host: Host, tmp_path: Path) -> None:
    async with recording(tmp_path) as transport:
        await heard(transport, chat(host.url))
        assert len(stored(tmp_path)) == 1


async def test_an_exchange_says_what_it_was_made_for(host: Host, tmp_path: Path) -> None:
    async with recording(tmp_path) as transport:
        await heard(transport, chat(host.url, replay=Replay(origin="resp_1")))
    assert [exchange.origin for exchange in stored(tmp_path)] == ["resp_1"]


# ---------------------------------------------------------------- Llama Stack's format, written

LLAMA_TEST = "tests/integration/inference/test_x.py::test_y[a]"


@pytest.mark.parametrize(
    ("make", "kind", "streamed"),
    [
        (lambda url: chat(url, replay=Replay(test_id=LLAMA_TEST)), "ChatCompletionChunk", True),
        (lambda url: chat(url, stream=False, replay=Replay(test_id=LLAMA_TEST)), "ChatCompletion", False),
    ],
)
async def test_llama_stacks_format_is_written_and_read_again(
    host: Host, tmp_path: Path, make: Callable[[str], Outgoing], kind: str, streamed: bool
) -> None:
    async with recording(tmp_path, format="llama-stack") as transport:
        live = await heard(transport, make(host.url))
    (file,) = files(tmp_path)
    assert file.parent == tmp_path / "inference"
    written = json.loads(file.read_text())
    assert written["request"]["url"] == f"{host.url}/v1/chat/completions"
    assert written["response"]["is_streaming"] is streamed
    body = written["response"]["body"]
    first = body[0] if streamed else body
    assert first["__type__"].endswith(f".{kind}")
    assert first["__data__"]["id"] == f"rec-{file.name[:12]}"
    assert SECRET not in file.read_text()
    replayed = await heard(replaying(tmp_path, matching="strict"), make(host.url))
    assert _meaning(live[1], streamed) == _meaning(replayed[1], streamed)


def _meaning(pieces: list[bytes], streamed: bool) -> Any:
    """An answer without what differs in every run."""
    texts = [line[6:] for line in b"".join(pieces).splitlines() if line.startswith(b"data: {")]
    objects = [json.loads(text) for text in (texts if streamed else [b"".join(pieces)])]
    return [{name: value for name, value in each.items() if name not in ("id", "created")} for each in objects]


async def test_equal_requests_at_once_are_one_file_of_llama_stacks(host: Host, tmp_path: Path) -> None:
    async with recording(tmp_path, format="llama-stack") as transport:
        await asyncio.gather(*(heard(transport, chat(host.url)) for _ in range(12)))
    assert [file.suffix for file in files(tmp_path)] == [".json"]
    assert (await heard(replaying(tmp_path, matching="strict"), chat(host.url)))[0] == 200


async def test_llama_stacks_model_lists_are_written_and_read_again(host: Host, tmp_path: Path) -> None:
    listing = Outgoing(method="GET", url=f"{host.url}/models", headers={}, host="fake")
    async with recording(tmp_path, format="llama-stack") as transport:
        await heard(transport, listing)
    (file,) = files(tmp_path)
    assert file.parent.name == "common"
    assert file.name.startswith("models-")
    _, pieces = await heard(replaying(tmp_path, matching="strict"), listing)
    assert [model["id"] for model in json.loads(b"".join(pieces))["data"]] == ["scripted-model"]


async def test_what_llama_stacks_format_cannot_hold_is_not_written(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.answer(status(500))
    async with recording(tmp_path, format="llama-stack") as transport:
        assert (await heard(transport, chat(host.url)))[0] == 500
    assert files(tmp_path) == []
    assert "not recorded" in caplog.text
