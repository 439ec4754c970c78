"""Why a file cannot be read, and the bounds within which it is."""

from typing import Literal

from msgspec import Struct

Code = Literal["unsupported_file", "invalid_file", "server_error"]
"""OpenAI's codes of a store file's `last_error`."""


class Refused(Exception):
    """The file is not read: `message` says why, to its owner."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


class Bounds(Struct, frozen=True, kw_only=True):
    """What a file may hold: pages, bytes its archive expands to, characters of text."""

    pages_max: int
    expanded_bytes_max: int
    chars_max: int


def broken(kind: str, why: object) -> Refused:
    """The error for a file that is not what it says it is."""
    return Refused("invalid_file", f"The file is no valid {kind}: {why}.")


def pages_within(count: int, bounds: Bounds) -> None:
    """Raises `Refused` where a document has too many pages."""
    if count > bounds.pages_max:
        raise Refused("invalid_file", f"The file has {count} pages; this server reads up to {bounds.pages_max}.")
