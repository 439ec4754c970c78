"""The official client drives what is kept: chains, retrieval, replayed streams, input items, deletion."""

import json
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import ResponseItem

from antiphon.testing.host import RESET, Call, Gate, Host, Reply
from antiphon.testing.rules import check
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"


def texts(host: Host) -> list[str]:
    """The texts of the last call's messages."""
    return [words(message["content"]) for message in host.calls[-1].json["messages"]]


def words(content: Any) -> str:
    """The text of a message's content."""
    return "".join(part["text"] for part in content) if isinstance(content, list) else content or ""


def test_a_chain_remembers_everything_but_instructions(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["One"]), Reply(text=["Two"]), Reply(text=["Three"]))
    first = client.responses.create(model=MODEL, input="1", instructions="Count")
    second = client.responses.create(model=MODEL, input="2", previous_response_id=first.id)
    third = client.responses.create(model=MODEL, input="3", previous_response_id=second.id)
    assert texts(host) == ["1", "One", "2", "Two", "3"]
    assert third.previous_response_id == second.id
    assert third.instructions is None


def test_a_chain_can_fork(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["One"]), Reply(text=["Left"]), Reply(text=["Right"]))
    first = client.responses.create(model=MODEL, input="1")
    left = client.responses.create(model=MODEL, input="L", previous_response_id=first.id)
    client.responses.create(model=MODEL, input="R", previous_response_id=first.id)
    assert texts(host) == ["1", "One", "R"]
    client.responses.create(model=MODEL, input="L2", previous_response_id=left.id)
    assert texts(host) == ["1", "One", "L", "Left", "L2"]


def test_reasoning_and_call_pairs_stay_in_a_chain(client: openai.OpenAI, host: Host) -> None:
    tools: Any = [{"type": "function", "name": "f", "parameters": None, "strict": None}]
    host.answer(Reply(reasoning=["Hm"], calls=[Call(name="f", id="call_1")]), Reply(text=["Seven"]), Reply(text=["!"]))
    first = client.responses.create(model=MODEL, input="1", tools=tools)
    output: Any = {"type": "function_call_output", "call_id": "call_1", "output": "7"}
    second = client.responses.create(model=MODEL, input=[output], previous_response_id=first.id, tools=tools)
    client.responses.create(model=MODEL, input="And?", previous_response_id=second.id, tools=tools)
    messages = host.calls[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]


def test_a_deleted_link_breaks_the_chain_and_says_so(client: openai.OpenAI, host: Host) -> None:
    first = client.responses.create(model=MODEL, input="the secret is 7")
    second = client.responses.create(model=MODEL, input="2", previous_response_id=first.id)
    client.responses.delete(first.id)
    count = len(host.calls)
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model=MODEL, input="3", previous_response_id=second.id)
    assert first.id in error.value.message
    assert error.value.code == "previous_response_not_found"
    assert len(host.calls) == count


@pytest.mark.parametrize("unknown", ["resp_unknown", "conv_wrong_kind", "x", "resp_" + "0" * 48])
def test_an_unknown_previous_response_is_a_404(client: openai.OpenAI, unknown: str) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model=MODEL, input="3", previous_response_id=unknown)
    assert error.value.param == "previous_response_id"


def test_what_is_retrieved_is_what_was_created(server: Server, client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(reasoning=["Hm"], text=["Hello"], calls=[Call(name="f")]))
    created = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": [{"type": "function", "name": "f"}]})
    assert server.get(f"/responses/{created.json['id']}").json == created.json
    assert client.responses.retrieve(created.json["id"]).output_text == "Hello"


def test_a_retrieved_stream_is_the_stream_that_was_sent_from_every_position(server: Server, host: Host) -> None:
    calls = [Call(name="f", arguments=['{"a":', " 1}"]), Call(name="shell", id="c2", arguments='{"commands": ["ls"]}')]
    host.answer(Reply(reasoning=["H", "m"], text=["Hel", "lo"], calls=calls, logprobs=True))
    sent = server.stream(input="Hi", tools=[{"type": "function", "name": "f"}, {"type": "shell"}], metadata={"a": "b"})
    path = f"/responses/{sent.response['id']}?stream=true"
    again = server.get(path)
    assert check(again.body).frames == sent.frames
    for after in range(len(sent.frames)):
        rest = server.get(f"{path}&starting_after={after}").body
        assert rest == b"".join(frame + b"\n\n" for frame in [*sent.frames[after + 1 :], b"data: [DONE]"])


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text=["cut o"], finish="length"),
        Reply(text=["bad"], finish="content_filter"),
        Reply(text=["bro", "ken"], finish=None, end=[RESET]),
        Reply(calls=[Call(name="f", arguments=["{not json"])]),
    ],
    ids=["length", "filter", "broken", "bad arguments"],
)
def test_a_retrieved_stream_of_an_ended_run_is_the_same_however_it_ended(
    server: Server, host: Host, reply: Reply
) -> None:
    host.answer(reply)
    sent = server.stream(input="Hi", tools=[{"type": "function", "name": "f"}])
    again = server.get(f"/responses/{sent.response['id']}?stream=true")
    assert check(again.body).frames == sent.frames


