"""Images, made and edited by the model's host: bodies are passed on as they came, but for the model's name."""

from typing import Any

import msgspec
from msgspec import Raw

from antiphon.api.call import JSON, Call
from antiphon.api.parts import fields_of, form_of, parts_of
from antiphon.api.relay import relayed, whole
from antiphon.api.route import route
from antiphon.api.sse import EventStream
from antiphon.errors import DECODE_ERRORS, misfit
from antiphon.models.catalog import Resolved
from antiphon.models.images import EDITS, GENERATIONS, image_model
from antiphon.wire.chat import rewritten
from antiphon.wire.images import CreateImage, EditImage, Images

_bodies = msgspec.json.Decoder(CreateImage)
_JSON = JSON.decode()


@route("POST", "/v1/images/generations", body=CreateImage, answer=Images, events=dict[str, Any], forwards=True)
async def create_image(call: Call[CreateImage, None]) -> object:
    """Make images from a prompt."""
    resolved = await _model(call, call.body.model)
    return await _answer(
        call, resolved, GENERATIONS, content=_renamed(call.raw, resolved), stream=bool(call.body.stream)
    )


@route("POST", "/v1/images/edits", form=EditImage, answer=Images, events=dict[str, Any])
async def edit_image(call: Call[None, None]) -> object:
    """Edit or extend images by a prompt."""
    content_type = call.headers.get(b"content-type", b"")
    raw = await call.read(call.services.config.limits.body_bytes_max)
    if content_type.partition(b";")[0].strip().lower() == JSON:
        try:
            asked = _bodies.decode(raw)
        except DECODE_ERRORS as error:
            raise misfit(error) from error
        resolved = await _model(call, asked.model)
        return await _answer(call, resolved, EDITS, content=_renamed(raw, resolved), stream=bool(asked.stream))
    parts = parts_of(content_type, raw)
    fields = fields_of(parts)
    resolved = await _model(call, fields.get("model"))
    form = form_of(parts, {"model": resolved.model})
    return await _answer(call, resolved, EDITS, content=form, stream=fields.get("stream", "").lower() == "true")


async def _model(call: Call[Any, None], name: str | None) -> Resolved:
    services = call.services
    config = services.config.image_generation
    return await image_model(services.catalog, config, name, access=call.access, param="model")


def _renamed(raw: bytes, resolved: Resolved) -> tuple[str, bytes]:
    return _JSON, rewritten(raw, {"model": Raw(msgspec.json.encode(resolved.model))})


async def _answer(
    call: Call[Any, None], resolved: Resolved, path: str, *, content: tuple[str, bytes], stream: bool
) -> object:
    """The host's answer to a body of some content type."""
    kind, body = content
    opening = resolved.provider.post(path, body, call.access, content_type=kind)
    bytes_max = call.services.config.limits.answer_bytes_max
    if stream:
        return EventStream(relayed(resolved.host, opening, bytes_max=bytes_max))
    return await call.until_gone(whole(resolved.host, opening, bytes_max=bytes_max, member="data"))
