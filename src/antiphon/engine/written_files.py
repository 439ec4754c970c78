"""Citations of files that code has written: where an answer names one by its path or its name.

Pure. The text stays as it is, `sandbox:` links included, since clients replace them by what the annotation says. A
name may be split over any number of deltas, so text that could be the beginning of one is held back.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from antiphon.engine.journal import Entry
from antiphon.models.base import Cited, Text
from antiphon.tools.code_interpreter import container_of
from antiphon.wire.items import Item, Memory

NAME_CHARS_MIN: Final = 5
"""A shorter name, or one without an ending, is too likely to be a word: its file is cited by its path only."""


class WrittenFile(Struct, frozen=True):
    """A file in a container."""

    container_id: str
    file_id: str


def written_files(items: Iterable[Item]) -> dict[str, WrittenFile]:
    """The files that code has written, by their paths in the container."""
    found: dict[str, WrittenFile] = {}
    for item in items:
        memory: Memory | None = getattr(item, "memory", None)
        container = container_of(item) if memory and memory.files else None
        if memory and container:
            found |= {path: WrittenFile(container, file_id) for path, file_id in memory.files.items()}
    return found


class WrittenFileCiter:
    """Finds the names in one model call's text."""

    def __init__(self, files: Mapping[str, WrittenFile]) -> None:
        self._files = files
        self._paths: dict[str, str] = {}
        for path in files:
            name = path.rpartition("/")[2]
            names = [name] if "." in name and len(name) >= NAME_CHARS_MIN else []
            self._paths |= dict.fromkeys([f"sandbox:{path}", path, *names], path)
        longest = sorted(self._paths, key=len, reverse=True)
        self._names = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])(?!\.\w)")
        self._held = ""
        self._last = ""

    def feed(self, batch: Sequence[Entry]) -> list[Entry]:
        """The same events, with `Cited` after each name."""
        out: list[Entry] = []
        for event in batch:
            if isinstance(event, Text):
                self._text(event, out)
                continue
            if self._held:
                held, self._held = self._held, ""
                self._cite(Text(held), out)
            out.append(event)
        return out

    def _text(self, event: Text, out: list[Entry]) -> None:
        text, self._held = self._held + event.text, ""
        start = self._unclear(text)
        self._held = text[start:]
        if start or event.logprobs:
            self._cite(replace(event, text=text[:start]), out)

    def _unclear(self, text: str) -> int:
        """Where a name may begin, or may have ended, of which the rest is still to come."""
        longest = max(map(len, self._paths)) + 1
        for start in range(max(0, len(text) - longest), len(text)):
            rest = text[start:]
            if any(name.startswith(rest) or rest in (name, f"{name}.") for name in self._paths):
                return start
        return len(text)

    def _cite(self, event: Text, out: list[Entry]) -> None:
        """Text of which all names are whole."""
        text, before, at = event.text, len(self._last), 0
        for found in self._names.finditer(self._last + text, before):
            end = found.end() - before
            file = self._files[self._paths[found[0]]]
            annotation = {"type": "container_file_citation", "container_id": file.container_id}
            name = found[0].rpartition("/")[2]
            out += [Text(text[at:end]), Cited(annotation | {"file_id": file.file_id, "filename": name}, len(found[0]))]
            at = end
        if text[at:] or event.logprobs:
            out.append(replace(event, text=text[at:]))
        self._last = (self._last + text)[-1:]
