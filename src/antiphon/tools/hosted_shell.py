"""The tool `shell`: with a container as its environment the sandbox runs it, otherwise the client does, as ever."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from antiphon.errors import DECODE_ERRORS, misfit
from antiphon.models.base import Function
from antiphon.tools.base import Caller, Ended, Offer, Place, Prelude, ServerTool
from antiphon.tools.client import client_offers, progress
from antiphon.tools.code_interpreter import auto_of, check_policy, container_of, last_use, own_container
from antiphon.tools.hosting import Auto, Hosting, Report
from antiphon.tools.sandbox.base import Ran, Room
from antiphon.wire.calls import SHELL, Answer, Call, Made, item_of
from antiphon.wire.events import Event, ShellOutputDelta, ShellOutputDone
from antiphon.wire.items import Item, Memory, ShellCall, ShellCallOutput
from antiphon.wire.tools import ContainerAuto, ContainerReference, ShellTool

DESCRIPTION = (
    "Runs shell commands, in order, in a sandbox without network. Files are in /mnt/data, and those that are written"
    " there are kept: give the user a Markdown link to sandbox:/mnt/data/ and the name."
)


class HostedShell(ServerTool):
    """Runs shell commands in containers."""

    idempotent = False

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    # ------------------------------------------------------------ how the model sees it

    def offers(self, tool: ShellTool, index: int) -> Iterable[Offer]:
        """The client's shell, unless the request names a container. Raises `InvalidRequest` for no environment."""
        at = f"tools[{index}]"
        (shell,) = client_offers(replace(tool, environment=None), at)
        if not is_hosted(tool):
            return [shell]
        environment_of(tool, at)
        function = Function(name=SHELL, description=DESCRIPTION, parameters=shell.function.parameters)
        return [replace(shell, function=function, tool=tool, index=index)]

    async def check(self, tool: ShellTool, caller: Caller, at: str) -> None:
        """Raises `Unsupported` where there is no sandbox, `NotFound` for a container or file that is not there."""
        if not is_hosted(tool):
            return
        await self._hosting.check(SHELL, f"{at}.environment")
        environment = environment_of(tool, at)
        if isinstance(environment, ContainerReference):
            await self._hosting.containers.live(caller.owner, environment.container_id)
            return
        check_policy(environment.network_policy, f"{at}.environment")
        await self._hosting.check_auto(caller.owner, auto_of(environment), f"{at}.environment")

    def prelude(self, tool: ShellTool, context: Sequence[Item], _added: Sequence[Item]) -> Iterable[Prelude]:
        """The last call in the context, whose container is used again."""
        return last_use(context) if is_hosted(tool) and _auto(tool) else []

    def learned(self, tool: ShellTool | None, index: int, item: Any) -> Iterable[Offer]:
        """The same function, in the container of an earlier call."""
        id = container_of(item)
        if tool is None or id is None or not _auto(tool):
            return []
        return [replace(offer, namespace=id) for offer in self.offers(tool, index)]

    def seen(self, item: ShellCall) -> tuple[Call, Answer] | None:
        """Nothing: call and output are items of their own, in the client's form."""
        raise TypeError(item)

    # ------------------------------------------------------------ a call

    def begun(self, made: Made, offer: Offer) -> tuple[ShellCall, str]:
        """The item with the commands."""
        tool = offer.tool
        if not isinstance(tool, ShellTool):
            raise TypeError(tool)
        environment = environment_of(tool, "")
        named = environment.container_id if isinstance(environment, ContainerReference) else offer.namespace
        where = {"type": "container_reference", "container_id": named or own_container(made.id)}
        blank = ShellCall(id=made.id, call_id=made.call_id, action={"commands": []}, status="in_progress")
        try:
            return replace(cast(ShellCall, item_of(SHELL, made)), environment=where), ""
        except ValueError as error:
            return replace(blank, environment=where), str(error)

    def started(self, item: ShellCall, place: Place) -> Iterator[Event]:
        """The commands."""
        return progress(item, place)

    async def run(self, item: ShellCall, offer: Offer, caller: Caller) -> Ended:
        """The item, and one with the output of each command; all share one limit of time."""
        tool = offer.tool
        if not isinstance(tool, ShellTool):
            raise TypeError(tool)
        wall_s = (item.action.get("timeout_ms") or 1000 * self._hosting.config.wall_s) / 1000

        async def work(room: Room) -> Sequence[Ran]:
            ran: list[Ran] = []
            for command in item.action["commands"]:
                ran.append(await room.shell(command, wall_s))
                if ran[-1].outcome != "ended":
                    break
            return ran

        id = str((item.environment or {}).get("container_id"))
        report = await self._hosting.run(caller.owner, id, _auto(tool), work=work)
        memory = replace(item.memory or Memory(), files={file.path: file.id for file in report.files})
        return Ended(item=replace(item, status="completed", memory=memory), more=(_output(item, report),))

    def failed(self, item: ShellCall, message: str) -> Ended:
        """The call, with the reason as what the command says."""
        said = {"stdout": "", "stderr": f"The command was not run to its end: {message}", "outcome": _exit(1)}
        output = ShellCallOutput(call_id=item.call_id, output=[said], status="completed")
        return Ended(item=replace(item, status="completed"), more=(output,))

    def followed(self, item: Item, place: Place) -> Iterator[Event]:
        """The output of each command."""
        for index, said in enumerate(item.output if isinstance(item, ShellCallOutput) else ()):
            at: dict[str, Any] = {"item_id": place.item_id, "output_index": place.output_index, "command_index": index}
            delta = {name: said[name] for name in ("stdout", "stderr") if said[name]}
            if delta:
                yield ShellOutputDelta(sequence_number=place.next_number(), delta=delta, **at)
            yield ShellOutputDone(sequence_number=place.next_number(), output=[said], **at)


