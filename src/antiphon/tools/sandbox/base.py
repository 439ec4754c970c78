"""The seam of sandboxes: a room in which Python with kept state, and shell commands, are run within limits.

What comes out of a room is said by code that nobody has read: it is bounded, and never believed.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from antiphon.errors import NoSandbox, RoomLost, RoomRefuses

FOLDER: Final = "/mnt/data"
"""Where a room's files are, as the code sees it; other paths of this module are relative to it."""

Outcome = Literal["ended", "time", "cpu", "memory", "output", "died"]
"""`ended`: by itself; `time`, `cpu`, `memory`, `output`: a limit ended it; `died`: the interpreter is gone."""


class Bounds(Struct, frozen=True, kw_only=True):
    """What a room, and one run in it, may use at most. Times are in seconds, sizes in bytes."""

    wall_s: float
    cpu_s: float
    memory_bytes: int
    disk_bytes: int
    processes: int
    output_bytes: int
    result_bytes: int = 8 * 2**20


class Found(Struct, frozen=True, kw_only=True):
    """A file in a room. `changed` says when it was written, in a clock of the room's own."""

    path: str
    bytes: int
    changed: int


class Ran(Struct, frozen=True, kw_only=True):
    """What came of a run. `dropped` counts the bytes of output beyond the limit; `lost`: the interpreter's state is.

    `value` and `error` are the last expression's `repr` and a traceback; `images` are PNG. `skipped` counts files that
    have no name to be known by, or are too many. `files` is None where nobody could look.
    """

    outcome: Outcome
    stdout: str = ""
    stderr: str = ""
    code: int = 0
    value: str | None = None
    error: str | None = None
    images: tuple[bytes, ...] = ()
    dropped: int = 0
    lost: bool = False
    files: tuple[Found, ...] | None = None
    skipped: int = 0


class Room(Protocol):
    """An open room. One call at a time. Each raises `RoomLost`; after that, as after `close`, it is of no use."""

    async def python(self, code: str) -> Ran:
        """Runs code in the room's interpreter, which remembers what was run before."""
        ...

    async def shell(self, command: str, wall_s: float) -> Ran:
        """Runs a shell command."""
        ...

    async def put(self, path: str, piece: bytes, start: int) -> None:
        """Writes a piece of a file; at 0 begins the file anew. Raises `RoomRefuses`."""
        ...

    async def get(self, path: str, start: int, length: int) -> bytes:
        """A piece of a file, empty at its end. Raises `RoomRefuses`."""
        ...

    async def remove(self, path: str) -> None:
        """Removes a file, if it is there. Raises `RoomRefuses`."""
        ...

    async def files(self) -> Sequence[Found]:
        """The files."""
        ...

    async def close(self) -> None:
        """Ends everything in it. Never raises."""
        ...


class Sandbox(Protocol):
    """A place for rooms.

    A package offers one with `[project.entry-points."antiphon.sandboxes"]`, `name = "package.module:factory"`. The
    factory is called with `config.sandbox`.
    """

    async def check(self) -> None:
        """Raises `NoSandbox` with the reason if rooms cannot be had here. Looks once."""
        ...

    async def open(self, bounds: Bounds) -> Room:
        """A new, empty room. Raises `NoSandbox` or `RoomLost`."""
        ...


Factory = Callable[[Any], Sandbox]

__all__ = [
    "FOLDER",
    "Bounds",
    "Factory",
    "Found",
    "NoSandbox",
    "Outcome",
    "Ran",
    "Room",
    "RoomLost",
    "RoomRefuses",
    "Sandbox",
]
