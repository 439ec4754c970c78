"""One turn asks for tools of every kind at once: an MCP server's, two searches, and a function of the client's.

The server runs its part side by side and hands over the client's; the next request carries the turn on.
"""

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing import rules
from antiphon.testing.host import Call, Gate, Host, Raw, Reply, Request, status
from antiphon.testing.script import embeddings, whole
from antiphon.testing.server import Server, running, until
from mcp_server import McpHost

MODEL = "scripted/scripted-model"
FERRY = "The ferry to Seixal leaves every half hour."
PAGE = {"url": "https://example.org/a", "title": "A", "content": "It is so.", "score": 0.9, "raw_content": None}
FUNCTION = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
RESULTS = ["file_search_call.results"]
WEATHER = Call(name="get_weather", arguments='{"city": "Rome"}', id="call_weather")
BOIL = Call(name="get_boiling_point", arguments='{"liquid_name": "myawesomeliquid"}', id="call_mcp")
SEARCH = Call(name="knowledge_search", arguments='{"query": "ferry"}', id="call_search")
WEB = Call(name="web_search", arguments='{"query": "q"}', id="call_web")
PAY = Call(name="pay", arguments='{"amount": 5}', id="call_mcp")
WAIT = Call(name="wait", arguments='{"gate": "mcp"}', id="call_mcp")
ALL = (WEATHER, BOIL, SEARCH, WEB)
SUNNY = {"type": "function_call_output", "call_id": "call_weather", "output": "sunny"}
SERVED = ["mcp_call", "file_search_call", "web_search_call"]


def settings(host: Host, **more: Any) -> dict[str, Any]:
    """A server that has a chat model, an embedding model, a web search, and may reach MCP servers of this machine."""
    models = {"my-embed": {"kind": "embedding"}, "scripted-model": {"kind": "llm"}}
    return {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom", "models": models}},
        "web_search": {"providers": {"tavily": {"base_url": host.url, "key": "k"}}},
        "fetch": {"ports": [], "allowed_networks": ["127.0.0.0/8"]},
        **more,
    }


def beside(request: Request) -> Raw | None:
    """What the scripted host says where it is no chat model."""
    if request.path.endswith("/embeddings"):
        return whole(embeddings(request.json))
    return whole({"results": [PAGE]}) if request.path.endswith("/search") else None


class Held:
    """Gates before the answers to the searches; who has asked, and how it ended."""

    def __init__(self) -> None:
        self.gates = {"/embeddings": Gate(), "/search": Gate()}
        self.asked: dict[str, Request] = {}

    def __call__(self, request: Request) -> Raw | None:
        """The answer, behind its gate."""
        answer = beside(request)
        if answer is None:
            return None
        kind = f"/{request.path.rpartition('/')[2]}"
        self.asked[kind] = request
        return Raw(headers=answer.headers, steps=[self.gates[kind], *answer.steps])


@pytest.fixture
def host(host: Host) -> Host:
    """A host whose script is for the chat model alone."""
    host.by_request = beside
    return host


@pytest.fixture(scope="module")
def session_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(settings(session_host), tmp_path_factory.mktemp("mixed")) as started:
        yield started


class Desk:
    """What a request needs: a store with one file, and the declarations of all tools."""

    def __init__(self, client: openai.OpenAI, mcp: McpHost) -> None:
        store = client.vector_stores.create()
        self.file = client.files.create(file=("ferry.txt", FERRY.encode()), purpose="assistants").id
        client.vector_stores.files.create_and_poll(self.file, vector_store_id=store.id)
        self.store = store.id
        self.mcp = mcp

    def tools(self, **of_mcp: Any) -> Any:
        """All of them."""
        lab = {"type": "mcp", "server_label": "lab", "server_url": self.mcp.url(), "require_approval": "never"}
        search = {"type": "file_search", "vector_store_ids": [self.store]}
        return [{**lab, **of_mcp}, search, {"type": "web_search"}, FUNCTION]

    def cites(self) -> Reply:
        """A model that says where it has it from."""
        return Reply(text=["Half past, ", f"at -100 <|{self.file}|>", "."])


@pytest.fixture
def desk(client: openai.OpenAI, host: Host, mcp: McpHost) -> Desk:
    assert host
    return Desk(client, mcp)


def chats(host: Host) -> list[Any]:
    """What the chat model was asked."""
    return [call.json for call in host.calls if call.path.endswith("/chat/completions")]


def embedded(host: Host) -> int:
    """How many searches have asked for their query's vector."""
    return sum(call.path.endswith("/embeddings") and call.json["input"] == ["ferry"] for call in host.calls)


