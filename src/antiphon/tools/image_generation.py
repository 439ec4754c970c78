"""The tool `image_generation`: the model asks for an image, an image model's host makes it, or changes those there are.

The model is told that there is an image, and not shown it: not every chat model can see. An image costs money, so a
call that may have been made already is not made again.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from antiphon.errors import DECODE_ERRORS, InvalidRequest, Unsupported, Upstream
from antiphon.exchange import field, multipart
from antiphon.models.base import Access, Function
from antiphon.models.catalog import Catalog, Resolved
from antiphon.models.images import COMPLETED, EDITS, GENERATIONS, PARTIAL, image_model, images_in
from antiphon.tooling import ImageGenerationConfig
from antiphon.tools.base import Caller, Ended, Offer, Place, ServerTool
from antiphon.wire.calls import Answer, Call, Made
from antiphon.wire.events import Event, ImageCompleted, ImageGenerating, ImageInProgress, ImagePartial, ItemPlace
from antiphon.wire.images import ImageEvent
from antiphon.wire.items import ImageGenerationCall, InputImage
from antiphon.wire.tools import ImageGenerationTool

NAME: Final = "image_generation"
_PASSED_ON: Final = ("background", "moderation", "output_compression", "output_format", "quality", "size")
_JSON: Final = "application/json"
_ALWAYS_DATA: Final = re.compile(r"gpt-image|chatgpt-image")
"""Models that always send data, and refuse to be asked for it."""
_PROMPT: Final = {"type": "string", "description": "What the image shows, in full: the image model knows nothing else"}
_EDIT: Final = {"type": "boolean", "description": "Change the images of this conversation instead of making a new one"}
_SIZE: Final = {"type": "string", "description": "Width and height in pixels, such as 1024x1024; auto if left out"}


class ImageGeneration(ServerTool):
    """Makes images for a request's `image_generation`."""

    idempotent = False

    def __init__(self, catalog: Catalog, config: ImageGenerationConfig) -> None:
        self._catalog = catalog
        self._config = config

    # ------------------------------------------------------------ how the model sees it

    def offers(self, tool: ImageGenerationTool, index: int) -> Iterable[Offer]:
        """One function with a `prompt`, a `size` where the request leaves it open, and `edit` likewise."""
        properties = {"prompt": _PROMPT} | ({} if tool.size not in (None, "auto") else {"size": _SIZE})
        properties |= {"edit": _EDIT} if tool.action in (None, "auto") else {}
        schema = {"type": "object", "properties": properties, "required": ["prompt"]}
        description = "Makes an image and shows it to the user"
        function = Function(name=NAME, description=description, parameters=schema)
        return [Offer(function=function, kind=NAME, name=NAME, tool=tool, index=index)]

    async def absent(self, tool: ImageGenerationTool, caller: Caller, at: str) -> Unsupported | None:
        """That no image model is named and none can be chosen, unless such requests are to be refused."""
        if tool.model or self._config.missing == "refuse":
            return None
        try:
            await self._model(tool, caller.access, at)
        except Unsupported as error:
            return error
        return None

    async def check(self, tool: ImageGenerationTool, caller: Caller, at: str) -> None:
        """Raises `Unsupported` where there is no image model, `NotFound` for one that is not there."""
        await self._model(tool, caller.access, at)

    async def _model(self, tool: ImageGenerationTool, access: Access, at: str) -> Resolved:
        return await image_model(self._catalog, self._config, tool.model, access=access, param=f"{at}.model")

    def seen(self, item: ImageGenerationCall) -> tuple[Call, Answer]:
        """The call, and whether there is an image."""
        memory = item.memory
        call_id = memory.call_id if memory else item.id or "call_image_generation"
        arguments = memory.arguments if memory else msgspec.json.encode({"prompt": item.revised_prompt or ""}).decode()
        told = memory.output if memory and memory.output is not None else _told(item)
        return Call(call_id=call_id, name=NAME, arguments=arguments), Answer(call_id=call_id, output=told)

    # ------------------------------------------------------------ a call

    def begun(self, made: Made, _offer: Offer) -> tuple[ImageGenerationCall, str]:
        """The item, without its image."""
        item = ImageGenerationCall(id=made.id, status="in_progress")
        try:
            _arguments(made.arguments)
        except DECODE_ERRORS as error:
            return item, f"The arguments do not fit: {error}."
        return item, ""

    def started(self, _item: ImageGenerationCall, place: Place) -> Iterator[Event]:
        """In progress, generating."""
        where: ItemPlace = {"item_id": place.item_id, "output_index": place.output_index}
        yield ImageInProgress(sequence_number=place.next_number(), **where)
        yield ImageGenerating(sequence_number=place.next_number(), **where)

    async def run(self, item: ImageGenerationCall, offer: Offer, caller: Caller) -> Ended:
        """The item with its image."""
        tool = offer.tool
        if not isinstance(tool, ImageGenerationTool):
            raise TypeError(tool)
        asked = _arguments(item.memory.arguments if item.memory else "")
        edits = asked.pop("edit", False) if tool.action in (None, "auto") else tool.action == "edit"
        asked.pop("edit", None)
        resolved = await self._model(tool, caller.access, "tools")
        given = {name: value for name in _PASSED_ON if (value := getattr(tool, name)) is not None}
        body: dict[str, Any] = {**asked, **given, "model": resolved.model, "n": 1}
        if not _ALWAYS_DATA.search(resolved.model):
            body["response_format"] = "b64_json"
        if tool.partial_images:
            body |= {"stream": True, "partial_images": tool.partial_images}
        form = await _form(body, tool, caller) if edits else (_JSON, msgspec.json.encode(body))
        made = await _made(resolved, EDITS if edits else GENERATIONS, form, caller=caller)
        done = replace(
            item,
            status="completed",
            result=made.b64_json,
            revised_prompt=made.revised_prompt or asked["prompt"],
            action="edit" if edits else "generate",
            background=made.background or tool.background,
            output_format=made.output_format or tool.output_format or "png",
            quality=made.quality or tool.quality,
            size=made.size or body.get("size"),
        )
        return Ended(item=done)

    def told(self, _item: ImageGenerationCall, said: Mapping[str, Any], place: Place) -> Iterator[Event]:
        """A partial image."""
        where: ItemPlace = {"item_id": place.item_id, "output_index": place.output_index}
        yield ImagePartial(sequence_number=place.next_number(), **where, **said)

    def failed(self, item: ImageGenerationCall, message: str) -> ImageGenerationCall:
        """The item without an image."""
        memory = item.memory and replace(item.memory, output=f"No image was made: {message}")
        return replace(item, status="failed", memory=memory)

    def ended(self, item: ImageGenerationCall, place: Place) -> Iterator[Event]:
        """Completed; OpenAI has no event for an image that failed."""
        if item.status == "completed":
            yield ImageCompleted(
                sequence_number=place.next_number(), item_id=place.item_id, output_index=place.output_index
            )


