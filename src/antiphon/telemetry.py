"""The log, and what wants to know when a request has ended.

The log is one JSON object a line on standard error: time, level, logger, message, then whatever `extra` a caller gave
(`request_id`, `response_id`, ...). What users and models say is not logged.
"""

import json
import logging
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TextIO

import msgspec
from msgspec import Struct

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
FRAMES_MAX: Final = 40
CHAIN_MAX: Final = 4
MESSAGE_CHARS_MAX: Final = 500
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. What JSON cannot hold is written as text."""
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _PLAIN)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = brief(record.exc_info[1])
        try:
            return msgspec.json.encode(line, enc_hook=repr).decode()
        except UnicodeEncodeError:  # half a character, as a client's path or an undecodable file name may have it
            return json.dumps(line, default=repr, skipkeys=True)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Sends every logger's lines, from `level` on, to `stream` (standard error) as JSON."""
    writer = logging.StreamHandler(stream or sys.stderr)
    writer.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(_LEVELS[level])
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # our own line says more
    logging.getLogger("asyncio").setLevel(max(_LEVELS[level], logging.WARNING))


def brief(error: BaseException | None) -> str:
    """The exception and its causes: types, cut messages, and where they came from.

    Without source lines and within bounds: reading files and showing arguments takes seconds for deep or large
    exceptions, during which nobody else is served.
    """
    lines: list[str] = []
    current = error
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


class RequestEnded(Struct, frozen=True, kw_only=True):
    """One HTTP request, or one WebSocket (`method` says so), over.

    `route` is the pattern, not the path: paths hold ids. `error` is the kind of failure.
    """

    method: str
    route: str
    status: int
    ms: float
    request_id: str = ""
    error: str = ""


Listener = Callable[[RequestEnded], None]


class Counts:
    """How many requests ended, by method, route and status, and how long they took altogether."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.ms: defaultdict[tuple[str, str, int], float] = defaultdict(float)

    def __call__(self, ended: RequestEnded) -> None:
        """Counts one request."""
        key = (ended.method, ended.route, ended.status)
        self.requests[key] += 1
        self.ms[key] += ended.ms


def log_request(ended: RequestEnded) -> None:
    """A listener that writes one line per request."""
    log = logging.getLogger("antiphon.request")
    if log.isEnabledFor(logging.INFO):
        log.info("%s %s %d", ended.method, ended.route, ended.status, extra=msgspec.structs.asdict(ended))


class Live:
    """How many requests of clients, and turns on their WebSockets, are being served at this moment.

    What the server asks itself does not count.
    """

    def __init__(self) -> None:
        self.count = 0
        self._listening: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.count -= 1
        for fewer in self._listening:
            fewer()

    def listen(self, fewer: Callable[[], None]) -> None:
        """Calls `fewer` each time that one has ended."""
        self._listening.append(fewer)


class Telemetry:
    """Tells every listener what has ended. A new way of observing the server is one more listener."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners
        self.live = Live()

    def ended(self, event: RequestEnded) -> None:
        """Called once for each request, when its last byte is sent or its client is gone."""
        for listener in self.listeners:
            listener(event)
