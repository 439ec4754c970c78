"""Answers of hosts on their way through: whole events, and an end that never lies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.api.relay import Cutter, kept, relayed, whole
from antiphon.api.sse import DONE
from antiphon.errors import ApiError, Unavailable, Upstream, UpstreamTimeout
from antiphon.exchange import Incoming

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}
TEXT = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{}}\n\n'
ERROR = b'data: {"error": {"message": "it broke"}}\n\n'


class Host:
    """A host that says these pieces; an exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception, headers: dict[str, str] = SSE) -> None:
        self.pieces = pieces
        self.headers = headers
        self.closed = 0
        self.read = 0

    async def post(self) -> Incoming:
        return Incoming(200, self.headers, self._said(), closer=self._close)

    async def _said(self):
        for piece in self.pieces:
            self.read += 1
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def _close(self) -> None:
        self.closed += 1


async def stream(*pieces: bytes | Exception, headers: dict[str, str] = SSE, bytes_max: int = 10_000) -> list[bytes]:
    host = Host(*pieces, headers=headers)
    try:
        return [batch async for batch in relayed("h", host.post(), bytes_max=bytes_max)]
    finally:
        assert host.closed == 1


def error_in(batch: bytes) -> dict[str, str]:
    assert batch.startswith(b"data: ")
    assert batch.endswith(b"\n\n")
    return json.loads(batch[6:])["error"]


async def test_a_stream_is_passed_on_byte_for_byte() -> None:
    assert await stream(TEXT, STOP + USAGE, DONE) == [TEXT, STOP + USAGE, DONE]


async def test_what_follows_done_is_read_and_not_passed_on() -> None:
    host = Host(TEXT + STOP + DONE, b": bye\n\n")
    assert [batch async for batch in relayed("h", host.post(), bytes_max=100)] == [TEXT + STOP + DONE]
    assert host.read == 2


async def test_comments_and_event_lines_are_passed_on() -> None:
    first = b": OPENROUTER PROCESSING\n\n"
    assert await stream(first, b"event: x\n" + STOP, DONE) == [first, b"event: x\n" + STOP, DONE]


async def test_a_host_that_forgets_done_is_helped_out() -> None:
    assert await stream(TEXT, STOP) == [TEXT, STOP, DONE]
    assert await stream(TEXT, STOP.replace(b'":"', b'": "')) == [TEXT, STOP.replace(b'":"', b'": "'), DONE]


async def test_a_last_event_without_its_blank_line_is_completed() -> None:
    assert await stream(TEXT, STOP + b"data: [DONE]") == [TEXT, STOP, DONE]
    assert await stream(TEXT, STOP.strip()) == [TEXT, STOP, DONE]


async def test_a_stream_without_finish_reason_ends_with_an_error_and_no_done() -> None:
    got = await stream(TEXT, TEXT)
    assert got[:2] == [TEXT, TEXT]
    assert "without a finish reason" in error_in(got[2])["message"]
    assert len(got) == 3


async def test_a_stream_that_breaks_ends_with_its_error() -> None:
    got = await stream(TEXT, UpstreamTimeout("Too slow."))
    assert error_in(got[-1]) == {
        "message": "Too slow.",
        "type": "upstream_error",
        "param": None,
        "code": "upstream_timeout",
    }
    assert DONE not in got


async def test_half_an_event_at_the_break_is_not_passed_on() -> None:
    got = await stream(TEXT, TEXT[:30])
    assert got[0] == TEXT
    assert error_in(got[1])
    assert len(got) == 2


async def test_a_stream_that_breaks_after_its_finish_reason_is_complete() -> None:
    assert await stream(TEXT, STOP, Upstream("Reset.")) == [TEXT, STOP, DONE]


async def test_an_error_of_the_hosts_own_is_the_last_word() -> None:
    assert await stream(TEXT, ERROR) == [TEXT, ERROR]
    assert await stream(TEXT, ERROR, Upstream("Reset.")) == [TEXT, ERROR]


