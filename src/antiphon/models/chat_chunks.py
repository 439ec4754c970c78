"""A host's answer as it comes over the wire, in whatever pieces, read into chunks. Pure.

A host was asked for a stream of server-sent events. It may send them with any line ends, comments and gaps, forget the
last blank line, answer with a whole completion instead, or with an error, or with something else altogether: an HTML
page with status 200 must not pass for an answer.
"""

from typing import Any, Final

import msgspec

from antiphon.errors import ApiError, Upstream
from antiphon.models.base import ModelEvent
from antiphon.models.chat_answer import Answer, Chunk
from antiphon.models.chat_errors import broken, cleaned, error_in

_FOREIGN_BYTES_MAX: Final = 65_536
_BOM: Final = b"\xef\xbb\xbf"
_COLON: Final = b":"[0]

_decode: Final = msgspec.json.Decoder(Chunk).decode
_decode_any: Final = msgspec.json.Decoder().decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ChunkReader:
    """Reads one answer: `feed` it pieces until they end or it has `ended`, then `close` it.

    What was said before something broke is not lost: `feed` never raises, `close` does. `host` is named in messages,
    `secrets` are kept out of them.
    """

    def __init__(self, host: str = "model", *, secrets: tuple[str, ...] = ()) -> None:
        self.done = False
        """The answer has ended by its own word (`[DONE]`)."""
        self._answer = Answer(host)
        self._host = host
        self._secrets = secrets
        self._failure: ApiError | None = None
        self._whole: bool | None = None
        self._head = b""
        self._rest: list[bytes] = []
        self._lines: list[bytes] = []
        self._is_error = False
        self._any_chunk = False

    @property
    def ended(self) -> bool:
        """Nothing that may still come is of interest."""
        return self.done or self._failure is not None

    @property
    def finished(self) -> bool:
        """The host has said why it stopped: if the connection breaks now, the answer is whole all the same."""
        return self._answer.finished

    def feed(self, piece: bytes) -> list[ModelEvent]:
        """The events that this piece completes."""
        events: list[ModelEvent] = []
        try:
            self._feed(piece, events)
        except ApiError as error:
            self._failure = error
        return events

    def close(self) -> list[ModelEvent]:
        """The last events.

        Raises `Upstream` (or `UpstreamRejected` or `ContextTooLong`, in the host's words) if the answer was broken, was
        none, or has no finish.
        """
        events: list[ModelEvent] = []
        if self._failure is None and not self.done:
            rest = b"".join(self._rest)
            if self._whole:
                self._body(rest, events)
            else:
                if rest.startswith(b"data:") and not _is_readable(rest[5:]):
                    rest = b""  # cut in the middle of an event
                self._line(rest, events)
                self._line(b"", events)
        if self._failure is not None:
            raise self._failure
        if not self.done:
            self._end(events)
        return events

    # ------------------------------------------------------------ pieces -> lines -> events

    def _feed(self, piece: bytes, events: list[ModelEvent]) -> None:
        if self._whole is None:
            piece = self._begin(piece)
        if not piece or self.ended:
            return
        if self._whole or b"\n" not in piece:
            self._rest.append(piece)
            return
        lines = piece.split(b"\n")
        if self._rest:
            self._rest.append(lines[0])
            lines[0] = b"".join(self._rest)
            self._rest.clear()
        if rest := lines.pop():
            self._rest.append(rest)
        for line in lines:
            self._line(line, events)

    def _begin(self, piece: bytes) -> bytes:
        """Holds the first bytes back until they tell a stream from a whole body; then gives them on."""
        head = self._head + piece
        body = head.removeprefix(_BOM).lstrip()
        if not body or _BOM.startswith(head):
            self._head = head
            return b""
        self._head = b""
        self._whole = body[:1] in (b"{", b"[", b"<")
        return body

    def _line(self, line: bytes, events: list[ModelEvent]) -> None:
        if line.startswith(b"data:"):
            self._lines.append(line[5:])
        elif not line or line == b"\r":
            if self._lines:
                self._event(events)
            self._is_error = False
        elif line.startswith(b"event:"):
            self._is_error = line[6:].strip() == b"error"
        elif line.startswith(b"error:"):  # llama.cpp: a field of its own
            self._lines.append(line[6:])
            self._is_error = True
        elif line[0] != _COLON and not self._any_chunk and len(self._head) < _FOREIGN_BYTES_MAX:
            self._head += line + b"\n"  # no field that we know: shown if nothing better comes

    def _event(self, events: list[ModelEvent]) -> None:
        lines, self._lines = self._lines, []
        if self.done:
            return
        if self._is_error:
            raise broken(self._host, _any(b"\n".join(lines)), self._secrets)
        if len(lines) > 1 and _is_readable(whole := b"\n".join(lines)):
            lines = [whole]
        for data in lines:  # several only from a host that forgets the blank line between events
            self._data(data, events)

    def _data(self, data: bytes, events: list[ModelEvent]) -> None:
        try:
            chunk = _decode(data)
        except _UNREADABLE as error:
            word = data.strip()
            if word == b"[DONE]":
                self._end(events)
            elif word and not self.done:
                raise self._unreadable(data, error) from error
            return
        self._any_chunk = True
        if chunk.error is not None or chunk.choices is None:
            self._check(chunk, data)
        self._answer.feed(chunk, events)

    def _check(self, chunk: Chunk, data: bytes) -> None:
        """Refuses what is an error in one of its many forms; other events without choices carry usage, or nothing."""
        value = _any(data)
        fields = value if isinstance(value, dict) else {}
        if chunk.error is not None or fields.get("object") == "error" or "detail" in fields or "message" in fields:
            raise broken(self._host, value, self._secrets)

    def _body(self, body: bytes, events: list[ModelEvent]) -> None:
        """What a host sends instead of a stream: a whole completion, an error, or something else."""
        try:
            chunk = _decode(body)
        except _UNREADABLE as error:
            raise self._unreadable(body, error) from error
        if not chunk.choices:
            raise broken(self._host, _any(body), self._secrets)
        self._any_chunk = True
        self._answer.feed(chunk, events)

    # ------------------------------------------------------------ the end

    def _end(self, events: list[ModelEvent]) -> None:
        if not self._any_chunk and not self._answer.finished:
            if self._head.strip():
                raise Upstream(f"Host {self._host!r} sent something that is no stream: {self._shown(self._head)}")
            raise Upstream(f"Host {self._host!r} sent an empty answer.")
        events += self._answer.end()
        self.done = True

    def _unreadable(self, data: bytes, error: Exception) -> ApiError:
        value = _any(data)
        if not isinstance(value, str) and error_in(value) is not None:
            return broken(self._host, value, self._secrets)
        why = "" if isinstance(value, str) else f" ({error})"
        return Upstream(f"Host {self._host!r} sent something that is no chat completion{why}: {self._shown(data)}")

    def _shown(self, data: bytes) -> str:
        return cleaned(data[:_FOREIGN_BYTES_MAX].decode(errors="replace"), self._secrets)[:300]


def _is_readable(data: bytes) -> bool:
    return data.strip() == b"[DONE]" or not isinstance(_any(data), _Text)


class _Text(str):
    """Text that is no JSON, told apart from a JSON string."""

    __slots__ = ()


def _any(data: bytes) -> Any:
    """The value, or the text itself where it is no JSON."""
    try:
        return _decode_any(data)
    except _UNREADABLE:
        return _Text(data.decode(errors="replace").strip())
