"""The tool `mcp`: servers of the Model Context Protocol say which tools they have, and run them.

What a server has is asked once per chain of responses: the item `mcp_list_tools` is part of the context from then on,
and the functions are made of it anew in every turn. A call that needs the client's approval becomes a question, which
ends the response; the answer, in a later request, names the question, and exactly what was asked there is run, once.

A client's headers and tokens are taken out of the declaration before anything is stored or shown.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeGuard

import msgspec
from msgspec.structs import replace

from antiphon.connectors import McpConfig
from antiphon.errors import ApiError, InvalidRequest, McpGone, NotFound
from antiphon.guard import Guard, target_of
from antiphon.models.base import Function
from antiphon.tools.base import Caller, Ended, Offer, Place, Prelude, ServerTool
from antiphon.tools.mcp_connectors import Connectors, addressed
from antiphon.tools.mcp_result import (
    NAME_CHARS_MAX,
    Server,
    error_of,
    function_name,
    harmless,
    listed,
    matches,
    parameters,
    told,
    without_bytes,
)
from antiphon.tools.mcp_sessions import Sessions, check_sdk, tools_of
from antiphon.wire.calls import Answer, Call, Made
from antiphon.wire.events import (
    Event,
    ItemEvent,
    ItemPlace,
    McpArgumentsDelta,
    McpArgumentsDone,
    McpCallCompleted,
    McpCallFailed,
    McpCallInProgress,
    McpListToolsCompleted,
    McpListToolsFailed,
    McpListToolsInProgress,
)
from antiphon.wire.items import (
    InputPart,
    InputText,
    Item,
    McpApprovalRequest,
    McpApprovalResponse,
    McpCall,
    McpListTools,
    Memory,
)
from antiphon.wire.tools import McpApprovals, McpTool

log = logging.getLogger("antiphon.tools")

_UNKNOWN: Final = -32603
"""JSON-RPC's code for what went wrong inside."""


class Approvals(Protocol):
    """What remembers which approvals were used: `stores.approvals.Approvals`."""

    async def use(self, owner: str, request_id: str, response_id: str) -> None:
        """Uses one up. Raises `Conflict` if it was used before."""
        ...


