"""The tool groups that come with this server, under Llama Stack's names: web search, and search in vector stores."""

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Struct

from antiphon.errors import DECODE_ERRORS, misfit
from antiphon.models.base import NO_ACCESS, Access
from antiphon.tools.rag import Rag
from antiphon.tools.web_search import WebSearch
from antiphon.vectors.wanted import text_of
from antiphon.wire.tool_groups import Content, KnowledgeSearch, RagInsert, ToolDef, ToolInvocationResult

BUILT_IN: Final = "builtin::"
"""How the names of these groups begin, and no other's."""
T = TypeVar("T")


class Asker(Struct, frozen=True, kw_only=True):
    """For whom a tool is run: `headers` are for MCP servers, by their addresses, `authorization` is for one.

    `work_id` is the id of what the request makes; `again`: it was begun before, under the client's key.
    """

    owner: str
    access: Access = NO_ACCESS
    headers: Mapping[str, Mapping[str, str]] = {}
    authorization: str | None = None
    work_id: str = ""
    again: bool = False


class BuiltIn(Protocol):
    """A group of this server's own."""

    name: str
    provider: str
    tools: tuple[ToolDef, ...]

    def available(self, access: Access, /) -> bool:
        """Whether there is such a group for this client."""
        ...

    async def invoke(self, tool: str, kwargs: Mapping[str, Any], asker: Asker, /) -> ToolInvocationResult:
        """What one of its tools answers. Raises `ApiError`s."""
        ...


class _Search(Struct, kw_only=True):
    """The arguments of `web_search`."""

    query: Content


class WebSearchGroup:
    """`web_search`, by whichever provider is configured."""

    name = f"{BUILT_IN}websearch"
    provider = "web-search"

    def __init__(self, search: WebSearch) -> None:
        self._search = search
        self.tools: tuple[ToolDef, ...] = (
            _tool("web_search", "Search the web for information", self.name, query="The query to search for"),
        )

    def available(self, access: Access) -> bool:
        """Where a provider can be asked."""
        return self._search.available(access)

    async def invoke(self, _tool: str, kwargs: Mapping[str, Any], asker: Asker) -> ToolInvocationResult:
        """What the provider found, as a model is told it."""
        query = text_of(_fit(kwargs, _Search).query, "kwargs.query")
        return ToolInvocationResult(content=await self._search.ask(query, asker.access))


class RagGroup:
    """`knowledge_search` and `insert_into_memory`, over vector stores."""

    name = f"{BUILT_IN}rag"
    provider = "rag-runtime"

    def __init__(self, rag: Rag) -> None:
        self._rag = rag
        query = "The query to search for. Can be a natural language sentence or keywords."
        self.tools: tuple[ToolDef, ...] = (
            _tool("insert_into_memory", "Insert documents into memory", self.name),
            _tool("knowledge_search", "Search for information in a database.", self.name, query=query),
        )

    def available(self, _access: Access) -> bool:
        """Always."""
        return True

    async def invoke(self, tool: str, kwargs: Mapping[str, Any], asker: Asker) -> ToolInvocationResult:
        """Nothing, of an insertion; what was found, as a model is told it."""
        if tool == "insert_into_memory":
            await self._rag.insert(asker.owner, _fit(kwargs, RagInsert), asker.work_id, access=asker.access)
            return ToolInvocationResult()
        asked = _fit(kwargs, KnowledgeSearch)
        found = await self._rag.query(asker.owner, asked.query, asked, access=asker.access)
        return ToolInvocationResult(content=found.content or [], metadata=found.metadata)


def _fit(kwargs: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(kwargs, kind)
    except DECODE_ERRORS as error:
        raise misfit(error, "kwargs") from error


def _tool(name: str, description: str, group: str, **arguments: str) -> ToolDef:
    properties = {each: {"type": "string", "description": says} for each, says in arguments.items()}
    schema = {"type": "object", "properties": properties, "required": [*arguments]} if arguments else None
    return ToolDef(name=name, toolgroup_id=group, description=description, input_schema=schema)
