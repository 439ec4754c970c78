"""From exceptions to what a client sees."""

import difflib
import math
import re
from collections.abc import Iterable

import msgspec

from antiphon.errors import ApiError, Conflict, Internal, MethodNotAllowed, NotFound

PATH_CHARS_MAX = 200
NO_MESSAGES = "Anthropic's Messages API is not served; OpenAI's /v1/responses and /v1/chat/completions are."

Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode
_ANTHROPIC = re.compile(r"(/v1)*/messages(/|$)")
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


def moved() -> Conflict:
    """A response that ends without an end where its client waits for it."""
    message = "The response was deleted while it was made, or another process goes on with it: retrieve it by its id."
    return Conflict(message, code="response_moved")


def unknown_url(method: str, path: str, known: Iterable[str]) -> NotFound:
    """No such route, with the one that was probably meant."""
    shown = path[:PATH_CHARS_MAX]
    if _ANTHROPIC.match(path):
        return NotFound(f"Unknown request URL: {method} {shown}. {NO_MESSAGES}", code="unknown_url")
    plain = {_PARAMETER.sub(r"{\1}", each) for each in known}
    meant = f"/v1{path}" if f"/v1{path}" in plain else next(iter(difflib.get_close_matches(shown, plain, 1, 0.8)), None)
    hint = f"Did you mean {meant}?" if meant else "GET /openapi.json says what this server offers."
    return NotFound(f"Unknown request URL: {method} {shown}. {hint}", code="unknown_url")


def wrong_method(method: str, path: str, allowed: Iterable[str]) -> MethodNotAllowed:
    """The route is there, for other methods."""
    return MethodNotAllowed(f"{method} is not allowed on {path[:PATH_CHARS_MAX]}; allowed: {', '.join(allowed)}.")
