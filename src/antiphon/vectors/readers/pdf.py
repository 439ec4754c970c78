"""PDF: the text of each page, in the order in which the page is written."""

import ctypes
import re
from collections.abc import Iterator
from typing import Final

import pypdfium2.raw as pdfium

from antiphon.vectors.base import Block
from antiphon.vectors.readers.refused import Bounds, Refused, broken, pages_within

_HYPHEN: Final = re.compile("[\x02\ufffe]\n?")
"""What pdfium puts where a word was divided at the end of a line."""
_REASONS: Final = {
    pdfium.FPDF_ERR_FILE: "it cannot be opened",
    pdfium.FPDF_ERR_FORMAT: "its structure is damaged",
    pdfium.FPDF_ERR_PAGE: "a page is damaged",
}
_LOCKED: Final = {
    pdfium.FPDF_ERR_PASSWORD: "The file is an encrypted PDF: it cannot be read without its password.",
    pdfium.FPDF_ERR_SECURITY: "The file is an encrypted PDF, in a way that is not known here.",
}
_EMPTY_LINES: Final = re.compile(r"\n(?:[ \t]*\n)+")


def read_pdf(content: bytes, bounds: Bounds) -> Iterator[Block]:
    """The paragraphs of each page. Raises `Refused` if it is encrypted, broken, too long, or pictures only."""
    pdfium.FPDF_InitLibrary()
    document = pdfium.FPDF_LoadMemDocument64(content, len(content), None)
    if not document:
        error = pdfium.FPDF_GetLastError()
        if error in _LOCKED:
            raise Refused("invalid_file", _LOCKED[error])
        raise broken("PDF", _REASONS.get(error, "it cannot be read"))
    count = pdfium.FPDF_GetPageCount(document)
    pages_within(count, bounds)
    if not count:
        raise broken("PDF", "it has no pages")
    empty = True
    for number in range(count):
        text = _page_text(document, number)
        empty = empty and not text.strip()
        for paragraph in _EMPTY_LINES.split(text):
            yield Block(text=paragraph, page=number + 1)
    if empty:
        raise Refused(
            "invalid_file",
            f"No text was found on the PDF's {count} pages: they are scanned or drawn. Recognise its text (OCR) first.",
        )


def _page_text(document: "pdfium.FPDF_DOCUMENT", number: int) -> str:
    """A page's text; empty if the page is damaged, so that the others are not lost."""
    page = pdfium.FPDF_LoadPage(document, number)
    if not page:
        return ""
    text = pdfium.FPDFText_LoadPage(page)
    count = pdfium.FPDFText_CountChars(text) if text else 0
    words = ""
    if count > 0:
        # A character outside the first plane takes two units of UTF-16, and pdfium counts it once.
        room = ctypes.create_string_buffer(4 * (count + 1))
        units = pdfium.FPDFText_GetText(text, 0, count, ctypes.cast(room, ctypes.POINTER(ctypes.c_ushort)))
        words = room.raw[: 2 * max(0, units - 1)].decode("utf-16-le", "replace")
    pdfium.FPDFText_ClosePage(text)
    pdfium.FPDF_ClosePage(page)
    return _HYPHEN.sub("", words.replace("\r\n", "\n"))
