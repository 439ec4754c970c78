"""The containers that are open in this process: rooms of the sandbox, and the files that go in and come out.

The files' truth is in the store. A room is a copy of them with an interpreter that remembers; it may be gone at any
moment, and then another is opened with the same files. So a container can be used by one process after the other, and
by one at a time. What an interpreter knew is lost with its room, and who runs the next code is told so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from msgspec import Struct

from antiphon.clock import Clock
from antiphon.errors import Conflict, InvalidRequest, NotFound, Unavailable, Unsupported
from antiphon.hosted import MEGABYTE, SandboxConfig
from antiphon.ids import NewId, random_id
from antiphon.stores.containers import Claimed, Containers, Kept, inside
from antiphon.stores.files import Files
from antiphon.tools.sandbox.base import Bounds, Found, NoSandbox, Ran, Room, RoomLost, RoomRefuses, Sandbox
from antiphon.wire.containers import FOLDER, Container, ContainerFile, ExpiresAfter, MemoryLimit

PIECE_BYTES: Final = MEGABYTE
COLLECTED_MAX: Final = 100
"""Files that are kept after one run; what is beyond comes with the next."""
CLAIM_SLACK_S: Final = 30.0
PATIENCE_S: Final = 10.0
LOOK_S: Final = 0.1
MEMORY_MB: Final[dict[str, int]] = {"1g": 1024, "4g": 4096, "16g": 16_384, "64g": 65_536}
NOT_ENABLED: Final = "This server runs no code: 'sandbox.enabled' is not set in its configuration."
FRESH: Final = "The interpreter is a new one: what earlier calls defined is gone. The files in /mnt/data are there."

log = logging.getLogger("antiphon.tools")


class Auto(Struct, frozen=True, kw_only=True):
    """A container that is made when something is to be run in it, with copies of uploaded files."""

    file_ids: tuple[str, ...] = ()
    memory_limit: MemoryLimit | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What came of a run: what the room says, what is to be said of it, and the files that were written."""

    ran: tuple[Ran, ...]
    notes: tuple[str, ...] = ()
    files: tuple[ContainerFile, ...] = ()


class _Open:
    """An open room, the number of runs that it knows of, and its files: path -> id, size, when changed."""

    def __init__(self, room: Room, runs: int) -> None:
        self.room = room
        self.runs = runs
        self.files: dict[str, tuple[str, int, int]] = {}


