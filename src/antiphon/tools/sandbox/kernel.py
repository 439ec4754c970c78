"""The sandbox of the kernel's own means: no package, no daemon, no privilege. See `jail` for the walls.

Each room is a process of ours that starts in new namespaces and ends with this server; `warden` is what runs in it.
"""

import asyncio
import base64
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from antiphon.hosted import SandboxConfig
from antiphon.tools.sandbox.base import Bounds, Found, NoSandbox, Outcome, Ran, RoomLost, RoomRefuses
from antiphon.tools.sandbox.frames import HEAD, HEADER_BYTES_MAX, frame

START_S: Final = 20.0
SLACK_S: Final = 10.0
"""How long a room's warden may take beyond the run that it watches."""
PIECE_BYTES: Final = 2**20
_LAUNCHER: Final = "antiphon.tools.sandbox.launcher"
_WORKER: Final = Path(__file__).with_name("worker.py")
_PROBE: Final = Bounds(wall_s=10, cpu_s=10, memory_bytes=512 * 2**20, disk_bytes=2**20, processes=16, output_bytes=1024)
_ASK_PATHS: Final = "import json, sys; print(json.dumps([sys.base_prefix, sys.base_exec_prefix, sys.prefix]))"
_OWN_FOLDERS: Final = ("/tmp/", "/mnt/")  # noqa: S108 (inside)
_SYSTEM_FOLDERS: Final = ("/usr/", "/bin/", "/lib/", "/lib64/")


class Python(Struct, frozen=True, kw_only=True):
    """The interpreter of rooms, the folders that it needs, and where programs are looked for."""

    command: str
    paths: tuple[str, ...]
    path: str


class _Answer(Struct, frozen=True, kw_only=True):
    """What a warden says."""

    refused: str = ""
    ready: bool = False
    error: str = ""
    outcome: Outcome = "ended"
    code: int = 0
    lost: bool = False
    dropped: int = 0
    stdout: int = 0
    stderr: int = 0
    files: list[tuple[str, int, int]] = []
    skipped: int = 0
    changed: int = 0


class _Result(Struct, frozen=True, kw_only=True):
    """What the interpreter says, or code in its name."""

    value: str | None = None
    error: str | None = None
    images: list[str] = []


_answers = msgspec.json.Decoder(_Answer)
_results = msgspec.json.Decoder(_Result)


