"""Runs the calls that a model made of the server's tools: side by side, each within its time.

A client that wants no parallel calls gets them one after the other, where a host makes several at once all the same.

What a tool raises is told to the model, since a failing tool is no failing response. A call is run at most once unless
its tool says that a second time does no harm: of a run that was taken over nobody knows whether it was.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from antiphon.engine.emit import Running
from antiphon.engine.journal import Announced, ToolEnded, ToolTold
from antiphon.engine.pictures import pictures
from antiphon.engine.run import Engine, Progress, Run
from antiphon.errors import ApiError, Internal, InvalidRequest, UpstreamTimeout
from antiphon.tools.base import Caller, Ended, ServerTools
from antiphon.tools.offers import kind_of
from antiphon.wire.items import Item
from antiphon.wire.tools import Tool

log = logging.getLogger("antiphon.engine")


async def run_calls(
    engine: Engine, progress: Progress, *, again: bool
) -> AsyncGenerator[list[ToolTold | ToolEnded], None]:
    """What the calls that wait to be run say, and their ends, as they come. Closing it stops those that go on.

    `again`: the calls may have been run before, by a process that died. Raises `Stopped` when the run is told to stop,
    and `ApiError` where it cannot go on without a call that failed.
    """
    running: Mapping[int, Running] = dict(progress.emitter.running)
    run = progress.run
    parallel = run.response.parallel_tool_calls or all(call.prelude for call in running.values())
    room = asyncio.Semaphore(engine.limits.tools_at_once if parallel else 1)
    caller = Caller(
        owner=run.owner,
        access=run.access,
        response_id=run.response.id,
        secrets=run.secrets,
        images=engine.catalog.quirks(run.host).images,
        offers=progress.emitter.offers,
        pictures=partial(pictures, engine, progress),
    )

    said: deque[ToolTold] = deque()
    stirred = asyncio.Event()

    async def one(index: int, call: Running) -> ToolEnded:
        def tell(something: dict[str, Any]) -> None:
            said.append(ToolTold(index, something))
            stirred.set()

        async with room:
            ended = await _run(engine, call, replace(caller, tell=tell), again=again)
            return ToolEnded(index, ended.item, ended.more)

    tasks = {asyncio.ensure_future(one(index, call)) for index, call in running.items()}
    hearing = asyncio.ensure_future(stirred.wait())
    try:
        while tasks:
            waiting = asyncio.wait({hearing, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            done, _ = await progress.control.wait(waiting)
            if hearing in done:
                stirred.clear()
                hearing = asyncio.ensure_future(stirred.wait())
            ended, tasks = tasks & done, tasks - done
            batch: list[ToolTold | ToolEnded] = [said.popleft() for _ in range(len(said))]
            batch += sorted((task.result() for task in ended), key=lambda end: end.output_index)
            if batch:
                yield batch
    finally:
        for task in (hearing, *tasks):
            task.cancel()
        await asyncio.gather(hearing, *tasks, return_exceptions=True)


async def _run(engine: Engine, call: Running, caller: Caller, *, again: bool) -> Ended:
    """What comes of a call; a failed one where it cannot be run, breaks, or takes too long.

    Raises `ApiError` where the response cannot go on without it.
    """
    tool = engine.tools[call.offer.kind]
    limit_s = engine.timeouts.tool_s
    error: ApiError
    if call.fault:
        error = InvalidRequest(call.fault)
    elif again and not tool.repeatable(call.item, call.offer):
        error = Internal("The server stopped in the middle; it is not known whether the call took effect.")
    else:
        try:
            async with asyncio.timeout(limit_s):
                return await tool.run(call.item, call.offer, caller)
        except TimeoutError:
            error = UpstreamTimeout(f"It took longer than the {limit_s:g} seconds that are allowed here.")
        except ApiError as refused:
            error = refused
        except Exception:
            log.exception("tool broke", extra={"tool": call.offer.kind})
            error = Internal("The server had an error while running it.")
    failed = tool.failed(call.item, error.message)
    if failed is None:
        raise error
    return failed if isinstance(failed, Ended) else Ended(item=failed)


def preludes(
    tools: ServerTools, declared: Sequence[Tool], context: Sequence[Item], *, added: Sequence[Item]
) -> tuple[Announced, ...]:
    """What the declared tools do before the model is asked. Raises `InvalidRequest` for what cannot be done."""
    return tuple(
        Announced(index, prelude.item, prelude.known)
        for index, tool in enumerate(declared)
        if (served := tools.get(kind_of(tool))) is not None
        for prelude in served.prelude(tool, context, added)
    )


async def release(engine: Engine, run: Run) -> None:
    """Closes what tools have kept open for a run."""
    for kind in {kind_of(tool) for tool in run.response.tools} & engine.tools.keys():
        await engine.tools[kind].release(run.response.id)
