"""Stored chat completions: the host's answer as it was, its metadata, and the messages that it answered."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from antiphon.errors import Conflict
from antiphon.stores.database import Database, Dialect, Duplicate, Mismatch, Statement
from antiphon.stores.table import INSERT_ROWS_MAX, Listing, Table, not_found
from antiphon.wire.base import Page
from antiphon.wire.responses import ListQuery

COMPLETIONS = Table("completions")
MESSAGES = Table("completion_messages", "seq")

_INSERT = COMPLETIONS.insert("id, created_at, model, metadata, body")
_GET = COMPLETIONS.select("body")
_UPDATE = COMPLETIONS.update("metadata = ?, body = ?")
_DELETE = COMPLETIONS.delete()
_DELETE_MESSAGES = MESSAGES.delete("container = ?")
_INSERT_MESSAGES = [MESSAGES.insert("container, seq, id, body", rows) for rows in range(1, INSERT_ROWS_MAX + 1)]
_HAS_MODEL: Final[dict[Dialect, str]] = {
    "sqlite": "(model = ? OR json_extract(CAST(body AS TEXT), '$.model') = ?)",
    # To PostgreSQL, a U+0000 anywhere in the JSON is an error.
    "postgres": r"(model = ? OR replace(convert_from(body, 'UTF8'), '\u0000', '\ufffd')::json ->> 'model' = ?)",
}
_HAS_PAIR: Final[dict[Dialect, str]] = {
    "sqlite": "EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)",
    "postgres": r"replace(metadata, '\u0000', '\ufffd')::json ->> ? = ?",
}

_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_message = msgspec.json.Decoder(dict[str, Any]).decode


class StoredCompletion(Struct, frozen=True, kw_only=True):
    """A chat completion to be kept. `body` is its JSON object, `messages` the request's, as JSON objects."""

    id: str
    created_at: int
    model: str
    metadata: dict[str, str]
    body: bytes
    messages: Sequence[bytes | Raw]


class Completions:
    """The stored chat completions of all owners, one owner at a time. A foreign or missing id raises `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, owner: str, completion: StoredCompletion) -> None:
        """Stores a completion. Raises `Conflict` if its id is taken."""
        id, metadata = completion.id, completion.metadata
        body = _with_metadata(completion.body, metadata)
        row = (owner, id, completion.created_at, completion.model, _text(metadata), body)
        statements = [Statement(_INSERT, row)]
        for start in range(0, len(completion.messages), INSERT_ROWS_MAX):
            params: list[object] = []
            chunk = completion.messages[start : start + INSERT_ROWS_MAX]
            for seq, message in enumerate(chunk, start):
                params += (owner, id, seq, f"{id}-{seq}", _stored_message(f"{id}-{seq}", message))
            statements.append(Statement(_INSERT_MESSAGES[len(chunk) - 1], tuple(params)))
        try:
            await self._database.transaction(statements)
        except Duplicate as error:
            raise Conflict(f"A chat completion with id '{id}' exists already.") from error

    async def get(self, owner: str, id: str) -> Raw:
        """The completion's JSON, with `metadata`."""
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("Chat completion", id)
        return Raw(row[0])

    async def list(self, owner: str, query: ListQuery, metadata: Mapping[str, str] | None = None) -> Page[Raw]:
        """A page of completions; `query.model`, as asked for or as answered, and every pair of `metadata` filter."""
        clauses: list[str] = []
        params: list[object] = []
        if query.model is not None:
            clauses.append(_HAS_MODEL[self._database.dialect])
            params += (query.model, query.model)
        for pair in (metadata or {}).items():
            clauses.append(_HAS_PAIR[self._database.dialect])
            params += pair
        listing = Listing(owner=owner, query=query, where=" AND ".join(clauses), params=tuple(params))
        return await self._page(COMPLETIONS, listing)

    async def update(self, owner: str, id: str, metadata: dict[str, str]) -> Raw:
        """Replaces the metadata; returns the completion."""
        body = _with_metadata(bytes(await self.get(owner, id)), metadata)
        try:
            await self._database.transaction([Statement(_UPDATE, (_text(metadata), body, owner, id), 1)])
        except Mismatch as error:
            raise not_found("Chat completion", id) from error
        return Raw(body)

    async def delete(self, owner: str, id: str) -> None:
        """Removes the completion and its messages."""
        try:
            await self._database.transaction(
                [Statement(_DELETE, (owner, id), 1), Statement(_DELETE_MESSAGES, (owner, id))]
            )
        except Mismatch as error:
            raise not_found("Chat completion", id) from error

    async def messages(self, owner: str, id: str, query: ListQuery) -> Page[Raw]:
        """A page of the request's messages."""
        await self.get(owner, id)
        return await self._page(MESSAGES, Listing(owner=owner, query=query, where="container = ?", params=(id,)))

    async def _page(self, table: Table, listing: Listing) -> Page[Raw]:
        rows, has_more = await table.page(self._database, "id, body", listing)
        first, last = (rows[0][0], rows[-1][0]) if rows else (None, None)
        return Page(data=[Raw(row[1]) for row in rows], first_id=first, last_id=last, has_more=has_more)


def _text(metadata: dict[str, str]) -> str:
    return _encode(metadata).decode()


def _with_metadata(body: bytes, metadata: dict[str, str]) -> bytes:
    fields = _decode_fields(body)
    fields["metadata"] = Raw(_encode(metadata))
    return _encode(fields)


def _stored_message(id: str, message: bytes | Raw) -> bytes:
    """A message as the API lists it: text in `content`, parts in `content_parts`."""
    fields = {"content": None, "content_parts": None, **_decode_message(message), "id": id}
    if isinstance(fields["content"], list):
        fields["content_parts"], fields["content"] = fields["content"], None
    return _encode(fields)
