"""What headers say of the model host: keys and recording."""

import json

import pytest

from antiphon.api.access import access_from
from antiphon.errors import Forbidden, InvalidRequest
from antiphon.models.base import NO_ACCESS


def access(headers, *, recorded=True):
    warnings = []
    given = {name.encode(): value.encode() for name, value in headers.items()}
    return access_from(given, warnings.append, recorded=recorded), warnings


def test_no_header_is_no_access() -> None:
    assert access({"x-stainless-lang": "python", "openai-beta": "x"})[0] is NO_ACCESS


@pytest.mark.parametrize("name", ["x-antiphon-provider-data", "x-llamastack-provider-data", "x-ogx-provider-data"])
def test_keys_are_known_by_the_names_of_llama_stack_and_by_host(name) -> None:
    found, _ = access({name: json.dumps({"openai_api_key": "a", "vllm_api_token": "b", "groq": "c"})})
    assert found.key_for(("openai_api_key",)) == "a"
    assert found.key_for(("vllm_api_token",)) == "b"
    assert found.key_for(("groq_api_key",)) == "c"
    assert found.key_for(("together_api_key",)) is None


def test_a_key_can_hold_for_any_host() -> None:
    found, _ = access({"x-antiphon-provider-data": '{"api_key": "a", "openai_api_key": "b"}'})
    assert found.key_for(("groq_api_key",)) == "a"
    assert found.key_for(("openai_api_key",)) == "b"


def test_our_header_comes_before_theirs() -> None:
    found, _ = access({"x-antiphon-provider-data": '{"x": "ours"}', "x-llamastack-provider-data": '{"x": "theirs"}'})
    assert found.keys["x"] == "ours"


def test_the_test_id_of_llama_stack_is_for_replay() -> None:
    found, _ = access({"x-llamastack-provider-data": '{"__test_id": "t::1", "n": 3}'})
    assert found.replay.test_id == "t::1"
    assert found.keys == {}


@pytest.mark.parametrize("value", ["{", "[]", '"x"', "\xff"])
def test_a_header_of_ours_that_is_no_object_is_refused(value) -> None:
    with pytest.raises(InvalidRequest) as caught:
        access_from({b"x-antiphon-provider-data": value.encode("latin-1")}, [].append, recorded=False)
    assert caught.value.param == "x-antiphon-provider-data"


def test_a_header_of_theirs_that_is_no_object_is_ignored_with_a_warning() -> None:
    found, warnings = access({"x-llamastack-provider-data": "{"})
    assert found is NO_ACCESS
    assert warnings == ["ignored x-llamastack-provider-data: not a JSON object"]


@pytest.mark.parametrize("key", ["a\r\nx: y", "a\nb", "ключ"])
def test_a_key_that_would_break_a_header_is_refused(key) -> None:
    with pytest.raises(InvalidRequest):
        access({"x-antiphon-provider-data": json.dumps({"openai_api_key": key})})


@pytest.mark.parametrize("mode", ["live", "record", "replay", "record-if-missing"])
def test_the_mode_can_be_chosen_where_there_are_recordings(mode) -> None:
    assert access({"x-antiphon-mode": mode.upper()})[0].replay.mode == mode


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        access({"x-antiphon-mode": "rewind"})
    assert "record-if-missing" in caught.value.message


def test_a_server_without_recordings_records_for_nobody() -> None:
    with pytest.raises(Forbidden):
        access({"x-antiphon-mode": "record"}, recorded=False)
    assert access({"x-antiphon-mode": "live"}, recorded=False)[0].replay.mode == "live"
