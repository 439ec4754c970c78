"""Llama Stack's tool runtime: which groups of tools there are, what is in them, and their tools called without a model.

A group is one of this server's own, a connector of the operator's, or an MCP server that a client has registered. MCP
servers are asked each time: so what was unregistered, or is gone from a server, can no longer be called.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import msgspec

from antiphon.connectors import McpConfig
from antiphon.errors import ApiError, Conflict, InvalidRequest, McpRefused, NotFound, Unauthenticated, UpstreamTimeout
from antiphon.guard import Guard, target_of
from antiphon.stores.tool_groups import Registered, ToolGroups
from antiphon.tools.built_in_groups import BUILT_IN, Asker, BuiltIn
from antiphon.tools.mcp_connectors import Connector, Connectors, addressed, headers_for
from antiphon.tools.mcp_result import Server, harmless, listed, told
from antiphon.tools.mcp_sessions import Sessions, check_sdk, tools_of
from antiphon.wire.items import InputImage, InputText
from antiphon.wire.tool_groups import McpEndpoint, RegisterToolGroup, ToolDef, ToolGroup, ToolInvocationResult

MCP_PROVIDER: Final = "model-context-protocol"
Group = BuiltIn | Connector
log = logging.getLogger("antiphon.tools")


class ToolRuntime:
    """The groups of all owners, one owner at a time."""

    def __init__(
        self,
        groups: ToolGroups,
        connectors: Connectors,
        built_in: Sequence[BuiltIn],
        *,
        servers: "Servers",
        guard: Guard,
    ) -> None:
        self._groups = groups
        self._connectors = connectors
        self._built_in = built_in
        self._servers = servers
        self._guard = guard

    # ------------------------------------------------------------ groups

    async def groups(self, asker: Asker) -> list[ToolGroup]:
        """All that this client has."""
        return [_shown(group) for group in await self._all(asker)]

    async def group(self, asker: Asker, name: str) -> ToolGroup:
        """One of them. Raises `NotFound`."""
        return _shown(_named(name, await self._all(asker)))

    async def register(self, asker: Asker, wanted: RegisterToolGroup) -> None:
        """Keeps an MCP server as a group. A group of this server's own is there already, which is no error.

        Raises `Conflict` for a name that is taken, `InvalidRequest` for an address that may not be used.
        """
        name, endpoint = wanted.toolgroup_id, wanted.mcp_endpoint
        if name.startswith(BUILT_IN) and endpoint is None and not wanted.args:
            _named(name, await self._all(asker))
            return
        if name.startswith(BUILT_IN) or name in self._connectors.configured:
            message = f"The tool group '{name}' is this server's own: register another name."
            raise Conflict(message, param="toolgroup_id", code="tool_group_reserved")
        if endpoint is None:
            message = f"The tool group '{name}' needs an 'mcp_endpoint': other tools cannot be registered here."
            raise InvalidRequest(message, param="mcp_endpoint", code="missing_required_parameter")
        check_sdk("mcp_endpoint")
        self._check(endpoint.uri, "mcp_endpoint.uri")
        group = Registered(id=name, provider_id=wanted.provider_id, uri=endpoint.uri, args=wanted.args)
        await self._groups.register(asker.owner, group, most=self._servers.config.groups_max)

    async def unregister(self, asker: Asker, name: str) -> None:
        """Forgets a group. Raises `NotFound`, or `Conflict` for one that no client has registered."""
        if name in self._connectors.configured or any(each.name == name for each in self._built_in):
            message = f"The tool group '{name}' is this server's own and cannot be unregistered."
            raise Conflict(message, code="tool_group_reserved")
        if not await self._groups.delete(asker.owner, name):
            raise _no_group(name)

    def _check(self, url: str, param: str) -> None:
        try:
            self._guard.check(target_of(url))
        except InvalidRequest as error:
            error.param = param
            raise

    async def _all(self, asker: Asker) -> list[Group]:
        own = [each for each in self._built_in if each.available(asker.access)]
        return [*own, *await self._connectors.list(asker.owner)]

    # ------------------------------------------------------------ tools

    async def tools(self, asker: Asker, name: str | None) -> list[ToolDef]:
        """A group's tools, also if one of them is named with it; of all groups, those of the servers that answer.

        Raises `NotFound` for a group that is not there, `Unauthenticated` where one wants another token, `Upstream`.
        """
        groups = await self._all(asker)
        if name is not None:
            exact = [each for each in groups if each.name == name]
            groups = exact or [_parted(name, groups)[0] or _named(name, groups)]
        async with self._servers.visit() as visit:
            return _together(await self._listed(groups, asker, visit), strict=name is not None)

    async def tools_at(self, asker: Asker, url: str, name: str | None) -> list[ToolDef]:
        """The tools of a server that need not be registered; `name` is what its group would be called."""
        self._check(url, "mcp_endpoint")
        async with self._servers.visit() as visit:
            found = await self._servers.tools(addressed(url), asker, (visit, 0))
        return [msgspec.structs.replace(each, toolgroup_id=name) for each in found]

    async def tool(self, asker: Asker, name: str) -> ToolDef:
        """The one tool of this name, alone or as `GROUP/TOOL`. Raises as `invoke` does."""
        async with self._servers.visit() as visit:
            return (await self._found(asker, name, visit))[1]

    async def invoke(self, asker: Asker, name: str, kwargs: Mapping[str, Any]) -> ToolInvocationResult:
        """What a tool answers; one that says that it failed is an answer too.

        Raises `NotFound` for a tool that no group has, `InvalidRequest` where several have it, `Unauthenticated`,
        `Upstream`.
        """
        async with self._servers.visit() as visit:
            group, tool, key = await self._found(asker, name, visit)
            if isinstance(group, Connector):
                return await self._servers.invoke(group, tool, kwargs, asker=asker, key=key)
            return await group.invoke(tool.name, kwargs, asker)

    async def _found(self, asker: Asker, name: str, visit: str) -> tuple[Group, ToolDef, tuple[str, int]]:
        """The tool, the group that has it, and the session in which that was found out."""
        groups = await self._all(asker)
        within, tool = _parted(name, groups)
        # A name of this server's own asks nobody else: no server that was registered takes its place, or holds it up.
        asked = [within] if within is not None else _with_own(tool, groups) or groups
        if asker.authorization and sum(isinstance(each, Connector) for each in asked) > 1:
            message = f"A token is for one server: name the tool with its group, as in 'GROUP/{name}'."
            raise InvalidRequest(message, param="tool_name", code="ambiguous_tool")
        answers = await self._listed(asked, asker, visit)
        found = [
            (group, each, (visit, number))
            for number, (group, answer) in enumerate(zip(asked, answers, strict=True))
            if not isinstance(answer, ApiError)
            for each in answer
            if each.name == tool
        ]
        if len(found) > 1:
            names = ", ".join(f"'{group.name}/{tool}'" for group, _, _ in found)
            message = f"Several tool groups have a tool '{tool}'. Name the one that is meant: {names}."
            raise InvalidRequest(message, param="tool_name", code="ambiguous_tool")
        if not found:
            _together(answers, strict=True)  # it may be with a server that did not answer
            raise NotFound(f"Tool '{name}' not found", param="tool_name", code="tool_not_found")
        return found[0]

    async def _listed(self, groups: Sequence[Group], asker: Asker, visit: str) -> list[list[ToolDef] | ApiError]:
        """What each group has, or why that is not known."""

        async def one(number: int, group: Group) -> list[ToolDef] | ApiError:
            if not isinstance(group, Connector):
                return list(group.tools)
            try:
                return await self._servers.tools(group, asker, (visit, number))
            except ApiError as error:
                return error

        return await asyncio.gather(*itertools.starmap(one, enumerate(groups)))


class Servers:
    """MCP servers as groups. Each request has sessions of its own with them."""

    def __init__(self, sessions: Sessions, config: McpConfig, *, call_s: float) -> None:
        self.config = config
        self._sessions = sessions
        self._call_s = call_s
        self._visits = itertools.count()

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[str]:
        """What names the sessions of one request, which are closed with it."""
        visit = f"visit_{next(self._visits)}"
        try:
            yield visit
        finally:
            await self._sessions.close(visit)

    async def tools(self, connector: Connector, asker: Asker, key: tuple[str, int]) -> list[ToolDef]:
        """The tools that a server has and that may be used. Raises `ApiError`s that name the group."""
        check_sdk("mcp_endpoint")
        with _named_in_errors(connector):
            raw = await tools_of(self._sessions, key, _server(connector, asker), config=self.config)
        found, wrong = listed(raw, self.config)
        if wrong:
            log.warning("tools of an MCP server left out", extra={"server": connector.name, "tools": wrong[:20]})
        results = {str(each.get("name")): each.get("outputSchema") for each in raw}
        return [
            ToolDef(
                name=each["name"],
                toolgroup_id=connector.name,
                description=each.get("description"),
                input_schema=each["input_schema"],
                output_schema=results[each["name"]],
                metadata=_metadata(connector, each.get("annotations")),
            )
            for each in found
            if connector.allows(each["name"])
        ]

    async def invoke(
        self, connector: Connector, tool: ToolDef, kwargs: Mapping[str, Any], *, asker: Asker, key: tuple[str, int]
    ) -> ToolInvocationResult:
        """What a tool answers. Raises `Conflict` where it may have run already, for a request that is sent again."""
        if asker.again and not harmless((tool.metadata or {}).get("annotations") or {}):
            message = f"The tool '{tool.name}' was called before under this key; nobody knows whether it took effect."
            raise Conflict(message, code="outcome_unknown")
        try:
            with _named_in_errors(connector):
                result = await self._answer(tool.name, kwargs, _server(connector, asker), key=key)
        except McpRefused as error:
            if error.http_status is not None:
                raise
            return ToolInvocationResult(error_code=error.number, error_message=error.message)
        said = told(result, self.config, images=True)
        content = [_item(part) for part in said.parts]
        if result.get("isError"):
            return ToolInvocationResult(content=content, error_code=1, error_message=said.text)
        return ToolInvocationResult(content=content)

    async def _answer(
        self, tool: str, kwargs: Mapping[str, Any], server: Server, *, key: tuple[str, int]
    ) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(self._call_s):
                session = await self._sessions.open(key, server)
                return await session.call(tool, {**server.args, **kwargs})
        except TimeoutError as error:
            message = f"The tool took longer than the {self._call_s:g} seconds that are allowed here."
            raise UpstreamTimeout(message) from error


@contextmanager
def _named_in_errors(connector: Connector) -> Iterator[None]:
    """Has errors say which group they are about; a 401 of its server is one for the client."""
    try:
        yield
    except ApiError as error:
        if connector.name:
            error.message = f"Tool group '{connector.name}': {error.message}"
        if isinstance(error, McpRefused) and error.http_status == Unauthenticated.status:
            raise Unauthenticated(error.message, code="mcp_authentication_required") from error
        raise


# ---------------------------------------------------------------- pure


def _parted(name: str, groups: Sequence[Group]) -> tuple[Group | None, str]:
    """`GROUP/TOOL` as the two; of several groups that fit, the one with the longest name."""
    fitting = [each for each in groups if name.startswith(f"{each.name}/")]
    if not fitting:
        return None, name
    within = max(fitting, key=lambda each: len(each.name))
    return within, name.removeprefix(f"{within.name}/")


def _with_own(tool: str, groups: Sequence[Group]) -> list[Group]:
    """Of this server's own groups, the one that has the tool."""
    return [each for each in groups if not isinstance(each, Connector) and tool in {own.name for own in each.tools}]


