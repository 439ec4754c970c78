"""The outgoing client: what arrives, what is never sent twice, what ends when, and what its errors say."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import pytest

from antiphon.egress import CONNECT_RETRIES_MAX, LiveTransport, read_whole
from antiphon.errors import InvalidRequest, Upstream, UpstreamTimeout
from antiphon.exchange import Incoming, Outgoing, Timeouts
from antiphon.testing.host import CLOSE, HANG, RESET, SILENT, Gate, Host, Raw, Reply, status

SECRET = "sk-the-secret-that-nobody-may-see"
UNHURRIED = Timeouts()
JSON = (("content-type", "application/json"),)


class Tidy:
    """A transport without pauses between attempts that closes what a test leaves open."""

    def __init__(self) -> None:
        self.live = LiveTransport(pause=lambda _: asyncio.sleep(0))
        self.answers: list[Incoming] = []

    async def send(self, request: Outgoing) -> Incoming:
        answer = await self.live.send(request)
        self.answers.append(answer)
        return answer

    async def close(self) -> None:
        for answer in self.answers:
            await answer.close()
        await self.live.close()


@pytest.fixture
async def live() -> AsyncIterator[Tidy]:
    """The transport under test."""
    transport = Tidy()
    yield transport
    await transport.close()


def post(url: str, *, timeouts: Timeouts = UNHURRIED, body: bytes = b'{"model": "m", "stream": true}') -> Outgoing:
    """A chat request."""
    headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
    place = f"{url}/chat/completions"
    return Outgoing(method="POST", url=place, headers=headers, body=body, host="fake", timeouts=timeouts)


def unused_port() -> int:
    """A port at which nobody listens."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Greeter:
    """A host that says `hi` to everything, and counts its connections."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self.url = f"http://127.0.0.1:{port}/v1"
        self._port = port
        self._ended = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens from now on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def close(self) -> None:
        """Stops, after the only client has gone."""
        assert self._server is not None
        await self._ended.wait()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        writer.close()
        self._ended.set()


async def test_pieces_arrive_as_they_were_sent(live: Tidy, host: Host) -> None:
    gates = [Gate(), Gate()]
    host.answer(Raw(steps=[b"one", gates[0], b"two", gates[1], b"three"]))
    answer = await live.send(post(host.url))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    pieces = aiter(answer.pieces)
    seen = []
    for gate in gates:
        seen.append(await anext(pieces))
        gate.open()
    seen.append(await anext(pieces))
    assert seen == [b"one", b"two", b"three"]
    assert [piece async for piece in pieces] == []


async def test_the_request_is_sent_as_it_is(live: Tidy, host: Host) -> None:
    await (await live.send(post(host.url, body=b'{"model":  "m"}'))).read()
    (request,) = host.calls
    assert (request.method, request.path, request.body) == ("POST", "/v1/chat/completions", b'{"model":  "m"}')
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"
    assert "cookie" not in request.headers


async def test_a_connection_is_used_again_after_a_whole_answer(live: Tidy) -> None:
    server = Greeter(unused_port())
    await server.start()
    for _ in range(3):
        answer = await live.send(post(server.url, body=b""))
        assert await answer.read() == b"hi"
    await live.close()
    await server.close()
    assert server.connections == 1


async def test_an_error_status_and_a_redirect_are_answers(live: Tidy, host: Host) -> None:
    moved = Raw(status=307, headers=[("location", f"{host.url}/elsewhere")])
    host.answer(status(429, "slow down", retry_after="7"), moved)
    limited = await live.send(post(host.url))
    assert (limited.status, limited.headers["retry-after"]) == (429, "7")
    assert b"slow down" in await limited.read()
    assert (await live.send(post(host.url))).status == 307
    assert len(host.requests) == 2


async def test_a_compressed_answer_is_plain_and_says_so(live: Tidy, host: Host) -> None:
    packed = gzip.compress(b'{"a": 1}')
    host.answer(Raw(headers=[*JSON, ("content-encoding", "gzip")], steps=[packed[:5], packed[5:]]))
    answer = await live.send(post(host.url))
    assert "content-encoding" not in answer.headers
    assert await answer.read() == b'{"a": 1}'


async def test_set_cookie_is_not_sent_back(live: Tidy, host: Host) -> None:
    host.answer(Raw(headers=[*JSON, ("set-cookie", "session=1")], steps=[b"{}"]))
    for _ in range(2):
        await (await live.send(post(host.url))).read()
    assert "cookie" not in host.calls[1].headers


# ---------------------------------------------------------------- never twice


async def test_a_host_that_appears_between_attempts_is_reached() -> None:
    server = Greeter(unused_port())

    async def start(_: float) -> None:
        await server.start()

    transport = LiveTransport(pause=start)
    assert await (await transport.send(post(server.url))).read() == b"hi"
    await transport.close()
    await server.close()
    assert server.connections == 1


async def test_attempts_to_connect_are_bounded_and_pauses_grow() -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    transport, port = LiveTransport(pause=pause), unused_port()
    with pytest.raises(
        Upstream, match=rf"Model host fake \(127\.0\.0\.1:{port}\) cannot be reached: Connection refused\."
    ) as caught:
        await transport.send(post(f"http://127.0.0.1:{port}/v1"))
    await transport.close()
    assert len(pauses) == CONNECT_RETRIES_MAX
    assert pauses == sorted(pauses)
    assert SECRET not in str(caught.value)


async def test_attempts_end_when_no_time_to_connect_is_left() -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    transport = LiveTransport(pause=pause)
    with pytest.raises(Upstream):
        await transport.send(post(f"http://127.0.0.1:{unused_port()}/v1", timeouts=Timeouts(connect_s=0.01)))
    await transport.close()
    assert pauses == []


@pytest.mark.parametrize("end", [RESET, CLOSE])
async def test_a_post_that_was_not_answered_is_not_repeated(live: Tidy, host: Host, end: object) -> None:
    host.answer(Raw(steps=[end], head=False))  # type: ignore[list-item]
    with pytest.raises(Upstream, match="Model host fake"):
        await live.send(post(host.url))
    assert len(host.calls) == 1


@pytest.mark.parametrize("end", [RESET, CLOSE])
async def test_a_post_on_a_kept_connection_that_dies_is_not_repeated(live: Tidy, host: Host, end: object) -> None:
    host.answer(Reply(text=["fine"]), Raw(steps=[end], head=False))  # type: ignore[list-item]
    await (await live.send(post(host.url))).read()
    with pytest.raises(Upstream):
        await live.send(post(host.url))
    assert len(host.calls) == 2


# ---------------------------------------------------------------- time


async def test_a_host_that_never_answers_is_a_timeout(live: Tidy, host: Host) -> None:
    host.answer(SILENT)
    with pytest.raises(UpstreamTimeout, match=r"did not begin to answer within 0\.05 s"):
        await live.send(post(host.url, timeouts=Timeouts(first_byte_s=0.05)))
    assert len(host.calls) == 1
    await asyncio.to_thread(host.calls[0].abort_seen)


async def test_a_host_that_falls_silent_is_a_timeout_and_is_left(live: Tidy, host: Host) -> None:
    host.answer(Raw(steps=[b"data: 1\n\n", HANG]))
    answer = await live.send(post(host.url, timeouts=Timeouts(idle_s=0.05)))
    pieces = aiter(answer.pieces)
    assert await anext(pieces) == b"data: 1\n\n"
    with pytest.raises(UpstreamTimeout, match=r"sent nothing for 0\.05 s"):
        await anext(pieces)
    await asyncio.to_thread(host.calls[0].abort_seen)


async def test_a_slow_reader_is_no_silent_host(live: Tidy, host: Host) -> None:
    gate = Gate()
    host.answer(Raw(steps=[b"one", gate, b"two"]))
    answer = await live.send(post(host.url, timeouts=Timeouts(idle_s=0.3)))
    pieces = aiter(answer.pieces)
    assert await anext(pieces) == b"one"
    busy = asyncio.Event()  # the reader is busy for longer than the host may be silent
    asyncio.get_running_loop().call_later(0.6, busy.set)
    await busy.wait()
    gate.open()
    assert await anext(pieces) == b"two"


# ---------------------------------------------------------------- ends


async def test_closing_early_aborts_the_call(live: Tidy, host: Host) -> None:
    gate = Gate()
    host.answer(Raw(steps=[b"one", gate, b"two"]))
    answer = await live.send(post(host.url))
    await anext(aiter(answer.pieces))
    await answer.close()
    await answer.close()
    await asyncio.to_thread(host.calls[0].abort_seen)


async def test_cancelling_before_the_first_byte_aborts_the_call(live: Tidy, host: Host) -> None:
    host.answer(SILENT)
    task = asyncio.ensure_future(live.send(post(host.url)))
    await asyncio.to_thread(host.called)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(host.calls[0].abort_seen)


async def test_closing_while_somebody_waits_for_a_piece_ends_the_wait(live: Tidy, host: Host) -> None:
    host.answer(Raw(steps=[b"one", HANG]))
    answer = await live.send(post(host.url))
    pieces = aiter(answer.pieces)
    await anext(pieces)
    waiting = asyncio.ensure_future(anext(pieces, b""))
    await asyncio.sleep(0)
    await answer.close()
    with pytest.raises(Upstream):
        await waiting


@pytest.mark.parametrize("end", [RESET, CLOSE])
async def test_a_stream_that_breaks_off_is_an_error_after_its_pieces(live: Tidy, host: Host, end: object) -> None:
    gate = Gate()
    host.answer(Raw(steps=[b"one", gate, end]))  # type: ignore[list-item]
    answer = await live.send(post(host.url))
    pieces = aiter(answer.pieces)
    assert await anext(pieces) == b"one"
    gate.open()
    with pytest.raises(Upstream, match="Model host fake") as caught:
        await anext(pieces)
    assert not isinstance(caught.value, UpstreamTimeout)


async def test_what_is_no_http_is_an_upstream_error(live: Tidy, host: Host) -> None:
    host.answer(Raw(steps=[b"SSH-2.0-OpenSSH_9.9\r\n", CLOSE], head=False))
    with pytest.raises(Upstream):
        await live.send(post(host.url))


async def test_a_key_with_a_line_break_is_refused_without_being_shown(live: Tidy, host: Host) -> None:
    request = Outgoing(method="POST", url=f"{host.url}/x", headers={"authorization": "Bearer abc\r\nx: y"}, host="fake")
    with pytest.raises(InvalidRequest) as caught:
        await live.send(request)
    assert "abc" not in caught.value.message


@pytest.mark.parametrize("url", ["http://[::1/v1", "ftp://127.0.0.1/v1", "nonsense", "http://127.0.0.1:99999/v1"])
async def test_an_impossible_address_is_an_error_of_ours(live: Tidy, url: str) -> None:
    with pytest.raises((Upstream, InvalidRequest)):
        await live.send(post(url))


async def test_a_closed_transport_opens_again(host: Host) -> None:
    transport = LiveTransport()
    await transport.close()
    await (await transport.send(post(host.url))).read()
    await transport.close()
    assert (await (await transport.send(post(host.url))).read()).startswith(b"data: ")
    await transport.close()


# ---------------------------------------------------------------- whole bodies


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body."""
    for piece in pieces:
        yield piece


async def test_a_whole_body_is_read_up_to_its_bound() -> None:
    assert await read_whole(Incoming(200, {}, pieces_of(b"ab", b"cd")), bytes_max=4) == b"abcd"


async def test_a_body_beyond_its_bound_is_an_error_and_closes_the_answer() -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    with pytest.raises(Upstream, match="more than the 3 bytes"):
        await read_whole(Incoming(200, {}, pieces_of(b"ab", b"cd", b"ef"), closer=close), bytes_max=3)
    assert closed == [True]
