"""The tool `file_search`: what the model is offered and told, and how the best hits of several stores are found."""

import pytest

from antiphon.errors import InvalidRequest, NotFound
from antiphon.knowledge import FileSearchConfig
from antiphon.models.base import NO_ACCESS
from antiphon.testing.tool import scripted_search
from antiphon.tools.base import Caller
from antiphon.tools.offers import offers
from antiphon.wire.calls import Made
from antiphon.wire.items import FileSearchCall, Memory
from antiphon.wire.search import HybridSearch, RankingOptions
from antiphon.wire.tools import FileSearchTool

CALLER = Caller(owner="me", access=NO_ACCESS)
RESULT = {
    "file_id": "file-690481987689",
    "filename": "test_sequential_file_search.txt",
    "score": 2.5781234969335522,
    "attributes": {},
    "text": "The Llama 4 Maverick model has 128 experts in its mixture of experts architecture.",
}


def made(arguments):
    return Made(
        id="fs_1", call_id="c", name="knowledge_search", namespace=None, arguments=arguments, status="completed"
    )


async def test_the_best_hits_of_all_stores_are_the_results():
    served = scripted_search(a=[("file-1", 0.9, "x"), ("file-2", 0.1, "y")], b=[("file-3", 0.5, "z")])
    tool = FileSearchTool(vector_store_ids=["a", "b"], max_num_results=2)
    (offer,) = offers([tool], {"file_search": served}).values()
    item, fault = served.begun(made('{"query": "q"}'), offer)
    item = (await served.run(item, offer, CALLER)).item
    assert (fault, item.status, [result["file_id"] for result in item.results]) == (
        "",
        "completed",
        ["file-1", "file-3"],
    )
    assert item.results[0] == {
        "attributes": {},
        "file_id": "file-1",
        "filename": "file-1.txt",
        "score": 0.9,
        "text": "x",
    }


async def test_a_store_that_is_named_twice_is_searched_once():
    served = scripted_search(a=[("file-1", 0.9, "x")])
    (offer,) = offers([FileSearchTool(vector_store_ids=["a", "a"])], {"file_search": served}).values()
    item, _ = served.begun(made('{"query": "q"}'), offer)
    assert len((await served.run(item, offer, CALLER)).item.results) == 1


def test_what_a_model_is_told_is_what_llama_stack_tells_it():
    memory = Memory(call_id="c", name="knowledge_search", arguments='{"query":"Llama 4 Maverick"}')
    item = FileSearchCall(id="fs_1", queries=["Llama 4 Maverick"], results=[RESULT], memory=memory)
    call, answer = scripted_search().seen(item)
    assert (call.call_id, call.name, call.arguments) == ("c", "knowledge_search", '{"query":"Llama 4 Maverick"}')
    header, result, footer, closing = (part.text for part in answer.output)
    assert header == "knowledge_search tool found 1 chunks:\nBEGIN of knowledge_search tool results.\n"
    assert result == (
        "[1] document_id: file-690481987689, score: 2.5781234969335522, attributes: {'filename':"
        " 'test_sequential_file_search.txt', 'document_id': 'file-690481987689', 'token_count': 19.0,"
        " 'metadata_token_count': 11.0} (cite as <|file-690481987689|>)\nThe Llama 4 Maverick model has 128 experts"
        " in its mixture of experts architecture.\n"
    )
    assert footer == "END of knowledge_search tool results.\n"
    assert closing == (
        'The above results were retrieved to help answer the user\'s query: "Llama 4 Maverick". Use them as supporting'
        " information only in answering this query. Cite sources immediately at the end of sentences before"
        " punctuation, using `<|file-id|>` format (e.g., 'This is a fact <|file-Cn3MSNn72ENTiiq11Qda4A|>.'). Do not"
        " add extra punctuation. Use only the file IDs provided (do not invent new ones).\n"
    )


def test_where_nothing_was_found_nothing_is_said_of_citing():
    _, answer = scripted_search().seen(FileSearchCall(id="fs_1", queries=["q"], results=[]))
    assert "0 chunks" in answer.output[0].text
    assert answer.output[-1].text.endswith("answering this query.\n")


def test_templates_are_settings():
    config = FileSearchConfig(
        name="look", result="{index}. {text} [{filename}]", header="", footer="", closing="{cite}"
    )
    served = scripted_search(config)
    _, answer = served.seen(FileSearchCall(id="fs_1", queries=["q"], results=[RESULT]))
    assert answer.output[1].text.startswith("1. The Llama 4 Maverick")
    assert list(offers([FileSearchTool(vector_store_ids=["a"])], {"file_search": served})) == ["look"]


@pytest.mark.parametrize("template", ["{nothing}", "{", "{0}"])
def test_a_template_with_an_unknown_field_is_refused(template):
    with pytest.raises(ValueError, match="result: the fields of this template are"):
        FileSearchConfig(result=template)


def test_a_search_whose_results_were_not_kept_says_so():
    _, answer = scripted_search().seen(FileSearchCall(id="fs_1", queries=["q"]))
    assert answer.output == "The results of this search were not kept."


async def test_a_store_that_is_not_there_is_named():
    tool = FileSearchTool(vector_store_ids=["a", "b"])
    with pytest.raises(NotFound, match="'b'") as refused:
        await scripted_search(a=[]).check(tool, CALLER, "tools[3]")
    assert refused.value.param == "tools[3].vector_store_ids[1]"


async def test_weights_that_weigh_nothing_are_refused():
    tool = FileSearchTool(
        vector_store_ids=["a"],
        ranking_options=RankingOptions(hybrid_search=HybridSearch(embedding_weight=0, text_weight=0)),
    )
    with pytest.raises(InvalidRequest) as refused:
        await scripted_search(a=[]).check(tool, CALLER, "tools[0]")
    assert refused.value.param == "tools[0].ranking_options.hybrid_search"
