"""The official client searches files: a PDF in, a cited answer out, however it is asked for and whatever goes wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from websockets.sync.client import connect

from antiphon.testing import rules
from antiphon.testing.host import Call, Gate, Host, Reply, Request, Step, status
from antiphon.testing.script import Raw, embeddings, whole
from antiphon.testing.server import Server, running, until
from made_files import pdf

MODEL = "scripted/scripted-model"
RESULTS: Any = ["file_search_call.results"]
FERRY = b"The ferry to Seixal leaves every half hour."
TRAM = b"The last tram to Graca leaves at midnight."
FUNCTION: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


def settings(host: Host, **more: Any) -> dict[str, Any]:
    """A server with one chat model and one embedding model."""
    models = {"my-embed": {"kind": "embedding"}, "scripted-model": {"kind": "llm"}}
    return {"hosts": {"scripted": {"base_url": host.url, "preset": "custom", "models": models}}, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's server keeps its state."""
    return tmp_path_factory.mktemp("searching")


@pytest.fixture(scope="module")
def searching_server(session_host: Host, folder: Path) -> Iterator[Server]:
    """A server whose stores have vectors."""
    with running(settings(session_host), folder) as started:
        yield started


@pytest.fixture
def host(host: Host) -> Host:
    """A host whose script is for the chat model alone."""
    host.by_request = embedded
    return host


@pytest.fixture
def server(searching_server: Server, host: Host) -> Server:
    return searching_server


def embedded(request: Request) -> Raw | None:
    """The vectors, where vectors are asked for."""
    return whole(embeddings(request.json)) if request.path.endswith("/embeddings") else None


def held(gate: Gate) -> Any:
    """An embedding model that waits for the test."""

    def answer(request: Request) -> Raw | None:
        steps: list[Step] = [gate, json.dumps(embeddings(request.json)).encode()] if embedded(request) else []
        return Raw(headers=[("content-type", "application/json")], steps=steps) if steps else None

    return answer


def chats(host: Host) -> list[Any]:
    """What the chat model was asked."""
    return [call.json for call in host.calls if call.path.endswith("/chat/completions")]


def embeds(host: Host) -> list[Any]:
    """What the embedding model was asked."""
    return [call.json["input"] for call in host.calls if call.path.endswith("/embeddings")]


def searches(*queries: str, **more: Any) -> Reply:
    """A model that asks for these searches in one turn."""
    calls = [
        Call(name="knowledge_search", arguments=json.dumps({"query": query}), id=f"call_{number}")
        for number, query in enumerate(queries)
    ]
    return Reply(calls=[*calls, *more.pop("also", ())], **more)


def cites(*files: str) -> Reply:
    """A model that says where it has it from."""
    return Reply(text=["Every half ", "hour", *(f" <|{file}|>" for file in files), "."])


class Filled:
    """A store with one file for each of the contents, in this order."""

    def __init__(self, client: openai.OpenAI, *contents: bytes, attributes: Any = None, **more: Any) -> None:
        self.id = client.vector_stores.create(**more).id
        self.files: list[str] = []
        for number, content in enumerate(contents):
            name = f"{number}.pdf" if content.startswith(b"%PDF") else f"{number}.txt"
            file = client.files.create(file=(name, content), purpose="assistants").id
            added = client.vector_stores.files.create_and_poll(
                file, vector_store_id=self.id, attributes=attributes and attributes[number]
            )
            assert added.status == "completed", added.last_error
            self.files.append(file)

    def tool(self, **more: Any) -> Any:
        """The declaration of a tool that searches it."""
        return {"type": "file_search", "vector_store_ids": [self.id], **more}


@pytest.fixture
def store(client: openai.OpenAI) -> Filled:
    """A store with the ferry's file."""
    return Filled(client, FERRY)


def found(response: Any) -> list[str]:
    """The names of the files that a response's searches have found."""
    calls = [item for item in response.output if item.type == "file_search_call"]
    return [result.filename for call in calls for result in call.results]


