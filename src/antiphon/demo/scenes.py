"""The scenes: plain client code that drives the server as any application would, so that it can be copied.

A streamed answer, a function-tool round trip, a conversation of two turns, an answer that cites a PDF, a turn of three
kinds of tools at once, and one that asks for leave first.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.responses import ResponseStreamEvent

DOCUMENT = Path(__file__).parents[1] / "recordings" / "harbour.pdf"
CONNECTOR = "connector_tide_gauge"
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
            show(event)


def tools_together(client: "OpenAI") -> None:
    """Three tools in one turn: the server runs two of them side by side, while the program runs its own."""
    title("5. An MCP server, a search and a function, at once in one turn")
    store = client.vector_stores.list().data[0]  # of the scene before
    tools: Any = [
        {"type": "mcp", "server_label": "gauge", "connector_id": CONNECTOR, "require_approval": "never"},
        {"type": "file_search", "vector_store_ids": [store.id]},
        WEATHER,
    ]
    ask = "A ship with a sick sailor wants to come in tonight; it draws three metres. May it? Will its crew get wet?"
    say("you", ask)
    began: dict[str | None, float] = {}
    outputs: Any = []
    first = ""
    with client.responses.create(model=MODEL, input=ask, tools=tools, stream=True) as stream:
        for event in stream:
            if event.type == "response.output_item.added":
                began[event.item.id] = time.monotonic()
            elif event.type == "response.output_item.done":
                item = event.item
                took = f"{time.monotonic() - began[item.id]:.2f} s"
                if item.type == "mcp_list_tools":
                    note(f"{item.server_label} has {' and '.join(tool.name for tool in item.tools)} (asked in {took})")
                elif item.type == "function_call":
                    weather = json.dumps({"city": json.loads(item.arguments)["city"], "sky": "rain", "celsius": 9})
                    outputs.append({"type": "function_call_output", "call_id": item.call_id, "output": weather})
                    say("program", f"{item.name}({item.arguments}) ran here: {weather}")
                elif item.type == "file_search_call":
                    note(f"searched for {item.queries} itself, done {took} after the model asked")
                elif item.type == "mcp_call":
                    note(f"{item.name} ran on the MCP server, done {took} after the model asked: {item.output}")
            elif event.type == "response.completed":
                first = event.response.id
    with client.responses.create(
        model=MODEL, previous_response_id=first, input=outputs, tools=tools, stream=True
    ) as stream:
        for event in stream:
            show(event)


def approval(client: "OpenAI") -> None:
    """A tool that has effects is called once a person has said so."""
    title("6. A call that waits for your leave")
    tools: Any = [{"type": "mcp", "server_label": "gauge", "connector_id": CONNECTOR, "require_approval": "always"}]
    ask = "Tell the harbour that a ship comes in: one long blast of the horn."
    say("you", ask)
    first = client.responses.create(model=MODEL, input=ask, tools=tools)
    question = next(item for item in first.output if item.type == "mcp_approval_request")
    say("model", f"asks for leave: {question.name}({question.arguments}) on {question.server_label}")
    say("you", "yes")
    yes: Any = {"type": "mcp_approval_response", "approval_request_id": question.id, "approve": True}
    second = client.responses.create(model=MODEL, previous_response_id=first.id, input=[yes], tools=tools)
    say("model", second.output_text)


SCENES = (streamed_answer, function_tool, conversation, file_search, tools_together, approval)


def run(base_url: str) -> None:
    """Plays all scenes against a running server."""
    from openai import OpenAI  # heavy, and only the demo needs it

    with OpenAI(base_url=base_url, api_key="none needed") as client:
        for scene in SCENES:
            scene(client)


# ---------------------------------------------------------------- printing


def title(text: str) -> None:
    """A scene's heading."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


def say(who: str, text: str) -> None:
    """One line of the dialogue."""
    print(f"  {who:>8} | {text}", flush=True)


def note(text: str) -> None:
    """A remark about what the server did."""
    say("server", text)


def show(event: "ResponseStreamEvent") -> None:
    """What a streamed answer says, as it arrives, and where it has it from."""
    if event.type == "response.content_part.added":
        print(f"  {'model':>8} | ", end="")
    elif event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
    elif event.type == "response.output_text.annotation.added":
        cited = dict(event.annotation or ()).get("filename")  # a plain dictionary in the client's older versions
        print(f" [{cited}]", end="", flush=True)
    elif event.type == "response.content_part.done":
        print()


@contextmanager
def told_by(who: str) -> Iterator[None]:
    """A line that is written while it arrives."""
    started = time.monotonic()
    print(f"  {who:>8} | ", end="")
    yield
    print(f"   ({time.monotonic() - started:.2f} s)")
