"""Our wire types against the published ones: the `openai` package always, OpenAI's document where it is at hand.

Compared are names (both ways), what is required, enumerations, and the `type` tags of unions. What differs stands in
`DEVIATIONS`, one line a difference, each with its reason; a deviation that no longer exists fails the test too.
"""

import json
import types
import typing
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from openai import types as openai_types
from openai.types import Batch as SdkBatch
from openai.types import BatchError as SdkBatchError
from openai.types import BatchRequestCounts as SdkBatchRequestCounts
from openai.types import BatchUsage as SdkBatchUsage
from openai.types import FileDeleted as SdkFileDeleted
from openai.types import (
    FileObject,
    batch_create_params,
    batch_list_params,
    completion_create_params,
    embedding_create_params,
    file_create_params,
    file_list_params,
    upload_complete_params,
    upload_create_params,
    vector_store,
    vector_store_create_params,
    vector_store_list_params,
    vector_store_search_params,
    vector_store_update_params,
    vector_stores,
)
from openai.types import StaticFileChunkingStrategy as SdkStaticChunking
from openai.types import Upload as SdkUpload
from openai.types import VectorStore as SdkVectorStore
from openai.types import VectorStoreDeleted as SdkVectorStoreDeleted
from openai.types import VectorStoreSearchResponse as SdkSearchResult
from openai.types import containers as sdk_container_files
from openai.types import conversations as sdk_conversations
from openai.types import responses as sdk
from openai.types.chat import ChatCompletion, completion_list_params, completion_update_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_compact_params, response_create_params, response_usage
from openai.types.shared import Reasoning as SdkReasoning
from openai.types.uploads import UploadPart as SdkUploadPart
from openai.types.uploads import part_create_params

from antiphon.wire import (
    batches,
    chat,
    chunking,
    containers,
    conversations,
    embeddings,
    events,
    files,
    items,
    responses,
    search,
    tools,
    uploads,
)
from antiphon.wire import vector_stores as stores

NOT_SERVED = "belongs to what this release does not serve; never sent, and optional in clients' types"
LATER = "an event of what this release does not serve"
REFUSED = "a tool of a later release: asking for it is a 400 that names it (`UNSERVED_TOOLS`)"
OPEN_RESPONSES = "Open Responses requires it"
HOSTED = "a status or reason that only OpenAI's own machinery comes to"
CREATED_BY = "names an actor of OpenAI's platform; this server has none to name"
FILLED_IN = "a client may leave it out; it is filled in before the item is stored or sent"
FORWARDED = "not looked at: a chat's body goes to the host as it came"
PASSED_ON = "only passed on: any value is kept as it came"
LLAMA_STACK = "Llama Stack's clients send or read it"
IN_PACKAGE = "in the package, newer than the document"

