"""The one outgoing HTTP client: every byte that leaves this server for another host passes `LiveTransport`.

What is sent may be paid for, so nothing is ever sent twice. A connection that was never established is tried again, a
bounded number of times inside `connect_s`; whatever happens after that is reported. (aiohttp repeats idempotent methods
by itself when a kept-alive connection turns out to be dead; a POST it does not.) The price is a race: a host may close
an idle connection at the moment we reuse it. `KEEPALIVE_S` lies below the five seconds after which the common model
servers close theirs, so that we are the ones who close, and the race does not arise.

What goes to an address that a client chose (`Outgoing.guarded`) has connections of its own, each for one request: its
URL is written anew by `guard`, its host is looked up once, every address found is judged, and only those are connected
to. So no second look-up can answer otherwise, and no connection outlives the judgement. Redirects are followed here, so
that each is judged, and a recording holds one request and the content it led to.
"""

import asyncio
import functools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec.structs import replace

from antiphon import __version__
from antiphon.errors import InvalidRequest, Upstream, UpstreamTimeout
from antiphon.exchange import Incoming, Outgoing
from antiphon.guard import Guard, addresses_in, redirected, target_of, too_often
from antiphon.limits import FetchConfig

KEEPALIVE_S: Final = 4.0
CONNECT_RETRIES_MAX: Final = 2
BACK_OFF_S: Final = 0.05
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
PIECE_BYTES_MAX: Final = 32 * 1024
"""A piece lies in several buffers at once on its way to a client who does not read."""

_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_NOT_WORTH_A_RETRY = (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError)
LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> the host's addresses, as text. Raises `OSError` where there are none."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"User-Agent": f"antiphon/{__version__}", "Accept-Encoding": "identity"}


async def looked_up(host: str, port: int) -> Sequence[str]:
    """A host's addresses, by the machine's own resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class LiveTransport:
    """Sends requests over the network, with one pool of connections for all hosts."""

    def __init__(
        self,
        *,
        connect_retries_max: int = CONNECT_RETRIES_MAX,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        guard: Guard | None = None,
        look_up: LookUp = looked_up,
    ) -> None:
        self._connect_retries_max = connect_retries_max
        self._pause = pause
        self._guard = guard or Guard(FetchConfig())
        self._look_up = look_up
        self._session: aiohttp.ClientSession | None = None
        self._guarded_session: aiohttp.ClientSession | None = None

    async def send(self, request: Outgoing) -> Incoming:
        """Sends `request`; returns when the head of the answer is there. Redirects are answers like any other.

        Those of a guarded request are followed; where one leads to what is not allowed, `InvalidRequest` is raised.
        """
        if request.guarded:
            response = await self._guarded_head(request)
        else:
            response = await self._head(self._session or self._open(), request)
        answer = _Answer(response, request)
        headers = {name.lower(): value for name, value in response.headers.items()}
        if (
            "content-encoding" in headers and not request.guarded
        ):  # sent although we asked for identity; aiohttp has undone it
            del headers["content-encoding"]
            headers.pop("content-length", None)
        return Incoming(response.status, headers, answer.pieces(), closer=answer.close)

    async def close(self) -> None:
        """Closes all connections. A later `send` opens new ones."""
        sessions = (self._session, self._guarded_session)
        self._session = self._guarded_session = None
        for session in sessions:
            if session is not None:
                await session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=PIECE_BYTES_MAX,
            headers=_HEADERS,
            skip_auto_headers=("Content-Type",),
        )
        return self._session

    def _open_guarded(self) -> aiohttp.ClientSession:
        """What is compressed is not unpacked here: a little of it can become very much."""
        self._guarded_session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, use_dns_cache=False, resolver=_Checked(self._guard, self._look_up)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=PIECE_BYTES_MAX,
            headers=_HEADERS,
            auto_decompress=False,
        )
        return self._guarded_session

    async def _guarded_head(self, request: Outgoing) -> aiohttp.ClientResponse:
        """The head of the answer at the end of all redirects, each of which is judged as the first address was."""
        session = self._guarded_session or self._open_guarded()
        target, redirects_max = target_of(request.url), self._guard.config.redirects_max
        for _ in range(redirects_max + 1):
            self._guard.check(target)
            response = await self._head(session, replace(request, url=target.url))
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None or not request.follow:
                return response
            response.close()
            target = redirected(target, location)
        raise too_often(redirects_max)

    async def _head(self, session: aiohttp.ClientSession, request: Outgoing) -> aiohttp.ClientResponse:
        """The answer's head, after as many attempts to connect as `connect_s` and the bound allow."""
        now = asyncio.get_running_loop().time
        deadline = now() + request.timeouts.connect_s
        remaining_s = request.timeouts.connect_s
        for attempt in range(self._connect_retries_max + 1):
            try:
                return await _attempt(session, request, remaining_s)
            except _NEVER_CONNECTED as error:
                pause_s = BACK_OFF_S * 4**attempt
                remaining_s = deadline - now() - pause_s
                last = attempt == self._connect_retries_max or isinstance(error, _NOT_WORTH_A_RETRY)
                if last or remaining_s <= 0:
                    raise _translated(error, request) from error
                await self._pause(pause_s)
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
                raise _translated(error, request) from error
            except ValueError as error:
                raise InvalidRequest(
                    f"A request to {_name(request)} cannot be formed: its URL or one of its headers (the key?) has"
                    " characters that HTTP does not allow."
                ) from error
        raise AssertionError("the last attempt returns or raises")


