"""Texts into vectors by whichever model a name leads to, and the two forms in which hosts write a vector.

The body that is sent is exactly what Llama Stack sends, since recordings are found again by it.
"""

import base64
import math
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from antiphon.egress import read_whole
from antiphon.errors import InvalidRequest, Upstream
from antiphon.models.base import Access
from antiphon.models.catalog import Catalog, Resolved
from antiphon.wire.embeddings import Embeddings

PATH: Final = "/embeddings"
Encoding = Literal["float", "base64"]
UNREADABLE: Final = (msgspec.DecodeError, RecursionError, ValueError)
"""What reading a host's vectors may raise."""

_encode = msgspec.json.Encoder().encode
_answers = msgspec.json.Decoder(Embeddings)
_text = msgspec.json.Decoder(str)
_numbers = msgspec.json.Decoder(list[float])


async def embed(
    catalog: Catalog, model: str, texts: Sequence[str], *, access: Access, dimensions: int | None = None
) -> list[bytes]:
    """One vector for each text, in order: 32-bit floats, little-endian, all of one length.

    All texts go to the model's host in one request. Raises `ApiError`s only: what `Catalog.resolve` and
    `Provider.post` raise, `InvalidRequest` for an empty text, and `Upstream` for an answer that is not one finite
    vector per text.
    """
    if "" in texts:
        raise InvalidRequest(f"Text {list(texts).index('')} to embed is empty.", param="input")
    resolved = await catalog.resolve(model, access, kind="embedding")
    if not texts:
        return []
    body: dict[str, Any] = {"model": resolved.model, "input": list(texts), "encoding_format": "float"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    incoming = await resolved.provider.post(PATH, _encode(body), access)
    answer = await read_whole(incoming, bytes_max=resolved.answer_bytes_max)
    try:
        given = _answers.decode(answer)
        vectors = [vector_of(each.embedding) for each in _in_order(given, len(texts))]
        _check(vectors, dimensions)
    except UNREADABLE as error:
        raise unreadable(resolved.host, error) from error
    learn(catalog, resolved, given, dimensions=dimensions)
    return [packed(vector) for vector in vectors]


async def default_model(catalog: Catalog, configured: str) -> str:
    """The model that embeds where nobody named one: the configured one, or the only one there is; "" if none is."""
    if configured:
        return configured
    only = await catalog.only("embedding")
    return only.id if only is not None else ""


def learn(catalog: Catalog, resolved: Resolved, given: Embeddings, *, dimensions: int | None) -> None:
    """Tells the catalog the length of this model's vectors, if it does not know and the client did not choose it."""
    if resolved.info.dimension is None and dimensions is None and given.data:
        dimension = len(vector_of(given.data[0].embedding))
        catalog.learn_dimension(resolved.host, resolved.model, dimension)


def unreadable(host: str, error: Exception) -> Upstream:
    """One of `UNREADABLE`, as the host's fault."""
    why = str(error).partition(" - at ")[0]
    return Upstream(f"Host {host!r} sent embeddings that cannot be read: {why[:200]}.")


# ---------------------------------------------------------------- the forms of a vector


def encoding_of(embedding: Raw) -> Encoding:
    """How a vector is written. Raises `ValueError` where it is neither."""
    first = bytes(memoryview(embedding)[:1])
    if first not in (b'"', b"["):
        raise ValueError("neither numbers nor base64")
    return "base64" if first == b'"' else "float"


def vector_of(embedding: Raw) -> "array[float]":
    """A vector in either form. Raises one of `UNREADABLE`."""
    if encoding_of(embedding) == "float":
        return array("f", _numbers.decode(embedding))
    vector = array("f")
    vector.frombytes(base64.b64decode(_text.decode(embedding), validate=True))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def packed(vector: "array[float]") -> bytes:
    """A vector as 32-bit floats, little-endian."""
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return vector.tobytes()


def _in_order(given: Embeddings, count: int) -> list[Any]:
    found = {each.index: each for each in given.data}
    if len(given.data) == count and found.keys() == {0}:  # hosts that leave the index out
        return given.data
    if len(given.data) != count or found.keys() != set(range(count)):
        raise ValueError(f"not one for each of {count} texts")
    return [found[index] for index in range(count)]


def _check(vectors: "Sequence[array[float]]", dimensions: int | None) -> None:
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"vectors of lengths {sorted(lengths)}")
    if dimensions is not None and lengths != {dimensions}:
        raise ValueError(f"vectors of length {lengths.pop()} where {dimensions} was asked for")
    # A sum of 32-bit floats cannot leave the range of a double: it is finite if and only if they all are.
    if not all(math.isfinite(sum(vector)) for vector in vectors):
        raise ValueError("a number that is not finite")
