"""Calls that clients execute, in function form and back."""

import msgspec
import pytest

from antiphon.wire.calls import Answer, Call, Made, call_of, item_of, output_of
from antiphon.wire.items import InputText, decode_item


def item(**fields):
    return decode_item(msgspec.json.encode(fields))


CALLS = [
    ("function", item(type="function_call", call_id="c", name="f", arguments='{"x":1}'), "f", {"x": 1}),
    (
        "function",
        item(type="function_call", call_id="c", name="f", namespace="ns", arguments="{}"),
        "ns__f",
        {},
    ),
    ("custom", item(type="custom_tool_call", call_id="c", name="note", input="hey"), "note", {"input": "hey"}),
    (
        "local_shell",
        item(type="local_shell_call", call_id="c", action={"type": "exec", "command": ["ls"], "env": {}}),
        "local_shell",
        {"command": ["ls"]},
    ),
    (
        "shell",
        item(type="shell_call", call_id="c", action={"commands": ["ls"], "timeout_ms": 5, "max_output_length": None}),
        "shell",
        {"commands": ["ls"], "timeout_ms": 5},
    ),
    (
        "apply_patch",
        item(
            type="apply_patch_call",
            call_id="c",
            status="completed",
            operation={"type": "update_file", "path": "a", "diff": "+b"},
        ),
        "apply_patch",
        {"type": "update_file", "path": "a", "diff": "+b"},
    ),
    (
        "computer",
        item(type="computer_call", call_id="c", actions=[{"type": "wait"}], pending_safety_checks=[]),
        "computer",
        {"actions": [{"type": "wait"}]},
    ),
    (
        "computer_use_preview",
        item(type="computer_call", call_id="c", action={"type": "wait"}, pending_safety_checks=[]),
        "computer_use_preview",
        {"action": {"type": "wait"}},
    ),
]


@pytest.mark.parametrize(("kind", "made", "name", "arguments"), CALLS)
def test_an_item_has_a_function_form_and_comes_back_from_it(kind, made, name, arguments):
    call = call_of(made)
    assert call is not None
    assert (call.call_id, call.name, msgspec.json.decode(call.arguments)) == ("c", name, arguments)
    again = item_of(
        kind,
        Made(
            id="x",
            call_id="c",
            name=getattr(made, "name", name),
            namespace=getattr(made, "namespace", None),
            arguments=call.arguments,
            status="completed",
        ),
    )
    assert call_of(again) == call
    assert type(again) is type(made)


def test_a_function_call_without_arguments_has_an_empty_object():
    assert call_of(item(type="function_call", call_id="c", name="f", arguments="")) == Call(
        call_id="c", name="f", arguments="{}"
    )


def test_a_shell_command_given_as_a_string_runs_in_a_shell():
    made = Made(
        id="x", call_id="c", name="local_shell", namespace=None, arguments='{"command": "ls | wc"}', status="completed"
    )
    assert item_of("local_shell", made).action["command"] == ["bash", "-lc", "ls | wc"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (item(type="function_call_output", call_id="c", output="done"), "done"),
        (
            item(type="function_call_output", call_id="c", output=[{"type": "input_text", "text": "done"}]),
            [InputText(text="done")],
        ),
        (item(type="custom_tool_call_output", call_id="c", output="done"), "done"),
        (item(type="local_shell_call_output", id="c", output="done"), "done"),
        (
            item(type="apply_patch_call_output", call_id="c", status="failed", output="no"),
            '{"status":"failed","output":"no"}',
        ),
        (item(type="shell_call_output", call_id="c", output=[{"stdout": "a"}]), '[{"stdout":"a"}]'),
    ],
)
def test_an_output_has_a_function_form(output, expected):
    assert output_of(output) == Answer(call_id="c", output=expected)


def test_a_screenshot_is_an_image_for_the_model():
    shot = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA"}
    answer = output_of(item(type="computer_call_output", call_id="c", output=shot))
    assert answer is not None
    assert answer.output[0].image_url == "data:image/png;base64,AA"


@pytest.mark.parametrize("other", [item(type="message", role="user", content="hi"), item(type="reasoning", summary=[])])
def test_other_items_are_neither_calls_nor_outputs(other):
    assert call_of(other) is None
    assert output_of(other) is None
