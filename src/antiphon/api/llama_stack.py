"""Streams as Llama Stack's own clients read them.

Until 0.7 they take every line for JSON and fail at `[DONE]`. In all versions their types want the response's id in the
events of items and parts, where OpenAI's events have none: without it an item arrives as something else, and an agent
overlooks its calls.
"""

import re
from typing import Final

HEADER: Final = b"x-llamastack-client-version"
"""Sent by these clients with each request."""
_DONE: Final = b"data: [DONE]\n\n"
_RESPONSE = re.compile(rb'"response":\{"id":("[^"]+")')
_OF_AN_ITEM = re.compile(rb"^(event: response\.(?:output_item|content_part)\.(?:added|done)\ndata: \{)", re.MULTILINE)


class Spoken:
    """The pieces of one stream, one after the other: a function of whole frames."""

    def __init__(self) -> None:
        self._member = b""

    def __call__(self, frames: bytes) -> bytes:
        """The frames as they are sent."""
        if not self._member and (found := _RESPONSE.search(frames)):
            self._member = b'"response_id":%b,' % found[1]
        return _OF_AN_ITEM.sub(lambda head: head[1] + self._member, frames).removesuffix(_DONE)
