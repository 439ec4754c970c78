"""Llama Stack's tool groups: registered, listed, and their tools called without any model.

Source: Llama Stack 0.3, `ToolGroup`, `ToolDef`, `ToolInvocationResult`, `RAGQueryConfig`; names judged by the packages
llama-stack-client 0.3 to 0.6. `authorization` came with 0.4, and its routes of `rag-tool` went.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from antiphon.wire.base import Full
from antiphon.wire.chunking import ChunkTokens
from antiphon.wire.vector_stores import Attributes, QueryParams

Content = str | list[dict[str, Any]] | dict[str, Any]
"""A text, a part of type `text` or `image`, or several."""
Sent = Annotated[str, Meta(pattern=r"^[ -~]*$(?!\n)")]
"""What becomes a header of another request: nothing may end the line there."""
Stores = Annotated[list[str], Meta(max_length=50)]
CHUNK_TEMPLATE = "Result {index}\nContent: {chunk.content}\nMetadata: {metadata}\n"


class McpEndpoint(Struct, kw_only=True):
    """Where an MCP server is."""

    uri: Annotated[str, Meta(min_length=1)]


class RegisterToolGroup(Struct, kw_only=True):
    """The body of `POST /v1/toolgroups`. `args` are what calls of its tools are given where they say nothing else."""

    toolgroup_id: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\s/?#][^\s?#]*$")]
    provider_id: Annotated[str, Meta(min_length=1, max_length=256)]
    mcp_endpoint: McpEndpoint | None = None
    args: dict[str, Any] | None = None


class ToolGroup(Full, kw_only=True):
    """A group of tools. Where an operator's MCP server is, is not shown."""

    identifier: str
    provider_resource_id: str
    provider_id: str
    type: Literal["tool_group"] = "tool_group"
    owner: None = None
    source: Literal["via_register_api", "listed_from_provider"] = "listed_from_provider"
    mcp_endpoint: McpEndpoint | None = None
    args: dict[str, Any] | None = None


class ToolGroupList(Full, kw_only=True):
    """All of them."""

    data: list[ToolGroup]


class ToolDef(Full, kw_only=True):
    """A tool; its schemas are JSON schemas."""

    name: str
    toolgroup_id: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class ToolDefList(Full, kw_only=True):
    """The tools of a group, or of all."""

    data: list[ToolDef]


class ToolsQuery(Struct, kw_only=True):
    """The query of `GET /v1/tools`."""

    toolgroup_id: str | None = None


class RuntimeToolsQuery(Struct, kw_only=True):
    """The query of `GET /v1/tool-runtime/list-tools`; an endpoint is `mcp_endpoint[uri]=...` or a JSON object."""

    tool_group_id: str | None = None
    mcp_endpoint: dict[str, str] | str | None = None
    authorization: Sent | None = None


class InvokeTool(Struct, kw_only=True):
    """The body of `POST /v1/tool-runtime/invoke`. The tool is named alone, or as `GROUP/TOOL`."""

    tool_name: Annotated[str, Meta(min_length=1)]
    kwargs: dict[str, Any]
    authorization: Sent | None = None


class ToolInvocationResult(Full, kw_only=True):
    """What a tool answered. `error_code` 1: the tool says itself that it failed, and `content` is what it says."""

    content: str | list[dict[str, Any]] | None = None
    error_message: str | None = None
    error_code: int | None = None
    metadata: dict[str, Any] | None = None


# ---------------------------------------------------------------- the group `builtin::rag`


class RagDocument(Struct, kw_only=True):
    """A document: a text, or a URL that leads to one, or to a file."""

    document_id: Annotated[str, Meta(min_length=1, max_length=200)]
    content: Content
    mime_type: str | None = None
    metadata: Attributes = field(default_factory=dict)


class RagInsert(Struct, kw_only=True):
    """The body of `POST /v1/tool-runtime/rag-tool/insert`, and the arguments of `insert_into_memory`."""

    documents: Annotated[list[RagDocument], Meta(max_length=100)]
    vector_store_id: str | None = None
    vector_db_id: str | None = None
    chunk_size_in_tokens: ChunkTokens = 512


class QueryGenerator(Struct, kw_only=True):
    """How the query is made of the content: as it is. Llama Stack's other way has a model write it."""

    type: Literal["default"] = "default"


class RagQueryConfig(QueryParams, kw_only=True):
    """How chunks are looked for and shown."""

    max_chunks: Annotated[int, Meta(ge=1, le=50)] = 5
    max_tokens_in_context: Annotated[int, Meta(ge=1)] = 4096
    chunk_template: str = CHUNK_TEMPLATE
    query_generator_config: QueryGenerator = field(default_factory=QueryGenerator)


class RagSearch(Struct, kw_only=True):
    """Where to search, and how."""

    vector_store_ids: Stores = field(default_factory=list)
    vector_db_ids: Stores = field(default_factory=list)
    query_config: RagQueryConfig | None = None


class RagQuery(RagSearch, kw_only=True):
    """The body of `POST /v1/tool-runtime/rag-tool/query`."""

    content: Content


class KnowledgeSearch(RagSearch, kw_only=True):
    """The arguments of `knowledge_search`."""

    query: Content


class RagFound(Full, kw_only=True):
    """What was found, as a model is told: null where nothing was."""

    content: list[dict[str, Any]] | None
    metadata: dict[str, Any]
