"""DOCX: headings by their styles' outline level, paragraphs, lists, tables, foot- and endnotes."""

import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from antiphon.vectors.base import Block
from antiphon.vectors.readers.archive import Archive, attribute, every, found, local
from antiphon.vectors.readers.refused import Bounds, broken
from antiphon.vectors.readers.tables import table

MAIN: Final = "word/document.xml"
LEVELS: Final = 9
"""Outline levels that are headings; the one after them is body text."""
_NAMED: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
_INLINE: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}
_UNSEEN: Final = frozenset({"Fallback", "del", "moveFrom", "instrText", "delText", "pPr", "rPr"})
"""What was deleted, what a field is made of, and the second form of what comes in two."""


def read_docx(content: bytes, bounds: Bounds) -> Iterator[Block]:
    """The blocks of a Word document."""
    archive = Archive(content, bounds)
    main = archive.related("", "officeDocument") or MAIN
    if main not in archive.names:
        raise broken("Word document", f"it has no {MAIN!r}")
    styles = archive.tree(archive.related(main, "styles"))
    body = found(archive.tree(main), "body")
    yield from _blocks(body if body is not None else Element("body"), _levels(styles))
    for notes in ("footnotes", "endnotes"):
        for note in archive.tree(archive.related(main, notes)):
            if attribute(note, "type") is None:
                yield Block(text="\n".join(text(each) for each in every(note, "p")))


def _levels(styles: Element) -> dict[str, int]:
    """The heading level of each style that has one, by the style's id."""
    levels: dict[str, int] = {}
    parents: dict[str, str] = {}
    for style in every(styles, "style"):
        id = attribute(style, "styleId") or ""
        name, based = found(style, "name"), found(style, "basedOn")
        named = (attribute(name, "val") or "") if name is not None else ""
        if level := _outline(style):
            levels[id] = level
        elif heading := _NAMED.fullmatch(named):
            levels[id] = int(heading[1])
        elif named.lower() == "title":
            levels[id] = 1
        elif based is not None:
            parents[id] = attribute(based, "val") or ""
    for id, parent in parents.items():
        if parent in levels:
            levels[id] = levels[parent]
    return levels


def _outline(element: Element) -> int:
    """The heading level that an element's own properties set; 0 if none."""
    level = found(element, "pPr", "outlineLvl")
    value = (attribute(level, "val") or "") if level is not None else ""
    return int(value) + 1 if value.isdecimal() and int(value) < LEVELS else 0


def _blocks(parent: Element, levels: dict[str, int]) -> Iterator[Block]:
    for each in parent:
        match local(each):
            case "p":
                yield _paragraph(each, levels)
            case "tbl":
                yield from table(_rows(each))
            case "sdt" | "sdtContent" | "ins" | "moveTo" | "customXml" | "smartTag" | "AlternateContent" | "Choice":
                yield from _blocks(each, levels)


def _paragraph(paragraph: Element, levels: dict[str, int]) -> Block:
    style = found(paragraph, "pPr", "pStyle")
    level = _outline(paragraph) or levels.get((attribute(style, "val") or "") if style is not None else "", 0)
    words = text(paragraph)
    if level:
        return Block(text=" ".join(words.split()), kind="heading", level=level)
    if found(paragraph, "pPr", "numPr") is not None and words:
        depth = found(paragraph, "pPr", "numPr", "ilvl")
        value = (attribute(depth, "val") or "") if depth is not None else ""
        return Block(text=f"{'  ' * (int(value) if value.isdecimal() and len(value) == 1 else 0)}- {words}")
    return Block(text=words)


def text(element: Element) -> str:
    """What is to be read of a paragraph, or of something within it."""
    return "".join(_words(element))


def _words(element: Element) -> Iterator[str]:
    for each in element:
        name = local(each)
        if name == "t":
            yield each.text or ""
        elif name in _INLINE:
            yield _INLINE[name]
        elif name not in _UNSEEN:
            if name == "p":  # of a text box within the paragraph
                yield "\n"
            yield from _words(each)


def _rows(element: Element) -> Iterator[list[str]]:
    for each in element:
        if local(each) == "tr":
            yield [text(cell) for cell in _cells(each)]
        elif local(each) in ("sdt", "sdtContent", "ins"):
            yield from _rows(each)


def _cells(row: Element) -> Iterator[Element]:
    for each in row:
        if local(each) == "tc":
            yield each
        elif local(each) in ("sdt", "sdtContent"):
            yield from _cells(each)
