"""Signals between the processes of one SQLite file, which has no way to send any: they look.

A commit of another process changes a number in the file's shared memory; to read it costs a few microseconds. It is
read while somebody listens: often if other processes are known to live, else now and then, in case one has come.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from antiphon.stores.signals import LocalSignals, Wake

LOOK_S: Final = 0.02
"""How often is looked: a signal of another process comes at most so late."""
LOOK_ALONE_S: Final = 0.2
"""How often is looked for a first commit of a process that nobody knows of yet."""


class PolledSignals:
    """Signals of this process at once, those of others when `commits()` has changed."""

    def __init__(self, commits: Callable[[], int]) -> None:
        self._commits = commits
        self._local = LocalSignals()
        self._looking: asyncio.TimerHandle | None = None
        self._watching = self._closed = False
        self._seen = 0

    def watch(self, *, others: bool) -> None:
        """Says whether there are other processes; until then, or until one commits, nobody else is believed to live."""
        began = others and not self._watching
        self._watching = others
        if began:
            self._local.send_all()  # what they did before was not seen
            self._rest()
        self._begin()

    def send(self, topic: str, *, far: bool = True) -> None:
        """Wakes those who listen to the topic; other processes see the commit that it tells of."""
        self._local.send(topic, far=far)

    def listen(self, topic: str, wake: Wake) -> Callable[[], None]:
        """Calls `wake` at each signal, until what is returned is called."""
        stop = self._local.listen(topic, wake)
        self._begin()
        return stop

    async def close(self) -> None:
        """Looks no more."""
        self._closed = True
        self._rest()

    def _rest(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _begin(self) -> None:
        if self._looking is None and self._local.heard and not self._closed:
            self._seen = self._commits()
            self._look_later()

    def _look_later(self) -> None:
        pause_s = LOOK_S if self._watching else LOOK_ALONE_S
        self._looking = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _look(self) -> None:
        self._looking = None
        if not self._local.heard:
            return
        seen, self._seen = self._seen, self._commits()
        if seen != self._seen:
            self._watching = True
            self._local.send_all()
        if self._looking is None:
            self._look_later()
