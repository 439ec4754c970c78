"""What a tool is to the engine: how a model sees it, what its call becomes, and, where the server runs it, how.

A tool of the server's is one `ServerTool`. Its pure half forms items and events, so that a stream can be shown again
from a journal; `run` is the only part that waits. A tool that fails raises nothing: its item says so, and the model is
told.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from msgspec import Struct

from antiphon.models.base import Access, Function
from antiphon.wire.calls import Answer, Call, Made
from antiphon.wire.events import Event
from antiphon.wire.items import FileSearchCall, Item
from antiphon.wire.tools import Tool


class Offer(Struct, frozen=True, kw_only=True):
    """A tool as the model sees it, and what its call becomes: an item of `kind` with this name and namespace.

    `tool` is what the request said of it, where the server runs it.
    """

    function: Function
    kind: str
    name: str
    namespace: str | None = None
    tool: Tool | None = None


class Place(Struct, frozen=True, kw_only=True):
    """Where in a stream an item stands, and the source of the next sequence number."""

    item_id: str
    output_index: int
    next_number: Callable[[], int]


class Caller(Struct, frozen=True, kw_only=True):
    """For whom a tool runs: the owner, and how model hosts are asked."""

    owner: str
    access: Access


class ServerTool(Protocol):
    """A kind of tool that the server runs. `idempotent`: whether a call that may have run already may run again."""

    idempotent: bool

    def offers(self, tool: Any, at: str) -> Iterable[Offer]:
        """How the model sees a declared tool. Raises `InvalidRequest`; `at` is the declaration's place."""
        ...

    async def check(self, tool: Any, caller: Caller, at: str) -> None:
        """Raises `ApiError` for what the declaration names and is not there."""
        ...

    def begun(self, made: Made) -> tuple[Item, str]:
        """The item of a call that begins, and what is wrong with the call's arguments, or ""."""
        ...

    def started(self, item: Any, place: Place) -> Iterator[Event]:
        """What is told between the item's announcement and its run."""
        ...

    async def run(self, item: Any, offer: Offer, caller: Caller) -> Item:
        """The finished item. Raises `ApiError` with what the model is told instead."""
        ...

    def failed(self, item: Any, message: str) -> Item:
        """The item of a call that failed, with what the model is told of it."""
        ...

    def ended(self, item: Any, place: Place) -> Iterator[Event]:
        """What is told between the run and the item's end."""
        ...

    def seen(self, item: Any) -> tuple[Call, Answer]:
        """The call as the model sees it in its history; also of an item that a client sent, without memory."""
        ...


ServerTools = Mapping[str, ServerTool]
"""The tools that the server runs, by the `type` of their declaration."""
SERVED_ITEMS: Mapping[type, str] = {FileSearchCall: "file_search"}
"""The items of their calls."""
