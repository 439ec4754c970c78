"""The official client drives conversations: their items, and responses that read and extend them."""

import threading
from typing import Any

import openai
import pytest

from antiphon.testing.host import RESET, Call, Gate, Host, Reply
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
HI: Any = {"type": "message", "role": "user", "content": "Hi"}


def texts(client: openai.OpenAI, conversation_id: str) -> list[str]:
    """The texts of a conversation's messages, oldest first."""
    items = client.conversations.items.list(conversation_id, order="asc", limit=100)
    return [item.content[0].text for item in items if item.type == "message"]  # type: ignore[union-attr]


def seen(host: Host) -> list[str]:
    """The texts that the model saw in the last call."""
    contents = [message["content"] for message in host.calls[-1].json["messages"]]
    return ["".join(part["text"] for part in one) if isinstance(one, list) else one or "" for one in contents]


def many(count: int, start: int = 0) -> Any:
    """So many messages."""
    return [{"role": "user", "content": f"m{index}"} for index in range(start, start + count)]


def test_a_conversation_lives_and_dies(client: openai.OpenAI) -> None:
    made = client.conversations.create(metadata={"topic": "a"}, items=[HI])
    assert made.object == "conversation"
    assert client.conversations.retrieve(made.id) == made
    updated = client.conversations.update(made.id, metadata={"topic": "b"})
    assert updated.metadata == {"topic": "b"}
    deleted = client.conversations.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.list(made.id)


def test_items_are_created_read_and_deleted(client: openai.OpenAI) -> None:
    made = client.conversations.create()
    added = client.conversations.items.create(made.id, items=many(20))
    assert [item.content[0].text for item in added.data] == [f"m{i}" for i in range(20)]  # type: ignore[union-attr]
    one = client.conversations.items.retrieve(added.data[3].id, conversation_id=made.id)
    assert one == added.data[3]
    conversation = client.conversations.items.delete(added.data[3].id, conversation_id=made.id)
    assert conversation.id == made.id
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(added.data[3].id, conversation_id=made.id)
    assert "m3" not in texts(client, made.id)


