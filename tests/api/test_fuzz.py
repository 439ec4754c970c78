"""Requests made up from the served OpenAPI document: never a 500, and every error in OpenAI's form."""

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode

from antiphon.testing.server import Server

EXAMPLES = 12
"""Requests made up for each route."""


@pytest.fixture(scope="module")
def api(session_server: Server) -> Any:
    """The API as the server describes it."""
    return schemathesis.openapi.from_url(f"{session_server.root}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


def judge(status: int, body: bytes, headers: Any) -> None:
    """No 500 (the host's own refusals are allowed), an error body in one form, an id on every answer."""
    assert status != 500, body
    assert headers["x-request-id"]
    if status >= 400:
        import json

        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert error["message"]
