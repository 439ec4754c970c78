"""RTF: its text, in the code page that it names; what is formatting is left out."""

import re
from collections.abc import Iterator
from typing import Final

from antiphon.vectors.base import Block
from antiphon.vectors.readers.refused import Bounds

_TOKEN: Final = re.compile(
    rb"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
_BREAKS: Final = {b"par": "\n\n", b"sect": "\n\n", b"page": "\n\n", b"row": "\n", b"line": "\n", b"tab": "\t"}
_SIGNS: Final = {
    b"cell": " | ",
    b"emdash": "\u2014",
    b"endash": "\u2013",
    b"bullet": "\u2022",
    b"lquote": "\u2018",
    b"rquote": "\u2019",
    b"ldblquote": "\u201c",
    b"rdblquote": "\u201d",
}
_UNSEEN: Final = frozenset(
    b"fonttbl colortbl stylesheet info pict object header headerl headerr footer footerl footerr themedata "
    b"colorschememapping datastore latentstyles listtable listoverridetable rsidtbl generator fldinst xmlnstbl".split()
)
"""Groups whose text is none of the document's."""
_ESCAPED: Final = {b"~": "\u00a0", b"_": "-", b"-": "", b"\\": "\\", b"{": "{", b"}": "}", b"\n": "\n\n", b"\r": "\n\n"}


def read_rtf(content: bytes, _: Bounds) -> Iterator[Block]:
    """The paragraphs of a document."""
    for paragraph in _Text(content).read().split("\n\n"):
        yield Block(text=paragraph)


class _Text:
    """A walk over a file's tokens; groups remember if they are seen, and what a Unicode character replaces."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._parts: list[str] = []
        self._bytes = bytearray()  # of the code page, until a character of another kind comes
        self._page = "cp1252"
        self._seen = True
        self._fallback = 1
        self._groups: list[tuple[bool, int]] = []
        self._skip = 0

    def read(self) -> str:
        for found in _TOKEN.finditer(self._content):
            word, number, code, sign, brace, plain = found.groups()
            if brace:
                self._group(brace)
            elif word:
                self._word(word, int(number) if number else None)
            elif sign == b"*":
                self._seen = False  # a group that older programs do not know, and pass over
            elif sign:
                self._say(_ESCAPED.get(sign, ""))
            elif code:
                self._raw(bytes.fromhex(code.decode()))
            elif plain:
                self._raw(plain)
        self._flush()
        return "".join(self._parts)

    def _group(self, brace: bytes) -> None:
        self._flush()
        self._skip = 0
        if brace == b"{":
            self._groups.append((self._seen, self._fallback))
        elif self._groups:
            self._seen, self._fallback = self._groups.pop()

    def _word(self, word: bytes, number: int | None) -> None:
        if word in _UNSEEN:
            self._seen = False
        elif word == b"ansicpg" and number:
            self._page = f"cp{number}" if number != 65001 else "utf-8"
        elif word == b"uc" and number is not None:
            self._fallback = max(0, number)
        elif word == b"u" and number is not None:
            self._say(chr(number % 65536))
            self._skip = self._fallback
        elif sign := _BREAKS.get(word) or _SIGNS.get(word):
            self._say(sign)

    def _raw(self, text: bytes) -> None:
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        if self._seen:
            self._bytes += text[skipped:]

    def _say(self, text: str) -> None:
        if self._seen:
            self._flush()
            self._parts.append(text)

    def _flush(self) -> None:
        if not self._bytes:
            return
        try:
            self._parts.append(self._bytes.decode(self._page, "replace"))
        except LookupError:  # a code page that Python has not
            self._parts.append(self._bytes.decode("cp1252", "replace"))
        self._bytes.clear()
