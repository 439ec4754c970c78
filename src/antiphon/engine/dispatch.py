"""Runs the calls that a model made of the server's tools: side by side, each within its time.

What a tool raises is told to the model, since a failing tool is no failing response. A call is run at most once unless
its tool says that a second time does no harm: of a run that was taken over nobody knows whether it was.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping

from antiphon.engine.emit import Running
from antiphon.engine.journal import ToolEnded
from antiphon.engine.run import Engine, Progress
from antiphon.errors import ApiError
from antiphon.tools.base import Caller
from antiphon.wire.items import Item

log = logging.getLogger("antiphon.engine")


async def run_calls(engine: Engine, progress: Progress, *, again: bool) -> AsyncGenerator[list[ToolEnded], None]:
    """The ends of the calls that wait to be run, as they come. Closing it stops those that have not ended.

    `again`: the calls may have been run before, by a process that died. Raises `Stopped` when the run is told to stop.
    """
    running: Mapping[int, Running] = dict(progress.emitter.running)
    room = asyncio.Semaphore(engine.limits.tools_at_once)
    caller = Caller(owner=progress.run.owner, access=progress.run.access)

    async def one(index: int, call: Running) -> ToolEnded:
        async with room:
            return ToolEnded(index, await _run(engine, call, caller, again=again))

    tasks = {asyncio.ensure_future(one(index, call)) for index, call in running.items()}
    try:
        while tasks:
            done, tasks = await progress.control.wait(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
            yield sorted((task.result() for task in done), key=lambda ended: ended.output_index)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(engine: Engine, call: Running, caller: Caller, *, again: bool) -> Item:
    """The finished item of a call; a failed one where it cannot be run, breaks, or takes too long."""
    tool = engine.tools[call.offer.kind]
    limit_s = engine.timeouts.tool_s
    if call.fault:
        return tool.failed(call.item, call.fault)
    if again and not tool.idempotent:
        return tool.failed(call.item, "The server stopped in the middle; it is not known whether the call took effect.")
    try:
        async with asyncio.timeout(limit_s):
            return await tool.run(call.item, call.offer, caller)
    except TimeoutError:
        return tool.failed(call.item, f"It took longer than the {limit_s:g} seconds that are allowed here.")
    except ApiError as error:
        return tool.failed(call.item, error.message)
    except Exception:
        log.exception("tool broke", extra={"tool": call.offer.kind})
        return tool.failed(call.item, "The server had an error while running it.")
