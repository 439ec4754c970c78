"""What an index keeps of a text's words: a number for each, and how often it comes. Pure.

The number is 32 bits of a checksum, the same in every process. Among 200,000 words, a word that is asked for and is
not among them meets one of the same number once in 20,000 times.
"""

import zlib
from collections import Counter
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from antiphon.vectors.words import words

_BYTES: Final = 5
_COUNT_MAX: Final = 255


def term(word: str) -> int:
    """The number that stands for a word."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


class Terms(Struct, frozen=True):
    """The different words of a text, and how often each comes (255 times at most)."""

    numbers: NDArray[np.uint32]
    counts: NDArray[np.uint8]


def packed(text: str) -> bytes:
    """A text's terms: the numbers, little-endian, then the counts."""
    counted = Counter(words(text))
    numbers = np.array([term(word) for word in counted], "<u4")
    return numbers.tobytes() + bytes(min(count, _COUNT_MAX) for count in counted.values())


def unpacked(kept: bytes) -> Terms:
    """What was packed."""
    size = len(kept) // _BYTES
    return Terms(np.frombuffer(kept, "<u4", size), np.frombuffer(kept, np.uint8, size, 4 * size))


def asked(query: str) -> NDArray[np.uint32]:
    """The terms of a query, each once, in order."""
    return np.unique(np.array([term(word) for word in words(query)], np.uint32))