async def _form(body: Mapping[str, Any], tool: ImageGenerationTool, caller: Caller) -> tuple[str, bytes]:
    """Content type and body of an edit of the context's images. Raises `InvalidRequest` where there are none."""
    pictures = await caller.pictures(None) if caller.pictures else []
    if not pictures:
        raise InvalidRequest("There is no image in this conversation that could be changed.")
    fields = dict(body) if tool.input_fidelity is None else {**body, "input_fidelity": tool.input_fidelity}
    parts = [field(name, value if isinstance(value, str) else _text(value)) for name, value in fields.items()]
    parts += [_file("image[]", f"image{number}", url) for number, url in enumerate(pictures)]
    if tool.input_image_mask is not None and caller.pictures:
        mask = InputImage(image_url=tool.input_image_mask.image_url, file_id=tool.input_image_mask.file_id)
        parts += [_file("mask", "mask", url) for url in await caller.pictures(mask)]
    return multipart(parts)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _file(name: str, filename: str, data_url: str) -> tuple[bytes, bytes]:
    head, _, data = data_url.partition(",")
    media = head.removeprefix("data:").partition(";")[0]
    said = f'Content-Disposition: form-data; name="{name}"; filename="{filename}.{media.rpartition("/")[2]}"\r\n'
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise InvalidRequest("An image of this conversation is no base64 data, and cannot be changed.") from error
    return f"{said}Content-Type: {media}\r\n".encode(), content


async def _made(resolved: Resolved, path: str, form: tuple[str, bytes], *, caller: Caller) -> ImageEvent:
    """The image; tells of those that are not finished. Raises `Upstream`."""
    kind, body = form
    answer = await resolved.provider.post(path, body, caller.access, content_type=kind)
    async with aclosing(images_in(answer, resolved)) as images:
        async for each in images:
            if each.type in PARTIAL and each.b64_json:
                how = {name: getattr(each, name) for name in ("background", "output_format", "quality", "size")}
                partial = {"partial_image_index": each.partial_image_index, "partial_image_b64": each.b64_json}
                caller.tell(partial | how)
            elif each.type in COMPLETED and each.b64_json:
                return each
    raise Upstream(f"Host {resolved.host!r} sent no image data.")


class _Asked(msgspec.Struct, omit_defaults=True):
    """The arguments of a call."""

    prompt: str
    size: str | None = None
    edit: bool = False


def _arguments(text: str) -> dict[str, Any]:
    """What the model asks for. Raises one of `DECODE_ERRORS`."""
    asked: dict[str, Any] = msgspec.to_builtins(msgspec.json.decode(text or "{}", type=_Asked))
    return asked


def _told(item: ImageGenerationCall) -> str:
    if item.result is None:
        return "No image was made."
    return f"The image was made and is shown to the user. It was made from: {item.revised_prompt or 'the prompt'}"
