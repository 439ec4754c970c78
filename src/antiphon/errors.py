"""Every failure that may reach a client, as one tree.

Status, type and code are class attributes; an instance adds the sentence, the offending parameter and, where one
helps, a wait. `ApiError.body()` is OpenAI's public error body. It is used in two places only: the outermost HTTP
handler and the terminal event of a stream.

    ApiError
    |- InvalidRequest 400        |- Unauthenticated 401    |- RateLimited 429
    |  |- ContextTooLong         |- Forbidden 403          |- Internal 500
    |  |- Unsupported            |- NotFound 404           |- Upstream 502
    |  |- RoomRefuses            |- MethodNotAllowed 405   |  |- UpstreamTimeout 504
    |  `- ReplayMiss             |- Conflict 409           |  |- UpstreamRejected (the host's own status)
    |                            |                         |  `- McpRefused, McpGone
    |                            |- TooLarge 413           `- Unavailable 503
    |                            `- RangeNotSatisfiable 416   |- NoSandbox
    |                                                         `- RoomLost
"""

import re
from typing import Any

import msgspec


class ApiError(Exception):
    """A failure with a public face.

    `message` says what is wrong, with the value, and what is allowed; `param` names the request field in dotted form
    (`input[0].role`); `code` overrides the class's code; `retry_after_s` becomes the `Retry-After` header.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """OpenAI's error body: `{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(ApiError):
    """The request is wrong, and will be wrong again."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class ContextTooLong(InvalidRequest):
    """The input does not fit the model's context window."""

    code = "context_length_exceeded"


class Unsupported(InvalidRequest):
    """A known feature that this server, or this model host, does not offer."""

    code = "unsupported_parameter"


class RoomRefuses(InvalidRequest):
    """A file cannot be put into a sandbox, or taken out."""

    code = "sandbox_file"


class ReplayMiss(InvalidRequest):
    """In replay, no recording answers the outgoing request."""

    code = "recording_not_found"


class Unauthenticated(ApiError):
    """No valid credentials."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(ApiError):
    """Valid credentials that do not allow this."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(ApiError):
    """No such thing, or not the caller's: the two look the same on purpose."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(ApiError):
    """The path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(ApiError):
    """The thing is in a state, or in use, that forbids this now."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class RunLost(Conflict):
    """Another worker has the run by now: what this one still wanted to store of it is not wanted."""

    code = "run_lost"


class TooLarge(ApiError):
    """The body exceeds a limit."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class RangeNotSatisfiable(ApiError):
    """The part that is asked for lies outside the whole."""

    status = 416
    type = "invalid_request_error"
    code = "range_not_satisfiable"


class RateLimited(ApiError):
    """Too much at once; `retry_after_s` says when to come back."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Internal(ApiError):
    """Our fault. The message is public, so it names only the log's id."""

    status = 500
    code = "internal_error"


class Unavailable(ApiError):
    """Something this server needs (its database, its disk) is not there at the moment."""

    status = 503
    code = "service_unavailable"


class NoSandbox(Unavailable):
    """There is no sandbox on this machine, and nothing is run without one."""

    code = "no_sandbox"


class RoomLost(Unavailable):
    """A sandbox is gone, with the interpreter in it."""

    code = "sandbox_lost"


class Upstream(ApiError):
    """A model host could not be reached, or what it sent could not be understood."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"


class UpstreamTimeout(Upstream):
    """A model host did not answer in time."""

    status = 504
    code = "upstream_timeout"


class UpstreamRejected(Upstream):
    """A model host answered with an error: its status, its cleaned message, its type and code."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        kind: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after_s=retry_after_s)
        self.status = status
        self.type = kind or ("invalid_request_error" if 400 <= status < 500 else "upstream_error")


class McpRefused(Upstream):
    """An MCP server said no: `number` is JSON-RPC's code, or with `http_status` that."""

    code = "mcp_refused"

    def __init__(self, number: int, message: str, *, http_status: int | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.http_status = http_status


class McpGone(Upstream):
    """A session with an MCP server is over; `unheard`: the server did not take the request in."""

    code = "mcp_gone"

    def __init__(self, message: str, *, unheard: bool = False) -> None:
        super().__init__(message)
        self.unheard = unheard


_PATH = re.compile(r" - at (?:`key` in )?`\$(.*?)`$")
_FIELD = re.compile(r"(?:missing required|contains unknown) field `(.+?)`")


DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a client's JSON may raise."""


def misfit(error: Exception, at: str = "") -> InvalidRequest:
    """One of `DECODE_ERRORS` as the client's: `param` is the dotted path of the field, below `at` if that is given."""
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest(
            f"The text is not valid UTF-8 (byte {error.start}).", param=at or None, code="invalid_json"
        )
    if isinstance(error, RecursionError):
        return InvalidRequest("The JSON is nested too deeply.", param=at or None, code="invalid_json")
    text = str(error)
    found = _PATH.search(text)
    path = (at + (found.group(1) if found else "")).lstrip(".").replace("[...]", "")
    sentence = _PATH.sub("", text)
    if field := _FIELD.search(sentence):
        path = f"{path}.{field.group(1)}".lstrip(".")
        code = "missing_required_parameter" if "missing" in sentence else "unknown_parameter"
    elif isinstance(error, msgspec.ValidationError):
        code = "invalid_type" if sentence.startswith("Expected `") and "got" in sentence else "invalid_value"
    else:
        code = "invalid_json"
    where = f"Invalid {path!r}: " if path else ""
    return InvalidRequest(f"{where}{sentence}.", param=path or None, code=code)
