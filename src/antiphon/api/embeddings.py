"""Embeddings, passed through to the model's host; vectors are rewritten only if the host sent the other encoding."""

import base64
from typing import Any

import msgspec
from msgspec import Raw

from antiphon.api.call import Call
from antiphon.api.relay import whole
from antiphon.api.route import route
from antiphon.errors import InvalidRequest
from antiphon.models.embedding import PATH, UNREADABLE, Encoding, encoding_of, learn, packed, unreadable, vector_of
from antiphon.wire.chat import rewritten
from antiphon.wire.embeddings import CreateEmbedding, Embeddings, mixed

_encode = msgspec.json.Encoder().encode
_answers = msgspec.json.Decoder(Embeddings)


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
        learn(services.catalog, resolved, given, dimensions=body.dimensions)
        return _encoded(answer, given, body.encoding_format or "float")
    except UNREADABLE as error:
        raise unreadable(resolved.host, error) from error


def _check(body: CreateEmbedding, inputs_max: int) -> None:
    if mixed(body):
        message = "The list of inputs mixes texts, tokens and arrays of tokens; send one kind."
        raise InvalidRequest(message, param="input", code="invalid_type")
    if isinstance(body.input, list) and not isinstance(body.input[0], int) and len(body.input) > inputs_max:
        message = f"At most {inputs_max} inputs are allowed, not {len(body.input)}."
        raise InvalidRequest(message, param="input", code="array_above_max_length")


def _encoded(answer: bytes, given: Embeddings, wanted: Encoding) -> bytes:
    """The answer with every vector in the encoding that the client asked for."""
    if all(encoding_of(each.embedding) == wanted for each in given.data):
        return answer
    whole_answer: dict[str, Any] = msgspec.json.decode(answer)
    for shown, each in zip(whole_answer["data"], given.data, strict=True):
        vector = vector_of(each.embedding)
        shown["embedding"] = list(vector) if wanted == "float" else base64.b64encode(packed(vector)).decode()
    return _encode(whole_answer)