class McpServers(ServerTool):
    """Lists and calls the tools of the servers that a request's `mcp` tools name."""

    idempotent = False
    lists = True

    def __init__(
        self,
        sessions: Sessions,
        approvals: Approvals,
        guard: Guard,
        *,
        config: McpConfig,
        connectors: Connectors,
    ) -> None:
        self._sessions = sessions
        self._approvals = approvals
        self._guard = guard
        self._config = config
        self._connectors = connectors

    # ------------------------------------------------------------ what is declared

    def offers(self, _tool: McpTool, _index: int) -> Iterable[Offer]:
        """None before the server was asked."""
        return ()

    def parted(self, tool: McpTool) -> tuple[McpTool, Mapping[str, Any]]:
        """Headers and token are secrets."""
        secrets = {"headers": tool.headers, "authorization": tool.authorization}
        return replace(tool, headers=None, authorization=None), {key: each for key, each in secrets.items() if each}

    async def check(self, tool: McpTool, caller: Caller, at: str) -> None:
        """Raises `InvalidRequest` for an address that cannot be used, `NotFound` for a connector that is not there."""
        check_sdk(f"{at}.type")
        if (tool.server_url is None) == (tool.connector_id is None):
            raise InvalidRequest("An MCP tool needs either 'server_url' or 'connector_id'.", param=at)
        if tool.connector_id is not None:
            try:
                await self._connectors.get(caller.owner, tool.connector_id)
            except NotFound as error:
                error.param = f"{at}.connector_id"
                raise
        if tool.server_url is not None:
            try:
                self._guard.check(target_of(tool.server_url))
            except InvalidRequest as error:
                error.param = f"{at}.server_url"
                raise

    def prelude(self, tool: McpTool, context: Sequence[Item], added: Sequence[Item]) -> Iterable[Prelude]:
        """What is known of the server, or that it is asked; and what the client has approved."""
        known = self._known(tool, context)
        blank = McpListTools(server_label=tool.server_label, tools=[], memory=Memory(arguments=_asked(tool)))
        yield Prelude(item=known or blank, known=known is not None)
        answers = [item for item in added if isinstance(item, McpApprovalResponse) and item.approve]
        for answer in answers:
            request = _request_of(answer, context)
            if request is None or request.server_label != tool.server_label:
                continue
            self._check_approved(tool, request, context)
            memory = request.memory or Memory()
            yield Prelude(
                item=McpCall(
                    arguments=request.arguments,
                    name=request.name,
                    server_label=request.server_label,
                    approval_request_id=request.id,
                    status="in_progress",
                    memory=replace(memory, call_id=memory.call_id or request.id or "", turn=-1),
                )
            )

    def _check_approved(self, tool: McpTool, request: McpApprovalRequest, context: Sequence[Item]) -> None:
        """Raises `InvalidRequest` for what was not agreed to: another server, a tool that is not allowed, once more."""
        asked = next((item for item in context if _is_listing(item, tool) and item.memory is not None), None)
        if any(isinstance(item, McpCall) and item.approval_request_id == request.id for item in context):
            wrong, code = "was acted upon already; an approval counts once", "approval_used"
        elif asked is not None and not _same_server(asked, tool):
            wrong, code = f"is about another server than {tool.server_label!r} stands for now", "approval_mismatch"
        elif not self._allowed(tool, request.name, None):
            wrong, code = f"is about {request.name!r}, which is not one of the allowed tools", "approval_mismatch"
        else:
            return
        raise InvalidRequest(f"The approval request {request.id!r} {wrong}.", param="input", code=code)

    def learned(self, tool: McpTool, index: int, item: Any) -> Iterable[Offer]:
        """The functions of a server that has said what it has."""
        if not isinstance(item, McpListTools) or item.error:
            return
        taken: set[str] = set()
        for each in item.tools:
            name, hints = str(each.get("name")), each.get("annotations") or {}
            seen = function_name(name)
            number = 1
            while seen in taken:
                number += 1
                seen = f"{function_name(name)[:60]}_{number}"
            taken.add(seen)
            if self._allowed(tool, name, hints):
                function = Function(
                    name=seen, description=each.get("description"), parameters=parameters(each.get("input_schema"))
                )
                label = function_name(tool.server_label)[:31]
                yield Offer(
                    function=function,
                    kind="mcp",
                    name=name,
                    tool=tool,
                    index=index,
                    deferred=bool(tool.defer_loading),
                    alias=f"{label}_{seen}"[:NAME_CHARS_MAX],
                    hints=hints,
                )

    def _allowed(self, tool: McpTool, name: str, hints: Mapping[str, Any] | None) -> bool:
        """`hints` None: what the tool says of itself is not known, and does not count."""
        configured = self._connectors.configured.get(tool.connector_id or "")
        return (configured is None or configured.allows(name)) and matches(tool.allowed_tools, name, hints)

    def _known(self, tool: McpTool, context: Sequence[Item]) -> McpListTools | None:
        """The last listing that fits; one that a client sent itself says only whose it is."""
        for item in reversed(context):
            if _is_listing(item, tool):
                same = item.memory is None or item.memory.arguments == _asked(tool)
                return item if same else None
        return None

    # ------------------------------------------------------------ a call: the pure part

    def begun(self, made: Made, offer: Offer) -> tuple[McpCall, str]:
        """The item of a call, under the tool's own name."""
        item = McpCall(
            id=made.id,
            arguments=made.arguments or "{}",
            name=offer.name,
            server_label=_declared(offer).server_label,
            status="in_progress",
        )
        return item, _arguments_fault(item.arguments)

    def asks(self, made: Made, offer: Offer) -> McpApprovalRequest | None:
        """The question, where the declaration wants one and there is something to ask."""
        if not self._needs_approval(_declared(offer), offer.name, offer.hints) or _arguments_fault(
            made.arguments or "{}"
        ):
            return None
        return McpApprovalRequest(
            arguments=made.arguments or "{}", name=offer.name, server_label=_declared(offer).server_label
        )

    def _needs_approval(self, tool: McpTool, name: str, hints: Mapping[str, Any]) -> bool:
        wanted = tool.require_approval or self._config.require_approval
        if not isinstance(wanted, McpApprovals):
            return wanted == "always"
        if wanted.always is not None and matches(wanted.always, name, hints):
            return True
        if wanted.never is not None and matches(wanted.never, name, hints):
            return False
        return wanted.always is None or self._config.require_approval == "always"

    def repeatable(self, item: Any, offer: Offer) -> bool:
        """A listing, and a call of a tool that says of itself that a second time does no harm."""
        return isinstance(item, McpListTools) or harmless(offer.hints)

    def started(self, item: Any, place: Place) -> Iterator[Event]:
        """In progress; a call's arguments."""
        where: ItemPlace = {"item_id": place.item_id, "output_index": place.output_index}
        if isinstance(item, McpListTools):
            yield McpListToolsInProgress(sequence_number=place.next_number(), **where)
            return
        yield McpCallInProgress(sequence_number=place.next_number(), **where)
        yield McpArgumentsDelta(sequence_number=place.next_number(), delta=item.arguments, **where)
        yield McpArgumentsDone(sequence_number=place.next_number(), arguments=item.arguments, **where)

    def ended(self, item: Any, place: Place) -> Iterator[Event]:
        """Completed or failed."""
        kind: type[ItemEvent] = McpCallFailed if item.error else McpCallCompleted
        if isinstance(item, McpListTools):
            kind = McpListToolsFailed if item.error else McpListToolsCompleted
        yield kind(sequence_number=place.next_number(), item_id=place.item_id, output_index=place.output_index)

    def failed(self, item: Any, message: str) -> Item:
        """A listing or a call that could not be made."""
        if isinstance(item, McpListTools):
            return replace(item, tools=[], error=message)
        return _failed(item, {"type": "mcp_protocol_error", "code": _UNKNOWN, "message": message}, message)

    def fatal(self, item: Any) -> str:
        """Without its tools, the model would be asked something else."""
        if isinstance(item, McpListTools) and item.error:
            return f"The tools of the MCP server {item.server_label!r} could not be listed: {item.error}"
        return ""

    def seen(self, item: Any) -> tuple[Call, Answer] | None:
        """A call as the model made it, with what it was told."""
        if not isinstance(item, McpCall):
            return None
        memory = item.memory or Memory()
        call_id = memory.call_id or item.id or "call_mcp"
        call = Call(call_id=call_id, name=memory.name or function_name(item.name), arguments=item.arguments or "{}")
        output: str | list[InputPart] | None = memory.output
        if output is None:
            output = item.output if item.output is not None else _error_text(item.error)
        return call, Answer(call_id=call_id, output=output)

    def seen_among(self, item: Any, context: Sequence[Item]) -> tuple[Call, Answer] | None:
        """A question that was refused is a call whose output says so; of others, only what came of them is seen."""
        if not isinstance(item, McpApprovalRequest):
            return self.seen(item)
        answer = next(
            (
                each
                for each in context
                if isinstance(each, McpApprovalResponse) and each.approval_request_id == item.id and not each.approve
            ),
            None,
        )
        if answer is None:
            return None
        memory = item.memory or Memory()
        call_id = memory.call_id or item.id or "call_mcp"
        call = Call(call_id=call_id, name=memory.name or function_name(item.name), arguments=item.arguments or "{}")
        reason = f" The reason: {answer.reason}" if answer.reason else ""
        return call, Answer(call_id=call_id, output=f"The user did not allow this call; it was not run.{reason}")

    # ------------------------------------------------------------ a call: the part that waits

    async def run(self, item: Any, offer: Offer, caller: Caller) -> Ended:
        """The listing, or what the tool answers. What goes wrong stands in the item."""
        if isinstance(item, McpListTools):
            return Ended(item=await self._list(item, offer, caller))
        try:
            return Ended(item=await self._call(item, offer, caller))
        except ApiError as error:
            return Ended(item=_failed(item, error_of(error), error.message))

    async def _list(self, item: McpListTools, offer: Offer, caller: Caller) -> McpListTools:
        tool, server = _declared(offer), await self._server(offer, caller)
        key = (caller.response_id, offer.index)
        found, wrong = listed(await tools_of(self._sessions, key, server, config=self._config), self._config)
        if wrong:
            log.warning("tools of an MCP server left out", extra={"server": tool.server_label, "tools": wrong[:20]})
        allowed = [each for each in found if self._allowed(tool, each["name"], each.get("annotations") or {})]
        return replace(item, tools=allowed)

    async def _call(self, item: McpCall, offer: Offer, caller: Caller) -> McpCall:
        if item.approval_request_id is not None:
            await self._approvals.use(caller.owner, item.approval_request_id, caller.response_id)
        server = await self._server(offer, caller)
        arguments = {**server.args, **msgspec.json.decode(item.arguments, type=dict[str, Any])}
        result = await self._answer(item, offer, arguments, key=(caller.response_id, offer.index), server=server)
        said = told(result, self._config, images=caller.images)
        memory = replace(item.memory or Memory(), output=said.parts)
        if result.get("isError"):
            error = {"type": "mcp_tool_execution_error", "content": list(without_bytes(result.get("content")))}
            return replace(item, status="failed", error=error, memory=memory)
        return replace(item, status="completed", output=said.text, memory=memory)

    async def _answer(
        self, item: McpCall, offer: Offer, arguments: Mapping[str, Any], *, key: tuple[str, int], server: Server
    ) -> Mapping[str, Any]:
        """What the tool answers. A call that a lost session did not take in is made once more, in a new one."""
        session = await self._sessions.open(key, server)
        try:
            return await session.call(item.name, arguments)
        except McpGone as gone:
            if not gone.unheard and not self.repeatable(item, offer):
                raise
        session = await self._sessions.open(key, server, instead_of=session)
        return await session.call(item.name, arguments)

    async def release(self, response_id: str) -> None:
        """Closes the run's sessions."""
        await self._sessions.close(response_id)

    async def _server(self, offer: Offer, caller: Caller) -> Server:
        """Whom the declaration means. Raises `NotFound` for a group that was unregistered since."""
        tool, secrets = _declared(offer), caller.secrets.get(offer.index, {})
        url, name = tool.server_url, tool.connector_id or ""
        connector = addressed(url) if url is not None else await self._connectors.get(caller.owner, name)
        return connector.server(secrets.get("headers") or {}, secrets.get("authorization"))


