"""Pages of the web as text: fetched through the guard, read in a process of their own, like any other file."""

import re
from collections.abc import AsyncIterator
from typing import Protocol

from antiphon.errors import InvalidRequest
from antiphon.exchange import Replay
from antiphon.fetch import Fetched
from antiphon.vectors.base import Document
from antiphon.vectors.readers.refused import Refused

AROUND_CHARS = 300
PASSAGES_MAX = 20


class Fetches(Protocol):
    """What fetches: `fetch.Fetcher`, or a test's."""

    async def get(self, url: str, *, param: str | None = None, replay: Replay) -> Fetched:
        """What the URL names. Raises `InvalidRequest`."""
        ...


class Reads(Protocol):
    """What makes text of files: `vectors.parse.Parser`, or a test's."""

    async def parse(self, source: AsyncIterator[bytes], filename: str) -> Document:
        """The file's text. Raises `Refused`."""
        ...


class Pages:
    """Opens pages."""

    def __init__(self, fetcher: Fetches, reader: Reads, *, chars_max: int) -> None:
        self._fetcher = fetcher
        self._reader = reader
        self._chars_max = chars_max

    async def open(self, url: str, replay: Replay) -> str:
        """The page's beginning. Raises `InvalidRequest` for a page that cannot be had."""
        text = await self._text(url, replay)
        if len(text) <= self._chars_max:
            return text
        return f"{text[: self._chars_max]}\n[The page has {len(text)} characters; the rest is left out.]"

    async def find(self, url: str, pattern: str, *, replay: Replay) -> str:
        """The places of the page where `pattern` stands, whatever its case. Raises as `open`."""
        text = await self._text(url, replay)
        return passages(text, pattern, self._chars_max) or f"{pattern!r} does not stand on the page."

    async def _text(self, url: str, replay: Replay) -> str:
        fetched = await self._fetcher.get(url, replay=replay)
        name = "page.html" if fetched.content_type in ("text/html", "application/xhtml+xml") else fetched.name
        try:
            document = await self._reader.parse(_once(fetched.content), name)
        except Refused as refused:
            raise InvalidRequest(f"The page cannot be read: {refused.message}", code="url_not_read") from refused
        return "\n\n".join(block.text for block in document.blocks)


def passages(text: str, pattern: str, chars_max: int) -> str:
    """What stands around each occurrence; what overlaps is one passage. Pure."""
    spans: list[tuple[int, int]] = []
    for match in re.finditer(re.escape(pattern), text, re.IGNORECASE):
        start, end = max(0, match.start() - AROUND_CHARS), match.end() + AROUND_CHARS
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        elif len(spans) < PASSAGES_MAX:
            spans.append((start, end))
    return "\n[...]\n".join(text[start:end].strip() for start, end in spans)[:chars_max]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
