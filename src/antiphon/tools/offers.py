"""The tools of a request, offered to a model as functions."""

from collections.abc import Iterable, Sequence

from antiphon.errors import InvalidRequest
from antiphon.tools.base import Offer, ServerTools
from antiphon.tools.client import client_offers
from antiphon.wire.tools import Tool


def offers(tools: Sequence[Tool], served: ServerTools) -> dict[str, Offer]:
    """The offers of a request's tools, by the function name that the model sees.

    Raises `InvalidRequest` if two tools would have the same name, or a tool asks for what is not served.
    """
    found: dict[str, Offer] = {}
    for index, tool in enumerate(tools):
        for offer in _offers_of(tool, served, f"tools[{index}]"):
            if offer.function.name in found:
                message = f"Two tools are named {offer.function.name!r}; names must be unique."
                raise InvalidRequest(message, param=f"tools[{index}]", code="duplicate_tool")
            found[offer.function.name] = offer
    return found


def _offers_of(tool: Tool, served: ServerTools, at: str) -> Iterable[Offer]:
    kind = str(type(tool).__struct_config__.tag)
    return served[kind].offers(tool, at) if kind in served else client_offers(tool, at)
