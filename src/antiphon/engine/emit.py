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

from antiphon.engine.journal import Announced, Entry, NextCall, Started, ToolEnded, ToolTold, summed
from antiphon.engine.open_items import OpenCall, fault_of, is_whole
from antiphon.engine.state import Outcome, Turn, advance
from antiphon.engine.writing import Ledger, Seal, Writing
from antiphon.ids import child_id
from antiphon.models.base import CallArguments, CallStart, Cited, Compacted, Finish, Function, Served, Text, Tokens
from antiphon.models.base import Reasoning as ReasoningEvent
from antiphon.models.base import Refusal as RefusalEvent
from antiphon.tools.base import Offer, Place, ServerTool, ServerTools
from antiphon.tools.client import progress
from antiphon.tools.offers import Loaded, kind_of, with_learned
from antiphon.wire.calls import CLIENT_TOOL_SEARCH, TOOL_SEARCH, item_of
from antiphon.wire.events import (
    Event,
    FunctionArgumentsDelta,
    FunctionArgumentsDone,
    ResponseCancelled,
    ResponseCompleted,
    ResponseCreated,
    ResponseEvent,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    ResponseQueued,
)
from antiphon.wire.items import (
    ID_PREFIXES,
    CodeInterpreterCall,
    Compaction,
    FunctionCall,
    Item,
    McpCall,
    Memory,
    ShellCallOutput,
    Status,
)
from antiphon.wire.responses import IncompleteDetails, Response, ResponseStatus, Usage
from antiphon.wire.tools import Tool


class Running(Struct, frozen=True, kw_only=True):
    """A call that the server is to run, or runs; `fault` is what the model did wrong, or "".

    `prelude`: no model asked for it.
    """

    item: Item
    offer: Offer
    fault: str
    prelude: bool = False


