"""When two requests are the same, and what may differ between them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.exchange import Outgoing
from antiphon.replay import canonical
from antiphon.replay.canonical import differences, leaves, place_of, replaced, shown

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def key(body: bytes, **changes: Any) -> str:
    """The digest of a chat request with this body."""
    fields = {"method": "POST", "url": "https://h.example/v1/chat/completions", "headers": {}, "host": "h", **changes}
    outgoing = Outgoing(body=body, **fields)
    return canonical.key_of(canonical.request_from(outgoing, canonical.clean_body(outgoing)))


def turn(call_id: str, answered: str) -> dict[str, Any]:
    """A call and its output."""
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return {
        "messages": [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": answered, "content": "7"},
        ]
    }


@given(JSON)
def test_the_canonical_form_is_stable(body: Any) -> None:
    once = canonical.canonical(body)
    assert canonical.canonical(once) == once


@given(JSON)
def test_a_body_differs_from_itself_nowhere(body: Any) -> None:
    assert differences(body, body) == []


@given(JSON.filter(lambda body: isinstance(body, (dict, list))))
def test_every_leaf_counts(body: Any) -> None:
    form = canonical.canonical(body)
    for path, leaf in leaves(form):
        altered = replaced(form, path, ["altered", leaf])
        assert canonical.canonical(altered) != form
        assert [found[0] for found in differences(altered, form)] != []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1, "b": [1, 2]}', b'{"b":[1,2],"a":1}'),
        (b'{"temperature": 1}', b'{"temperature": 1.0}'),
        (b'{"text": "\\u00e9"}', '{"text": "é"}'.encode()),
    ],
)
def test_spelling_does_not_count(one: bytes, other: bytes) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1}', b'{"a": true}'),
        (b'{"a": 1}', b'{"a": "1"}'),
        (b'{"a": null}', b"{}"),
        (b'{"a": ""}', b'{"a": null}'),
        (b'{"a": [1, 2]}', b'{"a": [2, 1]}'),
        (b'{"a": 0.1}', b'{"a": 0.10000001}'),
        (b"", b"{}"),
        (b"{not json", b"{not jsom"),
        (b"\xff\x00", b"\xff\x01"),
    ],
)
def test_everything_else_counts(one: bytes, other: bytes) -> None:
    assert key(one) != key(other)


@pytest.mark.parametrize("change", [{"host": "other"}, {"method": "PUT"}, {"url": "https://h.example/v1/embeddings"}])
def test_method_host_and_path_count(change: dict[str, str]) -> None:
    assert key(b"{}", **change) != key(b"{}")


def test_the_query_counts_but_neither_its_order_nor_its_keys_nor_the_address() -> None:
    one = key(b"{}", url="https://h.example/v1/models?api-version=1&key=abc&z=2")
    assert one == key(b"{}", url="http://127.0.0.1:9/v1/models?z=2&api-version=1&key=xyz")
    assert one != key(b"{}", url="https://h.example/v1/models?api-version=2&key=abc&z=2")


def test_headers_do_not_count() -> None:
    assert key(b"{}", headers={"authorization": "Bearer abcdefgh"}) == key(b"{}")


def test_ids_of_calls_are_renamed_by_order_of_appearance() -> None:
    assert canonical.canonical(turn("zzz", "zzz")) == canonical.canonical(turn("call_1", "call_1"))
    renamed = canonical.canonical(turn("zzz", "zzz"))["messages"]
    assert renamed[0]["tool_calls"][0]["id"] == renamed[1]["tool_call_id"] == "call_1"


def test_which_id_refers_to_which_still_counts() -> None:
    assert canonical.canonical(turn("a", "a")) != canonical.canonical(turn("a", "b"))


@pytest.mark.parametrize(
    "text",
    [
        "see resp_0123456789abcdef0123456789abcdef0123456789abcdef",
        "see file-5efa8a5a4b414ce98726c4e133a18747.",
        "see chatcmpl-tool-0123456789abcdef0123456789abcdef",
        "<|msg_abc123def456abc123def456|>",
        "call_UVmJRK8x8PZSXaGMP8YkWUTN",
        "run_123e4567-e89b-12d3-a456-426614174000",
    ],
)
def test_ids_inside_texts_are_renamed(text: str) -> None:
    other = text.replace("5", "6").replace("3", "4").replace("UV", "AB")
    assert other != text
    assert canonical.canonical({"t": text}) == canonical.canonical({"t": other})


@pytest.mark.parametrize(
    "text",
    ["call_the_fire_brigade_now", "file-system-operations", "call_restaurant", "recall_123", "a file-1", "vs_code"],
)
def test_what_only_resembles_an_id_is_not_renamed(text: str) -> None:
    assert canonical.canonical({"t": text}) == {"t": text}


def test_names_in_a_schema_are_no_ids() -> None:
    schema = {"properties": {"call_id": {"type": "string"}, "id": {"const": "abc"}}, "tool_call_id": "x"}
    assert canonical.canonical(schema) == schema


def test_differences_name_the_path_and_both_sides() -> None:
    wanted = {"messages": [{"role": "user", "content": "a"}], "n": 1}
    recorded = {"messages": [{"role": "user", "content": "b"}, {"role": "user"}], "stream": True}
    assert differences(wanted, recorded) == [
        ("messages[0].content", "a", "b"),
        ("messages[1]", canonical.ABSENT, {"role": "user"}),
        ("n", 1, canonical.ABSENT),
        ("stream", canonical.ABSENT, True),
    ]


def test_a_path_is_shown_as_people_write_it() -> None:
    assert shown(("messages", 0, "content")) == "messages[0].content"
    assert shown(()) == "(the body)"


def test_a_long_value_is_cut() -> None:
    assert canonical.quoted("x" * 500, 20) == '"' + "x" * 16 + "..."


@pytest.mark.parametrize(
    ("url", "base", "endpoint"),
    [
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1", "/chat/completions"),
        ("http://h:1/v1/completions?x=1", "http://h:1/v1", "/completions"),
        ("http://h/inference/v1/models", "http://h/inference/v1", "/models"),
        ("http://h/api/ps", "http://h", "/api/ps"),
    ],
)
def test_a_url_is_a_base_and_an_endpoint(url: str, base: str, endpoint: str) -> None:
    assert place_of(url) == (base, endpoint)
