"""Llama Stack's routes to tools: groups are registered and listed, and tools called, without any model."""

from typing import Any

import msgspec

from antiphon.api.access import mcp_headers_from
from antiphon.api.call import Call
from antiphon.api.reply import Reply
from antiphon.api.route import route
from antiphon.errors import DECODE_ERRORS, InvalidRequest
from antiphon.tools.built_in_groups import Asker
from antiphon.wire.tool_groups import (
    InvokeTool,
    McpEndpoint,
    RagFound,
    RagInsert,
    RagQuery,
    RegisterToolGroup,
    RuntimeToolsQuery,
    ToolDef,
    ToolDefList,
    ToolGroup,
    ToolGroupList,
    ToolInvocationResult,
    ToolsQuery,
)


@route("POST", "/v1/toolgroups", body=RegisterToolGroup, answer=type(None))
async def register_tool_group(call: Call[RegisterToolGroup, None]) -> None:
    """Register an MCP server as a group of tools."""
    await call.services.tool_runtime.register(_asker(call), call.body)


@route("GET", "/v1/toolgroups", answer=ToolGroupList)
async def list_tool_groups(call: Call[None, None]) -> ToolGroupList:
    """List the tool groups: this server's own, its connectors, and those that were registered."""
    return ToolGroupList(data=await call.services.tool_runtime.groups(_asker(call)))


@route("GET", "/v1/toolgroups/{toolgroup_id:path}", answer=ToolGroup)
async def get_tool_group(call: Call[None, None]) -> ToolGroup:
    """Retrieve a tool group."""
    return await call.services.tool_runtime.group(_asker(call), call.params["toolgroup_id"])


@route("DELETE", "/v1/toolgroups/{toolgroup_id:path}", answer=type(None), status=204)
async def unregister_tool_group(call: Call[None, None]) -> Reply:
    """Unregister a tool group."""
    await call.services.tool_runtime.unregister(_asker(call), call.params["toolgroup_id"])
    return Reply(b"", status=204)


@route("GET", "/v1/tools", query=ToolsQuery, answer=ToolDefList)
async def list_tools(call: Call[None, ToolsQuery]) -> ToolDefList:
    """List the tools of a group, or of all groups that answer."""
    tools = call.services.tool_runtime.tools(_asker(call), call.query.toolgroup_id)
    return ToolDefList(data=await call.until_gone(tools))


@route("GET", "/v1/tools/{tool_name:path}", answer=ToolDef)
async def get_tool(call: Call[None, None]) -> ToolDef:
    """Retrieve a tool, by its name or as `GROUP/TOOL`."""
    return await call.until_gone(call.services.tool_runtime.tool(_asker(call), call.params["tool_name"]))


@route("GET", "/v1/tool-runtime/list-tools", query=RuntimeToolsQuery, answer=ToolDefList)
async def list_runtime_tools(call: Call[None, RuntimeToolsQuery]) -> ToolDefList:
    """List the tools of a group, or of an MCP server that need not be registered."""
    query, runtime = call.query, call.services.tool_runtime
    asker = _asker(call, authorization=query.authorization)
    if query.mcp_endpoint is None and query.tool_group_id is None and query.authorization:
        message = "A token is for one server: name its group, or its address."
        raise InvalidRequest(message, param="tool_group_id", code="missing_required_parameter")
    if query.mcp_endpoint is None:
        return ToolDefList(data=await call.until_gone(runtime.tools(asker, query.tool_group_id)))
    tools = runtime.tools_at(asker, _uri(query.mcp_endpoint), query.tool_group_id)
    return ToolDefList(data=await call.until_gone(tools))


@route("POST", "/v1/tool-runtime/invoke", body=InvokeTool, answer=ToolInvocationResult)
async def invoke_tool(call: Call[InvokeTool, None]) -> ToolInvocationResult:
    """Call a tool."""
    body = call.body
    asker = await _maker(call, authorization=body.authorization)
    work = call.services.tool_runtime.invoke(asker, body.tool_name, body.kwargs)
    return await call.until_gone(work, detach=call.execution is not None)


@route("POST", "/v1/tool-runtime/rag-tool/insert", body=RagInsert, answer=type(None))
async def insert_documents(call: Call[RagInsert, None]) -> None:
    """Put documents into a vector store; they can be found when this is answered."""
    asker = await _maker(call)
    work = call.services.rag.insert(call.owner, call.body, asker.work_id, access=call.access)
    await call.until_gone(work, detach=call.execution is not None)


@route("POST", "/v1/tool-runtime/rag-tool/query", body=RagQuery, answer=RagFound)
async def query_documents(call: Call[RagQuery, None]) -> RagFound:
    """Search vector stores for what a model is to be told."""
    return await call.until_gone(call.services.rag.query(call.owner, call.body.content, call.body, access=call.access))


def _asker(call: Call[Any, Any], *, authorization: str | None = None, **more: Any) -> Asker:
    """Who asks, with what is meant for MCP servers: of no use but here, and kept nowhere."""
    headers = mcp_headers_from(call.headers, call.warn)
    return Asker(owner=call.owner, access=call.access, headers=headers, authorization=authorization, **more)


async def _maker(call: Call[Any, Any], *, authorization: str | None = None) -> Asker:
    """Likewise, for what may make something."""
    again = call.begun is not None
    return _asker(call, authorization=authorization, work_id=await call.new_id("tools"), again=again)


def _uri(endpoint: dict[str, str] | str) -> str:
    """The address in a query, as one client spells it or as the other does."""
    try:
        if isinstance(endpoint, str):
            return msgspec.json.decode(endpoint, type=McpEndpoint).uri
        return msgspec.convert(endpoint, McpEndpoint).uri
    except DECODE_ERRORS as error:
        message = 'The endpoint must be given as mcp_endpoint[uri]=..., or as mcp_endpoint={"uri": ...}.'
        raise InvalidRequest(message, param="mcp_endpoint") from error
