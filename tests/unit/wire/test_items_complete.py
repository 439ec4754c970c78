"""Items are completed without being changed."""

import copy

import pytest
from msgspec import structs

from antiphon.wire import items as wire
from antiphon.wire.items import ID_PREFIXES, FunctionCall, InputText, Message, OutputText, decode_items, encode_item
from antiphon.wire.items_complete import complete_items

BARE = decode_items(b"""[
    {"role": "user", "content": "Hello"},
    {"type": "message", "role": "assistant", "content": "Hi"},
    {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "42"},
    {"type": "reasoning", "summary": []},
    {"type": "mcp_approval_response", "approval_request_id": "a", "approve": true},
    {"type": "item_reference", "id": "msg_1"}
]""")


def numbered():
    count = 0

    def new_child(prefix: str) -> str:
        nonlocal count
        count += 1
        return f"{prefix}_{count}"

    return new_child


def test_every_item_gets_an_id_with_the_prefix_of_its_kind():
    done = complete_items(BARE, numbered())
    assert [item.id for item in done] == ["msg_1", "msg_2", "msg_3", "fc_4", "fco_5", "rs_6", "mcprr_7", "msg_1"]


def test_status_and_parts_are_filled_in():
    user, assistant, developer, call, output, reasoning, _, _ = complete_items(BARE, numbered())
    assert user == Message(id="msg_1", role="user", status="completed", content=[InputText(text="Hello")])
    assert assistant.content == [OutputText(text="Hi")]
    assert developer.content == [InputText(text="Be brief.")]
    assert [item.status for item in (call, output, reasoning)] == ["completed"] * 3


def test_what_an_item_has_it_keeps():
    call = FunctionCall(id="mine", call_id="c", name="f", arguments="", status="incomplete")
    done = complete_items([call], numbered())
    assert done[0] is call


def test_the_input_is_not_changed_and_completing_twice_changes_nothing():
    before = copy.deepcopy(BARE)
    once = complete_items(BARE, numbered())
    assert before == BARE
    assert [a is b for a, b in zip(complete_items(once, numbered()), once, strict=True)] == [True] * len(once)


@pytest.mark.parametrize("kind", list(ID_PREFIXES), ids=lambda kind: kind.__name__)
def test_every_kind_with_a_prefix_can_be_completed_and_encoded(kind: type):
    bare = kind(**{field.name: _value(field) for field in structs.fields(kind) if field.required})
    bare.id = None
    (done,) = complete_items([bare], numbered())
    assert done.id == f"{ID_PREFIXES[kind]}_1"
    assert getattr(done, "status", "completed") is not None
    assert encode_item(done).startswith(b'{"type":"')


def _value(field: structs.FieldInfo) -> object:
    values = {"role": "user", "status": "completed", "output": "x", "content": "x", "approve": True}
    listed = {"tools", "queries", "pending_safety_checks"}
    return values.get(field.name, [] if field.name in listed else "x")


def test_the_table_of_prefixes_covers_what_may_come_without_an_id():
    optional = {kind for kind in wire.Item.__args__ if not structs.fields(kind)[0].required and kind is not None}
    assert {kind.__name__ for kind in optional - set(ID_PREFIXES)} <= {"CompactionTrigger"}


@pytest.mark.parametrize(
    ("field", "item"),
    [
        ("content", b'{"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "u"}]}'),
        (
            "output",
            b'{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "u"}]}',
        ),
    ],
)
def test_an_image_without_a_detail_gets_the_one_that_readers_require(field: str, item: bytes) -> None:
    (given,) = decode_items(b"[" + item + b"]")
    (done,) = complete_items([given], numbered())
    assert [part.detail for part in getattr(done, field)] == ["auto"]
    assert [part.detail for part in getattr(given, field)] == [None]
