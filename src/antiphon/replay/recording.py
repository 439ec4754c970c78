r"""Antiphon's recording format: one JSON file per scenario, made to be read and compared by people.

    {
      "format": "antiphon-recording/1",
      "scenario": "default",
      "test_id": null,
      "exchanges": [
        {
          "request": {"method": "POST", "host": "openai", "url": "https://...", "headers": {...}, "body": {...}},
          "origin": "resp_...",
          "answer": {"status": 200, "headers": {...}, "frames": [
              [412, "data: {...}\n\n"],
              [433, "data: [DONE]\n\n"]
            ], "end": "complete"}
        }
      ]
    }

A frame is one piece of the body as the network delivered it, with the milliseconds since the request went out; bytes
that are no text stand as `{"base64": "..."}`. `end` is `complete`, `cut` (the host broke off) or `timeout`; an answer
of status 0 never began. Bodies are canonical: members sorted, ids renamed by order of appearance, secrets gone.
Exchanges stand in the order in which their requests went out.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from antiphon.errors import InvalidRequest

FORMAT: Final = "antiphon-recording/1"
SUFFIX: Final = ".json"
DEFAULT_SCENARIO: Final = "default"
_NAME_CHARS_MAX: Final = 100

End = Literal["complete", "cut", "timeout"]


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A recorded request: canonical and without secrets. `host` is the configured host's name."""

    method: str
    host: str
    url: str
    headers: dict[str, str] = {}
    body: Any = None


class Frame(Struct, frozen=True):
    """One piece of a body, and when it came."""

    at_ms: int
    data: bytes


class Answer(Struct, frozen=True, kw_only=True):
    """What the host said, whole or as far as it went. `message` tells how it failed unless `end` is `complete`."""

    status: int
    headers: dict[str, str] = {}
    frames: tuple[Frame, ...] = ()
    end: End = "complete"
    message: str = ""

    @property
    def body(self) -> bytes:
        """All frames joined."""
        return b"".join(frame.data for frame in self.frames)


class Exchange(Struct, frozen=True, kw_only=True):
    """A request and its answer. `origin` says what it was made for: the id of a response, if there was one."""

    request: Request
    answer: Answer
    origin: str | None = None


class Scenario(Struct, frozen=True, kw_only=True):
    """A named sequence of exchanges: one file."""

    name: str
    exchanges: tuple[Exchange, ...]
    test_id: str | None = None


class _StoredAnswer(Struct, kw_only=True, omit_defaults=True):
    status: int
    headers: dict[str, str] = {}
    frames: list[tuple[int, str | dict[str, str]]] = []
    end: End = "complete"
    message: str = ""


class StoredExchange(Struct, kw_only=True, omit_defaults=True):
    """An exchange whose answer is not parsed yet."""

    request: Request
    answer: msgspec.Raw
    origin: str | None = None

    def parsed_answer(self) -> Answer:
        """The answer, parsed."""
        stored = msgspec.json.decode(self.answer, type=_StoredAnswer)
        frames = tuple(
            Frame(at_ms, data.encode() if isinstance(data, str) else base64.b64decode(data["base64"]))
            for at_ms, data in stored.frames
        )
        return Answer(
            status=stored.status, headers=stored.headers, frames=frames, end=stored.end, message=stored.message
        )


class StoredScenario(Struct, kw_only=True, omit_defaults=True):
    """A scenario's file."""

    format: Literal["antiphon-recording/1"]
    scenario: str
    exchanges: list[StoredExchange]
    test_id: str | None = None


def file_name(scenario: str) -> str:
    """A scenario's file name: readable, and different for different scenarios."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", scenario).strip("-.")
    if plain == scenario and len(plain) <= _NAME_CHARS_MAX:
        return plain + SUFFIX
    digest = hashlib.sha256(scenario.encode()).hexdigest()[:8]
    return f"{plain[-_NAME_CHARS_MAX:].strip('-._') or 'scenario'}-{digest}{SUFFIX}"


def is_scenario(content: bytes) -> bool:
    """Whether a file's content is in our format, told by its first bytes."""
    return b'"antiphon-recording/' in content[:200]


def read_scenario(path: Path) -> StoredScenario:
    """The scenario in a file; raises `InvalidRequest` naming the file and the place where it is wrong."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StoredScenario)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is no recording in Antiphon's format: {error}") from error


def render_exchange(exchange: Exchange) -> str:
    """An exchange as it stands in a file: indented, one frame a line."""
    answer = exchange.answer
    head: dict[str, Any] = {"request": msgspec.to_builtins(exchange.request)}
    if exchange.origin is not None:
        head["origin"] = exchange.origin
    head["answer"] = {"status": answer.status, "headers": answer.headers, "frames": []}
    head["answer"]["end"] = answer.end
    if answer.message:
        head["answer"]["message"] = answer.message
    text = json.dumps(head, indent=2, ensure_ascii=False)
    if answer.frames:
        lines = ",\n".join("      " + _render_frame(frame) for frame in answer.frames)
        # The last one: whatever the request holds stands before it.
        before, _, after = text.rpartition('"frames": []')
        text = f'{before}"frames": [\n{lines}\n    ]{after}'
    return text


def render_scenario(name: str, test_id: str | None, exchanges: Iterable[str]) -> str:
    """A scenario's file from its rendered exchanges."""
    head = json.dumps({"format": FORMAT, "scenario": name, "test_id": test_id}, indent=2, ensure_ascii=False)
    body = ",\n".join("    " + exchange.replace("\n", "\n    ") for exchange in exchanges)
    listed = f"[\n{body}\n  ]" if body else "[]"
    return f'{head[:-2]},\n  "exchanges": {listed}\n}}\n'


def write_scenario(path: Path, scenario: Scenario) -> None:
    """Writes a scenario's file, whole or not at all."""
    write_whole(path, render_scenario(scenario.name, scenario.test_id, map(render_exchange, scenario.exchanges)))


def write_whole(path: Path, text: str) -> None:
    """Replaces a file in one step: a reader, or a kill, finds the old one or the new one.

    What a kill leaves behind has a name that nobody reads, and that the next write of this file takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def frames_from(pieces: Sequence[bytes], at_ms: Sequence[int]) -> tuple[Frame, ...]:
    """Frames from pieces and their moments, without empty ones."""
    return tuple(Frame(moment, data) for moment, data in zip(at_ms, pieces, strict=True) if data)


def _render_frame(frame: Frame) -> str:
    try:
        data: Any = frame.data.decode()
    except UnicodeDecodeError:
        data = {"base64": base64.b64encode(frame.data).decode()}
    return json.dumps([frame.at_ms, data], ensure_ascii=False)
