"""ODT, ODS and ODP: the documents, tables and slides of the OpenDocument format."""

from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from antiphon.vectors.base import Block
from antiphon.vectors.readers.archive import Archive, attribute, found, local
from antiphon.vectors.readers.refused import Bounds, broken
from antiphon.vectors.readers.tables import table

MAIN: Final = "content.xml"
REPEATED_MAX: Final = 1_000
"""A cell that is repeated more often is the emptiness beside a table."""
_UNSEEN: Final = frozenset({"tracked-changes", "annotation", "sequence-decls", "forms"})
_NAMED: Final = frozenset({"table", "page"})
"""Sheets and slides have names."""


def read_opendocument(content: bytes, bounds: Bounds) -> Iterator[Block]:
    """The blocks of a document, its sheets or slides counted as pages."""
    archive = Archive(content, bounds)
    if "Key" in archive.names or MAIN not in archive.names:
        raise broken("OpenDocument file", f"it has no {MAIN!r}")
    body = found(archive.tree(MAIN), "body")
    content_of = next(iter(body), None) if body is not None else None
    if content_of is None:
        return
    if local(content_of) not in ("spreadsheet", "presentation"):
        yield from _blocks(content_of, None)
        return
    pages = [each for each in content_of if local(each) in _NAMED]
    for number, page in enumerate(pages, 1):
        heading = Block(text=attribute(page, "name") or "", kind="heading", level=1, page=number)
        blocks = _blocks(page, number) if local(page) == "page" else table(_rows(page), number)
        first = next(blocks, None)
        if first is not None:
            yield heading
            yield first
            yield from blocks


def _blocks(parent: Element, page: int | None, depth: int = 0) -> Iterator[Block]:
    for each in parent:
        match local(each):
            case "h":
                value = attribute(each, "outline-level") or ""
                level = int(value) if value.isdecimal() and len(value) == 1 else 1
                yield Block(text=" ".join(text(each).split()), kind="heading", level=max(1, level), page=page)
            case "p":
                words = text(each)
                yield Block(text=f"{'  ' * (depth - 1)}- {words}" if depth and words else words, page=page)
            case "list":
                yield from _blocks(each, page, depth + 1)
            case "table":
                yield from table(_rows(each), page)
            case name if name not in _UNSEEN:
                yield from _blocks(each, page, depth)


def text(element: Element) -> str:
    """The text of a paragraph or cell, with its spaces and line ends."""
    return "".join(_words(element)).strip("\n")


def _words(element: Element) -> Iterator[str]:
    yield element.text or ""
    for each in element:
        match local(each):
            case "s":
                count = attribute(each, "c") or ""
                yield " " * (min(int(count), REPEATED_MAX) if count.isdecimal() and len(count) < 6 else 1)
            case "tab":
                yield "\t"
            case "line-break":
                yield "\n"
            case name if name not in _UNSEEN:
                yield from _words(each)
                if name == "p":
                    yield "\n"
        yield each.tail or ""


def _rows(element: Element) -> Iterator[list[str]]:
    for each in element:
        if local(each) == "table-row":
            yield _cells(each)
        elif local(each) in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _rows(each)


def _cells(row: Element) -> list[str]:
    cells: list[str] = []
    for each in row:
        if local(each) in ("table-cell", "covered-table-cell"):
            count = attribute(each, "number-columns-repeated") or "1"
            times = int(count) if count.isdecimal() and len(count) < 6 else 1
            cells += [text(each)] * (times if times <= REPEATED_MAX else 1)
    return cells
