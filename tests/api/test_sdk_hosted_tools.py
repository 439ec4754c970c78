"""The official client drives web search, image generation and tool search, which the server runs."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest

from antiphon.testing.host import Call, Host, Raw, Reply, Request, status
from antiphon.testing.rules import check
from antiphon.testing.server import Server, running

MODEL = "scripted/scripted-model"
PAGE = "https://example.org/a"
FOUND = {"results": [{"url": PAGE, "title": "A", "content": "It is so.", "score": 0.9, "raw_content": None}]}
PNG = base64.b64encode(b"\x89PNG").decode()
IMAGES = {"created": 1, "data": [{"b64_json": PNG, "revised_prompt": "A black cat"}], "size": "1024x1024"}
KEY = {"X-LlamaStack-Provider-Data": json.dumps({"tavily_search_api_key": "mine"})}


def in_json(body: Any) -> Raw:
    return Raw(headers=[("content-type", "application/json")], steps=[json.dumps(body).encode()])


def answered(request: Request) -> Raw | None:
    """What the scripted host says as a search provider and as a maker of images."""
    if request.path.endswith("/search"):
        return in_json(FOUND)
    return in_json(IMAGES) if "/images/" in request.path else None


@pytest.fixture(scope="module")
def hosted(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "hosts": {"scripted": {"base_url": session_host.url, "preset": "custom"}},
        "web_search": {"providers": {"tavily": {"base_url": session_host.url}}},
        "image_generation": {"model": "scripted/painter"},
    }
    with running(settings, tmp_path_factory.mktemp("hosted")) as server:
        yield server


@pytest.fixture
def web(host: Host) -> Host:
    host.by_request = answered
    return host


@pytest.fixture
def hosted_client(hosted: Server) -> Iterator[openai.OpenAI]:
    with hosted.client() as client:
        yield client


# ---------------------------------------------------------------- web search


def test_a_search_streams_its_events_and_cites(hosted: Server, web: Host) -> None:
    web.answer(Reply(calls=[Call(name="web_search", arguments='{"query": "q"}')]), Reply(text=["See [A](", PAGE, ")."]))
    body = {"model": MODEL, "input": "Is it so?", "tools": [{"type": "web_search"}], "stream": True}
    got = hosted.post("/responses", {**body, "include": ["web_search_call.action.sources"]}, KEY)
    stream = check(got.body)
    assert [name for name in stream.types if "web_search" in name] == [
        f"response.web_search_call.{phase}" for phase in ("in_progress", "searching", "completed")
    ]
    call, message = stream.items
    assert (call["status"], call["action"]["query"]) == ("completed", "q")
    assert call["action"]["sources"] == [{"type": "url", "url": PAGE}]
    assert "memory" not in call
    (note,) = message["content"][0]["annotations"]
    assert (note["type"], note["url"], note["title"]) == ("url_citation", PAGE, "A")
    assert message["content"][0]["text"][note["start_index"] : note["end_index"]] == f"[A]({PAGE})"
    asked = next(request for request in web.calls if request.path.endswith("/search"))
    assert (asked.headers["authorization"], asked.json["query"]) == ("Bearer mine", "q")


def test_the_client_reads_a_search_and_goes_on(hosted_client: openai.OpenAI, web: Host) -> None:
    web.answer(Reply(calls=[Call(name="web_search", arguments='{"query": "q"}')]), Reply(text=["Yes."]))
    first = hosted_client.responses.create(
        model=MODEL,
        input="Is it so?",
        tools=[{"type": "web_search_preview"}],
        tool_choice={"type": "web_search_preview"},
        extra_headers=KEY,
    )
    call = first.output[0]
    assert call.type == "web_search_call"
    assert call.action.type == "search"
    assert first.output_text == "Yes."
    hosted_client.responses.create(model=MODEL, input="Sure?", previous_response_id=first.id)
    told = [message for message in web.calls[-1].json["messages"] if message["role"] == "tool"]
    assert json.loads(told[0]["content"]) == {"query": "q", "top_k": FOUND["results"]}


def test_without_a_provider_the_model_is_not_told_of_the_tool_and_the_client_is_warned(
    hosted_client: openai.OpenAI, host: Host
) -> None:
    tools: Any = [{"type": "web_search"}]
    got = hosted_client.responses.with_raw_response.create(model=MODEL, input="Hi", tools=tools)
    assert got.headers["x-antiphon-warnings"] == "not obeyed: tools[0] (web_search_not_configured)"
    assert got.parse().tools == []
    assert "tools" not in host.calls[-1].json


def test_without_a_provider_a_search_that_is_demanded_is_refused_and_says_what_to_set(
    hosted_client: openai.OpenAI, host: Host
) -> None:
    tools: Any = [{"type": "web_search"}]
    with pytest.raises(openai.BadRequestError, match="BRAVE_SEARCH_API_KEY") as refused:
        hosted_client.responses.create(model=MODEL, input="Hi", tools=tools, tool_choice={"type": "web_search_preview"})
    assert (refused.value.code, refused.value.param) == ("web_search_not_configured", "tools[0].type")
    assert host.calls == []


def test_a_provider_that_refuses_is_told_to_the_model(hosted: Server, host: Host) -> None:
    host.answer(Reply(calls=[Call(name="web_search", arguments='{"query": "q"}')]), status(401), Reply(text=["Sorry."]))
    body = {"model": MODEL, "input": "Is it so?", "tools": [{"type": "web_search"}]}
    got = hosted.post("/responses", body, KEY).json
    assert [item["status"] for item in got["output"]] == ["failed", "completed"]
    assert host.calls[-1].json["messages"][-1]["content"] == (
        "The search failed: The search provider 'tavily' answered with status 401."
    )


# ---------------------------------------------------------------- images


def test_an_image_is_made_in_a_response(hosted: Server, web: Host) -> None:
    arguments = '{"prompt": "A cat", "size": "1024x1024"}'
    web.answer(Reply(calls=[Call(name="image_generation", arguments=arguments)]), Reply(text=["Here."]))
    tool = {"type": "image_generation", "quality": "high"}
    stream = hosted.stream(input="A cat, please", tools=[tool], tool_choice={"type": "image_generation"})
    assert [name for name in stream.types if "image_generation" in name] == [
        f"response.image_generation_call.{phase}" for phase in ("in_progress", "generating", "completed")
    ]
    image = stream.items[0]
    assert (image["result"], image["revised_prompt"], image["status"]) == (PNG, "A black cat", "completed")
    assert (image["size"], image["quality"], image["output_format"]) == ("1024x1024", "high", "png")
    asked = next(request for request in web.calls if "/images/" in request.path).json
    assert asked == {
        "prompt": "A cat",
        "size": "1024x1024",
        "quality": "high",
        "model": "painter",
        "n": 1,
        "response_format": "b64_json",
    }
    assert "is shown to the user" in web.calls[-1].json["messages"][-1]["content"]
    assert PNG not in web.calls[-1].body.decode()


def painted(*events: dict[str, Any]) -> Raw:
    """A host's stream of images."""
    return Raw(steps=[f"event: {each.get('type')}\ndata: {json.dumps(each)}\n\n".encode() for each in events])


