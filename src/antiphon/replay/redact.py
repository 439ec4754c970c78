"""Secrets are taken out before anything is hashed, compared or written, on both sides: recording and replaying.

Three rules: headers are denied unless listed; members whose name says that they hold a secret lose their string; and
whatever looks like a key, or is the key that this very request carried, is replaced wherever it stands, also in the
host's answer. Redaction is idempotent: what it leaves behind, it leaves alone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

REDACTED: Final = "[redacted]"

REQUEST_HEADERS: Final = frozenset({"content-type", "openai-beta", "anthropic-beta", "anthropic-version"})
ANSWER_HEADERS: Final = frozenset({"content-type", "retry-after", "retry-after-ms", "x-should-retry"})
"""The only headers that reach a recording."""

_MEMBER: Final = (
    r"(?:[a-z0-9_-]*[_-])?(?:api[_-]?key|api[_-]?token|access[_-]?token|refresh[_-]?token|auth[_-]?token"
    r"|client[_-]?secret|private[_-]?key|authorization|password|passwd|secret)"
)
_SECRET_MEMBER = re.compile(_MEMBER, re.IGNORECASE)
# The same inside a string that holds JSON, such as a call's arguments: quotes may be escaped any number of times.
_SECRET_MEMBER_IN_TEXT = re.compile(
    rf'(?P<head>(?P<quote>\\*")(?:{_MEMBER})(?P=quote)\s*:\s*(?P=quote))(?P<value>[^"\\]+)(?=(?P=quote))', re.IGNORECASE
)
_SECRET_PARAM = re.compile(rf"{_MEMBER}|key|token|sig|signature|code", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"""
      \bsk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}           # OpenAI, Anthropic, OpenRouter, DeepSeek, ...
    | \b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}
    | \b(?:gsk|hf|r8|fw|csk|tvly|nvapi|xai|pplx)[_-](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}
    | \bdapi[0-9a-f]{32}\b
    | \bAIza[A-Za-z0-9_-]{30,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bgh[pousr]_[A-Za-z0-9]{30,}
    | \bgithub_pat_[A-Za-z0-9_]{30,}
    | \bxox[abeprs]-[A-Za-z0-9-]{10,}
    | \beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+
    | (?<=\bBearer\ )[A-Za-z0-9._~+/-]{12,}=*
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?-----END\ [A-Z ]*PRIVATE\ KEY-----
    """,
    re.VERBOSE | re.DOTALL,
)
_EVENT = re.compile(rb"^data: ?(\{.*\})\r?$", re.MULTILINE)
_KEY_HEADER = re.compile(r"auth|key|token|secret|cookie|credential|password", re.IGNORECASE)
_KEY_CHARS_MIN: Final = 8
_SECRET_CHARS_MIN: Final = 15

Keys = Sequence[str | re.Pattern[str]]
"""What else is secret: the keys that a request carried, or patterns of the one who cleans."""
_Place = tuple[str | int, ...]


def keys_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets that a request carries in its headers, longest first; short placeholders (`EMPTY`) are none."""
    found = set()
    for name, value in headers.items():
        if _KEY_HEADER.search(name):
            bare = value.rpartition(" ")[2]
            if len(bare) >= _KEY_CHARS_MIN:
                found.add(bare)
    return tuple(sorted(found, key=lambda key: (-len(key), key)))


def headers(given: Mapping[str, str], allowed: frozenset[str]) -> dict[str, str]:
    """The headers that may be written down, sorted by name."""
    return {name.lower(): text(given[name]) for name in sorted(given, key=str.lower) if name.lower() in allowed}


def text(value: str, keys: Keys = ()) -> str:
    """`value` without secrets."""
    for key in keys:
        value = value.replace(key, REDACTED) if isinstance(key, str) else key.sub(REDACTED, value)
    if '"' in value:
        value = _SECRET_MEMBER_IN_TEXT.sub(lambda match: match["head"] + REDACTED, value)
    return value if len(value) < _SECRET_CHARS_MIN else _SECRET_TEXT.sub(REDACTED, value)


def json(value: Any, keys: Keys = ()) -> Any:
    """A JSON value without secrets. Names of members stay; a schema that describes a password is no password."""
    if isinstance(value, str):
        return text(value, keys)
    if isinstance(value, list):
        return [json(member, keys) for member in value]
    if isinstance(value, dict):
        return {
            name: REDACTED if isinstance(member, str) and _SECRET_MEMBER.fullmatch(name) else json(member, keys)
            for name, member in value.items()
        }
    return value


def url(value: str, keys: Keys = ()) -> str:
    """A URL without credentials, neither before the host nor in the query. The query's order does not count."""
    parts = urlsplit(value)
    place = parts.netloc.rpartition("@")[2]
    query = sorted(
        (name, REDACTED if _SECRET_PARAM.fullmatch(name) else text(param, keys))
        for name, param in parse_qsl(parts.query, keep_blank_values=True)
    )
    path = text(parts.path, keys)
    return urlunsplit((parts.scheme, place, path, urlencode(query, quote_via=quote, safe="[]"), ""))


def pieces(given: Sequence[bytes], keys: Keys = ()) -> list[bytes]:
    """The pieces of a body without secrets, also one that runs over a boundary. Boundaries stay where they were.

    A boundary inside a secret moves to its end. Bytes that are no text have no secrets that we know. A model that
    repeats a secret says it token by token: what the events of a stream add up to is read as well.
    """
    out = _plain(given, keys)
    whole = b"".join(out)
    events = [(match.span(1), event) for match in _EVENT.finditer(whole) if (event := _parsed(match[1])) is not None]
    if len(events) > 1:
        cleaned = zip(events, deltas([event for _, event in events], keys), strict=True)
        edits = [(start, end, msgspec.json.encode(new)) for ((start, end), old), new in cleaned if new is not old]
        out = _edited(out, edits)
    return out


def deltas(events: Sequence[Any], keys: Keys = ()) -> list[Any]:
    """The JSON objects of a stream without the secrets that run over several. Those without one are the same objects.

    Texts that stand at the same place of several events are pieces of one text.
    """
    texts: dict[_Place, list[tuple[int, _Place, str]]] = {}
    for number, event in enumerate(events):
        for lane, path, said in _texts(event, (), ()):
            texts.setdefault(lane, []).append((number, path, said))
    out = list(events)
    for found in texts.values():
        given = [said.encode() for _, _, said in found]
        for (number, path, _), before, after in zip(found, given, _plain(given, keys), strict=True):
            if after != before:
                out[number] = _with(out[number], path, after.decode())
    return out


def _texts(value: Any, lane: _Place, path: _Place) -> Iterator[tuple[_Place, _Place, str]]:
    """Every text with its place in a stream (choices and calls are told by their `index`) and in this event."""
    if isinstance(value, str):
        yield lane, path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _texts(member, (*lane, name), (*path, name))
    elif isinstance(value, list):
        for at, member in enumerate(value):
            index = member.get("index") if isinstance(member, dict) else None
            yield from _texts(member, (*lane, index if isinstance(index, int) else at), (*path, at))


def _with(value: Any, path: _Place, said: str) -> Any:
    """A copy with the text at `path` replaced, and without the bytes that spell it out beside it."""
    if not path:
        return said
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(copy[path[0]], path[1:], said)
    if path == ("token",) and "bytes" in copy:
        copy["bytes"] = None
    return copy


def _parsed(event: bytes) -> Any:
    try:
        return msgspec.json.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _plain(given: Sequence[bytes], keys: Keys) -> list[bytes]:
    """The pieces without secrets that stand in their joined text."""
    whole = b"".join(given)
    try:
        plain = whole.decode()
    except UnicodeDecodeError:
        plain = whole.decode("ascii", "surrogateescape")  # one character a byte; no odd byte is a letter
        spans = _secret_spans(plain, keys)
    else:
        spans = [(len(plain[:start].encode()), len(plain[:end].encode())) for start, end in _secret_spans(plain, keys)]
    return _edited(given, [(start, end, REDACTED.encode()) for start, end in spans])


def _secret_spans(plain: str, keys: Keys) -> list[tuple[int, int]]:
    """Where secrets stand, merged and in order."""
    found = [match.span() for match in _SECRET_TEXT.finditer(plain)]
    found += [match.span("value") for match in _SECRET_MEMBER_IN_TEXT.finditer(plain) if match["value"] != REDACTED]
    for key in keys:
        found += [match.span() for match in re.finditer(re.escape(key) if isinstance(key, str) else key, plain)]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _edited(given: Sequence[bytes], edits: Sequence[tuple[int, int, bytes]]) -> list[bytes]:
    """The pieces with each span (start, end) of them all replaced; a span belongs to the piece in which it begins."""
    out, at = [], 0
    for piece in given:
        end, kept, cursor = at + len(piece), b"", at
        for start, stop, instead in edits:
            if stop <= cursor or start >= end:
                continue
            if start >= at:  # begins here
                kept += piece[cursor - at : start - at] + instead
            cursor = min(stop, end)
        out.append(kept + piece[cursor - at :])
        at = end
    return out
