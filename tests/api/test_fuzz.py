"""Requests made up from the served OpenAPI document: never a 500, and every error in OpenAI's form."""

import json
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from antiphon.api.openapi import described
from antiphon.api.server import ROUTES
from antiphon.testing.host import Host
from antiphon.testing.server import Server

EXAMPLES = 8
"""Requests made up for each route that are meant to be right, and as many that are meant to be wrong."""
HOST_REFUSES = (502, 503, 504)
"""What a model host's trouble may become; 500 and 501 never are."""
SCHEMA = schemathesis.openapi.from_dict(described(ROUTES))
OPERATIONS = {operation.label: operation for operation in (found.ok() for found in SCHEMA.get_all_operations())}


def test_the_document_that_is_served_is_the_one_that_is_fuzzed(server: Server) -> None:
    served = server.ask("GET", "/openapi.json").json
    assert served["paths"].keys() == described(ROUTES)["paths"].keys()
    assert len(OPERATIONS) >= 30


RIGHT = [(label, GenerationMode.POSITIVE) for label in OPERATIONS]
WRONG = [(label, GenerationMode.NEGATIVE) for label, made in OPERATIONS.items() if made.body or made.query]


@pytest.mark.parametrize(("label", "mode"), [*RIGHT, *WRONG])
def test_made_up_requests_are_answered_or_refused_in_form(
    server: Server, host: Host, label: str, mode: GenerationMode
) -> None:
    session = requests.Session()
    known = known_ids(server)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.path_parameters = {**(case.path_parameters or {}), **known.get(case.path, {})}
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body = likelier(case.body)
        judge(case.call(base_url=server.root, session=session, timeout=10))

    ask()


def likelier(body: dict[str, Any]) -> dict[str, Any]:
    """The same body with a model that exists and without references to what does not: so it gets further."""
    kept = {
        name: value for name, value in body.items() if name not in ("previous_response_id", "conversation", "prompt")
    }
    return {**kept, "model": "scripted/scripted-model"} if "model" in body else kept


def known_ids(server: Server) -> dict[str, dict[str, str]]:
    """Ids that exist, for the reading routes: made-up ids would never get beyond a 404."""
    body = {"model": "scripted/scripted-model", "input": "Hi"}
    response = server.post("/responses", body).json["id"]
    item = {"role": "user", "content": "Hi"}
    conversation = server.post("/conversations", {"items": [item]}).json["id"]
    with server.client() as client:
        file = client.files.create(file=b"Hi", purpose="user_data").id
    return {
        "/v1/responses/{response_id}": {"response_id": response},
        "/v1/responses/{response_id}/input_items": {"response_id": response},
        "/v1/files/{file_id}": {"file_id": file},
        "/v1/files/{file_id}/content": {"file_id": file},
        "/v1/conversations/{conversation_id}": {"conversation_id": conversation},
        "/v1/conversations/{conversation_id}/items": {"conversation_id": conversation},
    }


def judge(answer: Any) -> None:
    """No 500, an id on every answer, and one form of error body."""
    assert answer.headers["x-request-id"]
    if answer.status_code < 400:
        return
    assert answer.status_code < 500 or answer.status_code in HOST_REFUSES, answer.content
    error = json.loads(answer.content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
