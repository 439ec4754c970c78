"""Deferred tools: hidden until they are found, found by words, and still there in later turns."""

import json
import math
from array import array

import msgspec
import pytest

from antiphon.engine.follow import follow
from antiphon.engine.perform import perform
from antiphon.errors import InvalidRequest, Unsupported, Upstream
from antiphon.models.base import NO_ACCESS, CallArguments, CallStart, Finish, Function
from antiphon.testing.provider import Script, text
from antiphon.tooling import ToolSearchConfig
from antiphon.tools.base import Offer
from antiphon.tools.tool_search import Meanings, ToolSearch, declared, ranked
from antiphon.wire.events import frame
from antiphon.wire.items import FunctionCall, ToolSearchCall, ToolSearchOutput

SEARCH = {"type": "tool_search"}
TOOLS = {"tool_search": ToolSearch(ToolSearchConfig(count=2))}


def function(name, description="", **more):
    return {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": {},
        "defer_loading": True,
        **more,
    }


CRM = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers and their orders.",
    "tools": [function("get_customer", "Looks up a customer"), function("list_orders", "Lists open orders")],
}
MAIL = function("send_mail", "Sends a letter by electronic mail")
SHOWN = {"type": "function", "name": "now", "parameters": {}}
DECLARED = [SEARCH, CRM, MAIL, SHOWN]


def calling(name, **arguments):
    return Script([[CallStart(0, "c", name), CallArguments(0, json.dumps(arguments)), Finish("calls")]])


def names(bench):
    return [function.name for function in bench.asked().functions]


async def test_deferred_tools_are_hidden_until_a_search_finds_them(bench):
    bench = bench(calling("tool_search", query="open orders"), text("Ok"), tools=TOOLS)
    response = await bench.response(input="hi", tools=DECLARED)
    first = bench.provider.requests[0][0]
    assert [each.name for each in first.functions] == ["tool_search", "now"]
    assert "- crm: Customers and their orders." in first.functions[0].description
    assert names(bench) == ["tool_search", "crm__list_orders", "now"]
    call, output, _ = response.output
    assert (call.arguments, call.execution, call.status, call.call_id) == (
        *({"query": "open orders"}, "server", "completed", None),
    )
    assert (output.execution, output.status) == ("server", "completed")
    assert output.tools == [{**CRM, "tools": [{**CRM["tools"][1], "strict": None}]}]
    assert (call.id[:4], output.id[:4]) == ("tsc_", "tso_")
    told = bench.asked().items[2].output
    assert told == "These tools can be called now:\n- crm__list_orders: Lists open orders"


async def test_a_found_tool_is_called_as_what_it_is_and_stays_loaded(bench):
    search = calling("tool_search", query="list open orders")
    bench = bench(search, calling("crm__list_orders", page=1), text("Three."), text("Ok"), tools=TOOLS)
    first = await bench.response(input="hi", tools=DECLARED)
    call = first.output[-1]
    assert (call.name, call.namespace, type(call)) == ("list_orders", "crm", FunctionCall)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "[]"}
    second = await bench.response(input=[output], tools=DECLARED, previous_response_id=first.id)
    assert "crm__list_orders" in names(bench)
    await bench.response(input="go on", previous_response_id=second.id)
    assert names(bench) == ["crm__list_orders"]  # what was found is there without being declared again


async def test_the_stream_is_seen_again_to_the_byte_with_tools_out_of_the_context(bench):
    found = {"type": "tool_search_output", "tools": [CRM], "execution": "server"}
    bench = bench(calling("crm__get_customer"), tools=TOOLS)
    run = await bench.prepared(input=[found, {"role": "user", "content": "hi"}], tools=[SHOWN])
    seen = [event async for batch in perform(bench.engine, run, patience_s=None, shown=True) for event in batch]
    again = [event async for batch in follow(bench.engine, "me", run.response.id) for event in batch]
    assert list(map(frame, again)) == list(map(frame, seen))
    assert seen[-1].response.output[0].namespace == "crm"


