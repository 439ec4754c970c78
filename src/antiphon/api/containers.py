"""Containers and their files. What is run in them, models ask for: there is no route for it."""

import contextlib
from typing import Any

import msgspec

from antiphon.api.call import Call
from antiphon.api.files import FORM_BYTES, Download, safe_name, within
from antiphon.api.form import Form
from antiphon.api.route import report, route
from antiphon.errors import DECODE_ERRORS, InvalidRequest, NotFound, Unsupported, misfit
from antiphon.hosted import MEGABYTE
from antiphon.tools.hosting import check_memory, copied, path_of
from antiphon.wire.base import Page
from antiphon.wire.containers import (
    Container,
    ContainerDeleted,
    ContainerFile,
    ContainerFileDeleted,
    ContainerFileListQuery,
    ContainerListQuery,
    CreateContainer,
    CreateContainerFile,
    ExpiresAfter,
)
from antiphon.wire.files import File

_decode_by_id = msgspec.json.Decoder(CreateContainerFile).decode


@route("POST", "/v1/containers", body=CreateContainer, answer=Container)
async def create_container(call: Call[CreateContainer, None]) -> Container:
    """Create a container, with copies of uploaded files."""
    services, body = call.services, call.body
    config = services.config.sandbox
    if not config.enabled:
        raise Unsupported(NOT_ENABLED, code="unsupported_feature")
    if body.skills:
        raise Unsupported("Skills are not served by this server.", param="skills")
    if (body.network_policy or {}).get("type", "disabled") != "disabled":
        message = "Containers have no network on this server: 'network_policy' can only be 'disabled'."
        raise Unsupported(message, param="network_policy")
    check_memory(config, body.memory_limit, "memory_limit")
    if call.begun is not None:
        with contextlib.suppress(NotFound):
            return await services.containers.get(call.owner, call.begun)
    for file_id in body.file_ids or ():
        await services.files.get(call.owner, file_id)
    now = int(services.clock())
    container = Container(
        id=await call.new_id("cntr"),
        created_at=now,
        name=body.name,
        expires_after=body.expires_after or ExpiresAfter(anchor="last_active_at", minutes=config.expires_minutes),
        last_active_at=now,
        memory_limit=body.memory_limit or "1g",
    )
    await services.containers.create(call.owner, container)
    for file_id in body.file_ids or ():
        await copied(services.containers, services.files, call.owner, container_id=container.id, file_id=file_id)
    return container


NOT_ENABLED = "This server runs no code: 'sandbox.enabled' is not set in its configuration."


@route("GET", "/v1/containers", query=ContainerListQuery, answer=Page[Container])
async def list_containers(call: Call[None, ContainerListQuery]) -> Page[Container]:
    """List containers."""
    return await call.services.containers.list(call.owner, call.query)


@route("GET", "/v1/containers/{container_id}", answer=Container)
async def get_container(call: Call[None, None]) -> Container:
    """Retrieve a container; its status says whether it is expired."""
    return await call.services.containers.get(call.owner, call.params["container_id"])


@route("DELETE", "/v1/containers/{container_id}", answer=ContainerDeleted)
async def delete_container(call: Call[None, None]) -> ContainerDeleted:
    """Delete a container and its files."""
    container_id = call.params["container_id"]
    await call.services.containers.delete(call.owner, container_id)
    return ContainerDeleted(id=container_id)


@route("POST", "/v1/containers/{container_id}/files", form=CreateContainerFile, answer=ContainerFile)
async def create_container_file(call: Call[None, None]) -> ContainerFile:
    """Put a file into a container: uploaded with the request, or a copy of one that was uploaded before."""
    services, container_id = call.services, call.params["container_id"]
    container = await services.containers.live(call.owner, container_id)
    if not call.headers.get(b"content-type", b"").startswith(b"multipart/"):
        raw = await call.read(services.config.limits.body_bytes_max)
        return await _copy(call, container_id, _file_id(raw))
    bytes_max = services.config.sandbox.disk_mb * MEGABYTE
    form = Form(call.headers.get(b"content-type", b""), call.pieces(bytes_max + FORM_BYTES))
    await form.begin()
    report(call, "field", sorted(form.fields.keys() - {"file_id"}))
    if form.filename is None:
        if not form.fields.get("file_id"):
            raise _neither()
        return await _copy(call, container_id, form.fields["file_id"])
    file = ContainerFile(
        id=await call.new_id("cfile"),
        bytes=0,
        container_id=container.id,
        created_at=int(services.clock()),
        path=path_of(safe_name(form.filename, "file")),
        source="user",
    )
    return await services.containers.put_file(call.owner, file, within(form.content(), bytes_max, "file"))


@route(
    "GET",
    "/v1/containers/{container_id}/files",
    query=ContainerFileListQuery,
    answer=Page[ContainerFile],
)
async def list_container_files(call: Call[None, ContainerFileListQuery]) -> Page[ContainerFile]:
    """List the files of a container."""
    return await call.services.containers.list_files(call.owner, call.params["container_id"], call.query)


@route("GET", "/v1/containers/{container_id}/files/{file_id}", answer=ContainerFile)
async def get_container_file(call: Call[None, None]) -> ContainerFile:
    """Retrieve a container's file, without its bytes."""
    found = await call.services.containers.get_file(call.owner, call.params["container_id"], call.params["file_id"])
    return found.file


@route("DELETE", "/v1/containers/{container_id}/files/{file_id}", answer=ContainerFileDeleted)
async def delete_container_file(call: Call[None, None]) -> ContainerFileDeleted:
    """Delete a container's file."""
    file_id = call.params["file_id"]
    await call.services.containers.delete_file(call.owner, call.params["container_id"], file_id)
    return ContainerFileDeleted(id=file_id)


@route("GET", "/v1/containers/{container_id}/files/{file_id}/content", media="application/octet-stream")
async def get_container_content(call: Call[None, None]) -> Download:
    """Download the bytes of a container's file."""
    containers = call.services.containers
    kept = await containers.get_file(call.owner, call.params["container_id"], call.params["file_id"])
    name = kept.file.path.rpartition("/")[2]
    shown = File(
        id=kept.file.id, bytes=kept.file.bytes, created_at=kept.file.created_at, filename=name, purpose="user_data"
    )
    return Download(shown, None, None if call.method == "HEAD" else await containers.read(kept))


async def _copy(call: Call[Any, Any], container_id: str, file_id: str) -> ContainerFile:
    services = call.services
    id = await call.new_id("cfile")
    owner = call.owner
    return await copied(services.containers, services.files, owner, container_id=container_id, file_id=file_id, id=id)


def _file_id(raw: bytes) -> str:
    try:
        body = _decode_by_id(raw or b"{}")
    except DECODE_ERRORS as error:
        raise misfit(error) from error
    if not body.file_id:
        raise _neither()
    return body.file_id


def _neither() -> InvalidRequest:
    message = "Either 'file', as multipart/form-data, or 'file_id' is required."
    return InvalidRequest(message, param="file", code="missing_required_parameter")
