"""Web search in the loop: items, events, citations, filters, pages, and who is asked."""

import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec.structs import replace

from antiphon.engine.prepare import prepare_count
from antiphon.engine.run import Caller as Asking
from antiphon.errors import InvalidRequest, Unsupported, Upstream
from antiphon.fetch import Fetched
from antiphon.ids import page_id
from antiphon.models.base import NO_ACCESS, Access, CallArguments, CallStart, Choice, Finish
from antiphon.testing.provider import Script, text
from antiphon.tooling import WebSearchConfig
from antiphon.tools.base import Caller
from antiphon.tools.web.base import Result
from antiphon.tools.web.pages import Pages, passages
from antiphon.tools.web_search import Providers, WebSearch, open_providers
from antiphon.vectors.base import Block, Document
from antiphon.wire.events import event_type
from antiphon.wire.items import Memory, WebSearchCall
from antiphon.wire.tools import WEB_SEARCH, WebSearchTool

TOOL = {"type": "web_search"}
PAGE = "https://example.org/a"
TEMPLATE = WebSearchConfig(header="{count} for {query}\n", result="[{index}] {title} {url} {marker}\n", footer="END")


class Web:
    """A search provider that finds the same pages whatever it is asked; its first may be an exception."""

    def __init__(self, *found):
        self.found, self.asked = found, []

    async def search(self, wanted, _access):
        self.asked.append(wanted)
        if self.found and isinstance(self.found[0], Exception):
            raise self.found[0]
        return [
            Result(url=url, title=title, snippet="s", told={"url": url, "title": title}) for url, title in self.found
        ]


class Anybody:
    """An endpoint that may always be asked."""

    name = "web"

    def usable(self, _access):
        return True


class Fetching:
    """Pages by URL."""

    def __init__(self, **_pages):
        self.pages = {PAGE: b"Zero.\nOne fish.\nTwo fish."}

    async def get(self, url, *, param=None, replay):
        del param, replay
        if url not in self.pages:
            raise InvalidRequest("The URL could not be fetched: 404.")
        return Fetched(content=self.pages[url], content_type="text/html", name="a")


class Reading:
    """Text is text."""

    async def parse(self, source: AsyncIterator[bytes], filename: str) -> Document:
        assert filename == "page.html"
        content = b"".join([piece async for piece in source]).decode()
        return Document(blocks=tuple(Block(text=line) for line in content.splitlines()))


def tools(web, config=WebSearchConfig(), pages=None):  # noqa: B008
    served = WebSearch(Providers([(Anybody(), web)], "", replaying=False), pages, config)
    return dict.fromkeys(WEB_SEARCH, served)


def calling(name, **arguments):
    return Script([[CallStart(0, "c", name), CallArguments(0, json.dumps(arguments)), Finish("calls")]])


def types(events):
    return [event_type(event).removeprefix("response.") for event in events]


@pytest.mark.parametrize("name", WEB_SEARCH)
async def test_the_model_is_told_what_tavily_would_say_to_llama_stack(bench, name):
    web = Web((PAGE, "A"))
    bench = bench(calling("web_search", query="q"), text("Yes."), tools=tools(web))
    events = await bench.events(input="hi", tools=[{"type": name}])
    assert types(events)[2:7] == [
        *("output_item.added", "web_search_call.in_progress", "web_search_call.searching"),
        *("web_search_call.completed", "output_item.done"),
    ]
    function = bench.provider.requests[0][0].functions[0]
    assert (function.name, function.description) == ("web_search", "Search the web for information")
    assert bench.asked().items[2].output == '{"query": "q", "top_k": [{"url": "https://example.org/a", "title": "A"}]}'
    call = events[-1].response.output[0]
    assert (call.action, call.results) == ({"type": "search", "query": "q", "queries": ["q"]}, None)


