"""Text completions are passed through."""

from typing import Any

import openai
import pytest

from antiphon.testing.host import CLOSE, Host, Raw, Reply, page, status
from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"


def test_a_completion_is_passed_through_with_unknown_fields(server: Server, host: Host) -> None:
    got = server.post("/completions", {"model": MODEL, "prompt": [1, 2], "echo": True, "own": {"a": 1}})
    assert got.json["choices"][0]["text"] == "Hello there."
    assert host.calls[0].path == "/v1/completions"
    assert host.calls[0].json == {"model": "scripted-model", "prompt": [1, 2], "echo": True, "own": {"a": 1}}


def test_a_completion_is_streamed(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel", "lo"]))
    chunks = client.completions.create(model=MODEL, prompt="Hi", stream=True)
    assert [chunk.choices[0].text for chunk in chunks] == ["Hel", "lo"]


def test_a_stream_that_breaks_off_raises_in_the_client(client: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(text=["Hel"], end=[CLOSE]))
    with pytest.raises(openai.APIError):
        list(client.completions.create(model=MODEL, prompt="Hi", stream=True))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("answer", "code"), [(status(503, "busy"), 503), (page(), 502), (Raw(), 502)])
def test_a_hosts_trouble_is_an_http_error(server: Server, host: Host, stream: bool, answer: Raw, code: int) -> None:
    host.answer(answer)
    got = server.post("/completions", {"model": MODEL, "prompt": "Hi", "stream": stream})
    assert got.status == code
    assert got.json["error"]["message"]


@pytest.mark.parametrize(
    ("more", "param"), [({"model": ""}, "model"), ({"n": 0}, "n"), ({"best_of": 21}, "best_of"), ({"echo": 1}, "echo")]
)
def test_what_the_document_limits_is_refused(server: Server, more: dict[str, Any], param: str) -> None:
    got = server.post("/completions", {"model": MODEL, "prompt": "Hi", **more})
    assert (got.status, got.json["error"]["param"]) == (400, param)
