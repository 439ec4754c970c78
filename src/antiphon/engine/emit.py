"""From what a model says to what a client sees: items, their events, and their numbers.

The emitter is pure: the same events fed in any batches give the same items, and the same events with the same numbers
and ids. Sequence numbers, output indexes and item ids are given here and nowhere else; item ids derive from the
response's id. So a run can be shown again later from its `Journal` alone, byte for byte.

At most one message or reasoning item is open at a time. Function calls may be open side by side: a call is closed when
the next begins, if its arguments are whole by then, else at the end of the turn (some hosts interleave them). A call
that the server runs stays open beyond that, until what came of it is fed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from antiphon.engine.journal import Entry, NextCall, Started, ToolEnded, summed
from antiphon.engine.open_items import OpenCall, OpenItem, OpenPart, PartKind, fault_of, is_whole
from antiphon.engine.state import Outcome, Turn, advance
from antiphon.ids import child_id
from antiphon.models.base import CallArguments, CallStart, Cited, Compacted, Finish, Served, Text, Tokens
from antiphon.models.base import Reasoning as ReasoningEvent
from antiphon.models.base import Refusal as RefusalEvent
from antiphon.tools.base import Offer, Place, ServerTools
from antiphon.tools.client import progress
from antiphon.wire.calls import item_of
from antiphon.wire.events import (
    AnnotationAdded,
    ContentPartAdded,
    ContentPartDone,
    Event,
    FunctionArgumentsDelta,
    FunctionArgumentsDone,
    OutputItemAdded,
    OutputItemDone,
    PartPlace,
    ReasoningTextDelta,
    ReasoningTextDone,
    RefusalDelta,
    RefusalDone,
    ResponseCancelled,
    ResponseCompleted,
    ResponseCreated,
    ResponseEvent,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    ResponseQueued,
    TextDelta,
    TextDone,
)
from antiphon.wire.items import (
    Compaction,
    FunctionCall,
    Item,
    Memory,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    Status,
)
from antiphon.wire.responses import IncompleteDetails, Response, ResponseStatus, Usage
from antiphon.wire.shown import shown

Seal = Callable[[str], str]
"""Encrypts a reasoning text; deterministic, so that a journal gives the same bytes again."""


class Running(Struct, frozen=True, kw_only=True):
    """A call that the server is to run, or runs; `fault` is what the model did wrong, or ""."""

    item: Item
    offer: Offer
    fault: str


class Emitter:
    """Turns the model events of one run into wire events.

    Call `open` once, `feed` for each batch, `close` once. `turn` is what `state.decide` wants to know in between;
    `response` is the response as it stands; `number` the last event's; `journal` all that was fed; `compacted` what the
    run's context has been compacted to; `steps` how many steps have ended that another one follows; `running` the calls
    whose end is to be fed, by their place in the output; `ran` how many calls the server was asked to run; `turns`
    how many model calls there were before this one.

    `include` names what of the items the events show; `response` has all of it.
    """

    def __init__(
        self,
        response: Response,
        offers: Mapping[str, Offer],
        tools: ServerTools,
        *,
        seal: Seal | None = None,
        include: Collection[str] = (),
    ) -> None:
        self.response = response
        self.turn = Turn(finish=None)
        self.number = -1
        self.journal: list[Entry] = []
        self.running: dict[int, Running] = {}
        self.ran = 0
        self._offers = offers
        self._tools = tools
        self._seal = seal
        self._include = include
        self.turns = 0
        self._served = self._handed = False
        self._output: dict[int, Item] = {}
        self._next_index = 0
        self._call_count = 0
        self._item: OpenItem | None = None
        self._calls: dict[int, OpenCall] = {}
        self._fault: str | None = None
        self.compacted: str | None = None
        self._said = False
        self.steps = 0
        self._usage: Usage | None = None
        self._spent: Usage | None = None

    @property
    def half_said(self) -> bool:
        """Whether the model call that is under way has shown anything, and has not ended."""
        return self.turn.finish is None and self._said

    @property
    def output(self) -> list[Item]:
        """The items that have ended, in their order, with all that is known of them."""
        return [self._output[index] for index in sorted(self._output)]

    @property
    def spent(self) -> Usage | None:
        """The tokens of the model calls so far."""
        return summed(self._spent, self._usage)

    # ------------------------------------------------------------ the three calls

    def open(self) -> list[Event]:
        """The first two events."""
        second = ResponseQueued if self.response.status == "queued" else ResponseInProgress
        return [
            ResponseCreated(sequence_number=self._next(), response=self.response),
            second(sequence_number=self._next(), response=self.response),
        ]

    def feed(self, batch: Sequence[Entry]) -> list[Event]:
        """The events that a batch of model events leads to."""
        self.journal += batch
        out: list[Event] = []
        for event in batch:
            self._feeders[type(event)](self, event, out)
        return out

    def close(self, outcome: Outcome) -> list[Event]:
        """The last events: what is still open is closed as incomplete, then the one terminal event."""
        out: list[Event] = []
        self._close_all("incomplete", out, broken=True)
        self._drop_running(out)
        status = advance(self.response.status, outcome.cause)
        self.response = msgspec.structs.replace(
            self.response,
            status=status,
            completed_at=outcome.at if status == "completed" else None,
            error=outcome.error,
            incomplete_details=_INCOMPLETE.get(outcome.cause),
            output=self.output,
            usage=self.spent,
        )
        seen = msgspec.structs.replace(self.response, output=[shown(item, self._include) for item in self.output])
        out.append(_TERMINAL_EVENTS[status](sequence_number=self._next(), response=seen))
        return out

    # ------------------------------------------------------------ messages and reasoning

    def _text(self, event: Text, out: list[Event]) -> None:
        if not event.text and not event.logprobs:
            return
        item, part = self._part("text", event.text, out)
        part.logprobs += event.logprobs
        out.append(
            TextDelta(
                sequence_number=self._next(),
                output_index=item.output_index,
                item_id=item.id,
                content_index=part.index,
                delta=event.text,
                logprobs=event.logprobs,
            )
        )

    def _cited(self, event: Cited, out: list[Event]) -> None:
        item, part = self._part("text", "", out)
        annotation = event.annotation | {"index": part.written.tell()}
        part.annotations.append(annotation)
        where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
        index = len(part.annotations) - 1
        number = self._next()
        out.append(AnnotationAdded(sequence_number=number, annotation_index=index, annotation=annotation, **where))

    def _refusal(self, event: RefusalEvent, out: list[Event]) -> None:
        if event.text:
            item, part = self._part("refusal", event.text, out)
            where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
            out.append(RefusalDelta(sequence_number=self._next(), delta=event.text, **where))

    def _reasoning(self, event: ReasoningEvent, out: list[Event]) -> None:
        if event.text:
            item, part = self._part("reasoning", event.text, out)
            where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
            out.append(ReasoningTextDelta(sequence_number=self._next(), delta=event.text, **where))

    def _part(self, kind: PartKind, text: str, out: list[Event]) -> tuple[OpenItem, OpenPart]:
        """The open part of this kind, opened if need be, with the text added."""
        item = self._item
        part = item.open if item is not None else None
        if item is None or part is None or part.kind != kind:
            item, part = self._open_part(kind, out)
        part.written.write(text)
        return item, part

    def _open_part(self, kind: PartKind, out: list[Event]) -> tuple[OpenItem, OpenPart]:
        """Opens a part of this kind, in the open item if it fits there, else in a new one."""
        reasoning = kind == "reasoning"
        if self._item is not None and self._item.reasoning != reasoning:
            self._close_item("completed", out)
        if self._item is None:
            index = self._take_index()
            item = OpenItem(child_id(self.response.id, "rs" if reasoning else "msg", index), index, reasoning=reasoning)
            self._item = item
            blank: Item = (
                Reasoning(id=item.id, summary=[], content=[], status="in_progress")
                if reasoning
                else Message(id=item.id, role="assistant", content=[], status="in_progress")
            )
            out.append(OutputItemAdded(sequence_number=self._next(), output_index=index, item=blank))
        item = self._item
        self._close_part(item, out)
        part = item.open = OpenPart(kind, len(item.parts))
        where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
        out.append(ContentPartAdded(sequence_number=self._next(), part=part.part(), **where))
        return item, part

    def _close_part(self, item: OpenItem, out: list[Event]) -> None:
        if item.open is None:
            return
        opened, item.open = item.open, None
        part = opened.part()
        item.parts.append(part)
        where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": opened.index}
        if isinstance(part, OutputText):
            done: Event = TextDone(sequence_number=self._next(), text=part.text, logprobs=part.logprobs, **where)
        elif isinstance(part, Refusal):
            done = RefusalDone(sequence_number=self._next(), refusal=part.refusal, **where)
        else:
            done = ReasoningTextDone(sequence_number=self._next(), text=part.text, **where)
        out.append(done)
        out.append(ContentPartDone(sequence_number=self._next(), part=part, **where))

    def _close_item(self, status: Status, out: list[Event]) -> None:
        if self._item is None:
            return
        item = self._item
        self._close_part(item, out)
        self._item = None
        whole: Item
        if item.reasoning:
            texts = [part for part in item.parts if isinstance(part, ReasoningText)]
            sealed = self._seal("".join(part.text for part in texts)) if self._seal else None
            whole = Reasoning(id=item.id, summary=[], content=texts, encrypted_content=sealed, status=status)
        else:
            content = [part for part in item.parts if not isinstance(part, ReasoningText)]
            whole = Message(id=item.id, role="assistant", content=list(content), status=status)
        self._finish_item(item.output_index, whole, out)

    # ------------------------------------------------------------ calls

    def _call_start(self, event: CallStart, out: list[Event]) -> None:
        self._close_item("completed", out)
        for index in [index for index, call in self._calls.items() if is_whole(call)]:
            self._close_call(index, "completed", out)
        if event.index in self._calls:
            self._close_call(event.index, "completed", out)
        offer = self._offers.get(event.name)
        call_id = event.call_id or child_id(self.response.id, "call", self._call_count)
        self._call_count += 1
        call = OpenCall(call_id, event.name, offer)
        self._calls[event.index] = call
        if call.kind == "function":
            call.output_index = self._take_index()
            call.id = child_id(self.response.id, "fc", call.output_index)
            made = call.made("in_progress")
            blank = FunctionCall(
                id=call.id,
                call_id=call_id,
                name=made.name,
                arguments="",
                namespace=made.namespace,
                status="in_progress",
            )
            out.append(OutputItemAdded(sequence_number=self._next(), output_index=call.output_index, item=blank))

    def _call_arguments(self, event: CallArguments, out: list[Event]) -> None:
        if not event.text:
            return
        call = self._calls.get(event.index)
        if call is None:
            self._fault = "The model host sent arguments of a call that was not open."
            return
        call.texts.append(event.text)
        if call.output_index >= 0:
            out.append(
                FunctionArgumentsDelta(
                    sequence_number=self._next(), output_index=call.output_index, item_id=call.id, delta=event.text
                )
            )

    def _close_call(self, index: int, status: Status, out: list[Event]) -> None:
        call = self._calls.pop(index)
        if call.output_index >= 0:
            self._close_function(call, status, out)
            return
        # The other kinds say what they are only when whole: one that was cut off was never shown.
        if status != "completed":
            return
        if call.offer is not None and call.kind in self._tools:
            self._run(call, call.offer, out)
            return
        self._handed = True
        output_index = self._next_index
        call.id = child_id(self.response.id, _CALL_PREFIXES.get(call.kind, "call"), output_index)
        try:
            added, item = item_of(call.kind, call.made("in_progress")), item_of(call.kind, call.made(status))
        except ValueError as error:
            self._fault = str(error)
            return
        self._take_index()
        out.append(OutputItemAdded(sequence_number=self._next(), output_index=output_index, item=_blank(added)))
        out.extend(progress(item, Place(item_id=call.id, output_index=output_index, next_number=self._next)))
        self._finish_item(output_index, item, out)

    def _run(self, call: OpenCall, offer: Offer, out: list[Event]) -> None:
        """Announces a call that the server runs. One beyond the response's `max_tool_calls` is as if never made."""
        most = self.response.max_tool_calls
        self._served = True
        if most is not None and self.ran >= most:
            return
        self.ran += 1
        tool, index = self._tools[call.kind], self._take_index()
        call.id = child_id(self.response.id, _CALL_PREFIXES[call.kind], index)
        made = call.made("in_progress")
        item, fault = tool.begun(made)
        memory = Memory(call_id=call.call_id, name=call.name, arguments=made.arguments or "{}", turn=self.turns)
        item = msgspec.structs.replace(item, memory=memory)
        self.running[index] = Running(item=item, offer=offer, fault=fault)
        added = shown(item, self._include)
        out.append(OutputItemAdded(sequence_number=self._next(), output_index=index, item=added))
        out.extend(tool.started(item, Place(item_id=call.id, output_index=index, next_number=self._next)))

    def _tool_ended(self, event: ToolEnded, out: list[Event]) -> None:
        tool = self._tools[self.running[event.output_index].offer.kind]
        place = Place(item_id=event.item.id or "", output_index=event.output_index, next_number=self._next)
        out.extend(tool.ended(event.item, place))
        self._end_run(event.output_index, event.item, out)
        self.steps += 1

    def _drop_running(self, out: list[Event]) -> None:
        """Ends calls of which nothing comes any more."""
        for index, running in list(self.running.items()):
            self._end_run(index, msgspec.structs.replace(running.item, status="incomplete"), out)

    def _end_run(self, output_index: int, item: Item, out: list[Event]) -> None:
        del self.running[output_index]
        self.turn = msgspec.structs.replace(self.turn, running=len(self.running))
        self._finish_item(output_index, item, out)

    def _close_function(self, call: OpenCall, status: Status, out: list[Event]) -> None:
        self._handed = True
        if status == "completed" and (fault := fault_of(call)):
            self._fault, status = fault, "incomplete"
        made = call.made(status)
        out.append(
            FunctionArgumentsDone(
                sequence_number=self._next(),
                output_index=call.output_index,
                item_id=call.id,
                name=made.name,
                arguments=made.arguments,
            )
        )
        self._finish_item(call.output_index, item_of("function", made), out)

    # ------------------------------------------------------------ shared

    def _started(self, _event: Started, out: list[Event]) -> None:
        self.response = msgspec.structs.replace(self.response, status=advance(self.response.status, "start"))
        out.append(ResponseInProgress(sequence_number=self._next(), response=self.response))

    def _next_call(self, event: NextCall, out: list[Event]) -> None:
        self._close_all("incomplete" if event.broken else "completed", out, broken=event.broken)
        if event.broken:
            self._drop_running(out)
        self._spent, self._usage = summed(self._spent, self._usage), None
        self.turn, self._fault = Turn(finish=None), None
        self._said = self._served = self._handed = False
        self.turns += 1
        self.steps += not event.broken

    def _tokens(self, event: Tokens, _out: list[Event]) -> None:
        self._usage = event.usage()

    def _compacted(self, event: Compacted, out: list[Event]) -> None:
        """An item that is there at once. The model call that made it is over: the next one is counted by itself."""
        self.compacted = event.encrypted_content
        self.steps += 1
        self._spent, self._usage = summed(self._spent, self._usage), None
        index = self._take_index()
        item = Compaction(id=child_id(self.response.id, "cmp", index), encrypted_content=event.encrypted_content)
        blank = Compaction(id=item.id, encrypted_content="")
        out.append(OutputItemAdded(sequence_number=self._next(), output_index=index, item=blank))
        self._finish_item(index, item, out)
        self._said = False

    def _serviced(self, event: Served, _out: list[Event]) -> None:
        self.response = msgspec.structs.replace(self.response, service_tier=event.service_tier)

    def _finish(self, event: Finish, out: list[Event]) -> None:
        self._close_all("completed" if event.reason in ("stop", "calls") else "incomplete", out)
        self.turn = Turn(
            finish=event.reason,
            fault=self._fault,
            running=len(self.running),
            served=self._served,
            handed=self._handed,
        )
        self.steps += bool(self.running)  # what the model said is kept before anything is run for it

    def _close_all(self, status: Status, out: list[Event], *, broken: bool = False) -> None:
        """Closes what is open. A limit cuts off what came last; calls whose arguments are whole by then are whole."""
        self._close_item(status, out)
        for index, call in list(self._calls.items()):
            self._close_call(index, "completed" if not broken and is_whole(call) else status, out)

    def _finish_item(self, output_index: int, item: Item, out: list[Event]) -> None:
        self._output[output_index] = item
        seen = shown(item, self._include)
        out.append(OutputItemDone(sequence_number=self._next(), output_index=output_index, item=seen))

    def _take_index(self) -> int:
        self._said = True
        self._next_index += 1
        return self._next_index - 1

    def _next(self) -> int:
        self.number += 1
        return self.number

    _feeders: ClassVar[dict[type, Callable[["Emitter", Any, list[Event]], None]]] = {
        Text: _text,
        RefusalEvent: _refusal,
        ReasoningEvent: _reasoning,
        CallStart: _call_start,
        CallArguments: _call_arguments,
        Tokens: _tokens,
        Served: _serviced,
        Finish: _finish,
        Compacted: _compacted,
        Started: _started,
        NextCall: _next_call,
        Cited: _cited,
        ToolEnded: _tool_ended,
    }


def _blank(item: Item) -> Item:
    """A call as it is announced: with its input still to come where a stream brings it."""
    if hasattr(item, "input"):
        return msgspec.structs.replace(item, input="")
    return item


_CALL_PREFIXES = {
    "file_search": "fs",
    "custom": "ctc",
    "local_shell": "lsh",
    "shell": "sh",
    "apply_patch": "apc",
    "computer": "cu",
    "computer_use_preview": "cu",
}
_INCOMPLETE = {"limit": IncompleteDetails("max_output_tokens"), "filter": IncompleteDetails("content_filter")}
_TERMINAL_EVENTS: dict[ResponseStatus, type[ResponseEvent]] = {
    "completed": ResponseCompleted,
    "incomplete": ResponseIncomplete,
    "failed": ResponseFailed,
    "cancelled": ResponseCancelled,
}
