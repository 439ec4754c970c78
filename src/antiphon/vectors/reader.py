"""The process that reads one file: `parse` starts it with the file as its input and takes the blocks from its output.

It bounds itself before it looks at the file, since a broken or hostile file may make a parser do anything. The output
is an array of blocks in MessagePack, or a `Refusal`.
"""

import re
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from io import BufferedWriter
from types import TracebackType
from typing import Final

import msgspec
from msgspec import Struct

from antiphon.vectors.base import Block
from antiphon.vectors.readers.kinds import read
from antiphon.vectors.readers.refused import Bounds, Code, Refused

BLOCK_CHARS: Final = 100
"""What a block counts for beside its text, so that there cannot be too many of them."""
MERGED_CHARS: Final = 400
"""Paragraphs that are shorter together become one block: a pointed dialogue is no hundred thousand of them."""
_UNWANTED: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_LINE_ENDS: Final = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")


class Task(Struct, frozen=True, kw_only=True):
    """What to read, and within which bounds. `filename` may be no more than the name's ending."""

    filename: str
    bounds: Bounds
    cpu_s: int
    time_s: int
    memory_bytes: int


class Refusal(Struct, frozen=True, kw_only=True):
    """Takes the place of the blocks where a file is not read."""

    code: Code
    message: str


def main() -> None:
    """Reads the file on standard input; the task stands in the last argument."""
    task = msgspec.json.decode(sys.argv[-1], type=Task)
    with open(1, "wb", closefd=False) as output:
        sys.excepthook = _Hook(output)
        _limit(task)
        try:
            with open(0, "rb", closefd=False) as file:
                content = file.read()
            write(read(content, task.filename, task.bounds), output, task.bounds.chars_max)
        except Refused as refused:
            _refuse(output, refused.code, refused.message)
        except MemoryError:
            bound = f"the {task.memory_bytes} bytes of memory that are allowed"
            _refuse(output, "invalid_file", f"To read the file, more than {bound} are needed.")
        except RecursionError:
            _refuse(output, "invalid_file", "The file is no valid document: it is nested too deeply.")


def write(blocks: Iterable[Block], output: BufferedWriter, chars_max: int) -> None:
    """Writes the blocks that have any text, as they come. Raises `Refused` where there is none, or too much."""
    encoder = msgspec.msgpack.Encoder()
    output.write(b"\xdd\0\0\0\0")  # an array; its length is known at the end
    count, room = 0, chars_max
    for block in merged(map(clean, blocks)):
        room -= len(block.text) + BLOCK_CHARS
        if room < 0:
            raise Refused("invalid_file", f"The file has more than the {chars_max} characters that are read of a file.")
        output.write(encoder.encode(block))
        count += 1
    if not count:
        raise Refused("invalid_file", "No text was found in the file.")
    output.seek(1)
    output.write(count.to_bytes(4, "big"))


def clean(block: Block) -> Block:
    """The block without what no database and no model takes: control characters, halves of surrogate pairs."""
    text = _UNWANTED.sub("", _LINE_ENDS.sub("\n", block.text)).rstrip().lstrip("\n")
    return block if text == block.text else msgspec.structs.replace(block, text=text)


def merged(blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks that have text, the shortest paragraphs of a page together: the document's text is the same."""
    held: Block | None = None
    for block in blocks:
        if not block.text:
            continue
        if held is None:
            held = block
        elif (
            held.kind == block.kind == "text"
            and held.page == block.page
            and len(held.text) + len(block.text) < MERGED_CHARS
        ):
            held = Block(text=f"{held.text}\n\n{block.text}", page=held.page)
        else:
            yield held
            held = block
    if held is not None:
        yield held


class _Hook:
    """What becomes of an error in a parser: its kind is told, since the process has no log."""

    def __init__(self, output: BufferedWriter) -> None:
        self._output = output

    def __call__(self, kind: type[BaseException], *_: BaseException | TracebackType | None) -> None:
        _refuse(self._output, "server_error", f"The file could not be read: its parser failed with {kind.__name__}.")


def _refuse(output: BufferedWriter, code: Code, message: str) -> None:
    output.seek(0)
    output.truncate()
    output.write(msgspec.msgpack.encode(Refusal(code=code, message=message)))
    output.flush()


def _limit(task: Task) -> None:
    """What the system is to enforce. Where it cannot, the process that started this one still watches the time."""
    signal.setitimer(signal.ITIMER_REAL, task.time_s)
    for what, bound in (
        (resource.RLIMIT_CPU, task.cpu_s),
        (resource.RLIMIT_AS, task.memory_bytes),
        (resource.RLIMIT_FSIZE, 8 * task.bounds.chars_max + 2**20),  # a character has four bytes at most
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = bound + 1 if hard == resource.RLIM_INFINITY else min(bound + 1, hard)
        resource.setrlimit(what, (min(bound, most), most))  # at the first, a signal tells which bound it was