def half(index: int) -> dict[str, Any]:
    """An image that is not finished."""
    return {"type": "image_generation.partial_image", "b64_json": f"half{index}", "partial_image_index": index}


PAINT = Reply(calls=[Call(name="image_generation", arguments='{"prompt": "A cat"}')])


def test_images_of_the_tool_are_shown_before_they_are_finished_and_once_more_afterwards(
    hosted: Server, host: Host
) -> None:
    whole = {"type": "image_generation.completed", "b64_json": PNG, "size": "1024x1024"}
    host.answer(PAINT, painted(half(0), half(1), whole), Reply(text=["Here."]))
    stream = hosted.stream(input="A cat", tools=[{"type": "image_generation", "partial_images": 2}])
    shown = [event for event in stream.events if event["type"] == "response.image_generation_call.partial_image"]
    assert [(each["partial_image_index"], each["partial_image_b64"]) for each in shown] == [(0, "half0"), (1, "half1")]
    assert {each["item_id"] for each in shown} == {stream.items[0]["id"]}
    assert (stream.items[0]["result"], stream.items[0]["size"]) == (PNG, "1024x1024")
    asked = next(request for request in host.calls if "/images/" in request.path).json
    assert (asked["stream"], asked["partial_images"]) == (True, 2)
    again = check(hosted.get(f"/responses/{stream.response['id']}?stream=true").body)
    assert again.events == stream.events