def _declared(offer: Offer) -> McpTool:
    if not isinstance(offer.tool, McpTool):
        raise TypeError(offer.tool)
    return offer.tool


def _asked(tool: McpTool) -> str:
    """What a listing depends on: the server, and which of its tools are wanted."""
    wanted = hashlib.sha256(msgspec.json.encode(tool.allowed_tools)).hexdigest()[:16]
    return f"{_server_print(tool)}:{wanted}"


def _server_print(tool: McpTool) -> str:
    return hashlib.sha256(msgspec.json.encode([tool.server_url, tool.connector_id])).hexdigest()[:32]


def _same_server(listing: McpListTools, tool: McpTool) -> bool:
    return listing.memory is not None and listing.memory.arguments.partition(":")[0] == _server_print(tool)


def _is_listing(item: Item, tool: McpTool) -> TypeGuard[McpListTools]:
    return isinstance(item, McpListTools) and item.server_label == tool.server_label and not item.error


def _request_of(answer: McpApprovalResponse, context: Sequence[Item]) -> McpApprovalRequest | None:
    return next(
        (item for item in context if isinstance(item, McpApprovalRequest) and item.id == answer.approval_request_id),
        None,
    )


def _arguments_fault(arguments: str) -> str:
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        return f"The arguments are not a JSON object: {error}."
    return ""


def _failed(item: McpCall, error: dict[str, Any], message: str) -> McpCall:
    output: list[InputPart] = [InputText(text=f"The call failed: {message}")]
    memory = replace(item.memory or Memory(), output=output)
    return replace(item, status="failed", error=error, output=None, memory=memory)


def _error_text(error: Any) -> str:
    """What is known of a failed call whose output was not kept."""
    if error is None:
        return ""
    return error if isinstance(error, str) else msgspec.json.encode(error).decode()
