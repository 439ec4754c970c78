"""Files: uploaded in a stream, kept, and sent out in a stream."""

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

import msgspec

from antiphon.api.call import Call
from antiphon.api.errors import refusal
from antiphon.api.form import Form
from antiphon.api.reply import Reply
from antiphon.api.route import report, route
from antiphon.errors import DECODE_ERRORS, InvalidRequest, NotFound, RangeNotSatisfiable, TooLarge, misfit
from antiphon.vectors.ingest import Target, put
from antiphon.wire.base import Page
from antiphon.wire.files import EXPIRES_S_MAX, CreateFile, File, FileDeleted, FileListQuery
from antiphon.wire.uploads import CreateUpload

NAME_CHARS_MAX: Final = 255
FORM_BYTES: Final = 64 * 1024
"""What a form may hold beside the file's bytes."""
UNNAMED: Final = "upload"
_NESTED = re.compile(r"expires_after\[(anchor|seconds)\]")
_RANGE = re.compile(rb"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.IGNORECASE)
_KNOWN = frozenset({"purpose", "expires_after", "expires_after[anchor]", "expires_after[seconds]"})
_UNQUOTABLE = re.compile(r'[^\x20-\x7e]|["\\%]')


@route("POST", "/v1/files", form=CreateFile, answer=File)
async def create_file(call: Call[None, None]) -> File:
    """Upload a file."""
    services = call.services
    bytes_max = services.config.limits.file_bytes_max
    form = Form(call.headers.get(b"content-type", b""), call.pieces(bytes_max + FORM_BYTES))
    await form.begin()
    if form.filename is None or "purpose" in form.fields:
        _wanted(form)  # what is wrong already need not be uploaded first
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            file = await services.files.get(call.owner, file_id_of(call.begun))
            async for _ in form.content():
                pass  # read to its end, so that what is kept knows the request
            return file
    noted = await call.new_id("file") if call.execution is not None else None
    digest = hashlib.sha256()

    def describe(size: int) -> File:
        wanted = _wanted(form)
        report(call, "field", sorted(form.fields.keys() - _KNOWN))
        created_at, kept_s = int(services.clock()), expires_s(wanted)
        name = b"%b\n%b\n%b" % (wanted.purpose.encode(), wanted.file.encode(), digest.digest())
        return File(
            id=_new_id(call, call.seed + name, noted),
            bytes=size,
            created_at=created_at,
            expires_at=None if kept_s is None else created_at + kept_s,
            filename=wanted.file,
            purpose=wanted.purpose,
        )

    content = within(form.content(), bytes_max, "file")
    if services.config.mode == "replay":  # only there do ids depend on what they name
        content = with_digest(content, digest)
    return await services.files.create(call.owner, content, describe)


@route("GET", "/v1/files", query=FileListQuery, answer=Page[File])
async def list_files(call: Call[None, FileListQuery]) -> Page[File]:
    """List the files that were uploaded."""
    return await call.services.files.list(call.owner, call.query)


@route("GET", "/v1/files/{file_id}", answer=File)
async def get_file(call: Call[None, None]) -> File:
    """Retrieve a file, without its bytes."""
    return await call.services.files.get(call.owner, call.params["file_id"])


@route("DELETE", "/v1/files/{file_id}", answer=FileDeleted)
async def delete_file(call: Call[None, None]) -> FileDeleted:
    """Delete a file and its bytes, and remove it from all vector stores."""
    services, file_id = call.services, call.params["file_id"]
    await services.files.delete(call.owner, file_id)
    for store_id in await services.vector_files.stores_of(call.owner, file_id):
        services.engine.signals.send(store_id)
        await put(services.jobs, Target(owner=call.owner, store=store_id, file=file_id))
    return FileDeleted(id=file_id)


@route("GET", "/v1/files/{file_id}/content", media="application/octet-stream")
async def get_content(call: Call[None, None]) -> "Download | Reply":
    """Download a file's bytes, or the range of them that the header `Range` names."""
    files, file_id = call.services.files, call.params["file_id"]
    file = await files.get(call.owner, file_id)
    if call.method == "HEAD":
        return Download(file, None, None)
    try:
        part = byte_range(call.headers.get(b"range", b""), file.bytes)
    except RangeNotSatisfiable as error:
        status, body, headers = refusal(error)
        return Reply(body, status=status, headers=[*headers, (b"content-range", b"bytes */%d" % file.bytes)])
    start, length = part or (0, file.bytes)
    return Download(file, part, await files.read(call.owner, file_id, start, length=length))


class Download:
    """A file's bytes as an answer, sent no faster than the client takes them."""

    def __init__(self, file: File, part: tuple[int, int] | None, content: AsyncIterator[bytes] | None) -> None:
        self._file = file
        self._part = part
        self._content = content

    async def answer(self, call: Call[Any, Any]) -> None:
        """Sends them. Whatever they are, no browser shall show them as a page of this server."""
        head = [
            (b"content-type", b"application/octet-stream"),
            (b"accept-ranges", b"bytes"),
            (b"content-disposition", disposition(self._file.filename)),
            (b"x-content-type-options", b"nosniff"),
        ]
        size = self._file.bytes
        start, length = self._part or (0, size)
        head.append((b"content-length", b"%d" % length))
        if self._part is not None:
            head.append((b"content-range", b"bytes %d-%d/%d" % (start, start + length - 1, size)))
        await call.start(200 if self._part is None else 206, head)
        if self._content is not None:
            await call.until_gone(_send(call, self._content))
        await call.write(b"", more=False)


def byte_range(header: bytes, size: int) -> tuple[int, int] | None:
    """Start and length of what a `Range` header asks for; None for the whole, as where it asks for several ranges.

    Raises `RangeNotSatisfiable` for one that begins after the end (RFC 9110, section 14).
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[1] == found[2] == b"":
        return None
    first, last = found[1], found[2]
    if first and last and int(first) > int(last):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise RangeNotSatisfiable(f"The range {header.decode('latin-1')[:60]!r} lies outside the file's {size} bytes.")
    return start, end - start


def disposition(filename: str) -> bytes:
    """`attachment`, with the name in ASCII for old clients and in full for others (RFC 6266)."""
    plain = _UNQUOTABLE.sub("_", filename)
    full = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{full}'.encode()


async def _send(call: Call[Any, Any], content: AsyncIterator[bytes]) -> None:
    async for piece in content:
        await call.write(piece)


def _wanted(form: Form) -> CreateFile:
    """What the form says. Raises `InvalidRequest`."""
    given: dict[str, Any] = {name: form.fields[name] for name in ("purpose",) if name in form.fields}
    if form.filename is not None:
        given["file"] = safe_name(form.filename, "file")
    nested = {found[1]: value for name, value in form.fields.items() if (found := _NESTED.fullmatch(name))}
    whole = form.fields.get("expires_after", "")
    if whole.strip():
        try:
            nested = msgspec.json.decode(whole)
        except DECODE_ERRORS as error:
            raise misfit(error, "expires_after") from error
    if nested:
        given["expires_after"] = nested
    try:
        return msgspec.convert(given, CreateFile, strict=False)
    except msgspec.ValidationError as error:
        raise misfit(error) from error


def safe_name(filename: str, param: str) -> str:
    """The name without folders; it names no place on this server, but clients save files under it."""
    name = re.split(r"[/\\]", filename)[-1]
    if len(name) > NAME_CHARS_MAX or not name.isprintable() or name in (".", ".."):
        problem = f"expected up to {NAME_CHARS_MAX} printable characters, got {filename[:100]!r}"
        raise InvalidRequest(f"The file has no usable name: {problem}.", param=param)
    return name or UNNAMED


def expires_s(wanted: CreateFile | CreateUpload) -> int | None:
    """How long the file is kept. As OpenAI documents it, a batch's input expires without being told to."""
    if wanted.expires_after is not None:
        return wanted.expires_after.seconds
    return EXPIRES_S_MAX if wanted.purpose == "batch" else None


def _new_id(call: Call[None, None], seed: bytes, noted: str | None) -> str:
    """The file's id. While a test of Llama Stack's is recorded or replayed, the one it has there: prompts name it.

    Otherwise the one that was noted under the client's key, if there is a key.
    """
    services, replay = call.services, call.access.replay
    if replay.test_id is not None and (replay.mode or services.config.mode) != "live":
        return services.test_ids.next("file", replay.test_id)
    return file_id_of(noted or services.new_id("file", seed))


def file_id_of(id: str) -> str:
    """An id as files have it: `file-...`."""
    return id.replace("_", "-", 1)


async def within(content: AsyncIterator[bytes], bytes_max: int, what: str) -> AsyncIterator[bytes]:
    """The content, as long as it keeps to the limit. Raises `TooLarge`."""
    size = 0
    async for piece in content:
        size += len(piece)
        if size > bytes_max:
            raise TooLarge(f"The {what} is larger than the {bytes_max} bytes that this server accepts.", param=what)
        yield piece


async def with_digest(content: AsyncIterator[bytes], digest: "hashlib._Hash") -> AsyncIterator[bytes]:
    """The content; what passes is digested."""
    async for piece in content:
        digest.update(piece)
        yield piece
