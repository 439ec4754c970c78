"""The tool `tool_search`: a model that knows nothing of deferred tools finds them by a function of its own.

A deferred tool is not shown to the model: its definition costs no tokens until a search has found it. The search goes
by words, those of a name before those of a description.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from antiphon.models.base import Function
from antiphon.tooling import ToolSearchConfig
from antiphon.tools.base import Caller, Ended, Offer, ServerTool
from antiphon.wire.calls import CLIENT_TOOL_SEARCH, TOOL_SEARCH, Answer, Call, Made, flat_name
from antiphon.wire.items import ToolSearchCall, ToolSearchOutput
from antiphon.wire.tools import CustomTool, FunctionTool, ToolSearchTool

_DESCRIPTION: Final = "Find tools that are not loaded yet. What is found can be called in the next step."
_QUERY: Final = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What the tool should do, or its name"}},
    "required": ["query"],
}
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\dA-Za-z_]+")
_STEM_CHARS: Final = 4
_NAMED: Final = 1000.0
_LEAST: Final = 0.25
"""What has no more than this part of the best one's score is not found: each tool costs the model tokens."""
_WEIGHTS: Final = (4.0, 2.0, 1.0, 1.0)
"""Of a word in the name, in the namespace and what it is for, in the description, in an argument's name."""


