"""The Files API.

Source: OpenAI's OpenAPI document, `OpenAIFile`, `CreateFileRequest` and `FileExpirationAfter`; names judged by the
`openai` package.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from antiphon.wire.base import Full, Order

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
"""What a client may upload a file for."""
AnyPurpose = Literal[Purpose, "assistants_output", "batch_output", "fine-tune-results"]
"""Likewise, and what this server writes files for."""

EXPIRES_S_MIN = 3_600
EXPIRES_S_MAX = 2_592_000
FILES_MAX = 10_000
"""Files on one page of a list."""


class File(Full, kw_only=True):
    """A file that was uploaded. `status` is deprecated and final from the start: there is nothing to wait for."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: AnyPurpose
    status: Literal["uploaded", "processed", "error"] = "processed"
    status_details: str | None = None


class ExpiresAfter(Struct, kw_only=True):
    """When a file is to vanish by itself."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=EXPIRES_S_MIN, le=EXPIRES_S_MAX)]


class CreateFile(Struct, kw_only=True):
    """The form of `POST /v1/files`. Of `file` only the name is kept here: its bytes are streamed past."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class FileListQuery(Struct, kw_only=True):
    """The query of `GET /v1/files`."""

    limit: Annotated[int, Meta(ge=1, le=FILES_MAX)] = FILES_MAX
    order: Order = "desc"
    after: str | None = None
    purpose: str | None = None


class FileDeleted(Full, kw_only=True):
    """The answer to a file's deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True
