"""Files become documents, each in a process of its own that cannot harm this one: `reader` says what it does.

The process knows nothing of this one's environment and has none of its open files; its time, memory and output are
bounded, and it is killed when nobody waits for it any more.
"""

import asyncio
import mmap
import os
import re
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

import msgspec

from antiphon.knowledge import ParsingConfig
from antiphon.stores.blobs import CHUNK_BYTES, in_chunks, read_through
from antiphon.vectors.base import Block, Document
from antiphon.vectors.reader import Refusal, Task
from antiphon.vectors.readers.refused import Bounds, Refused

PACKAGES: Final = ("antiphon", "msgspec", "pypdfium2", "charset_normalizer")
"""What the process imports, and therefore must find."""
_START: Final = (
    "import os, sys; "
    "os.closerange(3, 65536); "  # uvloop leaves open what is inheritable: uvicorn's port, say
    "sys.path[1:1] = sys.argv[1:-1]; "  # `-S`: the site's own start costs as much as all the rest
    "sys.modules['typing_extensions'] = None; "  # msgspec takes `typing` then, and 7 ms less
    "from antiphon.vectors.reader import main; main()"
)
_ENDING: Final = re.compile(r"[^a-z0-9]+")
_OUTPUT: Final = msgspec.msgpack.Decoder(Refusal | tuple[Block, ...])


class Parser:
    """Reads files, a few at once: the others wait for their turn."""

    def __init__(self, config: ParsingConfig) -> None:
        self._config = config
        self._turns = asyncio.Semaphore(config.at_once)

    async def parse(self, source: AsyncIterator[bytes], filename: str) -> Document:
        """A file's blocks. Raises `Refused`, with the reason, and whatever `source` raises."""
        async with self._turns:
            return await parse(source, filename, self._config)

    def spooled(self, source: AsyncIterator[bytes]) -> AbstractAsyncContextManager[IO[bytes]]:
        """The first half of it, for a source that may be slow: it takes no turn."""
        return _spooled(source, self._config.file_bytes_max)

    async def read(self, file: IO[bytes], filename: str) -> Document:
        """The second half."""
        async with self._turns:
            return await _read(file, filename, self._config)


async def parse(source: AsyncIterator[bytes], filename: str, config: ParsingConfig) -> Document:
    """The blocks of a file whose bytes `source` gives. Of `filename`, the ending counts where the bytes do not tell.

    Raises `Refused` for what cannot be read within the bounds, and whatever `source` raises.
    """
    async with _spooled(source, config.file_bytes_max) as file:
        return await _read(file, filename, config)


@asynccontextmanager
async def _spooled(source: AsyncIterator[bytes], bytes_max: int) -> AsyncIterator[IO[bytes]]:
    """A file without a name, which goes with the last process that has it open."""
    with tempfile.TemporaryFile() as file:
        size = 0
        async with read_through(source) as pieces:
            async for piece in in_chunks(pieces, CHUNK_BYTES):
                size += len(piece)
                if size > bytes_max:
                    message = f"The file is larger than the {bytes_max} bytes that are read of a file."
                    raise Refused("invalid_file", message)
                await asyncio.to_thread(file.write, piece)
        file.seek(0)
        yield file


async def _read(file: IO[bytes], filename: str, config: ParsingConfig) -> Document:
    with tempfile.TemporaryFile() as output:
        process = await _start(filename, config, (file, output))
        try:
            async with asyncio.timeout(config.time_s):
                status = await process.wait()
        except TimeoutError as error:
            raise _too_slow(config) from error
        finally:
            await _end(process)
        if status not in (0, 1):  # 1: a parser failed, and the output tells
            raise _crash(-status, config)
        blocks = await asyncio.to_thread(_result, output)
    if isinstance(blocks, Refusal):
        raise Refused(blocks.code, blocks.message)
    return Document(blocks=blocks)


async def _start(filename: str, config: ParsingConfig, files: tuple[IO[bytes], IO[bytes]]) -> Process:
    ending = _ENDING.sub("", filename.rpartition(".")[2].lower())
    task = Task(
        filename=ending[:20],
        bounds=Bounds(
            pages_max=config.pages_max, expanded_bytes_max=config.expanded_bytes_max, chars_max=config.chars_max
        ),
        cpu_s=config.cpu_s,
        time_s=config.time_s + 1,
        memory_bytes=config.memory_bytes,
    )
    arguments = ["-I", "-S", "-X", "utf8", "-c", _START, *_paths(), msgspec.json.encode(task).decode()]
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=files[0], stdout=files[1], stderr=DEVNULL, env={}, start_new_session=True
    )


def _paths() -> list[str]:
    """The folders in which the packages lie."""
    found = (find_spec(name) for name in PACKAGES)
    return list(dict.fromkeys(str(Path(each.origin).parents[1]) for each in found if each and each.origin))


async def _end(process: Process) -> None:
    """Kills the process, and what it may have started, if it is still there."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _result(output: IO[bytes]) -> Refusal | tuple[Block, ...]:
    """Decoded out of the file itself, so that it is not in memory twice."""
    try:
        with mmap.mmap(output.fileno(), 0, access=mmap.ACCESS_READ) as content, _viewed(content) as view:
            result: Refusal | tuple[Block, ...] = _OUTPUT.decode(view)
            return result
    except (ValueError, msgspec.DecodeError) as error:  # an empty file cannot be mapped
        raise Refused("server_error", "The file could not be read: its parser left no result.") from error


@contextmanager
def _viewed(content: mmap.mmap) -> Iterator[memoryview]:
    with memoryview(content) as view:
        yield view


def _too_slow(config: ParsingConfig) -> Refused:
    return Refused("invalid_file", f"To read the file took longer than the {config.time_s} seconds that are allowed.")


def _crash(number: int, config: ParsingConfig) -> Refused:
    """What a signal that ended the process means."""
    if number == signal.SIGALRM:
        return _too_slow(config)
    if number == signal.SIGXCPU:
        bound = f"the {config.cpu_s} seconds of a processor that are allowed"
        return Refused("invalid_file", f"To read the file, more than {bound} are needed.")
    if number == signal.SIGKILL:
        return Refused("server_error", "The system killed the file's parser, most likely for want of memory.")
    name = signal.Signals(number).name if number in set(signal.Signals) else f"status {-number}"
    bound = f"{config.memory_bytes} bytes of memory"
    return Refused(
        "invalid_file", f"The file's parser crashed ({name}): the file is damaged, or needs more than {bound}."
    )


__all__ = ["Parser", "Refused", "parse"]
