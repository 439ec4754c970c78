"""Tool groups that clients have registered: MCP servers by name, each owner's own."""

from typing import Any

import msgspec
from msgspec import Struct

from antiphon.clock import Clock
from antiphon.errors import Conflict, InvalidRequest
from antiphon.stores.database import Database, Duplicate, Row
from antiphon.stores.table import Table

_TABLE = Table("tool_groups")
_COLUMNS = "id, provider_id, uri, args"
_INSERT = _TABLE.insert(f"{_COLUMNS}, created_at")
_GET = _TABLE.select(_COLUMNS)
_ALL = _TABLE.select(_COLUMNS, "id <> ''")
_COUNT = _TABLE.select("count(*)", "id <> ?")
_DELETE = _TABLE.delete()

_decode_args = msgspec.json.Decoder(dict[str, Any] | None).decode


class Registered(Struct, frozen=True, kw_only=True):
    """An MCP server by name. `args` are what calls of its tools are given where they say nothing else."""

    id: str
    provider_id: str
    uri: str
    args: dict[str, Any] | None = None


class ToolGroups:
    """The registered groups of all owners, one owner at a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def register(self, owner: str, group: Registered, *, most: int) -> None:
        """Keeps a group; again, if it is the same.

        Raises `Conflict` if the owner has another of this id, `InvalidRequest` if it has `most` others.
        """
        counted = await self._database.one(_COUNT, (owner, group.id))
        if counted is not None and counted[0] >= most:
            message = f"At most {most} tool groups can be registered; unregister one first."
            raise InvalidRequest(message, param="toolgroup_id", code="too_many_tool_groups")
        row = (owner, group.id, group.provider_id, group.uri, msgspec.json.encode(group.args).decode())
        try:
            await self._database.execute(_INSERT, (*row, int(self._clock())))
        except Duplicate as error:
            if await self.find(owner, group.id) == group:
                return
            message = f"A tool group '{group.id}' is registered already, as another; unregister it first."
            raise Conflict(message, param="toolgroup_id", code="tool_group_exists") from error

    async def find(self, owner: str, id: str) -> Registered | None:
        """The group."""
        row = await self._database.one(_GET, (owner, id))
        return None if row is None else _registered(row)

    async def list(self, owner: str) -> list[Registered]:
        """All of an owner's, by their names."""
        return sorted(map(_registered, await self._database.all(_ALL, (owner,))), key=lambda group: group.id)

    async def delete(self, owner: str, id: str) -> bool:
        """Removes a group; whether it was there."""
        return await self._database.execute(_DELETE, (owner, id)) == 1


def _registered(row: Row) -> Registered:
    id, provider_id, uri, args = row
    return Registered(id=id, provider_id=provider_id, uri=uri, args=_decode_args(args))
