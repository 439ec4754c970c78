"""The official client has contexts compacted, and goes on from what comes back."""

from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import CompactedResponse, ResponseCompactionItem

from antiphon.engine.compact import INTRODUCTION
from antiphon.engine.seal import Sealer
from antiphon.testing.host import RESET, Call, Host, Reply, status
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
