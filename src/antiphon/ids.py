"""Identifiers: time-ordered and unguessable in live use, a function of the request in replay.

An id is a prefix and 48 hexadecimal digits (`resp_...`), as in OpenAI's API. What belongs to a response is derived from
the response's id with `child_id`: the events of a run can then be rebuilt from its journal, byte for byte, without
storing a single item id.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable

NewId = Callable[[str, bytes], str]
"""(prefix, seed) -> a new id. The seed is what makes a replayed id reproducible: usually the request's body."""


def random_id(prefix: str, _seed: bytes = b"") -> str:
    """A fresh id: 48 bits of milliseconds, then 144 random bits."""
    return f"{prefix}_{int(time.time() * 1000):012x}{os.urandom(18).hex()}"


def replayable_ids() -> NewId:
    """A maker of ids that depend only on prefix, seed, and how often that pair was asked for before."""
    seen: Counter[tuple[str, bytes]] = Counter()

    def new(prefix: str, seed: bytes) -> str:
        key = (prefix, hashlib.sha256(seed).digest())
        seen[key] += 1
        digest = hashlib.sha256(b"%s|%s|%d" % (prefix.encode(), key[1], seen[key])).hexdigest()
        return f"{prefix}_{digest[:48]}"

    return new


def child_id(parent: str, prefix: str, index: int) -> str:
    """The id of the `index`-th thing that belongs to `parent`: same digits, other prefix, a running number."""
    return f"{prefix}_{parent.partition('_')[2]}{index:04x}"


def page_id(url: str) -> str:
    """The id under which a page of the web can be cited: derived from its address, so that it is always the same."""
    return f"web-{hashlib.blake2s(url.encode(errors='replace'), digest_size=4).hexdigest()}"
