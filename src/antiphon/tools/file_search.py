"""The tool `file_search`: the model asks, vector stores are searched, and the answer cites files.

What the model is told of the hits is a template of Llama Stack's by default, so that its recordings match; how it is
to cite stands there too. A citation's marker is taken out of the answer by `engine.cite`.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from antiphon.errors import InvalidRequest, NotFound
from antiphon.knowledge import FileSearchConfig
from antiphon.models.base import Access, Function
from antiphon.models.tokens import count_text
from antiphon.tools.base import Caller, Ended, Offer, Place, ServerTool
from antiphon.vectors.base import Hit, Wanted
from antiphon.vectors.search import all_of, source_of
from antiphon.vectors.wanted import ranking_of
from antiphon.wire.calls import Answer, Call, Made
from antiphon.wire.events import Event, FileSearchCompleted, FileSearchInProgress, FileSearchSearching, ItemPlace
from antiphon.wire.items import FileSearchCall, InputPart, InputText
from antiphon.wire.search import RankingOptions
from antiphon.wire.tools import FileSearchTool

RESULTS_COUNT = 10
"""Hits of a search whose request does not say how many."""


class Searching(Protocol):
    """What searches vector stores: `vectors.search.Search`, or a test's."""

    async def search(self, owner: str, store_id: str, wanted: Wanted, *, access: Access) -> list[Hit]:
        """The hits, the best first. Raises `ApiError`s only."""
        ...

    async def check(self, owner: str, store_id: str) -> None:
        """Raises `NotFound` if there is no such store."""
        ...


