"""The message or reasoning item that a model is writing, and its events. Pure; at most one such item is open."""

from collections.abc import Callable, Collection

from antiphon.engine.open_items import OpenItem, OpenPart, PartKind
from antiphon.ids import child_id
from antiphon.models.base import Cited, Text
from antiphon.models.base import Reasoning as ReasoningEvent
from antiphon.models.base import Refusal as RefusalEvent
from antiphon.wire.events import (
    AnnotationAdded,
    ContentPartAdded,
    ContentPartDone,
    Event,
    OutputItemAdded,
    OutputItemDone,
    PartPlace,
    ReasoningTextDelta,
    ReasoningTextDone,
    RefusalDelta,
    RefusalDone,
    TextDelta,
    TextDone,
)
from antiphon.wire.items import Item, Message, OutputText, Reasoning, ReasoningText, Refusal, Status
from antiphon.wire.shown import shown

Seal = Callable[[str], str]
"""Encrypts a reasoning text; deterministic, so that a journal gives the same bytes again."""


class Ledger:
    """The numbers of a response's events, the places of its items, and the items that have ended.

    `number` is the last event's; `said` whether anything took a place since it was last set back.
    """

    def __init__(self, response_id: str, include: Collection[str]) -> None:
        self.response_id = response_id
        self.number = -1
        self.said = False
        self._include = include
        self._output: dict[int, Item] = {}
        self._places = 0

    @property
    def output(self) -> list[Item]:
        """The items that have ended, in their order, with all that is known of them."""
        return [self._output[index] for index in sorted(self._output)]

    @property
    def place(self) -> int:
        """The next free place in the output."""
        return self._places

    def next(self) -> int:
        """The next event's number."""
        self.number += 1
        return self.number

    def take_index(self) -> int:
        """Takes the next free place."""
        self.said = True
        self._places += 1
        return self._places - 1

    def seen(self, item: Item) -> Item:
        """The item as the client sees it."""
        return shown(item, self._include)

    def add(self, index: int, item: Item, out: list[Event]) -> None:
        """Announces an item at a place that was taken."""
        out.append(OutputItemAdded(sequence_number=self.next(), output_index=index, item=self.seen(item)))

    def finish(self, index: int, item: Item, out: list[Event]) -> None:
        """Ends an item."""
        self._output[index] = item
        out.append(OutputItemDone(sequence_number=self.next(), output_index=index, item=self.seen(item)))


class Writing:
    """What the model is writing, piece by piece."""

    def __init__(self, ledger: Ledger, seal: Seal | None) -> None:
        self._ledger = ledger
        self._seal = seal
        self._item: OpenItem | None = None

    def text(self, event: Text, out: list[Event]) -> None:
        """More text."""
        if not event.text and not event.logprobs:
            return
        item, part = self._part("text", event.text, out)
        part.logprobs += event.logprobs
        out.append(
            TextDelta(
                sequence_number=self._ledger.next(),
                output_index=item.output_index,
                item_id=item.id,
                content_index=part.index,
                delta=event.text,
                logprobs=event.logprobs,
            )
        )

    def cited(self, event: Cited, out: list[Event]) -> None:
        """An annotation of the text so far."""
        item, part = self._part("text", "", out)
        end = part.written.tell()
        place = {"start_index": end - event.chars, "end_index": end} if event.chars else {"index": end}
        annotation = event.annotation | place
        part.annotations.append(annotation)
        where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
        index = len(part.annotations) - 1
        number = self._ledger.next()
        out.append(AnnotationAdded(sequence_number=number, annotation_index=index, annotation=annotation, **where))

    def refusal(self, event: RefusalEvent, out: list[Event]) -> None:
        """More of a refusal."""
        if event.text:
            item, part = self._part("refusal", event.text, out)
            where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
            out.append(RefusalDelta(sequence_number=self._ledger.next(), delta=event.text, **where))

    def reasoning(self, event: ReasoningEvent, out: list[Event]) -> None:
        """More reasoning."""
        if event.text:
            item, part = self._part("reasoning", event.text, out)
            where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
            out.append(ReasoningTextDelta(sequence_number=self._ledger.next(), delta=event.text, **where))

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
            self.close("completed", out)
        if self._item is None:
            index = self._ledger.take_index()
            item = OpenItem(
                child_id(self._ledger.response_id, "rs" if reasoning else "msg", index), index, reasoning=reasoning
            )
            self._item = item
            blank: Item = (
                Reasoning(id=item.id, summary=[], content=[], status="in_progress")
                if reasoning
                else Message(id=item.id, role="assistant", content=[], status="in_progress")
            )
            self._ledger.add(index, blank, out)
        item = self._item
        self._close_part(item, out)
        part = item.open = OpenPart(kind, len(item.parts))
        where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": part.index}
        out.append(ContentPartAdded(sequence_number=self._ledger.next(), part=part.part(), **where))
        return item, part

    def _close_part(self, item: OpenItem, out: list[Event]) -> None:
        if item.open is None:
            return
        opened, item.open = item.open, None
        part = opened.part()
        item.parts.append(part)
        where: PartPlace = {"output_index": item.output_index, "item_id": item.id, "content_index": opened.index}
        if isinstance(part, OutputText):
            done: Event = TextDone(sequence_number=self._ledger.next(), text=part.text, logprobs=part.logprobs, **where)
        elif isinstance(part, Refusal):
            done = RefusalDone(sequence_number=self._ledger.next(), refusal=part.refusal, **where)
        else:
            done = ReasoningTextDone(sequence_number=self._ledger.next(), text=part.text, **where)
        out.append(done)
        out.append(ContentPartDone(sequence_number=self._ledger.next(), part=part, **where))

    def close(self, status: Status, out: list[Event]) -> None:
        """Ends the open item, if there is one."""
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
        self._ledger.finish(item.output_index, whole, out)
