"""Tools that a request may offer to the model, and how it may be told to choose among them.

Source: OpenAI's OpenAPI document, `Tool` and `ToolChoice*`; names judged by the `openai` package.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from antiphon.wire.base import Sparse
from antiphon.wire.containers import FILE_IDS_MAX, MemoryLimit
from antiphon.wire.search import Filter, RankingOptions

Callers = list[Literal["direct", "programmatic"]]
ToolName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_.-]+$")]


class FunctionTool(Struct, kw_only=True, tag_field="type", tag="function"):
    """A function of the client's. `strict` and `parameters` are always echoed: clients require them."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None | UnsetType = UNSET
    output_schema: dict[str, Any] | None | UnsetType = UNSET
    allowed_callers: Callers | None | UnsetType = UNSET
    async_: bool | None | UnsetType = msgspec.field(default=UNSET, name="async")


class TextFormat(Struct, tag_field="type", tag="text"):
    """Free text."""


class Grammar(Struct, kw_only=True, tag_field="type", tag="grammar"):
    """Text that a grammar allows."""

    definition: str
    syntax: Literal["lark", "regex"]


class CustomTool(Sparse, kw_only=True, tag_field="type", tag="custom"):
    """A tool of the client's that takes free text."""

    name: ToolName
    description: str | None = None
    format: TextFormat | Grammar | None = None
    defer_loading: bool | None = None
    allowed_callers: Callers | None = None
    async_: bool | None = msgspec.field(default=None, name="async")


class NamespaceTool(Sparse, kw_only=True, tag_field="type", tag="namespace"):
    """A named group of functions and custom tools."""

    name: ToolName
    description: str
    tools: list[FunctionTool | CustomTool]


class LocalShellTool(Sparse, tag_field="type", tag="local_shell"):
    """A shell on the client's machine, one command a call."""


class ShellTool(Sparse, kw_only=True, tag_field="type", tag="shell"):
    """A shell, several commands a call; run by the client unless `environment` names a container."""

    environment: dict[str, Any] | None = None
    allowed_callers: Callers | None = None


class ApplyPatchTool(Sparse, kw_only=True, tag_field="type", tag="apply_patch"):
    """Lets the model edit files by diffs that the client applies."""

    allowed_callers: Callers | None = None


class ComputerTool(Sparse, tag_field="type", tag="computer"):
    """A computer that the client drives."""


class ComputerUsePreviewTool(Struct, kw_only=True, tag_field="type", tag="computer_use_preview"):
    """The earlier form of the computer tool."""

    display_width: int
    display_height: int
    environment: Literal["windows", "mac", "linux", "ubuntu", "browser"]


class FileSearchTool(Sparse, kw_only=True, tag_field="type", tag="file_search"):
    """Lets the model search vector stores; the server runs it."""

    vector_store_ids: Annotated[list[str], Meta(min_length=1)]
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    filters: Filter | None = None


class McpFilter(Sparse, kw_only=True):
    """Some of an MCP server's tools: those of these names, those that only read, or both together."""

    tool_names: list[str] | None = None
    read_only: bool | None = None


class McpApprovals(Sparse, kw_only=True):
    """Which tools are run only when the client has agreed, and which without asking."""

    always: McpFilter | None = None
    never: McpFilter | None = None


class McpTool(Sparse, kw_only=True, tag_field="type", tag="mcp"):
    """The tools of an MCP server, at an address or of a configured connector; the server runs them.

    `headers` and `authorization` are secrets: what is stored and shown has neither.
    """

    server_label: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")]
    server_url: str | None = None
    connector_id: str | None = None
    server_description: str | None = None
    headers: dict[str, str] | None = None
    authorization: str | None = None
    allowed_tools: list[str] | McpFilter | None = None
    require_approval: Literal["always", "never"] | McpApprovals | None = None
    defer_loading: bool | None = None
    allowed_callers: Callers | None = None


ContextSize = Literal["low", "medium", "high"]


class UserLocation(Sparse, kw_only=True):
    """About where the user is: a two-letter country, names of region and city, a time zone of IANA's."""

    type: Literal["approximate"] | None = None
    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class WebSearchFilters(Sparse, kw_only=True):
    """Domains that may be found, with their subdomains; none named: all. `blocked_domains` may never."""

    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None


class WebSearchTool(Sparse, kw_only=True, tag_field="type", tag="web_search"):
    """Lets the model search the web; the server runs it. Without `external_web_access`, no page is fetched."""

    external_web_access: bool | None = None
    filters: WebSearchFilters | None = None
    search_context_size: ContextSize | None = None
    user_location: UserLocation | None = None


class WebSearchTool2025(WebSearchTool, kw_only=True, tag="web_search_2025_08_26"):
    """The same, by its dated name."""


class WebSearchPreviewTool(Sparse, kw_only=True, tag_field="type", tag="web_search_preview"):
    """Web search by its earlier name."""

    search_content_types: list[Literal["text", "image"]] | None = None
    search_context_size: ContextSize | None = None
    user_location: UserLocation | None = None


class WebSearchPreviewTool2025(WebSearchPreviewTool, kw_only=True, tag="web_search_preview_2025_03_11"):
    """The same, by its dated name."""


