"""What model hosts say when something is wrong, as our errors. Pure.

Each host has its own form (OpenAI's error body, a bare string, FastAPI's `detail`, an HTML page of some proxy) and its
own words for the one error that a client acts upon, a context that is too long. All of it is read here and nowhere
else. A message never carries a key, whatever the host repeats of it.
"""

import email.utils
import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from antiphon.errors import ApiError, ContextTooLong, Upstream, UpstreamRejected

MESSAGE_CHARS_MAX = 500

_TOO_LONG = re.compile(
    r"maximum context length|context[ _]length[ _]exceeded|context (length|window|size)[^.]{0,60}exceed"
    r"|exceed[^.]{0,60}context (length|window|size)|maximum (input|prompt) length"
    r"|(prompt|input|request)[^.]{0,60}too long"
    r"|reduce the length of (the|your) (messages|prompt|input)|input token count[^.]{0,40}exceeds"
    r"|longer than the (model's |maximum )?(model length|context)|exceed[^.]{0,30}max_model_len"
    r"|too many (input )?tokens",
    re.IGNORECASE,
)
_KEYS = re.compile(r"\b(?:sk|pk|gsk|nvapi|csk|fw|xai|hf|key|tgp|dapi)[-_][A-Za-z0-9_\-*.]{8,}|(?i:bearer) +[^\s\"',]+")
_TAGS = re.compile(r"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>")
_CODES_BY_STATUS = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_STATUS_BY_CODE = {
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
}


class HostError(Struct, frozen=True, kw_only=True):
    """An error in a host's words: `status` only where the words themselves carry one."""

    message: str
    kind: str | None = None
    param: str | None = None
    code: str | None = None
    status: int | None = None


class Refused(Struct, frozen=True, kw_only=True):
    """An answer other than 200. `at` is when it came, for a `Retry-After` that is a date."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: float


def rejection(host: str, answer: Refused, secrets: Iterable[str] = ()) -> ApiError:
    """The error for an answer other than 200."""
    if not 400 <= answer.status < 600:  # a redirect, or some 2xx that is no answer to a model call
        return Upstream(f"Host {host!r} answered with status {answer.status}, which is no answer to a model call.")
    said = host_error(answer.body, secrets)
    if said is None:
        said = HostError(message=f"Host {host!r} answered with status {answer.status} and no message.")
    return _error(said, answer.status, retry_after_s(answer.headers, answer.at))


def broken(host: str, value: object, secrets: Iterable[str] = ()) -> ApiError:
    """The error for an error object that came inside an answer of status 200."""
    said = error_in(value) or HostError(message="")
    message = cleaned(said.message, secrets) or f"Host {host!r} reported an error without saying which."
    said = msgspec.structs.replace(said, message=message)
    status = said.status or _STATUS_BY_CODE.get(said.code or "") or _STATUS_BY_CODE.get(said.kind or "")
    if status is None and not _TOO_LONG.search(said.message):
        return Upstream(said.message, code=said.code, param=said.param)
    return _error(said, status or 400, None)


def host_error(body: bytes, secrets: Iterable[str] = ()) -> HostError | None:
    """What an error body says; None if it says nothing."""
    try:
        said = error_in(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = None
    if said is None:
        said = HostError(message=body[:65_536].decode(errors="replace"))
    message = cleaned(said.message, secrets)
    return msgspec.structs.replace(said, message=message) if message else None


def error_in(value: Any, depth: int = 6) -> HostError | None:
    """The error in a JSON value; None if it holds none."""
    if not depth:
        return None
    match value:
        case str():
            return HostError(message=value)
        case [first, *_]:  # Gemini wraps its errors in an array; FastAPI lists them under `detail`
            return error_in(first, depth - 1)
        case {"error": str() as message, **rest}:
            return _described({**rest, "message": rest.get("message") or message})
        case {"error": error} if error:
            return error_in(error, depth - 1)
        case {"message": _} | {"msg": _}:
            return _described(value)
        case {"detail": detail} if detail:
            return error_in(detail, depth - 1)
        case {"code": _} | {"type": _}:
            return _described(value)
    return None


def _described(error: Mapping[Any, Any]) -> HostError:
    message, code, status = error.get("message") or error.get("msg"), error.get("code"), _status(error.get("code"))
    where = error.get("loc")
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str):  # OpenRouter: the host behind it
        message = f"{message}: {raw}"
    if isinstance(where, list):
        message = f"{message} ({'.'.join(str(each) for each in where)})"
    return HostError(
        message=message if isinstance(message, str) else _json(message or error),
        kind=_text(error.get("type")),
        param=_text(error.get("param")),
        code=None if status else _text(code),
        status=status or _status(error.get("status_code")) or _status(error.get("status")),
    )


def cleaned(message: str, secrets: Iterable[str] = ()) -> str:
    """The message in one line without markup and keys, cut to `MESSAGE_CHARS_MAX`."""
    for secret in secrets:
        if secret:
            message = message.replace(secret, "***")
    if "<" in message and re.search(r"(?i)<(!doctype|html|body|head|center|h1)\b", message):
        message = html.unescape(_TAGS.sub(" ", message))
    message = " ".join(_KEYS.sub("***", message).split())
    return message if len(message) <= MESSAGE_CHARS_MAX else message[: MESSAGE_CHARS_MAX - 3] + "..."


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """How long the host asks to wait. A date is measured against the host's own clock where it tells the time."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return wait if 0 <= wait < 1e9 else None
    until, sent = _moment(headers.get("retry-after")), _moment(headers.get("date"))
    return None if until is None else max(0.0, until - (sent if sent is not None else now))


def _error(said: HostError, status: int, wait_s: float | None) -> ApiError:
    worded = status in (400, 413, 422, 500) and _TOO_LONG.search(said.message)
    if worded or said.code == "context_length_exceeded":
        return ContextTooLong(said.message, param=said.param)
    kind, code = _CODES_BY_STATUS.get(status, (None, None))
    return UpstreamRejected(
        said.message,
        status=status,
        kind=said.kind or kind,
        param=said.param,
        code=said.code or code,
        retry_after_s=wait_s,
    )


def _status(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else None


def _moment(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
