"""The outermost layer: ids, errors, what is told to telemetry, and the server's own life."""

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest

from antiphon.api.route import route
from antiphon.api.server import application
from antiphon.api.sse import EventStream
from antiphon.errors import Conflict, RateLimited
from antiphon.wire.models import Health


@route("GET", "/ok", answer=Health)
async def ok(call):
    return Health()


@route("GET", "/conflict")
async def conflict(call):
    raise Conflict("Taken.", param="id")


@route("GET", "/later")
async def later(call):
    raise RateLimited("Later.", retry_after_s=3)


@route("GET", "/cancelled")
async def cancelled(call):
    raise asyncio.CancelledError


@route("GET", "/broken/{what}")
async def broken(call):
    raise ZeroDivisionError("the secret prompt")


@route("GET", "/breaks")
async def breaks(call):
    async def batches():
        yield b"data: 1\n\n"
        raise ZeroDivisionError

    return EventStream(batches())


async def test_every_answer_has_an_id_of_its_own(app) -> None:
    running = await app(ok)
    first, second = await running.ask("GET", "/ok"), await running.ask("GET", "/ok")
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2_3", True), ("x" * 129, False), ("a b", False), ("", False)])
async def test_a_sane_id_of_the_clients_is_kept(app, given, kept) -> None:
    got = await (await app(ok)).ask("GET", "/ok", headers={"x-request-id": given})
    assert (got.headers["x-request-id"] == given) is kept


async def test_what_a_stopping_server_cancels_is_a_503(app) -> None:
    got = await (await app(cancelled)).ask("GET", "/cancelled")
    assert (got.status, got.error["code"], got.headers["retry-after"]) == (503, "service_unavailable", "1")


async def test_an_api_error_is_answered_in_openais_form(app) -> None:
    running = await app(conflict, later)
    got = await running.ask("GET", "/conflict")
    assert (got.status, got.error["param"], got.error["code"]) == (409, "id", "conflict")
    assert got.headers["x-request-id"]
    got = await running.ask("GET", "/later")
    assert (got.status, got.headers["retry-after"]) == (429, "3")


async def test_a_fault_of_ours_is_hidden_and_logged_once_with_its_id(app, caplog) -> None:
    got = await (await app(broken)).ask("GET", "/broken/7")
    assert (got.status, got.error["code"], got.error["type"]) == (500, "internal_error", "server_error")
    assert "secret" not in got.error["message"]
    assert got.headers["x-request-id"] in got.error["message"]
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1
    assert logged[0].request_id == got.headers["x-request-id"]
    assert "ZeroDivisionError" in logged[0].exception
    assert logged[0].exc_info is None


async def test_after_the_answer_has_begun_a_fault_only_ends_it(app, caplog) -> None:
    got = await (await app(breaks)).ask("GET", "/breaks")
    assert got.status == 200
    assert got.body == b"data: 1\n\n"
    assert not got.complete
    assert len(caplog.records) == 1


async def test_an_unknown_path_is_404_and_a_wrong_method_405_with_allow(app) -> None:
    running = await app(ok, broken)
    got = await running.ask("GET", "/nothing")
    assert (got.status, got.error["code"]) == (404, "unknown_url")
    got = await running.ask("POST", "/ok")
    assert (got.status, got.error["code"], got.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD")
    got = await running.ask("DELETE", "/broken/7")
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


async def test_head_is_answered_where_get_is(app) -> None:
    assert (await (await app(ok)).ask("HEAD", "/ok")).status == 200


async def test_telemetry_hears_of_every_request_by_its_pattern(app, ended) -> None:
    running = await app(ok, broken)
    for path in ("/ok", "/broken/7", "/nothing"):
        await running.ask("GET", path)
    assert [(each.method, each.route, each.status, each.error) for each in ended] == [
        ("GET", "/ok", 200, ""),
        ("GET", "/broken/{what}", 500, "ZeroDivisionError"),
        ("GET", "", 404, "NotFound"),
    ]
    assert all(each.ms >= 0 and each.request_id for each in ended)


async def test_llama_stacks_older_prefix_means_v1(app) -> None:
    @route("GET", "/v1/x", answer=Health)
    async def x(call):
        return Health()

    assert (await (await app(x)).ask("GET", "/v1/openai/v1/x")).status == 200


@pytest.mark.parametrize(("path", "status"), [("/ok", 405), ("/nowhere", 404)])
async def test_a_websocket_that_no_route_opens_is_refused_before_it_is_accepted(app, ended, path, status) -> None:
    got = await (await app(ok)).ask("GET", path, kind="websocket")
    assert [each["type"] for each in got.sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (got.status, got.error["type"]) == (status, "invalid_request_error")
    assert [(each.method, each.status) for each in ended] == [("WEBSOCKET", status)]


async def test_services_that_do_not_open_stop_the_start_with_a_reason() -> None:
    @asynccontextmanager
    async def opening():
        raise OSError("the disk is full")
        yield

    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    await application(opening, [ok])({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": "the disk is full"}]


async def test_services_are_closed_when_the_server_stops(services) -> None:
    steps: list[str] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    @asynccontextmanager
    async def opening():
        steps.append("opened")
        yield services
        steps.append("closed")

    async def receive():
        await asyncio.sleep(0)
        return messages.pop(0)

    async def send(message):
        steps.append(message["type"])

    await application(opening, [ok])({"type": "lifespan"}, receive, send)
    assert steps == ["opened", "lifespan.startup.complete", "closed", "lifespan.shutdown.complete"]
