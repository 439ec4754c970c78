"""Plain text, source code, JSON and lines of JSON: what is text already, in paragraphs."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from antiphon.vectors.base import Block
from antiphon.vectors.readers.encoding import decoded
from antiphon.vectors.readers.refused import Bounds

PACKED_CHARS: Final = 1_500
"""Short lines that belong together are put into one block up to this length."""
REWRITTEN_CHARS_MAX: Final = 16 * 2**20
"""JSON up to this length is written anew if it stands on few long lines."""
LONG_LINE: Final = 500
INLINE_CHARS: Final = 100
_EMPTY_LINES: Final = re.compile(r"\n(?:[ \t]*\n)+")
_DEFINITIONS: Final = re.compile(r"\n(?:[ \t]*\n)+(?=\S)")


def read_text(content: bytes, _: Bounds) -> Iterator[Block]:
    """Paragraphs. A form feed begins a page."""
    pages = decoded(content).replace("\r\n", "\n").split("\f")
    for number, page in enumerate(pages, 1):
        for paragraph in _cut(page, _EMPTY_LINES):
            yield Block(text=paragraph, page=number if len(pages) > 1 else None)


def read_code(content: bytes, _: Bounds) -> Iterator[Block]:
    """Source code, cut where an empty line is followed by one that is not indented."""
    return code(decoded(content).replace("\r\n", "\n"))


def code(text: str) -> Iterator[Block]:
    """A source text's definitions."""
    return (Block(text=each, kind="code") for each in _cut(text, _DEFINITIONS))


def read_json(content: bytes, _: Bounds) -> Iterator[Block]:
    """JSON as it stands, if it stands on lines of a readable length; otherwise written anew, indented."""
    text = decoded(content)
    if text.count("\n") * LONG_LINE > len(text) or len(text) > REWRITTEN_CHARS_MAX:
        return code(text.replace("\r\n", "\n"))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # JSON with comments, say: it can still be read
        return code(text)
    return packed(_members(value))


def read_json_lines(content: bytes, _: Bounds) -> Iterator[Block]:
    """A JSON value on each line."""
    return packed(decoded(content).splitlines())


def packed(lines: Iterable[str]) -> Iterator[Block]:
    """Blocks of whole lines."""
    held, room = list[str](), PACKED_CHARS
    for line in lines:
        if held and room < len(line):
            yield Block(text="\n".join(held), kind="code")
            held, room = [], PACKED_CHARS
        held.append(line)
        room -= len(line) + 1
    yield Block(text="\n".join(held), kind="code")


def _members(value: object) -> Iterator[str]:
    """The members of a list or object, each with its name; of something else, itself."""
    if isinstance(value, dict):
        yield from (f"{json.dumps(name, ensure_ascii=False)}: {_written(each)}" for name, each in value.items())
    else:
        yield from (_written(each) for each in (value if isinstance(value, list) else [value]))


def _written(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= INLINE_CHARS else json.dumps(value, ensure_ascii=False, indent=1)


def _cut(text: str, seams: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for seam in seams.finditer(text):
        yield text[start : seam.start()]
        start = seam.end()
    yield text[start:]
