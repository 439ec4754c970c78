"""Where bytes are kept that are too large for the database: one seam, and its implementation on the local disk.

A blob is written once, whole or not at all, and never changed. Nobody lists the storage: which blobs belong to nobody
is written in the database (`stores.files`), so that a storage may be shared with what is not ours.
"""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from msgspec import Struct

from antiphon.errors import NotFound, Unavailable

T = TypeVar("T")

CHUNK_BYTES = 2**20
"""What is written to, or read from, the disk at once: a hop to a thread costs as much as copying 200 kB."""
_THREADS = 4
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "it is read-only",
    errno.EACCES: "access is denied",
    errno.EPERM: "access is denied",
}


class Blobs(Protocol):
    """A storage of blobs by key; a key is one of ours: letters, digits, `_`.

    All methods raise `errors.Unavailable` when the storage is gone, full or refuses us.
    """

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Stores all pieces and returns how many bytes they were; takes the next piece when there is room for it.

        If `pieces` raises, that is raised, and nothing is stored.
        """
        ...

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a range, which must lie inside the blob, as they come; without one, all of them.

        Raises `NotFound` at once if there is no such blob. Once begun, a deletion does not disturb it.
        """
        ...

    async def delete(self, key: str) -> None:
        """Removes the blob, and what a broken `put` left of it. To delete what is not there is no error."""
        ...

    async def close(self) -> None:
        """Ends what is still open."""
        ...


class BlobOptions(Struct, frozen=True, kw_only=True):
    """How a storage is reached; without `url` it lasts until it is closed. `sync` waits for the disk at each end."""

    url: str | None
    access_key: str = ""
    secret_key: str = ""
    sync: bool = False


def open_blobs(options: BlobOptions) -> Blobs:
    """The storage at `file:///folder` or `s3://bucket/prefix?endpoint=...&region=...`.

    Raises `ImportError` where the package for it is not installed.
    """
    if options.url is None:
        return LocalBlobs(None)
    if options.url.startswith("s3://"):
        from antiphon.stores.s3 import S3Blobs  # an extra

        return S3Blobs(options.url, (options.access_key, options.secret_key))
    return LocalBlobs(Path(options.url.removeprefix("file://")), sync=options.sync)


class LocalBlobs:
    """A folder with a file for each blob; None makes one that goes when it is closed.

    Under its name a file is complete: until then it is called `.part`.
    """

    def __init__(self, folder: Path | None, *, sync: bool = False) -> None:
        self._made = None if folder else TemporaryDirectory(prefix="antiphon-")
        self._folder = folder or Path(self._made.name if self._made else "")
        self._sync = sync
        # Threads of our own: a stuck disk must not hold up what else runs on the loop's threads, such as name look-ups.
        self._threads = ThreadPoolExecutor(_THREADS, "blobs")

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Writes the pieces to a file and renames it at the end."""
        part = self._folder / f"{key}.part"
        size, done = 0, False
        file = await self._run(_create, part)
        try:
            async for chunk in in_chunks(pieces, CHUNK_BYTES):
                await self._run(_write, file, chunk)
                size += len(chunk)
            await self._run(self._finish, file, part)
            done = True
        finally:
            if not done:
                await self._run(_discard, file, part)
        return size

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Opens the file; its bytes are read as they are asked for."""
        file = await self._run(_open_at, self._folder / key, start)
        return self._pieces(file, length)

    async def delete(self, key: str) -> None:
        """Removes the file, and the unfinished one."""
        await self._run(_remove, self._folder / key)

    async def close(self) -> None:
        """Waits for what the disk is doing."""
        await asyncio.to_thread(self._threads.shutdown)
        if self._made is not None:
            self._made.cleanup()

    async def _pieces(self, file: FileIO, length: int | None) -> AsyncIterator[bytes]:
        left = CHUNK_BYTES if length is None else length
        try:
            while left and (chunk := await self._run(file.read, min(left, CHUNK_BYTES))):
                left -= 0 if length is None else len(chunk)
                yield chunk
        finally:
            file.close()

    def _finish(self, file: FileIO, part: Path) -> None:
        if self._sync:
            os.fsync(file.fileno())
        file.close()
        part.rename(part.with_suffix(""))
        if self._sync:
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, "the disk failed")
            raise Unavailable(f"The file storage is not available: {reason}.") from error


def gone() -> NotFound:
    """The error for bytes that are not there."""
    return NotFound("The storage has no bytes of this file.", code="content_missing")


async def in_chunks(pieces: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """The same bytes in chunks of at least `size`, except for the last, which may be of any size but empty."""
    gathered: list[bytes] = []
    held = 0
    async for piece in pieces:
        gathered.append(piece)
        held += len(piece)
        if held >= size:
            yield b"".join(gathered)
            gathered, held = [], 0
    if held:
        yield b"".join(gathered)


@asynccontextmanager
async def read_through(pieces: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes, for somebody who may not want all of them: where they come from is closed at the end."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


def _create(part: Path) -> FileIO:
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.open("wb", buffering=0)


def _write(file: FileIO, chunk: bytes) -> None:
    """Without a buffer of Python's, a write may be a short one: the next says why."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


class _Reading(FileIO):
    """A file that may be opened for a reader who is cancelled before its first byte: nobody is left to close it."""

    def __del__(self) -> None:
        self.close()


def _open_at(path: Path, start: int) -> FileIO:
    try:
        file = _Reading(path, "rb")
    except FileNotFoundError as error:
        raise gone() from error
    file.seek(start)
    return file


def _discard(file: FileIO, part: Path) -> None:
    file.close()
    part.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".part").unlink(missing_ok=True)
