"""Signals between the processes of a PostgreSQL: LISTEN and NOTIFY on one channel, through one connection.

What is sent wakes this process at once, and the others as soon as the server passes it on: the topics of one turn of
the event loop travel together. While the connection is gone, topics wait; once it is back, everybody here is woken,
since signals of others may have been lost.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from antiphon.errors import ApiError
from antiphon.stores import pg_connections as connections
from antiphon.stores.pg_connections import FOREIGN, Connection
from antiphon.stores.signals import LocalSignals, Wake

CHANNEL: Final = "antiphon"
PAYLOAD_BYTES_MAX: Final = 7900
"""Of 8000 that PostgreSQL allows."""
PAYLOADS_MAX: Final = 20
BEAT_S: Final = 10.0
"""How often a silent connection is asked whether it still is one."""
ANSWER_S: Final = 5.0
PAUSES_S: Final = (0.05, 0.2, 1.0)
"""Between attempts to connect; the last one from then on."""
CLOSE_S: Final = 1.0
_EVERYBODY: Final = ""
_NOTIFY: Final = f"SELECT pg_notify('{CHANNEL}', payload) FROM unnest($1::text[]) payload"


class PostgresSignals:
    """Signals between all processes of one database. Made, and used, on an event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = LocalSignals()
        self._unsent: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._closing = False
        self._task = asyncio.ensure_future(self._serve())

    def send(self, topic: str, *, far: bool = True) -> None:
        """Wakes those who listen to the topic; with `far`, soon those of other processes as well."""
        self._local.send(topic)
        if far:
            self._unsent[topic] = None
            self._changed.set()

    def listen(self, topic: str, wake: Wake) -> Callable[[], None]:
        """Calls `wake` at each signal, until what is returned is called."""
        return self._local.listen(topic, wake)

    def watch(self, *, others: bool) -> None:
        """Others are always heard: that costs nothing until they speak."""

    async def close(self) -> None:
        """Sends what is unsent, if that can be done at once, and closes the connection."""
        self._closing = True
        self._changed.set()
        await asyncio.wait((self._task,), timeout=CLOSE_S)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _serve(self) -> None:
        pauses_s = iter(PAUSES_S)
        while not self._closing:
            with contextlib.suppress(ApiError, *FOREIGN):
                connection = await connections.connect(self._url)
                try:
                    await connection.add_listener(
                        CHANNEL, lambda to, by, _, payload: self._hear(payload, own=by == to.get_server_pid())
                    )
                    pauses_s = iter(PAUSES_S)
                    await self._speak(connection)
                finally:
                    await connections.end(connection)
            if not self._closing:
                await asyncio.sleep(next(pauses_s, PAUSES_S[-1]))

    async def _speak(self, connection: Connection) -> None:
        """Sends until the connection is lost, or nobody needs it any longer."""
        connection.add_termination_listener(lambda _: self._changed.set())
        self._local.send_all()
        while not (connection.is_closed() or (self._closing and not self._unsent)):
            self._changed.clear()
            if self._unsent:
                await self._send(connection)
            elif not await self._stirred():
                await connection.execute("SELECT 1", timeout=ANSWER_S)

    async def _send(self, connection: Connection) -> None:
        topics, self._unsent = self._unsent, {}
        sent = False
        try:
            await connection.execute(_NOTIFY, list(payloads(topics)), timeout=ANSWER_S)
            sent = True
        finally:
            if not sent:
                self._unsent = topics | self._unsent

    async def _stirred(self) -> bool:
        try:
            async with asyncio.timeout(BEAT_S):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _hear(self, payload: str, *, own: bool) -> None:
        if own:
            return
        if payload == _EVERYBODY:
            self._local.send_all()
        else:
            for topic in payload.split("\n"):
                self._local.send(topic)


def payloads(topics: Iterable[str]) -> Iterator[str]:
    """The topics as few payloads; where they are too many, or one does not fit, a payload that wakes everybody."""
    parts: list[list[str]] = [[]]
    size = 0
    for topic in topics:
        length = len(topic.encode(errors="replace")) + 1
        if length > PAYLOAD_BYTES_MAX or "\n" in topic or "\0" in topic or not topic.isprintable():
            return iter((_EVERYBODY,))
        if size + length > PAYLOAD_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(topic)
        size += length
    if len(parts) > PAYLOADS_MAX:
        return iter((_EVERYBODY,))
    return map("\n".join, parts)
