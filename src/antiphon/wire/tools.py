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
    | CodeInterpreterTool
)

UNSERVED_TOOLS = frozenset(
    {
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "mcp",
        "image_generation",
        "tool_search",
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
    | ChooseCodeInterpreter
)