def told(request: Any) -> list[str]:
    """What a model was told of its searches."""
    texts = []
    for message in request["messages"]:
        if message["role"] == "tool":
            content = message["content"]
            texts.append(content if isinstance(content, str) else "".join(part["text"] for part in content))
    return texts


# ---------------------------------------------------------------- a search and its citation


def test_a_pdf_is_found_and_cited(server: Server, client: openai.OpenAI, host: Host) -> None:
    store = Filled(client, pdf(["The ferry to Seixal leaves", "every half hour."]))
    (file,) = store.files
    for _ in range(2):
        host.answer(searches("When does the ferry leave?"), cites(file))
    stream = server.stream(input="When?", tools=[store.tool()])
    assert [kind.removeprefix("response.") for kind in stream.types] == [
        *("created", "in_progress", "output_item.added", "file_search_call.in_progress", "file_search_call.searching"),
        *("file_search_call.completed", "output_item.done", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.annotation.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    response = client.responses.create(model=MODEL, input="When?", tools=[store.tool()])
    assert response.output_text == stream.text == "Every half hour."
    search, message = response.output
    assert search.type == "file_search_call"
    assert (search.queries, search.status, search.results) == (["When does the ferry leave?"], "completed", None)
    assert message.type == "message"
    (citation,) = message.content[0].annotations  # type: ignore[union-attr]
    citation_sent = {"type": "file_citation", "file_id": file, "filename": "0.pdf", "index": 15}
    assert citation.to_dict() == citation_sent
    assert stream.items[1]["content"][0]["annotations"] == [citation_sent]
    (seen,) = told(chats(host)[1])
    assert "The ferry to Seixal leaves\nevery half hour." in seen
    assert f"(cite as <|{file}|>)" in seen


@pytest.mark.parametrize("cut", [1, 7, 0])
def test_a_marker_never_shows_however_it_is_cut(server: Server, host: Host, store: Filled, cut: int) -> None:
    (file,) = store.files
    pieces = ["Every <", "half> hour ", f" <|{file[:9]}", f"{file[9:]}", "|>", f" <|{file}|", "> and <|not a file|>"]
    host.answer(searches("ferry"), Reply(text=pieces, cut=cut))
    stream = server.stream(input="When?", tools=[store.tool()])
    assert stream.text == "".join(stream.deltas()) == "Every <half> hour  and <|not a file|>"
    places = [annotation["index"] for annotation in stream.items[1]["content"][0]["annotations"]]
    assert places == [18, 18]
    assert stream.types.count("response.output_text.annotation.added") == 2


def test_an_answer_that_cites_nothing_stays_uncited(client: openai.OpenAI, host: Host, store: Filled) -> None:
    host.answer(searches("ferry"), Reply(text=["Every half hour <|file-0123456789abcdef|>."]))
    response = client.responses.create(model=MODEL, input="When?", tools=[store.tool()])
    assert response.output_text == "Every half hour."
    assert response.output[1].content[0].annotations == []  # type: ignore[union-attr]


def test_results_are_shown_to_who_asks_for_them(client: openai.OpenAI, host: Host) -> None:
    store = Filled(client, FERRY, attributes=[{"city": "Lisbon", "line": 3, "old": False}])
    talk = client.conversations.create()
    host.answer(searches("ferry"), cites(*store.files), cites(*store.files))
    common: Any = {"model": MODEL, "input": "When?", "conversation": talk.id}
    first = client.responses.create(**common, tools=[store.tool()], include=RESULTS)
    search = first.output[0]
    assert search.type == "file_search_call"
    assert search.results is not None
    (result,) = search.results
    assert (result.file_id, result.filename, result.text) == (store.files[0], "0.txt", FERRY.decode())
    assert result.attributes == {"city": "Lisbon", "line": 3.0, "old": False}
    assert 0 < (result.score or 0) <= 1
    sent_back: Any = [search.to_dict(), {"role": "user", "content": "Really?"}]
    again = client.responses.create(model=MODEL, input=sent_back)
    assert FERRY.decode() in told(chats(host)[-1])[0]
    for look in (
        lambda **more: client.responses.retrieve(first.id, **more).output,
        lambda **more: client.responses.input_items.list(again.id, **more).data,
        lambda **more: client.conversations.items.list(talk.id, **more).data,
    ):
        (hidden,), (shown,) = (
            [item for item in items if item.type == "file_search_call"] for items in (look(), look(include=RESULTS))
        )
        assert (hidden.queries, hidden.results) == (["ferry"], None)
        assert [each.text for each in shown.results] == [FERRY.decode()]


def test_the_best_of_several_stores_are_found(client: openai.OpenAI, host: Host, store: Filled) -> None:
    other = Filled(client, b"Nothing of ships.", b"The tram.")
    both = {**store.tool(), "vector_store_ids": [store.id, other.id]}
    for most, names in ((10, {"0.txt", "1.txt"}), (1, {"0.txt"})):
        host.answer(searches("ferry Seixal"), cites())
        tool: Any = {**both, "max_num_results": most}
        response = client.responses.create(model=MODEL, input="When?", tools=[tool], include=RESULTS)
        assert set(found(response)) == names
    assert response.output[0].results[0].file_id == store.files[0]  # type: ignore[union-attr,index]


def test_a_changed_attribute_is_filtered_by_at_once(client: openai.OpenAI, host: Host) -> None:
    store = Filled(client, FERRY, TRAM, attributes=[{"kind": "ship"}, {"kind": "rail"}])
    rail = {"type": "and", "filters": [{"type": "eq", "key": "kind", "value": "rail"}]}
    for names in (["1.txt"], ["0.txt"], []):
        host.answer(searches("leaves"), cites())
        tool = store.tool(filters=rail)
        assert found(client.responses.create(model=MODEL, input="?", tools=[tool], include=RESULTS)) == names
        kinds = ["rail", "ship"] if names == ["1.txt"] else ["ship", "ship"]
        for file, kind in zip(store.files, kinds, strict=True):
            client.vector_stores.files.update(file, vector_store_id=store.id, attributes={"kind": kind})


def test_ranking_options_say_what_is_good_enough(client: openai.OpenAI, host: Host) -> None:
    store = Filled(client, FERRY, TRAM)
    words = {"ranker": "auto", "score_threshold": 0.01, "hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
    for ranking, names in (({}, {"0.txt", "1.txt"}), (words, {"1.txt"}), ({"score_threshold": 1}, set())):
        host.answer(searches("tram" if names else "zeppelin"), cites())
        tool = store.tool(ranking_options=ranking)
        assert set(found(client.responses.create(model=MODEL, input="?", tools=[tool], include=RESULTS))) == names


def test_searches_of_one_turn_run_side_by_side(server: Server, client: openai.OpenAI, host: Host) -> None:
    store, gate = Filled(client, FERRY), Gate()
    host.by_request = held(gate)
    host.answer(searches("ferry", "tram"), searches("boat"), cites(*store.files))
    begun = len(host.calls)
    made = client.responses.create(model=MODEL, input="When?", tools=[store.tool()], background=True)
    host.called(begun + 3)
    assert embeds(host)[-2:] in ([["ferry"], ["tram"]], [["tram"], ["ferry"]])
    gate.open()
    response = until(lambda: client.responses.retrieve(made.id), lambda got: got.status == "completed")
    assert [item.type for item in response.output] == ["file_search_call"] * 3 + ["message"]
    assert [item.queries for item in response.output[:3]] == [["ferry"], ["tram"], ["boat"]]
    assert response.output_text == "Every half hour."
    assert len(told(chats(host)[-1])) == 3


# ---------------------------------------------------------------- further turns


def turns(server: Server, way: str, store: Filled) -> list[rules.Stream]:
    """Two turns, of which only the first declares the tool."""
    bodies: list[dict[str, Any]] = [{"input": "When?", "tools": [store.tool()]}, {"input": "Really?"}]
    if way == "socket":
        with connect(f"{server.url.replace('http', 'ws', 1)}/responses") as connection:
            seen: list[rules.Stream] = []
            for body in bodies:
                before = {"previous_response_id": seen[0].response["id"]} if seen else {}
                asked = {"type": "response.create", "model": MODEL, "store": False, **body, **before}
                connection.send(json.dumps(asked))
                frames = [str(connection.recv(timeout=20))]
                while json.loads(frames[-1])["type"] not in (*rules.TERMINAL, "error"):
                    frames.append(str(connection.recv(timeout=20)))
                seen.append(rules.check_frames(frames))
            return seen
    if way == "conversation":
        talk = server.post("/conversations", {}).json["id"]
        return [server.stream(conversation=talk, **body) for body in bodies]
    first = server.stream(**bodies[0])
    return [first, server.stream(previous_response_id=first.response["id"], **bodies[1])]


@pytest.mark.parametrize("way", ["chain", "conversation", "socket"])
def test_the_next_turn_sees_what_was_found_and_may_cite_it(server: Server, host: Host, store: Filled, way: str) -> None:
    (file,) = store.files
    host.answer(searches("ferry"), cites(file), Reply(text=[f"Yes <|{file}|>."]))
    first, second = turns(server, way, store)
    assert "results" not in first.items[0]
    assert (first.text, second.text) == ("Every half hour.", "Yes.")
    assert second.items[0]["content"][0]["annotations"][0]["file_id"] == file
    _, answer, last = chats(host)
    assert [message["role"] for message in last["messages"]] == ["user", "assistant", "tool", "assistant", "user"]
    assert last["messages"][1:3] == answer["messages"][1:3]
    assert FERRY.decode() in told(last)[0]
    assert f"Every half hour <|{file}|>." in json.dumps(last["messages"][3])


def test_a_background_stream_is_resumed_after_any_event(server: Server, host: Host, store: Filled) -> None:
    host.answer(searches("ferry"), cites(*store.files))
    body = {"model": MODEL, "input": "?", "tools": [store.tool()], "background": True, "stream": True}
    raw = server.post("/responses", body).body
    stream = rules.check(raw)
    frames = [frame + b"\n\n" for frame in raw.split(b"\n\n")[:-1]]
    assert len(frames) > 15
    path = f"/responses/{stream.response['id']}?stream=true"
    assert server.get(path).body == raw
    for k in range(len(frames) - 1):
        assert server.get(f"{path}&starting_after={k}").body == b"".join(frames[k + 1 :])


def test_another_process_shows_a_search_and_goes_on_from_it(
    server: Server, client: openai.OpenAI, host: Host, store: Filled, folder: Path
) -> None:
    (file,) = store.files
    gate = Gate()
    with running(settings(host), folder, process=True) as there:
        begun = len(host.calls)
        host.answer(searches("ferry"), Reply(text=["Every ", gate, f"half hour <|{file}|>."]), cites(file))
        body = {"model": MODEL, "input": "?", "tools": [store.tool()], "background": True}
        made = there.post("/responses", body).json["id"]
        host.called(begun + 3)
        gate.open()
        here = rules.check(server.get(f"/responses/{made}?stream=true").body)
        assert server.get(f"/responses/{made}?stream=true").body == there.get(f"/responses/{made}?stream=true").body
        assert here.text == "Every half hour."
        again = there.stream(previous_response_id=made, input="Really?")
        assert again.items[0]["content"][0]["annotations"][0]["file_id"] == file
        client.vector_stores.files.delete(file, vector_store_id=store.id)
        host.answer(searches("ferry"), cites(file))
        gone = there.stream(input="?", tools=[store.tool()], include=RESULTS)
        assert gone.items[0]["results"] == []


def test_a_killed_servers_run_makes_no_finished_call_and_no_finished_search_again(host: Host, tmp_path: Path) -> None:
    searching, answering = Gate(), Gate()
    slow = held(searching)

    def answer(request: Request) -> Reply | Raw | None:
        if request.path.endswith("/embeddings"):
            return slow(request) if request.json["input"] == ["tram"] else embedded(request)  # type: ignore[no-any-return]
        (query,) = {"ferry", "tram"} & set(request.json["messages"][0]["content"].split())
        if not told(request.json):
            return searches(query)
        return Reply(text=["Half ", answering, "said"]) if len(chats(host)) <= 3 else Reply(text=[f"About the {query}"])

    host.by_request = answer
    with running(settings(host), tmp_path, process=True) as server:
        with server.client() as client:
            store = Filled(client, FERRY)
            ids = [
                client.responses.create(model=MODEL, input=text, tools=[store.tool()], background=True).id
                for text in ("the ferry", "the tram")
            ]
        answering.wait()
        searching.wait()
        server.kill()
    asked = [chats(host), embeds(host)]
    assert [len(each) for each in asked] == [3, 3]
    searching.open()
    with running(settings(host), tmp_path, process=True) as server, server.client() as client:
        for made, query in zip(ids, ("ferry", "tram"), strict=True):
            response = until(lambda made=made: client.responses.retrieve(made), lambda got: got.status == "completed")
            (search,) = [item for item in response.output if item.type == "file_search_call"]
            assert (search.queries, search.status) == ([query], "completed")
            assert response.output[-1].content[0].text == f"About the {query}"
            rules.check(server.get(f"/responses/{response.id}?stream=true").body)
    assert len(chats(host)) == 5, "the answer that broke off, and the one that was not asked for yet"
    assert embeds(host)[3:] == [["tram"]], "the search that broke off"


# ---------------------------------------------------------------- what is not there, or fails


def test_a_deleted_file_is_neither_found_nor_cited(client: openai.OpenAI, host: Host) -> None:
    store = Filled(client, FERRY, TRAM)
    ferry, tram = store.files
    host.answer(searches("ferry"), cites(ferry))
    before = client.responses.create(model=MODEL, input="When?", tools=[store.tool()])
    client.files.delete(ferry)
    host.answer(searches("ferry"), cites(ferry, tram))
    response = client.responses.create(model=MODEL, input="When?", tools=[store.tool()], include=RESULTS)
    assert found(response) == ["1.txt"]
    cited = response.output[1].content[0].annotations  # type: ignore[union-attr]
    assert [annotation.file_id for annotation in cited] == [tram]  # type: ignore[union-attr]
    assert response.output_text == "Every half hour."
    client.responses.create(model=MODEL, input="Really?", previous_response_id=before.id)
    assert FERRY.decode() in told(chats(host)[-1])[0], "what was found stays in the response that found it"


def test_a_deleted_store_is_the_next_turns_404(client: openai.OpenAI, host: Host, store: Filled) -> None:
    host.answer(searches("ferry"), cites(*store.files))
    first = client.responses.create(model=MODEL, input="When?", tools=[store.tool()])
    client.vector_stores.delete(store.id)
    with pytest.raises(openai.NotFoundError, match=f"Vector store with id '{store.id}' not found"):
        client.responses.create(model=MODEL, input="?", tools=[store.tool()], previous_response_id=first.id)
    assert client.responses.retrieve(first.id, include=RESULTS).output[0].results  # type: ignore[union-attr]


def test_a_store_without_vectors_is_searched_by_words(client: openai.OpenAI, host: Host) -> None:
    store = Filled(client, FERRY, TRAM, extra_body={"embedding_model": ""})
    host.answer(searches("tram"), cites(*store.files))
    response = client.responses.create(model=MODEL, input="When?", tools=[store.tool()], include=RESULTS)
    assert found(response) == ["1.txt"]
    assert embeds(host) == []


def test_a_search_that_fails_is_told_to_the_model_and_its_item_says_so(
    server: Server, host: Host, store: Filled
) -> None:
    host.by_request = lambda request: status(503, "away") if request.path.endswith("/embeddings") else None
    host.answer(searches("ferry"), Reply(text=["I cannot look."]))
    stream = server.stream(input="When?", tools=[store.tool()], include=RESULTS)
    assert (stream.response["status"], stream.text) == ("completed", "I cannot look.")
    assert (stream.items[0]["status"], "results" in stream.items[0]) == ("failed", False)
    assert "response.file_search_call.completed" not in stream.types
    (seen,) = told(chats(host)[-1])
    assert seen.startswith("The search failed: ")
    assert "away" in seen


@pytest.mark.parametrize(
    ("declared", "code", "param"),
    [
        ({"vector_store_ids": None}, 400, "tools[0].vector_store_ids"),
        ({"vector_store_ids": []}, 400, "tools[0].vector_store_ids"),
        ({"vector_store_ids": ["vs_none"]}, 404, "tools[0].vector_store_ids[0]"),
        ({"max_num_results": 0}, 400, "tools[0].max_num_results"),
        ({"max_num_results": 51}, 400, "tools[0].max_num_results"),
        ({"filters": {"type": "eq", "key": "a"}}, 400, "tools[0].filters"),
        ({"filters": {"type": "like", "key": "a", "value": "b"}}, 400, "tools[0].filters.type"),
        ({"filters": {"type": "and"}}, 400, "tools[0].filters"),
        ({"filters": {"type": "in", "key": "a", "value": "b"}}, 400, "tools[0].filters"),
        ({"ranking_options": {"score_threshold": 2}}, 400, "tools[0].ranking_options.score_threshold"),
        (
            {"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}},
            400,
            "tools[0].ranking_options.hybrid_search",
        ),
    ],
)
def test_a_tool_that_cannot_be_is_refused(
    server: Server, host: Host, declared: dict[str, Any], code: int, param: str
) -> None:
    tool = {"type": "file_search", "vector_store_ids": ["vs_none"], **declared}
    got = server.post("/responses", {"model": MODEL, "input": "Hi", "tools": [tool]})
    assert (got.status, got.json["error"]["param"]) == (code, param), got.json
    assert got.json["error"]["type"] == "invalid_request_error"
    assert chats(host) == []


# ---------------------------------------------------------------- which tools are called


def test_the_model_is_made_to_search_once(client: openai.OpenAI, host: Host, store: Filled) -> None:
    host.answer(searches("ferry"), cites(*store.files))
    choice: Any = {"type": "file_search"}
    response = client.responses.create(model=MODEL, input="When?", tools=[store.tool(), FUNCTION], tool_choice=choice)
    assert response.output_text == "Every half hour."
    assert response.tool_choice.type == "file_search"  # type: ignore[union-attr]
    first, second = chats(host)
    assert first["tool_choice"] == {"type": "function", "function": {"name": "knowledge_search"}}
    assert second.get("tool_choice") in (None, "auto")
    assert [tool["function"]["name"] for tool in second["tools"]] == ["knowledge_search", "f"]


def test_searches_beyond_the_limit_are_not_made(client: openai.OpenAI, host: Host, store: Filled) -> None:
    host.answer(searches("ferry", "tram"), cites(*store.files))
    response = client.responses.create(model=MODEL, input="When?", tools=[store.tool()], max_tool_calls=1)
    assert [item.type for item in response.output] == ["file_search_call", "message"]
    assert "tools" not in chats(host)[1]


def test_a_turn_may_search_and_call_a_function_of_the_clients(client: openai.OpenAI, host: Host, store: Filled) -> None:
    host.answer(searches("ferry", also=[Call(name="f", id="call_f")]), cites(*store.files))
    tools: Any = [store.tool(), FUNCTION]
    first = client.responses.create(model=MODEL, input="When?", tools=tools)
    assert [(item.type, item.status) for item in first.output] == [  # type: ignore[union-attr]
        ("file_search_call", "completed"),
        ("function_call", "completed"),
    ]
    assert len(chats(host)) == 1
    answer: Any = {"type": "function_call_output", "call_id": "call_f", "output": "done"}
    second = client.responses.create(model=MODEL, previous_response_id=first.id, input=[answer], tools=tools)
    assert second.output_text == "Every half hour."
    assert second.output[0].content[0].annotations[0].file_id == store.files[0]  # type: ignore[union-attr]
    seen = told(chats(host)[1])
    assert FERRY.decode() in seen[0]
    assert seen[1] == "done"