class Hosting:
    """Runs things in containers. `sandbox` None: nothing is run here."""

    def __init__(
        self,
        sandbox: Sandbox | None,
        containers: Containers,
        files: Files,
        *,
        config: SandboxConfig,
        clock: Clock,
        new_id: NewId = random_id,
    ) -> None:
        self.config = config
        self.containers = containers
        self._sandbox = sandbox
        self._files = files
        self._clock = clock
        self._new_id = new_id
        self._open: dict[str, _Open] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ before

    async def check(self, kind: str, at: str) -> None:
        """Raises `Unsupported` with the reason where no code can be run."""
        reason = NOT_ENABLED
        if self._sandbox is not None:
            try:
                await self._sandbox.check()
            except NoSandbox as error:
                reason = error.message
            else:
                return
        message = f"The tool {kind!r} is not served: {reason}"
        raise Unsupported(message, param=at, code="unsupported_tool")

    async def check_auto(self, owner: str, auto: Auto, at: str) -> None:
        """Raises for files that are not there, or memory that is not to be had."""
        check_memory(self.config, auto.memory_limit, f"{at}.memory_limit")
        for index, file_id in enumerate(auto.file_ids):
            try:
                await self._files.get(owner, file_id)
            except NotFound as error:
                raise NotFound(error.message, param=f"{at}.file_ids[{index}]") from error

    # ------------------------------------------------------------ runs

    async def run(
        self, owner: str, id: str, auto: Auto | None, *, work: Callable[[Room], Awaitable[Sequence[Ran]]]
    ) -> Report:
        """Does the work in the container's room. Raises `ApiError`s; `auto`: the container is made if it is not there.

        Cancelling it ends what runs in the room, and the room.
        """
        if self._sandbox is None:
            raise Unavailable(NOT_ENABLED)
        async with self._locks.setdefault(id, asyncio.Lock()):
            if auto is not None:
                await self._ensure(owner, id, auto)
            claimed = await self._claimed(owner, id)
            ran, report = False, None
            try:
                opened, notes = await self._opened(self._sandbox, owner, claimed)
                ran = True
                report = await self._run(owner, id, opened, work=work)
            finally:
                if report is None:
                    await self._shut(id)
                await self.containers.release(owner, claimed, ran=ran)
            opened.runs = claimed.runs + 1
            self._rest(id)
            return Report(ran=report.ran, notes=(*notes, *report.notes), files=report.files)

    async def _run(
        self, owner: str, id: str, opened: _Open, *, work: Callable[[Room], Awaitable[Sequence[Ran]]]
    ) -> Report:
        ran = tuple(await work(opened.room))
        files, notes = await self._collected(owner, id, opened, ran=ran[-1]) if ran else ((), ())
        return Report(ran=ran, files=tuple(files), notes=tuple(notes))

    async def _ensure(self, owner: str, id: str, auto: Auto) -> None:
        """Makes the container if it is not there; one that is expired begins anew, without its files."""
        try:
            await self.containers.live(owner, id)
        except NotFound:
            now = int(self._clock())
            container = Container(
                id=id,
                created_at=now,
                name="auto",
                expires_after=ExpiresAfter(anchor="last_active_at", minutes=self.config.expires_minutes),
                last_active_at=now,
                memory_limit=auto.memory_limit or "1g",
            )
            try:
                await self.containers.create(owner, container)
            except Conflict:
                await self.containers.revive(owner, id)
        there = {kept.file.path for kept in await self.containers.kept(owner, id)}
        for file_id in auto.file_ids:
            file = await self._files.get(owner, file_id)
            if path_of(file.filename) not in there:
                await copied(self.containers, self._files, owner, container_id=id, file_id=file_id)

    async def _claimed(self, owner: str, id: str) -> Claimed:
        """The container, ours for a run; waits a little for another process to end its own."""
        until = self._clock() + PATIENCE_S
        while True:
            try:
                return await self.containers.claim(owner, id, self.config.wall_s + CLAIM_SLACK_S)
            except Conflict:
                if self._clock() >= until:
                    raise
                await asyncio.sleep(LOOK_S)

    async def _opened(self, sandbox: Sandbox, owner: str, claimed: Claimed) -> tuple[_Open, tuple[str, ...]]:
        """The container's room with the files of the store in it, and what is to be said of it."""
        id = claimed.container.id
        if timer := self._timers.pop(id, None):
            timer.cancel()
        known = self._open.get(id)
        if known is not None and known.runs == claimed.runs:
            try:
                await self._fill(known, await self.containers.kept(owner, id))
            except RoomLost:
                log.warning("a sandbox was gone", extra={"container_id": id})
            else:
                return known, ()
        await self._shut(id)
        await self._make_way()
        opened = _Open(await sandbox.open(self._bounds(claimed.container)), claimed.runs)
        self._open[id] = opened
        await self._fill(opened, await self.containers.kept(owner, id))
        return opened, (FRESH,) if claimed.runs else ()

    def _bounds(self, container: Container) -> Bounds:
        config = self.config
        return Bounds(
            wall_s=config.wall_s,
            cpu_s=config.cpu_s,
            memory_bytes=min(config.memory_mb, MEMORY_MB[container.memory_limit]) * MEGABYTE,
            disk_bytes=config.disk_mb * MEGABYTE,
            processes=config.processes,
            output_bytes=config.output_bytes,
        )

    # ------------------------------------------------------------ files

    async def _fill(self, opened: _Open, kept: Sequence[Kept]) -> None:
        """Puts the files of the store into the room that are not there, and takes out what is no longer kept."""
        wanted = {inside(each.file.path): each for each in kept}
        for path in opened.files.keys() - wanted.keys():
            await opened.room.remove(path)
            del opened.files[path]
        new = [path for path, each in wanted.items() if opened.files.get(path, ("",))[0] != each.file.id]
        for path in new:
            start = 0
            async for piece in await self.containers.read(wanted[path]):
                await opened.room.put(path, piece, start)
                start += len(piece)
            if not start:
                await opened.room.put(path, b"", 0)
        if new:
            for found in await opened.room.files():
                if found.path in new:
                    opened.files[found.path] = (wanted[found.path].file.id, found.bytes, found.changed)

    async def _collected(
        self, owner: str, id: str, opened: _Open, *, ran: Ran
    ) -> tuple[list[ContainerFile], list[str]]:
        """Keeps what was written, and forgets what was removed."""
        if ran.files is None:
            return [], []
        notes = [f"{ran.skipped} files are not kept: they have no usable name, or are too many."] * bool(ran.skipped)
        known = {path: facts[1:] for path, facts in opened.files.items()}
        changed = [each for each in ran.files if known.get(each.path) != (each.bytes, each.changed)]
        if len(changed) > COLLECTED_MAX:
            notes.append(f"{len(changed) - COLLECTED_MAX} more files were written; they are kept after the next call.")
        files: list[ContainerFile] = []
        for found in changed[:COLLECTED_MAX]:
            try:
                file = await self._keep(owner, id, opened.room, found=found)
            except RoomRefuses as error:
                notes.append(f"A file is not kept: {error.message}")
                continue
            opened.files[found.path] = (file.id, found.bytes, found.changed)
            files.append(file)
        there = {each.path for each in ran.files}
        for path in [] if ran.skipped else [path for path in opened.files if path not in there]:
            file_id = opened.files.pop(path)[0]
            try:
                await self.containers.delete_file(owner, id, file_id)
            except NotFound:
                continue
        return files, notes

    async def _keep(self, owner: str, id: str, room: Room, *, found: Found) -> ContainerFile:
        path = f"{FOLDER}/{found.path}"
        new_id = self._new_id("cfile", f"{id}{path}".encode())
        now = int(self._clock())
        file = ContainerFile(id=new_id, bytes=0, container_id=id, created_at=now, path=path, source="assistant")
        return await self.containers.put_file(owner, file, _content(room, found))

    # ------------------------------------------------------------ after

    def _rest(self, id: str) -> None:
        loop = asyncio.get_running_loop()
        self._timers[id] = loop.call_later(self.config.idle_s, self._retire, id)

    def _retire(self, id: str) -> None:
        """Closes a room that nobody has used for a while."""
        self._timers.pop(id, None)
        if not self._is_busy(id):
            task = asyncio.get_running_loop().create_task(self._shut(id))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _is_busy(self, id: str) -> bool:
        lock = self._locks.get(id)
        return lock is not None and lock.locked()

    async def _make_way(self) -> None:
        """Closes the room that was not used for longest, if there are as many as there may be."""
        while len(self._open) >= self.config.open_max:
            idle = next((id for id in self._timers if not self._is_busy(id)), None)
            if idle is None:
                message = f"All {self.config.open_max} containers that this server holds open are in use; try again."
                raise Unavailable(message, code="containers_busy")
            await self._shut(idle)

    async def _shut(self, id: str) -> None:
        if timer := self._timers.pop(id, None):
            timer.cancel()
        opened = self._open.pop(id, None)
        if opened is not None:
            await opened.room.close()
        if not self._is_busy(id):
            self._locks.pop(id, None)

    async def close(self) -> None:
        """Ends all rooms."""
        for id in list(self._open):
            await self._shut(id)
        await asyncio.gather(*self._closing, return_exceptions=True)


