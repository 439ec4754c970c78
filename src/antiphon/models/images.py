"""Which image model is asked: the one that is named, the configured one, or the only one there is; and its answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from antiphon.egress import read_whole
from antiphon.errors import DECODE_ERRORS, Unsupported, Upstream
from antiphon.exchange import Incoming
from antiphon.models.base import Access
from antiphon.models.catalog import Catalog, Resolved
from antiphon.models.chat_errors import broken
from antiphon.tooling import ImageGenerationConfig
from antiphon.wire.images import ImageEvent, Images

GENERATIONS: Final = "/images/generations"
EDITS: Final = "/images/edits"
COMPLETED: Final = ("image_generation.completed", "image_edit.completed")
PARTIAL: Final = ("image_generation.partial_image", "image_edit.partial_image")


async def image_model(
    catalog: Catalog, config: ImageGenerationConfig, name: str | None, *, access: Access, param: str
) -> Resolved:
    """The model. Raises `Unsupported` (`no_image_model`) where none is named and there is none, or a choice.

    Raises as `Catalog.resolve` for a name.
    """
    if chosen := name or config.model:
        return await catalog.resolve(chosen, access, kind="image")
    only = await catalog.only("image")
    if only is None:
        message = "An image model must be named: here, there is none, or a choice. Set `image_generation.model`."
        raise Unsupported(message, param=param, code="no_image_model")
    return only


async def images_in(answer: Incoming, resolved: Resolved) -> AsyncGenerator[ImageEvent, None]:
    """The image, and before it, if the host streams, those that are not finished. Raises `Upstream`."""
    try:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            yield _only(_answers.decode(await read_whole(answer, bytes_max=resolved.answer_bytes_max)))
            return
        async with aclosing(_data(answer, resolved)) as said:
            async for each in said:
                event = _events.decode(each)
                if event.error is not None:
                    raise broken(resolved.host, {"error": event.error})
                yield event
                if event.type in COMPLETED:
                    return
    except DECODE_ERRORS as error:
        raise Upstream(f"Host {resolved.host!r} sent something that is no image.") from error
    finally:
        await answer.close()
    raise Upstream(f"Host {resolved.host!r} broke off before the image was there.")


def _only(images: Images) -> ImageEvent:
    """The first image, as a stream would end with it."""
    data = images.data[0].b64_json if images.data else None
    return ImageEvent(
        type=COMPLETED[0],
        b64_json=data,
        revised_prompt=images.data[0].revised_prompt if images.data else None,
        background=images.background,
        output_format=images.output_format,
        quality=images.quality,
        size=images.size,
    )


async def _data(answer: Incoming, resolved: Resolved) -> AsyncGenerator[bytes, None]:
    """The data lines of a stream. An image is one line of megabytes, so that pieces are joined once."""
    held: list[bytes] = []
    size = 0
    async for piece in answer.pieces:
        size += len(piece)
        if size > resolved.answer_bytes_max:
            raise Upstream(f"Host {resolved.host!r} sent more than the {resolved.answer_bytes_max} bytes allowed here.")
        held.append(piece)
        if b"\n" in piece:
            *lines, rest = b"".join(held).split(b"\n")
            held = [rest]
            for line in lines:
                if line.startswith(b"data:") and line != b"data: [DONE]":
                    yield line[5:]


_answers = msgspec.json.Decoder(Images)
_events = msgspec.json.Decoder(ImageEvent)