class FileSearch(ServerTool):
    """Searches the stores that a request's `file_search` names."""

    def __init__(self, search: Searching, config: FileSearchConfig) -> None:
        self._search = search
        self._config = config

    # ------------------------------------------------------------ how the model sees it

    def offers(self, tool: FileSearchTool, index: int) -> Iterable[Offer]:
        """One function with a `query`."""
        config = self._config
        query = {"type": "string", "description": config.query_description}
        schema = {"type": "object", "properties": {"query": query}, "required": ["query"]}
        function = Function(name=config.name, description=config.description, parameters=schema)
        return [Offer(function=function, kind="file_search", name=config.name, tool=tool, index=index)]

    async def check(self, tool: FileSearchTool, caller: Caller, at: str) -> None:
        """Raises `NotFound` for a store that is not there, and `InvalidRequest` for one that has expired."""
        _check_weights(tool.ranking_options, f"{at}.ranking_options")
        for number, store in enumerate(tool.vector_store_ids):
            try:
                await self._search.check(caller.owner, store)
            except (NotFound, InvalidRequest) as error:
                param = f"{at}.vector_store_ids[{number}]"
                raise type(error)(error.message, param=param, code=error.code) from error

    def seen(self, item: FileSearchCall) -> tuple[Call, Answer]:
        """The call and its results, in the words of the templates."""
        memory = item.memory
        query = " ".join(item.queries)
        call_id = memory.call_id if memory else item.id or "call_file_search"
        arguments = memory.arguments if memory else msgspec.json.encode({"query": query}).decode()
        call = Call(call_id=call_id, name=memory.name if memory else self._config.name, arguments=arguments)
        output = memory.output if memory else None
        if output is None:
            output = _NOT_KEPT if item.results is None else self._told(query, item.results)
        return call, Answer(call_id=call_id, output=output)

    def _told(self, query: str, results: Sequence[dict[str, Any]]) -> str | list[InputPart]:
        config = self._config
        texts = [config.header.format(count=len(results), name=config.name)]
        for index, result in enumerate(results, 1):
            attributes = _attributes(result)
            shown = f", attributes: {attributes}" if attributes else ""
            fields = {key: result.get(key) for key in ("file_id", "filename", "score", "text")}
            near = _inverse_distance(result.get("similarity"))
            texts.append(config.result.format(index=index, attributes=shown, inverse_distance=near, **fields))
        texts.append(config.footer.format(count=len(results), name=config.name))
        cite = config.cite if results else ""
        texts.append(config.closing.format(query=query, cite=cite))
        return [InputText(text=text) for text in texts]

    # ------------------------------------------------------------ a call

    def begun(self, made: Made, _offer: Offer) -> tuple[FileSearchCall, str]:
        """The item with the query that the model asks for."""
        blank = FileSearchCall(id=made.id, queries=[], status="in_progress")
        try:
            given = msgspec.json.decode(made.arguments or "{}", type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return blank, f"The arguments are not a JSON object: {error}."
        query = given.get("query")
        if not isinstance(query, str) or not query.strip():
            return blank, "The argument `query` is needed, a text that says what to search for."
        return replace(blank, queries=[query]), ""

    def started(self, _item: FileSearchCall, place: Place) -> Iterator[Event]:
        """In progress, searching."""
        where: ItemPlace = {"item_id": place.item_id, "output_index": place.output_index}
        yield FileSearchInProgress(sequence_number=place.next_number(), **where)
        yield FileSearchSearching(sequence_number=place.next_number(), **where)

    async def run(self, item: FileSearchCall, offer: Offer, caller: Caller) -> Ended:
        """The item with its results: the best of all stores together."""
        tool = offer.tool
        if not isinstance(tool, FileSearchTool):
            raise TypeError(tool)
        count = tool.max_num_results or RESULTS_COUNT
        ranking = ranking_of(tool.ranking_options)
        wanted = Wanted(queries=tuple(item.queries), count=count, filters=tool.filters, ranking=ranking)
        stores = dict.fromkeys(tool.vector_store_ids)
        found = await all_of(
            [self._search.search(caller.owner, store, wanted, access=caller.access) for store in stores]
        )
        best = sorted((hit for hits in found for hit in hits), key=lambda hit: -hit.score)[:count]
        return Ended(item=replace(item, status="completed", results=[_result(hit) for hit in best]))

    def failed(self, item: FileSearchCall, message: str) -> FileSearchCall:
        """The item without results."""
        memory = item.memory and replace(item.memory, output=f"The search failed: {message}")
        return replace(item, status="failed", memory=memory)

    def ended(self, item: FileSearchCall, place: Place) -> Iterator[Event]:
        """Completed; OpenAI has no event for a search that failed."""
        if item.status == "completed":
            yield FileSearchCompleted(
                sequence_number=place.next_number(), item_id=place.item_id, output_index=place.output_index
            )


def _check_weights(options: RankingOptions | None, at: str) -> None:
    """Raises `InvalidRequest` for weights that say nothing."""
    hybrid = options.hybrid_search if options else None
    if hybrid and not hybrid.embedding_weight + hybrid.text_weight > 0:
        message = "At least one of 'embedding_weight' and 'text_weight' must be above 0."
        raise InvalidRequest(message, param=f"{at}.hybrid_search")


# ---------------------------------------------------------------- results


def _result(hit: Hit) -> dict[str, Any]:
    source = source_of(hit)
    result: dict[str, Any] = {
        "attributes": source.attributes,
        "file_id": source.file_id,
        "filename": source.filename,
        "score": hit.score,
        "text": hit.chunk.piece.text,
    }
    hidden = {"similarity": hit.similarity, "tokens": hit.chunk.piece.tokens or None}
    return result | {key: value for key, value in hidden.items() if value is not None}


def _inverse_distance(similarity: float | None) -> float | None:
    """1 by the squared distance of two unit vectors, from their cosine; or from the negative squared distance."""
    if similarity is None:
        return None
    squared = -similarity if similarity < 0 else 2 - 2 * similarity
    return 1 / max(squared, 1e-9)


def _attributes(result: dict[str, Any]) -> dict[str, Any]:
    """What Llama Stack shows a model of a hit's attributes: the file's own, then what it keeps with each chunk.

    It shows whole numbers as floats, and has counted their tokens as those of whole numbers.
    """
    filename = {"filename": result.get("filename", "")}
    given: dict[str, Any] = result.get("attributes") or {}
    counted = {key: int(value) if _is_whole(value) else value for key, value in given.items()}
    kept: dict[str, Any] = {
        "document_id": result.get("file_id", ""),
        "token_count": float(result.get("tokens") or _tokens(str(result.get("text", "")))),
        "metadata_token_count": float(_tokens(str(counted | filename))),
    }
    shown = {key: float(value) if type(value) is int else value for key, value in given.items()}
    return shown | filename | kept


@functools.lru_cache(maxsize=1024)
def _tokens(text: str) -> int:
    """Counting is slow, and the same files are found again and again."""
    return count_text(text)


def _is_whole(value: object) -> bool:
    return type(value) is float and value.is_integer()


_NOT_KEPT = "The results of this search were not kept."
