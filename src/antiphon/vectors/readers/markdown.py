"""Markdown: headings, fenced code, tables; the rest in paragraphs, as it is written."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from antiphon.vectors.base import Block
from antiphon.vectors.readers.encoding import decoded
from antiphon.vectors.readers.refused import Bounds
from antiphon.vectors.readers.tables import table

_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)")
_FENCE: Final = re.compile(r"[ \t]*(`{3,}|~{3,})")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
_RULE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_BAR: Final = re.compile(r"(?<!\\)\|")


def read_markdown(content: bytes, _: Bounds) -> Iterator[Block]:
    """The blocks of a Markdown file."""
    return _Lines(decoded(content).splitlines()).blocks()


class _Lines:
    """A file's lines; `_held` are those of the paragraph that is being read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._held: list[str] = []

    def blocks(self) -> Iterator[Block]:
        for line in self._lines:
            if fence := _FENCE.match(line):
                yield from self._paragraph()
                yield Block(text="\n".join([line, *self._until(fence[1])]), kind="code")
            elif heading := _HEADING.match(line):
                yield from self._paragraph()
                yield Block(text=line[heading.end() :].rstrip("# \t"), kind="heading", level=len(heading[1]))
            elif len(self._held) == 1 and (under := _UNDERLINE.fullmatch(line)) and "|" not in self._held[0]:
                yield Block(text=self._held.pop().strip(), kind="heading", level=1 if under[1][0] == "=" else 2)
            elif self._held and "|" in self._held[-1] and "-" in line and _RULE.fullmatch(line):
                header = self._held.pop()
                yield from self._paragraph()
                yield from table(map(_cells, [header, *self._rows()]))
            elif line.strip():
                self._held.append(line)
            else:
                yield from self._paragraph()
        yield from self._paragraph()

    def _paragraph(self) -> Iterator[Block]:
        if self._held:
            yield Block(text="\n".join(self._held))
            self._held.clear()

    def _until(self, fence: str) -> Iterator[str]:
        for line in self._lines:
            yield line
            found = _FENCE.match(line)
            if found and found[1].startswith(fence) and not line.strip(" \t`~"):
                return

    def _rows(self) -> Iterator[str]:
        for line in self._lines:
            if "|" not in line:
                self._held += [line] if line.strip() else []
                return
            yield line


def _cells(row: str) -> list[str]:
    return [cell.replace("\\|", "|") for cell in _BAR.split(row.strip().removeprefix("|").removesuffix("|"))]
