"""Stored responses: the row, its items, its journal.

A response keeps only its own items: the context of a chain is read along `previous_response_id`, so what a turn stores
does not grow with the turns before it, and a deleted response is gone from every later context.
"""

import copy
import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from antiphon.errors import ApiError, Conflict, InvalidRequest, NotFound, RunLost
from antiphon.stores import items as rows_of
from antiphon.stores import runs
from antiphon.stores.conversations import append_failure, turn_statements
from antiphon.stores.database import Database, Duplicate, Mismatch, Row, Statement
from antiphon.stores.items import ITEMS
from antiphon.stores.runs import PARTS
from antiphon.stores.table import Listing, Table, not_found
from antiphon.wire.base import Page
from antiphon.wire.items import Item
from antiphon.wire.responses import ConversationRef, ListQuery, Response, ResponseError

RESPONSES = Table("responses")

_UNFINISHED = "status IN ('queued', 'in_progress')"
_INSERT = RESPONSES.insert("id, created_at, status, model, previous_response_id, conversation_id, body, journal")
_FINISH = RESPONSES.update("status = ?, model = ?, body = ?, journal = ?", f"id = ? AND {_UNFINISHED}")
_START = RESPONSES.update("status = ?, body = ?", "id = ? AND status = 'queued'")
_STATUS = RESPONSES.select("status")
_DELETE = RESPONSES.delete()
_OUTPUT = "container = ? AND seq >= 0"
_GET = f"{RESPONSES.select('-1 AS seq, body')} UNION ALL {ITEMS.select('seq, body', _OUTPUT)} ORDER BY seq"
_INPUT = ITEMS.select("body", "container = ? AND seq < 0 ORDER BY seq")
_RUNS = "EXISTS (SELECT 1 FROM runs WHERE runs.id = container)"
_TRAIL = (
    f"{RESPONSES.select('-1 AS position, body, journal')} "
    f"UNION ALL {PARTS.select('position, body, NULL', f'container = ? AND position > ? AND {_RUNS}')} ORDER BY 1"
)
# One row per item, oldest response first; a response without items still gives a row. The first row tells whether the
# chain ends there, breaks off, or began in a conversation; the last, whether its last response has ended.
_HISTORY = f"""
WITH RECURSIVE chain (id, previous, conversation, status, depth) AS (
  {RESPONSES.select("id, previous_response_id, conversation_id, status, 0")}
  UNION ALL
  SELECT r.id, r.previous_response_id, r.conversation_id, r.status, chain.depth + 1
  FROM chain CROSS JOIN responses r WHERE {RESPONSES.owned("r")} AND r.id = chain.previous
)
SELECT chain.previous, chain.conversation, chain.status, items.body
FROM chain LEFT JOIN items ON {ITEMS.owned("items")} AND items.container = chain.id
ORDER BY chain.depth DESC, items.seq
"""
_LIST = f"""
WITH page AS MATERIALIZED (%s)
SELECT position, -1 AS seq, id, body FROM page
UNION ALL
SELECT page.position, items.seq, items.id, items.body
FROM page CROSS JOIN items WHERE {ITEMS.owned("items")} AND items.container = page.id AND items.seq >= 0
ORDER BY 1 %s, 2
"""
# Not one owner's rows but all of them: what no tenant asks for and none sees.
_LEFT_OVER = (
    f"SELECT owner, id, body FROM responses WHERE {_UNFINISHED} AND created_at <= ? "
    "AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = responses.id) ORDER BY position LIMIT 200"
)

