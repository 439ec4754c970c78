"""The tools of a request and of its context, offered to a model as functions; and how it is told to choose."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.errors import DECODE_ERRORS, InvalidRequest, Unsupported, misfit
from antiphon.models.base import Choice
from antiphon.tools.base import Offer, ServerTools
from antiphon.tools.client import client_offers
from antiphon.wire.items import AdditionalTools, Item, ToolSearchOutput
from antiphon.wire.tools import WEB_SEARCH, ChooseAllowed, Tool, ToolChoice, ToolSearchTool

_OTHER_NAMES = {"computer_use": "computer", **dict.fromkeys(WEB_SEARCH, "web_search")}
"""What a tool choice may call a kind of tool."""


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


def with_learned(declared: Mapping[str, Offer], learned: Mapping[int, Sequence[Offer]]) -> dict[str, Offer]:
    """Offers by the name that the model sees, with those that were learned, by the place of their declared tool.

    Of two with one name the later declared one is shown under its alias, in whatever order they were learned.
    """
    found = dict(declared)
    for index in sorted(learned):
        for offer in learned[index]:
            name = offer.function.name
            if offer.alias and name in found:
                name, number = offer.alias, 1
                while name in found:
                    number += 1
                    name = f"{offer.alias[:60]}_{number}"
            found[name] = offer if name == offer.function.name else _renamed(offer, name)
    return found


def _renamed(offer: Offer, name: str) -> Offer:
    return replace(offer, function=replace(offer.function, name=name))


# ---------------------------------------------------------------- choosing


def choice_of(
    choice: ToolChoice | None,
    offered: Mapping[str, Offer],
    *,
    later: Sequence[Tool] = (),
    absent: Mapping[str, Unsupported] = MappingProxyType({}),
) -> Choice | None:
    """What the model may call. Raises `InvalidRequest` for a choice of tools that are not there.

    `later` are declared tools whose functions are learned in the run: a choice of them is made only then. `absent` says
    of declared kinds why they were left out: who chooses one of them, or has no other to choose, is told so.
    """
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice == "required" and not offered and not later:
            for reason in absent.values():
                raise reason
            raise InvalidRequest("Tool choice 'required' must come with 'tools'.", param="tool_choice")
        return Choice(mode=choice)
    one_of = choice.tools if isinstance(choice, ChooseAllowed) else [msgspec.to_builtins(choice)]
    for one in one_of:
        if (kind := named_kind(one.get("type"))) in absent:
            raise absent[kind]
    names = tuple(name for one in one_of for name in _chosen(one, offered, later))
    return Choice(mode=choice.mode if isinstance(choice, ChooseAllowed) else "required", names=names)


def named_kind(given: object) -> str:
    """The kind of tool that a choice or a declaration means by its `type`, whichever of its names that is."""
    return _OTHER_NAMES.get(str(given), str(given))


def _chosen(one: Mapping[str, object], offered: Mapping[str, Offer], later: Sequence[Tool]) -> tuple[str, ...]:
    given, name, label = (one.get(key) for key in ("type", "name", "server_label"))
    kind = named_kind(given)

    def fits(seen: str, offer: Offer) -> bool:
        if kind == "namespace":
            return offer.namespace == name
        if label is not None and getattr(offer.tool, "server_label", None) != label:
            return False
        return offer.kind == kind and name in (None, offer.name, seen)

    names = tuple(seen for seen, offer in offered.items() if fits(seen, offer))
    waits = any(kind_of(tool) == kind and label in (None, getattr(tool, "server_label", None)) for tool in later)
    if not names and not waits:
        message = f"Tool choice {name or label or kind!r} not found in 'tools'."
        raise InvalidRequest(message, param="tool_choice", code="tool_not_found")
    return names


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
