"""Connectors: MCP servers that the operator has configured, as clients see them. An extension of this server's."""

from typing import Literal

from antiphon.wire.base import Full


class Connector(Full, kw_only=True):
    """A connector: nothing of where it is, and no secret. `allowed_tools` null: all that it has."""

    id: str
    description: str | None = None
    allowed_tools: list[str] | None = None
    object: Literal["connector"] = "connector"


class ConnectorList(Full, kw_only=True):
    """All of them."""

    data: list[Connector]
    object: Literal["list"] = "list"