class KernelSandbox:
    """Rooms made of namespaces."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._python: Python | None = None
        self._reason: str | None = None
        self._looking = asyncio.Lock()

    async def check(self) -> None:
        """Opens a room and runs something in it, once."""
        async with self._looking:
            if self._reason is None:
                try:
                    await self._probe()
                except (NoSandbox, RoomLost) as error:
                    self._reason = error.message
                else:
                    self._reason = ""
        if self._reason:
            raise NoSandbox(self._reason)

    async def open(self, bounds: Bounds) -> "KernelRoom":
        """A room, once it has been seen that there are any."""
        await self.check()
        return await self._open(bounds)

    async def _probe(self) -> None:
        if sys.platform != "linux":
            raise NoSandbox(f"The sandbox of kind 'kernel' needs Linux; this is {sys.platform}.")
        self._python = await python_of(self._config)
        room = await self._open(_PROBE)
        try:
            ran = await room.python("import os; (os.getuid(), os.getpid() > 1)")
        finally:
            await room.close()
        if ran.value != "(65534, True)":
            raise NoSandbox(f"The interpreter {self._python.command} does not run in it: {ran.error or ran.stdout}")

    async def _open(self, bounds: Bounds) -> "KernelRoom":
        if self._python is None:
            raise RuntimeError("look first")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", _LAUNCHER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        room = KernelRoom(process, bounds)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(room.close)
            await room.begin(self._python)
            undo.pop_all()
        return room


class KernelRoom:
    """A room, and the process that holds it."""

    def __init__(self, process: asyncio.subprocess.Process, bounds: Bounds) -> None:
        self._process = process
        self._bounds = bounds

    async def begin(self, python: Python) -> None:
        """Says what the room is to be. Raises `NoSandbox` with what the launcher says of it."""
        bounds = self._bounds
        plan = {
            "python": python.command,
            "paths": python.paths,
            "path": python.path,
            "memory_bytes": bounds.memory_bytes,
            "disk_bytes": bounds.disk_bytes,
            "processes": bounds.processes,
            "output_bytes": bounds.output_bytes,
            "result_bytes": bounds.result_bytes,
        }
        worker = await asyncio.to_thread(_WORKER.read_bytes)
        answer, _ = await self._ask({"plan": plan, "parent": os.getpid()}, worker, limit_s=START_S)
        if not answer.ready:
            raise NoSandbox(answer.refused or "The sandbox did not start.")

    async def python(self, code: str) -> Ran:
        """Runs it as one cell of a notebook."""
        bounds = self._bounds
        header = {"do": "python", "wall_s": bounds.wall_s, "cpu_s": bounds.cpu_s}
        content = code.encode("utf-8", "replace")
        answer, said = await self._ask(header, content, limit_s=bounds.wall_s + SLACK_S)
        result = _result(said[answer.stdout :]) if len(said) > answer.stdout else _Result()
        stdout = _text(said[: answer.stdout])
        images = tuple(image for each in result.images if (image := _image(each)))
        return _ran(answer, stdout=stdout, value=result.value, error=result.error, images=images)

    async def shell(self, command: str, wall_s: float) -> Ran:
        """Runs it by bash where there is one, else by sh, in the folder of files."""
        bounds = self._bounds
        header = {"do": "shell", "wall_s": min(wall_s, bounds.wall_s), "cpu_s": bounds.cpu_s}
        answer, said = await self._ask(header, command.encode("utf-8", "replace"), limit_s=bounds.wall_s + SLACK_S)
        stdout, stderr = said[: answer.stdout], said[answer.stdout :]
        return _ran(answer, stdout=_text(stdout), stderr=_text(stderr))

    async def put(self, path: str, piece: bytes, start: int) -> None:
        """Writes a piece."""
        await self._file({"do": "put", "path": path, "start": start}, piece)

    async def get(self, path: str, start: int, length: int) -> bytes:
        """Reads a piece."""
        return (await self._file({"do": "get", "path": path, "start": start, "length": length}))[:length]

    async def remove(self, path: str) -> None:
        """Removes it."""
        await self._file({"do": "remove", "path": path})

    async def files(self) -> Sequence[Found]:
        """What is there now."""
        answer, _ = await self._ask({"do": "files"}, b"", limit_s=SLACK_S)
        return _found(answer)

    async def close(self) -> None:
        """Kills the launcher, and with it everything inside; returns when all of it has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(SLACK_S):
                if stdin is not None:
                    stdin.close()
                while stdout is not None and await stdout.read(PIECE_BYTES):
                    pass  # what is left there; its end is the end of the last process inside
                await self._process.wait()
                if stdin is not None:
                    await stdin.wait_closed()

    async def _file(self, header: dict[str, Any], piece: bytes = b"") -> bytes:
        answer, content = await self._ask(header, piece, limit_s=SLACK_S)
        if answer.error:
            raise RoomRefuses(f"{answer.error}: {header['path']!r}")
        return content

    async def _ask(self, header: dict[str, Any], payload: bytes, *, limit_s: float) -> tuple[_Answer, bytes]:
        """One question and its answer. One that was given up leaves the room without use."""
        done = False
        try:
            async with asyncio.timeout(limit_s):
                found = await self._answer(frame(header, payload))
                done = True
                return found
        except (TimeoutError, OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
            raise RoomLost("The sandbox broke off; its files are as they were before this call.") from error
        finally:
            if not done:
                await self.close()

    async def _answer(self, asked: bytes) -> tuple[_Answer, bytes]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the room's pipes are not there")
        stdin.write(asked)
        await stdin.drain()
        header_bytes, payload_bytes = HEAD.unpack(await stdout.readexactly(HEAD.size))
        most = 2 * self._bounds.output_bytes + self._bounds.result_bytes + PIECE_BYTES
        if header_bytes > HEADER_BYTES_MAX or payload_bytes > most:
            raise OSError("more was said than a room may say")
        header = await stdout.readexactly(header_bytes)
        return _answers.decode(header), await stdout.readexactly(payload_bytes)


async def python_of(config: SandboxConfig) -> Python:
    """The interpreter that is configured, and what it needs to see. Raises `NoSandbox` for one that does not run."""
    command = config.python or await asyncio.to_thread(_base_interpreter)
    try:
        process = await asyncio.create_subprocess_exec(
            *(command, "-I", "-c", _ASK_PATHS), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        prefixes = msgspec.json.decode((await process.communicate())[0], type=list[str])
    except (OSError, msgspec.MsgspecError) as error:
        raise NoSandbox(f"sandbox.python: {command} is no interpreter that can be run here.") from error
    return await asyncio.to_thread(_with_folders, command, [*prefixes, *config.read_only])


def _with_folders(command: str, wanted: list[str]) -> Python:
    """What is to be seen beside the system's own folders: as it is named, and where that leads.

    Raises `NoSandbox` for what cannot be seen.
    """
    folder = str(Path(command).parent)
    named = [*wanted, folder]
    real = {*named, *map(os.path.realpath, named)}
    paths = sorted(path for path in real if not f"{path}/".startswith(_SYSTEM_FOLDERS))
    if hidden := [path for path in paths if f"{path}/".startswith(_OWN_FOLDERS)]:
        raise NoSandbox(f"{hidden[0]} cannot be seen in the sandbox, where /tmp and /mnt are the code's own.")
    return Python(command=command, paths=tuple(paths), path=f"{folder}:/usr/local/bin:/usr/bin:/bin")


def _base_interpreter() -> str:
    """The interpreter below the server's virtual environment, if it has one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    named = [Path(sys.base_prefix) / "bin" / name for name in (version, "python3")]
    return str(next((path for path in named if path.exists()), Path(sys.executable)))


def _ran(answer: _Answer, **said: Any) -> Ran:
    return Ran(
        outcome=answer.outcome,
        code=answer.code,
        dropped=answer.dropped,
        lost=answer.lost,
        files=tuple(_found(answer)),
        skipped=answer.skipped,
        **said,
    )


def _found(answer: _Answer) -> list[Found]:
    return [Found(path=path, bytes=size, changed=changed) for path, size, changed in answer.files]


def _result(said: bytes) -> _Result:
    """What the interpreter says; what cannot be understood came from the code."""
    try:
        return _results.decode(said)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Result(error="The code broke the interpreter's answer.")


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace")


def _image(text: str) -> bytes:
    """A PNG, or nothing."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        return b""
    return content if content.startswith(b"\x89PNG\r\n\x1a\n") else b""
