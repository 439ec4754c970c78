"""The official client's `responses.connect()`: turns, chains, lanes, warm-up, errors that do not end a connection."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from antiphon.testing import rules
from antiphon.testing.host import Call, Gate, Host, Reply, status
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
ABORT_S = 1.0
WAIT_S = 20.0
SDK_WARNS = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
"""What `websockets` 17 says of the way in which the `openai` package uses it."""


class Socket:
    """A connection by hand, for what the official client would not send, and for frames as they are."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def create(self, **body: Any) -> None:
        """Asks for a turn."""
        self.connection.send(json.dumps({"type": "response.create", "model": MODEL, **body}))

    def frame(self) -> str:
        """The next frame."""
        found = self.connection.recv(timeout=WAIT_S)
        assert isinstance(found, str)
        return found

    def event(self) -> dict[str, Any]:
        """The next frame's event."""
        found: dict[str, Any] = json.loads(self.frame())
        return found

    def turn(self) -> rules.Stream:
        """The frames of one turn, which keep the rules of a stream."""
        frames = [self.frame()]
        while json.loads(frames[-1])["type"] not in (*rules.TERMINAL, "error"):
            frames.append(self.frame())
        return rules.check_frames(frames)

    def ask(self, **body: Any) -> rules.Stream:
        """A turn and its events."""
        self.create(**body)
        return self.turn()

    def refused(self, **body: Any) -> dict[str, Any]:
        """A turn that is answered by an error frame."""
        self.create(**body)
        found = self.event()
        assert found["type"] == "error", found
        return found

    def until(self, kind: str) -> dict[str, Any]:
        """The next event of a kind."""
        while (found := self.event())["type"] != kind:
            pass
        return found

    def closed(self) -> int:
        """The code with which the server closes, whatever it says before."""
        with pytest.raises(ConnectionClosed) as raised:
            list(iter(self.frame, None))
        assert raised.value.rcvd is not None
        return raised.value.rcvd.code


def opened(server: Server, **options: Any) -> ClientConnection:
    return connect(server.url.replace("http", "ws", 1) + "/responses", max_size=None, **options)


@pytest.fixture
def socket(server: Server) -> Iterator[Socket]:
    with opened(server) as connection:
        yield Socket(connection)


def said(host: Host) -> list[str]:
    """The texts that the model was last shown."""
    return [message["content"] for message in host.calls[-1].json["messages"]]


# ---------------------------------------------------------------- through the official client


@SDK_WARNS
def test_the_client_has_turn_after_turn_on_one_connection(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"]), Reply(text=["Again"]))
    with client.responses.connect() as connection:
        previous, texts = None, []
        for text in ("Hi", "More"):
            connection.response.create(model=MODEL, input=text, store=False, previous_response_id=previous)
            for event in connection:
                if event.type == "response.completed":
                    break
            assert event.type == "response.completed"
            previous = event.response.id
            texts.append(event.response.output_text)
    assert texts == ["Hello", "Again"]
    assert said(host) == ["Hi", "Hello", "More"]


@SDK_WARNS
async def test_the_async_client_has_turns_as_well(server: Server, host: Host) -> None:
    host.answer(Reply(text=["Hello"]))
    async with openai.AsyncOpenAI(base_url=server.url, api_key="unused") as client, client.responses.connect() as found:
        await found.response.create(model=MODEL, input="Hi", stream_id="main")
        async for event in found:
            if event.type == "response.completed":
                break
        assert event.type == "response.completed"
        assert (event.response.output_text, event.stream_id) == ("Hello", "main")


@SDK_WARNS
def test_the_client_understands_errors_and_goes_on(client: openai.OpenAI, host: Host) -> None:
    host.answer(status(429, "slow down", retry_after="7"))
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="Hi")
        event = connection.recv()
        assert event.type == "error"
        assert (event.status, event.error.headers) == (429, {"retry-after": "7"})
        connection.response.create(model=MODEL, input="Hi")
        assert connection.recv().type == "response.created"


# ---------------------------------------------------------------- turns


def test_frames_are_the_events_of_a_stream(server: Server, socket: Socket, host: Host) -> None:
    call = Call(name="get_weather", arguments='{"city": "Paris"}')
    tools = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}]
    host.answer(Reply(reasoning=["Hm"], text=["Let", " me"], calls=[call]), Reply(text=["Sunny"]))
    first = socket.ask(input="Weather?", tools=tools, store=False)
    assert [item["type"] for item in first.items] == ["reasoning", "message", "function_call"]
    output = {"type": "function_call_output", "call_id": first.items[-1]["call_id"], "output": "18"}
    second = socket.ask(input=[output], tools=tools, store=False, previous_response_id=first.response["id"])
    assert second.text == "Sunny"
    assert host.calls[-1].json["messages"][-1]["content"] == "18"


