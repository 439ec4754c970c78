"""What responses, chat completions and tenancy promise, as cases that run over any migrated, empty `Database`.

They are written against the stores, not against tables: whoever brings another database shows with them that its SQL
means the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from antiphon.errors import Conflict, Internal, InvalidRequest, NotFound, RunLost
from antiphon.stores.approvals import Approvals
from antiphon.stores.completions import Completions, StoredCompletion
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.responses import Responses, Trail
from antiphon.stores.runs import RunRow, Runs
from antiphon.testing.database_suite import refused
from antiphon.wire.base import Order, Page
from antiphon.wire.conversations import Conversation
from antiphon.wire.items import FunctionCall, InputText, Item, Message, OutputText
from antiphon.wire.responses import ConversationRef, ListQuery, Response, ResponseStatus

US, THEM = "us", "them"
Listed = TypeVar("Listed", Response, Item)


def user(id: str, text: str = "Hello") -> Message:
    """A stored user message."""
    return Message(id=id, role="user", status="completed", content=[InputText(text=text)])


def assistant(id: str, text: str = "Hi") -> Message:
    """A stored answer."""
    return Message(id=id, role="assistant", status="completed", content=[OutputText(text=text)])


def response(
    id: str,
    *output: Item,
    status: ResponseStatus = "in_progress",
    model: str = "host/model",
    previous: str | None = None,
    conversation: str | None = None,
) -> Response:
    """A response in some state."""
    made = Response(id=id, created_at=1, status=status, model=model, output=list(output))
    made.previous_response_id = previous
    if conversation is not None:
        made.conversation = ConversationRef(conversation)
    return made


async def stored(responses: Responses, id: str, *, previous: str | None = None, model: str = "host/model") -> None:
    """A completed response `id` with input `id.in` and output `id.out`."""
    await responses.begin(US, response(id, previous=previous, model=model), [user(f"{id}.in")])
    ended = response(id, assistant(f"{id}.out"), status="completed", previous=previous, model=model)
    await responses.finish(US, ended, b"journal of " + id.encode())


async def conversation(database: Database, id: str, *items: Item) -> Conversations:
    """A conversation of ours."""
    conversations = Conversations(database)
    await conversations.create(US, Conversation(id=id, created_at=1, metadata={"a": "b"}), items)
    return conversations


def ids(items: Sequence[Item]) -> list[str]:
    """The ids of items that have one."""
    return [item.id or "" for item in items]


async def pages_agree(fetch: Callable[[ListQuery], Awaitable[Page[Listed]]], ascending: list[str]) -> None:
    """Walks a list in both directions, with either cursor, and compares with the whole list each time."""
    directions: tuple[tuple[Order, list[str]], ...] = (("asc", ascending), ("desc", ascending[::-1]))
    for order, expected in directions:
        for limit in (1, 7, len(ascending), 100):
            found: list[str | None] = []
            page = await fetch(ListQuery(order=order, limit=limit))
            while True:
                found += [entry.id for entry in page.data]
                assert page.has_more == (len(found) < len(expected))
                if not page.has_more:
                    break
                page = await fetch(ListQuery(order=order, limit=limit, after=page.last_id))
            assert found == expected
        for place, id in enumerate(expected):
            page = await fetch(ListQuery(order=order, limit=3, before=id))
            assert [entry.id for entry in page.data] == expected[max(0, place - 3) : place]
            assert page.has_more == (place > 3)
        between = await fetch(ListQuery(order=order, after=expected[0], before=expected[-1]))
        assert [entry.id for entry in between.data] == expected[1:-1][:20]


# ---------------------------------------------------------------- responses


async def a_response_is_there_as_soon_as_it_begins_and_changes_when_it_ends(database: Database) -> None:
    """Begin, get, finish, get, journal."""
    responses = Responses(database)
    begun = response("resp_1")
    await responses.begin(US, begun, [user("msg_1"), user("msg_2")], journal=b"head")
    assert await responses.get(US, "resp_1") == begun
    assert ids(await responses.input(US, "resp_1")) == ["msg_1", "msg_2"]
    assert await responses.trail(US, "resp_1") == Trail(response=begun, parts=[], journal=b"head")
    ended = response("resp_1", assistant("msg_3"), assistant("msg_4"), status="completed")
    await responses.finish(US, ended, b"journal")
    assert await responses.get(US, "resp_1") == ended
    bare = replace(ended, output=[])
    assert await responses.trail(US, "resp_1") == Trail(response=bare, parts=[], journal=b"journal")
    assert ids(await responses.history(US, "resp_1")) == ["msg_1", "msg_2", "msg_3", "msg_4"]


async def a_response_that_ended_does_not_end_again(database: Database) -> None:
    """A status never leaves a terminal state, whoever races whom."""
    responses = Responses(database)
    await responses.begin(US, response("resp_1"), [])
    ends = [response("resp_1", assistant(f"msg_{n}"), status="completed") for n in range(5)]
    results = await asyncio.gather(*(responses.finish(US, end, b"") for end in ends), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), *[Conflict] * 4]
    assert await responses.get(US, "resp_1") == ends[0]
    for status in ("cancelled", "failed", "completed"):
        await refused(Conflict, responses.finish(US, response("resp_1", status=status), b""))
    assert await responses.get(US, "resp_1") == ends[0]


async def a_run_that_another_worker_has_ended_is_lost(database: Database) -> None:
    """Whoever was given up for dead learns that another went on: what it made is not the response."""
    responses, late, other = Responses(database), Runs(database, "late"), Runs(database, "other")
    begun = late.begun(US, "resp_1", RunRow(host="host", body=b"", worker="late"))
    await responses.begin(US, response("resp_1"), [], also=[begun])
    assert await other.claim(US, "resp_1", of="late")
    mine = response("resp_1", assistant("msg_1"), status="completed")
    await refused(RunLost, responses.finish(US, mine, b"", ended=late.ended(US, "resp_1")))
    theirs = response("resp_1", assistant("msg_2"), status="completed")
    await responses.finish(US, theirs, b"", ended=other.ended(US, "resp_1"))
    await refused(RunLost, responses.finish(US, mine, b"", ended=late.ended(US, "resp_1")))
    assert await responses.get(US, "resp_1") == theirs


async def an_item_without_an_id_is_an_internal_error_and_nothing_is_stored(database: Database) -> None:
    """Whoever stores items has completed them."""
    responses = Responses(database)
    await refused(Internal, responses.begin(US, response("resp_1"), [Message(role="user", content="Hello")]))
    await refused(NotFound, responses.get(US, "resp_1"))


async def the_same_item_twice_in_an_input_is_the_clients_mistake(database: Database) -> None:
    """It is named, and nothing is stored."""
    responses = Responses(database)
    twice = [user("msg_1"), user("msg_2"), user("msg_1")]
    error = await refused(InvalidRequest, responses.begin(US, response("resp_1"), twice))
    assert "msg_1" in error.message
    assert error.param == "input"
    await refused(NotFound, responses.get(US, "resp_1"))


async def a_response_id_is_taken_once(database: Database) -> None:
    """The first one stays."""
    responses = Responses(database)
    await stored(responses, "resp_1")
    await refused(Conflict, responses.begin(US, response("resp_1"), []))
    assert (await responses.get(US, "resp_1")).status == "completed"


async def a_chain_is_read_oldest_first_and_forks_are_apart(database: Database) -> None:
    """Two successors of one response do not see each other."""
    responses = Responses(database)
    await stored(responses, "resp_1")
    await stored(responses, "resp_2", previous="resp_1")
    await stored(responses, "resp_3", previous="resp_2")
    await stored(responses, "resp_3b", previous="resp_2")
    stem = ["resp_1.in", "resp_1.out", "resp_2.in", "resp_2.out"]
    assert ids(await responses.history(US, "resp_3")) == [*stem, "resp_3.in", "resp_3.out"]
    assert ids(await responses.history(US, "resp_3b")) == [*stem, "resp_3b.in", "resp_3b.out"]
    assert ids(await responses.history(US, "resp_1")) == stem[:2]


async def a_long_chain_with_empty_links_is_read_whole(database: Database) -> None:
    """Three hundred responses, every third without items."""
    responses = Responses(database)
    for n in range(300):
        previous = f"resp_{n - 1}" if n else None
        ended = response(f"resp_{n}", previous=previous, status="completed")
        await responses.begin(US, ended, [user(f"msg_{n}")] if n % 3 else [])
    assert ids(await responses.history(US, "resp_299")) == [f"msg_{n}" for n in range(300) if n % 3]


async def what_cannot_be_continued_says_why(database: Database) -> None:
    """A context that would lack something is refused: an answer still to come, or a conversation's other items."""
    responses = Responses(database)
    await responses.begin(US, response("resp_1"), [user("msg_1")])
    error = await refused(Conflict, responses.history(US, "resp_1"))
    assert (error.code, error.param) == ("previous_response_not_finished", "previous_response_id")
    await responses.begin(US, response("resp_2", conversation="conv_1", status="completed"), [user("msg_2")])
    await responses.begin(US, response("resp_3", previous="resp_2", status="completed"), [user("msg_3")])
    for id in ("resp_2", "resp_3"):
        wrong = await refused(InvalidRequest, responses.history(US, id))
        assert (wrong.code, wrong.param) == ("previous_response_in_conversation", "previous_response_id")
        assert "conv_1" in wrong.message


