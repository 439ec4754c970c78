"""EPUB: the chapters of a book, which are pages of HTML, in the order of its spine."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from antiphon.vectors.base import Block
from antiphon.vectors.readers.archive import Archive, beside, local
from antiphon.vectors.readers.encoding import decoded
from antiphon.vectors.readers.markup import html
from antiphon.vectors.readers.refused import Bounds, Refused, broken

CONTAINER: Final = "META-INF/container.xml"


def read_epub(content: bytes, bounds: Bounds) -> Iterator[Block]:
    """The blocks of a book. Raises `Refused` for one that is locked to a device."""
    archive = Archive(content, bounds)
    if "META-INF/rights.xml" in archive.names:
        raise Refused("invalid_file", "The file is encrypted: it is a book with digital rights management.")
    files = (each.get("full-path", "") for each in archive.tree(CONTAINER).iter() if local(each) == "rootfile")
    package = next(files, "")
    if package not in archive.names:
        raise broken("EPUB book", f"its {CONTAINER!r} names no package")
    items: dict[str, str] = {}
    order: list[str] = []
    for each in archive.tree(package).iter():
        if local(each) == "item":
            items[each.get("id", "")] = beside(package, unquote(each.get("href", "")))
        elif local(each) == "itemref":
            order.append(each.get("idref", ""))
    for id in dict.fromkeys(order):
        yield from html(decoded(b"".join(archive.pieces(items.get(id, "")))))
