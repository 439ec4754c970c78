"""The MCP servers that the operator has configured."""

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.wire.connectors import Connector, ConnectorList


@route("GET", "/v1/connectors", answer=ConnectorList)
async def list_connectors(call: Call[None, None]) -> ConnectorList:
    """List the connectors: what a tool `mcp` may name as its `connector_id`."""
    configured = call.services.config.connectors
    return ConnectorList(
        data=[
            Connector(id=name, description=each.description or None, allowed_tools=list(each.allowed_tools) or None)
            for name, each in sorted(configured.items())
        ]
    )
