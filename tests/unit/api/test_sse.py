"""Streams: what is written, when, and what becomes of them when the client leaves."""

import asyncio

from antiphon.api.route import route
from antiphon.api.sse import COMMENT, DONE, EventStream, KeepAlive
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


# ---------------------------------------------------------------- signs of life


async def comments(talk, count: int) -> None:
    """Waits until a stream has been given so many comments."""
    async with asyncio.timeout(5):
        while sum(message.get("body") == COMMENT for message in talk.sent) < count:
            talk.said.clear()
            await talk.said.wait()


async def test_a_silent_stream_says_that_it_lives_and_what_it_says_is_whole(app) -> None:
    source = Source(b"data: 1\n\n", b"data: 2\n\n" + DONE)
    running = await app(streaming(source), alive=KeepAlive(0.02))
    talk, task = running.begin("GET", "/stream")
    await comments(talk, 3)
    source.go.set()
    await task
    assert talk.complete
    assert talk.body.replace(COMMENT, b"") == b"data: 1\n\ndata: 2\n\n" + DONE
    assert talk.body.startswith(b"data: 1\n\n: keep-alive\n\n")
    assert running.services.alive._open == {}


async def test_nothing_is_said_before_the_head_nor_in_the_middle_of_a_frame(app) -> None:
    begun = asyncio.Event()

    async def slow():
        begun.set()
        await asyncio.Event().wait()
        yield b""

    @route("GET", "/slow")
    async def before_the_head(call):
        return EventStream(slow())

    @route("GET", "/cut")
    async def cut(call):
        return EventStream(Source(b"data: 1\n\nevent: x\n", b"data: 2\n\n")())

    running = await app(streaming(Source(b"data: 1\n\n", DONE)), before_the_head, cut, alive=KeepAlive(0.02))
    asked = [running.begin("GET", path) for path in ("/slow", "/cut", "/stream")]
    await begun.wait()
    (slow_one, _), (cut_one, _), (whole, _) = asked
    await comments(whole, 3)
    assert slow_one.sent == []
    assert cut_one.body == b"data: 1\n\nevent: x\n"
    for talk, task in asked:
        talk.leave()
        await task


async def test_a_stream_with_news_and_one_without_a_client_are_told_nothing(app) -> None:
    source = Source(b"data: 1\n\n", DONE)
    running = await app(streaming(source, detach=True), streaming_busily(), alive=KeepAlive(0.02))
    gone, task = running.begin("GET", "/stream")
    await source.waiting.wait()
    gone.leave()
    await task
    said = len(gone.sent)
    busy, busily = running.begin("GET", "/busy")
    await busily
    assert COMMENT not in busy.body
    assert len(gone.sent) == said
    source.go.set()
    await running.services.tasks.drain(5)


def streaming_busily():
    async def busily():
        until = asyncio.get_running_loop().time() + 0.1
        while asyncio.get_running_loop().time() < until:
            yield b"data: 1\n\n"
            await asyncio.sleep(0)

    @route("GET", "/busy")
    async def busy(call):
        return EventStream(busily())

    return busy


async def test_a_client_without_room_is_told_nothing(app) -> None:
    """uvicorn's `send` waits for room before it writes."""
    room, source = asyncio.Event(), Source(b"data: 1\n\n", DONE)
    room.set()
    running = await app(streaming(source), alive=KeepAlive(0.02))
    talk, task = running.begin("GET", "/stream")
    given, attempts = talk.sent.append, asyncio.Event()

    async def send(message):
        if not room.is_set():
            attempts.set()
            await room.wait()
        given(message)

    await source.waiting.wait()
    (silence,) = running.services.alive._open.values()
    room.clear()
    silence._call._send = send
    said = len(talk.sent)
    await asyncio.wait_for(attempts.wait(), 5)
    assert len(talk.sent) == said
    room.set()
    source.go.set()
    await task
    assert talk.complete
