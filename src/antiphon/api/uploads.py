"""Uploads: a file in parts, sent in any order and side by side, and made one at the end."""

import contextlib
import hashlib

from antiphon.api.call import Call
from antiphon.api.files import FORM_BYTES, expires_s, file_id_of, safe_name, with_digest, within
from antiphon.api.form import Form
from antiphon.api.route import report, route
from antiphon.errors import InvalidRequest, NotFound
from antiphon.stores.uploads import Stored
from antiphon.wire.uploads import UPLOAD_S, AddUploadPart, CompleteUpload, CreateUpload, Upload, UploadPart


@route("POST", "/v1/uploads", body=CreateUpload, answer=Upload)
async def create_upload(call: Call[CreateUpload, None]) -> Upload:
    """Begin to upload a file in parts."""
    services, body = call.services, call.body
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            return (await services.uploads.get(call.owner, call.begun)).upload
    bytes_max = services.config.limits.upload_bytes_max
    if body.bytes > bytes_max:
        message = f"The upload would have {body.bytes} bytes; this server accepts {bytes_max} at most."
        raise InvalidRequest(message, param="bytes", code="integer_above_max_value")
    created_at = int(services.clock())
    upload = Upload(
        id=await call.new_id("upload"),
        bytes=body.bytes,
        created_at=created_at,
        expires_at=created_at + UPLOAD_S,
        filename=safe_name(body.filename, "filename"),
        purpose=body.purpose,
        status="pending",
    )
    await services.uploads.create(call.owner, Stored(upload=upload, expires_s=expires_s(body)))
    return upload


@route("POST", "/v1/uploads/{upload_id}/parts", form=AddUploadPart, answer=UploadPart)
async def add_upload_part(call: Call[None, None]) -> UploadPart:
    """Add a part to an upload."""
    services, upload_id = call.services, call.params["upload_id"]
    bytes_max = services.config.limits.upload_part_bytes_max
    form = Form(call.headers.get(b"content-type", b""), call.pieces(bytes_max + FORM_BYTES), file="data")
    await form.begin()
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            part = await services.uploads.get_part(call.owner, upload_id, call.begun)
            async for _ in form.content():
                pass  # read to its end, so that what is kept knows the request
            return part
    if form.filename is None:
        message = "Missing required field `data`: the part's bytes."
        raise InvalidRequest(message, param="data", code="missing_required_parameter")
    noted = await call.new_id("part") if call.execution is not None else None
    digest = hashlib.sha256()
    content = within(form.content(), bytes_max, "data")
    if services.config.mode == "replay":  # only there do ids depend on what they name
        content = with_digest(content, digest)

    def name() -> str:
        report(call, "field", sorted(form.fields))
        return noted or services.new_id("part", call.seed + digest.digest())

    return await services.uploads.add(call.owner, upload_id, content, name=name)


@route("POST", "/v1/uploads/{upload_id}/complete", body=CompleteUpload, answer=Upload)
async def complete_upload(call: Call[CompleteUpload, None]) -> Upload:
    """Make a file of an upload's parts, in the order that is given."""
    file_id = file_id_of(call.services.new_id("file", call.seed))
    return await call.services.uploads.complete(call.owner, call.params["upload_id"], call.body, file_id=file_id)


@route("POST", "/v1/uploads/{upload_id}/cancel", answer=Upload)
async def cancel_upload(call: Call[None, None]) -> Upload:
    """Cancel an upload: its parts are removed."""
    return await call.services.uploads.cancel(call.owner, call.params["upload_id"])
