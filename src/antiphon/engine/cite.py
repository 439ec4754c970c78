"""Citations: markers in what a model says become annotations, and annotations become markers again for the model.

Pure. A marker is `<|file-id|>`, with the one space before it. It may be split over any number of deltas, so text that
could be the beginning of one is held back until it is clear. A marker of a file that no search has returned is an
invention: it is taken out, and nothing is cited. What only looks like a marker stays.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from antiphon.engine.journal import Entry
from antiphon.models.base import Cited, Text
from antiphon.wire.items import FileSearchCall, Item, Message, OutputText

_ID = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}"
_MARKER = re.compile(rf" ?<\|({_ID})\|>")
_BEGINNING = re.compile(r" ?(<(\|([A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\|?)?)?)?$")
_FILE = re.compile(r"file[-_]")


def citable(items: Iterable[Item]) -> dict[str, str]:
    """The files that searches have returned: id -> name."""
    return {
        str(result.get("file_id")): str(result.get("filename") or "unknown")
        for item in items
        if isinstance(item, FileSearchCall)
        for result in item.results or ()
    }


class Citer:
    """Takes the markers out of one model call's text. `names` may grow between two calls of `feed`, never within."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._held = ""

    def feed(self, batch: Sequence[Entry]) -> list[Entry]:
        """The same events, with `Cited` in the place of markers."""
        out: list[Entry] = []
        for event in batch:
            if isinstance(event, Text):
                self._text(event, out)
            else:
                self._release(out)
                out.append(event)
        return out

    def _text(self, event: Text, out: list[Entry]) -> None:
        text = self._held + event.text
        self._held, at = "", 0
        for marker in _MARKER.finditer(text):
            found = self._annotation(marker[1])
            if found is None:
                continue
            if marker.start() > at:
                out.append(Text(text[at : marker.start()]))
            out += found
            at = marker.end()
        rest = text[at:]
        beginning = _BEGINNING.search(rest)
        if beginning is not None and beginning[0]:
            rest, self._held = rest[: beginning.start()], beginning[0]
        if rest or event.logprobs:
            out.append(replace(event, text=rest))

    def _annotation(self, id: str) -> list[Entry] | None:
        """What a marker becomes: a citation, nothing, or (None) itself."""
        if id in self._names:
            return [Cited({"type": "file_citation", "file_id": id, "filename": self._names[id]})]
        return [] if _FILE.match(id) else None

    def _release(self, out: list[Entry]) -> None:
        if self._held:
            out.append(Text(self._held))
            self._held = ""


def marked(item: Item) -> Item:
    """An assistant's message as the model wrote it: with the markers of its citations."""
    if not isinstance(item, Message) or isinstance(item.content, str):
        return item
    if not any(isinstance(part, OutputText) and part.annotations for part in item.content):
        return item
    return replace(
        item, content=[_with_markers(part) if isinstance(part, OutputText) else part for part in item.content]
    )


def _with_markers(part: OutputText) -> OutputText:
    text = part.text
    for annotation in reversed(part.annotations or []):
        if annotation.get("type") == "file_citation":
            at = _index(annotation, text)
            text = f"{text[:at]} <|{annotation.get('file_id')}|>{text[at:]}"
    return OutputText(text=text)


def _index(annotation: dict[str, Any], text: str) -> int:
    at = annotation.get("index")
    return at if isinstance(at, int) and 0 <= at <= len(text) else len(text)
