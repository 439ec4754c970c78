"""The tool `tool_search`: a model that knows nothing of deferred tools finds them by a function of its own.

A deferred tool is not shown to the model: its definition costs no tokens until a search has found it. The search goes
by words, those of a name before those of a description, and by meaning where there is a model that embeds.
"""

import logging
import math
import re
import sys
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from operator import mul
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from antiphon.errors import ApiError
from antiphon.models.base import Access, Function
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
_SAYING_LITTLE: Final = re.compile(
    "an?|and|are|as|at|be|by|can|do|for|from|i|in|is|it|me|my|of|on|or|some|that|the|this|to|up|with|you|your"
)
_STEM_CHARS: Final = 4
_NAMED: Final = 1000.0
_LEAST: Final = 0.25
"""What has no more than this part of the best one's score is not found: each tool costs the model tokens."""
_WEIGHTS: Final = (4.0, 2.0, 1.0, 1.0)
"""Of a word in the name, in the namespace and what it is for, in the description, in an argument's name."""
_NEAR: Final = 0.5
"""By meaning, what lies nearer to the average tool than to the best one is not found."""
_EMBEDDED_AT_ONCE: Final = 256
_REMEMBERED: Final = 4096

Embed = Callable[[Sequence[str], Access], Awaitable[list[bytes] | None]]
"""Texts into vectors of 32-bit floats; None: there is no model for it. Raises `ApiError`s only."""

if TYPE_CHECKING:
    Vector = array[float]
log = logging.getLogger("antiphon.tools")


class Meanings:
    """How near texts are to a query. What was embedded is remembered, since a request's tools are the next one's."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._known: OrderedDict[str, Vector] = OrderedDict()

    async def nearness(self, query: str, texts: Sequence[str], access: Access) -> list[float]:
        """From 0, which is the average and below, to 1, the nearest text; nothing where there is no model."""
        wanted = list(dict.fromkeys((query, *texts)))
        found = {text: self._known[text] for text in wanted if text in self._known}
        new = [text for text in wanted if text not in found]
        for start in range(0, len(new), _EMBEDDED_AT_ONCE):
            some = new[start : start + _EMBEDDED_AT_ONCE]
            vectors = await self._embed(some, access)
            if vectors is None:
                return []
            found.update(zip(some, map(_unit, vectors), strict=True))
        if len(set(map(len, found.values()))) > 1:  # another model embeds by now
            self._known.clear()
            return []
        self._remember(found)
        return near(found[query], [found[text] for text in texts])

    def _remember(self, found: "Mapping[str, Vector]") -> None:
        for text, vector in found.items():
            self._known[text] = vector
            self._known.move_to_end(text)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


class ToolSearch(ServerTool):
    """Searches among the deferred tools of a request."""

    def __init__(self, config: ToolSearchConfig, meanings: Meanings | None = None) -> None:
        self._config = config
        self._meanings = meanings

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
        query = item.arguments["query"]
        best = ranked(query, deferred, await self._nearness(query, deferred, caller.access))[: self._config.count]
        if best:
            lines = [f"- {each.function.name}: {each.function.description or ''}" for each in best]
            told = "\n".join(["These tools can be called now:", *lines])
        else:
            told = "No tool was found. Other words may find one."
        memory = item.memory and replace(item.memory, output=told)
        output = ToolSearchOutput(tools=declared(best), execution="server", status="completed")
        return Ended(item=replace(item, status="completed", memory=memory), more=(output,))

    async def _nearness(self, query: str, deferred: Sequence[Offer], access: Access) -> list[float]:
        if self._meanings is None or not deferred:
            return []
        try:
            return await self._meanings.nearness(query, [" ".join(_texts(each)) for each in deferred], access)
        except ApiError as error:  # words find something too
            log.warning("tools were searched by words alone", extra={"exception": error.message})
            return []

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


def ranked(query: str, offers: Sequence[Offer], nearness: Sequence[float] = ()) -> list[Offer]:
    """Those that have to do with the query, the best first. Rare words count more than those that most tools have.

    `nearness` is theirs to the query's meaning, from 0 to 1.
    """
    close = nearness or [0.0] * len(offers)
    best = max(scores := by_words(query, offers), default=0.0) or 1.0
    shares = [score / best for score in scores]
    order = sorted(range(len(offers)), key=lambda index: -shares[index] - close[index])
    return [offers[index] for index in order if shares[index] > _LEAST or close[index] > _NEAR]


def near(query: "Vector", vectors: "Sequence[Vector]") -> list[float]:
    """How near each is to the query, from 0 (the average and below) to 1 (the nearest). All have the length 1."""
    if len(vectors) == 1:
        return [1.0]
    cosines = [sum(map(mul, query, vector)) for vector in vectors]
    average = sum(cosines) / (len(cosines) or 1)
    most = max((cosine - average for cosine in cosines), default=0.0)
    return [max(cosine - average, 0.0) / most if most > 0 else 0.0 for cosine in cosines]


def _unit(packed: bytes) -> "Vector":
    """The vector of length 1 in this direction. Tools are few: numpy would cost more at start than it saves here."""
    vector = array("f", packed)
    if sys.byteorder == "big":
        vector.byteswap()
    length = math.hypot(*vector) or 1.0
    return array("f", [each / length for each in vector])


def by_words(query: str, offers: Sequence[Offer]) -> list[float]:
    """How well each has the query's words; 0: not at all."""
    texts = [[set(_words(text)) for text in _texts(offer)] for offer in offers]
    asked = set(_words(query))
    wanted = {word for word in asked if not _SAYING_LITTLE.fullmatch(word)} or asked
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
    return scores


def _texts(offer: Offer) -> tuple[str, str, str, str]:
    """Its name, its namespace and what that is for, its description, its arguments' names."""
    arguments = " ".join((offer.function.parameters or {}).get("properties") or ())
    about = f"{offer.namespace or ''} {offer.about}"
    return offer.name, about, offer.function.description or "", arguments


def _weight(word: str, texts: Sequence[set[str]]) -> float:
    return sum(weight for weight, text in zip(_WEIGHTS, texts, strict=True) if any(_alike(word, each) for each in text))


def _alike(one: str, other: str) -> bool:
    """Equal, or one begins with the other: `invoice`, `invoices`."""
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) >= _STEM_CHARS and long.startswith(short))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
