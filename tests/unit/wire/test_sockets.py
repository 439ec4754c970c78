"""The frames of a WebSocket against the `openai` package's types, and Open Responses where it is at hand."""

import json
from pathlib import Path

import msgspec
from openai.types.responses.responses_client_event import ResponseCreate
from openai.types.responses.responses_server_event import ResponseWsError, ResponseWsErrorError

from antiphon.wire.sockets import CreateFrame, ErrorFrame, FrameError

OPEN_RESPONSES = {"presence_penalty", "frequency_penalty"}
NOT_SERVED = {"sequence_number"}  # of an error inside a response, which here is its terminal event


def names(kind: type[msgspec.Struct]) -> set[str]:
    return set(kind.__struct_encode_fields__)


def test_a_create_frame_has_the_members_of_the_packages() -> None:
    assert names(CreateFrame) == ResponseCreate.model_fields.keys() | OPEN_RESPONSES


def test_an_error_frame_has_the_members_of_the_packages() -> None:
    assert names(ErrorFrame) | {"type"} == ResponseWsError.model_fields.keys() - NOT_SERVED
    assert names(FrameError) == ResponseWsErrorError.model_fields.keys() - {"misalignment"}


def test_an_error_frame_is_the_one_of_open_responses(shared: Path) -> None:
    text = (shared / "openapi" / "openresponses-2026-04-24.json").read_text(encoding="utf-8")
    published = json.loads(text)["components"]["schemas"]["WebSocketErrorEvent"]
    assert names(ErrorFrame) | {"type"} >= published["properties"].keys()
    (ours,), found = msgspec.json.schema_components([ErrorFrame])
    assert set(published["required"]) <= set(found[ours["$ref"].rpartition("/")[2]]["required"])
    assert names(FrameError) >= published["properties"]["error"]["properties"].keys()
