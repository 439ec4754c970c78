"""The tool `code_interpreter`: the model writes Python, a container of the sandbox runs it, and remembers it.

Its container is the one that the request names, or one that is made for the chain of responses: the first call makes
it, and later ones find its id in the context. A call that has been begun is never made again.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from antiphon.errors import Unsupported
from antiphon.models.base import Function
from antiphon.tools.base import Caller, Ended, Offer, Place, Prelude, ServerTool
from antiphon.tools.hosting import Auto, Hosting, Report
from antiphon.tools.sandbox.base import Ran, Room
from antiphon.wire.calls import Answer, Call, Made
from antiphon.wire.events import (
    CodeDelta,
    CodeDone,
    CodeInterpreterCompleted,
    CodeInterpreterInProgress,
    CodeInterpreterInterpreting,
    Event,
    ItemPlace,
)
from antiphon.wire.items import CodeInterpreterCall, Item, Memory, ShellCall
from antiphon.wire.tools import CodeInterpreterTool, ContainerAuto

KIND = "code_interpreter"


class CodeInterpreter(ServerTool):
    """Runs Python in containers."""

    idempotent = False

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    # ------------------------------------------------------------ how the model sees it

    def offers(self, tool: CodeInterpreterTool, index: int) -> Iterable[Offer]:
        """One function with `code`."""
        config = self._hosting.config
        code = {"type": "string", "description": "The Python code."}
        schema = {"type": "object", "properties": {"code": code}, "required": ["code"]}
        function = Function(name=config.name, description=config.description, parameters=schema)
        return [Offer(function=function, kind=KIND, name=config.name, tool=tool, index=index)]

    async def check(self, tool: CodeInterpreterTool, caller: Caller, at: str) -> None:
        """Raises `Unsupported` where there is no sandbox, `NotFound` for a container or file that is not there."""
        await self._hosting.check(KIND, f"{at}.type")
        if isinstance(tool.container, str):
            await self._hosting.containers.live(caller.owner, tool.container)
        else:
            check_policy(tool.container.network_policy, f"{at}.container")
            await self._hosting.check_auto(caller.owner, auto_of(tool.container), f"{at}.container")

    def prelude(self, tool: CodeInterpreterTool, context: Sequence[Item], _added: Sequence[Item]) -> Iterable[Prelude]:
        """The last call in the context, whose container is used again."""
        if isinstance(tool.container, str):
            return []
        return last_use(context)

    def learned(self, tool: CodeInterpreterTool, index: int, item: Any) -> Iterable[Offer]:
        """The same function, in the container of an earlier call."""
        id = container_of(item)
        return [replace(offer, namespace=id) for offer in self.offers(tool, index)] if id else []

    def seen(self, item: CodeInterpreterCall) -> tuple[Call, Answer]:
        """The code and what came of it."""
        memory = item.memory or Memory()
        call_id = memory.call_id or item.id or "call_code"
        arguments = msgspec.json.encode({"code": item.code or ""}).decode()
        call = Call(call_id=call_id, name=memory.name or self._hosting.config.name, arguments=arguments)
        output = memory.output
        if output is None:
            output = _NOT_KEPT if item.outputs is None else "".join(str(each.get("logs", "")) for each in item.outputs)
        return call, Answer(call_id=call_id, output=output)

    # ------------------------------------------------------------ a call

    def begun(self, made: Made, offer: Offer) -> tuple[CodeInterpreterCall, str]:
        """The item with the code; models that were trained on it send the bare code as arguments."""
        tool = offer.tool
        if not isinstance(tool, CodeInterpreterTool):
            raise TypeError(tool)
        named = tool.container if isinstance(tool.container, str) else offer.namespace
        code = _code(made.arguments)
        item = CodeInterpreterCall(
            id=made.id, code=code, container_id=named or own_container(made.id), status="in_progress"
        )
        fault = "" if code and code.strip() else "The argument `code` is needed: Python code as a text."
        return item, fault

    def started(self, item: CodeInterpreterCall, place: Place) -> Iterator[Event]:
        """In progress, the code, interpreting."""
        where: ItemPlace = {"item_id": place.item_id, "output_index": place.output_index}
        code = item.code or ""
        yield CodeInterpreterInProgress(sequence_number=place.next_number(), **where)
        if code:
            yield CodeDelta(sequence_number=place.next_number(), delta=code, **where)
        yield CodeDone(sequence_number=place.next_number(), code=code, **where)
        yield CodeInterpreterInterpreting(sequence_number=place.next_number(), **where)

    async def run(self, item: CodeInterpreterCall, offer: Offer, caller: Caller) -> Ended:
        """The item with what the code printed and drew; what it raised is printed, too."""
        tool = offer.tool
        if not isinstance(tool, CodeInterpreterTool):
            raise TypeError(tool)
        auto = None if isinstance(tool.container, str) else auto_of(tool.container)

        async def work(room: Room) -> Sequence[Ran]:
            return [await room.python(item.code or "")]

        report = await self._hosting.run(caller.owner, item.container_id, auto, work=work)
        ran = report.ran[0]
        logs = logs_of(ran)
        outputs: list[dict[str, Any]] = [{"type": "logs", "logs": logs}] if logs else []
        outputs += [{"type": "image", "url": _url(image)} for image in ran.images]
        memory = item.memory or Memory()
        files = {file.path: file.id for file in report.files}
        memory = replace(memory, output=told(report, logs, len(ran.images)), files=files)
        status = "completed" if ran.outcome == "ended" else "failed"
        return Ended(item=replace(item, outputs=outputs, status=status, memory=memory))

    def failed(self, item: CodeInterpreterCall, message: str) -> CodeInterpreterCall:
        """The item with the reason as its output."""
        text = f"The code was not run to its end: {message}"
        memory = item.memory and replace(item.memory, output=text)
        return replace(item, status="failed", outputs=[{"type": "logs", "logs": text}], memory=memory)

    def ended(self, item: CodeInterpreterCall, place: Place) -> Iterator[Event]:
        """Completed; OpenAI has no event for a call that failed."""
        if item.status == "completed":
            yield CodeInterpreterCompleted(
                sequence_number=place.next_number(), item_id=place.item_id, output_index=place.output_index
            )


# ---------------------------------------------------------------- containers


def own_container(item_id: str) -> str:
    """The id of the container that a response's calls share: the response's digits. Ends with the item's number."""
    return f"cntr_{item_id.partition('_')[2][:48]}"