def test_a_host_that_streams_no_images_sends_the_whole_one(hosted: Server, web: Host) -> None:
    web.answer(PAINT, Reply(text=["Here."]))
    stream = hosted.stream(input="A cat", tools=[{"type": "image_generation", "partial_images": 1}])
    assert stream.items[0]["result"] == PNG
    assert not [name for name in stream.types if "partial_image" in name]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([half(0)], "broke off before the image was there"),
        ([half(0), {"type": "error", "error": {"message": "No cats."}}], "No cats."),
        ([{"type": "image_generation.completed"}], "sent no image data"),
        ([{"b64_json": 1}], "sent something that is no image"),
    ],
)
def test_an_image_that_is_never_finished_is_told_to_the_model(
    hosted: Server, host: Host, events: list[dict[str, Any]], said: str
) -> None:
    host.answer(PAINT, painted(*events), Reply(text=["Sorry."]))
    stream = hosted.stream(input="A cat", tools=[{"type": "image_generation", "partial_images": 3}])
    assert (stream.items[0]["status"], stream.items[0].get("result")) == ("failed", None)
    assert said in host.calls[-1].json["messages"][-1]["content"]


DOT = b"\x89PNG\r\n\x1a\ndot"
SHOWN = {"type": "input_image", "image_url": f"data:image/png;base64,{base64.b64encode(DOT).decode()}"}


def editing(**tool: Any) -> dict[str, Any]:
    """A request that shows an image, and what the tool is to do with it."""
    content = [{"type": "input_text", "text": "Blue, please"}, SHOWN]
    return {"input": [{"role": "user", "content": content}], "tools": [{"type": "image_generation", **tool}]}


def form_in(request: Request) -> list[tuple[str, bytes]]:
    """The names and contents of a form's parts."""
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    parts = [part.partition(b"\r\n\r\n") for part in request.body.split(b"--" + boundary)[1:-1]]
    names = [head.partition(b'name="')[2].partition(b'"')[0].decode() for head, _, _ in parts]
    return list(zip(names, (content.removesuffix(b"\r\n") for _, _, content in parts), strict=True))


REPAINT = Reply(calls=[Call(name="image_generation", arguments='{"prompt": "Make it blue", "edit": true}')])


def test_images_of_the_conversation_are_changed_those_that_were_made_before_included(hosted: Server, web: Host) -> None:
    web.answer(REPAINT, Reply(text=["Here."]), REPAINT, Reply(text=["Here."]))
    first = hosted.stream(**editing(quality="high", input_fidelity="high")).response
    form = dict(form_in(next(request for request in web.calls if request.path.endswith("/images/edits"))))
    assert (form["image[]"], form["prompt"], form["model"]) == (DOT, b"Make it blue", b"painter")
    assert (form["quality"], form["input_fidelity"], form["n"]) == (b"high", b"high", b"1")
    assert (first["output"][0]["action"], first["output"][0]["result"]) == ("edit", PNG)
    hosted.stream(input="Bluer", previous_response_id=first["id"], tools=[{"type": "image_generation"}])
    again = form_in([request for request in web.calls if request.path.endswith("/images/edits")][-1])
    assert [content for name, content in again if name == "image[]"] == [DOT, base64.b64decode(PNG)]


