"""The official client has contexts compacted, and goes on from what comes back."""

import json
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import CompactedResponse, ResponseCompactionItem

from antiphon.engine.compact import INTRODUCTION
from antiphon.engine.seal import Sealer
from antiphon.testing.host import RESET, Call, Gate, Host, Reply, status
from antiphon.testing.rules import check
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
SUMMARY = f"{INTRODUCTION}\n\nThe cat is called Tom."
CAT: Any = [
    {"role": "user", "content": "My cat is called Tom."},
    {"role": "assistant", "content": "Noted: Tom."},
    {"role": "user", "content": "Is that a good name?"},
    {"role": "assistant", "content": "Yes."},
]


def texts(host: Host, call: int = -1) -> list[str]:
    """The texts of a call's messages."""
    contents = [message["content"] for message in host.calls[call].json["messages"]]
    return ["".join(part["text"] for part in one) if isinstance(one, list) else one or "" for one in contents]


def sendable(response: Any) -> list[Any]:
    """The items of an output, as they are sent back."""
    return [item.model_dump(exclude_none=True, warnings=False) for item in response.output]


def compacted(client: openai.OpenAI, host: Host, **body: Any) -> CompactedResponse:
    """A context that the model summarises as `SUMMARY`."""
    host.answer(Reply(text=["The cat is", " called Tom."]))
    return client.responses.compact(**{"model": MODEL, "input": CAT, **body})


# ---------------------------------------------------------------- the compact endpoint


def test_a_compacted_context_is_the_users_messages_and_one_item(server: Server, host: Host) -> None:
    host.answer(Reply(text=["The cat is called Tom."]))
    got = server.post("/responses/compact", {"model": MODEL, "input": CAT})
    made = got.json
    assert got.status == 200, got.body
    assert made["object"] == "response.compaction"
    assert [item["type"] for item in made["output"]] == ["message", "message", "compaction"]
    assert [item["content"][0]["text"] for item in made["output"][:2]] == [CAT[0]["content"], CAT[2]["content"]]
    assert all(item["id"] for item in made["output"])
    assert made["usage"]["total_tokens"] > 0
    shape = pydantic.TypeAdapter(CompactedResponse)
    shape.validate_python({**made, "output": []}, strict=True)  # its type of output knows no message of a user's
    pydantic.TypeAdapter(ResponseCompactionItem).validate_python(made["output"][-1], strict=True)
    assert "Tom" not in made["output"][-1]["encrypted_content"]


def test_the_model_is_asked_for_a_summary_of_all_that_was_said(client: openai.OpenAI, host: Host) -> None:
    compacted(client, host, instructions="Be kind.", prompt_cache_key="k")
    told = texts(host)
    assert told[:-1] == ["Be kind.", *(item["content"] for item in CAT)]
    assert "summary" in told[-1]
    assert host.calls[-1].json["messages"][-1]["role"] == "user"


def test_going_on_from_a_compacted_context(client: openai.OpenAI, host: Host) -> None:
    made = compacted(client, host)
    items: Any = [*sendable(made), {"role": "user", "content": "What is it called?"}]
    host.answer(Reply(text=["Tom"]), Reply(text=["Yes"]))
    first = client.responses.create(model=MODEL, input=items)
    expected = [CAT[0]["content"], CAT[2]["content"], SUMMARY, "What is it called?"]
    assert texts(host) == expected
    client.responses.create(model=MODEL, input="Sure?", previous_response_id=first.id)
    assert texts(host) == [*expected, "Tom", "Sure?"]


def test_going_on_without_storing_anything(client: openai.OpenAI, host: Host) -> None:
    made = compacted(client, host)
    client.responses.create(model=MODEL, input=[*CAT, *sendable(made)[-1:], CAT[0]], store=False)
    assert texts(host) == [CAT[0]["content"], CAT[2]["content"], SUMMARY, CAT[0]["content"]]


def test_a_compacted_context_fits_into_a_conversation(client: openai.OpenAI, host: Host) -> None:
    made = compacted(client, host)
    conversation = client.conversations.create(items=sendable(made))
    client.responses.create(model=MODEL, input="And?", conversation=conversation.id)
    assert texts(host) == [CAT[0]["content"], CAT[2]["content"], SUMMARY, "And?"]