DEVIATIONS: dict[str, str] = {
    "File.purpose: +evals": "what a file may be uploaded for, it may be for",
    "IncompleteDetails.reason: -max_messages -steered": HOSTED,
    "InputTokensDetails: lacks cache_write_tokens_details": "no model host reports it",
    "Response.service_tier: -auto -default -fast -flex -priority -scale -ultrafast": "the host's own word is kept",
    "Response: adds frequency_penalty": OPEN_RESPONSES,
    "Response: adds presence_penalty": OPEN_RESPONSES,
    "Response: adds store": OPEN_RESPONSES,
    "Response: lacks access_programs": NOT_SERVED,
    "Response: lacks image": NOT_SERVED,
    "Response: lacks input_transformations": NOT_SERVED,
    "Response: lacks moderation": NOT_SERVED,
    "Response: lacks output_text": "the package computes it on the client's side",
    "Response: lacks prompt": NOT_SERVED,
    "Response: lacks prompt_cache_diagnostics": NOT_SERVED,
    "Response: lacks prompt_cache_options": NOT_SERVED,
    "Response: lacks prompt_cache_retention": NOT_SERVED,
    "Response: lacks tool_usage": NOT_SERVED,
    "ResponseError.code: -bio_policy -data_residency_mismatch -empty_image_file -failed_to_download_image "
    "-image_content_policy_violation -image_file_not_found -image_file_too_large -image_parse_error -image_too_large "
    "-image_too_small -invalid_base64_image -invalid_image -invalid_image_format -invalid_image_mode "
    "-invalid_image_url -misalignment_policy_violation -unsupported_image_media_type -vector_store_timeout": HOSTED,
    "ResponseError: adds type": "keeps the host's kind of error recognisable",
    "ResponseError: lacks misalignment": NOT_SERVED,
    "create batch.endpoint: -/v1/chat/completions -/v1/completions -/v1/embeddings -/v1/images/edits "
    "-/v1/images/generations -/v1/moderations -/v1/responses -/v1/videos": "any; the refusal says which are served",
    "content computer_screenshot.detail: required there": FILLED_IN,
    "content input_image.detail: required there": FILLED_IN,
    "content output_text.annotations: required there": FILLED_IN,
    "content: adds the type input_audio": "chat hosts take audio; the package has the type but not in this union",
    "CompactedResponse: lacks image": NOT_SERVED,
    "compact.prompt_cache_retention: +in-memory": "the spelling of the package before 3.0",
    "compact.service_tier: +scale +ultrafast": "whatever a response may ask for",
    "compact: lacks image": NOT_SERVED,
    "create upload.purpose: +evals +user_data": IN_PACKAGE,
    "Upload.purpose: +assistants +batch +evals +fine-tune +user_data +vision": "what an upload may be created for",
    "create.prompt_cache_retention: +in-memory": "the spelling of the package before 3.0",
    "create: adds access_programs": IN_PACKAGE,
    "create: adds frequency_penalty": OPEN_RESPONSES,
    "create: adds image": IN_PACKAGE,
    "create: adds presence_penalty": OPEN_RESPONSES,
    "StoredChatCompletion.service_tier: -auto -default -fast -flex -priority -scale": "the host's own word is kept",
    "StoredChatCompletion: lacks moderation": NOT_SERVED,
    "chat.service_tier: +ultrafast": "responses know it; hosts that do not refuse it",
    "chat: lacks moderation": FORWARDED,
    "chat: lacks prompt_cache_options": FORWARDED,
    "chat: lacks prompt_cache_retention": FORWARDED,
    "completion.prompt: required there": "nullable, and the document gives it a default",
    "create items: lacks include": "a query parameter: the package's method sends it there",
    "event response.function_call_arguments.done: adds name": "the document requires it, the package lacks it",
    "event response.shell_call_command.delta: lacks obfuscation": "streams are not padded",
    "event: lacks the type response.compaction.compacting": "says that a summary is being made, and no more",
    "event: adds the type response.cancelled": "the fourth terminal status needs a terminal event",
    "item additional_tools.role: -assistant -critic -developer -discriminator -system -tool -unknown -user": PASSED_ON,
    "item code_interpreter_call.code: required there": FILLED_IN,
    "item code_interpreter_call.outputs: required there": FILLED_IN,
    **{
        f"item {name}: adds memory": "kept with the item and never sent: `wire.shown` takes it out"
        for name in (
            *("code_interpreter_call", "file_search_call", "image_generation_call", "shell_call"),
            *("mcp_approval_request", "mcp_call", "mcp_list_tools"),
            *("tool_search_call", "web_search_call"),
        )
    },
    "tool mcp.connector_id: -connector_dropbox -connector_gmail -connector_googlecalendar -connector_googledrive "
    "-connector_microsoftteams -connector_outlookcalendar -connector_outlookemail -connector_sharepoint": "the "
    "connectors are those that the operator has configured",
    "tool mcp: lacks tunnel_id": "a tunnel of OpenAI's own",
    "item image_generation_call.status: +incomplete": "a call that was cut off",
    "item web_search_call: adds results": "what the includable `web_search_call.results` asks for",
    **{
        f"tool image_generation: lacks {name}": PASSED_ON
        for name in ("complexity", "frame_count", "frame_duration_ms", "svg")
    },
    "tool image_generation.background: -auto -opaque -transparent": PASSED_ON,
    "tool image_generation.moderation: -auto -low": PASSED_ON,
    "tool image_generation.output_format: -jpeg -png -webp": PASSED_ON,
    "tool image_generation.quality: -auto -high -low -medium": PASSED_ON,
    "tool image_generation.output_format: -gif -jpeg -png -svg -webp": PASSED_ON,
    "tool image_generation.quality: -auto -high -low -max -medium -xhigh": PASSED_ON,
    "Container.object: +container": "a plain string there",
    "Container.status: +expired +running": "likewise: the two that there are",
    "ContainerFile.object: +container.file": "likewise",
    "ContainerFile.source: +assistant +user": "likewise",
    "item compaction_trigger: adds id": "a stored item has an id",
    "item function_call_output.call_id: required here": "a chat model has no other way to pair call and output",
    "item image_generation_call.action: -auto -edit -generate": PASSED_ON,
    "item image_generation_call.background: -auto -opaque -transparent": PASSED_ON,
    "item image_generation_call.output_format: -gif -jpeg -png -svg -webp": PASSED_ON,
    "item image_generation_call.quality: -auto -high -low -max -medium -xhigh": PASSED_ON,
    "item image_generation_call.result: required there": FILLED_IN,
    "item local_shell_call_output: adds call_id": "what the shell's call is named elsewhere; clients send either",
    "item message.role: -critic -discriminator -tool -unknown": "roles that no client may send",
    "item reasoning.summary: required there": FILLED_IN,
    "item web_search_call.action: required there": FILLED_IN,
    "item web_search_call.status: +incomplete": IN_PACKAGE,
    "item: adds the type configuration_update": IN_PACKAGE,
    **{
        f"item image_generation_call: adds {name}": IN_PACKAGE
        for name in ["action", "background", "error", "output_format", "quality", "revised_prompt", "size", "svg_usage"]
    },
    **{f"{place}: adds async": IN_PACKAGE for place in ("item custom_tool_call", "item function_call")},
    **{f"{place}: adds async": IN_PACKAGE for place in ("tool custom", "tool function")},
    **{
        f"item {tag}: lacks created_by": CREATED_BY
        for tag in (
            *("apply_patch_call", "apply_patch_call_output", "compaction", "computer_call_output"),
            *("custom_tool_call", "custom_tool_call_output", "function_call", "function_call_output"),
            *("shell_call", "shell_call_output", "tool_search_call", "tool_search_output"),
        )
    },
    **{
        f"item {tag}.{name}: required there": FILLED_IN
        for tag in (
            *("code_interpreter_call", "computer_call", "file_search_call", "image_generation_call"),
            *("local_shell_call", "web_search_call"),
        )
        for name in ("id", "status")
    },
    **{
        f"item {tag}.id: required there": FILLED_IN
        for tag in ("mcp_approval_request", "mcp_call", "mcp_list_tools", "reasoning")
    },
    "VectorStore: adds description": "what the client gave, which nothing else tells",
    "VectorStore: adds metric": "how vectors are compared; ours",
    "VectorStore: adds search": "says that a store without an embedding model is searched by words only; ours",
    "create store: adds metric": "how vectors are compared; ours",
    "search ranking.ranker: -auto -default-2024-11-15 -none": "or the name of a rerank model",
    "search ranking: adds hybrid_search": "the `file_search` tool's ranking options have it",
    "search: adds search_mode": LLAMA_STACK,
    **{f"VectorStore: adds {name}": LLAMA_STACK for name in ("embedding_dimension", "embedding_model", "provider_id")},
    **{
        f"create store: adds {name}": LLAMA_STACK
        for name in ("embedding_dimension", "embedding_model", "provider_id", "provider_vector_store_id")
    },
    **{f"tool: lacks the type {tag}": REFUSED for tag in tools.UNSERVED_TOOLS},
    **{
        f"event: lacks the type response.{name}": LATER
        for name in (
            *("audio.delta", "audio.done", "audio.transcript.delta", "audio.transcript.done"),
            *("reasoning_summary_part.added", "reasoning_summary_part.done", "reasoning_summary_text.delta"),
            "reasoning_summary_text.done",
        )
    },
}
"""Every difference between our wire types and the published ones, and its reason."""