async def test_sources_and_results_are_shown_to_who_asks(bench):
    bench = bench(calling("web_search", query="q"), text("Yes."), tools=tools(Web((PAGE, "A"))))
    include = ["web_search_call.action.sources", "web_search_call.results"]
    call = (await bench.response(input="hi", tools=[TOOL], include=include)).output[0]
    assert call.action["sources"] == [{"type": "url", "url": PAGE}]
    assert call.results == [{"url": PAGE, "title": "A", "snippet": "s"}]


async def test_a_cited_page_has_true_indexes_and_is_a_marker_again_in_the_next_turn(bench):
    marker = f"<|{page_id(PAGE)}|>"
    served = tools(Web((PAGE, "A")), TEMPLATE)
    bench = bench(calling("web_search", query="q"), text(f"It is so {marker}."), text("Ok"), tools=served)
    events = await bench.events(input="hi", tools=[TOOL])
    assert bench.asked().items[2].output == f"1 for q\n[1] A {PAGE} {marker}\nEND"
    first = events[-1].response
    part = first.output[1].content[0]
    (note,) = part.annotations
    assert part.text == f"It is so ([example.org]({PAGE}))."
    assert part.text[note["start_index"] : note["end_index"]] == f"[example.org]({PAGE})"
    assert (note["type"], note["url"], note["title"]) == ("url_citation", PAGE, "A")
    assert [event.annotation for event in events if event_type(event).endswith("annotation.added")] == [note]
    await bench.response(input="and?", previous_response_id=first.id)
    assert bench.asked().items[3].content[0].text == f"It is so {marker}."


async def test_what_the_filters_exclude_is_never_told(bench):
    web = Web((PAGE, "A"), ("https://bad.org/", "B"), ("https://sub.example.org/x", "C"))
    bench = bench(calling("web_search", query="q"), text("Yes."), tools=tools(web, TEMPLATE))
    filters = {"allowed_domains": ["example.org"], "blocked_domains": ["sub.example.org"]}
    tool = {**TOOL, "filters": filters, "search_context_size": "high", "user_location": {"country": "NO"}}
    await bench.response(input="hi", tools=[tool])
    (wanted,) = web.asked
    assert (wanted.count, wanted.allowed, wanted.blocked, wanted.location.country) == (
        *(10, ("example.org",), ("sub.example.org",), "NO"),
    )
    assert bench.asked().items[2].output.startswith("1 for q\n[1] A ")


async def test_a_domain_that_is_none_is_the_clients_error(bench):
    tool = {**TOOL, "filters": {"allowed_domains": ["nowhere"]}}
    with pytest.raises(InvalidRequest, match="'nowhere' is no domain") as raised:
        await bench(tools=tools(Web())).prepared(input="hi", tools=[tool])
    assert raised.value.param == "tools[0].filters.allowed_domains[0]"


@pytest.mark.parametrize(
    ("found", "arguments", "told"),
    [
        (Upstream("The provider is away."), {"query": "q"}, "The search failed: The provider is away."),
        ((PAGE, "A"), {"question": "q"}, "The search failed: The arguments do not fit"),
        ((PAGE, "A"), {"query": " "}, "The search failed: An argument is empty."),
    ],
)
async def test_a_search_that_fails_is_told_to_the_model(bench, found, arguments, told):
    bench = bench(calling("web_search", **arguments), text("Sorry."), tools=tools(Web(found)))
    response = await bench.response(input="hi", tools=[TOOL])
    assert [item.status for item in response.output] == ["failed", "completed"]
    assert bench.asked().items[2].output.startswith(told)


