"""What clients were told while processes died: by that, afterwards, the servers are judged."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
ENDED = ("completed", "incomplete", "failed", "cancelled")


@dataclass
class Told:
    """A response as its client knows it.

    `id` is there once it was acknowledged, `final` once its end was, at `ended_s`. `frames` are the events of its
    stream, as bytes without framing, in the order of their numbers from 0; `broken_s` is when it broke off, until it
    goes on. `deleted` says that its deletion was asked for, `gone` that it was acknowledged.
    """

    tag: str
    kind: str
    id: str | None = None
    conversation: str | None = None
    frames: list[bytes] = field(default_factory=list)
    final: dict[str, Any] | None = None
    ended_s: float | None = None
    broken_s: float | None = None
    deleted: bool = False
    gone: bool = False
    cancelled: bool = False

    def ends(self, response: dict[str, Any]) -> None:
        """Its end was acknowledged."""
        if self.final is None:
            self.final, self.ended_s = response, time.monotonic()
        self.id = response["id"]


@dataclass
class Ledger:
    """Everything that clients were told. `problems` are what no client may ever see."""

    told: list[Told] = field(default_factory=list)
    appended: list[tuple[str, list[str]]] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)
    batches: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    answers: int = 0
    broken: int = 0
    reconnections: int = 0
    gaps_s: list[float] = field(default_factory=list)
    tags: int = 0

    def new(self, kind: str, conversation: str | None = None) -> Told:
        """A response that is about to be asked for."""
        self.tags += 1
        told = Told(f"t{self.tags}", kind, conversation=conversation)
        self.told.append(told)
        return told

    def frame(self, told: Told, raw: bytes) -> bool:
        """Takes an event of a response's stream; whether it is the last."""
        event = json.loads(raw)
        number = event.get("sequence_number")
        if event["type"] == "error":
            if not told.deleted:
                self.problems.append(f"{told.tag} {told.id}: error event {event}")
            return True
        if number != len(told.frames):
            self.problems.append(f"{told.tag} {told.id}: event {number} came after {len(told.frames)} events")
        told.frames.append(raw)
        if told.broken_s is not None:
            self.gaps_s.append(time.monotonic() - told.broken_s)
            told.broken_s = None
        if "response" in event:
            if told.id not in (None, event["response"]["id"]):
                self.problems.append(f"{told.tag}: {told.id} became {event['response']['id']}")
            told.id = event["response"]["id"]
        self.answers += event["type"] in TERMINAL
        if event["type"] in TERMINAL:
            told.ends(event["response"])
            return True
        return False
