"""A stored response's stream, live or ended, from any event on, on any process: made from its journal.

A follower feeds what the journal has to an emitter of its own, and so gets the very events that the run's own client
gets. Whoever works on the run keeps its events as they come once somebody follows.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence

from antiphon.engine import journal
from antiphon.engine.emit import Emitter
from antiphon.engine.journal import Entry, outcome_of
from antiphon.engine.run import Engine, commands, emitter_of
from antiphon.errors import NotFound
from antiphon.stores.signals import Waiting
from antiphon.tools.offers import offers
from antiphon.wire.events import ErrorEvent, Event

LOOK_S = 1.0
"""How often a follower looks by itself, should a signal be lost."""
ENTRIES_MAX = 256
"""How much of a journal becomes events at once: what a reader that is slow keeps in memory."""


async def follow(engine: Engine, owner: str, id: str, *, after: int = -1) -> AsyncGenerator[list[Event], None]:
    """The response's events with numbers beyond `after`, until its terminal one, as they come.

    The first batch comes at once, even if it is empty, so that a client knows that there is something to wait for.
    Raises `NotFound` before it; a response that is deleted later ends its stream with an error event.
    """
    with Waiting(engine.signals, id) as changed:
        trail = await engine.responses.trail(owner, id)
        head = journal.decode(trail.journal, trail.response)
        begun = head.begun(trail.response)
        emitter = emitter_of(engine, begun, offers(begun.tools, engine.tools), sealed=head.sealed, include=head.include)
        yield _beyond(after, emitter.open())
        seen, fed, asked = -1, 0, False
        while True:
            for position, part in trail.parts:
                entries = journal.decode_part(part)
                for events in _shown(emitter, entries, after):
                    yield events
                seen, fed = position, fed + len(entries)
            outcome = outcome_of(trail.response)
            if outcome is not None:
                whole = journal.decode(trail.journal, trail.response).events
                for events in _shown(emitter, whole[fed:], after):
                    yield events
                if events := _beyond(after, emitter.close(outcome)):
                    yield events
                return
            if not asked and await engine.runs.watch(owner, id):
                engine.signals.send(commands(id))
            asked = True
            await changed.wait(LOOK_S)
            try:
                trail = await engine.responses.trail(owner, id, seen)
            except NotFound as error:
                number = emitter.number + 1
                yield [ErrorEvent(sequence_number=number, code=error.code, message=error.message, param=None)]
                return


def _shown(emitter: Emitter, entries: Sequence[Entry], after: int) -> Iterator[list[Event]]:
    for start in range(0, len(entries), ENTRIES_MAX):
        events = _beyond(after, emitter.feed(entries[start : start + ENTRIES_MAX]))
        emitter.journal.clear()
        if events:
            yield events


def _beyond(after: int, events: list[Event]) -> list[Event]:
    if not events or events[0].sequence_number > after:
        return events
    return [event for event in events if event.sequence_number > after]
