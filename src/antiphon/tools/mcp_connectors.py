"""MCP servers by name: the operator's connectors, and the tool groups that clients have registered."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from antiphon.connectors import ConnectorConfig
from antiphon.errors import InvalidRequest, NotFound
from antiphon.guard import target_of
from antiphon.stores.tool_groups import Registered
from antiphon.tools.mcp_result import Server


class Groups(Protocol):
    """What keeps the registered groups: `stores.tool_groups.ToolGroups`, or a test's."""

    async def find(self, owner: str, id: str) -> Registered | None:
        """The group."""
        ...

    async def list(self, owner: str) -> list[Registered]:
        """All of an owner's."""
        ...


class Connector(Struct, frozen=True, kw_only=True):
    """An MCP server, with what it is asked and its tools are given unless a client says more.

    `registered`: a client has chosen it, so that it is guarded, and its address no secret.
    """

    name: str
    config: ConnectorConfig
    registered: Registered | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return self.config.url

    def server(self, headers: Mapping[str, str], authorization: str | None) -> Server:
        """How it is asked for a client, whose headers and token go before those that are configured."""
        headers, token = {**self.config.headers, **headers}, authorization or self.config.authorization
        if token:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["authorization"] = token if " " in token else f"Bearer {token}"
        args = (self.registered and self.registered.args) or {}
        return Server(url=self.url, headers=headers, guarded=self.registered is not None, args=args)

    def allows(self, tool: str) -> bool:
        """Whether a tool of it may be used, by the configuration."""
        return not self.config.allowed_tools or tool in self.config.allowed_tools


class Connectors:
    """Which MCP server a name stands for: a configured one before one that is registered."""

    def __init__(self, configured: Mapping[str, ConnectorConfig], groups: Groups) -> None:
        self.configured = {name: Connector(name=name, config=each) for name, each in sorted(configured.items())}
        self._groups = groups

    async def get(self, owner: str, name: str) -> Connector:
        """The server. Raises `NotFound`, with the names that there are."""
        if name in self.configured:
            return self.configured[name]
        found = await self._groups.find(owner, name)
        if found is None:
            there = ", ".join(each.name for each in await self.list(owner)) or "none"
            message = f"Connector {name!r} not found; those of this server are: {there}."
            raise NotFound(message, code="connector_not_found")
        return _registered(found)

    async def list(self, owner: str) -> list[Connector]:
        """All that an owner can name."""
        registered = [_registered(each) for each in await self._groups.list(owner) if each.id not in self.configured]
        return [*self.configured.values(), *registered]


def addressed(url: str) -> Connector:
    """The server at an address of a client's. Raises `InvalidRequest` for what is none."""
    return _registered(Registered(id="", provider_id="", uri=url))


def headers_for(given: Mapping[str, Mapping[str, str]], url: str) -> Mapping[str, str]:
    """Of a client's headers by address, those of this one: same scheme, host, port and path."""
    wanted = _without_query(url)
    for address, headers in given.items():
        try:
            if _without_query(address) == wanted:
                return headers
        except InvalidRequest:
            continue  # meant for something else than a server's address
    return {}


def _without_query(url: str) -> str:
    return target_of(url).url.partition("?")[0]


def _registered(group: Registered) -> Connector:
    return Connector(name=group.id, config=ConnectorConfig(url=target_of(group.uri).url), registered=group)
