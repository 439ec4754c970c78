"""Files and images in a context, as the model's host can be given them.

What a client sends stays as it was sent: an id stays an id, so that a file that was deleted reaches no model any more.
Only the request to the model has contents in it. A host that takes files is given them as data; for others a file
becomes its text. Images become data URLs where the host could not fetch them.
"""

import asyncio
import base64
import binascii
import hashlib
import mimetypes
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.errors import InvalidRequest, NotFound
from antiphon.exchange import Replay
from antiphon.fetch import Fetcher
from antiphon.limits import FetchConfig, Limits
from antiphon.models.base import ModelRequest
from antiphon.presets import Quirks
from antiphon.stores.files import Files
from antiphon.vectors.base import Document
from antiphon.vectors.readers.refused import Refused
from antiphon.wire.items import (
    ComputerCallOutput,
    ComputerScreenshot,
    CustomToolCallOutput,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
)

CACHED_CHARS_MAX: Final = 8_000_000
"""Of files' texts that are kept, since each turn of a conversation shows its files again."""
HISTORY: Final = "input"
"""Where errors say that an attachment stands which came with an earlier request."""
UNNAMED: Final = "file"
_PLACE = re.compile(r"\{(filename|text)\}")
_BEGINNINGS: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)

Part = TypeVar("Part")
Picture = InputImage | ComputerScreenshot
_chat_messages = msgspec.json.Decoder(list[dict[str, Any]])


class Reads(Protocol):
    """Makes text of files. Raises `Refused`."""

    async def parse(self, source: AsyncIterator[bytes], filename: str) -> Document:
        """A file's blocks; the name's ending counts where the bytes do not tell what they are."""
        ...


class AttachmentsConfig(Struct, frozen=True, kw_only=True):
    """The settings that concern attachments: limits, fetching, and how a file's text is shown to a model."""

    limits: Limits
    fetch: FetchConfig
    template: str


class Asking(Struct, frozen=True, kw_only=True):
    """For whom attachments are made ready, for which host, and how that is recorded or replayed.

    `places` says, by id, where in the request an item stands, for errors; others belong to what came before.
    """

    owner: str
    quirks: Quirks
    replay: Replay
    places: Mapping[str, str] = msgspec.field(default_factory=dict)


class Attachments:
    """Where the contents of attachments come from."""

    def __init__(self, files: Files, fetcher: Fetcher, reader: Reads, *, config: AttachmentsConfig) -> None:
        self.files = files
        self.fetcher = fetcher
        self.config = config
        self._reader = reader
        self._texts: OrderedDict[tuple[bytes, str], str] = OrderedDict()
        self._chars = 0

    async def filled(self, request: ModelRequest, asking: Asking) -> ModelRequest:
        """The request as this host can be sent it; what was changed stands in its `as_sent`.

        Raises `NotFound` (`file_not_found`) for a file that is not there, or not any more, and `InvalidRequest` for
        what cannot be fetched, is no image, cannot be read, or is too much.
        """
        filling = _Filling(self, asking)
        items: list[Item] = []
        as_sent: dict[str, Item] = {}
        for item in request.items:
            items.append(await filling.item(item))
            if items[-1] is not item:
                as_sent[item.id or ""] = item
        return replace(request, items=items, as_sent=as_sent) if as_sent else request

    async def filled_chat(self, messages: bytes, asking: Asking) -> bytes | None:
        """The `messages` of a chat completion likewise; None if they can be sent as they are. Raises as `filled`."""
        if b'"file"' not in messages and b'"image_url"' not in messages:
            return None
        filling, changed = _Filling(self, asking), False
        decoded = _chat_messages.decode(messages)
        for number, message in enumerate(decoded):
            content = message.get("content")
            parts = content if isinstance(content, list) else []
            for index, part in enumerate(parts):
                given = _of_chat(part)
                shown = None if given is None else await filling.part(given, f"messages[{number}].content[{index}]")
                if shown is not given and shown is not None:
                    parts[index], changed = _as_chat(part, shown), True
        return msgspec.json.encode(decoded) if changed else None

    async def text(self, content: bytes, filename: str, at: str) -> str:
        """What a file says, as a model is shown it."""
        key = (hashlib.sha256(content).digest(), PurePath(filename).suffix.lower())
        text = self._texts.get(key)
        if text is None:
            text = await self._read(content, filename, at)
            self._keep(key, text)
        else:
            self._texts.move_to_end(key)
        values = {"filename": filename, "text": text}
        return _PLACE.sub(lambda found: values[found[1]], self.config.template)

    async def _read(self, content: bytes, filename: str, at: str) -> str:
        try:
            text = (await self._reader.parse(_once(content), filename)).text()
        except Refused as error:
            message = f"The file {filename!r} cannot be shown to this model: {error.message}"
            raise InvalidRequest(message, param=at, code=error.code) from error
        if not text.strip():
            message = f"The file {filename!r} has no text, and the host of this model takes nothing else of a file."
            raise InvalidRequest(message, param=at, code="file_without_text")
        return text

    def _keep(self, key: tuple[bytes, str], text: str) -> None:
        if len(text) > CACHED_CHARS_MAX or key in self._texts:
            return
        self._texts[key] = text
        self._chars += len(text)
        while self._chars > CACHED_CHARS_MAX:
            self._chars -= len(self._texts.popitem(last=False)[1])


