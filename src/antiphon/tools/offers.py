"""The tools of a request, offered to a model as functions, and those that its context brings."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.errors import DECODE_ERRORS, InvalidRequest, Unsupported, misfit
from antiphon.tools.base import Offer, ServerTools
from antiphon.tools.client import client_offers
from antiphon.wire.items import AdditionalTools, Item, ToolSearchOutput
from antiphon.wire.tools import Tool, ToolSearchTool


def kind_of(tool: Tool) -> str:
    """The `type` of a declared tool."""
    return str(type(tool).__struct_config__.tag)


def offers(tools: Sequence[Tool], served: ServerTools) -> dict[str, Offer]:
    """The offers of a request's tools, by the function name that the model sees.

    Raises `InvalidRequest` if two tools would have the same name, or a tool asks for what is not served.
    """
    found: dict[str, Offer] = {}
    for index, tool in enumerate(tools):
        for offer in _offers_of(tool, served, index):
            if offer.function.name in found:
                message = f"Two tools are named {offer.function.name!r}; names must be unique."
                raise InvalidRequest(message, param=f"tools[{index}]", code="duplicate_tool")
            found[offer.function.name] = offer
    if not any(isinstance(tool, ToolSearchTool) for tool in tools):  # nothing could ever find them
        found = {name: replace(offer, deferred=False) if offer.deferred else offer for name, offer in found.items()}
    everything = tuple(found.values())
    return {
        name: served[offer.kind].among(offer, everything) if offer.kind in served else offer
        for name, offer in found.items()
    }


def _offers_of(tool: Tool, served: ServerTools, index: int) -> Iterable[Offer]:
    kind = kind_of(tool)
    return served[kind].offers(tool, index) if kind in served else client_offers(tool, f"tools[{index}]")


def visible(offered: Mapping[str, Offer], found: Collection[str]) -> dict[str, Offer]:
    """What of the offers the model is shown: all but the deferred ones that were not found."""
    return {name: offer for name, offer in offered.items() if not offer.deferred or name in found}


# ---------------------------------------------------------------- tools out of the context


class Loaded(Struct, frozen=True, tag="loaded", array_like=True):
    """What a context brings: tools beside those of the request, and which deferred functions were found already."""

    tools: tuple[Tool, ...] = ()
    found: tuple[str, ...] = ()

    def offers(self) -> dict[str, Offer]:
        """The offers of its tools."""
        return {offer.function.name: offer for tool in self.tools for offer in client_offers(tool, "input")}


def loaded(context: Sequence[Item], offered: Mapping[str, Offer], served: ServerTools) -> Loaded:
    """What items bring that a client or a tool search has put into the context; of equal names the last one holds.

    Raises `InvalidRequest` for tools that cannot be read, `Unsupported` for those that the server would run.
    """
    tools: dict[str, Tool] = {}
    found: dict[str, None] = {}
    for item in context:
        if not isinstance(item, AdditionalTools | ToolSearchOutput):
            continue
        for tool in _tools_in(item, served):
            names = [offer.function.name for offer in client_offers(tool, "input")]
            if isinstance(item, ToolSearchOutput):
                found |= dict.fromkeys(names)
            if not all(name in offered for name in names):
                tools[f"{kind_of(tool)} {getattr(tool, 'name', '')} {names}"] = tool
    return Loaded(tuple(tools.values()), tuple(found))


def _tools_in(item: AdditionalTools | ToolSearchOutput, served: ServerTools) -> Iterable[Tool]:
    try:
        # A server's own functions are known by what it lists, not by what was found.
        tools = msgspec.convert([each for each in item.tools if each.get("type") != "mcp"], list[Tool])
    except DECODE_ERRORS as error:
        raise misfit(error, "input") from error
    for tool in tools:
        if kind_of(tool) in served:
            message = f"The tool {kind_of(tool)!r} must stand in the request's own 'tools'."
            raise Unsupported(message, param="input", code="unsupported_tool")
    return tools
