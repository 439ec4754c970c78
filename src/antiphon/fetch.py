"""What a client's URL names, fetched within a size and a time.

It goes through the same transport as model traffic, so that it is recorded and replayed with it.
"""

import asyncio
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from antiphon.errors import InvalidRequest, Upstream
from antiphon.exchange import NO_REPLAY, Incoming, Outgoing, Replay, Timeouts, Transport
from antiphon.guard import Guard, Target, target_of


class Fetched(Struct, frozen=True, kw_only=True):
    """What a URL led to. `content_type` is what its host calls it, without parameters; `name` is how its path ends."""

    content: bytes
    content_type: str
    name: str


class Fetcher:
    """Fetches what clients' URLs name."""

    def __init__(self, transport: Transport, guard: Guard) -> None:
        self._transport = transport
        self._guard = guard

    async def get(self, url: str, *, param: str | None = None, replay: Replay = NO_REPLAY) -> Fetched:
        """The content. Raises `InvalidRequest`: `invalid_url`, `url_not_allowed`, or `url_not_fetched` and why."""
        try:
            return await self._in_time(url, replay)
        except InvalidRequest as error:
            error.param = error.param or param
            raise

    async def _in_time(self, url: str, replay: Replay) -> Fetched:
        time_s = self._guard.config.time_s
        try:
            async with asyncio.timeout(time_s):
                return await self._fetched(url, replay)
        except TimeoutError as error:
            raise _failed(f"it took longer than {time_s:g} s") from error
        except Upstream as error:
            raise _failed(error.message.removesuffix(".")) from error

    async def _fetched(self, url: str, replay: Replay) -> Fetched:
        target, time_s = target_of(url), self._guard.config.time_s
        self._guard.check(target)  # in replay as well, where nothing is sent
        timeouts = Timeouts(connect_s=time_s, first_byte_s=time_s, idle_s=time_s)
        request = Outgoing(method="GET", url=target.url, headers={}, timeouts=timeouts, replay=replay, guarded=True)
        answer = await self._transport.send(request)
        try:
            return await self._read(answer, target)
        finally:
            await answer.close()

    async def _read(self, answer: Incoming, target: Target) -> Fetched:
        if answer.status != 200:
            raise _failed(f"{target.host} answered with status {answer.status}")
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise _failed(f"{target.host} sent it compressed, although it was asked not to")
        bytes_max = self._guard.config.bytes_max
        announced = answer.headers.get("content-length", "")
        pieces, size = [], int(announced) if announced.isdigit() else 0
        if size <= bytes_max:
            size = 0
            async for piece in answer.pieces:
                size += len(piece)
                if size > bytes_max:
                    break
                pieces.append(piece)
        if size > bytes_max:
            raise _failed(f"it is larger than the {bytes_max} bytes that are allowed")
        return Fetched(
            content=b"".join(pieces),
            content_type=answer.headers.get("content-type", "").partition(";")[0].strip().lower(),
            name=unquote(urlsplit(target.url).path.rpartition("/")[2], errors="replace"),
        )


def _failed(why: str) -> InvalidRequest:
    return InvalidRequest(f"The URL could not be fetched: {why}.", code="url_not_fetched")
