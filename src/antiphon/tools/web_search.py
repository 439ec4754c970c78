"""The tool `web_search`: the model asks, a search provider answers, and the answer cites pages.

What the model is told is Llama Stack's by default (Tavily's results as they are), so that its recordings match. It is
kept with the item, since a search finds something else every time. Where pages may be fetched, the model can also open
one, or look for something on it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.errors import InvalidRequest, Unsupported
from antiphon.exchange import Transport
from antiphon.ids import page_id
from antiphon.models.base import Access, Function
from antiphon.plugins import search_factory
from antiphon.tooling import SEARCH_PRESETS, SearchProviderConfig, WebSearchConfig
from antiphon.tools.base import Caller, Ended, Offer, Place, ServerTool
from antiphon.tools.web.base import Endpoint, Result, SearchProvider, Wanted, domains
from antiphon.tools.web.pages import Pages
from antiphon.wire.calls import Answer, Call, Made
from antiphon.wire.events import Event, ItemPlace, WebSearchCompleted, WebSearchInProgress, WebSearchSearching
from antiphon.wire.items import WebSearchCall
from antiphon.wire.tools import ContextSize, WebSearchPreviewTool, WebSearchTool

COUNTS: Mapping[ContextSize, int] = {"low": 3, "medium": 5, "high": 10}
"""Results of a search, by the size of the context that the request asks for."""
OPEN_PAGE = "open_page"
FIND_IN_PAGE = "find_in_page"
NOT_CONFIGURED = "web_search_not_configured"
WebTool = WebSearchTool | WebSearchPreviewTool


class Providers:
    """The search providers that may be asked, the preferred first."""

    def __init__(self, known: Sequence[tuple[Endpoint, SearchProvider]], chosen: str, *, replaying: bool) -> None:
        self._known = known
        self._chosen = chosen
        self._replaying = replaying

    def find(self, access: Access) -> SearchProvider | None:
        """Who is asked for this client; None: nobody can be. Recordings need no key."""
        for endpoint, provider in self._known:
            if self._chosen in ("", endpoint.name) and (self._replaying or endpoint.usable(access)):
                return provider
        return None


def open_providers(config: WebSearchConfig, transport: Transport, *, replaying: bool) -> Providers:
    """The configured providers, then those that a client may have a key for. Raises `ConfigError` for plug-ins."""
    configs = dict(config.providers)
    for name in SEARCH_PRESETS:
        configs.setdefault(name, SearchProviderConfig())
    known: list[tuple[Endpoint, SearchProvider]] = []
    for name, given in configs.items():
        endpoint = Endpoint(name, given, transport)
        known.append((endpoint, search_factory(given.kind or name)(endpoint)))
    return Providers(known, config.provider, replaying=replaying)


class _Search(Struct, frozen=True, tag_field="do", tag="search"):
    """The arguments of a search."""

    query: str


class _Open(Struct, frozen=True, tag_field="do", tag=OPEN_PAGE):
    """The arguments of opening a page."""

    url: str


class _Find(Struct, frozen=True, tag_field="do", tag=FIND_IN_PAGE):
    """The arguments of looking on a page."""

    url: str
    pattern: str


class WebSearch(ServerTool):
    """Searches the web for a request's `web_search`, by whichever name."""

    def __init__(self, providers: Providers, pages: Pages | None, config: WebSearchConfig) -> None:
        self._providers = providers
        self._pages = pages
        self._config = config

    # ------------------------------------------------------------ how the model sees it

    def offers(self, tool: WebTool, index: int) -> Iterable[Offer]:
        """One function with a `query`, and two for pages where they are fetched."""
        config = self._config
        functions = [_function(config.name, config.description, query=config.query_description)]
        if self._pages is not None and getattr(tool, "external_web_access", None) is not False:
            opens = "Open a page of the web and read it"
            finds = "Find the places of a page of the web where a text stands"
            url = "The page's full URL"
            functions.append(_function(OPEN_PAGE, opens, url=url))
            functions.append(_function(FIND_IN_PAGE, finds, url=url, pattern="The text to find, as it stands there"))
        return [Offer(function=each, kind="web_search", name=each.name, tool=tool, index=index) for each in functions]

    async def absent(self, _tool: WebTool, caller: Caller, at: str) -> Unsupported | None:
        """That nobody can be asked, unless such requests are to be refused."""
        return self._missing(caller.access, at) if self._config.missing == "leave_out" else None

    async def check(self, tool: WebTool, caller: Caller, at: str) -> None:
        """Raises `Unsupported` where nobody can be asked, `InvalidRequest` for domains that are none."""
        _filters(tool, at)
        missing = self._missing(caller.access, at)
        if missing is not None:
            raise missing

    def _missing(self, access: Access, at: str) -> Unsupported | None:
        if self.available(access):
            return None
        names = ", ".join(env for preset in SEARCH_PRESETS.values() for env in (*preset.key_envs, *preset.url_envs))
        message = (
            "The tool 'web_search' needs a search provider, and none is configured here: set `web_search.providers`"
            f" or one of the variables {names}, or send a key of your own (`tavily_search_api_key`, ...) in the"
            " header X-LlamaStack-Provider-Data."
        )
        return Unsupported(message, param=f"{at}.type", code=NOT_CONFIGURED)

    def seen(self, item: WebSearchCall) -> tuple[Call, Answer]:
        """The call and what it told the model."""
        memory, action = item.memory, item.action or {}
        if memory is not None:
            output = _NOT_KEPT if memory.output is None else memory.output
            call = Call(call_id=memory.call_id, name=memory.name, arguments=memory.arguments)
            return call, Answer(call_id=memory.call_id, output=output)
        kind, call_id = action.get("type"), item.id or "call_web_search"
        name = str(kind) if kind in (OPEN_PAGE, FIND_IN_PAGE) else self._config.name
        query = action.get("query") or " ".join(action.get("queries") or ())
        asked = {key: action[key] for key in ("url", "pattern") if action.get(key)} or {"query": query}
        arguments = msgspec.json.encode(asked).decode()
        return Call(call_id=call_id, name=name, arguments=arguments), Answer(
            call_id=call_id, output=json.dumps(item.results) if item.results else _NOT_KEPT
        )

    def _told(self, query: str, results: Sequence[Result]) -> str:
        config = self._config
        as_json = json.dumps({"query": query, "top_k": [dict(result.told) for result in results]})
        texts = [config.header.format(query=query, count=len(results), json=as_json)]
        for index, result in enumerate(results, 1):
            fields = {"url": result.url, "title": result.title, "snippet": result.snippet}
            marker, published = f"<|{page_id(result.url)}|>", result.published or ""
            texts.append(config.result.format(index=index, marker=marker, published=published, **fields))
        texts.append(config.footer.format(query=query, count=len(results)))
        return "".join(texts)

    # ------------------------------------------------------------ a call

    def begun(self, made: Made, offer: Offer) -> tuple[WebSearchCall, str]:
        """The item with what the model asks for."""
        blank = WebSearchCall(id=made.id, action={"type": "search", "query": "", "queries": []}, status="in_progress")
        kind: type[_Search | _Open | _Find] = {OPEN_PAGE: _Open, FIND_IN_PAGE: _Find}.get(offer.name, _Search)  # type: ignore[assignment]
        try:
            given = msgspec.convert({"do": kind.__struct_config__.tag, **_object(made.arguments)}, kind)
        except (msgspec.DecodeError, msgspec.ValidationError, TypeError) as error:
            return blank, f"The arguments do not fit: {error}."
        action: dict[str, Any] = msgspec.to_builtins(given)
        action = {"type": action.pop("do"), **action}
        if not all(value.strip() for value in action.values()):
            return blank, "An argument is empty."
        if isinstance(given, _Search):
            action["queries"] = [given.query]
        return replace(blank, action=action), ""

    def started(self, _item: WebSearchCall, place: Place) -> Iterator[Event]:
        """In progress, searching."""
        where: ItemPlace = {"item_id": place.item_id, "output_index": place.output_index}
        yield WebSearchInProgress(sequence_number=place.next_number(), **where)
        yield WebSearchSearching(sequence_number=place.next_number(), **where)

    async def run(self, item: WebSearchCall, offer: Offer, caller: Caller) -> Ended:
        """The item with its sources and results, and what the model is told in its memory."""
        tool, action = offer.tool, item.action or {}
        if not isinstance(tool, WebTool):
            raise TypeError(tool)
        if action["type"] == "search":
            return Ended(item=await self._searched(item, tool, caller.access))
        url = str(action["url"])
        text = await self._looked(url, action.get("pattern"), tool=tool, access=caller.access)
        memory = item.memory and replace(item.memory, output=text)
        return Ended(item=replace(item, status="completed", results=[{"url": url, "title": url}], memory=memory))

    def available(self, access: Access) -> bool:
        """Whether anybody can be asked for this client."""
        return self._providers.find(access) is not None

    async def ask(self, query: str, access: Access) -> str:
        """What a model would be told of a search. Raises `ApiError`s."""
        return self._told(query, await self._found(Wanted(query=query, count=COUNTS["medium"]), access))

    async def _found(self, wanted: Wanted, access: Access) -> list[Result]:
        provider = self._providers.find(access)
        if provider is None:  # the client's key came with the request that declared the tool, and this is another
            raise Unsupported("No search provider is configured.")
        return [result for result in await provider.search(wanted, access) if wanted.allows(result.url)]

    async def _searched(self, item: WebSearchCall, tool: WebTool, access: Access) -> WebSearchCall:
        action = item.action or {}
        allowed, blocked = _filters(tool, "tools")
        size = tool.search_context_size or "medium"
        wanted = Wanted(
            query=action["query"],
            count=COUNTS[size],
            size=size,
            location=tool.user_location,
            allowed=allowed,
            blocked=blocked,
        )
        results = await self._found(wanted, access)
        memory = item.memory and replace(item.memory, output=self._told(wanted.query, results))
        sources = [{"type": "url", "url": result.url} for result in results]
        kept = [{"url": each.url, "title": each.title, "snippet": each.snippet} for each in results]
        return replace(item, status="completed", action=action | {"sources": sources}, results=kept, memory=memory)

    async def _looked(self, url: str, pattern: str | None, *, tool: WebTool, access: Access) -> str:
        """What the model is told of a page. Raises `InvalidRequest` for one outside of the domains allowed."""
        if self._pages is None:
            raise Unsupported("No pages are opened here.")
        allowed, blocked = _filters(tool, "tools")
        if not Wanted(query="", count=1, allowed=allowed, blocked=blocked).allows(url):
            raise InvalidRequest("Pages of this domain may not be opened.")
        if pattern is None:
            return await self._pages.open(url, access.replay)
        return await self._pages.find(url, pattern, replay=access.replay)

    def failed(self, item: WebSearchCall, message: str) -> WebSearchCall:
        """The item without results."""
        what = "The search" if (item.action or {}).get("type") == "search" else "Opening the page"
        memory = item.memory and replace(item.memory, output=f"{what} failed: {message}")
        return replace(item, status="failed", memory=memory)

    def ended(self, item: WebSearchCall, place: Place) -> Iterator[Event]:
        """Completed; OpenAI has no event for a search that failed."""
        if item.status == "completed":
            yield WebSearchCompleted(
                sequence_number=place.next_number(), item_id=place.item_id, output_index=place.output_index
            )


def _filters(tool: WebTool, at: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    filters = tool.filters if isinstance(tool, WebSearchTool) else None
    if filters is None:
        return (), ()
    allowed = domains(filters.allowed_domains, f"{at}.filters.allowed_domains")
    return allowed, domains(filters.blocked_domains, f"{at}.filters.blocked_domains")


def _function(name: str, description: str, **arguments: str) -> Function:
    properties = {each: {"type": "string", "description": says} for each, says in arguments.items()}
    schema = {"type": "object", "properties": properties, "required": [*arguments]}
    return Function(name=name, description=description, parameters=schema)


def _object(arguments: str) -> dict[str, Any]:
    given: dict[str, Any] = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    return given


_NOT_KEPT = "What this search found was not kept."