def test_a_mask_says_where_an_image_may_be_changed(hosted: Server, hosted_client: openai.OpenAI, web: Host) -> None:
    mask = hosted_client.files.create(file=("m.png", DOT + b"mask"), purpose="vision").id
    web.answer(PAINT, Reply(text=["Here."]))
    stream = hosted.stream(**editing(action="edit", input_image_mask={"file_id": mask}))
    assert stream.items[0]["action"] == "edit"
    form = form_in(next(request for request in web.calls if request.path.endswith("/images/edits")))
    assert [content for name, content in form if name in ("image[]", "mask")] == [DOT, DOT + b"mask"]


def test_an_edit_is_streamed_as_a_new_image_is(hosted: Server, host: Host) -> None:
    events = [{**half(0), "type": "image_edit.partial_image"}, {"type": "image_edit.completed", "b64_json": PNG}]
    host.answer(REPAINT, painted(*events), Reply(text=["Here."]))
    stream = hosted.stream(**editing(partial_images=1))
    assert stream.items[0]["result"] == PNG
    assert "response.image_generation_call.partial_image" in stream.types


def test_without_an_image_there_is_nothing_to_edit_and_the_model_is_told(hosted: Server, web: Host) -> None:
    web.answer(REPAINT, Reply(text=["Sorry."]))
    stream = hosted.stream(input="Blue", tools=[{"type": "image_generation"}])
    assert stream.items[0]["status"] == "failed"
    assert "no image in this conversation" in web.calls[-1].json["messages"][-1]["content"]


@pytest.mark.parametrize("action", ["generate", "edit"])
def test_the_model_has_no_choice_where_the_request_has_made_it(hosted: Server, web: Host, action: str) -> None:
    web.answer(REPAINT, Reply(text=["Here."]))
    stream = hosted.stream(**editing(action=action))
    offered = web.calls[0].json["tools"][0]["function"]["parameters"]["properties"]
    assert (sorted(offered), stream.items[0]["action"]) == (["prompt", "size"], action)


def test_a_host_that_makes_no_image_is_told_to_the_model(hosted: Server, host: Host) -> None:
    call = Reply(calls=[Call(name="image_generation", arguments='{"prompt": "A cat"}')])
    host.answer(call, in_json({"created": 1, "data": [{"url": PAGE}]}), Reply(text=["Sorry."]))
    got = hosted.post("/responses", {"model": MODEL, "input": "Hi", "tools": [{"type": "image_generation"}]}).json
    assert (got["output"][0]["status"], got["output"][0].get("result")) == ("failed", None)
    assert "sent no image data" in host.calls[-1].json["messages"][-1]["content"]


def test_the_client_makes_an_image_with_the_configured_model(hosted_client: openai.OpenAI, web: Host) -> None:
    made = hosted_client.images.generate(prompt="A cat", n=1)
    assert made.data is not None
    assert made.data[0].b64_json == PNG
    assert web.calls[-1].json == {"prompt": "A cat", "n": 1, "model": "painter"}


def test_the_client_edits_images_and_the_form_arrives_whole(hosted_client: openai.OpenAI, web: Host) -> None:
    pictures = [("a.png", b"\x89PNG\r\n--one", "image/png"), ("b.png", b"two", "image/png")]
    edited = hosted_client.images.edit(image=pictures, prompt="Ä hat", model="scripted/brush", mask=pictures[0])
    assert edited.data is not None
    assert edited.data[0].b64_json == PNG
    asked = web.calls[-1]
    assert asked.path.endswith("/images/edits")
    contents = [content for _, content in form_in(asked)]
    assert sorted(contents) == sorted(["Ä hat".encode(), b"brush", b"\x89PNG\r\n--one", b"two", b"\x89PNG\r\n--one"])
    assert asked.body.count(b'name="image[]"; filename="') == 2
    assert asked.body.count(b"image/png") == 3


def test_partial_images_are_streamed_as_the_host_streams_them(hosted_client: openai.OpenAI, host: Host) -> None:
    host.answer(painted(half(0), {"type": "image_generation.completed", "b64_json": PNG}))
    stream = hosted_client.images.generate(prompt="A cat", stream=True, partial_images=1)
    assert [event.type for event in cast("Any", stream)] == [
        "image_generation.partial_image",
        "image_generation.completed",
    ]


