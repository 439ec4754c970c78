"""PPTX: a slide is a page, its title a heading; text, tables and notes in the order in which they are drawn."""

from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from antiphon.vectors.base import Block
from antiphon.vectors.readers.archive import Archive, attribute, every, found, local
from antiphon.vectors.readers.refused import Bounds, broken, pages_within
from antiphon.vectors.readers.tables import table

MAIN: Final = "ppt/presentation.xml"
TITLES: Final = frozenset({"title", "ctrTitle"})
UNSAID: Final = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})
"""What stands on every slide."""


def read_pptx(content: bytes, bounds: Bounds) -> Iterator[Block]:
    """The blocks of a presentation."""
    archive = Archive(content, bounds)
    main = archive.related("", "officeDocument") or MAIN
    if main not in archive.names:
        raise broken("presentation", f"it has no {MAIN!r}")
    order = found(archive.tree(main), "sldIdLst")
    targets = archive.targets(main)
    slides = [targets.get(_relation(each), "") for each in (order if order is not None else ())]
    pages_within(len(slides), bounds)
    for page, slide in enumerate(slides, 1):
        yield from _shapes(archive.tree(slide), page)
        if notes := archive.related(slide, "notesSlide"):
            said = [block.text for block in _shapes(archive.tree(notes), page) if block.text.strip()]
            if said:
                yield Block(text="Notes: " + "\n".join(said), page=page)


def _relation(slide: Element) -> str:
    """The id of its relation; the slide has another attribute of that name, without a namespace."""
    return next((value for key, value in slide.attrib.items() if key.endswith("}id")), "")


def _shapes(element: Element, page: int) -> Iterator[Block]:
    for each in element:
        match local(each):
            case "sp":
                yield from _shape(each, page)
            case "tbl":
                yield from table(([text(cell) for cell in every(row, "tc")] for row in every(each, "tr")), page)
            case "Fallback":
                pass
            case _:
                yield from _shapes(each, page)


def _shape(shape: Element, page: int) -> Iterator[Block]:
    place = found(shape, "nvSpPr", "nvPr", "ph")
    kind = attribute(place, "type") if place is not None else None
    body = found(shape, "txBody")
    if body is None or kind in UNSAID:
        return
    words = text(body)
    if kind in TITLES:
        yield Block(text=" ".join(words.split()), kind="heading", level=1, page=page)
    else:
        yield Block(text=words, page=page)


def text(body: Element) -> str:
    """The paragraphs of a shape or a cell, one on a line."""
    return "\n".join("".join(_words(each)) for each in body.iter() if local(each) == "p")


def _words(paragraph: Element) -> Iterator[str]:
    for each in paragraph.iter():
        match local(each):
            case "t":
                yield each.text or ""
            case "br":
                yield "\n"
            case "tab":
                yield "\t"
