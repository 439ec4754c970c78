"""Approvals that were acted upon: each counts once, whatever forks, retries and concurrent turns make of it."""

from antiphon.clock import Clock
from antiphon.errors import Conflict
from antiphon.stores.database import Database, Duplicate, Statement
from antiphon.stores.table import Table

_INSERT = Table("used_approvals").insert("id, response_id, used_at")


class Approvals:
    """The used approvals of all owners."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def use(self, owner: str, request_id: str, response_id: str) -> None:
        """Uses the approval of a request up. Raises `Conflict` if it was used before."""
        row = (owner, request_id, response_id, int(self._clock()))
        try:
            await self._database.transaction([Statement(_INSERT, row, 1)])
        except Duplicate as error:
            message = f"The approval request {request_id!r} was acted upon before; an approval counts once."
            raise Conflict(message, code="approval_used") from error
