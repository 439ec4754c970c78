"""Embeddings, passed through to the model's host; vectors are rewritten only if the host sent the other encoding."""

import base64
import binascii
import sys
from array import array
from typing import Any, Literal

import msgspec
from msgspec import Raw

from antiphon.api.call import Call
from antiphon.api.relay import whole
from antiphon.api.route import route
from antiphon.errors import InvalidRequest, Upstream
from antiphon.models.catalog import Resolved
from antiphon.wire.chat import rewritten
from antiphon.wire.embeddings import CreateEmbedding, Embeddings, mixed

PATH = "/embeddings"
Encoding = Literal["float", "base64"]

_encode = msgspec.json.Encoder().encode
_answers = msgspec.json.Decoder(Embeddings)
_text = msgspec.json.Decoder(str)
_numbers = msgspec.json.Decoder(list[float])


@route("POST", "/v1/embeddings", body=CreateEmbedding, answer=Embeddings, forwards=True)
async def create_embeddings(call: Call[CreateEmbedding, None]) -> bytes:
    """Turn texts or tokens into vectors."""
    body, services = call.body, call.services
    _check(body, services.config.limits.embedding_inputs_max)
    resolved = await services.catalog.resolve(body.model, call.access, kind="embedding")
    outgoing = rewritten(call.raw, {"model": Raw(_encode(resolved.model))})
    opening = resolved.provider.post(PATH, outgoing, call.access)
    bytes_max = services.config.limits.answer_bytes_max
    answer = await call.until_gone(whole(resolved.host, opening, bytes_max=bytes_max, member="data"))
    try:
        given = _answers.decode(answer)
        _learn(call, resolved, given)
        return _encoded(answer, given, body.encoding_format or "float")
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise Upstream(f"Host {resolved.host!r} sent embeddings that cannot be read.") from error


def _check(body: CreateEmbedding, inputs_max: int) -> None:
    if mixed(body):
        message = "The list of inputs mixes texts, tokens and arrays of tokens; send one kind."
        raise InvalidRequest(message, param="input", code="invalid_type")
    if isinstance(body.input, list) and not isinstance(body.input[0], int) and len(body.input) > inputs_max:
        message = f"At most {inputs_max} inputs are allowed, not {len(body.input)}."
        raise InvalidRequest(message, param="input", code="array_above_max_length")


def _learn(call: Call[CreateEmbedding, None], resolved: Resolved, given: Embeddings) -> None:
    """Tells the catalog the length of this model's vectors, if it does not know and the client did not choose it."""
    if resolved.info.dimension is None and call.body.dimensions is None and given.data:
        dimension = len(_vector(given.data[0].embedding))
        call.services.catalog.learn_dimension(resolved.host, resolved.model, dimension)


def _encoded(answer: bytes, given: Embeddings, wanted: Encoding) -> bytes:
    """The answer with every vector in the encoding that the client asked for."""
    if all(_encoding(each.embedding) == wanted for each in given.data):
        return answer
    whole_answer: dict[str, Any] = msgspec.json.decode(answer)
    for shown, each in zip(whole_answer["data"], given.data, strict=True):
        vector = _vector(each.embedding)
        shown["embedding"] = list(vector) if wanted == "float" else base64.b64encode(_little(vector)).decode()
    return _encode(whole_answer)


def _encoding(embedding: Raw) -> Encoding:
    first = bytes(memoryview(embedding)[:1])
    if first not in (b'"', b"["):
        raise ValueError("neither numbers nor base64")
    return "base64" if first == b'"' else "float"


def _vector(embedding: Raw) -> "array[float]":
    if _encoding(embedding) == "float":
        return array("f", _numbers.decode(embedding))
    vector = array("f")
    vector.frombytes(base64.b64decode(_text.decode(embedding), validate=True))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _little(vector: "array[float]") -> bytes:
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return vector.tobytes()