async def _content(room: Room, found: Found) -> AsyncIterator[bytes]:
    start = 0
    while start < found.bytes:
        piece = await room.get(found.path, start, min(PIECE_BYTES, found.bytes - start))
        if not piece:
            return
        start += len(piece)
        yield piece


def check_memory(config: SandboxConfig, memory_limit: MemoryLimit | None, at: str) -> None:
    """Raises `InvalidRequest` for a limit beyond what is configured."""
    if memory_limit is not None and MEMORY_MB[memory_limit] > max(config.memory_mb, MEMORY_MB["1g"]):
        message = f"A container has {config.memory_mb} MB of memory on this server; {memory_limit!r} is more."
        raise InvalidRequest(message, param=at)


def path_of(filename: str) -> str:
    """Where a file of that name stands in a container."""
    return f"{FOLDER}/{filename}"


async def copied(
    containers: Containers, files: Files, owner: str, *, container_id: str, file_id: str, id: str = ""
) -> ContainerFile:
    """A copy of an uploaded file in a container. Raises `NotFound` for a file that is not there."""
    try:
        found = await files.get(owner, file_id)
    except NotFound as error:
        raise NotFound(error.message, param="file_ids") from error
    file = ContainerFile(
        id=id or random_id("cfile"),
        bytes=0,
        container_id=container_id,
        created_at=found.created_at,
        path=path_of(found.filename),
        source="user",
    )
    return await containers.put_file(owner, file, await files.read(owner, file_id))


__all__ = ["Auto", "Hosting", "Report", "check_memory", "copied"]
