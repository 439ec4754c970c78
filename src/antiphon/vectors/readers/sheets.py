"""XLSX: a sheet is a page, its name a heading, its rows a table; dates as ISO 8601 writes them."""

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Final
from xml.etree.ElementTree import Element

from antiphon.vectors.base import Block
from antiphon.vectors.readers.archive import Archive, attribute, every, found, local
from antiphon.vectors.readers.refused import Bounds, broken, pages_within
from antiphon.vectors.readers.tables import grid, table

MAIN: Final = "xl/workbook.xml"
COLUMNS_MAX: Final = 16_384
DATE_FORMATS: Final = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
"""The built-in number formats that are dates or times (ECMA-376, 18.8.30)."""
EPOCH_1900: Final = dt.datetime(1899, 12, 30)  # noqa: DTZ001 - a cell's time has no zone
EPOCH_1904: Final = dt.datetime(1904, 1, 1)  # noqa: DTZ001 - likewise
_QUOTED: Final = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')
_DATED: Final = re.compile(r"[ymdhs]", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"([A-Z]{1,3})[0-9]+")


def read_xlsx(content: bytes, bounds: Bounds) -> Iterator[Block]:
    """The blocks of a workbook."""
    archive = Archive(content, bounds)
    main = archive.related("", "officeDocument") or MAIN
    if main not in archive.names:
        raise broken("workbook", f"it has no {MAIN!r}")
    book = archive.tree(main)
    listed = found(book, "sheets")
    sheets = list(listed) if listed is not None else []
    pages_within(len(sheets), bounds)
    targets = archive.targets(main)
    shown = _Cells(archive, main, book)
    for page, sheet in enumerate(sheets, 1):
        name = targets.get(next((value for key, value in sheet.attrib.items() if key.endswith("}id")), ""), "")
        blocks = table(grid(shown.of(archive.each(name, "row"))), page)
        first = next(blocks, None)
        if first is not None:
            yield Block(text=sheet.get("name", ""), kind="heading", level=1, page=page)
            yield first
            yield from blocks


class _Cells:
    """What cells show: shared strings, and numbers as their formats have them."""

    def __init__(self, archive: Archive, main: str, book: Element) -> None:
        strings = archive.each(archive.related(main, "sharedStrings"), "si")
        self._strings = [_string(each) for each in strings]
        self._dates = _date_styles(archive.tree(archive.related(main, "styles")))
        properties = found(book, "workbookPr")
        since_1904 = properties is not None and attribute(properties, "date1904") in ("1", "true")
        self._epoch = EPOCH_1904 if since_1904 else EPOCH_1900
        self._kinds: dict[str, Callable[[str], str]] = {
            "s": lambda value: self._strings[int(value)],
            "b": lambda value: "TRUE" if value == "1" else "FALSE",
            "str": str,
            "e": str,
            "d": str,
        }

    def of(self, rows: Iterator[Element]) -> Iterator[tuple[int, int, str]]:
        """Row, column and text of each cell that has any."""
        for number, row in enumerate(rows):
            column = -1
            for cell in row:
                reference = _REFERENCE.fullmatch(cell.get("r", ""))
                column = _column(reference[1]) if reference else column + 1
                if column < COLUMNS_MAX and (text := self._text(cell)):
                    yield number, column, text

    def _text(self, cell: Element) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return _string(cell)
        value = next((each.text for each in cell if local(each) == "v"), None)
        if value is None:
            return ""
        try:
            if kind in self._kinds:
                return self._kinds[kind](value)
            return self._date(float(value)) if cell.get("s") in self._dates else _number(value)
        except (ValueError, IndexError, OverflowError):
            return value

    def _date(self, days: float) -> str:
        """A date, a time, or both; a day before the first is a duration, and stays a number."""
        moment = self._epoch + dt.timedelta(seconds=round(days * 86_400))
        if days < 1:
            return moment.time().isoformat()
        return moment.date().isoformat() if days == int(days) else moment.isoformat(" ")


def _string(element: Element) -> str:
    """Its text without the phonetic guides of Japanese names."""
    parts = (part for run in element for part in ([run] if local(run) in ("t", "is") else list(every([run], "r"))))
    return "".join(each.text or "" for part in parts for each in part.iter() if local(each) == "t")


def _number(value: str) -> str:
    """A number as it would be typed: what binary fractions left behind is rounded off."""
    return value if len(value) <= 15 else f"{float(value):.15g}"


def _date_styles(styles: Element) -> frozenset[str]:
    """The cell styles whose number format is a date's or a time's."""
    formats = found(styles, "numFmts")
    own = {each.get("numFmtId", ""): each.get("formatCode", "") for each in (formats if formats is not None else ())}
    dated = {id for id, code in own.items() if _DATED.search(_QUOTED.sub("", code).replace("General", ""))}
    dated |= {str(each) for each in DATE_FORMATS} - own.keys()
    used = found(styles, "cellXfs")
    return frozenset(
        str(at) for at, each in enumerate(used if used is not None else ()) if each.get("numFmtId") in dated
    )


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1