class Shape(msgspec.Struct):
    """One object type: its fields, those always required, and the strings that a field is limited to."""

    names: set[str]
    required: set[str]
    enums: dict[str, set[str]]


def merged(shapes: Iterable[Shape]) -> Shape:
    """The type that is each of these: all names, all values, and only what every one requires."""
    found = list(shapes)
    enums: dict[str, set[str]] = {}
    for name in {name for shape in found for name in shape.enums}:
        holders = [shape for shape in found if name in shape.names]
        if all(name in shape.enums for shape in holders):
            enums[name] = set().union(*(shape.enums[name] for shape in holders))
    names = set().union(*(shape.names for shape in found))
    return Shape(names, set.intersection(*(shape.required for shape in found)), enums)


# ---------------------------------------------------------------- reading types


def literals(annotation: Any) -> set[str] | None:
    """The strings to which a type limits a value; None if it is not limited to strings of a list."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return {value for value in arguments if isinstance(value, str)}
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return literals(arguments[0])
    if origin in (list, typing.List) or getattr(origin, "__name__", "") == "Iterable":  # noqa: UP006
        return literals(arguments[0])
    if origin in (typing.Union, types.UnionType):
        some = [literals(one) for one in arguments if one not in (type(None), msgspec.UnsetType)]
        return set().union(*some) if all(one is not None for one in some) else None  # type: ignore[arg-type]
    return None


def members(union: Any) -> Iterator[Any]:
    """The classes of a union, however it is nested."""
    origin = typing.get_origin(union)
    if origin is typing.Annotated:
        yield from members(typing.get_args(union)[0])
    elif origin in (typing.Union, types.UnionType):
        for one in typing.get_args(union):
            yield from members(one)
    elif isinstance(union, type) and union is not type(None):
        yield union


def our_shape(kind: type) -> Shape:
    """A msgspec struct."""
    fields = msgspec.structs.fields(kind)
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {field.encode_name: literals(hints[field.name]) for field in fields}
    return Shape(
        {field.encode_name for field in fields},
        {field.encode_name for field in fields if field.required},
        {name: values for name, values in found.items() if values is not None},
    )


def sdk_shape(kind: Any) -> Shape:
    """A class of the package: a pydantic model or a typed dictionary."""
    if not hasattr(kind, "model_fields"):
        hints = typing.get_type_hints(kind, include_extras=True)
        found = {name: literals(hint) for name, hint in hints.items()}
        required = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.Required}
    else:
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        found = {name: literals(field.annotation) for name, field in fields.items()}
        required = {name for name, field in fields.items() if field.is_required()}
    values = {name: values for name, values in found.items() if values is not None and name != "type"}
    return Shape(set(found) - {"type"}, required - {"type"}, values)


def our_tag(kind: type) -> str:
    """The `type` of a struct."""
    return str(kind.__struct_config__.tag)  # type: ignore[attr-defined]


def ours_by_tag(union: Any) -> dict[str, Shape]:
    """Our union, by `type`."""
    kinds = [kind for kind in members(union) if hasattr(kind, "__struct_config__")]
    return {our_tag(kind): our_shape(kind) for kind in kinds}


def sdk_by_tag(*unions: Any) -> dict[str, Shape]:
    """The package's unions, by `type`; what has several forms is merged."""
    found: dict[str, list[Shape]] = {}
    for union in unions:
        for kind in members(union):
            if "type" not in getattr(kind, "model_fields", {}):
                continue
            for tag in literals(kind.model_fields["type"].annotation) or ():
                found.setdefault(tag, []).append(sdk_shape(kind))
    return {tag: merged(shapes) for tag, shapes in found.items()}


