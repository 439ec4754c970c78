"""What goes out to another host and what comes back, as data, and the seam through which all of it passes.

`Transport.send` is the one method that replay, a test, or another HTTP client has to offer. It lies below both `egress`
(the live transport) and `replay` (which wraps a transport), so that neither needs to know the other.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

from msgspec import Struct


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds allowed: to connect, until the first byte of the answer, and between two pieces of it."""

    connect_s: float = 10.0
    first_byte_s: float = 600.0
    idle_s: float = 300.0


class Replay(Struct, frozen=True, kw_only=True):
    """What a client's request says about recording: a mode for this request, and Llama Stack's test id.

    `origin` is what the exchange is made for (a response's id); it is written beside a recording, so that all exchanges
    of one response can be found again and exported.
    """

    mode: str | None = None
    test_id: str | None = None
    origin: str | None = None


NO_REPLAY = Replay()


class Outgoing(Struct, frozen=True, kw_only=True):
    """One HTTP request to another host. `host` is the configured host's name, for logs and recordings.

    `guarded` is one to an address that a client chose: it reaches only what `guard` allows. Redirects of such a one
    are followed if `follow` says so; what carries a secret should not be sent on.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    host: str = ""
    timeouts: Timeouts = Timeouts()
    replay: Replay = NO_REPLAY
    guarded: bool = False
    follow: bool = True


def multipart(parts: Iterable[tuple[bytes, bytes]]) -> tuple[str, bytes]:
    """Content type and body of a form whose parts have these heads (lines with their ends) and contents.

    The boundary derives from the content, so that the same form is the same request to a recording.
    """
    kept = list(parts)
    digest = hashlib.sha256()
    for head, content in kept:
        digest.update(b"%d %d\n" % (len(head), len(content)) + head)
        digest.update(content)
    boundary = digest.hexdigest().encode()
    pieces = [piece for head, content in kept for piece in (b"--", boundary, b"\r\n", head, b"\r\n", content, b"\r\n")]
    return f"multipart/form-data; boundary={boundary.decode()}", b"".join([*pieces, b"--", boundary, b"--\r\n"])


def field(name: str, value: str) -> tuple[bytes, bytes]:
    """A part that is a plain field."""
    return b'Content-Disposition: form-data; name="%b"\r\n' % name.encode(), value.encode()


class Incoming:
    """An answer whose head has arrived. Iterate `pieces` once for the body, as the network delivered it; then close.

    Header names are lower-case. `close` may be called at any time, any number of times; closing before the end aborts
    the exchange on the wire.
    """

    __slots__ = ("_closer", "headers", "pieces", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str], pieces: AsyncIterator[bytes], *, closer: "Closer | None" = None
    ) -> None:
        self.status = status
        self.headers = headers
        self.pieces = pieces
        self._closer = closer

    async def read(self) -> bytes:
        """The whole remaining body; closes the answer."""
        try:
            return b"".join([piece async for piece in self.pieces])
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the exchange, aborting it if it is not complete."""
        if self._closer is not None:
            closer, self._closer = self._closer, None
            await closer()


class Closer(Protocol):
    """Releases what an answer holds."""

    async def __call__(self) -> None:
        """Does so."""
        ...


class Transport(Protocol):
    """Sends one request and returns once the answer's head is there.

    Raises `Upstream` when the host cannot be reached or breaks off, `UpstreamTimeout` when it takes too long (also
    from inside `pieces`), `ReplayMiss` where a recording was wanted and there is none. A status is never an error here.
    """

    async def send(self, request: Outgoing) -> Incoming:
        """The answer to the request, once its head is there."""
        ...

    async def close(self) -> None:
        """Ends what is still open."""
        ...
