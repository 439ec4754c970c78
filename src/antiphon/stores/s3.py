"""Blobs in a bucket of S3, or of anything that speaks as S3 does.

`obstore` does the work outside Python: signing, retries, uploads in parts with two under way, and giving up a broken
one. What a killed process has uploaded in parts, no client sees; a lifecycle rule of the bucket removes it.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from antiphon.errors import Unavailable
from antiphon.stores.blobs import CHUNK_BYTES, gone, in_chunks

log = logging.getLogger("antiphon.stores")

PART_BYTES = 5 * 2**20
"""The least that S3 takes as a part; what is smaller is sent in one request."""
_PARTS_AT_ONCE = 2
_RETRIES: Any = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}


class S3Blobs:
    """A bucket, or what lies below a prefix in it.

    The URL's query has `endpoint` (without: Amazon's own), `region`, or another setting of obstore's S3 client.
    Without keys the client takes those of its surroundings: variables, a profile of the machine or the container.
    """

    def __init__(self, url: str, keys: tuple[str, str] = ("", "")) -> None:
        parts = urlsplit(url)
        config: Any = {"region": "us-east-1", **dict(parse_qsl(parts.query))}
        if all(keys):
            config |= dict(zip(("access_key_id", "secret_access_key"), keys, strict=True))
        with _translated():
            self._store = S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                config=config,
                client_options={"allow_http": "endpoint=http:" in unquote(parts.query), "connect_timeout": "5s"},
                retry_config=_RETRIES,
            )

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """One request if it fits into a part, else an upload in parts: S3 shows neither before it is complete."""
        chunks = in_chunks(pieces, PART_BYTES)
        first = await anext(chunks, b"")
        await chunks.aclose()  # the rest goes on as it comes: `obstore` gathers by itself
        size = len(first)

        async def whole() -> AsyncIterator[bytes]:
            nonlocal size
            yield first
            async for piece in pieces:
                size += len(piece)
                yield piece

        content = first if size < PART_BYTES else whole()
        with _translated():
            await obstore.put_async(self._store, key, content, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        return size

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Asks for the object; its bytes are taken from the connection as they are asked for."""
        wanted: Any = {"offset": start} if length is None else (start, start + length)
        with _translated():
            found = await obstore.get_async(self._store, key, options={"range": wanted} if start or length else None)
        return _pieces(found)

    async def delete(self, key: str) -> None:
        """Removes the object."""
        with _translated():
            await obstore.delete_async(self._store, key)

    async def close(self) -> None:
        """Connections close by themselves."""


async def _pieces(found: "obstore.GetResult") -> AsyncIterator[bytes]:
    with _translated():
        async for piece in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchKey" in str(error):
            raise gone() from error
        raise Unavailable("The file storage is not available: there is no such bucket.") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise Unavailable("The file storage is not available: it refuses this server's credentials.") from error
    except (BaseError, OSError) as error:
        log.warning("S3 failed", extra={"exception": str(error).partition("\n")[0]})
        raise Unavailable("The file storage is not available: it did not answer as it should.") from error
