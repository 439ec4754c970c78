"""When are two requests the same? Their canonical forms are equal: the whole body counts, nothing is left out.

Three things are evened out: the order of members, numbers that are equal (`1` and `1.0`), and ids that are new in every
run. An id is what stands where only an id can stand (a tool call's `id`, `tool_call_id`, `call_id`), or what looks
unmistakably like one (`resp_` and sixteen or more letters and digits). Ids are renamed by order of appearance, so which
id refers to which still counts.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from antiphon.exchange import Outgoing
from antiphon.replay import redact
from antiphon.replay.recording import Request

ENDPOINTS: Final = (
    *("/chat/completions", "/completions", "/embeddings", "/rerank", "/images/generations", "/images/edits", "/models"),
)
"""What model hosts are asked for."""
DIFFERENCES_MAX: Final = 200
_ID = re.compile(
    r"""(?<![A-Za-z0-9_-])
    (?P<kind>chatcmpl-tool|chatcmpl|cmpl|resp|msg|call|fc|fco|rs|item|file|vs|conv|req|toolu|run|thread|batch|cntr|ctc
        |mcp|mcpl|mcpr|ws|fs|ig|ci|cu|lsh|sh|tool)
    [-_]
    (?=[A-Za-z-]*[0-9])  # a name such as call_the_fire_brigade is none
    (?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[A-Za-z0-9]{16,})
    (?![A-Za-z0-9_])""",
    re.VERBOSE,
)

Path = tuple[str | int, ...]


def clean_body(outgoing: Outgoing) -> Any:
    """A request's body as JSON, without secrets."""
    return redact.json(parsed(outgoing.body), redact.keys_in(outgoing.headers))


def request_from(outgoing: Outgoing, body: Any) -> Request:
    """What is recorded of, and compared with, a request whose `clean_body` is `body`."""
    return Request(
        method=outgoing.method.upper(),
        host=outgoing.host or (urlsplit(outgoing.url).hostname or ""),
        url=redact.url(outgoing.url, redact.keys_in(outgoing.headers)),
        headers=redact.headers(outgoing.headers, redact.REQUEST_HEADERS),
        body=canonical(body),
    )


def parsed(body: bytes) -> Any:
    """A body as JSON; as text if it is none, as a digest if it is not even that; None if there is no body."""
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return body.decode()
        except UnicodeDecodeError:
            return {"sha256": hashlib.sha256(body).hexdigest()}


def key_of(request: Request) -> str:
    """The digest that is equal for equal requests."""
    parts = urlsplit(request.url)
    whole = [request.method, request.host, parts.path, parts.query, canonical(request.body)]
    return hashlib.sha256(msgspec.json.encode(whole, order="deterministic")).hexdigest()


def canonical(body: Any) -> Any:
    """`body` with sorted members, plain numbers and renamed ids. Doing it twice changes nothing more."""
    return _rewritten(body, _Names(), "")


def place_of(url: str) -> tuple[str, str]:
    """A URL as base URL and endpoint: `("https://api.openai.com/v1", "/chat/completions")`."""
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    for endpoint in ENDPOINTS:
        if parts.path.endswith(endpoint):
            return base + parts.path[: -len(endpoint)], endpoint
    return base, parts.path


def differences(wanted: Any, recorded: Any) -> list[tuple[str, Any, Any]]:
    """Where two bodies differ: path, what is wanted, what is recorded; `ABSENT` where there is nothing."""
    return list(_differences(wanted, recorded, ()))[:DIFFERENCES_MAX]


class Absent:
    """Stands for a member that is not there."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = Absent()


def leaves(body: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf of a JSON value with its path; an empty list or object is a leaf."""
    if isinstance(body, dict) and body:
        for name in sorted(body):
            yield from leaves(body[name], (*path, name))
    elif isinstance(body, list) and body:
        for index, member in enumerate(body):
            yield from leaves(member, (*path, index))
    else:
        yield path, body


def replaced(body: Any, path: Path, value: Any) -> Any:
    """A copy of `body` with the leaf at `path` replaced."""
    if not path:
        return value
    copy: Any = dict(body) if isinstance(body, dict) else list(body)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


def shown(path: Path) -> str:
    """A path as people write it: `messages[0].content`."""
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else step
    return out or "(the body)"


def quoted(value: Any, chars_max: int = 80) -> str:
    """A value as JSON, cut to a length that fits into a message."""
    if value is ABSENT:
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= chars_max else f"{text[: chars_max - 3]}..."


class _Names:
    """Gives each id a name by its kind and the order of its appearance."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._count: Counter[str] = Counter()

    def of(self, original: str, kind: str) -> str:
        if original not in self._given:
            self._count[kind] += 1
            self._given[original] = f"{kind}_{self._count[kind]}"
        return self._given[original]

    def inside(self, text: str) -> str:
        if "_" not in text and "-" not in text:
            return text
        return _ID.sub(lambda match: self.of(match[0], match["kind"]), text)


def _rewritten(value: Any, names: _Names, name: str) -> Any:
    if isinstance(value, str):
        return names.inside(value)
    if isinstance(value, dict):
        out = {}
        for member in sorted(value):
            child = value[member]
            if isinstance(child, str) and child and _refers_to_call(member, value, name):
                out[member] = names.of(child, "call")
            else:
                out[member] = _rewritten(child, names, member)
        return out
    if isinstance(value, list):
        return [_rewritten(member, names, name) for member in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _refers_to_call(member: str, owner: dict[str, Any], owner_name: str) -> bool:
    """Whether this member of `owner` can only be the id of a tool call."""
    if member == "tool_call_id":
        return "role" in owner
    if member == "call_id":
        return "type" in owner
    return member == "id" and owner_name == "tool_calls"


def _differences(wanted: Any, recorded: Any, path: Path) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(wanted, dict) and isinstance(recorded, dict):
        for name in sorted(wanted.keys() | recorded.keys()):
            yield from _differences(wanted.get(name, ABSENT), recorded.get(name, ABSENT), (*path, name))
    elif isinstance(wanted, list) and isinstance(recorded, list):
        for index in range(max(len(wanted), len(recorded))):
            left = wanted[index] if index < len(wanted) else ABSENT
            right = recorded[index] if index < len(recorded) else ABSENT
            yield from _differences(left, right, (*path, index))
    elif type(wanted) is not type(recorded) or wanted != recorded:
        yield shown(path), wanted, recorded