def container_of(item: Item) -> str | None:
    """The container in which an item's call was run, if it has an id such as this server gives."""
    id = ""
    if isinstance(item, CodeInterpreterCall):
        id = item.container_id
    elif isinstance(item, ShellCall) and (item.environment or {}).get("type") == "container_reference":
        id = str((item.environment or {}).get("container_id"))
    digits = id.removeprefix("cntr_")
    is_ours = len(digits) == 48 and not digits.strip("0123456789abcdef")
    return id if is_ours and id != digits else None


def last_use(context: Sequence[Item]) -> list[Prelude]:
    """The last call in the context that was run in a container, as something to learn from."""
    found = next((item for item in reversed(context) if container_of(item)), None)
    return [] if found is None else [Prelude(item=found, known=True)]


def auto_of(container: ContainerAuto) -> Auto:
    """What a request wants of a container that is to be made."""
    return Auto(file_ids=tuple(container.file_ids or ()), memory_limit=container.memory_limit)


def check_policy(policy: dict[str, Any] | None, at: str) -> None:
    """Raises `Unsupported` for a container that is to have network."""
    if (policy or {}).get("type", "disabled") != "disabled":
        message = "Containers have no network on this server: 'network_policy' can only be 'disabled'."
        raise Unsupported(message, param=f"{at}.network_policy")


# ---------------------------------------------------------------- what is said


def logs_of(ran: Ran) -> str:
    """What was printed, the last value or the traceback, and what ended the run."""
    dropped = f"[{ran.dropped} more bytes of output]" if ran.dropped else ""
    parts = [ran.stdout, dropped, ran.value, ran.error, OUTCOMES.get(ran.outcome), LOST if ran.lost else ""]
    return "\n".join(part.removesuffix("\n") for part in parts if part)


def told(report: Report, logs: str, images: int) -> str:
    """The same for the model, and what else it should know."""
    shown = f"[{images} image{'s' if images > 1 else ''} shown to the user]" if images else ""
    written = [f"{file.path} ({file.bytes} bytes)" for file in report.files]
    files = f"[Files written: {', '.join(written)}]" if written else ""
    return "\n".join(part for part in (*report.notes, logs, shown, files) if part) or "[No output]"


OUTCOMES = {
    "time": "[Ended: it took longer than is allowed.]",
    "cpu": "[Ended: it used more processor time than is allowed.]",
    "memory": "[Ended: it used more memory than is allowed.]",
    "output": "[Ended: its result was larger than is allowed.]",
    "died": "[The interpreter ended unexpectedly.]",
}
LOST = "[The interpreter is started anew: what was defined is gone; files are kept.]"
_NOT_KEPT = "The output of this call was not kept."


def _code(arguments: str) -> str | None:
    try:
        given = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments
    if isinstance(given, dict):
        given = given.get("code")
    return given if isinstance(given, str) else None


def _url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