def test_a_stored_response_is_there_for_everybody(server: Server, socket: Socket, client: openai.OpenAI) -> None:
    made = socket.ask(input="Hi")
    stored = client.responses.retrieve(made.response["id"])
    assert stored.output_text == made.text
    again = rules.check(server.get(f"/responses/{stored.id}?stream=true").body)
    assert again.events == made.events
    with opened(server) as other:
        assert Socket(other).ask(input="On", previous_response_id=stored.id).text == "Hello there."


def test_turns_run_one_after_the_other_in_order(socket: Socket, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["One", gate, "!"]), Reply(text=["Two"]), Reply(text=["Three"]))
    for text in ("1", "2", "3"):
        socket.create(input=text, store=False)
    gate.wait()
    assert len(host.calls) == 1
    gate.open()
    assert [socket.turn().text for _ in range(3)] == ["One!", "Two", "Three"]


def test_lanes_run_side_by_side_and_say_which_they_are(socket: Socket, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=[gate, "Slow"]))
    socket.create(input="Hi", stream_id="slow", store=False)
    gate.wait()
    socket.create(input="Hi", stream_id="fast", store=False)
    while (event := socket.event())["type"] != "response.completed":
        pass
    assert event["stream_id"] == "fast"
    gate.open()
    assert socket.until("response.completed")["stream_id"] == "slow"


def test_a_conversation_is_appended_to_as_over_http(socket: Socket, client: openai.OpenAI, host: Host) -> None:
    conversation = client.conversations.create()
    socket.ask(input="Hi", conversation=conversation.id)
    socket.ask(input="More", conversation=conversation.id)
    assert said(host) == ["Hi", "Hello there.", "More"]
    assert len(client.conversations.items.list(conversation.id).data) == 4


def test_the_clients_own_key_goes_with_every_turn(server: Server, host: Host) -> None:
    with opened(server, additional_headers={"x-antiphon-provider-data": '{"scripted_api_key": "mine"}'}) as connection:
        Socket(connection).ask(input="Hi", store=False)
    assert host.calls[-1].headers["authorization"] == "Bearer mine"


# ---------------------------------------------------------------- what a connection remembers


def test_an_unstored_response_can_be_continued_more_than_once(server: Server, socket: Socket, host: Host) -> None:
    first = socket.ask(input="Hi", store=False).response["id"]
    socket.ask(input="A", store=False, previous_response_id=first)
    socket.ask(input="B", store=False, previous_response_id=first)
    assert said(host) == ["Hi", "Hello there.", "B"]
    assert server.get(f"/responses/{first}").status == 404


def test_an_unstored_response_is_unknown_to_other_connections(server: Server, socket: Socket) -> None:
    first = socket.ask(input="Hi", store=False).response["id"]
    with opened(server) as other:
        error = Socket(other).refused(input="On", store=False, previous_response_id=first)
    assert (error["status"], error["error"]["code"]) == (400, "previous_response_not_found")
    assert error["error"]["param"] == "previous_response_id"


def test_chains_go_from_stored_to_unstored_and_back(socket: Socket, host: Host) -> None:
    stored = socket.ask(input="1").response["id"]
    unstored = socket.ask(input="2", store=False, previous_response_id=stored).response["id"]
    again = socket.ask(input="3", previous_response_id=unstored).response["id"]
    socket.ask(input="4", store=False, previous_response_id=again)
    assert said(host)[::2] == ["1", "2", "3", "4"]


def test_what_was_deleted_reaches_no_model_through_a_connection_either(socket: Socket, client: openai.OpenAI) -> None:
    stored = socket.ask(input="secret").response["id"]
    unstored = socket.ask(input="2", store=False, previous_response_id=stored).response["id"]
    client.responses.delete(stored)
    error = socket.refused(input="3", store=False, previous_response_id=unstored)
    assert error["error"]["code"] == "previous_response_not_found"


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        ({"temperature": "hot"}, None),
        ({"input": [{"type": "function_call_output", "call_id": "none", "output": ""}]}, None),
        ({}, status(500, "broken")),
    ],
)
def test_a_failed_continuation_makes_the_connection_forget(
    socket: Socket, host: Host, more: dict[str, Any], answer: Any
) -> None:
    first = socket.ask(input="Hi", store=False).response["id"]
    if answer is not None:
        host.answer(answer)
    socket.refused(**{"input": "On", "store": False, "previous_response_id": first, **more})
    error = socket.refused(input="On", store=False, previous_response_id=first)
    assert error["error"]["code"] == "previous_response_not_found"
    assert socket.ask(input="Anew", store=False).text == "Hello there."