def is_hosted(tool: ShellTool) -> bool:
    """Whether the server is to run it."""
    return bool(tool.environment) and (tool.environment or {}).get("type") != "local"


def environment_of(tool: ShellTool, at: str) -> ContainerAuto | ContainerReference:
    """The container that a hosted shell wants. Raises `InvalidRequest`."""
    try:
        return msgspec.convert(tool.environment, ContainerAuto | ContainerReference)
    except DECODE_ERRORS as error:
        raise misfit(error, f"{at}.environment") from error


def _auto(tool: ShellTool) -> Auto | None:
    environment = environment_of(tool, "")
    return None if isinstance(environment, ContainerReference) else auto_of(environment)


def _output(item: ShellCall, report: Report) -> ShellCallOutput:
    most = item.action.get("max_output_length")
    notes = list(report.notes)
    if report.files:
        notes.append(f"[Files written: {', '.join(f'{file.path} ({file.bytes} bytes)' for file in report.files)}]")
    said = [_said(ran, most) for ran in report.ran]
    if said and notes:
        said[-1]["stderr"] = "\n".join(part for part in (said[-1]["stderr"].removesuffix("\n"), *notes) if part)
    return ShellCallOutput(call_id=item.call_id, output=said, max_output_length=most, status="completed")


def _said(ran: Ran, most: int | None) -> dict[str, Any]:
    end = {"ended": "", "time": ""}.get(ran.outcome, f"[Ended at the limit of {ran.outcome}.]")
    dropped = f"[{ran.dropped} more bytes of output]" if ran.dropped else ""
    parts = [ran.stderr.removesuffix("\n") if end or dropped else ran.stderr, end, dropped]
    stderr = "\n".join(part for part in parts if part)
    outcome = {"type": "timeout"} if ran.outcome == "time" else _exit(ran.code if ran.outcome == "ended" else 137)
    return {"stdout": ran.stdout[:most], "stderr": stderr[:most], "outcome": outcome}


def _exit(code: int) -> dict[str, Any]:
    return {"type": "exit", "exit_code": code}
