"""A tool for tests: it searches nothing, and does what its script says. It shows what any `ServerTool` has to do."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from antiphon.errors import NotFound
from antiphon.knowledge import FileSearchConfig
from antiphon.models.base import Access
from antiphon.tools.file_search import FileSearch
from antiphon.vectors.base import Chunk, Hit, Piece, Wanted


class ScriptedSearch:
    """Vector stores by id, each a list of (file id, score, text). `asked` has what was searched.

    A store may also be an exception, which is raised, or an event, which is waited for and finds nothing.
    """

    def __init__(self, stores: Mapping[str, Any]) -> None:
        self.stores = dict(stores)
        self.asked: list[tuple[str, Wanted]] = []
        self._changed = asyncio.Condition()

    async def searched(self, times: int) -> None:
        """Returns when that many searches have begun; raises `TimeoutError` if they do not come."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= times)

    async def check(self, _owner: str, store_id: str) -> None:
        """Raises `NotFound` for a store that is not there."""
        if store_id not in self.stores:
            raise NotFound(f"Vector store with id {store_id!r} not found.")

    async def search(self, _owner: str, store_id: str, wanted: Wanted, *, access: Access) -> list[Hit]:
        """What the store's script says."""
        del access
        self.asked.append((store_id, wanted))
        async with self._changed:
            self._changed.notify_all()
        script = self.stores[store_id]
        if isinstance(script, Exception):
            raise script
        if isinstance(script, asyncio.Event):
            await script.wait()
            return []
        return list(_hits(script))[: wanted.count]


def _hits(script: Iterable[tuple[str, float, str]]) -> Iterable[Hit]:
    for number, (file_id, score, text) in enumerate(script):
        chunk = Chunk(id=f"{file_id}-{number}", number=number, piece=Piece(text=text, start=0, end=len(text)))
        yield Hit(file_id=file_id, filename=f"{file_id}.txt", attributes={}, score=score, chunk=chunk)


def scripted_search(config: FileSearchConfig = FileSearchConfig(), **stores: Any) -> FileSearch:  # noqa: B008
    """The tool `file_search` over scripted stores."""
    return FileSearch(ScriptedSearch(stores), config)
