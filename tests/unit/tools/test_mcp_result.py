"""What an MCP server says, as data: nothing of it is trusted, and all of it is bounded."""

import pytest

from antiphon.connectors import McpConfig
from antiphon.errors import McpGone, McpRefused, UpstreamTimeout
from antiphon.tools.mcp_result import error_of, function_name, listed, matches, told, without_bytes
from antiphon.wire.items import InputImage, InputText
from antiphon.wire.tools import McpFilter

SMALL = McpConfig(result_bytes_max=10, image_bytes_max=8, tools_max=2, tool_bytes_max=200)
OBJECT = {"type": "object"}


def image(content="QUJD", kind="image/png"):
    return {"type": "image", "data": content, "mimeType": kind}


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ({"name": " "}, "has no usable name"),
        ({"name": "n" * 257}, "has no usable name"),
        ({"name": "a", "inputSchema": OBJECT, "description": "x" * 200}, "is described in 2"),
        ({"name": "a", "inputSchema": {"type": "array"}}, "takes something that is no object"),
        ({"name": "a", "inputSchema": {"properties": {"x": 1}}}, "`properties` are none"),
        ({"name": "a", "inputSchema": {"properties": []}}, "`properties` are none"),
        ({"name": "a", "inputSchema": {"required": [1]}}, "`required` is no list of names"),
    ],
)
def test_a_tool_that_no_model_could_be_offered_is_left_out_and_named(tool, why):
    found, wrong = listed([tool, {"name": "fine", "inputSchema": OBJECT}], SMALL)
    assert [each["name"] for each in found] == ["fine"]
    assert why in wrong[0]


def test_of_two_tools_with_one_name_the_first_counts_and_there_are_so_many_at_most():
    tools = [{"name": name, "description": str(at)} for at, name in enumerate(["a", "a", "b", "c"])]
    found, wrong = listed(tools, SMALL)
    assert [(each["name"], each["description"]) for each in found] == [("a", "0"), ("b", "2")]
    assert wrong == ["'a' is there twice", "'c' is beyond the 2 tools that are allowed"]


@pytest.mark.parametrize(
    ("name", "seen"), [("get_it", "get_it"), ("a.b/c d", "a_b_c_d"), ("ü", "_"), ("x" * 100, "x" * 64)]
)
def test_a_name_is_written_as_every_host_takes_it(name, seen):
    assert function_name(name) == seen


@pytest.mark.parametrize(
    ("wanted", "hints", "through"),
    [
        (None, {}, True),
        (["a"], {}, True),
        (["b"], {}, False),
        ([], {}, False),
        (McpFilter(), {}, True),
        (McpFilter(tool_names=["b"]), {}, False),
        (McpFilter(read_only=True), {"readOnlyHint": True}, True),
        (McpFilter(read_only=True), {"readOnlyHint": "true"}, False),
        (McpFilter(read_only=True), {}, False),
        (McpFilter(read_only=False), {}, True),
        (McpFilter(read_only=True), None, True),
        (McpFilter(tool_names=["a"], read_only=True), {}, False),
    ],
)
def test_a_filter_lets_through_what_it_names(wanted, hints, through):
    assert matches(wanted, "a", hints) is through


def test_texts_are_cut_where_the_room_for_all_of_them_ends():
    said = told(
        {"content": [{"type": "text", "text": "12345678"}, {"type": "text", "text": "12345"}]}, SMALL, images=True
    )
    assert said.text == "12345678\n12\n[cut off here: more than the 10 bytes that are allowed]"
    assert [part.text for part in said.parts] == said.text.split("\n", 1)


def test_a_letter_is_not_cut_in_half():
    said = told({"content": [{"type": "text", "text": "123456789üü"}]}, SMALL, images=True)
    assert said.text.startswith("123456789\n[cut off here")


def test_images_are_shown_where_there_is_room_and_a_model_that_sees():
    result = {"content": [image(), image("QUJDREVG"), image(kind="image/tiff")]}
    seeing, blind = told(result, McpConfig(image_bytes_max=8), images=True), told(result, McpConfig(), images=False)
    assert [type(part) for part in seeing.parts] == [InputImage, InputText, InputText]
    assert seeing.parts[0].image_url == "data:image/png;base64,QUJD"
    assert [type(part) for part in blind.parts] == [InputText] * 3
    assert seeing.text == blind.text
    assert blind.text.splitlines()[0] == "[image: image/png, about 3 bytes]"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "audio", "data": "QUJD", "mimeType": "audio/wav"}, "[audio: audio/wav, about 3 bytes]"),
        ({"type": "resource", "resource": {"uri": "a://b", "text": "hello"}}, "hello"),
        (
            {"type": "resource", "resource": {"uri": "a://b", "blob": "QUJD", "mimeType": "x/y"}},
            "[resource a://b: x/y, about 3 bytes]",
        ),
        ({"type": "resource_link", "uri": "a://b", "name": "n", "description": "d"}, "[resource a://b: n, d]"),
    ],
)
def test_what_is_no_text_is_told_in_words(block, text):
    assert told({"content": [block]}, McpConfig(), images=True).text == text


def test_structured_content_is_told_where_there_is_no_text():
    assert told({"structuredContent": {"a": 1}}, McpConfig(), images=True).text == '{"a":1}'
    both = {"structuredContent": {"a": 1}, "content": [{"type": "text", "text": "one"}]}
    assert told(both, McpConfig(), images=True).text == "one"


def test_a_result_that_says_nothing_is_an_empty_text():
    said = told({}, McpConfig(), images=True)
    assert (said.text, said.parts) == ("", [InputText(text="")])


def test_an_error_has_the_type_that_clients_know():
    assert error_of(McpRefused(-32602, "no")) == {"type": "mcp_protocol_error", "code": -32602, "message": "no"}
    assert error_of(McpRefused(401, "no", http_status=401)) == {"type": "http_error", "code": 401, "message": "no"}
    assert error_of(McpGone("away")) == {"type": "http_error", "code": 502, "message": "away"}
    assert error_of(UpstreamTimeout("late")) == {"type": "http_error", "code": 504, "message": "late"}


def test_the_content_of_a_failed_call_is_shown_without_bytes():
    text = {"type": "text", "text": "no"}
    assert list(without_bytes([text, image(), 5])) == [
        text,
        {"type": "text", "text": "[image: image/png, about 3 bytes]"},
    ]
    assert list(without_bytes(None)) == []
