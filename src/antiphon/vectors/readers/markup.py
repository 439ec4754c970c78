"""HTML: title, headings, paragraphs, lists, tables and code, without what a browser would not show."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Final

from antiphon.vectors.base import Block
from antiphon.vectors.readers.encoding import decoded
from antiphon.vectors.readers.refused import Bounds
from antiphon.vectors.readers.tables import table

_UNSEEN: Final = "script style template noscript svg math iframe object select nav"
UNSEEN: Final = frozenset(_UNSEEN.split())
"""Elements that are left out with all that they hold; a page's navigation is none of its text."""
_PARTS: Final = (
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form "
    "header hr html legend li main ol p pre section summary table tbody td tfoot th thead title tr ul "
    "h1 h2 h3 h4 h5 h6"
)
PARTS: Final = frozenset(_PARTS.split())
"""Elements whose beginning and end end a paragraph."""
HEADINGS: Final = {"title": 1, "h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
CHARSET_BYTES: Final = 1024
"""As HTML has it, an encoding is declared so far from the beginning at most."""
_CHARSET: Final = re.compile(rb"charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)
FED_CHARS: Final = 64 * 1024
DEEP: Final = 64
"""Lists are indented no deeper."""
BREAK: Final = "\v"
"""Stands for a line break until the paragraph is complete: other line ends in a page's source mean nothing."""
_VOID: Final = "area base br col embed hr img input link meta source track wbr"
VOID: Final = frozenset(_VOID.split())
"""Elements that have no end."""


def read_html(content: bytes, _: Bounds) -> Iterator[Block]:
    """The blocks of a page."""
    declared = _CHARSET.search(content[:CHARSET_BYTES])
    return html(decoded(content, declared[1].decode() if declared else None))


def html(text: str, page: int | None = None) -> Iterator[Block]:
    """Likewise, of a page that is decoded already."""
    parser = _Page(page)
    for start in range(0, len(text), FED_CHARS):
        parser.feed(text[start : start + FED_CHARS])
        yield from parser.taken()
    parser.close()
    parser.finish()
    yield from parser.taken()


class _Page(HTMLParser):
    """Gathers text until a part ends. Within a table, parts are the contents of its cells."""

    def __init__(self, page: int | None) -> None:
        super().__init__(convert_charrefs=True)
        self._page = page
        self._blocks: list[Block] = []
        self._text: list[str] = []
        self._part = "p"
        self._title = ""
        self._unseen: list[str] = []  # the element that is left out, once for each of its name that is open
        self._lists = 0
        self._code = False
        self._tables = 0
        self._rows: list[list[str]] = []

    def taken(self) -> list[Block]:
        """The blocks since the last time."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def finish(self) -> None:
        """Ends what the page left open."""
        self._end_part()
        self._end_table()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen:
            self._unseen += [tag] if tag == self._unseen[0] else []
        elif tag in UNSEEN or _hidden(attrs):
            self._unseen += [] if tag in VOID else [tag]
        elif tag == "br":
            self._text.append(BREAK)
        elif tag in PARTS:
            self._begin(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen.pop()
        elif tag in PARTS:
            self._end_part()
            self._part = "p"
            match tag:
                case "pre":
                    self._code = False
                case "ul" | "ol":
                    self._lists = max(0, self._lists - 1)
                case "table":
                    self._tables = max(0, self._tables - 1)
                    if not self._tables:
                        self._end_table()

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._text.append(data)

    def _begin(self, tag: str) -> None:
        self._end_part()
        self._part = tag
        match tag:
            case "pre":
                self._code = True
            case "ul" | "ol":
                self._lists += 1
            case "table":
                self._tables += 1
            case "tr" if self._tables == 1:
                self._rows.append([])
            case "td" | "th" if self._tables == 1 and self._rows:
                self._rows[-1].append("")

    def _end_part(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        if not text or text.isspace():
            return
        if self._tables and self._rows and self._rows[-1]:
            self._rows[-1][-1] += " " + text
        elif self._code:
            self._blocks.append(Block(text=text.replace(BREAK, "\n"), kind="code", page=self._page))
        else:
            self._add("\n".join(" ".join(line.split()) for line in text.split(BREAK)).strip())

    def _add(self, text: str) -> None:
        level = HEADINGS.get(self._part, 0)
        if level == 1 and text == self._title:
            return  # the page says its title again
        if self._part == "title":
            self._title = text
        if level:
            self._blocks.append(Block(text=text, kind="heading", level=level, page=self._page))
        elif self._part == "li":
            self._blocks.append(Block(text=f"{'  ' * min(self._lists - 1, DEEP)}- {text}", page=self._page))
        else:
            self._blocks.append(Block(text=text, page=self._page))

    def _end_table(self) -> None:
        rows, self._rows = self._rows, []
        self._blocks += table(rows, self._page)


def _hidden(attrs: list[tuple[str, str | None]]) -> bool:
    for name, value in attrs:
        if name == "hidden" or (name == "style" and "display:none" in (value or "").replace(" ", "").lower()):
            return True
    return False
