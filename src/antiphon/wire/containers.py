"""The Containers API.

Source: OpenAI's OpenAPI document, `ContainerResource`, `CreateContainerBody`, `ContainerFileResource`; names judged by
the `openai` package.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from antiphon.wire.base import Full, Order

MemoryLimit = Literal["1g", "4g", "16g", "64g"]
FILE_IDS_MAX = 50
FOLDER = "/mnt/data"
"""Where a container's files are."""


class ExpiresAfter(Struct, kw_only=True):
    """When a container is to vanish, in minutes after its last use."""

    anchor: Literal["last_active_at"]
    minutes: Annotated[int, Meta(ge=1, le=43_200)]


class NetworkPolicy(Struct, kw_only=True):
    """Whether a container may use the network: here it never may."""

    type: Literal["disabled", "allowlist"] = "disabled"


class Container(Full, kw_only=True):
    """A container: files, and while it is in use an interpreter that remembers what was run in it."""

    id: str
    object: Literal["container"] = "container"
    created_at: int
    name: str
    status: Literal["running", "expired"] = "running"
    expires_after: ExpiresAfter
    last_active_at: int
    memory_limit: MemoryLimit = "1g"
    network_policy: NetworkPolicy = msgspec.field(default_factory=NetworkPolicy)


class ContainerDeleted(Full, kw_only=True):
    """The answer to a container's deletion."""

    id: str
    object: Literal["container.deleted"] = "container.deleted"
    deleted: bool = True


class CreateContainer(Struct, kw_only=True):
    """The body of `POST /v1/containers`."""

    name: Annotated[str, Meta(min_length=1, max_length=512)]
    expires_after: ExpiresAfter | None = None
    file_ids: Annotated[list[str], Meta(max_length=FILE_IDS_MAX)] | None = None
    memory_limit: MemoryLimit | None = None
    network_policy: dict[str, Any] | None = None
    skills: list[dict[str, Any]] | None = None


class ContainerListQuery(Struct, kw_only=True):
    """The query of `GET /v1/containers`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = "desc"
    after: str | None = None
    name: str | None = None


class ContainerFile(Full, kw_only=True):
    """A file of a container. `source`: who put it there, `user` or `assistant`."""

    id: str
    object: Literal["container.file"] = "container.file"
    bytes: int
    container_id: str
    created_at: int
    path: str
    source: Literal["user", "assistant"]


class ContainerFileDeleted(Full, kw_only=True):
    """The answer to the deletion of a container's file."""

    id: str
    object: Literal["container.file.deleted"] = "container.file.deleted"
    deleted: bool = True


class CreateContainerFile(Struct, kw_only=True):
    """The body of `POST /v1/containers/{id}/files`: a form with a file, of which only the name is kept here, or an id.

    `file_id` names an uploaded file that is copied.
    """

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})] | None = None
    file_id: str | None = None


class ContainerFileListQuery(Struct, kw_only=True):
    """The query of `GET /v1/containers/{id}/files`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = "desc"
    after: str | None = None