def test_a_chain_is_compacted_by_its_last_response(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Noted."]))
    first = client.responses.create(model=MODEL, input="My cat is called Tom.")
    made = compacted(client, host, input=None, previous_response_id=first.id)
    assert texts(host)[:-1] == ["My cat is called Tom.", "Noted."]
    assert [item.type for item in made.output] == ["message", "compaction"]


def test_a_compacted_context_is_compacted_again(client: openai.OpenAI, host: Host) -> None:
    first = compacted(client, host)
    later: Any = [{"role": "assistant", "content": "Meow."}, {"role": "user", "content": "Bye"}]
    second = compacted(client, host, input=[*sendable(first), *later])
    assert texts(host)[:-1] == [CAT[0]["content"], CAT[2]["content"], SUMMARY, "Meow.", "Bye"]
    assert [item.type for item in second.output] == ["message", "message", "message", "compaction"]
    client.responses.create(model=MODEL, input=sendable(second))
    assert texts(host) == [CAT[0]["content"], CAT[2]["content"], "Bye", SUMMARY]


def test_a_call_that_awaits_its_output_survives(client: openai.OpenAI, host: Host) -> None:
    tools: Any = [{"type": "function", "name": "f", "parameters": None, "strict": None}]
    host.answer(Reply(calls=[Call(name="f", id="call_1"), Call(name="f", id="call_2")]))
    first = client.responses.create(model=MODEL, input="Go", tools=tools)
    done: Any = {"type": "function_call_output", "call_id": "call_1", "output": "7"}
    made = compacted(client, host, input=[done], previous_response_id=first.id)
    assert [message["role"] for message in host.calls[-1].json["messages"]] == ["user", "assistant", "tool", "user"]
    client.responses.create(model=MODEL, input=[*sendable(made), {**done, "call_id": "call_2"}], tools=tools)
    messages = host.calls[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "user", "assistant", "tool"]
    assert messages[2]["tool_calls"][0]["id"] == messages[3]["tool_call_id"] == "call_2"
    with pytest.raises(openai.BadRequestError, match="call_2"):
        client.responses.create(model=MODEL, input=[*sendable(made)], tools=tools)


def test_tokens_are_counted_of_what_the_model_will_see(client: openai.OpenAI, host: Host) -> None:
    long: Any = [*CAT, {"role": "assistant", "content": "word " * 2000}]
    before = client.responses.input_tokens.count(model=MODEL, input=long).input_tokens
    made = compacted(client, host, input=long)
    after = client.responses.input_tokens.count(model=MODEL, input=sendable(made)).input_tokens
    assert after < 200 < 2000 < before


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"model": None}, 400, "model"),
        ({"model": "nobody/knows"}, 404, "model"),
        ({"input": None}, 400, "input"),
        ({"input": [{"role": "boss", "content": "Hi"}]}, 400, "input[0].role"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]}, 400, "input[0]"),
        ({"previous_response_id": "resp_unknown"}, 404, "previous_response_id"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, 400, "input[0].encrypted_content"),
    ],
)
def test_a_wrong_request_is_refused_and_no_model_is_asked(
    server: Server, host: Host, body: Any, code: int, param: str
) -> None:
    got = server.post("/responses/compact", {"model": MODEL, "input": "Hi", **body})
    assert (got.status, got.json["error"]["param"]) == (code, param)
    assert host.calls == []


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (status(429, "slow down"), 429),
        (Reply(text=["half a"], finish="length"), 502),
        (Reply(text=["half a"], finish=None, end=[RESET]), 502),
        (Reply(text=[]), 502),
    ],
)
def test_a_summary_that_is_not_made_is_an_error(server: Server, host: Host, reply: Any, code: int) -> None:
    host.answer(reply)
    got = server.post("/responses/compact", {"model": MODEL, "input": "Hi"})
    assert got.status == code
    assert got.json["error"]["message"]


# ---------------------------------------------------------------- whose it is


def test_altered_or_foreign_content_is_refused(client: openai.OpenAI, host: Host) -> None:
    content = compacted(client, host).output[-1].encrypted_content  # type: ignore[union-attr]
    assert isinstance(content, str)
    swapped = content[:40] + ("A" if content[40] != "A" else "B") + content[41:]
    asked = len(host.calls)
    for wrong in (swapped, content[:-4], "", "The cat is called Tom.", Sealer(b"other").seal("{}", "compaction")):
        item: Any = {"type": "compaction", "encrypted_content": wrong}
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODEL, input=[{"role": "user", "content": "Hi"}, item])
        assert refused.value.code == "invalid_encrypted_content"
        assert refused.value.param == "input[1].encrypted_content"
    assert len(host.calls) == asked