def test_what_is_no_form_is_refused(hosted: Server, host: Host) -> None:
    heads = {"content-type": "multipart/form-data; boundary=b"}
    for body in (b"nonsense", b"--b\r\n\r\nx\r\n--b--\r\n"):
        got = hosted.ask("POST", "/v1/images/edits", body, headers=heads)
        assert (got.status, got.json["error"]["code"]) == (400, "invalid_form")
    assert hosted.ask("POST", "/v1/images/edits", b"x", headers={"content-type": "text/plain"}).status == 400
    assert host.calls == []


def test_without_an_image_model_images_are_refused_and_say_what_to_set(server: Server, host: Host) -> None:
    got = server.post("/images/generations", {"prompt": "A cat"})
    assert (got.status, got.json["error"]["code"]) == (400, "no_image_model")
    assert "image_generation.model" in got.json["error"]["message"]
    asked = {"model": MODEL, "input": "Hi", "tools": [{"type": "image_generation"}]}
    left_out = server.post("/responses", asked)
    assert left_out.headers["x-antiphon-warnings"] == "not obeyed: tools[0] (no_image_model)"
    assert "tools" not in host.calls[-1].json
    demanded = server.post("/responses", {**asked, "tool_choice": {"type": "image_generation"}})
    assert demanded.json["error"]["param"] == "tools[0].model"
    named = server.post("/responses", {**asked, "tools": [{"type": "image_generation", "model": "nobody/painter"}]})
    assert named.status == 404


# ---------------------------------------------------------------- tool search


def test_a_deferred_tool_is_found_and_called(hosted_client: openai.OpenAI, host: Host) -> None:
    host.answer(
        Reply(calls=[Call(name="tool_search", arguments='{"query": "weather"}')]),
        Reply(calls=[Call(name="geo__get_weather", id="call_a", arguments='{"city": "Rome"}')]),
    )
    weather = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "defer_loading": True}
    geo = {"type": "namespace", "name": "geo", "description": "Places and weather", "tools": [weather]}
    tools: Any = [{"type": "tool_search"}, geo]
    with hosted_client.responses.stream(model=MODEL, input="Weather?", tools=tools) as stream:
        for _ in stream:
            pass
        response = stream.get_final_response()
    search, found, call = cast("list[Any]", response.output)
    assert (search.type, found.type, call.type) == ("tool_search_call", "tool_search_output", "function_call")
    assert (search.execution, search.arguments) == ("server", {"query": "weather"})
    assert found.tools[0].type == "namespace"
    assert (call.name, call.namespace) == ("get_weather", "geo")
    offered = [[tool["function"]["name"] for tool in request.json["tools"]] for request in host.calls]
    assert offered == [["tool_search"], ["tool_search", "geo__get_weather"]]


# ---------------------------------------------------------------- recorded traffic


@pytest.mark.parametrize("client_name", ["openai_client", "client_with_models"])
def test_llama_stacks_recorded_searches_play_through_the_server(shared: Path, tmp_path: Path, client_name: str) -> None:
    name = f"test_response_non_streaming_web_search[{client_name}-txt=openai/gpt-4o-llama_experts]"
    header = {"__test_id": f"tests/integration/responses/test_tool_responses.py::{name}"}
    recordings = tmp_path / "recordings"
    recordings.symlink_to(shared / "recordings" / "responses")
    settings = {"mode": "replay", "recordings": str(recordings), "recordings_match": "strict"}
    body = {
        "model": "openai/gpt-4o",
        "input": "How many experts does the Llama 4 Maverick model have?",
        "tools": [{"type": "web_search", "search_context_size": "low"}],
        "include": ["web_search_call.action.sources"],
        "stream": True,
    }
    with running(settings, tmp_path) as server:
        got = server.post("/responses", body, {"X-LlamaStack-Provider-Data": json.dumps(header)})
    stream = check(got.body)
    call, message = stream.items
    assert (stream.types[-1], call["status"], len(call["action"]["sources"])) == ("response.completed", "completed", 5)
    assert "128" in message["content"][0]["text"]
