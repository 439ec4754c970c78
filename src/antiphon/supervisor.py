"""Several processes in as many places: started, started again when they end by themselves, renewed, ended together.

A process is another `antiphon serve` on the socket that its parent listens on. It inherits one end of a link: a byte on
it says that the process serves, and its end tells either side that the other is gone.
"""

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from msgspec.structs import replace

from antiphon.config import Config, ConfigError

log = logging.getLogger("antiphon.supervisor")

Listens = Callable[[Config], None]
"""Is told the configuration with the port that is listened on."""

BACKLOG: Final = 2048
UNSENT_BYTES_MAX: Final = 128 * 1024
"""What the kernel holds for a client before it says that the client is slow; by itself it would take megabytes."""
KILL_S: Final = 3.0
"""How long a process may take longer than its patience allows, before it is killed."""
PAUSES_S: Final = (0.1, 0.5, 2.0, 10.0)
"""Before a process is started again that did not last; the last one from then on."""
STEADY_S: Final = 10.0
"""How long a process must have served for its end to be an accident, and not the rule."""
START_S: Final = 120.0
"""How long a process may take until it serves: it may have to migrate a database."""


def serve(config: Config, listens: Listens, arguments: Sequence[str]) -> int:
    """Serves with `config.workers` processes, each started with these arguments; returns the exit code.

    Raises `ConfigError` if the port is not to be had.
    """
    again = [sys.executable, "-P", "-m", "antiphon.cli", *arguments]
    patience_s = config.timeouts.shutdown_s + KILL_S
    with listening_on(config, listens) as listening:
        return asyncio.run(Supervisor(again, listening, workers=config.workers, patience_s=patience_s).run())


@contextmanager
def listening_on(config: Config, listens: Listens) -> Iterator[socket.socket]:
    """The socket that a server accepts from. Raises `ConfigError` if the port is not to be had."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listening = socket.create_server((config.host, config.port), backlog=BACKLOG, family=family)
    except OSError as error:
        cause = (error.strerror or "").partition(" (")[0]
        raise ConfigError([f"port: cannot listen on {config.host}, port {config.port}: {cause}."]) from error
    with listening:
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # its connections inherit it
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
        listens(replace(config, port=listening.getsockname()[1]))
        yield listening


class Child:
    """A process, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket) -> None:
        self._process = process
        self._link = link
        self.since_s = time.monotonic()

    @classmethod
    async def start(cls, command: Sequence[str], listening: socket.socket) -> "Child":
        """Starts one."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        with theirs:
            fds = (listening.fileno(), theirs.fileno())
            given = ("--listening", str(fds[0]), "--parent", str(fds[1]))
            # A terminal's Ctrl-C is for the parent, which tells each.
            process = await asyncio.create_subprocess_exec(*command, *given, pass_fds=fds, process_group=0)
        return cls(process, ours)

    async def serves(self) -> bool:
        """Returns once it serves; whether it does."""
        try:
            async with asyncio.timeout(START_S):
                return await asyncio.get_running_loop().sock_recv(self._link, 1) != b""
        except TimeoutError:
            log.warning("a process was not ready within %g seconds", START_S)
            return False
        except OSError:  # it broke off
            return False

    async def gone(self) -> int:
        """Returns its exit code, once it has one."""
        return await self._process.wait()

    async def end(self, patience_s: float) -> None:
        """Tells it to end, and makes it if it does not."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(patience_s):
                    await self.gone()
            except TimeoutError:
                log.warning("a process did not end within %g seconds and is killed", patience_s)
                self._process.kill()
                await self.gone()
        self._link.close()


class Supervisor:
    """Keeps `workers` processes serving a socket. Each has `patience_s` to end when it is told to."""

    def __init__(self, command: Sequence[str], listening: socket.socket, *, workers: int, patience_s: float) -> None:
        self._command = command
        self._listening = listening
        self._workers = workers
        self._patience_s = patience_s
        self._places: dict[int, Child] = {}
        self._starting: set[Child] = set()
        self._renewal = asyncio.Event()

    async def run(self) -> int:
        """Keeps processes until SIGTERM or SIGINT; on SIGHUP renews them. Returns the exit code.

        The first one goes ahead: if it cannot serve, it has said why, and none does.
        """
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        loop.add_signal_handler(signal.SIGHUP, self._renewal.set)
        keeping = asyncio.create_task(self._keep_all())
        telling = asyncio.create_task(told.wait())
        try:
            await asyncio.wait((keeping, telling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (keeping, telling):
                task.cancel()
            await asyncio.gather(keeping, telling, return_exceptions=True)
            self._listening.close()
            children = {*self._places.values(), *self._starting}
            await asyncio.gather(*(child.end(self._patience_s) for child in children))
        return 0 if told.is_set() else 1

    async def _keep_all(self) -> None:
        """Ends only if the first process cannot serve."""
        if not await self._fill(0):
            return
        if all(await asyncio.gather(*map(self._fill, range(1, self._workers)))):
            log.info("all processes serve")
        works: list[Coroutine[Any, Any, None]] = [self._keep(place) for place in range(self._workers)]
        async with asyncio.TaskGroup() as tasks:
            for work in (*works, self._renew()):
                tasks.create_task(work)

    async def _keep(self, place: int) -> None:
        """Has a process in this place, whatever becomes of each."""
        failures = 0
        while True:
            child = self._places.get(place)
            if child is not None:
                code = await child.gone()
                if child is not self._places[place]:  # renewed meanwhile
                    continue
                log.error("a process ended", extra={"exit": code, "place": place})
                failures = 0 if time.monotonic() - child.since_s > STEADY_S else failures
            if failures:
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S)) - 1])
            failures += 1
            while not await self._fill(place):
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S)) - 1])
                failures += 1

    async def _renew(self) -> None:
        """On request, puts a new process into each place in turn; if one cannot serve, the old ones go on."""
        while True:
            await self._renewal.wait()
            self._renewal.clear()
            for place in range(self._workers):
                if not await self._fill(place):
                    log.error("the new process does not serve, so the others are not renewed")
                    break
            else:
                log.info("all processes are new")

    async def _fill(self, place: int) -> bool:
        """Starts a process, and, once it serves, puts it in the place of the one that is there, which ends."""
        child = await Child.start(self._command, self._listening)
        self._starting.add(child)
        serves = await child.serves()
        old = self._places.get(place) if serves else child
        if serves:
            self._places[place] = child
        if old is not None:
            self._starting.add(old)
            await old.end(self._patience_s)
            self._starting.discard(old)
        self._starting.discard(child)
        return serves