class ToolSearch(ServerTool):
    """Searches among the deferred tools of a request."""

    def __init__(self, config: ToolSearchConfig) -> None:
        self._config = config

    # ------------------------------------------------------------ how the model sees it

    def offers(self, tool: ToolSearchTool, index: int) -> Iterable[Offer]:
        """One function; the client's own, if the client searches."""
        of_client = tool.execution == "client"
        description = (of_client and tool.description) or _DESCRIPTION
        parameters = (of_client and tool.parameters) or _QUERY
        function = Function(name=TOOL_SEARCH, description=description, parameters=parameters)
        kind = CLIENT_TOOL_SEARCH if of_client else TOOL_SEARCH
        return [Offer(function=function, kind=kind, name=TOOL_SEARCH, tool=tool, index=index)]

    def among(self, offer: Offer, others: Sequence[Offer]) -> Offer:
        """The offer with the namespaces in which there is something to find."""
        groups = {each.namespace: each.about for each in others if each.deferred and each.namespace}
        if not groups:
            return offer
        listed = "".join(f"\n- {name}: {about}" for name, about in groups.items())
        description = f"{offer.function.description} There are, among others, tools for:{listed}"
        return replace(offer, function=replace(offer.function, description=description))

    def seen(self, item: ToolSearchCall | ToolSearchOutput) -> tuple[Call, Answer] | None:
        """The call, and the names of what was found; the tools themselves are among the model's functions."""
        if isinstance(item, ToolSearchOutput):
            return None
        memory = item.memory
        call_id = memory.call_id if memory else item.id or "call_tool_search"
        arguments = memory.arguments if memory else msgspec.json.encode(item.arguments).decode()
        told = memory.output if memory and memory.output is not None else "What was found can be called now."
        return Call(call_id=call_id, name=TOOL_SEARCH, arguments=arguments), Answer(call_id=call_id, output=told)

    # ------------------------------------------------------------ a call

    def begun(self, made: Made, _offer: Offer) -> tuple[ToolSearchCall, str]:
        """The item with the query."""
        blank = ToolSearchCall(id=made.id, arguments={}, execution="server", status="in_progress")
        try:
            given = msgspec.json.decode(made.arguments or "{}", type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return blank, f"The arguments are not a JSON object: {error}."
        item = replace(blank, arguments=given)
        query = given.get("query")
        if not isinstance(query, str) or not query.strip():
            return item, "The argument `query` is needed, a text that says what the tool should do."
        return item, ""

    async def run(self, item: ToolSearchCall, _offer: Offer, caller: Caller) -> Ended:
        """The item, and one with the tools that were found."""
        deferred = [each for each in caller.offers.values() if each.deferred]
        best = ranked(item.arguments["query"], deferred)[: self._config.count]
        if best:
            lines = [f"- {each.function.name}: {each.function.description or ''}" for each in best]
            told = "\n".join(["These tools can be called now:", *lines])
        else:
            told = "No tool was found. Other words may find one."
        memory = item.memory and replace(item.memory, output=told)
        output = ToolSearchOutput(tools=declared(best), execution="server", status="completed")
        return Ended(item=replace(item, status="completed", memory=memory), more=(output,))

    def failed(self, item: ToolSearchCall, message: str) -> ToolSearchCall:
        """The item, without tools; OpenAI has no status for it."""
        memory = item.memory and replace(item.memory, output=f"The search failed: {message}")
        return replace(item, status="completed", memory=memory)

    def found(self, item: ToolSearchCall | ToolSearchOutput, offers: Mapping[str, Offer]) -> Iterable[str]:
        """The functions that are declared in what a search has found."""
        if isinstance(item, ToolSearchCall):
            return []
        names = {each for tool in item.tools for each in _names(tool)}
        return [name for name, offer in offers.items() if _identity(offer) in names]


# ---------------------------------------------------------------- what is found, as declarations


def declared(found: Sequence[Offer]) -> list[dict[str, Any]]:
    """The declarations of some tools as an item has them: those of one namespace, or of one server, together."""
    out: dict[tuple[str, str], dict[str, Any]] = {}
    for offer in found:
        tool = offer.tool
        if not isinstance(tool, FunctionTool | CustomTool):
            label = str(getattr(tool, "server_label", ""))
            server = out.setdefault(("mcp", label), {"type": "mcp", "server_label": label, "allowed_tools": []})
            server["allowed_tools"].append(offer.name)
        elif offer.namespace is None:
            out["function", offer.name] = msgspec.to_builtins(tool)
        else:
            blank = {"type": "namespace", "name": offer.namespace, "description": offer.about, "tools": []}
            out.setdefault(("namespace", offer.namespace), blank)["tools"].append(msgspec.to_builtins(tool))
    return list(out.values())


def _names(tool: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The functions in a declaration: the server's label or "", and the name in which a namespace is part."""
    if tool.get("type") == "mcp":
        return [(str(tool.get("server_label")), str(name)) for name in tool.get("allowed_tools") or ()]
    if tool.get("type") == "namespace":
        return [("", flat_name(tool.get("name"), str(member.get("name")))) for member in tool.get("tools") or ()]
    return [("", str(tool.get("name")))]


def _identity(offer: Offer) -> tuple[str, str]:
    label = getattr(offer.tool, "server_label", None)
    return ("", flat_name(offer.namespace, offer.name)) if label is None else (label, offer.name)


# ---------------------------------------------------------------- searching


def ranked(query: str, offers: Sequence[Offer]) -> list[Offer]:
    """Those that have to do with the query, the best first. Rare words count more than those that most tools have."""
    texts = [_texts(offer) for offer in offers]
    wanted = set(_words(query))
    scores = [0.0] * len(offers)
    for word in wanted:
        weights = [_weight(word, each) for each in texts]
        having = sum(weight > 0 for weight in weights)
        for index, weight in enumerate(weights):
            scores[index] += weight * math.log(1 + len(offers) / having) if weight else 0.0
    named = query.strip().lower()
    for index, offer in enumerate(offers):
        if named in (offer.name.lower(), offer.function.name.lower()):
            scores[index] += _NAMED
    order = sorted(range(len(offers)), key=lambda index: -scores[index])
    least = max(scores, default=0.0) * _LEAST
    return [offers[index] for index in order if scores[index] > least]


def _texts(offer: Offer) -> tuple[set[str], ...]:
    arguments = " ".join((offer.function.parameters or {}).get("properties") or ())
    about = f"{offer.namespace or ''} {offer.about}"
    return tuple(set(_words(text)) for text in (offer.name, about, offer.function.description or "", arguments))


def _weight(word: str, texts: Sequence[set[str]]) -> float:
    return sum(weight for weight, text in zip(_WEIGHTS, texts, strict=True) if any(_alike(word, each) for each in text))


def _alike(one: str, other: str) -> bool:
    """Equal, or one begins with the other: `invoice`, `invoices`."""
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) >= _STEM_CHARS and long.startswith(short))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
