"""How the server and a sandbox's first process talk: a JSON header and bytes, each with its length before it.

Standard library only: this runs on both sides.
"""

import json
import os
import struct
from typing import Any, Final

HEAD: Final = struct.Struct("!II")
HEADER_BYTES_MAX: Final = 4 * 2**20


def frame(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """A message as bytes."""
    text = json.dumps(header).encode()
    return HEAD.pack(len(text), len(payload)) + text + payload


def read_frame(fd: int) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None at the end."""
    head = read_exactly(fd, HEAD.size)
    if head is None:
        return None
    header_bytes, payload_bytes = HEAD.unpack(head)
    header, payload = read_exactly(fd, header_bytes), read_exactly(fd, payload_bytes)
    return None if header is None or payload is None else (json.loads(header), payload)


def read_exactly(fd: int, count: int) -> bytes | None:
    """So many bytes; None if the end comes before."""
    found = bytearray()
    while len(found) < count:
        piece = os.read(fd, min(count - len(found), 2**20))
        if not piece:
            return None
        found += piece
    return bytes(found)


def write_all(fd: int, content: bytes) -> None:
    """Writes until nothing is left."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