def test_a_continuation_that_ends_as_failed_makes_it_forget_as_well(socket: Socket, host: Host) -> None:
    first = socket.ask(input="Hi", store=False).response["id"]
    host.answer(Reply(text=["Hel"], finish=None))
    assert socket.ask(input="On", store=False, previous_response_id=first).response["status"] == "failed"
    assert socket.refused(input="On", previous_response_id=first)["error"]["code"] == "previous_response_not_found"


def test_a_fork_that_fails_leaves_the_other_lane_its_response(socket: Socket) -> None:
    first = socket.ask(input="Hi", store=False).response["id"]
    fork = socket.refused(input="On", previous_response_id=first, stream_id="fork", temperature=9)
    assert (fork["status"], fork["stream_id"]) == (400, "fork")
    assert socket.ask(input="On", store=False, previous_response_id=first).text == "Hello there."


def test_a_turn_that_is_cancelled_leaves_what_it_continued(socket: Socket, client: openai.OpenAI, host: Host) -> None:
    first = socket.ask(input="Hi", store=False).response["id"]
    gate = Gate()
    host.answer(Reply(text=["Hel", gate]))
    socket.create(input="On", previous_response_id=first)
    gate.wait()
    client.responses.cancel(socket.event()["response"]["id"])
    assert socket.until("response.cancelled")["response"]["status"] == "cancelled"
    assert socket.ask(input="On", store=False, previous_response_id=first).text == "Hello there."


def test_a_turn_whose_response_is_deleted_ends_with_an_error(socket: Socket, client: openai.OpenAI, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate]))
    socket.create(input="Hi")
    gate.wait()
    client.responses.delete(socket.event()["response"]["id"])
    assert socket.until("error")["error"]["code"] == "response_moved"
    assert socket.ask(input="Hi", store=False).text == "Hello there."


# ---------------------------------------------------------------- warm-up


@pytest.mark.parametrize("store", [True, False])
def test_a_warm_up_asks_no_model_and_can_be_continued(server: Server, socket: Socket, host: Host, store: bool) -> None:
    warm = socket.ask(input="Context", instructions="Be brief", store=store, generate=False)
    assert warm.types == ["response.created", "response.in_progress", "response.completed"]
    assert (warm.response["output"], host.calls) == ([], [])
    socket.ask(input="Hi", store=False, previous_response_id=warm.response["id"])
    assert said(host) == ["Context", "Hi"]
    assert (server.get(f"/responses/{warm.response['id']}").status == 200) is store


def test_a_stored_warm_up_can_be_streamed_again(server: Server, socket: Socket) -> None:
    warm = socket.ask(input="Context", generate=False)
    assert rules.check(server.get(f"/responses/{warm.response['id']}?stream=true").body).events == warm.events


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "invalid_json"),
        ("", "invalid_json"),
        ("[]", "invalid_type"),
        ("{}", "missing_required_parameter"),
        ('{"type": "response.steer", "previous_response_id": "resp_1", "input": "x"}', "unsupported_event_type"),
        ('{"type": "response.create"}', "missing_required_parameter"),
        ('{"type": "response.create", "model": 5}', "invalid_type"),
        (b"\x00binary", "invalid_frame"),
        ('{"type": "response.create", "input": ' + "[" * 100_000, "invalid_json"),
    ],
)
def test_a_frame_that_makes_no_sense_is_an_error_and_the_connection_goes_on(
    socket: Socket, frame: str | bytes, code: str
) -> None:
    socket.connection.send(frame)
    error = socket.event()
    assert (error["type"], error["status"], error["error"]["code"]) == ("error", 400, code)
    assert socket.ask(input="Hi", store=False).text == "Hello there."


@pytest.mark.parametrize(
    ("more", "param"),
    [({"background": True}, "background"), ({"stream": False}, "stream"), ({"stream_id": ""}, "stream_id")],
)
def test_what_has_no_meaning_over_a_socket_is_refused(socket: Socket, more: dict[str, Any], param: str) -> None:
    error = socket.refused(input="Hi", **more)
    assert (error["status"], error["error"]["param"]) == (400, param)