def test_a_compacted_context_is_no_reasoning_and_reasoning_no_compacted_context(
    client: openai.OpenAI, host: Host
) -> None:
    content = compacted(client, host).output[-1].encrypted_content  # type: ignore[union-attr]
    host.answer(Reply(reasoning=["Hm"], text=["Hi"]))
    include: Any = ["reasoning.encrypted_content"]
    thought = client.responses.create(model=MODEL, input="Hi", include=include).output[0].encrypted_content  # type: ignore[union-attr]
    for item in (
        {"type": "reasoning", "summary": [], "encrypted_content": content},
        {"type": "compaction", "encrypted_content": thought},
    ):
        given: Any = [item, {"role": "user", "content": "Hi"}]
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODEL, input=given)
        assert refused.value.code == "invalid_encrypted_content"


def test_any_process_with_the_same_key_opens_it_and_no_other(host: Host, tmp_path: Path) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url}}}
    with running({**settings, "secret_key": "one"}, tmp_path / "first") as server, server.client() as client:
        made = sendable(compacted(client, host))
    with (
        running({**settings, "secret_key": "one"}, tmp_path / "second", process=True) as server,
        server.client() as client,
    ):
        client.responses.create(model=MODEL, input=made)
        assert texts(host) == [CAT[0]["content"], CAT[2]["content"], SUMMARY]
    with running({**settings, "secret_key": "two"}, tmp_path / "third") as server, server.client() as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODEL, input=made)
        assert refused.value.code == "invalid_encrypted_content"


def test_the_prompt_is_a_setting(host: Host, tmp_path: Path) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url}}, "compaction_prompt": "In one line, please."}
    with running(settings, tmp_path) as server, server.client() as client:
        compacted(client, host)
    assert texts(host)[-1] == "In one line, please."


# ---------------------------------------------------------------- in a response

POLICY: Any = [{"type": "compaction", "compact_threshold": 1000}]
LONG = "word " * 1200
TOM = Reply(text=["The cat is called Tom."], usage={"prompt_tokens": 1300, "completion_tokens": 20})
TRIGGER: Any = {"type": "compaction_trigger"}


def kinds(response: Any) -> list[str]:
    """The types of its output items."""
    return [item.type for item in response.output]


def test_a_chain_that_has_grown_long_goes_on_from_a_summary(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Noted."]), TOM, Reply(text=["Tom."]), Reply(text=["Yes."]))
    first = client.responses.create(model=MODEL, input=LONG, context_management=POLICY)
    assert kinds(first) == ["message"]
    second = client.responses.create(
        model=MODEL, input="Its name?", previous_response_id=first.id, context_management=POLICY
    )
    assert kinds(second) == ["compaction", "message"]
    assert second.output_text == "Tom."
    assert texts(host, 1)[:-1] == [LONG, "Noted."]
    assert texts(host, 2) == [SUMMARY, "Its name?"]
    third = client.responses.create(
        model=MODEL, input="Sure?", previous_response_id=second.id, context_management=POLICY
    )
    assert kinds(third) == ["message"]
    assert texts(host, 3) == [SUMMARY, "Its name?", "Tom.", "Sure?"]
    assert client.responses.retrieve(second.id).output == second.output
    assert len(client.responses.input_items.list(first.id).data) == 1


def test_a_conversation_that_has_grown_long_goes_on_from_a_summary(client: openai.OpenAI, host: Host) -> None:
    conversation = client.conversations.create().id
    host.answer(Reply(text=["Noted."]), TOM, Reply(text=["Tom."]), Reply(text=["Yes."]))
    client.responses.create(model=MODEL, input=LONG, conversation=conversation, context_management=POLICY)
    client.responses.create(model=MODEL, input="Its name?", conversation=conversation, context_management=POLICY)
    client.responses.create(model=MODEL, input="Sure?", conversation=conversation)
    assert texts(host) == [SUMMARY, "Its name?", "Tom.", "Sure?"]
    items = client.conversations.items.list(conversation, order="asc", limit=100)
    assert [item.type for item in items] == [
        *("message", "message", "message", "compaction", "message"),
        *("message", "message"),
    ]


@pytest.mark.parametrize("pruned", [False, True])
def test_a_client_that_keeps_the_items_itself_goes_on_from_them(
    client: openai.OpenAI, host: Host, pruned: bool
) -> None:
    host.answer(TOM, Reply(text=["Tom."]), Reply(text=["Yes."]))
    items: Any = [
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "Its name?"},
    ]
    made = client.responses.create(model=MODEL, input=items, store=False, context_management=POLICY)
    window: Any = [*([] if pruned else items), *sendable(made), {"role": "user", "content": "Sure?"}]
    client.responses.create(model=MODEL, input=window, store=False, context_management=POLICY)
    assert texts(host) == [SUMMARY, "Its name?", "Tom.", "Sure?"]


