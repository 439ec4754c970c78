"""Citations: what a model writes to cite becomes annotations, and annotations become markers again for the model.

Pure. A marker is `<|file-id|>` or `<|web-id|>`, with the one space before it. It may be split over any number of
deltas, so text that could be the beginning of one is held back until it is clear. A marker of what no search has
returned is an invention: it is taken out, and nothing is cited. What only looks like a marker stays.

A file's marker leaves no trace in the text. A page's becomes a link in Markdown, as OpenAI's answers have them, and the
annotation covers the link; a link to such a page that the model has written itself is covered alike.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from antiphon.engine.journal import Entry
from antiphon.ids import page_id
from antiphon.models.base import Cited, Text
from antiphon.wire.items import FileSearchCall, Item, Message, OutputText, WebSearchCall

_ID = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}"
_MARKER = re.compile(rf" ?<\|({_ID})\|>")
_BEGINNING = re.compile(r" ?(<(\|([A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\|?)?)?)?$")
_OURS = re.compile(r"file[-_]|web-[0-9a-f]{8}$")
_LINK = re.compile(r"\[[^\[\]\n]{0,500}\]\((https?://(?:[^\s()]|\([^\s()]*\)){1,2000})\)")
_LINK_CHARS = 2600
"""The longest link that is found where it comes in pieces."""

Annotations = Mapping[str, dict[str, Any]]
"""What may be cited: the annotation, but for its place, by the id that a marker has."""


def citable(items: Iterable[Item]) -> dict[str, dict[str, Any]]:
    """The files and pages that searches have returned."""
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        if isinstance(item, FileSearchCall):
            for result in item.results or ():
                id, name = str(result.get("file_id")), str(result.get("filename") or "unknown")
                found[id] = {"type": "file_citation", "file_id": id, "filename": name}
        elif isinstance(item, WebSearchCall):
            for result in item.results or ():
                url, title = str(result.get("url")), str(result.get("title") or result.get("url"))
                found.setdefault(page_id(url), {"type": "url_citation", "url": url, "title": title})
    return found


class Citer:
    """Finds the citations in one model call's text. `known` may grow between two calls of `feed`, never within."""

    def __init__(self, known: Annotations) -> None:
        self._known = known
        self._links = any(each["type"] == "url_citation" for each in known.values())
        self._held = ""
        self._said = ""  # the end of the text so far in which a link may have begun

    def feed(self, batch: Sequence[Entry]) -> list[Entry]:
        """The same events, with `Cited` after what cites."""
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
        if not self._held and "<" not in text and not text.endswith(" "):  # the usual case, and a fast one
            self._say(event, out)
            return
        self._held, at = "", 0
        for marker in _MARKER.finditer(text):
            found = self._cited(marker[1])
            if found is None:
                continue
            self._say(Text(text[at : marker.start()]), out)
            out += found
            self._said = "" if found else self._said  # no link goes through a citation
            at = marker.end()
        rest = text[at:]
        beginning = _BEGINNING.search(rest)
        if beginning is not None and beginning[0]:
            rest, self._held = rest[: beginning.start()], beginning[0]
        self._say(replace(event, text=rest), out)

    def _cited(self, id: str) -> list[Entry] | None:
        """What a marker becomes: a citation, nothing, or (None) itself."""
        annotation = self._known.get(id)
        if annotation is None:
            return [] if _OURS.match(id) else None
        if annotation["type"] == "file_citation":
            return [Cited(annotation)]
        link = _link(annotation["url"])
        return [Text(f" ({link}"), Cited(annotation, len(link)), Text(")")]

    def _say(self, event: Text, out: list[Entry]) -> None:
        """Text without markers, with the links in it cited."""
        text, before, at = event.text, len(self._said), 0
        if self._links and text:
            whole = self._said + text
            ends = 0
            for link in _LINK.finditer(whole):
                ends = link.end()
                annotation = self._known.get(page_id(link[1])) or self._known.get(page_id(_plain(link[1])))
                if annotation is not None:
                    out += [Text(text[at : ends - before]), Cited(annotation, ends - link.start())]
                    at = ends - before
            begun = whole.rfind("[", ends)
            self._said = whole[begun:] if begun >= 0 and len(whole) - begun <= _LINK_CHARS else ""
        if text[at:] or event.logprobs:
            out.append(replace(event, text=text[at:]) if at else event)

    def _release(self, out: list[Entry]) -> None:
        if self._held:
            held, self._held = self._held, ""
            self._say(Text(held), out)


def _link(url: str) -> str:
    return f"[{(urlsplit(url).hostname or url).removeprefix('www.')}]({url})"


def _plain(url: str) -> str:
    """The address without what some models add to it to say where a visitor comes from."""
    return re.sub(r"[?&]utm_source=[^&]*$", "", url)


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
        elif annotation.get("type") == "url_citation":
            text = _with_page_marker(annotation, text)
    return OutputText(text=text)


def _with_page_marker(annotation: dict[str, Any], text: str) -> str:
    """The link that stands for a marker becomes it again; one that the model wrote is left as it is."""
    url = str(annotation.get("url"))
    written, start = f" ({_link(url)})", annotation.get("start_index")
    if not isinstance(start, int) or not 2 <= start <= len(text) or not text.startswith(written, start - 2):
        return text
    return f"{text[: start - 2]} <|{page_id(url)}|>{text[start - 2 + len(written) :]}"


def _index(annotation: dict[str, Any], text: str) -> int:
    at = annotation.get("index")
    return at if isinstance(at, int) and 0 <= at <= len(text) else len(text)
