"""The surface of this server on one screen: every route, and the app around them."""

from collections.abc import Sequence
from typing import Final

from starlette.routing import Route as Path
from starlette.routing import Router

from antiphon.api import (
    batches,
    chat,
    compact,
    completions,
    connectors,
    containers,
    conversations,
    embeddings,
    file_processors,
    files,
    images,
    inspect,
    models,
    rerank,
    responses,
    socket,
    tool_groups,
    uploads,
    vector_io,
    vector_store_files,
    vector_stores,
)
from antiphon.api.call import Receive, Scope, Send
from antiphon.api.errors import refusal, unknown_url, wrong_method
from antiphon.api.inside import Inside
from antiphon.api.middleware import CALL, Opening, Outermost
from antiphon.api.middleware import App as AsgiApp
from antiphon.api.route import SOCKET, Route
from antiphon.api.services import Services

ROUTES: Final[tuple[Route, ...]] = (
    models.list_models,
    models.get_model,
    chat.create_chat_completion,
    chat.list_chat_completions,
    chat.get_chat_completion,
    chat.update_chat_completion,
    chat.delete_chat_completion,
    chat.list_chat_messages,
    completions.create_completion,
    embeddings.create_embeddings,
    images.create_image,
    images.edit_image,
    rerank.create_rerank,
    rerank.inference_rerank,
    responses.create_response,
    socket.connect_responses,
    responses.list_responses,
    responses.count_input_tokens,
    compact.compact_response,
    responses.get_response,
    responses.delete_response,
    responses.cancel_response,
    responses.list_input_items,
    conversations.create_conversation,
    conversations.get_conversation,
    conversations.update_conversation,
    conversations.delete_conversation,
    conversations.create_items,
    conversations.list_items,
    conversations.get_item,
    conversations.delete_item,
    files.create_file,
    files.list_files,
    files.get_file,
    files.delete_file,
    files.get_content,
    uploads.create_upload,
    uploads.add_upload_part,
    uploads.complete_upload,
    uploads.cancel_upload,
    file_processors.process_file,
    containers.create_container,
    containers.list_containers,
    containers.get_container,
    containers.delete_container,
    containers.create_container_file,
    containers.list_container_files,
    containers.get_container_file,
    containers.delete_container_file,
    containers.get_container_content,
    batches.create_batch,
    batches.list_batches,
    batches.get_batch,
    batches.cancel_batch,
    vector_stores.create_vector_store,
    vector_stores.list_vector_stores,
    vector_stores.get_vector_store,
    vector_stores.update_vector_store,
    vector_stores.delete_vector_store,
    vector_stores.search_vector_store,
    vector_store_files.create_vector_store_file,
    vector_store_files.list_vector_store_files,
    vector_store_files.get_vector_store_file,
    vector_store_files.update_vector_store_file,
    vector_store_files.delete_vector_store_file,
    vector_store_files.get_vector_store_file_content,
    vector_store_files.create_vector_store_file_batch,
    vector_store_files.get_vector_store_file_batch,
    vector_store_files.cancel_vector_store_file_batch,
    vector_store_files.list_vector_store_batch_files,
    vector_io.insert_chunks,
    vector_io.query_chunks,
    tool_groups.register_tool_group,
    tool_groups.list_tool_groups,
    tool_groups.get_tool_group,
    tool_groups.unregister_tool_group,
    tool_groups.list_tools,
    tool_groups.get_tool,
    tool_groups.list_runtime_tools,
    tool_groups.invoke_tool,
    tool_groups.insert_documents,
    tool_groups.query_documents,
    connectors.list_connectors,
    inspect.list_providers,
    inspect.get_provider,
    inspect.version,
    inspect.health_v1,
    inspect.list_routes,
    inspect.health,
    inspect.ready,
    inspect.openapi,
    inspect.page,
)
ALIAS: Final = "/v1/openai/v1"
"""Llama Stack's older name of `/v1`."""


def application(opening: Opening, routes: Sequence[Route] = ROUTES) -> AsgiApp:
    """The ASGI app; its lifespan opens and closes the services."""
    return Outermost(_Dispatch(routes), tuple(routes), opening)


def inside(services: Services) -> Inside:
    """Requests of this server to itself, by the same routes."""
    return Inside(services, _Dispatch(ROUTES))


class _Dispatch:
    """Finds the route: paths without parameters in a table, others by Starlette's patterns, in order."""

    def __init__(self, routes: Sequence[Route]) -> None:
        found: dict[str, dict[str, Route]] = {}
        for each in routes:
            found.setdefault(each.path, {})[each.method] = each
        paths = {path: _Methods(methods) for path, methods in found.items()}
        self._known = list(paths)
        self._fixed = {path: served for path, served in paths.items() if "{" not in path}
        patterns = [Path(path, served) for path, served in paths.items() if "{" in path]
        self._patterns = Router(patterns, redirect_slashes=False, default=self._unknown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(ALIAS):
            scope["path"] = "/v1" + scope["path"].removeprefix(ALIAS)
        served = self._fixed.get(scope["path"]) or self._patterns
        await served(scope, receive, send)

    async def _unknown(self, scope: Scope, *_: object) -> None:
        raise unknown_url(scope["method"], scope["path"], self._known)


class _Methods:
    """The routes of one path. HEAD is answered as GET is; the server leaves out the body."""

    def __init__(self, routes: dict[str, Route]) -> None:
        self._routes = routes if "GET" not in routes else {**routes, "HEAD": routes["GET"]}
        self._allowed = sorted(self._routes.keys() - {SOCKET})

    async def __call__(self, scope: Scope, *_: object) -> None:
        found = self._routes.get(scope["method"])
        call = scope[CALL]
        if found is None:
            status, body, headers = refusal(wrong_method(scope["method"], scope["path"], self._allowed))
            await call.reply(status, body, headers=[*headers, (b"allow", ", ".join(self._allowed).encode())])
            return
        await found.serve(call)


__all__ = ["ALIAS", "ROUTES", "AsgiApp", "application", "inside"]
