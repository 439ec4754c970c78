"""`antiphon demo`: the main job, seen in half a minute, offline.

Starts a server on the recording that ships with the package and drives it with the official `openai` client, as any
application would: a streamed answer, a function-tool round trip, a conversation of two turns, an answer that cites a
PDF. The scenes stand here as plain client code, so that they can be copied.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import OpenAI

RECORDINGS = Path(__file__).parent / "recordings"
DOCUMENT = RECORDINGS / "harbour.pdf"
MODEL = "demo/storyteller"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The current weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def streamed_answer(client: "OpenAI") -> None:
    """A streamed answer, stored, and read again."""
    title("1. A streamed answer, stored by the server")
    ask = "In one sentence: what is an antiphon?"
    say("you", ask)
    response_id = ""
    with told_by("model"), client.responses.create(model=MODEL, input=ask, stream=True) as stream:
        for event in stream:
            if event.type == "response.created":
                response_id = event.response.id
            elif event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
    stored = client.responses.retrieve(response_id)
    note(f"stored as {stored.id}: {stored.status}, {stored.usage.total_tokens if stored.usage else 0} tokens")


def function_tool(client: "OpenAI") -> None:
    """The model calls a function; the program answers; the model goes on from there."""
    title("2. A function tool, there and back")
    ask = "Do I need an umbrella in Lisbon today?"
    say("you", ask)
    first = client.responses.create(model=MODEL, input=ask, tools=[WEATHER])  # type: ignore[list-item]
    call = next(item for item in first.output if item.type == "function_call")
    say("model", f"calls {call.name}({call.arguments})")
    weather = json.dumps({"city": json.loads(call.arguments)["city"], "sky": "rain", "celsius": 14})
    say("program", weather)
    second = client.responses.create(
        model=MODEL,
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": weather}],
        tools=[WEATHER],  # type: ignore[list-item]
    )
    say("model", second.output_text)


def conversation(client: "OpenAI") -> None:
    """Two turns: the server remembers the first."""
    title("3. A conversation that the server remembers")
    talk = client.conversations.create(metadata={"topic": "demo"})
    for ask in ("My name is Ada and I collect beetles.", "What do I collect, and what is my name?"):
        say("you", ask)
        answer = client.responses.create(model=MODEL, conversation=talk.id, input=ask)
        say("model", answer.output_text)
    items = client.conversations.items.list(talk.id, order="asc").data
    note(f"{talk.id} holds {len(items)} items")


def file_search(client: "OpenAI") -> None:
    """A PDF is searched for an answer, and the answer says where it is from."""
    title("4. A PDF, searched and cited")
    file = client.files.create(file=DOCUMENT, purpose="assistants")
    store = client.vector_stores.create(name="The harbour")
    added = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
    note(f"{file.filename} in {store.id}: {added.status}")
    ask = "Who opens the lock at night?"
    say("you", ask)
    with client.responses.create(
        model=MODEL,
        input=ask,
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
        include=["file_search_call.results"],
        stream=True,
    ) as stream:
        for event in stream:
            if event.type == "response.output_item.done" and event.item.type == "file_search_call":
                say("model", f"searches for {event.item.queries}: {len(event.item.results or [])} found")
            elif event.type == "response.content_part.added":
                print(f"  {'model':>8} | ", end="")
            elif event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "response.output_text.annotation.added" and event.annotation:
                cited = event.annotation.filename if event.annotation.type == "file_citation" else ""
                print(f" [{cited}]", end="", flush=True)
    print()


SCENES = (streamed_answer, function_tool, conversation, file_search)


def run(base_url: str) -> None:
    """Plays all scenes against a running server."""
    from openai import OpenAI  # heavy, and only the demo needs it

    with OpenAI(base_url=base_url, api_key="none needed") as client:
        for scene in SCENES:
            scene(client)


def epilogue() -> None:
    """What to do next."""
    title("Now with a real model")
    print(
        "  OPENAI_API_KEY=sk-... antiphon serve                  # OpenAI's models, as openai/NAME\n"
        "  antiphon serve                                        # finds a local Ollama by itself\n"
        "  OPENAI_BASE_URL=http://host:8000/v1 antiphon serve    # any server that speaks chat completions\n\n"
        "  then point any OpenAI client at http://127.0.0.1:8321/v1"
    )


# ---------------------------------------------------------------- printing


def title(text: str) -> None:
    """A scene's heading."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


def say(who: str, text: str) -> None:
    """One line of the dialogue."""
    print(f"  {who:>8} | {text}")


def note(text: str) -> None:
    """A remark about what the server did."""
    print(f"  {'server':>8} | {text}")


@contextmanager
def told_by(who: str) -> Iterator[None]:
    """A line that is written while it arrives."""
    started = time.monotonic()
    print(f"  {who:>8} | ", end="")
    yield
    print(f"   ({time.monotonic() - started:.2f} s)")


# ---------------------------------------------------------------- the server


def main(recordings: Path = RECORDINGS) -> int:
    """Starts a server on the recordings, plays the scenes, stops the server."""
    if find_spec("openai") is None:
        print("The demo drives the server with OpenAI's client: pip install openai", file=sys.stderr)
        return 1
    with serving("--mode", "replay", "--recordings", str(recordings), "--replay-speed", "1") as root:
        print(f"Antiphon runs at {root}/v1, on a recorded model: no network, no key.")
        run(f"{root}/v1")
    epilogue()
    return 0


@contextmanager
def serving(*flags: str) -> Iterator[str]:
    """A server of its own on a free port, with a data folder of its own; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    root = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        place = ["--host", "127.0.0.1", "--port", str(port), "--data", folder, "--log-level", "error"]
        command = [sys.executable, "-m", "antiphon.cli", "serve", *place, *flags]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603 (our own interpreter)
        try:
            _wait_for(root, server)
            yield root
        finally:
            server.terminate()
            server.wait()


def _wait_for(root: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended at once, with code {server.returncode}")
        try:
            with urllib.request.urlopen(f"{root}/health", timeout=1):  # noqa: S310 (our own server)
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server did not start within 20 s")
