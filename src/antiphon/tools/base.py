"""What a tool is to the engine: how a model sees it, what its call becomes, and, where the server runs it, how.

A tool of the server's is one `ServerTool`. Its pure half forms items and events, so that a stream can be shown again
from a journal; `run` is the part that waits. A call that fails fails no response: its item says so, and the model is
told.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from antiphon.errors import Unsupported
from antiphon.models.base import Access, Function
from antiphon.wire.calls import Answer, Call, Made
from antiphon.wire.events import Event
from antiphon.wire.items import (
    CodeInterpreterCall,
    FileSearchCall,
    ImageGenerationCall,
    InputImage,
    Item,
    McpApprovalRequest,
    McpApprovalResponse,
    McpCall,
    McpListTools,
    ToolSearchCall,
    ToolSearchOutput,
    WebSearchCall,
)
from antiphon.wire.tools import Tool


class Offer(Struct, frozen=True, kw_only=True):
    """A tool as the model sees it, and what its call becomes: an item of `kind` with this name and namespace.

    `tool` is what the request said of it, at `index` of its tools where the server runs it. A `deferred` one is not
    shown to the model until a tool search has found it. `about` says what its namespace is for. `alias` is the
    function's name where another tool has its own name already; without one, the offer takes the other's place.
    `hints` are what its MCP server says of its nature.
    """

    function: Function
    kind: str
    name: str
    namespace: str | None = None
    tool: Tool | None = None
    index: int = 0
    deferred: bool = False
    alias: str = ""
    hints: Mapping[str, Any] = MappingProxyType({})
    about: str = ""


class Place(Struct, frozen=True, kw_only=True):
    """Where in a stream an item stands, and the source of the next sequence number."""

    item_id: str
    output_index: int
    next_number: Callable[[], int]


class Caller(Struct, frozen=True, kw_only=True):
    """For whom a tool runs: the owner, the response, how model hosts are asked, and the client's secrets.

    `images`: whether the model's host can be shown some. `tell`: shows something of a call before it has ended, by its
    tool's `told`. `pictures`: data URLs of the images of the context, the oldest first; or of the one that is given.

    `secrets` are what a declaration said that must be neither stored nor shown, by the declaration's place in `tools`.
    `offers` are all that the model can call by now, or could once a search has found it.
    """

    owner: str
    access: Access
    response_id: str = ""
    secrets: Mapping[int, Mapping[str, Any]] = MappingProxyType({})
    images: bool = False
    offers: Mapping[str, Offer] = MappingProxyType({})
    tell: Callable[[dict[str, Any]], None] = lambda _: None
    pictures: Callable[[InputImage | None], Awaitable[Sequence[str]]] | None = None


class Prelude(Struct, frozen=True, kw_only=True):
    """What a tool does before the model is asked: `item` begins, is run as a call is, and ends.

    `known`: the item ended in an earlier response, and is only learned from again, unseen.
    """

    item: Item
    known: bool = False


class Ended(Struct, frozen=True, kw_only=True):
    """What came of a call: its item, and further items that follow it at once."""

    item: Item
    more: tuple[Item, ...] = ()


class ServerTool(ABC):
    """A kind of tool that the server runs; the base of each.

    `idempotent`: whether a call that may have run already, in a process that died, may run again. `lists`: whether its
    functions are learned only by its prelude.
    """

    idempotent: bool = True
    lists: bool = False

    def repeatable(self, item: Any, offer: Offer) -> bool:
        """The same, of one call."""
        return self.idempotent

    # ------------------------------------------------------------ what is declared

    @abstractmethod
    def offers(self, tool: Any, index: int) -> Iterable[Offer]:
        """How the model sees the tool that the request declares at `index`. Raises `InvalidRequest`."""

    def among(self, offer: Offer, others: Sequence[Offer]) -> Offer:
        """An offer of this tool's, where it says something of the other tools."""
        return offer

    def parted(self, tool: Any) -> tuple[Any, Mapping[str, Any]]:
        """The declaration as it may be stored and shown, and the secrets that were in it."""
        return tool, {}

    async def absent(self, tool: Any, caller: Caller, at: str) -> Unsupported | None:
        """Why nobody could run the tool here, where it is then left out and the model not told of it."""
        return None

    async def check(self, tool: Any, caller: Caller, at: str) -> None:  # noqa: B027 (most have nothing to check)
        """Raises `ApiError` for what the declaration names and is not there."""

    def prelude(self, tool: Any, context: Sequence[Item], added: Sequence[Item]) -> Iterable[Prelude]:
        """What is to be done for a declared tool before the first model call; items have no id yet.

        `added` is the part of the context that this request brings. Raises `InvalidRequest` for what cannot be done.
        """
        return ()

    def learned(self, tool: Any, index: int, item: Any) -> Iterable[Offer]:
        """The functions that the model can call once an item of this tool has ended. Pure."""
        return ()

    def found(self, item: Any, offers: Mapping[str, Offer]) -> Iterable[str]:
        """The names of deferred functions that the model is shown once an item of this tool has ended. Pure."""
        return ()

    # ------------------------------------------------------------ a call: the pure part

    @abstractmethod
    def begun(self, made: Made, offer: Offer) -> tuple[Item, str]:
        """The item of a call that begins, and what is wrong with the call's arguments, or ""."""

    def asks(self, made: Made, offer: Offer) -> Item | None:
        """The item that asks the client whether the call may be run; None: it may."""
        return None

    def started(self, item: Any, place: Place) -> Iterator[Event]:
        """What is told between the item's announcement and its run."""
        return iter(())

    def told(self, item: Any, said: Mapping[str, Any], place: Place) -> Iterator[Event]:
        """What is told of what a run has said (`Caller.tell`) while it goes on."""
        return iter(())

    def ended(self, item: Any, place: Place) -> Iterator[Event]:
        """What is told between the run and the item's end."""
        return iter(())

    def fatal(self, item: Any) -> str:
        """Why the response cannot go on after an item that has ended so, or ""."""
        return ""

    def followed(self, item: Item, place: Place) -> Iterator[Event]:
        """What is told of one of the items that follow a call, between its announcement and its end."""
        return iter(())

    @abstractmethod
    def failed(self, item: Any, message: str) -> Item | Ended | None:
        """The item of a call that failed, with what the model is told of it; None: the response cannot go on."""

    @abstractmethod
    def seen(self, item: Any) -> tuple[Call, Answer] | None:
        """The call as the model sees it in its history; also of an item that a client sent, without memory.

        None: an item of which the model sees nothing.
        """

    def seen_among(self, item: Any, _context: Sequence[Item]) -> tuple[Call, Answer] | None:
        """The same, where it depends on the rest of the context."""
        return self.seen(item)

    # ------------------------------------------------------------ a call: the part that waits

    @abstractmethod
    async def run(self, item: Any, offer: Offer, caller: Caller) -> Ended:
        """What comes of a call. Raises `ApiError` with what the model is told instead."""

    async def release(self, response_id: str) -> None:  # noqa: B027 (most keep nothing open)
        """A run is over: what was kept open for it is closed. Never raises."""


ServerTools = Mapping[str, ServerTool]
"""The tools that the server runs, by the `type` of their declaration."""
SERVED_ITEMS: Mapping[type, str] = {
    CodeInterpreterCall: "code_interpreter",
    FileSearchCall: "file_search",
    McpListTools: "mcp",
    McpApprovalRequest: "mcp",
    McpApprovalResponse: "mcp",
    McpCall: "mcp",
    WebSearchCall: "web_search",
    ImageGenerationCall: "image_generation",
    ToolSearchCall: "tool_search",
    ToolSearchOutput: "tool_search",
}
"""The items of their calls."""


def served_as(item: Item) -> str:
    """The kind of tool whose call the server ran as this item; "": none. A search with a call id is the client's."""
    of_client = isinstance(item, ToolSearchCall | ToolSearchOutput) and item.call_id is not None
    return "" if of_client else SERVED_ITEMS.get(type(item), "")