EVERY_ITEM: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"}]},
    {"role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "1"},
    {"type": "custom_tool_call", "call_id": "c2", "name": "f", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "c2", "output": "1"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
    {
        "type": "local_shell_call",
        "call_id": "c3",
        "status": "completed",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
    {"type": "local_shell_call_output", "id": "c3", "output": "a"},
    {"type": "shell_call", "call_id": "c4", "action": {"commands": ["ls"]}, "status": "completed"},
    {
        "type": "shell_call_output",
        "call_id": "c4",
        "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
    },
    {
        "type": "apply_patch_call",
        "call_id": "c5",
        "status": "completed",
        "operation": {"type": "delete_file", "path": "a"},
    },
    {"type": "apply_patch_call_output", "call_id": "c5", "status": "failed", "output": "no"},
    {
        "type": "computer_call",
        "call_id": "c6",
        "status": "completed",
        "action": {"type": "screenshot"},
        "pending_safety_checks": [],
    },
    {
        "type": "computer_call_output",
        "call_id": "c6",
        "output": {"type": "computer_screenshot", "image_url": "https://example.org/s.png"},
    },
    {"type": "file_search_call", "queries": ["q"], "status": "completed"},
    {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "image_generation_call", "status": "completed", "result": "AAAA"},
    {"type": "code_interpreter_call", "code": "1", "container_id": "k", "status": "completed", "outputs": []},
    {"type": "mcp_list_tools", "server_label": "s", "tools": []},
    {"type": "mcp_approval_request", "server_label": "s", "name": "f", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {"type": "mcp_call", "server_label": "s", "name": "f", "arguments": "{}", "output": "1"},
]


@pytest.mark.parametrize("item", EVERY_ITEM, ids=lambda item: item.get("type", item.get("role")))
def test_every_type_of_item_is_kept(client: openai.OpenAI, item: dict[str, Any]) -> None:
    made = client.conversations.create(items=[item])  # type: ignore[list-item]
    (kept,) = client.conversations.items.list(made.id).data
    assert kept.type == item.get("type", "message")
    assert kept.id
    dumped = kept.model_dump(mode="json")
    for name in item.keys() - {"content", "output", "action"}:
        assert dumped[name] == item[name]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_are_true_about_more(client: openai.OpenAI, order: Any) -> None:
    made = client.conversations.create(items=many(6))
    page = client.conversations.items.list(made.id, order=order, limit=3)
    assert (len(page.data), page.has_more, page.last_id) == (3, True, page.data[-1].id)
    rest = client.conversations.items.list(made.id, order=order, limit=3, after=page.last_id)
    assert (len(rest.data), rest.has_more) == (3, False)
    empty = client.conversations.items.list(made.id, order=order, after=rest.last_id)
    assert (empty.data, empty.has_more) == ([], False)
    whole = [item.content[0].text for item in (*page.data, *rest.data)]  # type: ignore[union-attr]
    assert whole == [f"m{i}" for i in range(6)][:: 1 if order == "asc" else -1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": many(21)}, "items"),
        ({"items": [{"role": "robot", "content": "Hi"}]}, "items"),
        ({"items": "Hi"}, "items"),
        ({"metadata": {str(key): "" for key in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
    ],
)
def test_limits_of_conversations_are_refused(server: Server, body: Any, param: str) -> None:
    got = server.post("/conversations", body)
    assert got.status == 400
    assert got.json["error"]["param"].startswith(param)


def test_the_model_sees_every_item_in_order_however_it_came(client: openai.OpenAI, host: Host) -> None:
    made = client.conversations.create(items=many(20))
    client.conversations.items.create(made.id, items=many(20, 20))
    host.answer(Reply(text=["Fine"]))
    client.responses.create(model=MODEL, input="turn 1", conversation=made.id)
    client.conversations.items.create(made.id, items=many(2, 40))
    client.responses.create(model=MODEL, input="turn 2", conversation={"id": made.id})
    expected = [*(f"m{i}" for i in range(40)), "turn 1", "Fine", "m40", "m41", "turn 2"]
    assert seen(host) == expected
    assert texts(client, made.id) == [*expected, "Hello there."]


def test_calls_outputs_and_reasoning_are_appended_once_in_order(client: openai.OpenAI, host: Host) -> None:
    made = client.conversations.create()
    tools: Any = [{"type": "function", "name": "f", "parameters": None, "strict": None}]
    host.answer(Reply(reasoning=["Hm"], calls=[Call(name="f", id="c1")]), Reply(text=["7"]))
    first = client.responses.create(model=MODEL, input="Hi", conversation=made.id, tools=tools)
    output: Any = {"type": "function_call_output", "call_id": "c1", "output": "7"}
    client.responses.create(model=MODEL, input=[output], conversation=made.id, tools=tools)
    items = client.conversations.items.list(made.id, order="asc").data
    assert [item.type for item in items] == [
        *("message", "reasoning", "function_call", "function_call_output", "message"),
    ]
    assert [item.id for item in items[1:3]] == [item.id for item in first.output]
    assert first.conversation is not None
    assert first.conversation.id == made.id


def test_a_turn_is_there_when_its_terminal_event_is(server: Server, client: openai.OpenAI) -> None:
    made = client.conversations.create()
    server.stream(input="Hi", conversation=made.id)
    assert texts(client, made.id) == ["Hi", "Hello there."]


def test_a_failed_turn_appends_nothing(server: Server, client: openai.OpenAI, host: Host) -> None:
    made = client.conversations.create(items=[HI])
    host.answer(Reply(text=["bro"], finish=None, end=[RESET]), Reply(text=["cut"], finish="length"))
    assert server.stream(input="1", conversation=made.id).types[-1] == "response.failed"
    assert texts(client, made.id) == ["Hi"]
    assert server.stream(input="2", conversation=made.id).types[-1] == "response.incomplete"
    assert texts(client, made.id) == ["Hi", "2", "cut"]


def test_two_turns_at_once_never_interleave(server: Server, client: openai.OpenAI, host: Host) -> None:
    made = client.conversations.create()
    gate = Gate()
    host.answer(Reply(text=["one", gate]))
    body = {"model": MODEL, "input": "first", "conversation": made.id}
    first = threading.Thread(target=server.post, args=("/responses", body))
    first.start()
    gate.wait()
    got = server.post("/responses", {**body, "input": "second"})
    assert (got.status, got.json["error"]["code"]) == (409, "conversation_locked")
    gate.open()
    first.join()
    assert texts(client, made.id) == ["first", "one"]
    assert server.post("/responses", {**body, "input": "second"}).status == 200


def test_an_unknown_conversation_is_a_404(server: Server, client: openai.OpenAI, host: Host) -> None:
    for unknown in ("conv_unknown", "resp_1", {"id": "conv_unknown"}):
        got = server.post("/responses", {"model": MODEL, "input": "Hi", "conversation": unknown})
        assert got.status == 404
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve("msg_unknown", conversation_id=client.conversations.create().id)
    assert not host.calls


def test_appends_at_the_same_time_leave_each_batch_whole(server: Server, client: openai.OpenAI) -> None:
    made = client.conversations.create()

    def append(writer: int) -> None:
        for turn in range(6):
            items = [{"role": "user", "content": f"{writer}.{turn}.{index}"} for index in range(4)]
            assert server.post(f"/conversations/{made.id}/items", {"items": items}).status == 200

    writers = [threading.Thread(target=append, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = texts(client, made.id)
    batches = [found[at : at + 4] for at in range(0, len(found), 4)]
    assert all([text.rpartition(".")[2] for text in batch] == ["0", "1", "2", "3"] for batch in batches)
    assert all(len({text.rpartition(".")[0] for text in batch}) == 1 for batch in batches)
    for writer in range(4):
        turns = [batch[0] for batch in batches if batch[0].startswith(f"{writer}.")]
        assert turns == [f"{writer}.{turn}.0" for turn in range(6)]
