"""A file is read and cut into chunks, which nobody keeps."""

import asyncio
import hashlib
import uuid
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from antiphon.api.call import Call
from antiphon.api.form import Form
from antiphon.api.route import report, route
from antiphon.errors import DECODE_ERRORS, ApiError, InvalidRequest, Unavailable, misfit
from antiphon.models.tokens import VOCABULARY, count_text, tokenizer
from antiphon.vectors.base import Document, Piece
from antiphon.vectors.chunk import pieces
from antiphon.vectors.parse import Refused
from antiphon.wire.chunking import as_cut
from antiphon.wire.file_processors import ProcessedChunk, ProcessedChunkMetadata, ProcessedFile, ProcessFile

FORM_BYTES: Final = 64 * 1024
"""What a form may hold beside the file's bytes."""
_NESTED: Final = frozenset({"options", "chunking_strategy"})
"""Fields of a form that are JSON."""


@route("POST", "/v1alpha/file-processors/process", form=ProcessFile, answer=ProcessedFile)
async def process_file(call: Call[None, None]) -> bytes:
    """Read a file and cut it into chunks, without keeping either."""
    services = call.services
    began_at = services.clock()
    asked, form = await _request(call)
    if form is None:
        file = await services.files.get(call.owner, asked.file_id or "")
        document_id, filename = file.id, file.filename
        source = await services.files.read(call.owner, file.id)
    else:
        document_id, filename = services.new_id("doc", call.seed), form.filename or "upload"
        source = form.content()
    try:
        async with services.parser.spooled(source) as spooled:
            if form is not None:  # whose fields may follow the file
                asked = _one(_asked(call, {**form.fields, "file": filename}))
            document = await call.until_gone(services.parser.read(spooled, filename))
    except Refused as refused:
        raise _error(refused) from refused
    if asked.options:
        call.warn("options are not used")
    cut = _Cut(asked=asked, document_id=document_id, filename=filename, at=int(services.clock()))
    chunks = await asyncio.to_thread(_chunks, document, cut)
    metadata = {"processor": "antiphon", "processing_time_ms": round(1000 * (services.clock() - began_at))}
    pages = max((block.page or 0 for block in document.blocks), default=0)
    answer = ProcessedFile(chunks=chunks, metadata=metadata | ({"page_count": pages} if pages else {}))
    return await asyncio.to_thread(msgspec.json.encode, answer)


class _Cut(msgspec.Struct, frozen=True, kw_only=True):
    """How a document is cut, and what its chunks say of it. `at` is the time, in seconds."""

    asked: ProcessFile
    document_id: str
    filename: str
    at: int


def _chunks(document: Document, cut: _Cut) -> list[ProcessedChunk]:
    """The document's chunks; without a strategy, its whole text is one. For a thread, as it may be long."""
    if cut.asked.chunking_strategy is None:
        text = document.text()
        found = iter([Piece(text=text, start=0, end=len(text), page=document.blocks[0].page)])
    else:
        found = pieces(document, as_cut(cut.asked.chunking_strategy), tokenizer())
    return [_chunk(piece, number, cut) for number, piece in enumerate(found)]


def _chunk(piece: Piece, number: int, cut: _Cut) -> ProcessedChunk:
    seed = f"{cut.document_id} {number} {piece.text}".encode()
    id = str(uuid.UUID(bytes=hashlib.sha256(seed).digest()[:16]))
    metadata: dict[str, Any] = {"document_id": cut.document_id, "filename": cut.filename, "chunk_index": number}
    metadata |= {"page": piece.page} if piece.page else {}
    metadata |= {"heading": piece.heading} if piece.heading else {}
    return ProcessedChunk(
        content=piece.text,
        chunk_id=id,
        metadata=metadata,
        chunk_metadata=ProcessedChunkMetadata(
            chunk_id=id,
            document_id=cut.document_id,
            source=cut.filename,
            chunk_window=f"{piece.start}-{piece.end}",
            chunk_tokenizer=VOCABULARY,
            content_token_count=count_text(piece.text),
            created_timestamp=cut.at,
            updated_timestamp=cut.at,
        ),
    )


async def _request(call: Call[None, None]) -> tuple[ProcessFile, Form | None]:
    """What is asked for, as far as it is known; and the form, where that holds the file."""
    content_type = call.headers.get(b"content-type", b"")
    match content_type.partition(b";")[0].strip().lower():
        case b"multipart/form-data":
            form = Form(content_type, call.pieces(call.services.config.limits.file_bytes_max + FORM_BYTES))
            await form.begin()
            if form.filename is not None:
                return _asked(call, form.fields), form
            asked = _asked(call, form.fields)
        case b"application/x-www-form-urlencoded":
            asked = _asked(call, dict(parse_qsl((await call.read(FORM_BYTES)).decode(errors="replace"))))
        case _:
            asked = _decoded(await call.read(FORM_BYTES))
    return _one(asked), None


def _asked(call: Call[None, None], fields: dict[str, str]) -> ProcessFile:
    """What the fields of a form say. Raises `InvalidRequest`."""
    given: dict[str, Any] = dict(fields)
    for name in _NESTED & fields.keys():
        try:
            given[name] = msgspec.json.decode(fields[name]) if fields[name].strip() else None
        except DECODE_ERRORS as error:
            raise misfit(error, name) from error
    report(call, "field", sorted(fields.keys() - set(ProcessFile.__struct_encode_fields__)))
    try:
        return msgspec.convert(given, ProcessFile)
    except msgspec.ValidationError as error:
        raise misfit(error) from error


def _decoded(raw: bytes) -> ProcessFile:
    try:
        return msgspec.json.decode(raw or b"{}", type=ProcessFile)
    except DECODE_ERRORS as error:
        raise misfit(error) from error


def _one(asked: ProcessFile) -> ProcessFile:
    if (asked.file is None) == (asked.file_id is None):
        given = "neither" if asked.file is None else "both"
        raise InvalidRequest(f"Expected one of `file` and `file_id`, got {given}.", param="file_id")
    return asked


def _error(refused: Refused) -> ApiError:
    """A file that cannot be read is the client's fault, unless the machine gave up."""
    if refused.code == "server_error":
        return Unavailable(refused.message)
    return InvalidRequest(refused.message, param="file", code=refused.code)