WEB_SEARCH = ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")
"""All names of web search."""


class ImageMask(Sparse, kw_only=True):
    """Where an image may be changed: a data URL, or an uploaded file."""

    image_url: str | None = None
    file_id: str | None = None


class ImageGenerationTool(Sparse, kw_only=True, tag_field="type", tag="image_generation"):
    """Lets the model make images; the server asks an image model for them."""

    model: str | None = None
    quality: str | None = None
    size: str | None = None
    output_format: str | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    moderation: str | None = None
    background: str | None = None
    input_fidelity: Literal["high", "low"] | None = None
    input_image_mask: ImageMask | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    action: Literal["generate", "edit", "auto"] | None = None


class ToolSearchTool(Sparse, kw_only=True, tag_field="type", tag="tool_search"):
    """Lets the model find tools that are deferred; run by the server, or (`execution`) by the client.

    `description` and `parameters` are those of the client's own search.
    """

    execution: Literal["server", "client"] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ContainerAuto(Sparse, kw_only=True, tag_field="type", tag="container_auto"):
    """A container that is made for the request, with copies of uploaded files."""

    file_ids: Annotated[list[str], Meta(max_length=FILE_IDS_MAX)] | None = None
    memory_limit: MemoryLimit | None = None
    network_policy: dict[str, Any] | None = None
    skills: Annotated[list[Any], Meta(max_length=0)] | None = None


class ContainerReference(Struct, tag_field="type", tag="container_reference"):
    """A container that is there already."""

    container_id: str


class InterpreterAuto(ContainerAuto, kw_only=True, tag_field="type", tag="auto"):
    """The same, as the code interpreter names it."""


class CodeInterpreterTool(Sparse, kw_only=True, tag_field="type", tag="code_interpreter"):
    """Lets the model run Python in a container; the server runs it."""

    container: str | InterpreterAuto
    allowed_callers: Callers | None = None


Tool = (
    FunctionTool
    | CustomTool
    | NamespaceTool
    | LocalShellTool
    | ShellTool
    | ApplyPatchTool
    | ComputerTool
    | ComputerUsePreviewTool
    | FileSearchTool
    | McpTool
    | WebSearchTool
    | WebSearchTool2025
    | WebSearchPreviewTool
    | WebSearchPreviewTool2025
    | ImageGenerationTool
    | ToolSearchTool
    | CodeInterpreterTool
)

UNSERVED_TOOLS = frozenset(
    {
        "programmatic_tool_calling",
    }
)
"""Kinds that OpenAI's document knows and this release does not serve: asking for one is a 400 that names it."""

ChoiceMode = Literal["none", "auto", "required"]


class ChooseFunction(Struct, tag_field="type", tag="function"):
    """The model must call this function."""

    name: str


class ChooseCustom(Struct, tag_field="type", tag="custom"):
    """The model must call this custom tool."""

    name: str


class ChooseAllowed(Struct, kw_only=True, tag_field="type", tag="allowed_tools"):
    """The model may (`auto`) or must (`required`) call one of these."""

    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class ChooseShell(Struct, tag_field="type", tag="shell"):
    """The model must call the shell."""


class ChooseApplyPatch(Struct, tag_field="type", tag="apply_patch"):
    """The model must call apply_patch."""


class ChooseLocalShell(Struct, tag_field="type", tag="local_shell"):
    """The model must call the local shell."""


class ChooseComputer(Struct, tag_field="type", tag="computer"):
    """The model must use the computer."""


class ChooseComputerUse(Struct, tag_field="type", tag="computer_use"):
    """The model must use the computer: another name for it."""


class ChooseComputerPreview(Struct, tag_field="type", tag="computer_use_preview"):
    """The model must use the computer, in the earlier form."""


class ChooseFileSearch(Struct, tag_field="type", tag="file_search"):
    """The model must search the vector stores."""


class ChooseMcp(Sparse, kw_only=True, tag_field="type", tag="mcp"):
    """The model must call a tool of this MCP server: the one that is named, or any."""

    server_label: str
    name: str | None = None


class ChooseWebSearch(Struct, tag_field="type", tag="web_search"):
    """The model must search the web."""


class ChooseWebSearchPreview(Struct, tag_field="type", tag="web_search_preview"):
    """The model must search the web: the name that OpenAI's document has."""


class ChooseWebSearchPreview2025(Struct, tag_field="type", tag="web_search_preview_2025_03_11"):
    """Likewise."""


class ChooseImageGeneration(Struct, tag_field="type", tag="image_generation"):
    """The model must make an image."""


class ChooseCodeInterpreter(Struct, tag_field="type", tag="code_interpreter"):
    """The model must run code."""


ToolChoice = (
    ChoiceMode
    | ChooseFunction
    | ChooseCustom
    | ChooseAllowed
    | ChooseShell
    | ChooseApplyPatch
    | ChooseLocalShell
    | ChooseComputer
    | ChooseComputerUse
    | ChooseComputerPreview
    | ChooseFileSearch
    | ChooseMcp
    | ChooseWebSearch
    | ChooseWebSearchPreview
    | ChooseWebSearchPreview2025
    | ChooseImageGeneration
    | ChooseCodeInterpreter
)