class Emitter:
    """Turns the model events of one run into wire events.

    Call `open` once, `feed` for each batch, `close` once. `turn` is what `state.decide` wants to know in between;
    `response` is the response as it stands; `number` the last event's; `journal` all that was fed; `compacted` what the
    run's context has been compacted to; `steps` how many steps have ended that another one follows; `running` the calls
    whose end is to be fed, by their place in the output; `ran` how many calls the server was asked to run; `turns`
    how many model calls there were before this one; `announced` whether tools did something before the first;
    `offers` what the model can call by now; `found` the deferred functions among them that it is shown; `loaded`
    whether it was said what the context brings; `fatal` why the response cannot go on, or "".

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
        self.journal: list[Entry] = []
        self.running: dict[int, Running] = {}
        self.ran = 0
        self.announced = False
        self.turns = 0
        self.steps = 0
        self.compacted: str | None = None
        self.offers = dict(offers)
        self.fatal = ""
        self._declared = dict(offers)
        self._learned: dict[int, dict[str, Offer]] = {}
        self.found: set[str] = set()
        self.loaded = False
        self._tools = tools
        self._ledger = Ledger(response.id, include)
        self._writing = Writing(self._ledger, seal)
        self._calls: dict[int, OpenCall] = {}
        self._call_count = 0
        self._served = self._handed = False
        self._fault: str | None = None
        self._usage: Usage | None = None
        self._spent: Usage | None = None

    @property
    def half_said(self) -> bool:
        """Whether the model call that is under way has shown anything, and has not ended."""
        return self.turn.finish is None and self._ledger.said

    @property
    def number(self) -> int:
        """The last event's."""
        return self._ledger.number

    @property
    def output(self) -> list[Item]:
        """The items that have ended, in their order, with all that is known of them."""
        return self._ledger.output

    @property
    def spent(self) -> Usage | None:
        """The tokens of the model calls so far."""
        return summed(self._spent, self._usage)

    # ------------------------------------------------------------ the three calls

    def open(self) -> list[Event]:
        """The first two events."""
        second = ResponseQueued if self.response.status == "queued" else ResponseInProgress
        return [
            ResponseCreated(sequence_number=self._ledger.next(), response=self.response),
            second(sequence_number=self._ledger.next(), response=self.response),
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
        seen = msgspec.structs.replace(self.response, output=[self._ledger.seen(item) for item in self.output])
        out.append(_TERMINAL_EVENTS[status](sequence_number=self._ledger.next(), response=seen))
        return out

    # ------------------------------------------------------------ calls

    def _call_start(self, event: CallStart, out: list[Event]) -> None:
        self._writing.close("completed", out)
        for index in [index for index, call in self._calls.items() if is_whole(call)]:
            self._close_call(index, "completed", out)
        if event.index in self._calls:
            self._close_call(event.index, "completed", out)
        offer = self.offers.get(event.name)
        call_id = event.call_id or child_id(self.response.id, "call", self._call_count)
        self._call_count += 1
        call = OpenCall(call_id, event.name, offer)
        self._calls[event.index] = call
        if call.kind == "function":
            call.output_index = self._ledger.take_index()
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
            self._ledger.add(call.output_index, blank, out)

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
                    sequence_number=self._ledger.next(),
                    output_index=call.output_index,
                    item_id=call.id,
                    delta=event.text,
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
        if call.offer is not None and call.offer.tool is not None and call.kind in self._tools:
            self._run(call, call.offer, out)
            return
        self._handed = True
        output_index = self._ledger.place
        call.id = child_id(self.response.id, _CALL_PREFIXES.get(call.kind, "call"), output_index)
        try:
            added, item = item_of(call.kind, call.made("in_progress")), item_of(call.kind, call.made(status))
        except ValueError as error:
            self._fault = str(error)
            return
        self._ledger.take_index()
        self._ledger.add(output_index, _blank(added), out)
        out.extend(progress(item, Place(item_id=call.id, output_index=output_index, next_number=self._ledger.next)))
        self._ledger.finish(output_index, item, out)

    def _run(self, call: OpenCall, offer: Offer, out: list[Event]) -> None:
        """Announces a call that the server runs, or asks the client whether it may.

        A call beyond the response's `max_tool_calls` is as if never made.
        """
        most = self.response.max_tool_calls
        if most is not None and self.ran >= most:
            self._served = True
            return
        tool, index = self._tools[offer.kind], self._ledger.place
        call.id = child_id(self.response.id, _CALL_PREFIXES[offer.kind], index)
        made = call.made("in_progress")
        memory = Memory(call_id=call.call_id, name=call.name, arguments=made.arguments or "{}", turn=self.turns)
        question = tool.asks(made, offer)
        if question is not None:
            self._handed = True
            self._append(msgspec.structs.replace(question, memory=memory), out)
            return
        item, fault = tool.begun(made, offer)
        self.ran += 1
        self._served = True
        self._begin(Running(item=msgspec.structs.replace(item, memory=memory), offer=offer, fault=fault), out)

    def _announced(self, event: Announced, out: list[Event]) -> None:
        """A tool does something before the model is asked; what the model says is counted by itself."""
        tool = self.response.tools[event.tool]
        kind = kind_of(tool)
        if event.known:
            self.announced = True
            self._learn(kind, tool, event.tool, item=event.item)
            return
        self.announced = True
        self.steps += 1  # kept before it is run
        said = self._ledger.said
        item = self._with_id(event.item)
        offer = Offer(function=Function(name=""), kind=kind, name="", tool=tool, index=event.tool)
        self._begin(Running(item=item, offer=offer, fault="", prelude=True), out)
        self._ledger.said = said

    def _begin(self, running: Running, out: list[Event]) -> None:
        tool, index, item = self._tools[running.offer.kind], self._ledger.take_index(), running.item
        self.running[index] = running
        self._ledger.add(index, _blank(item), out)
        place = Place(item_id=item.id or "", output_index=index, next_number=self._ledger.next)
        out.extend(tool.started(item, place))

    def _tool_told(self, event: ToolTold, out: list[Event]) -> None:
        running = self.running[event.output_index]
        id = running.item.id or ""
        place = Place(item_id=id, output_index=event.output_index, next_number=self._ledger.next)
        out.extend(self._tools[running.offer.kind].told(running.item, event.said, place))

    def _tool_ended(self, event: ToolEnded, out: list[Event]) -> None:
        offer = self.running[event.output_index].offer
        tool = self._tools[offer.kind]
        place = Place(item_id=event.item.id or "", output_index=event.output_index, next_number=self._ledger.next)
        out.extend(tool.ended(event.item, place))
        self._end_run(event.output_index, event.item, out)
        self.fatal = self.fatal or tool.fatal(event.item)
        said = self._ledger.said
        for item in event.more:
            self._append(item, out, tool)
        self._ledger.said = said
        for item in (event.item, *event.more):
            self._learn(offer.kind, offer.tool, offer.index, item=item)
        self.steps += 1

    def _append(self, item: Item, out: list[Event], tool: ServerTool | None = None) -> None:
        """An item that is there at once."""
        item = self._with_id(item)
        index = self._ledger.take_index()
        self._ledger.add(index, _blank(item) if tool else item, out)
        if tool is not None:
            place = Place(item_id=item.id or "", output_index=index, next_number=self._ledger.next)
            out.extend(tool.followed(item, place))
        self._ledger.finish(index, item, out)

    def _with_id(self, item: Item) -> Item:
        """The item with the id of the next place, unless it has one."""
        id = child_id(self.response.id, ID_PREFIXES[type(item)], self._ledger.place)
        return item if item.id else msgspec.structs.replace(item, id=id)

    def _learn(self, kind: str, tool: Tool | None, index: int, *, item: Item) -> None:
        found = self._learned.setdefault(index, {})
        found.update({offer.function.name: offer for offer in self._tools[kind].learned(tool, index, item)})
        self._offer()
        self.found.update(self._tools[kind].found(item, self.offers))

    def _load(self, event: Loaded, _out: list[Event]) -> None:
        """What the context brings; the request for the model's first call has it already."""
        self.loaded = True
        self._declared = {**self._declared, **event.offers()}
        self._offer()
        self.found.update(event.found)

    def _offer(self) -> None:
        learned = {at: tuple(each.values()) for at, each in self._learned.items()}
        self.offers = with_learned(self._declared, learned)

    def _drop_running(self, out: list[Event]) -> None:
        """Ends calls of which nothing comes any more."""
        for index, running in list(self.running.items()):
            item = running.item
            cut_off = hasattr(item, "status")
            self._end_run(index, msgspec.structs.replace(item, status="incomplete") if cut_off else item, out)

    def _end_run(self, output_index: int, item: Item, out: list[Event]) -> None:
        del self.running[output_index]
        self.turn = msgspec.structs.replace(self.turn, running=len(self.running))
        self._ledger.finish(output_index, item, out)

    def _close_function(self, call: OpenCall, status: Status, out: list[Event]) -> None:
        self._handed = True
        if status == "completed" and (fault := fault_of(call)):
            self._fault, status = fault, "incomplete"
        made = call.made(status)
        out.append(
            FunctionArgumentsDone(
                sequence_number=self._ledger.next(),
                output_index=call.output_index,
                item_id=call.id,
                name=made.name,
                arguments=made.arguments,
            )
        )
        self._ledger.finish(call.output_index, item_of("function", made), out)

    # ------------------------------------------------------------ shared

    def _started(self, _event: Started, out: list[Event]) -> None:
        self.response = msgspec.structs.replace(self.response, status=advance(self.response.status, "start"))
        out.append(ResponseInProgress(sequence_number=self._ledger.next(), response=self.response))

    def _next_call(self, event: NextCall, out: list[Event]) -> None:
        self._close_all("incomplete" if event.broken else "completed", out, broken=event.broken)
        if event.broken:
            self._drop_running(out)
        self._spent, self._usage = summed(self._spent, self._usage), None
        self.turn, self._fault = Turn(finish=None), None
        self._ledger.said = self._served = self._handed = False
        self.turns += 1

    def _tokens(self, event: Tokens, _out: list[Event]) -> None:
        self._usage = event.usage()

    def _compacted(self, event: Compacted, out: list[Event]) -> None:
        """An item that is there at once. The model call that made it is over: the next one is counted by itself."""
        self.compacted = event.encrypted_content
        self.steps += 1
        self._spent, self._usage = summed(self._spent, self._usage), None
        index = self._ledger.take_index()
        item = Compaction(id=child_id(self.response.id, "cmp", index), encrypted_content=event.encrypted_content)
        blank = Compaction(id=item.id, encrypted_content="")
        self._ledger.add(index, blank, out)
        self._ledger.finish(index, item, out)
        self._ledger.said = False

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
        self._writing.close(status, out)
        for index, call in list(self._calls.items()):
            self._close_call(index, "completed" if not broken and is_whole(call) else status, out)

    _feeders: ClassVar[dict[type, Callable[["Emitter", Any, list[Event]], None]]] = {
        Text: lambda self, event, out: self._writing.text(event, out),
        RefusalEvent: lambda self, event, out: self._writing.refusal(event, out),
        ReasoningEvent: lambda self, event, out: self._writing.reasoning(event, out),
        CallStart: _call_start,
        CallArguments: _call_arguments,
        Tokens: _tokens,
        Served: _serviced,
        Finish: _finish,
        Compacted: _compacted,
        Started: _started,
        NextCall: _next_call,
        Cited: lambda self, event, out: self._writing.cited(event, out),
        Announced: _announced,
        ToolTold: _tool_told,
        ToolEnded: _tool_ended,
        Loaded: _load,
    }


def _blank(item: Item) -> Item:
    """A call as it is announced: with its input still to come where a stream brings it."""
    if hasattr(item, "input"):
        return msgspec.structs.replace(item, input="")
    if isinstance(item, ShellCallOutput):
        return msgspec.structs.replace(item, output=[], status="in_progress")
    if isinstance(item, CodeInterpreterCall):
        return msgspec.structs.replace(item, code="")
    return msgspec.structs.replace(item, arguments="") if isinstance(item, McpCall) else item


_CALL_PREFIXES = {
    "file_search": "fs",
    "mcp": "mcp",
    "web_search": "ws",
    "image_generation": "ig",
    TOOL_SEARCH: "tsc",
    CLIENT_TOOL_SEARCH: "tsc",
    "code_interpreter": "ci",
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