@pytest.mark.parametrize(
    ("pieces", "headers"),
    [
        ([], SSE),
        ([b"<html>please log in</html>"], {"content-type": "text/html"}),
        ([b'{"choices": []}'], JSON),
        ([b"<html>\n\n</html>\n\n"], SSE),
        ([b"garbage\n\n"], {}),
        ([Upstream("Gone.")], SSE),
    ],
)
async def test_what_never_was_a_stream_is_an_error_before_the_first_byte(pieces, headers) -> None:
    with pytest.raises(Upstream):
        await stream(*pieces, headers=headers)


async def test_an_endless_event_is_not_kept() -> None:
    got = await stream(TEXT, *[b"data: " + b"x" * 1000] * 5, bytes_max=3000)
    assert "3000 bytes" in error_in(got[-1])["message"]


@given(st.data())
def test_events_are_whole_however_the_bytes_are_cut(data) -> None:
    events = data.draw(st.lists(st.sampled_from([TEXT, STOP, b"data: x\r\n\r\n", b": c\n\n"]), max_size=6))
    rest = data.draw(st.sampled_from([b"", b"data: half", b"data: half\n", b"data: half\r\n\r"]))
    sent = b"".join(events) + rest
    cutter, got, at = Cutter(), b"", 0
    while at < len(sent):
        size = data.draw(st.integers(1, 40))
        batch = cutter.feed(sent[at : at + size])
        at += size
        got += batch
        assert not batch or batch.endswith((b"\n\n", b"\r\n\r\n"))
    assert got == b"".join(events)
    assert cutter.rest() == rest


# ---------------------------------------------------------------- whole answers


async def test_a_whole_answer_is_passed_on_as_it_is() -> None:
    body = b'{ "choices": [], "own": 1 }'
    assert await whole("h", Host(body[:5], body[5:], headers=JSON).post(), bytes_max=100, member="choices") == body


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"[]", b"{}", b'{"choices": ', b'{"choices": "\xff"}'])
async def test_what_is_no_answer_is_an_upstream_error(body) -> None:
    with pytest.raises(Upstream) as caught:
        await whole("h", Host(body, headers={"content-type": "text/html"}).post(), bytes_max=100, member="choices")
    assert "text/html" in caught.value.message


async def test_an_error_inside_a_200_is_an_error() -> None:
    body = b'{"error": {"message": "no such model", "code": "model_not_found"}}'
    with pytest.raises(ApiError) as caught:
        await whole("h", Host(body, headers=JSON).post(), bytes_max=1000, member="choices")
    assert caught.value.status == 404
    assert "no such model" in caught.value.message


async def test_an_answer_has_a_size_limit() -> None:
    with pytest.raises(Upstream):
        await whole("h", Host(b'{"choices": []}', headers=JSON).post(), bytes_max=10, member="choices")


# ---------------------------------------------------------------- streams that are kept


async def relay_of(*batches: bytes):
    for batch in batches:
        yield batch


async def test_a_stream_is_kept_before_its_end_is_told() -> None:
    steps: list[bytes | str] = []

    async def put(data: bytes) -> None:
        steps.append(b"put " + data)

    async for batch in kept(relay_of(TEXT, STOP + DONE), put):
        steps.append(batch)  # noqa: PERF401 (the order of steps is what this is about)
    assert steps == [TEXT, STOP, b"put " + TEXT + STOP + DONE, DONE]


async def test_a_stream_that_cannot_be_kept_ends_with_an_error() -> None:
    async def put(_data: bytes) -> None:
        raise Unavailable("The disk is full.")

    got = [batch async for batch in kept(relay_of(TEXT, STOP, DONE), put)]
    assert got[:2] == [TEXT, STOP]
    assert error_in(got[2])["message"] == "The disk is full."
    assert len(got) == 3


async def test_a_stream_that_broke_is_not_kept() -> None:
    async def put(_data: bytes) -> None:
        raise AssertionError

    assert [batch async for batch in kept(relay_of(TEXT, ERROR), put)] == [TEXT, ERROR]