class Document:
    """OpenAI's OpenAPI document."""

    def __init__(self, path: Path) -> None:
        self.schemas = json.loads(path.read_bytes())["components"]["schemas"]

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema that a reference stands for."""
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def values(self, schema: dict[str, Any]) -> set[str] | None:
        """The strings that the schema allows."""
        schema = self.resolve(schema)
        if "enum" in schema:
            return {value for value in schema["enum"] if isinstance(value, str)}
        if schema.get("type") == "array":
            return self.values(schema.get("items", {}))
        variants = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or []
        some = [self.values(one) for one in variants if one.get("type") != "null"]
        return set().union(*some) if some and all(one is not None for one in some) else None  # type: ignore[arg-type]

    def objects(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The object schemas of a union."""
        schema = self.resolve(schema)
        if "properties" in schema or "allOf" in schema:
            yield schema
        for one in schema.get("oneOf") or schema.get("anyOf") or []:
            yield from self.objects(one)

    def properties(self, schema: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
        """The properties of an object and those it requires."""
        schema = self.resolve(schema)
        found, required = dict(schema.get("properties", {})), set(schema.get("required", ()))
        for part in schema.get("allOf", ()):
            more, needed = self.properties(part)
            found, required = found | more, required | needed
        return found, required

    def shape(self, schema: dict[str, Any]) -> Shape:
        """One object schema."""
        found, required = self.properties(schema)
        limited = {name: self.values(value) for name, value in found.items() if name != "type"}
        values = {name: values for name, values in limited.items() if values is not None}
        return Shape(set(found) - {"type"}, required - {"type"}, values)

    def named(self, *names: str) -> Shape:
        """Object schemas by name, merged."""
        return merged(self.shape(self.schemas[name]) for name in names)

    def by_tag(self, *names: str) -> dict[str, Shape]:
        """Unions by name, by `type`."""
        found: dict[str, list[Shape]] = {}
        for name in names:
            for schema in self.objects(self.schemas[name]):
                found_properties, _ = self.properties(schema)
                for tag in self.values(found_properties.get("type", {})) or ():
                    found.setdefault(tag, []).append(self.shape(schema))
        return {tag: merged(shapes) for tag, shapes in found.items()}


@cache
def document(path: Path) -> Document:
    """The document, read once."""
    return Document(path)


# ---------------------------------------------------------------- comparing


def differences(where: str, ours: Shape, theirs: Shape, *, required: bool) -> Iterator[str]:
    """What differs between two forms of one object type."""
    for name in sorted(theirs.names - ours.names):
        yield f"{where}: lacks {name}"
    for name in sorted(ours.names - theirs.names):
        yield f"{where}: adds {name}"
    for name in sorted(ours.names & theirs.names):
        mine, other = ours.enums.get(name, set()), theirs.enums.get(name, set())
        if (name in theirs.enums or name in ours.enums) and mine != other:
            yield f"{where}.{name}: {_values(mine - other, '+')}{_values(other - mine, '-')}".rstrip()
    if required:
        for name in sorted((ours.required ^ theirs.required) & ours.names & theirs.names):
            yield f"{where}.{name}: {'required here' if name in ours.required else 'required there'}"


def _values(values: set[str], sign: str) -> str:
    return "".join(f"{sign}{value} " for value in sorted(values))


def union_differences(where: str, ours: dict[str, Shape], theirs: dict[str, Shape], *, required: bool) -> list[str]:
    """What differs between two unions: their tags, and each type that both have."""
    found = [f"{where}: lacks the type {tag}" for tag in sorted(theirs.keys() - ours.keys())]
    found += [f"{where}: adds the type {tag}" for tag in sorted(ours.keys() - theirs.keys())]
    for tag in sorted(ours.keys() & theirs.keys()):
        found += differences(f"{where} {tag}", ours[tag], theirs[tag], required=required)
    return found


OUR_CONTENT = items.MessagePart
OUR_EVENTS = {str(kind.__struct_config__.tag): our_shape(kind) for kind in events.EVENTS}


def against_package() -> list[str]:
    """Every difference from the `openai` package."""
    found = union_differences(
        "item",
        ours_by_tag(items.Item),
        sdk_by_tag(sdk.ResponseInputItem, sdk.ResponseItem, sdk_conversations.ConversationItem),
        required=False,
    )
    found += [x for x in input_required(sdk_by_tag(sdk.ResponseInputItem)) if x]
    found += union_differences("tool", ours_by_tag(tools.Tool), sdk_by_tag(sdk.Tool), required=False)
    content = sdk_by_tag(sdk.ResponseInputContent, message_content())
    found += union_differences("content", ours_by_tag(OUR_CONTENT), content, required=True)
    found += union_differences("event", OUR_EVENTS, sdk_by_tag(sdk.ResponseStreamEvent), required=False)
    for where, ours, theirs in (
        ("Response", responses.Response, sdk.Response),
        ("create", responses.CreateResponse, response_create_params.ResponseCreateParamsNonStreaming),
        ("CompactedResponse", responses.CompactedResponse, sdk.CompactedResponse),
        ("ResponseError", responses.ResponseError, sdk.ResponseError),
        ("Reasoning", responses.ReasoningConfig, SdkReasoning),
        ("IncompleteDetails", responses.IncompleteDetails, sdk.response.IncompleteDetails),
        ("Text", responses.TextConfig, sdk.ResponseTextConfig),
        ("JsonSchemaFormat", responses.JsonSchemaFormat, sdk.ResponseFormatTextJSONSchemaConfig),
        ("Usage", responses.Usage, response_usage.ResponseUsage),
        ("InputTokensDetails", responses.InputTokensDetails, response_usage.InputTokensDetails),
        ("OutputTokensDetails", responses.OutputTokensDetails, response_usage.OutputTokensDetails),
    ):
        found += differences(where, our_shape(ours), sdk_shape(theirs), required=False)
    for where, ours, theirs in (
        ("Conversation", conversations.Conversation, sdk_conversations.Conversation),
        ("ConversationDeleted", conversations.ConversationDeleted, sdk_conversations.ConversationDeletedResource),
        ("StoredChatCompletion", chat.StoredChatCompletion, ChatCompletion),
        ("create conversation", conversations.CreateConversation, sdk_conversations.ConversationCreateParams),
        ("update conversation", conversations.UpdateConversation, sdk_conversations.ConversationUpdateParams),
        ("create items", conversations.CreateItems, sdk_conversations.ItemCreateParams),
        ("compact", responses.CompactResponse, response_compact_params.ResponseCompactParams),
        ("context management", responses.ContextManagement, response_create_params.ContextManagement),
        ("chat", chat.CreateChatCompletion, chat_create_params.CompletionCreateParamsNonStreaming),
        ("chat list", chat.ChatListQuery, completion_list_params.CompletionListParams),
        ("chat update", chat.UpdateChatCompletion, completion_update_params.CompletionUpdateParams),
        ("completion", chat.CreateCompletion, completion_create_params.CompletionCreateParamsNonStreaming),
        ("Batch", batches.Batch, SdkBatch),
        ("BatchError", batches.BatchError, SdkBatchError),
        ("RequestCounts", batches.RequestCounts, SdkBatchRequestCounts),
        ("BatchUsage", batches.BatchUsage, SdkBatchUsage),
        ("create batch", batches.CreateBatch, batch_create_params.BatchCreateParams),
        ("batches list", batches.BatchListQuery, batch_list_params.BatchListParams),
        ("Container", containers.Container, openai_types.ContainerCreateResponse),
        ("create container", containers.CreateContainer, openai_types.ContainerCreateParams),
        ("containers list", containers.ContainerListQuery, openai_types.ContainerListParams),
        ("ContainerFile", containers.ContainerFile, sdk_container_files.FileCreateResponse),
        ("create container file", containers.CreateContainerFile, sdk_container_files.FileCreateParams),
        ("container files list", containers.ContainerFileListQuery, sdk_container_files.FileListParams),
        ("File", files.File, FileObject),
        ("FileDeleted", files.FileDeleted, SdkFileDeleted),
        ("create file", files.CreateFile, file_create_params.FileCreateParams),
        ("expires_after", files.ExpiresAfter, file_create_params.ExpiresAfter),
        ("Upload", uploads.Upload, SdkUpload),
        ("UploadPart", uploads.UploadPart, SdkUploadPart),
        ("create upload", uploads.CreateUpload, upload_create_params.UploadCreateParams),
        ("add part", uploads.AddUploadPart, part_create_params.PartCreateParams),
        ("complete upload", uploads.CompleteUpload, upload_complete_params.UploadCompleteParams),
        ("files list", files.FileListQuery, file_list_params.FileListParams),
        ("embedding", embeddings.CreateEmbedding, embedding_create_params.EmbeddingCreateParams),
        ("VectorStore", stores.VectorStore, SdkVectorStore),
        ("FileCounts", stores.FileCounts, vector_store.FileCounts),
        ("StoreExpiresAfter", stores.StoreExpiresAfter, vector_store.ExpiresAfter),
        ("VectorStoreDeleted", stores.VectorStoreDeleted, SdkVectorStoreDeleted),
        ("create store", stores.CreateVectorStore, vector_store_create_params.VectorStoreCreateParams),
        ("update store", stores.UpdateVectorStore, vector_store_update_params.VectorStoreUpdateParams),
        ("stores list", stores.VectorStoreListQuery, vector_store_list_params.VectorStoreListParams),
        ("search", stores.SearchVectorStore, vector_store_search_params.VectorStoreSearchParams),
        ("search ranking", search.RankingOptions, vector_store_search_params.RankingOptions),
        ("SearchResult", stores.SearchResult, SdkSearchResult),
        ("VectorStoreFile", stores.VectorStoreFile, vector_stores.VectorStoreFile),
        ("LastError", stores.LastError, vector_stores.vector_store_file.LastError),
        ("VectorStoreFileDeleted", stores.VectorStoreFileDeleted, vector_stores.VectorStoreFileDeleted),
        ("VectorStoreFileBatch", stores.VectorStoreFileBatch, vector_stores.VectorStoreFileBatch),
        ("create store file", stores.CreateVectorStoreFile, vector_stores.file_create_params.FileCreateParams),
        ("store files list", stores.VectorStoreFileListQuery, vector_stores.file_list_params.FileListParams),
        (
            "create file batch",
            stores.CreateVectorStoreFileBatch,
            vector_stores.file_batch_create_params.FileBatchCreateParams,
        ),
        ("chunking", chunking.StaticChunkingStrategy, SdkStaticChunking),
    ):
        found += differences(where, our_shape(ours), sdk_shape(theirs), required=not where[0].isupper())
    return found


def against_document(found_in: Document) -> list[str]:
    """Every difference from OpenAI's document."""
    every_item = found_in.by_tag("InputItem", "Item", "ItemResource", "ConversationItem", "OutputItem")
    found = union_differences("item", ours_by_tag(items.Item), every_item, required=False)
    found += input_required(found_in.by_tag("InputItem", "Item"))
    found += union_differences("tool", ours_by_tag(tools.Tool), found_in.by_tag("Tool"), required=False)
    found += union_differences("event", OUR_EVENTS, found_in.by_tag("ResponseStreamEvent"), required=False)
    for where, ours, name in (
        ("Response", responses.Response, "Response"),
        ("create", responses.CreateResponse, "CreateResponse"),
        ("compact", responses.CompactResponse, "CompactResponseMethodPublicBody"),
        ("CompactedResponse", responses.CompactedResponse, "CompactResource"),
        ("context management", responses.ContextManagement, "ContextManagementParam"),
        ("Reasoning", responses.ReasoningConfig, "Reasoning"),
        ("Usage", responses.Usage, "ResponseUsage"),
        ("Batch", batches.Batch, "Batch"),
        ("BatchError", batches.BatchError, "BatchError"),
        ("RequestCounts", batches.RequestCounts, "BatchRequestCounts"),
        ("create batch", batches.CreateBatch, "CreateBatchRequest"),
        ("Container", containers.Container, "ContainerResource"),
        ("create container", containers.CreateContainer, "CreateContainerBody"),
        ("ContainerFile", containers.ContainerFile, "ContainerFileResource"),
        ("create container file", containers.CreateContainerFile, "CreateContainerFileBody"),
        ("File", files.File, "OpenAIFile"),
        ("create file", files.CreateFile, "CreateFileRequest"),
        ("expires_after", files.ExpiresAfter, "FileExpirationAfter"),
        ("Upload", uploads.Upload, "Upload"),
        ("UploadPart", uploads.UploadPart, "UploadPart"),
        ("create upload", uploads.CreateUpload, "CreateUploadRequest"),
        ("add part", uploads.AddUploadPart, "AddUploadPartRequest"),
        ("complete upload", uploads.CompleteUpload, "CompleteUploadRequest"),
        ("static chunking", chunking.StaticChunkingStrategy, "StaticChunkingStrategy"),
        ("static", chunking.StaticChunkingStrategyRequestParam, "StaticChunkingStrategyRequestParam"),
        ("Static", chunking.StaticChunkingStrategyResponseParam, "StaticChunkingStrategyResponseParam"),
    ):
        found += differences(where, our_shape(ours), found_in.named(name), required=False)
    return found


def input_required(theirs: dict[str, Shape]) -> list[str]:
    """Where we require of a client what the published types do not, or the other way round."""
    ours, found = ours_by_tag(items.Item), []
    for tag in sorted(ours.keys() & theirs.keys()):
        known = ours[tag].names & theirs[tag].names
        for name in sorted((ours[tag].required ^ theirs[tag].required) & known):
            side = "required here" if name in ours[tag].required else "required there"
            found.append(f"item {tag}.{name}: {side}")
    return found


def message_content() -> Any:
    """The content parts of a conversation's message."""
    return typing.get_args(sdk_conversations.Message.model_fields["content"].annotation)[0]


def test_wire_types_are_those_of_the_package() -> None:
    assert [difference for difference in against_package() if difference not in DEVIATIONS] == []


def test_wire_types_are_those_of_the_document(shared: Path) -> None:
    found = against_document(document(shared / "openapi" / "openai.json"))
    assert [difference for difference in found if difference not in DEVIATIONS] == []


def test_every_deviation_still_exists(shared: Path) -> None:
    found = {*against_package(), *against_document(document(shared / "openapi" / "openai.json"))}
    assert sorted(DEVIATIONS.keys() - found) == []


@pytest.mark.parametrize("kind", events.EVENTS, ids=our_tag)
def test_every_event_has_a_frame_name_equal_to_its_type(kind: type[events.Event]) -> None:
    assert events._FRAME_NAMES[kind].decode() == our_tag(kind)
