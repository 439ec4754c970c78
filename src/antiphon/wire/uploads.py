"""The Uploads API: a file in parts.

Source: OpenAI's OpenAPI document, `Upload`, `UploadPart`, `CreateUploadRequest`, `AddUploadPartRequest` and
`CompleteUploadRequest`; names judged by the `openai` package.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from antiphon.wire.base import Full
from antiphon.wire.files import ExpiresAfter, File, Purpose

UPLOAD_S = 3_600
"""How long an upload may take, from its creation to its completion."""

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


class CreateUpload(Struct, kw_only=True):
    """The body of `POST /v1/uploads`. `bytes` is how many the file will have."""

    bytes: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    filename: str
    mime_type: str
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class Upload(Full, kw_only=True):
    """A file that is being uploaded in parts; `file` is there once it is completed."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: UploadStatus
    file: File | None = None


class AddUploadPart(Struct, kw_only=True):
    """The form of `POST /v1/uploads/{upload_id}/parts`: its bytes are streamed past."""

    data: Annotated[str, Meta(extra_json_schema={"format": "binary"})]


class UploadPart(Full, kw_only=True):
    """A part of an upload. Its place in the file is said at the end."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class CompleteUpload(Struct, kw_only=True):
    """The body of `POST /v1/uploads/{upload_id}/complete`: the parts in their order, and the file's MD5 in hex."""

    part_ids: list[str]
    md5: Annotated[str, Meta(pattern="^[0-9a-fA-F]{32}$")] | None = None