async def test_pages_are_opened_and_searched_within_the_filters(bench):
    pages = Pages(Fetching(), Reading(), chars_max=12)
    script = [calling("open_page", url=PAGE), calling("find_in_page", url=PAGE, pattern="FISH")]
    script += [calling("open_page", url="https://bad.org/"), calling("open_page", url=f"{PAGE}b"), text("Ok")]
    bench = bench(*script, tools=tools(Web(), pages=pages))
    tool = {**TOOL, "filters": {"allowed_domains": ["example.org"]}}
    response = await bench.response(input="hi", tools=[tool])
    assert [function.name for function in bench.asked().functions] == ["web_search", "open_page", "find_in_page"]
    assert [item.action for item in response.output[:2]] == [
        {"type": "open_page", "url": PAGE},
        {"type": "find_in_page", "url": PAGE, "pattern": "FISH"},
    ]
    assert [item.status for item in response.output[:4]] == ["completed", "completed", "failed", "failed"]
    told = [item.output for item in bench.asked().items if hasattr(item, "output")]
    assert told == [
        "Zero.\n\nOne f\n[The page has 27 characters; the rest is left out.]",
        "Zero.\n\nOne f",
        "Opening the page failed: Pages of this domain may not be opened.",
        "Opening the page failed: The URL could not be fetched: 404.",
    ]


async def test_without_web_access_no_page_is_opened(bench):
    pages = Pages(Fetching(), Reading(), chars_max=100)
    bench = bench(text("Ok"), tools=tools(Web(), pages=pages))
    await bench.response(input="hi", tools=[{**TOOL, "external_web_access": False}])
    assert [function.name for function in bench.asked().functions] == ["web_search"]


def test_passages_are_what_stands_around_and_never_twice():
    filler = "." * 1000
    assert passages(f"{filler}fish fish{filler}Fish", "fish", 10_000).count("\n[...]\n") == 1
    assert passages("nothing", "fish", 100) == ""


async def test_a_search_that_a_client_sends_back_is_seen_with_what_it_says():
    served = tools(Web())["web_search"]
    call, answer = served.seen(WebSearchCall(id="ws_1", action={"type": "search", "queries": ["a", "b"]}))
    assert (call.name, call.arguments, answer.output) == (
        *("web_search", '{"query":"a b"}', "What this search found was not kept."),
    )
    opened = WebSearchCall(id="ws_2", action={"type": "open_page", "url": PAGE}, results=[{"url": PAGE}])
    call, answer = served.seen(opened)
    assert (call.name, json.loads(call.arguments), json.loads(answer.output)) == (
        *("open_page", {"url": PAGE}, [{"url": PAGE}]),
    )


async def test_the_first_provider_with_a_key_is_asked_and_without_any_the_tool_is_refused():
    def usable(config, keys=(), *, replaying=False):
        found = open_providers(config, None, replaying=replaying).find(Access(keys=dict(keys)))
        return type(found).__name__

    def providers(**keys):
        return {name: {"key": key} for name, key in keys.items()}

    def config(chosen="", **keys):
        return msgspec.convert({"provider": chosen, "providers": providers(**keys)}, WebSearchConfig)

    assert usable(config(brave="k", exa="k")) == "Brave"
    assert usable(config("exa", brave="k", exa="k")) == "Exa"
    assert usable(config(), {"brave_search_api_key": "mine"}) == "Brave"
    assert usable(config(), replaying=True) == "Tavily"
    assert usable(config()) == "NoneType"
    served = WebSearch(open_providers(config(), None, replaying=False), None, config())
    with pytest.raises(Unsupported, match="TAVILY_API_KEY"):
        await served.check(WebSearchTool(), Caller(owner="me", access=Access()), "tools[0]")


async def test_a_call_that_was_made_is_seen_with_what_it_told():
    memory = Memory(call_id="c", name="web_search", arguments="{}", output="found")
    call, answer = tools(Web())["web_search"].seen(WebSearchCall(memory=memory))
    assert (call.call_id, call.arguments, answer.output) == ("c", "{}", "found")


@pytest.mark.parametrize(
    ("changed", "known"),
    [
        ({}, True),
        ({"status": None}, True),
        ({"action": {"type": "search", "query": "q", "queries": []}}, True),
        ({"action": {"type": "search", "query": "another"}}, False),
        ({"id": "ws_1"}, False),
    ],
)
async def test_a_search_sent_back_as_it_was_shown_is_known_with_what_it_found(bench, changed, known):
    bench = bench(calling("web_search", query="q"), text("Yes."), text("Sure."), tools=tools(Web((PAGE, "A"))))
    first = await bench.response(input="hi", tools=[TOOL])
    shown = {"type": "web_search_call", "id": first.output[0].id, "status": "completed"}
    shown["action"] = {"type": "search", "query": "q", "queries": ["q"]}
    await bench.response(input=[{**shown, **changed}, {"role": "user", "content": "Sure?"}])
    assert (PAGE in str(bench.asked().items)) == known