def test_the_client_streams_a_finished_response(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"]))
    created = client.responses.create(model=MODEL, input="Hi")
    numbers = [event.sequence_number for event in client.responses.retrieve(created.id, stream=True, starting_after=3)]
    assert numbers == list(range(4, numbers[-1] + 1))


@pytest.mark.parametrize(
    "query",
    ["stream=true&starting_after=x", "stream=true&starting_after=-1", "include=everything", "starting_after=1"],
)
def test_a_wrong_query_is_a_400(server: Server, client: openai.OpenAI, query: str) -> None:
    created = client.responses.create(model=MODEL, input="Hi")
    assert server.get(f"/responses/{created.id}?{query}").status == 400


def test_deletion_is_deletion(server: Server, client: openai.OpenAI) -> None:
    created = client.responses.create(model=MODEL, input="Hi")
    deleted = server.ask("DELETE", f"/v1/responses/{created.id}")
    assert deleted.json == {"id": created.id, "object": "response.deleted", "deleted": True}
    for method, path in (("GET", ""), ("GET", "/input_items"), ("GET", "?stream=true"), ("DELETE", "")):
        assert server.ask(method, f"/v1/responses/{created.id}{path}").status == 404


def test_an_unstored_response_leaves_nothing(client: openai.OpenAI) -> None:
    created = client.responses.create(model=MODEL, input="Hi", store=False)
    assert created.store is False  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=MODEL, input="3", previous_response_id=created.id)


def test_input_items_are_paged_in_both_orders(client: openai.OpenAI) -> None:
    given: Any = [{"role": "user", "content": f"m{index}"} for index in range(7)]
    created = client.responses.create(model=MODEL, input=given)
    for order in ("asc", "desc"):
        page = client.responses.input_items.list(created.id, order=order, limit=3)  # type: ignore[arg-type]
        assert page.has_more
        found = [item.content[0].text for item in page]  # type: ignore[union-attr]
        expected = [f"m{index}" for index in range(7)]
        assert found == (expected if order == "asc" else expected[::-1])
    items = client.responses.input_items.list(created.id, order="asc", limit=100).data
    assert len({item.id for item in items}) == 7
    after = client.responses.input_items.list(created.id, order="asc", after=items[4].id)
    assert [item.id for item in after.data] == [item.id for item in items[5:]]
    assert not after.has_more


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "after=msg_unknown"])
def test_a_wrong_page_is_refused(server: Server, client: openai.OpenAI, query: str) -> None:
    created = client.responses.create(model=MODEL, input="Hi")
    got = server.get(f"/responses/{created.id}/input_items?{query}")
    assert got.status in (400, 404)
    assert got.json["error"]["param"] == query.partition("=")[0]


def test_an_item_reference_stands_for_the_item(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Blue"]))
    first = client.responses.create(model=MODEL, input="Colour?")
    items: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "Why?"}]
    client.responses.create(model=MODEL, input=items)
    assert texts(host) == ["Blue", "Why?"]
    untyped: Any = [{"id": first.output[0].id}, {"role": "user", "content": "Why?"}]
    client.responses.create(model=MODEL, input=untyped)
    assert texts(host) == ["Blue", "Why?"]


def test_an_unknown_item_reference_is_a_404(client: openai.OpenAI) -> None:
    items: Any = [{"type": "item_reference", "id": "msg_unknown"}]
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model=MODEL, input=items)
    assert "msg_unknown" in error.value.message


def test_responses_are_listed(server: Server, client: openai.OpenAI) -> None:
    made = [client.responses.create(model=MODEL, input=str(index)).id for index in range(3)]
    listed = server.get("/responses?limit=3").json
    assert [one["id"] for one in listed["data"]] == made[::-1]
    assert listed["object"] == "list"


def test_a_failed_response_can_be_retrieved(server: Server, host: Host) -> None:
    host.answer(Reply(text=["bro"], finish=None, end=[RESET]))
    sent = server.stream(input="Hi")
    assert server.get(f"/responses/{sent.response['id']}").json == sent.response


def test_a_response_is_retrievable_while_it_runs(server: Server, host: Host) -> None:
    gate = Gate()
    host.answer(Reply(text=["one", gate, "two"]))
    connection = server.connect()
    connection.request("POST", "/v1/responses", json.dumps({"model": MODEL, "input": "Hi", "stream": True}))
    answer = connection.getresponse()
    gate.wait()
    answer.readline()
    created = answer.readline()
    response_id = created.partition(b'"id":"')[2].partition(b'"')[0].decode()
    assert server.get(f"/responses/{response_id}").json["status"] == "in_progress"
    gate.open()
    answer.read()
    assert server.get(f"/responses/{response_id}").json["status"] == "completed"
    connection.close()


def test_listed_items_are_what_the_clients_types_say(server: Server, client: openai.OpenAI) -> None:
    image = {"type": "input_image", "image_url": "https://example.org/a.png"}
    given: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, image]},
        {"role": "assistant", "content": "I said"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "reasoning", "summary": []},
    ]
    created = client.responses.create(model=MODEL, input=given)
    kinds = pydantic.TypeAdapter(ResponseItem)
    listed = server.get(f"/responses/{created.id}/input_items?order=asc").json["data"]
    assert [kinds.validate_python(item, strict=True).type for item in listed] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
    ]
