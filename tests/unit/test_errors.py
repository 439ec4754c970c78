"""Errors: one public body, and validation errors that name the field."""

import msgspec
import pytest

from antiphon.errors import ApiError, InvalidRequest, NotFound, UpstreamRejected, misfit
from antiphon.wire.responses import CreateResponse


def test_the_body_is_openais():
    error = InvalidRequest("Too hot.", param="temperature")
    assert error.body() == {
        "error": {
            "message": "Too hot.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "invalid_value",
        }
    }


def test_a_hosts_rejection_keeps_its_status_and_kind():
    error = UpstreamRejected("slow down", status=429, kind="rate_limit_error", code="tpm", retry_after_s=3)
    assert (error.status, error.type, error.code, error.retry_after_s) == (429, "rate_limit_error", "tpm", 3)


def test_every_error_has_a_client_or_server_status():
    kinds, waiting = set(), [ApiError]
    while waiting:
        kind = waiting.pop()
        kinds.add(kind)
        waiting += kind.__subclasses__()
    assert NotFound in kinds
    assert all(400 <= kind.status < 600 for kind in kinds)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b'{"model": 1}', "model", "invalid_type"),
        (b'{"temperature": 3}', "temperature", "invalid_value"),
        (b'{"text": {"format": {"type": "json_schema"}}}', "text.format.name", "missing_required_parameter"),
        (b'{"metadata": {"a": 1}}', "metadata", "invalid_type"),
        (b'{"metadata": {"%b": "x"}}' % (b"k" * 65), "metadata", "invalid_value"),
        (b'{"include": ["everything"]}', "include[0]", "invalid_value"),
        (b"{", None, "invalid_json"),
    ],
)
def test_a_validation_error_names_the_field(body, param, code):
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body, type=CreateResponse)
    error = misfit(caught.value)
    assert (error.param, error.code) == (param, code)


def test_a_validation_error_below_a_field_names_both():
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'[{"a": 1}]', type=list[dict[str, str]])
    assert misfit(caught.value, "input").param == "input[0]"
