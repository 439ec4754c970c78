"""From exceptions to what a client sees, and to what the log keeps of them.

A traceback is rendered without source lines and within bounds: reading files and printing arguments takes seconds for
deep or large exceptions, during which nobody else is served.
"""

import difflib
import math
import re
from collections.abc import Iterable
from types import TracebackType

import msgspec

from antiphon.errors import ApiError, Internal, MethodNotAllowed, NotFound

FRAMES_MAX = 40
CHAIN_MAX = 4
MESSAGE_CHARS_MAX = 500
PATH_CHARS_MAX = 200

Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


def refusal(error: ApiError) -> tuple[int, bytes, Headers]:
    """The status, body and headers that tell a client of an error."""
    headers: Headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(max(error.retry_after_s, 0))))
    return error.status, _encode(error.body()), headers


def internal(request_id: str) -> Internal:
    """What a client is told when the fault is ours: only where the log says more."""
    return Internal(f"The server had an error while processing your request. Its log has the request ID {request_id}.")


def unknown_url(method: str, path: str, known: Iterable[str]) -> NotFound:
    """No such route, with the one that was probably meant."""
    shown = path[:PATH_CHARS_MAX]
    plain = {_PARAMETER.sub(r"{\1}", each) for each in known}
    meant = f"/v1{path}" if f"/v1{path}" in plain else next(iter(difflib.get_close_matches(shown, plain, 1, 0.8)), None)
    hint = f"Did you mean {meant}?" if meant else "GET /openapi.json says what this server offers."
    return NotFound(f"Unknown request URL: {method} {shown}. {hint}", code="unknown_url")


def wrong_method(method: str, path: str, allowed: Iterable[str]) -> MethodNotAllowed:
    """The route is there, for other methods."""
    return MethodNotAllowed(f"{method} is not allowed on {path[:PATH_CHARS_MAX]}; allowed: {', '.join(allowed)}.")


def brief(error: BaseException) -> str:
    """The exception and its causes: types, cut messages, and where they came from."""
    lines: list[str] = []
    current: BaseException | None = error
    for _ in range(CHAIN_MAX):
        if current is None:
            break
        if lines:
            lines.append("from:")
        lines += [*_frames(current.__traceback__), f"{type(current).__qualname__}: {_message(current)}"]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(lines)


def _frames(traceback: TracebackType | None) -> list[str]:
    frames: list[str] = []
    while traceback is not None and len(frames) < FRAMES_MAX:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_qualname}")
        traceback = traceback.tb_next
    if traceback is not None:
        frames.append("...")
    return frames


def _message(error: BaseException) -> str:
    """The exception's words, unless finding them would be work: a validation error may quote megabytes."""
    args = error.args
    if len(args) == 1 and isinstance(args[0], str):
        return args[0][:MESSAGE_CHARS_MAX]
    if all(isinstance(each, str | int | float | None) for each in args):
        return ", ".join(str(each)[:MESSAGE_CHARS_MAX] for each in args[:5])
    return f"({', '.join(type(each).__qualname__ for each in args[:5])})"