def heard(messages: list[Any]) -> dict[str, str]:
    """What the model hears of each call, by the call's id; each turn's answers stand right behind it, in its order."""
    found: dict[str, str] = {}
    for at, message in enumerate(messages):
        for number, call in enumerate(message.get("tool_calls", ()), 1):
            answer = messages[at + number]
            assert (answer["role"], answer["tool_call_id"]) == ("tool", call["id"])
            content = answer["content"]
            text = content if isinstance(content, str) else "".join(part["text"] for part in content)
            found[call["function"]["name"]] = text
    return found


def kinds(output: list[Any]) -> list[str]:
    return [item["type"] for item in output]


def calls_of(output: list[Any]) -> dict[str, str]:
    """What became of each call, by its kind."""
    return {item["type"]: item["status"] for item in output if item["type"].endswith("_call")}


def ended(server: Server, id: str) -> dict[str, Any]:
    """The response, once it has ended."""
    look: Callable[[], Any] = lambda: server.get(f"/responses/{id}").json  # noqa: E731
    return until(look, lambda got: got["status"] not in ("queued", "in_progress"))  # type: ignore[no-any-return]


@contextmanager
def streaming(server: Server, **body: Any) -> Iterator[http.client.HTTPResponse]:
    """A stream that is not read to its end."""
    connection = server.connect()
    try:
        sent = json.dumps({"model": MODEL, "stream": True, **body})
        connection.request("POST", "/v1/responses", sent, {"content-type": "application/json"})
        yield connection.getresponse()
    finally:
        connection.close()


def respond(server: Server, *, streamed: bool, **body: Any) -> dict[str, Any]:
    """A response at its end, whichever way it comes; a stream, now or later, keeps all rules."""
    if streamed:
        return server.stream(**body).response
    with server.client() as client:
        made = client.responses.create(model=MODEL, **body)
    if not body.get("background"):
        return made.to_dict()  # type: ignore[no-any-return]
    ended(server, made.id)
    return rules.check(server.get(f"/responses/{made.id}?stream=true").body).response


# ---------------------------------------------------------------- two requests


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("way", ["chain", "conversation", "unstored", "background"])
def test_the_servers_part_is_run_the_clients_is_handed_over_and_the_next_request_goes_on(
    server: Server, client: openai.OpenAI, host: Host, desk: Desk, way: str, streamed: bool
) -> None:
    host.answer(Reply(text=["Let me see."], calls=ALL), desk.cites())
    common = {"tools": desk.tools(), "include": RESULTS, "streamed": streamed}
    if way == "conversation":
        common["conversation"] = client.conversations.create().id
    if way in ("unstored", "background"):
        common |= {"store": False} if way == "unstored" else {"background": True}
    asked = [{"role": "user", "content": "When, and how hot?"}]
    first = respond(server, input=asked, **common)
    assert (first["status"], len(chats(host))) == ("completed", 1)
    assert kinds(first["output"]) == ["mcp_list_tools", "message", "function_call", *SERVED]
    assert set(calls_of(first["output"]).values()) == {"completed"}
    own, boil, search, web = first["output"][2:]
    assert (own["call_id"], own["arguments"]) == ("call_weather", WEATHER.arguments)
    assert (boil["output"], search["results"][0]["file_id"]) == ("-100", desk.file)
    assert web["action"]["query"] == "q"

    given: list[Any] = [SUNNY]
    if way == "unstored":
        given = [*asked, *first["output"], SUNNY]
    elif way != "conversation":
        common["previous_response_id"] = first["id"]
    second = respond(server, input=given, **common)
    assert (second["status"], kinds(second["output"])) == ("completed", ["message"])
    (part,) = second["output"][0]["content"]
    assert part["text"] == "Half past, at -100."
    assert [note["file_id"] for note in part["annotations"]] == [desk.file]
    told = heard(chats(host)[1]["messages"])
    assert [told["get_boiling_point"], told["get_weather"]] == ["-100", "sunny"]
    assert FERRY in told["knowledge_search"]
    assert "web_search" in told
    assert (desk.mcp.count("tools/list"), desk.mcp.calls["get_boiling_point"]) == (1, 1)


def test_the_model_sees_its_mixed_turn_as_it_made_it(client: openai.OpenAI, host: Host, desk: Desk) -> None:
    host.answer(Reply(text=["Let me see."], calls=[BOIL, WEATHER, SEARCH]), desk.cites())
    first = client.responses.create(model=MODEL, input="?", tools=desk.tools())
    given: Any = [SUNNY]
    client.responses.create(model=MODEL, input=given, previous_response_id=first.id, tools=desk.tools())
    turns = [message for message in chats(host)[1]["messages"] if message["role"] == "assistant"]
    assert [(turn["content"], [call["id"] for call in turn["tool_calls"]]) for turn in turns] == [
        ("Let me see.", ["call_mcp", "call_weather", "call_search"])
    ]