async def test_nothing_found_is_told(bench):
    bench = bench(calling("tool_search", query="zebra"), calling("tool_search"), text("Ok"), tools=TOOLS)
    response = await bench.response(input="hi", tools=DECLARED)
    assert [item.tools for item in response.output if isinstance(item, ToolSearchOutput)] == [[]]
    told = [item.output for item in bench.asked().items if hasattr(item, "output")]
    assert told[0] == "No tool was found. Other words may find one."
    assert told[1].startswith("The search failed: The argument `query` is needed")


async def test_without_a_search_nothing_is_deferred(bench):
    bench = bench(text("Ok"), tools=TOOLS)
    await bench.response(input="hi", tools=[MAIL])
    assert names(bench) == ["send_mail"]


async def test_a_search_of_the_clients_is_handed_over_and_its_output_brings_tools(bench):
    own = {**SEARCH, "execution": "client", "description": "Mine", "parameters": {"type": "object"}}
    bench = bench(calling("tool_search", path="crm"), text("Ok"), tools=TOOLS)
    first = await bench.response(input="hi", tools=[own])
    (call,) = first.output
    assert bench.asked().functions == (Function(name="tool_search", description="Mine", parameters={"type": "object"}),)
    assert (call.execution, call.call_id, call.arguments, call.status) == ("client", "c", {"path": "crm"}, "completed")
    output = {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [CRM]}
    await bench.response(input=[output], tools=[own], previous_response_id=first.id)
    assert names(bench) == ["tool_search", "crm__get_customer", "crm__list_orders"]
    assert [item.__struct_config__.tag for item in bench.asked().items[1:]] == [
        "tool_search_call",
        "tool_search_output",
    ]


async def test_additional_tools_join_and_are_no_part_of_what_is_said(bench):
    bench = bench(text("Ok"), tools=TOOLS)
    extra = {"type": "additional_tools", "role": "developer", "tools": [SHOWN, {"type": "custom", "name": "raw"}]}
    await bench.response(input=[{"role": "user", "content": "hi"}, extra])
    assert names(bench) == ["now", "raw"]
    assert len(bench.asked().items) == 1


@pytest.mark.parametrize(
    ("tools", "kind"),
    [([{"type": "tool_search"}], Unsupported), ([{"type": "novelty"}], InvalidRequest), ([{}], InvalidRequest)],
)
async def test_additional_tools_that_cannot_be_added_are_refused(bench, tools, kind):
    item = {"type": "additional_tools", "role": "developer", "tools": tools}
    with pytest.raises(kind) as refused:
        await bench(tools=TOOLS).prepared(input=[item])
    assert refused.value.param.startswith("input")


async def test_a_search_that_a_client_sends_back_is_a_call_with_an_output(bench):
    items = [
        {"role": "user", "content": "hi"},
        {"type": "tool_search_call", "id": "tsc_1", "arguments": {"query": "mail"}, "execution": "server"},
        {"type": "tool_search_output", "id": "tso_1", "tools": [MAIL], "execution": "server"},
    ]
    bench = bench(text("Ok"), tools=TOOLS)
    await bench.response(input=items, tools=DECLARED)
    assert names(bench) == ["tool_search", "send_mail", "now"]
    assert [item.__struct_config__.tag for item in bench.asked().items] == [
        *("message", "function_call", "function_call_output"),
    ]


# ---------------------------------------------------------------- searching


def offer(name, description="", about="", **arguments):
    schema = {"type": "object", "properties": arguments}
    shown = Function(name=name, description=description, parameters=schema)
    return Offer(function=shown, kind="function", name=name, about=about, namespace="ns" if about else None)


