"""The journal of a run: what the model said, and what became of the run's steps. A stream can be made from it again.

Pure data. The emitter reads it as it reads what a model says now; so what was shown once is shown again, to the byte.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from antiphon.engine.state import Cause, Outcome
from antiphon.models.base import ModelEvent
from antiphon.tools.offers import Loaded
from antiphon.wire.items import Item
from antiphon.wire.responses import InputTokensDetails, OutputTokensDetails, Response, Usage


class Started(Struct, frozen=True, tag="started", array_like=True):
    """A worker has taken the run from the queue."""


class NextCall(Struct, frozen=True, tag="next", array_like=True):
    """Another model call begins. `broken`: since the one before ended with the process that made it, half said."""

    broken: bool = False


class Announced(Struct, frozen=True, tag="announced", array_like=True):
    """What a declared tool, at `tool` of the request's tools, does before the model is asked: its item begins.

    `known`: it ended in an earlier response, and is only learned from again.
    """

    tool: int
    item: Item
    known: bool = False


class ToolTold(Struct, frozen=True, tag="told", array_like=True):
    """A call that the server runs has said something, and goes on."""

    output_index: int
    said: dict[str, Any]


class ToolEnded(Struct, frozen=True, tag="ran", array_like=True):
    """A call that the server ran has ended: its item, memory and all, and items that follow it; without ids."""

    output_index: int
    item: Item
    more: tuple[Item, ...] = ()


Entry = ModelEvent | Started | NextCall | Announced | ToolTold | ToolEnded | Loaded
"""What a journal consists of."""


class Journal(Struct, frozen=True, array_like=True):
    """What a run's stream can be made from again, beside the stored response and earlier parts of the journal.

    `service_tier` is the one that the response began with; `sealed` says whether reasoning is encrypted for the client,
    `include` what else its stream shows.
    """

    service_tier: str
    sealed: bool
    events: list[Entry] = []
    include: tuple[str, ...] = ()

    def begun(self, response: Response) -> Response:
        """The response as its first event showed it, from how it is stored now."""
        return msgspec.structs.replace(
            response,
            status="queued" if response.background else "in_progress",
            output=[],
            completed_at=None,
            error=None,
            incomplete_details=None,
            usage=None,
            service_tier=self.service_tier,
        )


class Written:
    """The entries of a run that are in store as parts, as bytes: a tenth of what they take as objects."""

    def __init__(self) -> None:
        self._entries = bytearray()
        self._count = 0

    def add(self, part: bytes, count: int) -> None:
        """Adds a part that was stored, of so many entries."""
        self._entries += memoryview(part)[len(_array_head(count)) :]
        self._count += count

    def journal(self, head: Journal) -> bytes:
        """The whole journal as it is stored: what was added, then the entries of `head`."""
        rest = head.events
        entries: list[bytes | bytearray] = [_array_head(self._count + len(rest)), self._entries, *map(encode, rest)]
        return encode((head.service_tier, head.sealed, Raw(b"".join(entries)), head.include))


def _array_head(count: int) -> bytes:
    """What begins an array of so many members in MessagePack."""
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2) if count < 2**16 else b"\xdd" + count.to_bytes(4)


_parts = msgspec.msgpack.Decoder(list[Entry])
_journals = msgspec.msgpack.Decoder(Journal)
encode = msgspec.msgpack.Encoder().encode
"""A journal, or a part of one, as it is stored."""


def decode_part(stored: bytes) -> list[Entry]:
    """A part as it was encoded."""
    return _parts.decode(stored)


def decode(stored: bytes, response: Response) -> Journal:
    """The journal of a response; one that was left by a server before 0.2 may be empty."""
    return _journals.decode(stored) if stored else Journal(service_tier=response.service_tier, sealed=False)


def outcome_of(response: Response) -> Outcome | None:
    """How a stored response ended; None: it has not."""
    if response.status in ("queued", "in_progress"):
        return None
    details = response.incomplete_details
    cause: Cause = _CAUSES[response.status] if details is None else _LIMITS[details.reason]
    return Outcome(cause=cause, at=response.completed_at or 0, error=response.error)


_CAUSES: dict[str, Cause] = {"completed": "complete", "failed": "fail", "cancelled": "cancel"}
_LIMITS: dict[str, Cause] = {"max_output_tokens": "limit", "content_filter": "filter"}


def summed(one: Usage | None, other: Usage | None) -> Usage | None:
    """The tokens of two model calls."""
    if one is None or other is None:
        return one or other
    read, made = other.input_tokens_details, other.output_tokens_details
    return Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        input_tokens_details=InputTokensDetails(
            cached_tokens=one.input_tokens_details.cached_tokens + read.cached_tokens,
            cache_write_tokens=one.input_tokens_details.cache_write_tokens + read.cache_write_tokens,
        ),
        output_tokens=one.output_tokens + other.output_tokens,
        output_tokens_details=OutputTokensDetails(
            reasoning_tokens=one.output_tokens_details.reasoning_tokens + made.reasoning_tokens
        ),
        total_tokens=one.total_tokens + other.total_tokens,
    )