def test_a_stream_shows_the_item_first_and_can_be_had_again(server: Server, host: Host) -> None:
    host.answer(TOM, Reply(reasoning=["Hm"], text=["Tom."]))
    given = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    sent = server.stream(input=given, context_management=POLICY)
    assert [item["type"] for item in sent.items] == ["compaction", "reasoning", "message"]
    shown = [event["type"] for event in sent.events if event.get("output_index") == 0]
    assert shown == ["response.output_item.added", "response.output_item.done"]
    again = server.get(f"/responses/{sent.response['id']}?stream=true")
    assert check(again.body).frames == sent.frames


def test_usage_is_that_of_both_model_calls(client: openai.OpenAI, host: Host) -> None:
    host.answer(TOM, Reply(text=["Hi"], usage={"prompt_tokens": 30, "completion_tokens": 2}))
    given: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, CAT[0]]
    usage = client.responses.create(model=MODEL, input=given, context_management=POLICY).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (1330, 22, 1352)


def test_a_loop_of_calls_keeps_its_task_and_its_last_step(client: openai.OpenAI, host: Host) -> None:
    tools: Any = [{"type": "function", "name": "f", "parameters": None, "strict": None}]
    body: Any = {"model": MODEL, "tools": tools, "tool_choice": "required", "context_management": POLICY}
    done: Any = {"type": "function_call_output", "call_id": "call_1", "output": LONG}
    host.answer(
        Reply(calls=[Call(name="f", id="call_1")]), Reply(calls=[Call(name="f", id="call_2")]), TOM, Reply(text=["!"])
    )
    first = client.responses.create(input="Count", **body)
    second = client.responses.create(input=[done], previous_response_id=first.id, **body)
    assert kinds(second) == ["function_call"]
    last: Any = {**done, "call_id": "call_2", "output": "2"}
    third = client.responses.create(input=[last], previous_response_id=second.id, **body)
    assert kinds(third) == ["compaction", "message"]
    asked, answered = host.calls[2].json, host.calls[3].json
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "tool", "user"]
    assert (asked["tool_choice"], answered["tool_choice"]) == ("none", "required")
    assert [message["role"] for message in answered["messages"]] == ["user", "user", "assistant", "tool"]
    assert answered["messages"][1]["content"] == "Count"
    assert answered["messages"][3] == {"role": "tool", "tool_call_id": "call_2", "content": "2"}


def test_instructions_hold_for_the_answer_as_well(client: openai.OpenAI, host: Host) -> None:
    host.answer(TOM, Reply(text=["Tom."]))
    given: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, CAT[0]]
    client.responses.create(model=MODEL, input=given, instructions="Be kind.", context_management=POLICY)
    assert texts(host)[:2] == ["Be kind.", SUMMARY]


def test_a_server_killed_after_a_compaction_does_not_pay_for_it_again(host: Host, tmp_path: Path) -> None:
    settings = {"hosts": {"scripted": {"base_url": host.url}}, "background": {"lease_s": 1}}
    given = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    host.answer(TOM, Reply(text=["ha", Gate(), "lf"]))
    seen: list[bytes] = []
    with running(settings, tmp_path, process=True) as server:
        connection = server.connect()
        body = {"model": MODEL, "input": given, "context_management": POLICY, "stream": True, "background": True}
        connection.request("POST", "/v1/responses", json.dumps(body))
        answer = connection.getresponse()
        while not seen or b"output_item.done" not in seen[-1]:
            seen.append(answer.readline())
        host.called(2)
        server.kill()
        connection.close()
    response_id = json.loads(seen[1].removeprefix(b"data: "))["response"]["id"]
    host.answer(Reply(text=["whole"]))
    with running(settings, tmp_path, process=True) as server:
        whole = server.get(f"/responses/{response_id}?stream=true").body
        items = check(whole).items
    assert whole.startswith(b"".join(seen))
    assert {item["type"] for item in items[1:]} == {"message"}
    assert items[0]["type"] == "compaction"
    assert items[-1]["content"][0]["text"] == "whole"
    assert texts(host) == [SUMMARY, "b"]
    assert len(host.calls) == 3


