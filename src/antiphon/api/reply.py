"""A whole answer that is not simply JSON with the route's status."""

from collections.abc import Sequence
from typing import Any

from antiphon.api.call import JSON, Call


class Reply:
    """Bytes with a status, a media type and headers of their own."""

    def __init__(
        self, body: bytes, *, status: int = 200, media: bytes = JSON, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.body = body
        self.status = status
        self.media = media
        self.headers = headers

    async def answer(self, call: Call[Any, Any]) -> None:
        """Sends it."""
        await call.reply(self.status, self.body, media=self.media, headers=self.headers)
