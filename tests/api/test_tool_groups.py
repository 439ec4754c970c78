"""Tool groups as Llama Stack's clients use them: registered, listed, and their tools called, on real MCP servers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from antiphon.testing.host import Call, Host, Raw, Reply, Request
from antiphon.testing.script import Gate
from antiphon.testing.server import Got, Server, running
from mcp_server import TOKEN, McpHost

LOOPBACK = {"ports": [], "allowed_networks": ["127.0.0.0/8"]}
LIQUID = {"liquid_name": "myawesomeliquid"}
FOUND = {"results": [{"url": "https://example.org/a", "title": "A", "content": "It is so.", "score": 0.9}]}
CLOSING = "Use them as supporting information only in answering this query.\n"


def settings(host: Host, mcp: McpHost) -> dict[str, Any]:
    """Antiphon with a connector and a search provider."""
    gmail = {"url": mcp.url("/auth/mcp"), "authorization": TOKEN, "allowed_tools": ["get_boiling_point"]}
    return {
        "hosts": {"scripted": {"base_url": host.url, "preset": "custom"}},
        "fetch": LOOPBACK,
        "web_search": {"providers": {"tavily": {"base_url": host.url, "key": "ours"}}},
        "mcp": {"list_s": 5, "groups_max": 3},
        "connectors": {"gmail": gmail},
    }


@pytest.fixture(scope="module")
def started(session_host: Host, session_mcp: McpHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(settings(session_host, session_mcp), tmp_path_factory.mktemp("groups")) as server:
        yield server


@pytest.fixture
def server(started: Server, host: Host, mcp: McpHost) -> Iterator[Server]:
    """A server whose host finds the same page always; what a test registers goes with it."""
    host.by_request = found
    yield started
    for group in started.get("/toolgroups").json["data"]:
        if group["source"] == "via_register_api":
            assert remove(started, group["identifier"]).status == 204


def found(request: Request) -> Raw | None:
    if not request.path.endswith("/search"):
        return None
    return Raw(headers=[("content-type", "application/json")], steps=[json.dumps(FOUND).encode()])


def register(server: Server, name: str, uri: str, **more: Any) -> Got:
    body = {"toolgroup_id": name, "provider_id": "model-context-protocol", "mcp_endpoint": {"uri": uri}, **more}
    return server.post("/toolgroups", body)


def registered(server: Server, name: str, uri: str, **more: Any) -> None:
    got = register(server, name, uri, **more)
    assert (got.status, got.body) == (200, b"null")


def remove(server: Server, name: str) -> Got:
    return server.ask("DELETE", f"/v1/toolgroups/{name}")


def invoke(server: Server, name: str, kwargs: Any = None, *, headers: Any = None, **more: Any) -> Got:
    return server.post("/tool-runtime/invoke", {"tool_name": name, "kwargs": kwargs or {}, **more}, headers)


def get(server: Server, path: str, headers: Any = None) -> Got:
    return server.ask("GET", f"/v1{path}", headers=headers)


def names(got: Got) -> list[str]:
    assert got.status == 200, got.body
    return [each["name"] for each in got.json["data"]]


def for_mcp(**headers: dict[str, str]) -> dict[str, str]:
    """The header in which a client sends what MCP servers want, by their addresses."""
    return {"X-LlamaStack-Provider-Data": json.dumps({"mcp_headers": headers})}


def said(got: Got) -> tuple[int, str]:
    return got.status, got.json["error"]["message"]


TOKENS = {"Authorization": f"Bearer {TOKEN}"}


# ---------------------------------------------------------------- groups


def test_what_is_there_is_shown_beside_what_was_registered(server: Server, mcp: McpHost) -> None:
    registered(server, "mcp::lab", mcp.url(), args={"celsius": True})
    groups = {group["identifier"]: group for group in server.get("/toolgroups").json["data"]}
    assert list(groups) == ["builtin::websearch", "builtin::rag", "gmail", "mcp::lab"]
    lab = {
        "identifier": "mcp::lab",
        "provider_resource_id": "mcp::lab",
        "provider_id": "model-context-protocol",
        "type": "tool_group",
        "owner": None,
        "source": "via_register_api",
        "mcp_endpoint": {"uri": mcp.url()},
        "args": {"celsius": True},
    }
    assert groups["mcp::lab"] == server.get("/toolgroups/mcp::lab").json == lab
    assert (groups["gmail"]["mcp_endpoint"], groups["gmail"]["provider_id"]) == (None, "model-context-protocol")
    assert mcp.asked == []


def test_a_group_can_be_registered_twice_but_not_as_another(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url())
    registered(server, "lab", mcp.url())
    message = "A tool group 'lab' is registered already, as another; unregister it first."
    assert said(register(server, "lab", mcp.url("/second"))) == (409, message)


def test_there_are_only_so_many_groups(server: Server, mcp: McpHost) -> None:
    for number in range(3):
        registered(server, f"lab{number}", mcp.url())
    assert said(register(server, "one-more", mcp.url()))[0] == 400
    registered(server, "lab0", mcp.url())


def test_what_is_unregistered_is_gone_with_its_tools(server: Server, mcp: McpHost) -> None:
    registered(server, "a/lab", mcp.url())
    assert invoke(server, "look").json["content"] == [{"type": "text", "text": "seen"}]
    got = remove(server, "a/lab")
    assert (got.status, got.body) == (204, b"")
    message = "Tool Group 'a/lab' not found. Use 'client.toolgroups.list()' to list available Tool Groups."
    assert said(get(server, "/toolgroups/a/lab")) == said(remove(server, "a/lab")) == (404, message)
    assert said(get(server, "/tools?toolgroup_id=a/lab")) == (404, message)
    assert said(invoke(server, "look")) == (404, "Tool 'look' not found")
    assert said(invoke(server, "a/lab/look")) == (404, "Tool 'a/lab/look' not found")


@pytest.mark.parametrize("name", ["gmail", "builtin::rag", "builtin::websearch"])
def test_what_no_client_registered_none_can_remove_or_replace(server: Server, mcp: McpHost, name: str) -> None:
    message = f"The tool group '{name}' is this server's own"
    assert said(remove(server, name)) == (409, f"{message} and cannot be unregistered.")
    assert said(register(server, name, mcp.url())) == (409, f"{message}: register another name.")


def test_a_group_of_the_servers_own_may_be_registered_as_it_is(server: Server) -> None:
    own = {"toolgroup_id": "builtin::rag", "provider_id": "rag-runtime"}
    assert server.post("/toolgroups", own).status == 200
    assert server.post("/toolgroups", {**own, "toolgroup_id": "builtin::wolfram_alpha"}).status == 404


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"mcp_endpoint": None}, "mcp_endpoint"),
        ({"mcp_endpoint": {"uri": "http://169.254.169.254/mcp"}}, "mcp_endpoint.uri"),
        ({"mcp_endpoint": {"uri": "http://user:pw@example.com/mcp"}}, "mcp_endpoint.uri"),
        ({"mcp_endpoint": {"uri": "file:///etc/passwd"}}, "mcp_endpoint.uri"),
        ({"mcp_endpoint": {}}, "mcp_endpoint.uri"),
        ({"toolgroup_id": ""}, "toolgroup_id"),
        ({"toolgroup_id": "a b"}, "toolgroup_id"),
        ({"toolgroup_id": None}, "toolgroup_id"),
        ({"provider_id": 5}, "provider_id"),
        ({"args": []}, "args"),
    ],
)
def test_what_cannot_be_registered_is_refused(server: Server, mcp: McpHost, changed: Any, param: str) -> None:
    body = {"toolgroup_id": "lab", "provider_id": "mcp", "mcp_endpoint": {"uri": mcp.url()}, **changed}
    got = server.post("/toolgroups", body)
    assert (got.status, got.json["error"]["param"]) == (400, param)


def test_groups_are_there_after_a_restart(host: Host, mcp: McpHost, tmp_path: Path) -> None:
    with running(settings(host, mcp), tmp_path) as server:
        registered(server, "lab", mcp.url(), args=LIQUID)
    with running(settings(host, mcp), tmp_path) as server:
        assert server.get("/toolgroups/lab").json["args"] == LIQUID
        assert invoke(server, "lab/get_boiling_point").json["content"] == [{"type": "text", "text": "-100"}]


# ---------------------------------------------------------------- tools


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_the_tools_of_a_group_are_listed_and_called(server: Server, mcp: McpHost, path: str) -> None:
    registered(server, "lab", mcp.url(path))
    listed = get(server, "/tools?toolgroup_id=lab")
    assert get(server, "/tool-runtime/list-tools?tool_group_id=lab").json == listed.json
    assert get(server, "/tools?toolgroup_id=lab/look").json == listed.json
    tool = next(each for each in listed.json["data"] if each["name"] == "greet_everyone")
    assert get(server, "/tools/greet_everyone").json == get(server, "/tools/lab/greet_everyone").json == tool
    assert (tool["toolgroup_id"], tool["metadata"]) == ("lab", {"endpoint": mcp.url(path)})
    assert tool["input_schema"]["required"] == ["url"]
    assert tool["output_schema"]["required"] == ["result"]
    got = invoke(server, "greet_everyone", {"url": "world"})
    nothing = {"error_message": None, "error_code": None, "metadata": None}
    assert got.json == {"content": [{"type": "text", "text": "Hello, world"}], **nothing}


def test_all_tools_are_those_of_the_servers_that_answer(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url())
    registered(server, "gone", "http://127.0.0.1:9/mcp")
    found = [(each["toolgroup_id"], each["name"]) for each in get(server, "/tools").json["data"]]
    assert found[:4] == [
        *(("builtin::websearch", "web_search"), ("builtin::rag", "insert_into_memory")),
        *(("builtin::rag", "knowledge_search"), ("gmail", "get_boiling_point")),
    ]
    assert ("lab", "look") in found
    assert get(server, "/tool-runtime/list-tools").json == get(server, "/tools").json


@pytest.mark.parametrize("spelt", ["mcp_endpoint[uri]={uri}", "mcp_endpoint={json}"])
def test_a_server_can_be_asked_that_is_not_registered(server: Server, mcp: McpHost, spelt: str) -> None:
    query = spelt.format(uri=quote(mcp.url("/second")), json=quote(json.dumps({"uri": mcp.url("/second")})))
    assert names(get(server, f"/tool-runtime/list-tools?{query}")) == ["get_boiling_point"]
    assert get(server, f"/tool-runtime/list-tools?{query}&tool_group_id=b").json["data"][0]["toolgroup_id"] == "b"


@pytest.mark.parametrize("endpoint", ["here", '{"url": 1}', "http://127.0.0.1:9/mcp", '{"uri": "http://10.0.0.1/"}'])
def test_an_endpoint_that_is_none_is_refused(server: Server, endpoint: str) -> None:
    got = get(server, f"/tool-runtime/list-tools?mcp_endpoint={quote(endpoint)}")
    assert (got.status, got.json["error"]["param"]) == (400, "mcp_endpoint")


def test_a_tool_that_two_groups_have_is_named_with_its_group(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url("/second"))
    message = (
        "Several tool groups have a tool 'get_boiling_point'. Name the one that is meant:"
        " 'gmail/get_boiling_point', 'lab/get_boiling_point'."
    )
    assert said(invoke(server, "get_boiling_point", {"city": "Rome"})) == (400, message)
    assert said(get(server, "/tools/get_boiling_point")) == (400, message)
    assert invoke(server, "lab/get_boiling_point", {"city": "Rome"}).json["content"][0]["text"] == "99 in Rome"
    assert invoke(server, "gmail/get_boiling_point", LIQUID).json["content"][0]["text"] == "-100"


def test_a_tool_of_the_servers_own_is_meant_by_its_name_alone(server: Server, mcp: McpHost) -> None:
    mcp.offered = [{"name": "web_search", "parameters": {"type": "object"}}]
    mcp.answers = {'web_search {"query": "x"}': "not the web"}
    registered(server, "lab", mcp.url("/played"))
    assert "It is so." in invoke(server, "web_search", {"query": "x"}).json["content"]
    assert mcp.asked == []
    assert invoke(server, "lab/web_search", {"query": "x"}).json["content"][0]["text"] == "not the web"


def test_a_groups_name_may_begin_with_anothers(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url())
    registered(server, "lab/b", mcp.url("/second"))
    assert names(get(server, "/tools?toolgroup_id=lab/b")) == ["get_boiling_point"]
    assert get(server, "/toolgroups/lab/b").json["mcp_endpoint"] == {"uri": mcp.url("/second")}
    assert invoke(server, "lab/b/get_boiling_point", {"city": "Rome"}).json["content"][0]["text"] == "99 in Rome"


def test_of_a_connector_only_the_allowed_tools_are_there(server: Server, mcp: McpHost) -> None:
    assert names(get(server, "/tools?toolgroup_id=gmail")) == ["get_boiling_point"]
    assert said(invoke(server, "gmail/pay", {"amount": 1})) == (404, "Tool 'gmail/pay' not found")
    assert mcp.calls["pay"] == 0


def test_a_groups_arguments_hold_where_a_call_says_nothing_else(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url(), args={**LIQUID, "celsius": False})
    texts = [
        invoke(server, "lab/get_boiling_point", kwargs).json["content"][0]["text"]
        for kwargs in ({}, {"celsius": True}, {"liquid_name": "water"})
    ]
    assert texts == ["-212", "-100", "-1"]


def test_what_a_tool_answers_is_shown_as_clients_read_it(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url())
    image = invoke(server, "picture").json["content"]
    assert image[0]["type"] == "image"
    assert image[0]["image"]["url"]["uri"].startswith("data:image/png;base64,iVBOR")
    assert json.loads(invoke(server, "facts").json["content"][0]["text"]) == {"one": 1}
    failed = invoke(server, "fail", {"why": "no"})
    assert (failed.status, failed.json["error_code"]) == (200, 1)
    assert failed.json["content"] == [{"type": "text", "text": "Error executing tool fail"}]
    assert failed.json["error_message"] == "Error executing tool fail"
    assert invoke(server, "pay").json["error_code"] == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kwargs": {}}, "tool_name"),
        ({"tool_name": "look"}, "kwargs"),
        ({"tool_name": "look", "kwargs": []}, "kwargs"),
        ({"tool_name": "look", "kwargs": {}, "authorization": "a\nb"}, "authorization"),
        ({"tool_name": "knowledge_search", "kwargs": {"vector_store_ids": ["vs_1"]}}, "kwargs.query"),
        ({"tool_name": "knowledge_search", "kwargs": {"query": "x"}}, "vector_store_ids"),
        ({"tool_name": "web_search", "kwargs": {"query": 5}}, "kwargs.query"),
    ],
)
def test_a_call_that_says_too_little_is_refused(server: Server, body: Any, param: str) -> None:
    got = server.post("/tool-runtime/invoke", body)
    assert (got.status, got.json["error"]["param"]) == (400, param)


# ---------------------------------------------------------------- who may ask, and who answers


@pytest.mark.parametrize("path", ["/auth/mcp", "/auth/sse"])
def test_a_server_that_wants_a_token_gets_the_clients_and_no_other_does(
    server: Server, mcp: McpHost, path: str
) -> None:
    registered(server, "lab", mcp.url(path))
    registered(server, "open", mcp.url("/second"))
    message = "Tool group 'lab': The server answered with HTTP status 401: it wants authentication."
    for got in (invoke(server, "lab/look"), get(server, "/tools?toolgroup_id=lab"), get(server, "/tools")):
        assert said(got) == (401, message)
    assert said(invoke(server, "look")) == (401, message)
    mine = for_mcp(**{mcp.url(path): TOKENS, mcp.url("/elsewhere"): {"x-other": "1"}, "no address": {"x": "1"}})
    assert invoke(server, "lab/look", headers=mine).json["content"][0]["text"] == "seen"
    assert invoke(server, "look", headers=mine).json["content"][0]["text"] == "seen"
    assert "look" in names(get(server, "/tools", mine))
    assert invoke(server, "lab/look", authorization=TOKEN).json["content"][0]["text"] == "seen"
    assert "look" in names(get(server, f"/tool-runtime/list-tools?tool_group_id=lab&authorization={TOKEN}"))
    assert all("authorization" not in each.headers for each in mcp.asked if each.path == "/second")
    assert all("x-other" not in each.headers for each in mcp.asked)


def test_a_token_is_sent_to_the_one_server_that_it_is_for(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url("/auth/mcp"))
    registered(server, "open", mcp.url("/second"))
    status, message = said(invoke(server, "look", authorization=TOKEN))
    assert (status, message) == (400, "A token is for one server: name the tool with its group, as in 'GROUP/look'.")
    assert get(server, f"/tool-runtime/list-tools?authorization={TOKEN}").status == 400
    assert mcp.asked == []


def test_a_token_is_kept_nowhere(host: Host, mcp: McpHost, tmp_path: Path) -> None:
    with running({**settings(host, mcp), "log_level": "debug", "connectors": {}}, tmp_path, process=True) as server:
        registered(server, "lab", mcp.url("/auth/mcp"))
        mine = for_mcp(**{mcp.url("/auth/mcp"): TOKENS})
        assert invoke(server, "look", headers=mine).status == 200
        assert invoke(server, "lab/look", authorization=TOKEN).status == 200
        assert get(server, f"/tool-runtime/list-tools?tool_group_id=lab&authorization={TOKEN}").status == 200
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any("lab" in file.read_bytes().decode(errors="replace") for file in written)
    assert [file.name for file in written if TOKEN.encode() in file.read_bytes()] == []


@pytest.mark.parametrize(
    "value", ["no object", {"http://a/": "x"}, {"http://a/": {"x": "a\nb"}}, {"http://a/": {"x": 5}}]
)
def test_headers_that_are_none_are_refused(server: Server, value: Any) -> None:
    header = {"X-LlamaStack-Provider-Data": json.dumps({"mcp_headers": value})}
    assert get(server, "/tools", header).json["error"]["code"] == "invalid_header"


@pytest.mark.parametrize(
    ("uri", "status", "why"),
    [
        ("http://127.0.0.1:9/mcp", 502, "127.0.0.1:9"),
        ("{mcp}/bad/broken", 502, "HTTP status 500"),
        ("{mcp}/bad/forbidden", 502, "HTTP status 403"),
        ("{mcp}/bad/endless", 502, "larger than is allowed"),
        ("{mcp}/bad/html", 502, ""),
    ],
)
def test_a_server_that_fails_is_named(server: Server, mcp: McpHost, uri: str, status: int, why: str) -> None:
    registered(server, "lab", uri.format(mcp=mcp.root))
    for got in (invoke(server, "lab/look"), get(server, "/tools?toolgroup_id=lab"), invoke(server, "look")):
        code, message = said(got)
        assert (code, message.startswith("Tool group 'lab': ")) == (status, True)
        assert why in message


def test_a_server_that_is_slow_is_given_up(host: Host, mcp: McpHost, tmp_path: Path) -> None:
    hasty = {**settings(host, mcp), "mcp": {"list_s": 0.3}, "timeouts": {"tool_s": 0.3}}
    mcp.gates = {"g": Gate()}
    with running(hasty, tmp_path) as server:
        registered(server, "lab", mcp.url())
        registered(server, "hangs", mcp.url("/bad/hang"))
        status, message = said(invoke(server, "lab/wait", {"gate": "g"}))
        assert (status, "0.3" in message) == (504, True)
        assert get(server, "/tools?toolgroup_id=hangs").status == 504


def test_a_tool_that_may_have_run_is_not_run_again_under_a_key(server: Server, mcp: McpHost) -> None:
    registered(server, "lab", mcp.url())
    key = {"Idempotency-Key": "pay-once"}
    first = invoke(server, "pay", {"amount": 5}, headers=key)
    again = invoke(server, "pay", {"amount": 5}, headers=key)
    assert first.json == again.json
    assert mcp.calls["pay"] == 1


# ---------------------------------------------------------------- built-in groups


def test_the_web_is_searched_as_a_model_would_be_told(server: Server, host: Host) -> None:
    got = invoke(server, "web_search", {"query": "Is it so?"})
    told = json.loads(got.json["content"])
    assert (told["query"], told["top_k"][0]["url"]) == ("Is it so?", "https://example.org/a")
    assert get(server, "/tools/web_search").json["input_schema"]["required"] == ["query"]


def test_without_a_search_provider_there_is_no_such_group(host: Host, mcp: McpHost, tmp_path: Path) -> None:
    key = {"X-LlamaStack-Provider-Data": json.dumps({"tavily_search_api_key": "mine"})}
    with running({**settings(host, mcp), "web_search": {}}, tmp_path) as server:
        assert get(server, "/toolgroups/builtin::websearch").status == 404
        assert invoke(server, "builtin::websearch/web_search", {"query": "x"}).status == 404
        assert get(server, "/toolgroups/builtin::websearch", key).status == 200


FERRY = {"document_id": "ferry", "content": "The ferry to Seixal leaves every half hour.", "metadata": {"line": 7}}
TRAM = {"document_id": "tram", "content": [{"type": "text", "text": "The last tram leaves at midnight."}]}


def store_with(server: Server, *documents: Any, **more: Any) -> str:
    """A vector store with these documents in it."""
    id: str = server.post("/vector_stores", {"name": "Lisbon"}).json["id"]
    body = {"documents": documents, "vector_db_id": id, "chunk_size_in_tokens": 128, **more}
    got = server.post("/tool-runtime/rag-tool/insert", body)
    assert (got.status, got.body) == (200, b"null"), got.body
    return id


def test_documents_are_found_as_soon_as_they_are_inserted(server: Server) -> None:
    store = store_with(server, FERRY, TRAM)
    got = invoke(server, "knowledge_search", {"query": "ferry", "vector_store_ids": [store]})
    files = server.get(f"/vector_stores/{store}/files").json["data"]
    ferry = next(file for file in files if file["attributes"]["document_id"] == "ferry")
    texts = [part["text"] for part in got.json["content"]]
    chunk = texts[1].partition("'chunk_id': '")[2].partition("'")[0]
    metadata = {"chunk_id": chunk, "document_id": "ferry", "source": "ferry.txt", "line": 7.0}
    assert texts == [
        "knowledge_search tool found 1 chunks:\nBEGIN of knowledge_search tool results.\n",
        f"Result 1\nContent: {FERRY['content']}\nMetadata: {metadata}\n",
        "END of knowledge_search tool results.\n",
        f'The above results were retrieved to help answer the user\'s query: "ferry". {CLOSING}',
    ]
    assert chunk != ""
    found = got.json["metadata"]
    assert (found["document_ids"], found["vector_db_ids"]) == ([ferry["id"]], [store])
    assert (found["chunks"], len(found["scores"])) == ([FERRY["content"]], 1)
    assert ferry["chunking_strategy"]["static"] == {"max_chunk_size_tokens": 128, "chunk_overlap_tokens": 32}


def test_a_tool_inserts_and_a_route_searches(server: Server) -> None:
    store = store_with(server)
    given = {"documents": [FERRY], "vector_store_id": store}
    assert invoke(server, "insert_into_memory", given).json["content"] is None
    asked = {"content": {"type": "text", "text": "ferry"}, "vector_db_ids": [store]}
    config = {"chunk_template": "{index}: {chunk.content} {other}", "mode": "keyword", "max_chunks": 1}
    got = server.post("/tool-runtime/rag-tool/query", {**asked, "query_config": config})
    assert got.json["content"][1]["text"] == f"1: {FERRY['content']} {{other}}"
    nothing = server.post("/tool-runtime/rag-tool/query", {**asked, "content": "zeppelin"})
    assert (nothing.json["content"], nothing.json["metadata"]["chunks"]) == (None, [])
    assert invoke(server, "knowledge_search", {"query": "zeppelin", "vector_db_ids": [store]}).json["content"] == []


def test_a_document_may_be_an_address(server: Server, host: Host) -> None:
    store = store_with(server, {"document_id": "page", "content": {"uri": f"{host.url}/models"}})
    got = invoke(server, "knowledge_search", {"query": "scripted-model", "vector_store_ids": [store]})
    assert "'source': 'page.json'" in got.json["content"][1]["text"]


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"content": ""}, "documents[0].content"),
        ({"content": []}, "documents[0].content"),
        ({"content": "http://169.254.169.254/x"}, "documents[0].content"),
        ({"content": "data:text/plain;base64,AAAA"}, "documents[0].content"),
        ({"metadata": {"a": [1]}}, "documents[0].metadata"),
        ({"content": "%PDF-1.4 no", "mime_type": "application/pdf"}, "documents[0]"),
    ],
)
def test_a_document_that_cannot_be_kept_is_an_error(server: Server, document: Any, param: str) -> None:
    store = store_with(server)
    body = {"documents": [{**FERRY, **document}], "vector_store_id": store}
    got = server.post("/tool-runtime/rag-tool/insert", body)
    assert (got.status, got.json["error"]["param"]) == (400, param)


def test_a_store_that_is_not_there_is_said(server: Server) -> None:
    body = {"documents": [FERRY], "vector_store_id": "vs_none"}
    assert server.post("/tool-runtime/rag-tool/insert", body).status == 404
    assert invoke(server, "knowledge_search", {"query": "x", "vector_store_ids": ["vs_none"]}).status == 404


@pytest.mark.parametrize(
    ("config", "param"),
    [
        ({"chunk_template": "{index}"}, "query_config.chunk_template"),
        ({"max_chunks": 0}, "query_config.max_chunks"),
        ({"query_generator_config": {"type": "llm", "model": "m"}}, "query_config.query_generator_config.type"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused(server: Server, config: Any, param: str) -> None:
    body = {"content": "x", "vector_store_ids": ["vs_1"], "query_config": config}
    got = server.post("/tool-runtime/rag-tool/query", body)
    assert (got.status, got.json["error"]["param"]) == (400, param)


# ---------------------------------------------------------------- in a response


def test_a_response_uses_a_registered_group_as_it_does_a_connector(server: Server, host: Host, mcp: McpHost) -> None:
    registered(server, "mcp::lab", mcp.url("/auth/mcp"), args=LIQUID)
    host.answer(Reply(calls=[Call(name="get_boiling_point")]), Reply(text=["It is -100."]))
    tool = {"type": "mcp", "server_label": "lab", "connector_id": "mcp::lab", "require_approval": "never"}
    asked = {"model": "scripted/scripted-model", "input": "Boiling point?"}
    got = server.post("/responses", {**asked, "tools": [{**tool, "authorization": TOKEN}]})
    listing, call, message = got.json["output"]
    assert (listing["type"], call["arguments"], call["output"]) == ("mcp_list_tools", "{}", "-100")
    assert message["content"][0]["text"] == "It is -100."
    assert remove(server, "mcp::lab").status == 204
    got = server.post("/responses", {**asked, "tools": [tool]})
    assert (got.status, got.json["error"]["param"]) == (404, "tools[0].connector_id")
