"""The tools of a request, offered to a model as functions, and how the model is told to choose among them."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from antiphon.errors import InvalidRequest
from antiphon.models.base import Choice
from antiphon.tools.base import Offer, ServerTools
from antiphon.tools.client import client_offers
from antiphon.wire.tools import ChooseAllowed, ChooseComputerUse, Tool, ToolChoice


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


def choice_of(choice: ToolChoice | None, offered: Mapping[str, Offer], *, later: Sequence[Tool] = ()) -> Choice | None:
    """What the model may call. Raises `InvalidRequest` for a choice of tools that are not there.

    `later` are declared tools whose functions are learned in the run: a choice of them is made only then.
    """
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice == "required" and not offered and not later:
            raise InvalidRequest("Tool choice 'required' must come with 'tools'.", param="tool_choice")
        return Choice(mode=choice)
    if isinstance(choice, ChooseAllowed):
        names = tuple(name for tool in choice.tools for name in _chosen(tool, offered, later))
        return Choice(mode=choice.mode, names=names)
    one = msgspec.to_builtins(choice)
    if isinstance(choice, ChooseComputerUse):
        one["type"] = "computer"
    return Choice(mode="required", names=_chosen(one, offered, later))


def _chosen(one: Mapping[str, object], offered: Mapping[str, Offer], later: Sequence[Tool]) -> tuple[str, ...]:
    kind, name, label = (one.get(key) for key in ("type", "name", "server_label"))

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