@pytest.mark.parametrize("more", [{"stream": True}, {"background": False, "stream": None}, {"client_metadata": {}}])
def test_what_clients_send_needlessly_is_taken(socket: Socket, more: dict[str, Any]) -> None:
    assert socket.ask(input="Hi", store=False, **more).text == "Hello there."


def test_a_connection_has_so_many_lanes_only(socket: Socket) -> None:
    for number in range(32):
        assert socket.refused(input="Hi", stream_id=f"lane{number}", temperature=9)["stream_id"] == f"lane{number}"
    error = socket.refused(input="Hi", stream_id="another")
    assert (error["error"]["code"], error["stream_id"]) == ("websocket_stream_limit_reached", "another")
    assert socket.ask(input="Hi", store=False).text == "Hello there."


def test_a_connection_has_so_many_turns_waiting_only(socket: Socket, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=[gate, "Hello"]))
    socket.create(input="Hi", store=False)
    gate.wait()
    for _ in range(65):
        socket.create(input="Hi", store=False)
    error = socket.until("error")
    assert (error["status"], error["error"]["code"]) == (429, "websocket_queue_full")
    gate.open()


@pytest.mark.parametrize(("path", "expected"), [("/v1/models", 405), ("/v1/nowhere", 404), ("/v1/responses/x", 404)])
def test_other_paths_are_no_sockets(server: Server, path: str, expected: int) -> None:
    with pytest.raises(InvalidStatus) as raised:
        connect(server.root.replace("http", "ws", 1) + path)
    assert raised.value.response.status_code == expected
    assert json.loads(bytes(raised.value.response.body))["error"]["type"] == "invalid_request_error"


def test_the_older_path_is_the_same_socket(server: Server) -> None:
    with connect(server.root.replace("http", "ws", 1) + "/v1/openai/v1/responses") as connection:
        assert Socket(connection).ask(input="Hi", store=False).text == "Hello there."


def test_pages_of_other_sites_may_not_connect(server: Server) -> None:
    with pytest.raises(InvalidStatus) as raised:
        opened(server, origin="https://evil.example")
    assert raised.value.response.status_code == 403
    with opened(server, origin=server.root) as connection:
        assert Socket(connection).ask(input="Hi", store=False).text == "Hello there."


def test_wrong_headers_are_refused_before_the_socket_opens(server: Server) -> None:
    with pytest.raises(InvalidStatus) as raised:
        opened(server, additional_headers={"x-antiphon-provider-data": "no json"})
    assert raised.value.response.status_code == 400


# ---------------------------------------------------------------- clients that leave, stay, or do not read


