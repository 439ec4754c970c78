"""`Idempotency-Key`: a request that is sent again gets the answer of its first execution, byte for byte.

A key belongs to its owner and to one request: method, path, query and body. A second request under a key waits for the
first, on whatever process that is, and gets its answer. Only success is kept (see `docs/reference/promises.md`).

Nothing that is kept can be read from the database alone, nor with the server's secret alone: a row's id, what it says
of the request, and its answer are made with both the secret and the client's key, which is never stored.
"""

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from antiphon.api.errors import Headers
from antiphon.errors import ApiError, Conflict, InvalidRequest, RateLimited
from antiphon.stores.idempotency import Claim, Entry, Idempotency
from antiphon.stores.signals import Signals, Waiting

if TYPE_CHECKING:
    from antiphon.api.call import Call

KEY: Final = b"idempotency-key"
SAFE: Final = frozenset({"GET", "HEAD"})
"""Methods that change nothing: there a key means nothing."""
KEY_CHARS_MAX: Final = 255
WAITING_MAX: Final = 256
"""Requests of one process that wait for the answer to another under their key."""
LOOK_S: Final = 1.0
"""How often they look by themselves whether it is there: signals may be lost, and workers die in silence."""
REPLAYED: Final = (b"idempotent-replayed", b"true")
_PRINTABLE = re.compile(rb"[\x20-\x7e]{1,%d}" % KEY_CHARS_MAX)
_BOUNDARY = re.compile(rb'boundary="?([^";]+)')
_ANSWER = msgspec.msgpack.Decoder(tuple[int, list[tuple[bytes, bytes]], bytes])

Serve = Callable[["Call[Any, Any]"], Awaitable[None]]
log = logging.getLogger("antiphon.api")


class Once:
    """Executes requests under a key once. One for the process; `bytes_max` is the largest answer that is kept."""

    def __init__(self, store: Idempotency, signals: Signals, secret: bytes, *, bytes_max: int) -> None:
        self._store = store
        self._signals = signals
        self._secret = secret
        self._bytes_max = bytes_max
        self._waiting = 0

    async def serve(self, call: "Call[Any, Any]", execute: Serve, *, arriving_bytes_max: int | None = None) -> None:
        """Executes the request, or gives the answer that an earlier execution had.

        The body has been read, or is still to arrive if `arriving_bytes_max` is given. Raises `InvalidRequest` for a
        key that is none, `Conflict` for one that is another request's or whose answer was too large to be kept,
        `RateLimited` if too many wait already.
        """
        lock = Lock(self._secret, call.owner, _key(call.headers[KEY]))
        body = BodyDigest(call.headers.get(b"content-type", b"") if arriving_bytes_max is not None else b"")
        arrived = arriving_bytes_max is None
        if arrived:
            body.feed(call.raw)
        found = await self._store.open(call.owner, lock.id, lock.request(call, body) if arrived else None)
        if isinstance(found, Entry):
            if arriving_bytes_max is not None:
                async for piece in call.pieces(arriving_bytes_max):
                    body.feed(piece)
            found = await self._ended(call, lock, lock.request(call, body))
            if isinstance(found, Entry):
                await _replay(call, found, lock)
                return
            if not arrived:  # nobody executes it any more, and its body has gone by
                await self._store.release(found)
                message = "The request under this Idempotency-Key was given up meanwhile; send it again."
                raise Conflict(message, code="idempotency_key_in_use")
        call.execution = execution = Execution(self._store, found, lock, body=body, bytes_max=self._bytes_max)
        try:
            await execute(call)
        except asyncio.CancelledError:  # this process stops
            execution.leaves()
            raise
        finally:
            call.execution = None
            await execution.end()
            self._signals.send(lock.topic)

    async def _ended(self, call: "Call[Any, Any]", lock: "Lock", request: str) -> Claim | Entry:
        """The request's end; or the right to execute it, if it was given up meanwhile."""
        if self._waiting >= WAITING_MAX:
            raise RateLimited("Too many requests wait for the answer to another under their key.", retry_after_s=1)
        self._waiting += 1
        try:
            with Waiting(self._signals, lock.topic) as changed:
                found = await self._store.open(call.owner, lock.id, request)
                while isinstance(found, Entry) and found.state == "running":
                    await call.until_gone(changed.wait(LOOK_S))
                    found = await self._store.open(call.owner, lock.id, request)
                return found
        finally:
            self._waiting -= 1