@pytest.mark.parametrize(
    ("reply", "code"), [(Reply(text=["half"], finish="length"), "server_error"), (Reply(text=[]), "server_error")]
)
def test_no_answer_is_given_on_half_a_summary(client: openai.OpenAI, host: Host, reply: Reply, code: str) -> None:
    host.answer(reply)
    given: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, CAT[0]]
    response = client.responses.create(model=MODEL, input=given, context_management=POLICY)
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == code
    assert "summary" in response.error.message
    assert len(host.calls) == 1


def test_a_host_that_refuses_the_summary_refuses_the_request(client: openai.OpenAI, host: Host) -> None:
    host.answer(status(429, "slow down"))
    given: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, CAT[0]]
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model=MODEL, input=given, context_management=POLICY)


def test_without_a_threshold_the_models_window_decides(host: Host, tmp_path: Path) -> None:
    models = {"small": {"context_window": 1200}, "large": {"context_window": 100_000}, "unknown": {}}
    with (
        running({"hosts": {"scripted": {"base_url": host.url, "models": models}}}, tmp_path) as server,
        server.client() as client,
    ):
        given: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, CAT[0]]
        for model, expected, warned in (("small", 2, False), ("large", 1, False), ("unknown", 1, True)):
            got = client.responses.with_raw_response.create(
                model=f"scripted/{model}", input=given, context_management=[{"type": "compaction"}]
            )
            assert len(got.parse().output) == expected
            assert ("context_management" in got.headers.get("x-antiphon-warnings", "")) == warned


@pytest.mark.parametrize(
    ("policy", "param"),
    [
        ([], "context_management"),
        ([{"type": "compaction", "compact_threshold": 999}], "context_management[0].compact_threshold"),
        ([{"type": "forgetting"}], "context_management[0].type"),
        ([{"type": "compaction", "compact_threshold": "many"}], "context_management[0].compact_threshold"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(server: Server, policy: Any, param: str) -> None:
    got = server.post("/responses", {"model": MODEL, "input": "Hi", "context_management": policy})
    assert got.status == 400
    assert got.json["error"]["param"].replace("[0]", "") == param.replace("[0]", "")


# ---------------------------------------------------------------- triggers


def test_a_trigger_compacts_and_answers_nothing(client: openai.OpenAI, host: Host) -> None:
    host.answer(TOM, Reply(text=["Tom."]))
    made = client.responses.create(model=MODEL, input=[*CAT, TRIGGER])
    assert (made.status, kinds(made)) == ("completed", ["compaction"])
    assert made.usage is not None
    assert made.usage.total_tokens == 1320
    assert len(host.calls) == 1
    assert [item.type for item in client.responses.input_items.list(made.id).data] == ["message"] * 4
    client.responses.create(model=MODEL, input="Its name?", previous_response_id=made.id)
    assert texts(host) == [CAT[0]["content"], CAT[2]["content"], SUMMARY, "Its name?"]


def test_a_trigger_in_a_stream_and_the_item_alone(server: Server, client: openai.OpenAI, host: Host) -> None:
    host.answer(TOM, Reply(text=["Tom."]))
    sent = server.stream(input=[*CAT, TRIGGER], store=False)
    assert [item["type"] for item in sent.items] == ["compaction"]
    client.responses.create(model=MODEL, input=[*sent.items, CAT[2]], store=False)  # type: ignore[list-item]
    assert texts(host) == [SUMMARY, CAT[2]["content"]]


def test_a_trigger_comes_last_and_needs_something_to_compact(client: openai.OpenAI, host: Host) -> None:
    for given, message in (([TRIGGER, CAT[0]], "must be the last item"), ([TRIGGER], "nothing")):
        for background in (False, True):
            with pytest.raises(openai.BadRequestError, match=message):
                client.responses.create(model=MODEL, input=given, instructions="Be kind.", background=background)
    assert host.calls == []


def test_a_trigger_in_the_background(server: Server, client: openai.OpenAI, host: Host) -> None:
    host.answer(TOM)
    made = client.responses.create(model=MODEL, input=[*CAT, TRIGGER], background=True)
    followed = check(server.get(f"/responses/{made.id}?stream=true").body)
    assert [item["type"] for item in followed.items] == ["compaction"]
    assert followed.response["status"] == "completed"
