"""What of a turn is being written: a message's part, an item, a call. Pure: the emitter opens and closes them."""

from io import StringIO
from typing import Any, Literal

import msgspec

from antiphon.tools.base import Offer
from antiphon.wire.calls import Made
from antiphon.wire.items import Logprob, OutputPart, OutputText, ReasoningText, Refusal, Status

PartKind = Literal["text", "refusal", "reasoning"]


class OpenPart:
    """The content part that is being written: its kind, its text so far, and its place in the item."""

    __slots__ = ("annotations", "index", "kind", "logprobs", "written")

    def __init__(self, kind: PartKind, index: int) -> None:
        self.kind = kind
        self.index = index
        self.written = StringIO()  # of short pieces, the text itself is the least part
        self.logprobs: list[Logprob] = []
        self.annotations: list[dict[str, Any]] = []

    def part(self) -> OutputPart:
        """The part as far as it goes."""
        text = self.written.getvalue()
        if self.kind == "text":
            return OutputText(text=text, annotations=self.annotations[:], logprobs=self.logprobs[:])
        return Refusal(text) if self.kind == "refusal" else ReasoningText(text)


class OpenItem:
    """The message or reasoning item that is being written."""

    __slots__ = ("id", "open", "output_index", "parts", "reasoning")

    def __init__(self, item_id: str, output_index: int, *, reasoning: bool) -> None:
        self.id = item_id
        self.output_index = output_index
        self.reasoning = reasoning
        self.parts: list[OutputPart] = []
        self.open: OpenPart | None = None


class OpenCall:
    """A function call that is being written. Only plain functions are shown before they are whole (`output_index`)."""

    __slots__ = ("call_id", "id", "name", "offer", "output_index", "texts")

    def __init__(self, call_id: str, name: str, offer: Offer | None) -> None:
        self.call_id = call_id
        self.name = name
        self.offer = offer
        self.id = ""
        self.output_index = -1
        self.texts: list[str] = []

    @property
    def kind(self) -> str:
        """What its item will be: a plain function's, where nobody offered it."""
        return self.offer.kind if self.offer else "function"

    def made(self, status: Status) -> Made:
        """The call as the model made it so far."""
        name, namespace = (self.offer.name, self.offer.namespace) if self.offer else (self.name, None)
        arguments = "".join(self.texts) or ("{}" if status == "completed" else "")
        return Made(
            id=self.id, call_id=self.call_id, name=name, namespace=namespace, arguments=arguments, status=status
        )


def fault_of(call: OpenCall) -> str | None:
    """What is wrong with a finished function call's arguments: they must be JSON, or empty."""
    text = "".join(call.texts)
    try:
        if text:
            msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return f"The model called {call.name!r} with arguments that are not JSON: {error}."
    return None


def is_whole(call: OpenCall) -> bool:
    """Whether there are arguments, and they can be read."""
    return bool(call.texts) and fault_of(call) is None
