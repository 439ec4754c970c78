"""What a connection remembers, and how it tells of errors."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from antiphon.api.socket import REMEMBERED_MAX, Memory, connect_responses, error_frame
from antiphon.engine.run import Recent, Run
from antiphon.errors import ApiError, InvalidRequest, NotFound, RateLimited, UpstreamRejected
from antiphon.models.base import NO_ACCESS, ModelRequest
from antiphon.wire.items import InputText, Item, Message
from antiphon.wire.responses import Response

FRAME = '{"type": "response.create", "model": "m", "input": "Hi"}'


def said(text: str) -> Message:
    return Message(role="user", content=[InputText(text=text)])


def response(name: str, *, after: str | None = None, store: bool = False, output: tuple[Item, ...] = ()) -> Response:
    return Response(
        id=name, created_at=1, status="completed", model="m", previous_response_id=after, store=store, output=[*output]
    )


def run(*given: Item) -> Run:
    request = ModelRequest(model="m", items=[])
    return Run(
        response=response("resp_0"), owner="", host="h", access=NO_ACCESS, request=request, offers={}, input=given
    )


def test_a_turn_is_remembered_with_all_that_went_before_it() -> None:
    memory = Memory(1000)
    memory.keep(run(said("1")), response("a", output=(said("2"),)), lane="", size=10)
    memory.keep(run(said("3")), response("b", after="a", output=(said("4"),)), lane="", size=10)
    assert memory.recent["b"] == Recent(items=(said("1"), said("2"), said("3"), said("4")))
    assert memory.recent["a"] == Recent(items=(said("1"), said("2")))


def test_what_the_store_has_is_named_and_not_remembered() -> None:
    memory = Memory(1000)
    memory.keep(run(), response("stored", store=True), lane="", size=10)
    memory.keep(run(said("1")), response("a", after="stored"), lane="", size=10)
    memory.keep(run(said("2")), response("b", after="a"), lane="", size=10)
    assert memory.recent.keys() == {"a", "b"}
    assert memory.recent["b"] == Recent(items=(said("1"), said("2")), stored="stored")


def test_a_stored_turn_after_an_unstored_one_is_remembered_since_the_store_has_not_its_context() -> None:
    memory = Memory(1000)
    memory.keep(run(said("1")), response("a"), lane="", size=10)
    memory.keep(run(said("2")), response("b", after="a", store=True), lane="", size=10)
    assert memory.recent["b"].items == (said("1"), said("2"))


def test_a_turn_of_a_conversation_is_continued_by_its_conversation() -> None:
    memory = Memory(1000)
    memory.keep(replace(run(), conversation="conv_1"), response("a"), lane="", size=10)
    assert memory.recent == {}


def test_the_oldest_is_forgotten_first_by_number_and_by_size() -> None:
    memory = Memory(1000)
    for number in range(REMEMBERED_MAX + 2):
        memory.keep(run(), response(f"{number}"), lane="", size=1)
    assert list(memory.recent) == [f"{number}" for number in range(2, REMEMBERED_MAX + 2)]
    memory.keep(run(), response("large"), lane="", size=990)
    assert len(memory.recent) == 11
    memory.keep(run(), response("too large"), lane="", size=1001)
    assert len(memory.recent) == 11


def test_a_context_counts_whole_each_time() -> None:
    memory = Memory(100)
    memory.keep(run(), response("a"), lane="", size=40)
    memory.keep(run(), response("b", after="a"), lane="", size=40)
    assert list(memory.recent) == ["b"]


def test_a_failed_continuation_makes_its_own_lane_forget() -> None:
    memory = Memory(1000)
    memory.keep(run(), response("a"), lane="one", size=1)
    memory.forget("a", lane="other")
    memory.forget("unknown", lane="one")
    assert memory.recent.keys() == {"a"}
    memory.forget("a", lane="one")
    assert memory.recent == {}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("No.", param="input"), 400, "invalid_value"),
        (NotFound("No.", code="previous_response_not_found"), 400, "previous_response_not_found"),
        (NotFound("No.", code="model_not_found"), 404, "model_not_found"),
        (UpstreamRejected("No.", status=418), 418, "upstream_error"),
    ],
)
def test_an_error_frame_has_the_status_and_always_a_code(error: ApiError, status: int, code: str) -> None:
    shown = json.loads(error_frame(error, ""))
    assert (shown["type"], shown["status"], shown["error"]["code"]) == ("error", status, code)
    assert shown["error"].items() >= {"message": "No.", "type": "invalid_request_error", "param": error.param}.items()
    assert shown.keys() == {"type", "status", "error"}


def test_an_error_frame_names_its_lane_and_has_the_headers_of_http() -> None:
    shown = msgspec.json.decode(error_frame(RateLimited("Later.", retry_after_s=2.2), "planner"))
    assert (shown["stream_id"], shown["error"]["headers"]) == ("planner", {"retry-after": "3"})


async def test_a_turn_that_breaks_is_an_error_frame_and_the_connection_goes_on(app, caplog) -> None:
    running = await app(connect_responses)  # without an engine
    coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    going: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    talk, task = running.begin("GET", "/v1/responses", kind="websocket", channel=(coming.get, going.put))
    coming.put_nowait({"type": "websocket.connect"})
    assert (await going.get())["type"] == "websocket.accept"
    for _ in range(2):
        coming.put_nowait({"type": "websocket.receive", "text": FRAME})
        error = json.loads((await going.get())["text"])
        assert (error["status"], error["error"]["code"]) == (500, "internal_error")
    coming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await task
    assert talk.sent == []
    assert [record.message for record in caplog.records] == ["a turn failed", "a turn failed"]


async def test_a_client_that_leaves_before_its_socket_opens_costs_nothing(app, ended) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        raise OSError

    _, task = (await app(connect_responses)).begin("GET", "/v1/responses", kind="websocket", channel=(receive, send))
    await task
    assert [(each.status, each.error) for each in ended] == [(499, "")]
