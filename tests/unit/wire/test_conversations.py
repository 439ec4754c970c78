"""The Conversations API's types, against the document and the official package."""

import json

import msgspec
import pytest
from openai.types import conversations as sdk

from antiphon.wire.conversations import (
    ITEMS_MAX,
    Conversation,
    ConversationDeleted,
    CreateConversation,
    CreateItems,
    ItemPage,
    UpdateConversation,
    decode_new_items,
)
from antiphon.wire.items import InputText, ItemReference, Message

MESSAGE = b'{"role":"user","content":"Hello"}'


def test_what_we_send_is_what_the_package_reads():
    conversation = Conversation(id="conv_1", created_at=1, metadata={"a": "b"})
    read = sdk.Conversation.model_validate_json(msgspec.json.encode(conversation), strict=True)
    assert (read.id, read.object, read.created_at, read.metadata) == ("conv_1", "conversation", 1, {"a": "b"})
    deleted = sdk.ConversationDeletedResource.model_validate_json(msgspec.json.encode(ConversationDeleted(id="conv_1")))
    assert (deleted.id, deleted.object, deleted.deleted) == ("conv_1", "conversation.deleted", True)
    message = Message(id="msg_1", role="user", status="completed", content=[InputText(text="Hello")])
    page = ItemPage(data=[message], first_id="msg_1", last_id="msg_1", has_more=False)
    items = sdk.ConversationItemList.model_validate_json(msgspec.json.encode(page))
    assert (items.object, items.has_more, items.data[0].type, items.data[0].id) == ("list", False, "message", "msg_1")


def test_the_fields_are_those_of_the_published_document(shared):
    schemas = json.loads((shared / "openapi" / "openai.json").read_text())["components"]["schemas"]
    for kind, name in (
        (Conversation, "ConversationResource"),
        (ConversationDeleted, "DeletedConversationResource"),
        (CreateConversation, "CreateConversationBody"),
        (UpdateConversation, "UpdateConversationBody"),
    ):
        assert set(kind.__struct_fields__) == set(schemas[name]["properties"]), name


@pytest.mark.parametrize("body", [b"{}", b'{"items":null,"metadata":null}', b'{"items":[]}', b'{"unknown":1}'])
def test_a_conversation_may_begin_empty(body):
    create = msgspec.json.decode(body, type=CreateConversation)
    assert decode_new_items(create.items) == []
    assert create.metadata is None


def test_items_may_lack_their_type():
    create = msgspec.json.decode(b'{"items":[%b,{"id":"msg_1"}]}' % MESSAGE, type=CreateItems)
    assert decode_new_items(create.items) == [Message(role="user", content="Hello"), ItemReference(id="msg_1")]


@pytest.mark.parametrize(
    ("items", "items_min", "complaint"),
    [
        (b"[%b]" % b",".join([MESSAGE] * (ITEMS_MAX + 1)), 0, "length <= 20"),
        (b"[]", 1, "length >= 1"),
        (b"null", 1, "array"),
        (b'{"role":"user"}', 0, "array"),
        (b"[1]", 0, "object"),
        (b'[{"type":"nonsense"}]', 0, "nonsense"),
    ],
)
def test_too_many_too_few_and_no_items_are_refused(items, items_min, complaint):
    with pytest.raises(msgspec.ValidationError, match=complaint):
        decode_new_items(items, items_min=items_min)


def test_as_many_items_as_allowed_are_taken():
    assert len(decode_new_items(b"[%b]" % b",".join([MESSAGE] * ITEMS_MAX), items_min=1)) == ITEMS_MAX


@pytest.mark.parametrize(
    "metadata",
    [
        {str(n): "" for n in range(17)},
        {"k" * 65: ""},
        {"k": "v" * 513},
        {"k": 1},
    ],
)
def test_metadata_beyond_the_published_limits_is_refused(metadata):
    for kind in (CreateConversation, UpdateConversation):
        with pytest.raises(msgspec.ValidationError, match="metadata"):
            msgspec.json.decode(json.dumps({"metadata": metadata}), type=kind)


def test_an_update_needs_metadata():
    with pytest.raises(msgspec.ValidationError, match="metadata"):
        msgspec.json.decode(b"{}", type=UpdateConversation)