OFFERS = [
    offer("getInvoice", "Reads one document", invoice_id={}),
    offer("send_mail", "Sends a letter", recipient={}),
    offer("book_flight", "Reserves a seat", about="Travel"),
    offer("list_documents", "Lists documents"),
]


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("invoices", ["getInvoice"]),
        ("travel", ["book_flight"]),
        ("recipient of a letter", ["send_mail"]),
        ("document", ["list_documents"]),
        ("read", ["getInvoice"]),
        ("send_mail", ["send_mail"]),
        ("zebra", []),
    ],
)
def test_tools_are_found_by_words_of_names_before_those_of_descriptions(query, best):
    assert [each.name for each in ranked(query, OFFERS)][: len(best) or None] == best


def test_functions_of_a_server_are_declared_by_its_label_and_found_by_it():
    class Server(msgspec.Struct):
        server_label: str

    shown = Function(name="docs__ask")
    one = Offer(function=shown, kind="mcp", name="ask", tool=Server("docs"), deferred=True)
    item = ToolSearchOutput(tools=declared([one]))
    assert item.tools == [{"type": "mcp", "server_label": "docs", "allowed_tools": ["ask"]}]
    assert TOOLS["tool_search"].found(item, {"docs__ask": one, "ask": offer("ask")}) == ["docs__ask"]
    assert TOOLS["tool_search"].found(ToolSearchCall(arguments={}), {"ask": one}) == []


# ---------------------------------------------------------------- by meaning


NO_MODEL = object()


class Embedder:
    """Texts lie on a circle: each has the angle of the word in it that is known here. `asked` has what was embedded."""

    ANGLES = {"letter": 0, "post": 5, "mail": 10, "orders": 90, "customer": 120}

    def __init__(self):
        self.asked = []
        self.answer = None

    async def __call__(self, texts, _access):
        self.asked += texts
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is NO_MODEL:
            return None
        return self.answer or [self._vector(each) for each in texts]

    def _vector(self, text):
        angle = next((angle for word, angle in self.ANGLES.items() if word in text.lower()), 180)
        return array("f", [math.cos(math.radians(angle)), math.sin(math.radians(angle))]).tobytes()


async def found_by(bench, query, embedder):
    """The tools that a search has found."""
    tools = {"tool_search": ToolSearch(ToolSearchConfig(), Meanings(embedder))}
    bench = bench(calling("tool_search", query=query), text("Ok"), tools=tools)
    await bench.response(input="hi", tools=DECLARED)
    return [name for name in names(bench) if name not in ("tool_search", "now")]


async def test_a_tool_is_found_by_its_meaning_where_no_word_fits(bench):
    assert await found_by(bench, "post", Embedder()) == ["send_mail"]


async def test_what_the_words_say_is_found_beside_what_is_meant(bench):
    assert await found_by(bench, "get the customer by post", Embedder()) == ["crm__get_customer", "send_mail"]


@pytest.mark.parametrize("answer", [Upstream("The host is away."), NO_MODEL, [b"\0" * 8] * 3 + [b"\0" * 4]])
async def test_without_meanings_words_are_all(bench, answer):
    embedder = Embedder()
    embedder.answer = answer
    assert await found_by(bench, "list open orders", embedder) == ["crm__list_orders"]


async def test_tools_are_embedded_once():
    embedder = Embedder()
    meanings = Meanings(embedder)
    texts = ["send a letter", "list orders"]
    assert await meanings.nearness("post", texts, NO_ACCESS) == [1.0, 0.0]
    assert await meanings.nearness("customer", texts, NO_ACCESS) == [0.0, 1.0]
    assert embedder.asked == ["post", *texts, "customer"]


async def test_the_only_tool_is_the_nearest():
    assert await Meanings(Embedder()).nearness("post", ["list orders"], NO_ACCESS) == [1.0]


async def test_words_that_say_little_find_nothing(bench):
    bench = bench(calling("tool_search", query="send up a letter"), text("Ok"), tools=TOOLS)
    await bench.response(input="hi", tools=DECLARED)
    assert names(bench) == ["tool_search", "send_mail", "now"]
