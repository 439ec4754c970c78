"""The tools of a request, offered to a model as functions."""

from collections.abc import Iterable, Sequence

from antiphon.errors import InvalidRequest
from antiphon.tools.base import Offer, ServerTools
from antiphon.tools.client import client_offers
from antiphon.wire.tools import Tool


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
    return found


def _offers_of(tool: Tool, served: ServerTools, index: int) -> Iterable[Offer]:
    kind = kind_of(tool)
    return served[kind].offers(tool, index) if kind in served else client_offers(tool, f"tools[{index}]")
