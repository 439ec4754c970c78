"""The official client drives `POST /v1/responses`: input in every form, output in every form, every parameter."""

import base64
import json
from typing import Any

import openai
import pydantic
import pytest

from antiphon.testing.host import Call, Host, Reply, Request
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()


def said(request: Request) -> list[tuple[str, str]]:
    """Role and text of each message that the model host got."""
    return [(message["role"], words(message.get("content"))) for message in request.json["messages"]]


def words(content: Any) -> str:
    """The text of a message's content."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


# ---------------------------------------------------------------- input


def test_a_string_is_answered(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"]))
    response = client.responses.create(model=MODEL, input="Hi")
    assert response.output_text == "Hello"
    assert (response.status, response.object, response.model) == ("completed", "response", MODEL)
    assert response.output[0].type == "message"
    assert response.output[0].status == "completed"
    assert said(host.calls[0]) == [("user", "Hi")]
    assert host.calls[0].json["model"] == "scripted-model"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"role": "user", "content": "Hi"}, ("user", "Hi")),
        ({"type": "message", "role": "user", "content": "Hi"}, ("user", "Hi")),
        ({"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}, ("user", "Hi")),
        (
            {
                "type": "message",
                "role": "user",
                "status": "completed",
                "content": [{"type": "input_text", "text": "Hi"}],
            },
            ("user", "Hi"),
        ),
        ({"role": "system", "content": "Be brief"}, ("system", "Be brief")),
        ({"type": None, "role": "user", "content": "Hi"}, ("user", "Hi")),
        (
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I", "logprobs": None}],
            },
            ("assistant", "I"),
        ),
        ({"role": "developer", "content": "Be brief"}, ("system", "Be brief")),
        ({"role": "assistant", "content": "I said", "phase": "final_answer"}, ("assistant", "I said")),
        (
            {
                "type": "message",
                "id": "msg_old",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "I said", "annotations": []}],
            },
            ("assistant", "I said"),
        ),
        (
            {
                "type": "message",
                "id": "msg_old",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "refusal", "refusal": "I would not"}],
            },
            ("assistant", "I would not"),
        ),
    ],
)
def test_messages_come_in_every_form(
    client: openai.OpenAI, host: Host, item: dict[str, Any], expected: tuple[str, str]
) -> None:
    client.responses.create(model=MODEL, input=[item, {"role": "user", "content": "Go"}])  # type: ignore[list-item]
    (role, text), last = said(host.calls[0])
    message = host.calls[0].json["messages"][0]
    assert ("system" if role == "developer" else role, text or message.get("refusal")) == expected
    assert last == ("user", "Go")


def test_images_files_and_audio_reach_the_model(client: openai.OpenAI, host: Host) -> None:
    file = "data:application/pdf;base64,JVBERg=="
    client.responses.create(
        model=MODEL,
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": PIXEL, "detail": "low"},
                    {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": file},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},  # type: ignore[list-item]
                ],
            }
        ],
    )
    text, first, second, document, audio = host.calls[0].json["messages"][0]["content"]
    assert text == {"type": "text", "text": "Look"}
    assert first == {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    assert second["image_url"]["url"] == "https://example.org/a.png"
    assert document["file"] == {"filename": "a.pdf", "file_data": file}
    assert audio == {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}


@pytest.mark.parametrize(
    ("part", "status", "param"),
    [
        ({"type": "input_image", "file_id": "file_1"}, 404, "input[0].content[0].file_id"),
        ({"type": "input_file", "file_id": "file_1"}, 404, "input[0].content[0].file_id"),
        ({"type": "input_nothing"}, 400, "input[0].content[0].type"),
        ({"type": "input_text"}, 400, "input[0].content[0].text"),
    ],
)
def test_a_part_that_cannot_be_used_is_an_error_naming_it(
    server: Server, part: dict[str, Any], status: int, param: str
) -> None:
    got = server.post("/responses", {"model": MODEL, "input": [{"role": "user", "content": [part]}]})
    assert got.status == status
    assert got.json["error"]["param"].startswith(param.rpartition(".")[0])
    assert got.json["error"]["type"] == "invalid_request_error"


def test_instructions_come_first_and_are_echoed(client: openai.OpenAI, host: Host) -> None:
    response = client.responses.create(model=MODEL, instructions="Be brief", input="Hi")
    assert [text for _, text in said(host.calls[0])] == ["Be brief", "Hi"]
    assert response.instructions == "Be brief"


# ---------------------------------------------------------------- output


def test_a_stream_keeps_the_rules_and_carries_the_pieces_of_the_host(server: Server, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo", " there"]))
    stream = server.stream(input="Hi")
    assert "".join(stream.deltas()) == stream.text == "Hello there"
    assert stream.types[-1] == "response.completed"
    assert stream.response["usage"]["total_tokens"] == 18


@pytest.mark.parametrize("cut", [1, 7, 0])
def test_the_cutting_of_bytes_changes_nothing(server: Server, host: Host, cut: int) -> None:
    reply = Reply(reasoning=["Hm"], text=["Grüße, ", "🌍"], calls=[Call(name="f", arguments=['{"a"', ": 1}"])])
    host.answer(reply, Reply(**{name: getattr(reply, name) for name in ("reasoning", "text", "calls")}, cut=cut))
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]
    plain, cut_up = (server.stream(input="Hi", tools=tools) for _ in range(2))
    assert [strip(item) for item in plain.items] == [strip(item) for item in cut_up.items]
    assert plain.text == "Grüße, 🌍"


def strip(item: dict[str, Any]) -> dict[str, Any]:
    """The item without its id."""
    return {name: value for name, value in item.items() if name != "id"}


def test_the_clients_own_stream_accumulates_the_response(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"]))
    with client.responses.stream(model=MODEL, input="Hi") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "Hello"
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


def test_reasoning_comes_as_an_item_of_its_own(server: Server, host: Host) -> None:
    for field in ("reasoning_content", "reasoning"):
        host.answer(Reply(reasoning=["Let me ", "think"], reasoning_field=field, text=["42"]))
        stream = server.stream(input="Hi", reasoning={"effort": "low"})
        assert [item["type"] for item in stream.items] == ["reasoning", "message"]
        assert stream.items[0]["content"] == [{"type": "reasoning_text", "text": "Let me think"}]
        assert stream.deltas("response.reasoning_text.delta") == ["Let me ", "think"]
        assert host.calls[-1].json["reasoning_effort"] == "low"


def test_encrypted_reasoning_makes_the_round_trip_without_storage(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(reasoning=["secret thoughts"], calls=[Call(name="f", id="call_9")]), Reply(text=["done"]))
    tools: Any = [{"type": "function", "name": "f", "parameters": None, "strict": None}]
    common: Any = {"model": MODEL, "store": False, "include": ["reasoning.encrypted_content"], "tools": tools}
    first = client.responses.create(input="Hi", **common)
    reasoning = first.output[0]
    assert reasoning.type == "reasoning"
    assert reasoning.encrypted_content
    assert "secret" not in reasoning.encrypted_content
    sealed = {**reasoning.model_dump(exclude_none=True), "content": []}
    answer = {"type": "function_call_output", "call_id": "call_9", "output": "7"}
    items: Any = [{"role": "user", "content": "Hi"}, sealed, first.output[1].model_dump(exclude_none=True), answer]
    second = client.responses.create(input=items, **common)
    assert second.output_text == "done"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_reasoning_sealed_elsewhere_is_a_400(client: openai.OpenAI) -> None:
    item: Any = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAnonsense"}
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model=MODEL, input=[item, {"role": "user", "content": "Hi"}])
    assert "encrypted" in error.value.message


def test_a_refusal_is_a_part_of_its_own(server: Server, host: Host) -> None:
    host.answer(Reply(refusal=["I ", "won't"]))
    stream = server.stream(input="Hi")
    assert stream.items[0]["content"] == [{"type": "refusal", "refusal": "I won't"}]
    assert stream.deltas("response.refusal.delta") == ["I ", "won't"]


def test_logprobs_come_when_asked_for(server: Server, host: Host) -> None:
    host.answer(Reply(text=["Hi", "!"], logprobs=True))
    stream = server.stream(input="Hi", include=["message.output_text.logprobs"], top_logprobs=1)
    part = stream.items[0]["content"][0]
    assert [(one["token"], one["logprob"]) for one in part["logprobs"]] == [("Hi", -0.25), ("!", -0.25)]
    assert part["logprobs"][0]["top_logprobs"][0]["token"] == "Hi"
    assert (host.calls[0].json["logprobs"], host.calls[0].json["top_logprobs"]) == (True, 1)


def test_usage_has_cached_and_reasoning_tokens(client: openai.OpenAI, host: Host) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    host.answer(Reply(text=["Hi"], usage=usage))
    counted = client.responses.create(model=MODEL, input="Hi").usage
    assert counted is not None
    assert (counted.input_tokens, counted.output_tokens, counted.total_tokens) == (10, 5, 15)
    assert counted.input_tokens_details.cached_tokens == 4
    assert counted.output_tokens_details.reasoning_tokens == 3


class Person(pydantic.BaseModel):
    """What the structured output is parsed into."""

    name: str
    age: int


def test_structured_output_is_parsed(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=['{"name": "Ada", ', '"age": 36}']))
    response = client.responses.parse(model=MODEL, input="Who?", text_format=Person)
    assert response.output_parsed == Person(name="Ada", age=36)
    sent = host.calls[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["name"] == "Person"
    assert sent["json_schema"]["schema"]["required"] == ["name", "age"]


def test_json_mode_and_verbosity_reach_the_host_and_are_echoed(client: openai.OpenAI, host: Host) -> None:
    response = client.responses.create(
        model=MODEL, input="JSON please", text={"format": {"type": "json_object"}, "verbosity": "low"}
    )
    assert host.calls[0].json["response_format"] == {"type": "json_object"}
    assert response.text is not None
    assert response.text.format is not None
    assert (response.text.format.type, response.text.verbosity) == ("json_object", "low")


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_limit_or_a_filter_makes_an_incomplete_response(server: Server, host: Host, finish: str, reason: str) -> None:
    host.answer(Reply(text=["cut o"], finish=finish))
    stream = server.stream(input="Hi", max_output_tokens=16)
    assert stream.types[-1] == "response.incomplete"
    assert stream.response["incomplete_details"] == {"reason": reason}
    assert stream.items[0]["status"] == "incomplete"
    assert stream.text == "cut o"


# ---------------------------------------------------------------- parameters


def test_sampling_parameters_reach_the_host_and_are_echoed(client: openai.OpenAI, host: Host) -> None:
    given: Any = {"temperature": 0.25, "top_p": 0.5, "max_output_tokens": 99, "parallel_tool_calls": False}
    response = client.responses.create(
        model=MODEL, input="Hi", extra_body={"presence_penalty": 0.5, "frequency_penalty": -0.5}, **given
    )
    sent = host.calls[0].json
    assert (sent["temperature"], sent["top_p"]) == (0.25, 0.5)
    assert 99 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert (sent["presence_penalty"], sent["frequency_penalty"]) == (0.5, -0.5)
    for name, value in given.items():
        assert getattr(response, name) == value


def test_unset_parameters_are_not_invented_for_the_host(client: openai.OpenAI, host: Host) -> None:
    client.responses.create(model=MODEL, input="Hi")
    assert set(host.calls[0].json) <= {"model", "messages", "stream", "stream_options"}


def test_unknown_fields_are_named_in_a_header(client: openai.OpenAI) -> None:
    got = client.responses.with_raw_response.create(
        model=MODEL, input="Hi", extra_body={"frobnicate": 1, "context_management": [{"type": "compaction"}]}
    )
    assert "frobnicate" in got.headers["x-antiphon-warnings"]
    assert "context_management" in got.headers["x-antiphon-warnings"]
    assert got.parse().status == "completed"


def test_metadata_is_kept(client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="Hi", metadata={"a": "b"})
    assert response.metadata == {"a": "b"}
    assert client.responses.retrieve(response.id).metadata == {"a": "b"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"metadata": {str(key): "" for key in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"include": ["everything"]}, "include"),
        ({"reasoning": {"effort": "heroic"}}, "reasoning"),
        ({"text": {"verbosity": "chatty"}}, "text"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format"),
        ({"safety_identifier": "x" * 65}, "safety_identifier"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"input": 7}, "input"),
        ({"input": [{"role": "robot", "content": "Hi"}]}, "input"),
        ({"input": [{"type": "telepathy"}]}, "input"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"store": "yes"}, "store"),
        ({"stream_options": {}}, "stream_options"),
        ({"previous_response_id": "resp_x", "conversation": "conv_x"}, "previous_response_id"),
    ],
)
def test_what_the_document_limits_is_refused_with_its_param(
    server: Server, host: Host, fields: dict[str, Any], param: str
) -> None:
    got = server.post("/responses", {"model": MODEL, "input": "Hi", **fields})
    assert got.status == 400, got.body
    error = got.json["error"]
    assert (error["param"] or "").startswith(param), error
    assert error["type"] == "invalid_request_error"
    assert not host.calls


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b'{"model": "\xff\xfe"}', b"\x00"])
def test_malformed_bodies_are_a_400_in_openais_form(server: Server, body: bytes) -> None:
    got = server.post("/responses", body)
    assert got.status == 400
    assert set(got.json["error"]) == {"message", "type", "param", "code"}


def test_an_unknown_model_is_a_404(client: openai.OpenAI) -> None:
    for name in ("nobody", "nowhere/scripted-model"):
        with pytest.raises(openai.NotFoundError) as error:
            client.responses.create(model=name, input="Hi", store=False)
        assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_input_tokens_are_counted_without_asking_the_model(client: openai.OpenAI, host: Host) -> None:
    short = client.responses.input_tokens.count(model=MODEL, input="Hi")
    long = client.responses.input_tokens.count(model=MODEL, input="Hi there, " * 50, instructions="Be brief")
    assert short.object == "response.input_tokens"
    assert 0 < short.input_tokens < 30
    assert 100 < long.input_tokens < 400
    assert not host.calls


def test_a_stream_and_a_whole_answer_are_the_same_response(server: Server, host: Host) -> None:
    reply = Reply(reasoning=["Hm"], text=["Hel", "lo"], calls=[Call(name="f", arguments=["{}"])])
    host.answer(reply, reply)
    body = {"model": MODEL, "input": "Hi", "tools": [{"type": "function", "name": "f"}]}
    whole = server.post("/responses", body).json
    streamed = server.stream(**body).response
    volatile = ("id", "created_at", "completed_at", "output")
    assert {n: v for n, v in whole.items() if n not in volatile} == {
        n: v for n, v in streamed.items() if n not in volatile
    }
    assert [strip(item) for item in whole["output"]] == [strip(item) for item in streamed["output"]]
    assert json.loads(json.dumps(whole))["status"] == "completed"