def test_an_unstored_turn_ends_with_its_client(server: Server, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    with opened(server) as connection:
        Socket(connection).create(input="Hi", store=False)
        gate.wait()
        moment = time.monotonic()
    assert host.called(1).abort_seen() - moment < ABORT_S


def ended(server: Server, response_id: str) -> dict[str, Any]:
    """The stored response, once it is finished."""
    deadline = time.monotonic() + WAIT_S
    while (found := server.get(f"/responses/{response_id}").json)["status"] == "in_progress":
        assert time.monotonic() < deadline
    return dict(found)


def test_a_stored_turn_goes_on_without_its_client(server: Server, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    with opened(server) as connection:
        socket = Socket(connection)
        socket.create(input="Hi")
        response_id = socket.event()["response"]["id"]
        socket.create(input="never begun")
        gate.wait()
    gate.open()
    assert ended(server, response_id)["output"][0]["content"][0]["text"] == "Hello"
    assert len(host.calls) == 1


def test_frames_may_come_in_pieces_and_pings_in_between(socket: Socket) -> None:
    text = json.dumps({"type": "response.create", "model": MODEL, "input": "Hi", "store": False})
    socket.connection.send(iter([text[:10], text[10:11], text[11:]]))
    assert socket.connection.ping().wait(WAIT_S)
    assert socket.turn().text == "Hello there."


def test_others_are_served_while_a_client_does_not_read(server: Server, host: Host) -> None:
    host.answer(Reply(text=["x" * 1_000_000] * 40))
    with opened(server, max_queue=1, close_timeout=0.1) as connection:
        Socket(connection).create(input="Hi", store=False)
        host.called(1)
        began = time.monotonic()
        with opened(server) as other:
            assert Socket(other).ask(input="Hi", store=False).text == "Hello there."
        assert time.monotonic() - began < ABORT_S
        assert not host.calls[0].finished.is_set()
    host.calls[0].abort_seen()


def test_many_connections_are_open_at_a_time(server: Server) -> None:
    with ExitStack() as stack:
        sockets = [Socket(stack.enter_context(opened(server))) for _ in range(100)]
        for each in sockets:
            each.create(input="Hi", store=False)
        assert {each.turn().text for each in sockets} == {"Hello there."}


# ---------------------------------------------------------------- limits, and the server's end


def limited(host: Host, folder: Path, **more: Any) -> Any:
    return running({"hosts": {"scripted": {"base_url": host.url}}, **more}, folder)


def test_a_connection_ends_after_its_time(host: Host, tmp_path: Path) -> None:
    with limited(host, tmp_path, timeouts={"socket_s": 0.5}) as server, opened(server) as connection:
        error = Socket(connection).event()
        assert (error["status"], error["error"]["code"]) == (400, "websocket_connection_limit_reached")
        assert Socket(connection).closed() == 1001


def test_a_stored_turn_goes_on_after_its_connection(host: Host, tmp_path: Path) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    with limited(host, tmp_path, timeouts={"socket_s": 0.5}) as server:
        with opened(server) as connection:
            socket = Socket(connection)
            socket.create(input="Hi")
            response_id = socket.event()["response"]["id"]
            assert socket.until("error")["error"]["code"] == "websocket_connection_limit_reached"
        gate.open()
        assert ended(server, response_id)["status"] == "completed"


def test_a_frame_that_is_too_large_is_an_error_and_the_end(host: Host, tmp_path: Path) -> None:
    with limited(host, tmp_path, limits={"body_bytes_max": 10_000}) as server, opened(server) as connection:
        socket = Socket(connection)
        socket.create(input="x" * 10_000)
        error = socket.event()
        assert (error["status"], error["error"]["code"]) == (413, "request_too_large")
        assert socket.closed() == 1009


def test_clients_are_told_when_the_server_stops(host: Host, tmp_path: Path) -> None:
    gate = Gate()
    host.answer(Reply(text=["Hel", gate, "lo"]))
    with ExitStack() as stack:
        with limited(host, tmp_path, timeouts={"shutdown_s": 0.3}) as server:
            idle, busy = (Socket(stack.enter_context(opened(server))) for _ in range(2))
            busy.create(input="Hi", store=False)
            gate.wait()
        assert (idle.closed(), busy.closed()) == (1012, 1012)
    host.calls[0].abort_seen()


def test_a_client_that_answers_no_ping_is_left(host: Host, tmp_path: Path) -> None:
    host.answer(Reply(text=["x" * 1_000_000] * 40))
    deaf: dict[str, Any] = {"max_queue": 1, "close_timeout": 0.1}
    with (
        limited(host, tmp_path, timeouts={"ping_s": 0.2, "pong_s": 0.3}) as server,
        opened(server, **deaf) as connection,
    ):
        Socket(connection).create(input="Hi", store=False)
        host.called(1).abort_seen()


def test_a_connection_is_one_line_in_the_log(host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="antiphon.request")
    headers = {"x-request-id": "mine"}
    with limited(host, tmp_path) as server, opened(server, additional_headers=headers) as connection:
        assert connection.response is not None
        assert connection.response.headers["x-request-id"] == "mine"
        Socket(connection).ask(input="Hi", store=False)
    lines = [record for record in caplog.records if getattr(record, "request_id", "") == "mine"]
    assert [record.getMessage() for record in lines] == ["WEBSOCKET /v1/responses 101"]


# ---------------------------------------------------------------- long contexts


@pytest.mark.parametrize("store", [True, False])
def test_a_turn_whose_context_is_too_long_is_compacted_and_the_next_goes_on_from_there(
    socket: Socket, host: Host, store: bool
) -> None:
    policy = [{"type": "compaction", "compact_threshold": 1000}]
    host.answer(
        Reply(text=["Nice."]), Reply(text=["The cat is called Tom."]), Reply(text=["Tom."]), Reply(text=["Yes."])
    )
    long = "My cat is called Tom. " * 400
    first = socket.ask(input=long, store=store, context_management=policy)
    second = socket.ask(
        input="Its name?", store=store, context_management=policy, previous_response_id=first.response["id"]
    )
    assert [item["type"] for item in second.response["output"]] == ["compaction", "message"]
    socket.ask(input="Sure?", store=store, previous_response_id=second.response["id"])
    shown = " ".join(said(host))
    assert "The cat is called Tom." in shown
    assert long not in shown
    assert len(host.calls) == 4
