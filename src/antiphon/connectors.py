"""Settings of the tool `mcp`: servers of the Model Context Protocol that clients name, and those of the operator's."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from antiphon.settings import SECRET


class ConnectorConfig(Struct, frozen=True, kw_only=True):
    """An MCP server that clients use by its name (`connector_id`). It is trusted: it may stand in a private network."""

    url: Annotated[str, Meta(description="Its address, such as `https://mcp.example.com/mcp`.")] = ""
    authorization: Annotated[
        str,
        Meta(description="Its token, unless the request brings one; best written as `env:NAME`.", extra=SECRET),
    ] = ""
    headers: Annotated[dict[str, str], Meta(description="Headers sent with every request to it.", extra=SECRET)] = (
        msgspec.field(default_factory=dict)
    )
    allowed_tools: Annotated[
        tuple[str, ...], Meta(description="The only tools of it that can be used; none named: all.")
    ] = ()
    description: Annotated[str, Meta(description="What it is, for those who list the connectors.")] = ""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is no address."""
        if not re.match(r"https?://[^/?#\s]+", self.url):
            raise ValueError("url: expected an address such as https://mcp.example.com/mcp")


class McpConfig(Struct, frozen=True, kw_only=True):
    """The tool `mcp`: how much MCP servers may say, and how long they may take. Calls have `timeouts.tool_s`."""

    require_approval: Annotated[
        Literal["always", "never"],
        Meta(description="Where a request does not say: ask the client before each call, or never."),
    ] = "always"
    groups_max: Annotated[
        int, Meta(ge=0, description="Servers that a client may register as tool groups (`/v1/toolgroups`); 0: none.")
    ] = 32
    list_s: Annotated[float, Meta(gt=0, description="For connecting to a server and listing its tools.")] = 20.0
    tools_max: Annotated[int, Meta(ge=1, description="Tools of one server; those beyond are left out.")] = 256
    tool_bytes_max: Annotated[
        int, Meta(ge=1, description="Size of one tool's description and schema; larger ones are left out.")
    ] = 64 * 1024
    result_bytes_max: Annotated[
        int, Meta(ge=1, description="Text of one result; what is beyond is cut off, and the model is told so.")
    ] = 256 * 1024
    image_bytes_max: Annotated[
        int, Meta(ge=0, description="Size of one result's images; those beyond are only named. 0: no images.")
    ] = 8 * 1024 * 1024
    answer_bytes_max: Annotated[int, Meta(ge=1, description="Largest answer that is read of a server.")] = (
        32 * 1024 * 1024
    )