def test_a_question_is_asked_beside_what_needs_none_and_both_answers_come_in_one_request(
    server: Server, host: Host, desk: Desk
) -> None:
    host.answer(Reply(calls=[PAY, WEATHER, SEARCH]), desk.cites())
    tools = desk.tools(require_approval="always")
    first = server.stream(input="Pay, and see.", tools=tools).response
    assert kinds(first["output"]) == ["mcp_list_tools", "mcp_approval_request", "function_call", "file_search_call"]
    assert desk.mcp.calls["pay"] == 0
    yes = {"type": "mcp_approval_response", "approval_request_id": first["output"][1]["id"], "approve": True}
    second = server.stream(input=[SUNNY, yes], previous_response_id=first["id"], tools=tools)
    assert kinds(second.items) == ["mcp_call", "message"]
    told = heard(chats(host)[1]["messages"])
    assert [told["pay"], told["get_weather"], FERRY in told["knowledge_search"]] == ["paid 5", "sunny", True]
    assert (desk.mcp.calls["pay"], second.text) == (1, "Half past, at -100.")


# ---------------------------------------------------------------- side by side


def test_tools_of_all_kinds_are_under_way_at_the_same_time_and_keep_their_places(
    server: Server, host: Host, desk: Desk
) -> None:
    held = Held()
    desk.mcp.gates = {"mcp": Gate()}
    host.by_request = held
    host.answer(Reply(calls=[WAIT, SEARCH, WEB]), Reply(text=["ok"]))
    # Each is answered only once all have been asked, and the last one first.
    gates = [desk.mcp.gates["mcp"], held.gates["/embeddings"], held.gates["/search"]]
    with ThreadPoolExecutor() as pool:
        working = pool.submit(server.stream, input="Hi", tools=desk.tools())
        for gate in gates:
            gate.wait()
        for gate in reversed(gates):
            gate.open()
        stream = working.result()
    assert kinds(stream.items[1:]) == [*SERVED, "message"]
    wait, search, web = stream.items[1:4]
    assert (wait["output"], search["queries"], web["action"]["query"]) == ("mcp is open", ["ferry"], "q")
    places = {(event["output_index"], event["item_id"]) for event in stream.events if "item_id" in event}
    assert places == {(index, item["id"]) for index, item in enumerate(stream.items)}
    assert chats(host)[1]["messages"][1]["tool_calls"][0]["id"] == "call_mcp"
    assert heard(chats(host)[1]["messages"])["wait"] == "mcp is open"


def test_calls_that_a_host_makes_at_once_although_it_should_not_run_one_after_the_other(
    server: Server, host: Host, desk: Desk
) -> None:
    desk.mcp.gates = {"mcp": Gate()}
    opened: list[str] = []
    early: list[str] = []

    def noted(request: Request) -> Raw | None:
        if (answer := beside(request)) is not None and not opened:
            early.append(request.path)
        return answer

    host.by_request = noted
    host.answer(Reply(calls=[WAIT, SEARCH, WEB]), Reply(text=["ok"]))
    with ThreadPoolExecutor() as pool:
        working = pool.submit(server.stream, input="Hi", tools=desk.tools(), parallel_tool_calls=False)
        desk.mcp.gates["mcp"].wait()
        assert server.get("/models").status == 200  # whatever else was begun has been sent by now
        opened.append("now")
        desk.mcp.gates["mcp"].open()
        stream = working.result()
    assert early == []
    assert chats(host)[0]["parallel_tool_calls"] is False
    assert [kind for kind in stream.types if kind.endswith("_call.completed")] == [
        f"response.{kind}.completed" for kind in SERVED
    ]


# ---------------------------------------------------------------- limits and failures


@pytest.mark.parametrize("broken", SERVED)
def test_a_tool_that_fails_tells_the_model_while_the_others_succeed(
    server: Server, host: Host, desk: Desk, broken: str
) -> None:
    fails = {"file_search_call": "/embeddings", "web_search_call": "/search"}.get(broken, "-")
    host.by_request = lambda request: status(400) if request.path.endswith(fails) else beside(request)
    lab = Call(name="fail", arguments='{"why": "no"}', id="call_mcp") if broken == "mcp_call" else BOIL
    host.answer(Reply(calls=[lab, SEARCH, WEB, WEATHER]), Reply(text=["ok"]))
    first = server.stream(input="Hi", tools=desk.tools()).response
    assert first["status"] == "completed"
    assert calls_of(first["output"]) == {
        **dict.fromkeys([*SERVED, "function_call"], "completed"),
        broken: "failed",
    }
    second = server.stream(input=[SUNNY], previous_response_id=first["id"], tools=desk.tools())
    assert second.text == "ok"
    told = list(heard(chats(host)[1]["messages"]).values())
    assert ["fail" in text or "Error" in text for text in told] == [kind == broken for kind in [*SERVED, "function"]]


