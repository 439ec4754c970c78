"""Requests made up from the served OpenAPI document: never a 500, and every error in OpenAI's form."""

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, Response

from antiphon.testing.host import Host
from antiphon.testing.server import Server

EXAMPLES = 10
"""Requests made up for each route."""
HOST_REFUSES = (502, 503, 504)
"""What a model host's trouble may become; 501 and 500 never are."""

schema = schemathesis.pytest.from_fixture("api")


@pytest.fixture(scope="session")
def api(session_server: Server) -> Any:
    """The API as the server describes it."""
    return schemathesis.openapi.from_url(f"{session_server.root}/openapi.json")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_made_up_requests_are_answered_or_refused_in_form(case: Case, session_host: Host) -> None:
    session_host.reset()
    judge(case.call(timeout=10))


def judge(answer: Response) -> None:
    """No 500, an id on every answer, and one form of error body."""
    assert answer.headers["x-request-id"]
    if answer.status_code < 400:
        return
    assert answer.status_code < 500 or answer.status_code in HOST_REFUSES, answer.content
    error = json.loads(answer.content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
