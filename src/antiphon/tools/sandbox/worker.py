"""Runs Python inside a sandbox and remembers what it defined. It is one process with the code, and protects nothing.

The interpreter in it need not be this server's: standard library only, and nothing that is newer than Python 3.8.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import linecache
import os
import signal
import struct
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from typing import Any

TEXT_MAX = 20000
IMAGES_MAX = 8
IMAGES_BYTES_MAX = 5 * 2**20


def serve(asked: int, answered: int) -> None:
    """Answers until nobody asks. A question is a mark, a length and the code; its answer begins with the same mark."""
    space = types.ModuleType("__main__")
    sys.modules["__main__"] = space
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 (what the code imports is a matter of text)
    sys.argv = [""]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in one order with what goes to stderr
    warnings.filterwarnings("ignore", message=".*non-interactive.*")
    count = 0
    while (head := read(asked, 20)) is not None:
        code = read(asked, struct.unpack("!I", head[16:])[0]) or b""
        count += 1
        result = json.dumps(run(code.decode("utf-8", "replace"), space.__dict__, count)).encode()
        flush()
        write(answered, head[:16] + struct.pack("!I", len(result)) + result)


def run(code: str, space: dict[str, Any], count: int) -> dict[str, Any]:
    """What the code evaluates to, or how it failed, and the figures that it left open."""
    name = f"<call {count}>"
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    value, error = tried(lambda: evaluated(code, name, space))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    images, missed = tried(figures)
    return {"value": value, "error": error or missed, "images": images or []}


def tried(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """What the work gives, or how the code that it runs failed."""
    try:
        return work(), None
    except SystemExit as ending:
        return None, None if ending.code in (None, 0) else f"SystemExit: {ending.code}"
    except BaseException as problem:
        return None, told(problem)


def evaluated(code: str, name: str, space: dict[str, Any]) -> str | None:
    """The last expression's value as text, if the code ends with one that is not None. It can be interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), space)
    if not isinstance(last, ast.Expr):
        return None
    found = eval(compile(ast.Expression(last.value), name, "eval"), space)
    if found is None:
        return None
    space["_"] = found
    return shortened(repr(found))


def told(problem: BaseException) -> str:
    """The traceback, without this file's own part in it."""
    frames = problem.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == "<string>":
        frames = frames.tb_next
    return shortened("".join(traceback.format_exception(type(problem), problem, frames)).rstrip())


def figures() -> list[str]:
    """The open figures of matplotlib as PNG, which are closed then."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    found: list[str] = []
    left = IMAGES_BYTES_MAX
    for number in pyplot.get_fignums() if pyplot else ():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, format="png", bbox_inches="tight")
        left -= picture.tell()
        if left > 0 and len(found) < IMAGES_MAX:
            found.append(base64.b64encode(picture.getvalue()).decode())
    if pyplot:
        pyplot.close("all")
    return found


def shortened(text: str) -> str:
    """The beginning and the end of what is long."""
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX // 2] + "\n...\n" + text[-TEXT_MAX // 2 :]


def flush() -> None:
    """What was printed must be in the pipe before the answer is."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()


def read(fd: int, count: int) -> bytes | None:
    """So many bytes, or None at the end."""
    found = b""
    while len(found) < count:
        piece = os.read(fd, count - len(found))
        if not piece:
            return None
        found += piece
    return found


def write(fd: int, content: bytes) -> None:
    """Writes until nothing is left."""
    while content:
        content = content[os.write(fd, content) :]


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