async def a_chain_over_a_deleted_response_says_which(database: Database) -> None:
    """Deletion is deletion: what was deleted reaches no later context, and is not passed over in silence."""
    responses = Responses(database)
    for n in range(1, 5):
        await stored(responses, f"resp_{n}", previous=f"resp_{n - 1}" if n > 1 else None)
    await responses.delete(US, "resp_2")
    for id in ("resp_4", "resp_3", "resp_2"):
        error = await refused(NotFound, responses.history(US, id))
        assert "'resp_2'" in error.message
        assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
    assert ids(await responses.history(US, "resp_1")) == ["resp_1.in", "resp_1.out"]


async def a_deleted_response_leaves_nothing(database: Database) -> None:
    """Row, input, output and journal are gone; a second deletion finds nothing."""
    responses = Responses(database)
    await stored(responses, "resp_1")
    await responses.delete(US, "resp_1")
    await refused(NotFound, responses.get(US, "resp_1"))
    await refused(NotFound, responses.trail(US, "resp_1"))
    await refused(NotFound, responses.input_items(US, "resp_1", ListQuery()))
    await refused(NotFound, responses.delete(US, "resp_1"))
    assert await responses.find_items(US, ["resp_1.in", "resp_1.out"]) == {}
    assert (await responses.list(US, ListQuery())).data == []