class _Checked(AbstractResolver):
    """Looks a host up, and gives its addresses to be connected to only if all of them are allowed."""

    def __init__(self, guard: Guard, look_up: LookUp) -> None:
        self._guard = guard
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses. Raises `InvalidRequest`."""
        try:
            addresses = addresses_in(await self._look_up(host, port))
        except ValueError as error:
            raise OSError(f"{host} has an address that is none") from error
        self._guard.check_addresses(host, addresses)
        found = [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]
        return [each for each in found if family in (socket.AF_UNSPEC, each["family"])]

    async def close(self) -> None:
        """Holds nothing."""


class _Answer:
    """The body of one answer while it arrives, and the watch over the host's silences."""

    __slots__ = ("_expired", "_request", "_response", "_since", "_timer")

    def __init__(self, response: aiohttp.ClientResponse, request: Outgoing) -> None:
        self._response = response
        self._request = request
        self._timer: asyncio.TimerHandle | None = None
        self._since: float | None = None  # when we began to wait for the host; None while the reader is busy
        self._expired = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as the network delivers it: what arrived together is one piece, up to `PIECE_BYTES_MAX`."""
        loop = asyncio.get_running_loop()
        now, read = loop.time, functools.partial(self._response.content.read, PIECE_BYTES_MAX)
        # One timer per answer, not one per piece: it looks back when it fires.
        self._timer = loop.call_later(self._request.timeouts.idle_s, self._look, loop)
        try:
            while True:
                self._since = now()
                piece = await read()
                self._since = None
                if not piece:
                    return
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            if self._expired:
                idle_s = self._request.timeouts.idle_s
                raise UpstreamTimeout(f"{_name(self._request)} sent nothing for {idle_s:g} s.") from error
            raise _translated(error, self._request) from error
        finally:
            await self.close()  # also when the reader leaves in the middle without a word

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends the answer if the host has been silent for too long; looks again later if not."""
        idle_s, now = self._request.timeouts.idle_s, loop.time()
        since = now if self._since is None else self._since
        # The clock of a loop may be a millisecond coarse.
        if now - since >= idle_s - 0.001:
            self._expired = True
            self._abort()
        else:
            self._timer = loop.call_at(since + idle_s, self._look, loop)

    async def close(self) -> None:
        """Gives the connection back if the answer is complete, and breaks it off if not."""
        if self._timer is not None:
            self._timer.cancel()
        self._abort()

    def _abort(self) -> None:
        connection = self._response.connection  # None once the whole answer has arrived
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # at once, whatever is still to be written
        self._response.close()


async def read_whole(answer: Incoming, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body of an answer that is meant to be short. Raises `Upstream` when it exceeds `bytes_max`."""
    pieces, size = [], 0
    try:
        async for piece in answer.pieces:
            size += len(piece)
            if size > bytes_max:
                raise Upstream(f"A model host sent more than the {bytes_max} bytes that are allowed here.")
            pieces.append(piece)
    finally:
        await answer.close()
    return b"".join(pieces)


async def _attempt(session: aiohttp.ClientSession, request: Outgoing, connect_s: float) -> aiohttp.ClientResponse:
    async with asyncio.timeout(request.timeouts.first_byte_s):  # connecting counts, and has its own bound besides
        return await session.request(
            request.method,
            request.url,
            data=request.body or None,
            headers=request.headers,
            allow_redirects=False,
            timeout=_client_timeout(connect_s),
        )


@functools.lru_cache(maxsize=64)
def _client_timeout(connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s)


def _translated(error: Exception, request: Outgoing) -> Upstream:
    """A foreign error as ours. Names host, port and cause; never the path, a header or the body."""
    name = _name(request)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeout(f"{name} did not accept a connection within {request.timeouts.connect_s:g} s.")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{name} did not begin to answer within {request.timeouts.first_byte_s:g} s.")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Upstream(f"{name} has no valid certificate: {error.certificate_error}.")
    if isinstance(error, aiohttp.ClientConnectorError):
        # asyncio has words of its own in `strerror`; a name that is not found has a negative number.
        code, said = error.os_error.errno or 0, error.os_error.strerror
        cause = os.strerror(code) if code > 0 else said or type(error.os_error).__name__
        return Upstream(f"{name} cannot be reached: {cause}.")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Upstream(f"{name} closed the connection without an answer.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Upstream(f"{name} broke off in the middle of its answer.")
    if isinstance(error, aiohttp.ClientResponseError):
        return Upstream(f"{name} sent something that is not HTTP.")
    return Upstream(f"The connection to {name} broke: {getattr(error, 'strerror', None) or type(error).__name__}.")


def _name(request: Outgoing) -> str:
    try:
        parts = urlsplit(request.url)
        place = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"
    except ValueError:
        place = "?"
    return f"Model host {request.host} ({place})" if request.host else f"Host {place}"
