"""Conversations over HTTP, beyond what the official client can say."""

from typing import Any

import pytest

from antiphon.testing.host import Host, Reply
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"


def made(server: Server, items: Any = None) -> str:
    got = server.post("/conversations", {} if items is None else {"items": items})
    assert got.status == 200, got.body
    conversation_id: str = got.json["id"]
    return conversation_id


def test_an_empty_body_and_nulls_make_an_empty_conversation(server: Server) -> None:
    for body in (b"", b"{}", b'{"items": null, "metadata": null}', b'{"items": []}'):
        got = server.post("/conversations", body)
        assert (got.status, got.json["metadata"], got.json["object"]) == (200, {}, "conversation")
        assert got.json["id"].startswith("conv_")
        assert server.get(f"/conversations/{got.json['id']}/items").json["data"] == []


def test_items_are_completed_with_ids_status_and_parts(server: Server) -> None:
    conversation_id = made(server)
    items = [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ]
    got = server.post(f"/conversations/{conversation_id}/items", {"items": items}).json
    message, call = got["data"]
    assert message["id"].startswith("msg_")
    assert (message["content"], message["status"]) == ([{"type": "input_text", "text": "Hi"}], "completed")
    assert call["id"].startswith("fc_")
    assert (got["object"], got["first_id"], got["last_id"], got["has_more"]) == (
        "list",
        message["id"],
        call["id"],
        False,
    )


def test_an_item_keeps_the_id_it_comes_with_once(server: Server) -> None:
    conversation_id = made(server)
    item = {"id": "msg_mine", "role": "user", "content": "Hi"}
    path = f"/conversations/{conversation_id}/items"
    assert server.post(path, {"items": [item]}).json["data"][0]["id"] == "msg_mine"
    got = server.post(path, {"items": [item]})
    assert (got.status, got.json["error"]["code"]) == (409, "conflict")
    assert len(server.get(path).json["data"]) == 1


def test_a_reference_puts_the_item_itself_into_the_conversation(server: Server, host: Host) -> None:
    host.answer(Reply(text="An answer."))
    item = server.post("/responses", {"model": MODEL, "input": "Hi"}).json["output"][0]
    conversation_id = made(server, [{"type": "item_reference", "id": item["id"]}, {"id": item["id"]}][:1])
    (kept,) = server.get(f"/conversations/{conversation_id}/items").json["data"]
    assert (kept["id"], kept["type"], kept["content"]) == (item["id"], "message", item["content"])
    got = server.post(f"/conversations/{conversation_id}/items", {"items": [{"id": "msg_nobody"}]})
    assert (got.status, got.json["error"]["param"]) == (404, "items[0].id")


def test_logprobs_and_encrypted_reasoning_are_shown_only_if_included(server: Server) -> None:
    logprob = {"token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": []}
    answer = {"type": "output_text", "text": "x", "annotations": [], "logprobs": [logprob]}
    conversation_id = made(
        server,
        [
            {"role": "assistant", "content": [answer]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        ],
    )
    path = f"/conversations/{conversation_id}/items"
    reasoning, message = server.get(path).json["data"]
    assert message["content"][0]["logprobs"] == []
    assert not reasoning.get("encrypted_content")
    include = "include[]=message.output_text.logprobs&include[]=reasoning.encrypted_content"
    reasoning, message = server.get(f"{path}?{include}").json["data"]
    assert message["content"][0]["logprobs"] == [logprob]
    assert reasoning["encrypted_content"]
    one = server.get(f"{path}/{message['id']}?{include}").json
    assert one == message


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=sideways", "order"),
        ("include[]=everything", "include"),
        ("after=msg_nobody", "after"),
    ],
)
def test_wrong_pages_are_refused_by_name(server: Server, query: str, param: str) -> None:
    got = server.get(f"/conversations/{made(server)}/items?{query}")
    assert got.status == 400
    assert got.json["error"]["param"].partition("[")[0] == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "items"),
        (b'{"items": []}', "items"),
        (b'{"items": null}', "items"),
        (b'{"items": {}}', "items"),
        (b'{"items": [1]}', "items[0]"),
        (b'{"items": [{"type": "nothing"}]}', "items[0]"),
        (b'{"items": [{"type": "compaction_trigger"}]}', "items[0].type"),
        (b'{"items": [{"type": null, "id": "msg_unknown"}]}', "items[0].id"),
        (b'{"items": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]}', "items[0].encrypted_content"),
        (b'{"items": [{"type": "compaction", "encrypted_content": "x"}]}', "items[0].encrypted_content"),
        (b'{"items": [{"role": "user", "content": [{"type": "input_image"}]}]}', "items[0].content[0]"),
        (b'{"items": [{"role": "user"}]}', "items[0].content"),
        (b'{"items": [{"role": "user", "content": [{"type": "input_text"}]}]}', "items[0].content[0].text"),
        (b'{"items": [' + b",".join([b'{"role": "user", "content": "Hi"}'] * 21) + b"]}", "items"),
    ],
)
def test_wrong_items_are_refused_by_place_and_nothing_is_added(server: Server, body: bytes, param: str) -> None:
    path = f"/conversations/{made(server)}/items"
    got = server.post(path, body)
    assert got.status in (400, 404)
    assert got.json["error"]["param"].startswith(param)
    assert server.get(path).json["data"] == []


def test_metadata_is_required_for_an_update_and_replaced_as_a_whole(server: Server) -> None:
    conversation_id = made(server)
    path = f"/conversations/{conversation_id}"
    assert server.post(path, {"metadata": {"a": "1", "b": "2"}}).json["metadata"] == {"a": "1", "b": "2"}
    assert server.post(path, {"metadata": {"c": "3"}}).json["metadata"] == {"c": "3"}
    got = server.post(path, {})
    assert (got.status, got.json["error"]["param"]) == (400, "metadata")
    assert server.get(path).json["metadata"] == {"c": "3"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("POST", "", {"metadata": {}}),
        ("DELETE", "", None),
        ("GET", "/items", None),
        ("POST", "/items", {"items": [{"role": "user", "content": "Hi"}]}),
        ("GET", "/items/msg_1", None),
        ("DELETE", "/items/msg_1", None),
    ],
)
def test_an_unknown_conversation_is_a_404_on_every_route(server: Server, method: str, path: str, body: Any) -> None:
    got = server.ask(method, f"/v1/conversations/conv_nobody{path}", body)
    assert got.status == 404
    assert "conv_nobody" in got.json["error"]["message"]


def test_unknown_fields_are_accepted_and_named(server: Server) -> None:
    got = server.post("/conversations", {"colour": "red"})
    assert (got.status, got.headers["x-antiphon-warnings"]) == (200, "unknown field: colour")