def test_the_limit_of_calls_counts_the_servers_and_not_the_clients(server: Server, host: Host, desk: Desk) -> None:
    host.answer(Reply(calls=ALL), Reply(text=["ok"]))
    first = server.stream(input="Hi", tools=desk.tools(), max_tool_calls=2).response
    assert kinds(first["output"]) == ["mcp_list_tools", "function_call", "mcp_call", "file_search_call"]
    server.stream(input=[SUNNY], previous_response_id=first["id"], tools=desk.tools(), max_tool_calls=2)
    assert heard(chats(host)[1]["messages"]).keys() == {"get_weather", "get_boiling_point", "knowledge_search"}


def test_at_the_limit_only_the_clients_tools_are_left(server: Server, host: Host, desk: Desk) -> None:
    host.answer(Reply(calls=[BOIL, SEARCH, WEB]), Reply(calls=[WEATHER]))
    stream = server.stream(input="Hi", tools=desk.tools(), max_tool_calls=2)
    assert kinds(stream.items) == ["mcp_list_tools", "mcp_call", "file_search_call", "function_call"]
    assert [each["function"]["name"] for each in chats(host)[1]["tools"]] == ["get_weather"]


# ---------------------------------------------------------------- an end before the end


def test_cancelling_a_background_run_stops_all_of_them(server: Server, host: Host, desk: Desk) -> None:
    held = Held()
    desk.mcp.gates = {"mcp": Gate()}
    host.by_request = held
    host.answer(Reply(calls=[WEATHER, WAIT, SEARCH, WEB]))
    made = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": desk.tools(), "background": True}).json
    for gate in (desk.mcp.gates["mcp"], *held.gates.values()):
        gate.wait()
    got = server.post(f"/responses/{made['id']}/cancel", {}).json
    assert got["status"] == "cancelled"
    assert calls_of(got["output"]) == {"function_call": "completed", **dict.fromkeys(SERVED, "incomplete")}
    for request in held.asked.values():
        request.abort_seen()
    assert until(lambda: desk.mcp.stopped) == ["mcp"]
    assert len(chats(host)) == 1


def test_a_client_that_leaves_an_unstored_stream_stops_all_of_them(server: Server, host: Host, desk: Desk) -> None:
    held = Held()
    desk.mcp.gates = {"mcp": Gate()}
    host.by_request = held
    host.answer(Reply(calls=[WEATHER, WAIT, SEARCH, WEB]))
    with streaming(server, input="Hi", tools=desk.tools(), store=False):
        for gate in (desk.mcp.gates["mcp"], *held.gates.values()):
            gate.wait()
    for request in held.asked.values():
        request.abort_seen()
    assert until(lambda: desk.mcp.stopped) == ["mcp"]


@pytest.mark.parametrize("finished", ["mcp_call", "file_search_call"])
def test_a_killed_servers_mixed_turn_makes_no_finished_call_again(
    host: Host, mcp: McpHost, tmp_path: Path, finished: str
) -> None:
    held = Held()
    mcp.gates = {"mcp": Gate()}
    alone = settings(host, background={"lease_s": 1})
    with running(alone, tmp_path, process=True) as server:
        with server.client() as client:
            desk = Desk(client, mcp)
        paying = finished == "mcp_call"
        host.by_request = held if paying else beside
        host.answer(Reply(calls=[WEATHER, PAY if paying else WAIT, SEARCH]), desk.cites())
        with streaming(server, input="Hi", tools=desk.tools(), background=True) as answer:
            seen = b""
            while f"event: response.{finished}.completed\n".encode() not in seen:
                seen += answer.readline()
            (held.gates["/embeddings"] if paying else mcp.gates["mcp"]).wait()
            server.kill()
    held.gates["/embeddings"].open()
    mcp.gates["mcp"].open()
    searches = embedded(host)
    id = json.loads(seen.partition(b"data: ")[2].partition(b"\n")[0])["response"]["id"]
    with running(alone, tmp_path, process=True) as server:
        first = ended(server, id)
        again = server.get(f"/responses/{id}?stream=true").body
        assert again.startswith(seen)
        assert rules.check(again).response == first
        second = server.stream(input=[SUNNY], previous_response_id=id, tools=desk.tools())
        assert second.text == "Half past, at -100."
    # Nobody knows what became of a call that was under way, unless a second time does no harm.
    outcome = "completed" if paying else "failed"
    assert calls_of(first["output"]) == {
        "function_call": "completed",
        "mcp_call": outcome,
        "file_search_call": "completed",
    }
    told = heard(chats(host)[1]["messages"])
    assert told["pay"] == "paid 5" if paying else "not known whether" in told["wait"]
    assert FERRY in told["knowledge_search"]
    assert (mcp.calls["pay"] + mcp.calls["wait"], len(chats(host))) == (1, 2)
    assert embedded(host) == searches + paying