async def test_of_a_deleted_response_no_search_is_known(bench):
    bench = bench(calling("web_search", query="q"), text("Yes."), text("Sure."), tools=tools(Web((PAGE, "A"))))
    first = await bench.response(input="hi", tools=[TOOL])
    await bench.engine.responses.delete("me", first.id)
    action = {"type": "search", "query": "q"}
    again = {"type": "web_search_call", "id": first.output[0].id, "status": "completed", "action": action}
    await bench.response(input=[again, {"role": "user", "content": "Sure?"}])
    assert PAGE not in str(bench.asked().items)


# ---------------------------------------------------------------- where nobody can be asked

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
NOBODY = Providers([], "", replaying=False)
CHOICES = [
    "required",
    *({"type": name} for name in ("web_search", "web_search_preview")),
    {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
]


def absent(**config):
    return dict.fromkeys(WEB_SEARCH, WebSearch(NOBODY, None, WebSearchConfig(**config)))


@pytest.mark.parametrize("name", WEB_SEARCH)
async def test_without_a_provider_the_tool_is_left_out_and_the_client_told(bench, name):
    run = await bench(tools=absent()).prepared(input="hi", tools=[FUNCTION, {"type": name}, {"type": "shell"}])
    assert [function.name for function in run.request.functions] == ["f", "shell"]
    assert [*run.offers] == ["f", "shell"]
    assert [type(tool).__name__ for tool in run.response.tools] == ["FunctionTool", "ShellTool"]
    assert run.warnings == ("tools[1] (web_search_not_configured)",)


async def test_what_is_left_out_is_not_counted(bench):
    bench = bench(tools=absent())
    create = bench.create(input="hi", tools=[TOOL, FUNCTION])
    request = await prepare_count(bench.engine, create, Asking(owner="me", access=NO_ACCESS, seed=b""))
    assert [function.name for function in request.functions] == ["f"]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
async def test_a_choice_of_what_was_left_out_is_refused(bench, choice):
    with pytest.raises(Unsupported, match="TAVILY_API_KEY") as refused:
        await bench(tools=absent()).prepared(input="hi", tools=[TOOL], tool_choice=choice)
    assert (refused.value.param, refused.value.code) == ("tools[0].type", "web_search_not_configured")


async def test_a_choice_among_what_is_left_holds(bench):
    run = await bench(tools=absent()).prepared(input="hi", tools=[TOOL, FUNCTION], tool_choice="required")
    assert run.request.choice == Choice(mode="required")


async def test_where_it_is_to_be_refused_or_all_must_be_obeyed_the_tool_is_refused(bench):
    strict = bench(tools=absent())
    strict.engine = replace(strict.engine, strict=True)
    for refusing in (bench(tools=absent(missing="refuse")), strict):
        with pytest.raises(Unsupported) as refused:
            await refusing.prepared(input="hi", tools=[FUNCTION, TOOL])
        assert (refused.value.param, refused.value.code) == ("tools[1].type", "web_search_not_configured")


async def test_errors_name_the_place_that_a_tool_has_in_the_request(bench):
    there = WebSearch(Providers([(Anybody(), Web())], "", replaying=False), None, WebSearchConfig(name="search"))
    bench = bench(tools={**absent(), "web_search_2025_08_26": there})
    odd = {"type": "web_search_2025_08_26", "filters": {"allowed_domains": ["a/b"]}}
    for third, param in ((FUNCTION, "tools[2]"), (odd, "tools[2].filters.allowed_domains[0]")):
        with pytest.raises(InvalidRequest) as refused:
            await bench.prepared(input="hi", tools=[TOOL, FUNCTION, third])
        assert refused.value.param == param