class _Content(Struct, frozen=True, kw_only=True):
    """What an attachment holds."""

    body: bytes
    name: str


class _Filling:
    """The attachments of one request, counted."""

    def __init__(self, attachments: Attachments, asking: Asking) -> None:
        self._attachments = attachments
        self._asking = asking
        self._limits = attachments.config.limits
        self._count = 0
        self._bytes = 0

    async def item(self, item: Item) -> Item:
        """The item with its attachments filled in; the very same one if nothing had to be."""
        at = self._asking.places.get(item.id or "")
        if isinstance(item, Message) and isinstance(item.content, list):
            content = await self._parts(item.content, at and f"{at}.content")
            return item if content is None else replace(item, content=content)
        if isinstance(item, FunctionCallOutput | CustomToolCallOutput) and isinstance(item.output, list):
            output = await self._parts(item.output, at and f"{at}.output")
            return item if output is None else replace(item, output=output)
        if isinstance(item, ComputerCallOutput):
            shown = await self.part(item.output, f"{at}.output" if at else HISTORY)
            return item if shown is item.output else replace(item, output=shown)
        return item

    async def _parts(self, parts: Sequence[Any], at: str | None) -> list[Any] | None:
        """The parts; None if all can stay as they are."""
        filled = [await self.part(part, f"{at}[{index}]" if at else HISTORY) for index, part in enumerate(parts)]
        same = all(new is old for new, old in zip(filled, parts, strict=True))
        return None if same else filled

    async def part(self, part: Part, at: str) -> "Part | InputText | InputImage | InputFile | ComputerScreenshot":
        """A part of a message, with its content."""
        if isinstance(part, InputImage | ComputerScreenshot) and self._needs_picture(part):
            self._counted(at)
            return replace(part, image_url=await self._picture(part, at), file_id=None)
        if isinstance(part, InputFile) and not (part.file_data and self._asking.quirks.files):
            self._counted(at)
            return await self._file(part, at)
        return part

    def _needs_picture(self, part: Picture) -> bool:
        quirks = self._asking.quirks
        if not quirks.images:
            return False  # the refusal says so
        if part.image_url is None:
            return True
        fetched = not quirks.image_urls or self._attachments.config.fetch.images == "always"
        return fetched and not part.image_url.startswith("data:")

    async def _picture(self, part: Picture, at: str) -> str:
        if part.image_url is not None:
            body = (await self._fetched(part.image_url, at)).body
        else:
            body = (await self._stored(part.file_id or "", at)).body
        kind = image_type(body)
        if kind is None:
            what = f"The file '{part.file_id}'" if part.image_url is None else "What the URL of the image leads to"
            message = f"{what} is no image that models take: png, jpeg, gif or webp."
            raise InvalidRequest(message, param=at, code="invalid_image")
        return await _inline(kind, body)

    async def _file(self, part: InputFile, at: str) -> InputText | InputImage | InputFile:
        content, quirks = await self._content(part, at), self._asking.quirks
        if quirks.files:
            media = mimetypes.guess_type(content.name)[0] or "application/octet-stream"
            data = await _inline(media, content.body)
            return replace(part, file_data=data, file_id=None, file_url=None, filename=content.name)
        kind = image_type(content.body)
        if kind is not None and quirks.images:
            return InputImage(image_url=await _inline(kind, content.body))
        return InputText(text=await self._attachments.text(content.body, content.name, at))

    async def _content(self, part: InputFile, at: str) -> _Content:
        if part.file_data is not None:
            content = await asyncio.to_thread(_decoded, part.file_data, at)
            self._weighed(len(content.body), at)
        elif part.file_id is not None:
            content = await self._stored(part.file_id, at)
        else:
            content = await self._fetched(part.file_url or "", at)
        return replace(content, name=part.filename or content.name)

    async def _stored(self, file_id: str, at: str) -> _Content:
        files, owner = self._attachments.files, self._asking.owner
        try:
            file = await files.get(owner, file_id)
            self._weighed(file.bytes, at)
            body = b"".join([piece async for piece in await files.read(owner, file_id)])
        except NotFound as error:
            message = f"File with id '{file_id}' not found: it was never uploaded, or deleted since."
            raise NotFound(message, param=at, code="file_not_found") from error
        return _Content(body=body, name=file.filename)

    async def _fetched(self, url: str, at: str) -> _Content:
        found = await self._attachments.fetcher.get(url, param=at, replay=self._asking.replay)
        self._weighed(len(found.content), at)
        return _Content(body=found.content, name=_named(found.name, found.content_type))

    def _counted(self, at: str) -> None:
        self._count += 1
        if self._count > self._limits.attachments_max:
            message = f"A request may have {self._limits.attachments_max} files and images at most, history included."
            raise InvalidRequest(message, param=at, code="too_many_attachments")

    def _weighed(self, size: int, at: str) -> None:
        self._bytes += size
        bytes_max = self._limits.attachments_bytes_max
        if self._bytes > bytes_max:
            message = f"The files and images of a request may have {bytes_max} bytes together, history included."
            raise InvalidRequest(message, param=at, code="attachments_too_large")


