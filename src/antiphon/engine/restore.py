"""A run as it is stored, and made again from that: for a worker that takes it from the queue, or takes it over.

What the response, its items and its history say already is not stored a second time. The client's own keys for the
model host are stored encrypted, and only until the run ends.
"""

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.engine import journal
from antiphon.engine.cite import citable
from antiphon.engine.context import for_model, history_of
from antiphon.engine.control import Control, Stop
from antiphon.engine.dispatch import preludes
from antiphon.engine.journal import Written
from antiphon.engine.run import Engine, Progress, Run, emitter_of
from antiphon.engine.written_files import written_files
from antiphon.errors import ApiError
from antiphon.exchange import Replay
from antiphon.models.base import Access, ModelRequest
from antiphon.stores.runs import RunRow
from antiphon.tools.offers import loaded, offers, visible
from antiphon.wire.responses import ConversationRef


class Kept(Struct, frozen=True, array_like=True):
    """What a run needs beside its response and items: the request without context, and how the host is asked."""

    request: ModelRequest
    replay: Replay
    keys: str
    compact_threshold: int | None = None
    compact_only: bool = False


_decode = msgspec.msgpack.Decoder(Kept).decode


class Keys(Struct, frozen=True, array_like=True):
    """What is stored encrypted: the client's keys for model hosts, and the secrets of the request's tools."""

    key: str | None
    keys: dict[str, str]
    secrets: dict[int, dict[str, Any]] = {}


_keys = msgspec.json.Decoder(Keys).decode


def kept(engine: Engine, run: Run) -> bytes:
    """The run as its row holds it."""
    access = run.access
    secrets = {index: dict(secret) for index, secret in run.secrets.items()}
    some = access.key or access.keys or secrets
    plain = msgspec.json.encode(Keys(access.key, dict(access.keys), secrets)).decode() if some else ""
    bare = replace(run.request, items=(), functions=(), instructions=None, as_sent={})
    keys = engine.sealer.seal(plain, "keys") if plain else ""
    return journal.encode(Kept(bare, access.replay, keys, run.compact_threshold, run.compact_only))


async def restored(engine: Engine, owner: str, id: str, *, row: RunRow) -> Progress:
    """A run as far as its journal goes. Where it cannot go on, it is told to fail and why.

    Raises `NotFound` if its response was deleted.
    """
    trail = await engine.responses.trail(owner, id)
    head = journal.decode(trail.journal, trail.response)
    begun = head.begun(trail.response)
    offered = offers(begun.tools, engine.tools)
    emitter = emitter_of(engine, begun, offered, sealed=head.sealed, include=head.include)
    emitter.open()
    written = Written()
    for _, part in trail.parts:
        entries = journal.decode_part(part)
        emitter.feed(entries)
        emitter.journal.clear()
        written.add(part, len(entries))
    stored = _decode(row.body)
    run = Run(
        response=begun,
        owner=owner,
        host=row.host,
        access=Access(replay=stored.replay),
        request=stored.request,
        offers=offered,
        input=tuple(await engine.responses.input(owner, id)),
        conversation=begun.conversation.id if isinstance(begun.conversation, ConversationRef) else None,
        sealed=head.sealed,
        include=head.include,
        compact_threshold=stored.compact_threshold,
        compact_only=stored.compact_only,
    )
    control = Control(watched=row.watched)
    if row.cancelled:
        control.stop(Stop(why="cancel"))
    elif row.attempts > engine.background.attempts_max:
        message = f"The response was given up: {row.attempts - 1} processes ended while they worked on it."
        control.stop(Stop(why="fail", message=message))
    else:
        try:
            run = await _with_context(engine, run, stored)
        except ApiError as error:
            control.stop(Stop(why="fail", message=error.message))
    return Progress(run=run, emitter=emitter, control=control, kept=written)


async def _with_context(engine: Engine, run: Run, stored: Kept) -> Run:
    """The run with what the model is to be shown. Raises `ApiError` where that is no longer to be had."""
    previous = run.response.previous_response_id
    history = await history_of(engine, run.owner, run.conversation, previous=previous)
    keys = _keys(engine.sealer.open(stored.keys, "", "keys")) if stored.keys else Keys(None, {})
    engine.catalog.provider(run.host)  # may not be configured here any longer
    instructions = run.response.instructions
    context = [*history, *run.input]
    brought = loaded(context, run.offers, engine.tools)
    offered = {**run.offers, **brought.offers()}
    request = replace(
        stored.request,
        items=for_model(engine, context),
        functions=tuple(offer.function for offer in visible(offered, brought.found).values()),
        instructions=instructions if isinstance(instructions, str) else None,
    )
    access = Access(key=keys.key, keys=keys.keys, replay=stored.replay)
    return replace(
        run,
        request=await engine.filled(request, run.host, owner=run.owner, access=access),
        offers=offered,
        loaded=brought,
        citable=citable(context),
        written=written_files(context),
        preludes=preludes(engine.tools, run.response.tools, context, added=run.input),
        secrets=keys.secrets,
        access=access,
    )
