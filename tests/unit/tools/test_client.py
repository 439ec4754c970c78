"""What a model is offered for each tool that the client executes."""

import pytest

from antiphon.errors import InvalidRequest
from antiphon.tools.offers import offers
from antiphon.wire.tools import (
    ApplyPatchTool,
    ComputerTool,
    ComputerUsePreviewTool,
    CustomTool,
    FunctionTool,
    Grammar,
    LocalShellTool,
    NamespaceTool,
    ShellTool,
)


@pytest.mark.parametrize(
    ("tool", "name", "kind", "required"),
    [
        (CustomTool(name="note"), "note", "custom", ["input"]),
        (LocalShellTool(), "local_shell", "local_shell", ["command"]),
        (ShellTool(), "shell", "shell", ["commands"]),
        (ShellTool(environment={"type": "local"}), "shell", "shell", ["commands"]),
        (ApplyPatchTool(), "apply_patch", "apply_patch", ["type", "path"]),
        (ComputerTool(), "computer", "computer", ["actions"]),
        (
            ComputerUsePreviewTool(display_width=8, display_height=6, environment="linux"),
            "computer_use_preview",
            "computer_use_preview",
            ["action"],
        ),
    ],
)
def test_a_tool_is_offered_as_one_function(tool, name, kind, required):
    ((seen, offer),) = offers([tool], {}).items()
    assert (seen, offer.function.name, offer.kind) == (name, name, kind)
    assert offer.function.parameters["required"] == required


def test_a_function_keeps_its_schema_and_strictness():
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    (offer,) = offers([FunctionTool(name="f", description="d", parameters=schema, strict=True)], {}).values()
    function = offer.function
    assert (function.description, function.parameters, function.strict) == ("d", schema, True)


def test_a_namespace_is_flattened_and_remembered():
    tool = NamespaceTool(name="crm", description="", tools=[FunctionTool(name="find"), CustomTool(name="note")])
    found = offers([tool], {})
    assert {name: (offer.namespace, offer.name, offer.kind) for name, offer in found.items()} == {
        "crm__find": ("crm", "find", "function"),
        "crm__note": ("crm", "note", "custom"),
    }


def test_a_grammar_is_told_to_the_model():
    (offer,) = offers([CustomTool(name="sum", format=Grammar(definition="start: NUMBER", syntax="lark"))], {}).values()
    assert "start: NUMBER" in offer.function.parameters["properties"]["input"]["description"]


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(InvalidRequest, match="'shell'") as refused:
        offers([ShellTool(), FunctionTool(name="shell")], {})
    assert refused.value.param == "tools[1]"


def test_a_hosted_shell_is_refused():
    with pytest.raises(InvalidRequest, match="container"):
        offers([ShellTool(environment={"type": "container_auto"})], {})