def image_type(content: bytes) -> str | None:
    """The media type of an image that models take, by how it begins; None for anything else."""
    return next((kind for beginning, kind in _BEGINNINGS if beginning.match(content)), None)


def _decoded(data: str, at: str) -> _Content:
    """What stands in `file_data`: base64, or a data URL."""
    head, _, rest = data.partition(",") if data.startswith("data:") else ("data:;base64", "", data)
    try:
        body = base64.b64decode(rest, validate=True) if head.endswith(";base64") else unquote_to_bytes(rest)
    except (ValueError, binascii.Error) as error:
        message = "`file_data` must be base64, or a data URL such as data:application/pdf;base64,..."
        raise InvalidRequest(message, param=at, code="invalid_file_data") from error
    return _Content(body=body, name=_named("", head.removeprefix("data:").partition(";")[0]))


def _named(name: str, media: str) -> str:
    """The name, with an ending that says what it is if it has none."""
    return name if PurePath(name).suffix else (name or UNNAMED) + (mimetypes.guess_extension(media) or "")


async def _inline(kind: str, body: bytes) -> str:
    encoded = await asyncio.to_thread(base64.b64encode, body)
    return f"data:{kind};base64,{encoded.decode()}"


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


# ---------------------------------------------------------------- parts of chat completions


def _of_chat(part: Any) -> InputImage | InputFile | None:
    """A part of a chat message that may need its content; None for any other."""
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)}} if url:
            return InputImage(image_url=url)
        case {"type": "file", "file": dict() as file}:
            given: Mapping[str, Any] = {
                name: file[name] for name in ("file_id", "file_data", "filename") if isinstance(file.get(name), str)
            }
            return InputFile(**given) if given.get("file_id") or given.get("file_data") else None
    return None


def _as_chat(sent: dict[str, Any], shown: object) -> dict[str, Any]:
    """The part as it is shown; what else a client wrote into it is for its host."""
    if isinstance(shown, InputFile):
        return {**sent, "file": {"filename": shown.filename, "file_data": shown.file_data}}
    if isinstance(shown, InputImage):
        return {**sent, "type": "image_url", "image_url": {**sent.get("image_url", {}), "url": shown.image_url}}
    return {"type": "text", "text": shown.text if isinstance(shown, InputText) else ""}