class Execution:
    """One execution under a key: takes note of the answer on its way out, and keeps it before its end is sent."""

    def __init__(self, store: Idempotency, claim: Claim, lock: "Lock", *, body: "BodyDigest", bytes_max: int) -> None:
        self.body = body
        self.claim = claim
        self._store = store
        self._lock = lock
        self._bytes_max = bytes_max
        self._head: tuple[int, Headers] = (0, [])
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = self._failed = self._named = False

    @property
    def begun(self) -> str | None:
        """The response that an earlier execution had begun when its process died."""
        return self.claim.response_id

    async def names(self, response_id: str) -> None:
        """Notes which response is about to be made: should this process die, that one is gone on with."""
        await self._store.name(self.claim, response_id)
        self._named = True

    def fails(self) -> None:
        """The answer tells of a failure, whatever its status: it is not kept, and a retry tries anew."""
        self._failed = True

    def leaves(self) -> None:
        """This process stops. A response that was begun is gone on with elsewhere: the key goes on standing for it."""
        self._ended = self._ended or self._named

    def starts(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The answer's head."""
        self._head = (status, list(headers))

    async def writes(self, call: "Call[Any, Any]", piece: bytes, *, more: bool) -> None:
        """A piece of the answer; with the last, the answer is kept."""
        self._size += len(piece)
        if self._size <= self._bytes_max:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        if more or self._ended or self._failed or not 200 <= self._head[0] < 400:
            return
        self._ended = True
        answer = None
        if self._size <= self._bytes_max:
            answer = self._lock.seal(msgspec.msgpack.encode((*self._head, b"".join(self._pieces))))
        try:
            await self._store.keep(self.claim, self._lock.request(call, self.body), answer)
        except ApiError as error:  # what was asked for is done, and the client is told so
            log.warning("answer not kept for a retry", extra={"exception": error.message})
            self._ended = False

    async def end(self) -> None:
        """Gives the key free if there is no answer to keep. Never raises for a database that is away."""
        if self._ended:
            return
        try:
            await self._store.release(self.claim)
        except ApiError as error:
            log.warning("idempotency key not given free", extra={"exception": error.message})


class Lock:
    """What a client's key and the server's secret make together: a row's id, and the key of what stands in it."""

    def __init__(self, secret: bytes, owner: str, key: bytes) -> None:
        base = hashlib.blake2b(secret, digest_size=64, person=b"antiphon.once").digest()
        made = hashlib.blake2b(b"%b\0%b" % (owner.encode(), key), digest_size=64, key=base).digest()
        self.id = made[:24].hex()
        self.topic = f"once:{self.id}"
        self._key = made[32:]

    def request(self, call: "Call[Any, Any]", body: "BodyDigest") -> str:
        """What tells the request from others under the same key."""
        query: bytes = call.scope["query_string"]
        path = call.path.encode("utf-8", "surrogatepass")
        text = b"%b %b?%b\n%b" % (call.method.encode(), path, query, body.digest())
        return hashlib.blake2b(text, digest_size=24, key=self._key).hexdigest()

    def seal(self, answer: bytes) -> bytes:
        """The answer, encrypted."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # heavy: only what needs it pays for it

        nonce = os.urandom(12)
        return nonce + AESGCM(self._key).encrypt(nonce, answer, self.id.encode())

    def open(self, sealed: bytes) -> bytes:
        """The answer again."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # heavy, as above

        return AESGCM(self._key).decrypt(sealed[:12], sealed[12:], self.id.encode())


class BodyDigest:
    """A digest of a body as it arrives, in pieces however cut.

    Of a multipart body its boundary is left out: clients make up a new one for each attempt.
    """

    def __init__(self, content_type: bytes = b"") -> None:
        found = _BOUNDARY.search(content_type)
        self._boundary = found[1].strip() if found else b""
        self._held = b""
        self._hash = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        """Takes the next piece."""
        if not self._boundary:
            self._hash.update(piece)
            return
        *parts, rest = (self._held + piece).split(self._boundary)
        for part in parts:
            self._hash.update(part)
            self._hash.update(b"\0boundary\0")
        kept = min(len(rest), len(self._boundary) - 1)
        self._hash.update(rest[: len(rest) - kept])
        self._held = rest[len(rest) - kept :]

    def digest(self) -> bytes:
        """The digest of all that was fed."""
        whole = self._hash.copy()
        whole.update(self._held)
        return whole.digest()


def _key(given: bytes) -> bytes:
    if not _PRINTABLE.fullmatch(given) or not given.strip():
        got = given[:100].decode("latin-1")
        message = f"The Idempotency-Key must be 1 to {KEY_CHARS_MAX} printable ASCII characters, not all of them spaces"
        raise InvalidRequest(f"{message}; got {got!r}, {len(given)} in all.", code="invalid_idempotency_key")
    return given


async def _replay(call: "Call[Any, Any]", entry: Entry, lock: Lock) -> None:
    if entry.answer is None:
        most = call.services.config.limits.idempotent_answer_bytes_max
        message = "The request under this Idempotency-Key was carried out, but its answer was not kept: it was larger"
        raise Conflict(f"{message} than the {most} bytes allowed for that.", code="idempotent_answer_too_large")
    status, headers, body = _ANSWER.decode(lock.open(entry.answer))
    call.warnings.clear()  # those of the first execution stand among its headers
    await call.start(status, [*headers, REPLAYED])
    await call.write(body, more=False)
