"""Images: what our routes look at of bodies that are forwarded as they came. Source: OpenAI's `CreateImageRequest`."""

from typing import Annotated, Any

from msgspec import Meta, Struct

Prompt = Annotated[str, Meta(min_length=1)]


class CreateImage(Struct, kw_only=True):
    """The body of `POST /v1/images/generations`, as far as it is looked at."""

    prompt: Prompt
    model: str | None = None
    stream: bool | None = None


class EditImage(Struct, kw_only=True):
    """The form of `POST /v1/images/edits`, as far as it is looked at; images and masks are files in it."""

    prompt: Prompt
    image: Annotated[Any, Meta(extra_json_schema={"type": "string", "format": "binary"})]
    model: str | None = None
    stream: bool | None = None


class Image(Struct, kw_only=True):
    """One image: its base64 data, or where it can be fetched."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class Made(Struct, kw_only=True):
    """How a host has made images."""

    background: str | None = None
    output_format: str | None = None
    quality: str | None = None
    size: str | None = None


class Images(Made, kw_only=True):
    """What a host answers."""

    data: list[Image]
    created: int = 0
    usage: dict[str, Any] | None = None


class ImageEvent(Made, kw_only=True):
    """What a host's stream says, as far as it is looked at: an image that is not finished, or one that is."""

    type: str = ""
    b64_json: str | None = None
    partial_image_index: int = 0
    revised_prompt: str | None = None
    error: Any = None
