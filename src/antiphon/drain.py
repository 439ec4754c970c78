"""The end of a process's work: from when on nothing more is begun, and how long what runs has to end by itself."""

import asyncio
import time
from collections.abc import Callable

Call = Callable[[], None]


class Drain:
    """Announces the end, once, to everything that begins or runs something; all of them share its one deadline."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._until_s: float | None = None
        self._begun = asyncio.Event()
        self._listening: list[Call] = []

    @property
    def begun(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._until_s is not None

    def begin(self) -> None:
        """Announces the end. Called on the event loop; the second time it does nothing."""
        if self._until_s is None:
            self._until_s = time.monotonic() + self._patience_s
            self._begun.set()
            for call in self._listening[:]:
                call()

    def hasten(self) -> None:
        """Lets patience end now."""
        self.begin()
        self._until_s = time.monotonic()

    def left_s(self) -> float:
        """How long what runs may still run."""
        return self._patience_s if self._until_s is None else max(0.0, self._until_s - time.monotonic())

    async def announced(self) -> None:
        """Returns once the end is announced."""
        await self._begun.wait()

    def listen(self, call: Call) -> Call:
        """Calls `call` when the end is announced, until what is returned is called."""
        self._listening.append(call)
        return lambda: self._listening.remove(call)