def _named(name: str, groups: Sequence[Group]) -> Group:
    found = next((each for each in groups if each.name == name), None)
    if found is None:
        raise _no_group(name)
    return found


def _no_group(name: str) -> NotFound:
    message = f"Tool Group '{name}' not found. Use 'client.toolgroups.list()' to list available Tool Groups."
    return NotFound(message, code="tool_group_not_found")


def _shown(group: Group) -> ToolGroup:
    provider = MCP_PROVIDER if isinstance(group, Connector) else group.provider
    shown = ToolGroup(identifier=group.name, provider_resource_id=group.name, provider_id=provider)
    if isinstance(group, Connector) and group.registered is not None:
        given = group.registered
        shown.provider_id, shown.source = given.provider_id, "via_register_api"
        shown.mcp_endpoint, shown.args = McpEndpoint(uri=given.uri), given.args
    return shown


def _together(answers: Sequence[list[ToolDef] | ApiError], *, strict: bool) -> list[ToolDef]:
    """The tools of all. Raises what a server said that wants a token, and if `strict`, any failure."""
    failures = [each for each in answers if isinstance(each, ApiError)]
    failures.sort(key=lambda error: not isinstance(error, Unauthenticated))
    if failures and (strict or isinstance(failures[0], Unauthenticated)):
        raise failures[0]
    for failure in failures:
        log.warning("the tools of a group could not be listed", extra={"exception": failure.message})
    return [tool for each in answers if not isinstance(each, ApiError) for tool in each]


def _server(connector: Connector, asker: Asker) -> Server:
    """Headers by address are for servers of clients: who may not know where a server is cannot find it out so."""
    headers = headers_for(asker.headers, connector.url) if connector.registered is not None else {}
    return connector.server(headers, asker.authorization)


def _metadata(connector: Connector, annotations: Any) -> dict[str, Any] | None:
    metadata: dict[str, Any] = {}
    if connector.registered is not None:
        metadata["endpoint"] = connector.registered.uri
    if annotations:
        metadata["annotations"] = annotations
    return metadata or None


def _item(part: Any) -> dict[str, Any]:
    """A part of a result as Llama Stack's clients read it."""
    if isinstance(part, InputImage):
        return {"type": "image", "image": {"url": {"uri": part.image_url}}}
    return {"type": "text", "text": part.text if isinstance(part, InputText) else ""}