_FIND_MAX = 500
LEFT_OVER_S = 3600
"""After which a response that has not ended and has no run counts as left over."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Response).decode


class Turn(Struct, frozen=True, kw_only=True):
    """What a finished run appends to a conversation: its input and its output, in order."""

    conversation: str
    items: Sequence[Item]


class Trail(Struct, frozen=True, kw_only=True):
    """What a run has left: the response without its output, the parts of its journal by position, and `journal`.

    That is what `begin` was given, and what `finish` was, once the run has ended; then there are no parts.
    """

    response: Response
    parts: Sequence[tuple[int, bytes]]
    journal: bytes


class Responses:
    """The responses of all owners, one owner at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        owner: str,
        response: Response,
        input: Sequence[Item],
        *,
        journal: bytes = b"",
        also: Sequence[Statement] = (),
    ) -> None:
        """Stores a response that begins, with its input items and whatever else the transaction should do.

        `journal` is what a reader needs to know before the first part is there. Raises `InvalidRequest` if two items
        share an id, `Conflict` if a turn's claim that it depends on is gone.
        """
        pairs = rows_of.encoded(input)
        conversation = response.conversation
        row = (
            owner,
            response.id,
            response.created_at,
            response.status,
            response.model,
            response.previous_response_id,
            conversation.id if isinstance(conversation, ConversationRef) else None,
            _body(response),
            journal,
        )
        statements = [Statement(_INSERT, row), *rows_of.inserts(owner, response.id, pairs, first_seq=-len(pairs))]
        statements += also
        try:
            await self._database.transaction(statements)
        except Duplicate as error:
            if error.index == 0:
                raise Conflict(f"A response with id '{response.id}' exists already.") from error
            twice = rows_of.first_duplicate(pairs)
            raise InvalidRequest(f"The input has two items with id '{twice}'; remove one.", param="input") from error
        except Mismatch as error:  # what it depends on is not so any longer: so far that is a turn's claim
            if not isinstance(conversation, ConversationRef):
                raise
            raise await append_failure(self._database, owner, conversation.id, pairs=()) from error

    async def finish(
        self,
        owner: str,
        response: Response,
        journal: bytes,
        *,
        turn: Turn | None = None,
        ended: Statement | None = None,
    ) -> None:
        """Stores how a response ended, in one transaction with its output, its journal, and the conversation's turn.

        `ended` removes the run. The turn's claim must be held under the response's id, and is released. Raises
        `NotFound` if the response was deleted meanwhile, `RunLost` if the run is another worker's or was ended by one,
        `Conflict` if a response without a run had ended already, or if the conversation is gone, no longer claimed, or
        has an item of the same id; nothing is stored then, and a claim stays.
        """
        pairs = rows_of.encoded(response.output)
        row = (response.status, response.model, _body(response), journal, owner, response.id)
        statements = [Statement(_FINISH, row, 1), *rows_of.inserts(owner, response.id, pairs, first_seq=0)]
        if ended is not None:
            statements.insert(1, ended)
        own = len(statements)
        turn_pairs = rows_of.encoded(turn.items) if turn is not None else []
        if turn is not None:
            statements += turn_statements(owner, turn.conversation, response.id, pairs=turn_pairs)
        try:
            await self._database.transaction(statements)
        except (Mismatch, Duplicate) as error:
            if turn is not None and error.index >= own:
                raise await append_failure(self._database, owner, turn.conversation, pairs=turn_pairs) from error
            if ended is not None and error.index == 1:
                raise RunLost(f"The run of response '{response.id}' belongs to another worker by now.") from error
            raise await self._finish_failure(owner, response.id, Conflict if ended is None else RunLost) from error

    async def start(self, owner: str, response: Response) -> None:
        """Stores that a queued response is in progress; of one that is already, or was deleted, nothing is changed."""
        await self._database.execute(_START, (response.status, _body(response), owner, response.id))

    async def get(self, owner: str, id: str) -> Response:
        """The response with its output. Raises `NotFound`."""
        rows = await self._database.all(_GET, (owner, id, owner, id))
        if not rows or rows[0][0] != -1:
            raise not_found("Response", id)
        return _with_output(rows[0][-1], rows[1:])

    async def trail(self, owner: str, id: str, after: int = -1) -> Trail:
        """What the run has left by now, as of one moment, its parts from position `after` on. Raises `NotFound`."""
        rows = await self._database.all(_TRAIL, (owner, id, owner, id, after))
        if not rows or rows[0][0] != -1:
            raise not_found("Response", id)
        _, body, head = rows[0]
        return Trail(response=_decode(body), parts=[(at, part) for at, part, _ in rows[1:]], journal=head or b"")

    async def history(self, owner: str, id: str) -> list[Item]:
        """Input and output of the response and of all that it continues, oldest first.

        Raises `NotFound` where a response of the chain is missing, deleted, or another owner's, `Conflict` if this one
        has not ended yet, `InvalidRequest` if the chain began in a conversation, whose items it would lack.
        """
        rows = await self._database.all(_HISTORY, (owner, id, owner, owner))
        broken = id if not rows else rows[0][0]
        if broken is not None:
            raise NotFound(
                f"Previous response with id '{broken}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        if rows[-1][2] in ("queued", "in_progress"):
            message = f"Previous response with id '{id}' is {rows[-1][2]}; it can be continued when it has ended."
            raise Conflict(message, param="previous_response_id", code="previous_response_not_finished")
        if rows[0][1] is not None:
            message = f"Response '{id}' was made in conversation '{rows[0][1]}': continue it by 'conversation'."
            raise InvalidRequest(message, param="previous_response_id", code="previous_response_in_conversation")
        return rows_of.decoded([row for row in rows if row[-1] is not None])

    async def list(self, owner: str, query: ListQuery) -> Page[Response]:
        """A page of responses with their output, in the order in which they began; `query.model` filters."""
        listing = Listing(owner=owner, query=query)
        if query.model is not None:
            listing = Listing(owner=owner, query=query, where="model = ?", params=(query.model,))
        window = await RESPONSES.window(self._database, "position, id, body", listing)
        direction = "DESC" if (query.order == "desc") != window.reversed else "ASC"
        rows = await self._database.all(_LIST % (window.sql, direction), (*window.params, owner))
        heads: list[Row] = []
        output: list[list[Row]] = []
        for row in rows:
            if row[1] < 0:
                heads.append((len(output), *row))
                output.append([])
            else:
                output[-1].append(row)
        page, has_more = window.cut(heads)
        data = [_with_output(row[-1], output[row[0]]) for row in page]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return Page(data=data, first_id=first, last_id=last, has_more=has_more)

    async def input_items(self, owner: str, id: str, query: ListQuery) -> Page[Item]:
        """A page of the response's own input. Raises `NotFound`."""
        if await self._database.one(_STATUS, (owner, id)) is None:
            raise not_found("Response", id)
        listing = Listing(owner=owner, query=query, where="container = ? AND seq < 0", params=(id,))
        return await rows_of.item_page(self._database, listing)

    async def input(self, owner: str, id: str) -> Sequence[Item]:
        """All of the response's own input, in order."""
        return rows_of.decoded(await self._database.all(_INPUT, (owner, id)))

    async def find_items(self, owner: str, ids: Sequence[str]) -> dict[str, Item]:
        """Those of the items that the owner has, in whatever response or conversation."""
        found: dict[str, Item] = {}
        for start in range(0, len(ids), _FIND_MAX):
            some = ids[start : start + _FIND_MAX]
            rows = await self._database.all(find_sql(len(some)), (owner, *some))
            rows.sort()  # where several containers hold an item, the same one answers each time
            found.update(zip([row[0] for row in rows], rows_of.decoded(rows), strict=True))
        return found

    async def delete(self, owner: str, id: str) -> None:
        """Removes the response, its items, its journal, and its run if it has not ended. Raises `NotFound`."""
        parts = (rows_of.DELETE_ALL, runs.DELETE_PARTS, runs.DELETE)
        try:
            await self._database.transaction(
                [Statement(_DELETE, (owner, id), 1), *(Statement(sql, (owner, id)) for sql in parts)]
            )
        except Mismatch as error:
            raise not_found("Response", id) from error

    async def fail_left_over(self, now: float) -> int:
        """Marks as failed what is unfinished and has no run; returns how many.

        Releases before 0.2 left such when they were killed. While one of them is alive, it makes such, too: they have
        an hour.
        """
        moment = dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="seconds")
        reason = f"The server stopped before the response was finished; that was noticed at {moment}."
        count = 0
        while rows := await self._database.all(_LEFT_OVER, (int(now) - LEFT_OVER_S,)):
            await self._database.transaction([_failing(*row, reason=reason) for row in rows])
            count += len(rows)
        return count

    async def _finish_failure(self, owner: str, id: str, late: type[Conflict]) -> ApiError:
        row = await self._database.one(_STATUS, (owner, id))
        return not_found("Response", id) if row is None else late(f"Response '{id}' is {row[0]} already.")


def find_sql(count: int) -> str:
    """The statement that looks up so many items by id."""
    return ITEMS.select("id, container, body", f"id IN ({', '.join('?' * count)})")


def _body(response: Response) -> bytes:
    """The response's JSON without the output, which is stored item by item."""
    if response.output:
        response = copy.copy(response)
        response.output = []
    return _encode(response)


def _with_output(body: bytes, rows: Iterable[Row]) -> Response:
    response = _decode(body)
    response.output = rows_of.decoded(rows)
    return response


def _failing(owner: str, id: str, body: bytes, *, reason: str) -> Statement:
    response = _decode(body)
    response.status = "failed"
    response.error = ResponseError(code="server_error", message=reason)
    return Statement(_FINISH, ("failed", response.model, _encode(response), None, owner, id))
