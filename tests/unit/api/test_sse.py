"""Streams: what is written, when, and what becomes of them when the client leaves."""

import asyncio

from antiphon.api.route import route
from antiphon.api.sse import DONE, EventStream
from antiphon.errors import RateLimited


class Source:
    """Batches that come when the test lets them."""

    def __init__(self, *batches: bytes) -> None:
        self.batches = batches
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.handed = 0
        self.closed = asyncio.Event()
        self.cancelled = False

    async def __call__(self):
        try:
            for batch in self.batches:
                self.handed += 1
                yield batch
                self.waiting.set()
                await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.closed.set()


def streaming(source, *, detach: bool = False):
    @route("GET", "/stream")
    async def stream(call):
        call.warn("a warning")
        return EventStream(source(), detach=detach)

    return stream


async def test_batches_are_written_as_they_come_and_the_end_with_the_last(app) -> None:
    source = Source(b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n" + DONE)
    source.go.set()
    got = await (await app(streaming(source))).ask("GET", "/stream")
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert got.headers["cache-control"] == "no-cache"
    assert got.headers["x-accel-buffering"] == "no"
    assert got.headers["x-antiphon-warnings"] == "a warning"
    assert [(message["body"], message["more_body"]) for message in got.sent[1:]] == [
        (b"data: 1\n\ndata: 2\n\n", True),
        (b"data: 3\n\n" + DONE, False),
    ]


async def test_llama_stacks_clients_which_take_done_for_json_are_spared_it(app) -> None:
    source = Source(b"data: 1\n\n", b"data: 2\n\n" + DONE)
    source.go.set()
    got = await (await app(streaming(source))).ask("GET", "/stream", headers={"x-llamastack-client-version": "0.3.0"})
    assert (got.body, got.complete) == (b"data: 1\n\ndata: 2\n\n", True)


async def test_a_stream_without_done_is_ended_too(app) -> None:
    source = Source(b"data: 1\n\n")
    source.go.set()
    got = await (await app(streaming(source))).ask("GET", "/stream")
    assert got.complete
    assert got.body == b"data: 1\n\n"


async def test_an_empty_stream_is_an_answer(app) -> None:
    got = await (await app(streaming(Source()))).ask("GET", "/stream")
    assert (got.status, got.body, got.complete) == (200, b"", True)


async def test_what_is_raised_before_the_first_batch_is_an_http_error(app) -> None:
    async def refused():
        raise RateLimited("Later.", retry_after_s=2)
        yield

    got = await (await app(streaming(refused))).ask("GET", "/stream")
    assert (got.status, got.headers["retry-after"]) == (429, "2")
    assert got.headers["content-type"] == "application/json"


async def test_the_work_after_the_last_batch_is_not_cut_short_by_the_end_of_the_answer(app) -> None:
    source = Source(DONE)
    running = await app(streaming(source))
    talk, task = running.begin("GET", "/stream")
    await source.waiting.wait()
    assert talk.complete
    await asyncio.sleep(0)
    source.go.set()
    await task
    assert source.closed.is_set()
    assert not source.cancelled


async def test_a_client_that_leaves_ends_the_stream_at_once(app, ended) -> None:
    source = Source(b"data: 1\n\n", b"data: 2\n\n")
    talk, task = (await app(streaming(source))).begin("GET", "/stream")
    await source.waiting.wait()
    talk.leave()
    await task
    assert source.cancelled
    assert source.handed == 1
    assert ended[0].status == 499


async def test_a_client_that_leaves_before_the_first_byte_ends_the_stream_at_once(app) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def slow():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield b""

    talk, task = (await app(streaming(slow))).begin("GET", "/stream")
    await begun.wait()
    talk.leave()
    await task
    assert cancelled.is_set()
    assert talk.sent == []


async def test_a_detached_stream_is_read_to_its_end_without_its_client(app) -> None:
    source = Source(b"data: 1\n\n", b"data: 2\n\n", DONE)
    running = await app(streaming(source, detach=True))
    talk, task = running.begin("GET", "/stream")
    await source.waiting.wait()
    talk.leave()
    await task
    assert len(running.services.tasks) == 1
    source.go.set()
    await running.services.tasks.drain(5)
    assert source.handed == 3
    assert not source.cancelled
    assert talk.body == b"data: 1\n\n"
