"""Processes of Antiphon on one database, which are killed, frozen and started again while others answer."""

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

START_S_MAX = 60.0


@dataclass
class Down:
    """A process that was made to stop working, and when: killed, or frozen until `thawed_s` (so far: infinity)."""

    process: int
    at_s: float
    thawed_s: float | None = None


@dataclass
class Member:
    """One process of the fleet, and those that come after it in its place."""

    number: int
    port: int
    process: "asyncio.subprocess.Process | None" = None
    ready: bool = False
    frozen: bool = False
    starting: "asyncio.Task[None] | None" = None

    @property
    def root(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Fleet:
    """Some processes. `settings` are those of the process with a number; `chance` chooses; `entry` is what is run."""

    folder: Path
    settings: Callable[[int], dict[str, Any]]
    size: int
    chance: random.Random
    entry: tuple[str, ...] = ("-m", "antiphon.cli")
    members: list[Member] = field(default_factory=list)
    down: list[Down] = field(default_factory=list)
    kills_while_starting: int = 0
    start_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """Starts all of them."""
        ports = _free_ports(self.size, random.Random())
        self.members = [Member(number, port) for number, port in enumerate(ports)]
        for member in self.members:
            self._start(member)
            await self.ready(member)

    async def ready(self, member: Member) -> None:
        """Returns once a process answers."""
        if member.starting is not None:
            await asyncio.shield(member.starting)

    async def all_ready(self) -> None:
        """Returns once all of them answer."""
        for member in self.members:
            await self.ready(member)

    async def pick(self) -> Member:
        """Any process that answers, as a load balancer would find it."""
        while True:
            answering = [member for member in self.members if member.ready]
            if answering:
                return self.chance.choice(answering)
            await asyncio.sleep(0.01)

    async def kill(self, member: Member) -> None:
        """SIGKILL, whatever the process is doing; another takes its place."""
        if not member.ready:
            self.kills_while_starting += 1
        member.ready = False
        if member.starting is not None:
            member.starting.cancel()
            await self._cancelled(member.starting)
        self.down.append(Down(member.number, time.monotonic()))
        if member.process is not None:
            if member.process.returncode is None:
                member.process.kill()
            await member.process.wait()
        self._start(member)

    def freeze(self, member: Member) -> None:
        """SIGSTOP. The balancer does not notice."""
        if member.process is None:
            return
        member.frozen = True
        self.down.append(Down(member.number, time.monotonic(), thawed_s=math.inf))
        member.process.send_signal(signal.SIGSTOP)

    def thaw(self, member: Member) -> None:
        """SIGCONT."""
        if member.process is None or not member.frozen:
            return
        member.process.send_signal(signal.SIGCONT)
        member.frozen = False
        self._last(member).thawed_s = time.monotonic()

    async def close(self) -> None:
        """Ends all of them at once."""
        for member in self.members:
            if member.starting is not None:
                member.starting.cancel()
                await self._cancelled(member.starting)
            if member.process is not None and member.process.returncode is None:
                member.process.kill()
                await member.process.wait()

    def log(self, number: int) -> Path:
        """Where a process writes its log."""
        return self.folder / f"server{number}.log"

    def _last(self, member: Member) -> Down:
        return next(each for each in reversed(self.down) if each.process == member.number)

    async def _cancelled(self, starting: "asyncio.Task[None]") -> None:
        (ended,) = await asyncio.gather(starting, return_exceptions=True)
        if isinstance(ended, Exception):
            self.problems.append(str(ended))

    def _start(self, member: Member) -> None:
        member.starting = asyncio.create_task(self._started(member))

    async def _started(self, member: Member) -> None:
        began_s = time.monotonic()
        tree = {"find_hosts": False, "data_dir": str(self.folder / "data"), "log_level": "info"}
        file = self.folder / f"server{member.number}.json"
        file.write_text(json.dumps({**tree, **self.settings(member.number)}))
        command = (sys.executable, *self.entry, "serve", "--config", str(file), "--port", str(member.port))
        keep = {name: each for name, each in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME")}
        with self.log(member.number).open("ab") as log:
            member.process = await asyncio.create_subprocess_exec(
                *command, env=keep, stdout=asyncio.subprocess.DEVNULL, stderr=log
            )
        async with aiohttp.ClientSession() as session:
            while not await _answers(session, f"{member.root}/ready"):
                if member.process.returncode is not None:
                    tail = self.log(member.number).read_text()[-2000:]
                    raise RuntimeError(f"process {member.number} ended with {member.process.returncode}: {tail}")
                if time.monotonic() > began_s + START_S_MAX:
                    raise RuntimeError(f"process {member.number} does not become ready")
                await asyncio.sleep(0.02)
        member.ready = True
        self.start_s.append(time.monotonic() - began_s)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False


def _free_ports(count: int, chance: random.Random) -> list[int]:
    """Ports that no outgoing connection is ever given: a process that is down must get its own back."""
    found: list[int] = []
    for port in chance.sample(range(15_000, 32_000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found