async def a_response_deleted_while_it_runs_cannot_be_finished(database: Database) -> None:
    """And does not come back."""
    responses = Responses(database)
    await responses.begin(US, response("resp_1"), [user("msg_1")])
    await responses.delete(US, "resp_1")
    await refused(NotFound, responses.finish(US, response("resp_1", assistant("msg_2"), status="completed"), b""))
    await refused(NotFound, responses.get(US, "resp_1"))
    assert await responses.find_items(US, ["msg_1", "msg_2"]) == {}


async def responses_are_listed_with_their_output_and_filtered_by_model(database: Database) -> None:
    """Newest first unless asked otherwise."""
    responses = Responses(database)
    for n in range(6):
        await stored(responses, f"resp_{n}", model="host/even" if n % 2 == 0 else "host/odd")
    page = await responses.list(US, ListQuery(limit=4))
    assert [entry.id for entry in page.data] == ["resp_5", "resp_4", "resp_3", "resp_2"]
    assert (page.first_id, page.last_id, page.has_more) == ("resp_5", "resp_2", True)
    assert [ids(entry.output) for entry in page.data] == [[f"resp_{n}.out"] for n in (5, 4, 3, 2)]
    odd = await responses.list(US, ListQuery(model="host/odd", order="asc"))
    assert ([entry.id for entry in odd.data], odd.has_more) == (["resp_1", "resp_3", "resp_5"], False)
    empty = await responses.list(US, ListQuery(model="host/none"))
    assert (empty.data, empty.first_id, empty.last_id, empty.has_more) == ([], None, None, False)
    await pages_agree(lambda query: responses.list(US, query), [f"resp_{n}" for n in range(6)])


async def input_items_are_the_responses_own(database: Database) -> None:
    """Neither its output nor what it continues."""
    responses = Responses(database)
    await stored(responses, "resp_1")
    await responses.begin(US, response("resp_2", previous="resp_1"), [user(f"msg_{n}") for n in range(40)])
    await responses.finish(US, response("resp_2", assistant("msg_out"), status="completed", previous="resp_1"), b"")
    await pages_agree(lambda query: responses.input_items(US, "resp_2", query), [f"msg_{n}" for n in range(40)])


async def items_are_found_wherever_the_owner_has_them(database: Database) -> None:
    """In input, output and conversations; what is missing is left out."""
    responses = Responses(database)
    await stored(responses, "resp_1")
    call = FunctionCall(id="fc_1", call_id="call_1", name="f", arguments="{}", status="completed")
    await conversation(database, "conv_1", call)
    found = await responses.find_items(US, ["resp_1.in", "resp_1.out", "fc_1", "msg_none"])
    assert found == {"resp_1.in": user("resp_1.in"), "resp_1.out": assistant("resp_1.out"), "fc_1": call}
    assert await responses.find_items(US, []) == {}
    assert len(await responses.find_items(US, ["fc_1", *(f"msg_{n}" for n in range(1200))])) == 1


async def what_a_dead_server_left_unfinished_is_marked_as_failed(database: Database) -> None:
    """And only that."""
    responses = Responses(database)
    await stored(responses, "resp_done")
    for n in range(250):
        await responses.begin(US if n % 2 else THEM, response(f"resp_{n}"), [user("msg_1")])
    assert await responses.fail_left_over(3600.0) == 0  # a process of an earlier release may be at work on them
    assert await responses.fail_left_over(3601.0) == 250
    assert await responses.fail_left_over(3601.0) == 0
    failed = await responses.get(US, "resp_1")
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "server_error"
    assert "1970-01-01T01:00:01" in failed.error.message
    assert (await responses.get(US, "resp_done")).status == "completed"


# ---------------------------------------------------------------- chat completions


def completion(id: str, **metadata: str) -> StoredCompletion:
    """A stored chat completion."""
    messages = [
        b'{"role":"system","content":"Be brief."}',
        b'{"role":"user","content":[{"type":"text","text":"Hi"}]}',
    ]
    body = b'{"id":"%b","object":"chat.completion","metadata":{"from":"the host"}}' % id.encode()
    return StoredCompletion(
        id=id, created_at=1, model="host/model", metadata=metadata, body=body, messages=messages * 20
    )


async def chat_completions_are_kept_listed_changed_and_deleted(database: Database) -> None:
    """With metadata in the body, and filters that all have to hold."""
    completions = Completions(database)
    for n in range(6):
        await completions.put(US, completion(f"chat_{n}", parity=str(n % 2), half=str(n // 3), **{'o"d$d.': "x"}))
    assert b'"metadata":{"parity":"1","half":"0","o\\"d$d.":"x"}' in bytes(await completions.get(US, "chat_1"))
    await refused(Conflict, completions.put(US, completion("chat_1")))

    async def listed(metadata: dict[str, str], model: str | None = None) -> list[str | None]:
        page = await completions.list(US, ListQuery(order="asc", model=model), metadata)
        return [page.first_id, page.last_id, str(len(page.data))]

    assert await listed({}) == ["chat_0", "chat_5", "6"]
    assert await listed({"parity": "1", "half": "1"}) == ["chat_3", "chat_5", "2"]
    assert await listed({'o"d$d.': "x"}) == ["chat_0", "chat_5", "6"]
    assert await listed({"parity": "1"}, "host/other") == [None, None, "0"]
    assert b'"metadata":{"parity":"0"}' in bytes(await completions.update(US, "chat_5", {"parity": "0"}))
    assert await listed({"parity": "1", "half": "1"}) == ["chat_3", "chat_3", "1"]
    await completions.delete(US, "chat_3")
    await refused(NotFound, completions.get(US, "chat_3"))
    await refused(NotFound, completions.messages(US, "chat_3", ListQuery()))
    await refused(NotFound, completions.delete(US, "chat_3"))


async def messages_of_a_chat_completion_have_ids_and_pages(database: Database) -> None:
    """Text in `content`, parts in `content_parts`."""
    completions = Completions(database)
    await completions.put(US, completion("chat_1"))
    page = await completions.messages(US, "chat_1", ListQuery(order="asc", limit=2))
    assert (page.first_id, page.last_id, page.has_more) == ("chat_1-0", "chat_1-1", True)
    assert b'"content":"Be brief.","content_parts":null' in bytes(page.data[0])
    assert b'"content":null,"content_parts":[{"type":"text","text":"Hi"}]' in bytes(page.data[1])
    rest = await completions.messages(US, "chat_1", ListQuery(order="asc", limit=100, after="chat_1-1"))
    assert (len(rest.data), rest.last_id, rest.has_more) == (38, "chat_1-39", False)


# ---------------------------------------------------------------- tenancy, cursors


async def nothing_of_another_owner_is_seen_or_changed(database: Database) -> None:
    """Every method that takes an owner: foreign is the same as missing."""
    responses, completions = Responses(database), Completions(database)
    conversations = await conversation(database, "conv_1", user("msg_1"))
    await stored(responses, "resp_1")
    await responses.begin(US, response("resp_2"), [])
    await completions.put(US, completion("chat_1"))
    query = ListQuery()
    for call in (
        responses.get(THEM, "resp_1"),
        responses.trail(THEM, "resp_1"),
        responses.history(THEM, "resp_1"),
        responses.input_items(THEM, "resp_1", query),
        responses.delete(THEM, "resp_1"),
        responses.finish(THEM, response("resp_2", status="completed"), b""),
        conversations.get(THEM, "conv_1"),
        conversations.update(THEM, "conv_1", {}),
        conversations.delete(THEM, "conv_1"),
        conversations.append(THEM, "conv_1", [user("msg_2")]),
        conversations.list_items(THEM, "conv_1", query),
        conversations.get_item(THEM, "conv_1", "msg_1"),
        conversations.delete_item(THEM, "conv_1", "msg_1"),
        conversations.history(THEM, "conv_1"),
        conversations.claim(THEM, "conv_1", "resp_9", worker="w"),
        completions.get(THEM, "chat_1"),
        completions.update(THEM, "chat_1", {}),
        completions.delete(THEM, "chat_1"),
        completions.messages(THEM, "chat_1", query),
    ):
        error = await refused(NotFound, call)
        assert error.status == 404
    assert await responses.find_items(THEM, ["msg_1", "resp_1.in"]) == {}
    assert (await responses.list(THEM, query)).data == []
    assert (await completions.list(THEM, query)).data == []
    await refused(InvalidRequest, responses.list(THEM, ListQuery(after="resp_1")))
    await conversations.claim(US, "conv_1", "resp_1", worker="w")
    await conversations.release(THEM, "conv_1", "resp_1")
    await refused(Conflict, conversations.claim(US, "conv_1", "resp_2", worker="w"))
    assert ids(await conversations.history(US, "conv_1")) == ["msg_1"]
    assert (await responses.get(US, "resp_2")).status == "in_progress"


async def a_chain_does_not_lead_to_another_owner(database: Database) -> None:
    """A link to a foreign response breaks it."""
    responses = Responses(database)
    await stored(responses, "resp_1")
    await responses.begin(THEM, response("resp_2", previous="resp_1"), [user("msg_1")])
    assert "'resp_1'" in (await refused(NotFound, responses.history(THEM, "resp_2"))).message


async def a_cursor_outside_the_list_is_the_clients_mistake(database: Database) -> None:
    """It is named with the field that carried it."""
    responses = Responses(database)
    conversations = await conversation(database, "conv_1", user("msg_1"))
    await conversation(database, "conv_2", user("msg_2"))
    await stored(responses, "resp_1")
    for call, param in (
        (responses.list(US, ListQuery(after="resp_9")), "after"),
        (responses.list(US, ListQuery(before="resp_9")), "before"),
        (responses.input_items(US, "resp_1", ListQuery(after="resp_1.out")), "after"),
        (conversations.list_items(US, "conv_1", ListQuery(after="msg_2")), "after"),
    ):
        assert (await refused(InvalidRequest, call)).param == param


async def an_approval_counts_once(database: Database) -> None:
    """Of several that act upon it at once, one does; another owner's of the same name is another."""
    approvals = Approvals(database, lambda: 1.0)
    several = (approvals.use(US, "mcpr_1", f"resp_{n}") for n in range(5))
    outcomes = await asyncio.gather(*several, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert {each.code for each in outcomes if isinstance(each, Conflict)} == {"approval_used"}
    await refused(Conflict, Approvals(database, lambda: 2.0).use(US, "mcpr_1", "resp_9"))
    await approvals.use(THEM, "mcpr_1", "resp_1")
    await approvals.use(US, "mcpr_2", "resp_1")


Case = Callable[[Database], Awaitable[None]]

CASES: tuple[Case, ...] = (
    a_response_is_there_as_soon_as_it_begins_and_changes_when_it_ends,
    a_response_that_ended_does_not_end_again,
    a_run_that_another_worker_has_ended_is_lost,
    an_item_without_an_id_is_an_internal_error_and_nothing_is_stored,
    the_same_item_twice_in_an_input_is_the_clients_mistake,
    a_response_id_is_taken_once,
    a_chain_is_read_oldest_first_and_forks_are_apart,
    a_long_chain_with_empty_links_is_read_whole,
    what_cannot_be_continued_says_why,
    a_chain_over_a_deleted_response_says_which,
    a_deleted_response_leaves_nothing,
    a_response_deleted_while_it_runs_cannot_be_finished,
    responses_are_listed_with_their_output_and_filtered_by_model,
    input_items_are_the_responses_own,
    items_are_found_wherever_the_owner_has_them,
    what_a_dead_server_left_unfinished_is_marked_as_failed,
    chat_completions_are_kept_listed_changed_and_deleted,
    messages_of_a_chat_completion_have_ids_and_pages,
    nothing_of_another_owner_is_seen_or_changed,
    a_chain_does_not_lead_to_another_owner,
    a_cursor_outside_the_list_is_the_clients_mistake,
    an_approval_counts_once,
)
