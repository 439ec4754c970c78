"""Clients that do what clients do, and go to another process when theirs is gone.

Each is a coroutine that goes on until it is told to stop, and writes what it was told into the ledger.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from fleet import Fleet
from ledger import ENDED, Ledger, Told
from upstream import MODEL

POLICY = [{"type": "compaction", "compact_threshold": 1000}]
LONG = "word " * 1100
PATIENCE_S = 90.0
"""For how long a client tries to be answered before that is a problem."""
SILENCE_S = 8.0
"""After how long without a byte a client tries another process."""
PAUSE_S = 0.03
AGAIN = {("conversation_locked", 409), ("idempotency_key_in_use", 409), ("response_moved", 409)}
GONE = (aiohttp.ClientError, OSError, TimeoutError)

Body = dict[str, Any]


class Unanswered(Exception):
    """A request that must not be sent twice, and whose answer was lost."""


@dataclass
class Answer:
    """A whole answer, from a process."""

    status: int
    raw: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.raw)


@dataclass
class Clients:
    """What all clients share."""

    fleet: Fleet
    ledger: Ledger
    chance: random.Random
    session: aiohttp.ClientSession
    stopped: bool = False
    keys: int = 0
    taken: dict[str, asyncio.Lock] = field(default_factory=dict)

    def key(self) -> str:
        """A new Idempotency-Key."""
        self.keys += 1
        return f"key-{self.keys}"

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, allowed: tuple[int, ...] = (200,)
    ) -> Answer:
        """The answer of some process, however often it has to be asked.

        A POST without key is sent once. Raises `Unanswered` if that has no answer.
        """
        once = method == "POST" and key is None and not path.endswith("/cancel")
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            try:
                answer = await self._asked(method, path, body, key)
            except GONE as error:
                self.ledger.broken += 1
                # Never sent, if no connection was made.
                if once and not isinstance(error, aiohttp.ClientConnectorError):
                    raise Unanswered(path) from error
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status in allowed:
                self.ledger.answers += 1
                return answer
            if not self.refused(answer):
                raise Refused(f"{method} {path}: {answer.status} {answer.raw[:400]!r}")
            await asyncio.sleep(PAUSE_S * (1 + self.chance.random()))
        raise Refused(f"{method} {path}: no answer within {PATIENCE_S:g} s")

    def refused(self, answer: Answer) -> bool:
        """Whether this is a refusal that tells to come again, which is noted."""
        try:
            code = answer.json["error"]["code"]
        except (ValueError, LookupError, TypeError):
            code = "?"
        if answer.status in (429, 503) or (code, answer.status) in AGAIN:
            self.ledger.refusals[f"{answer.status} {code}"] += 1
            return True
        return False

    async def _asked(self, method: str, path: str, body: Any, key: str | None) -> Answer:
        self.ledger.requests += 1
        member = await self.fleet.pick()
        headers = {} if key is None else {"idempotency-key": key}
        given = {"data": body()} if callable(body) else {"json": body} if body is not None else {}
        async with self.session.request(method, f"{member.root}/v1{path}", headers=headers, **given) as answer:
            return Answer(answer.status, await answer.read())

    async def stream(self, told: Told, method: str, path: str, *, body: Any = None, key: str | None = None) -> bool:
        """Reads a stream as far as it comes; whether it came to its end. Raises `Refused` for another answer."""
        self.ledger.requests += 1
        async with AsyncExitStack() as opened:
            try:
                member = await self.fleet.pick()
                headers = {} if key is None else {"idempotency-key": key}
                request = self.session.request(method, f"{member.root}/v1{path}", json=body, headers=headers)
                answer = await opened.enter_async_context(request)
                if answer.status != 200:
                    whole = Answer(answer.status, await answer.read())
                    if not self.refused(whole) and not (told.deleted and whole.status == 404):
                        raise Refused(f"{method} {path}: {whole.status} {whole.raw[:400]!r}")
                    await asyncio.sleep(PAUSE_S)
                    return False
                async for raw in events(answer):
                    if self.ledger.frame(told, raw):
                        return True
            except GONE:
                self.ledger.broken += 1
                told.broken_s = told.broken_s or time.monotonic()
            return False

    async def follow(self, told: Told) -> None:
        """Reads the rest of a stream from whatever process, as often as it breaks off."""
        deadline_s = time.monotonic() + PATIENCE_S
        while told.final is None and not told.deleted:
            if time.monotonic() > deadline_s:
                raise Refused(f"{told.tag} {told.id}: its stream does not end within {PATIENCE_S:g} s")
            self.ledger.reconnections += 1
            count = len(told.frames)
            after = f"&starting_after={count - 1}" if count else ""
            if not await self.stream(told, "GET", f"/responses/{told.id}?stream=true{after}"):
                await asyncio.sleep(PAUSE_S)

    async def poll(self, told: Told) -> None:
        """Asks again and again until a response has ended."""
        began_s = time.monotonic()
        while told.final is None:
            got = (await self.ask("GET", f"/responses/{told.id}")).json
            if got["status"] in ENDED:
                told.ends(got)
            elif time.monotonic() > began_s + PATIENCE_S:
                raise Refused(f"{told.tag} {told.id} is {got['status']} after {PATIENCE_S:g} s")
            else:
                await asyncio.sleep(PAUSE_S)

    # ------------------------------------------------------------ what clients want

    def wanted(self, told: Told, *, compacted: float = 0.3, **more: Any) -> Body:
        """The body of a request for a response, in some of which the context is compacted first."""
        body = {"model": f"slow/{MODEL}", "instructions": f"[{told.tag}]", "input": f"say {told.tag}", **more}
        if self.chance.random() < compacted:
            said = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "I see."}]
            body |= {"input": [*said, {"role": "user", "content": f"say {told.tag}"}], "context_management": POLICY}
        return body

    async def background(self) -> None:
        """A response in the background, polled."""
        told = self.ledger.new("background, polled")
        key = self.key() if self.chance.random() < 0.7 else None
        told.id = (await self.ask("POST", "/responses", self.wanted(told, background=True), key=key)).json["id"]
        await self.poll(told)

    async def background_stream(self) -> None:
        """A response in the background, streamed."""
        told = self.ledger.new("background, streamed")
        body = self.wanted(told, background=True, stream=True)
        await self._begun(told, body, None)

    async def foreground_stream(self) -> None:
        """A stream that is resumed."""
        told = self.ledger.new("stream")
        await self._begun(told, self.wanted(told, stream=True), None)

    async def keyed_stream(self) -> None:
        """A stream that is asked for again under its key; it must be the same, and go on."""
        told = self.ledger.new("stream with key")
        body, key = self.wanted(told, stream=True), self.key()
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            before, told.frames = told.frames, []
            ended = await self.stream(told, "POST", "/responses", body=body, key=key)
            shorter = min(len(before), len(told.frames))
            if told.frames[:shorter] != before[:shorter]:
                self.ledger.problems.append(f"{told.tag} {told.id}: under its key another stream came")
            if ended:
                return
            await asyncio.sleep(PAUSE_S)
        raise Refused(f"{told.tag}: its stream does not end within {PATIENCE_S:g} s")

    async def whole(self) -> None:
        """A whole response, asked for under a key until it is there."""
        await self._whole("whole")

    async def chain(self) -> None:
        """Turns, each continuing the last."""
        previous: Body = {}
        for _ in range(4):
            told = await self._whole("chain", **previous)
            if told.final is None or told.final["status"] != "completed":
                return
            previous = {"previous_response_id": told.id}

    async def turns(self) -> None:
        """Turns and other items in one of several conversations."""
        if len(self.ledger.conversations) < 6 or self.chance.random() < 0.03:
            made = await self.ask("POST", "/conversations", {}, key=self.key())
            self.ledger.conversations.append(made.json["id"])
        conversation = self.chance.choice(self.ledger.conversations[-6:])
        want = self.chance.random()
        if want < 0.3:
            await self._append(conversation)
        elif want < 0.6:
            await self._whole("conversation, whole", conversation=conversation)
        elif want < 0.8:
            told = self.ledger.new("conversation, stream", conversation)
            await self._begun(told, self.wanted(told, compacted=0.1, stream=True, conversation=conversation), None)
        else:
            told = self.ledger.new("conversation, background", conversation)
            body = self.wanted(told, compacted=0.1, background=True, conversation=conversation)
            told.id = (await self.ask("POST", "/responses", body, key=self.key())).json["id"]
            await (self._cancel(told) if self.chance.random() < 0.3 else self.poll(told))

    async def cancellation(self) -> None:
        """A response that is cancelled at about the time of its end."""
        told = self.ledger.new("cancelled")
        told.id = (await self.ask("POST", "/responses", self.wanted(told, background=True), key=self.key())).json["id"]
        await asyncio.sleep(self.chance.random() * 0.5)
        await self._cancel(told)

    async def deletion(self) -> None:
        """A response that is deleted while it is made, or soon after."""
        told = self.ledger.new("deleted")
        told.id = (await self.ask("POST", "/responses", self.wanted(told, background=True), key=self.key())).json["id"]
        await asyncio.sleep(self.chance.random() * 0.5)
        told.deleted = True
        await self.ask("DELETE", f"/responses/{told.id}", allowed=(200, 404))
        told.gone = True

    async def socket(self) -> None:
        """A few turns over a WebSocket; one that breaks off is read on over HTTP."""
        previous: Body = {}
        member = await self.fleet.pick()
        async with AsyncExitStack() as opened:
            try:
                socket = await opened.enter_async_context(self.session.ws_connect(f"{member.root}/v1/responses"))
            except GONE:
                self.ledger.broken += 1
                return
            for _ in range(3):
                told = self.ledger.new("socket")
                await self._turn(socket, told, {"type": "response.create", **self.wanted(told), **previous})
                if told.final is None:
                    if told.id is not None:
                        await self.follow(told)
                    return
                previous = {"previous_response_id": told.id}

    async def batch(self) -> None:
        """A batch of some dozen lines."""
        chats = self.chance.random() < 0.5
        endpoint = "/v1/chat/completions" if chats else "/v1/responses"
        lines = [self._line(f"{len(self.ledger.batches)}x{n}", endpoint) for n in range(36)]
        record: Body = {"endpoint": endpoint, "custom_ids": [line["custom_id"] for line in lines]}
        self.ledger.batches.append(record)
        data = "\n".join(json.dumps(line) for line in lines).encode()

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            made.add_field("purpose", "batch")
            made.add_field("file", data, filename="in.jsonl")
            return made

        file = (await self.ask("POST", "/files", form, key=self.key())).json
        body = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
        record["id"] = (await self.ask("POST", "/batches", body, key=self.key())).json["id"]
        completed, deadline_s = 0, time.monotonic() + 6 * PATIENCE_S
        while time.monotonic() < deadline_s:
            got = (await self.ask("GET", f"/batches/{record['id']}")).json
            if got["request_counts"]["completed"] < completed:
                self.ledger.problems.append(f"batch {record['id']}: counts went back: {got['request_counts']}")
            completed = got["request_counts"]["completed"]
            if got["status"] not in ("validating", "in_progress", "finalizing"):
                record["final"] = got
                return
            await asyncio.sleep(0.2)
        raise Refused(f"batch {record['id']} does not end")

    # ------------------------------------------------------------ inside

    def _line(self, name: str, endpoint: str) -> Body:
        told_tag = f"b{name}"
        if endpoint == "/v1/responses":
            body: Body = {"instructions": f"[{told_tag}]", "input": f"say {told_tag}"}
        else:
            body = {"messages": [{"role": "user", "content": f"[{told_tag}] say it"}]}
        body["model"] = f"slow/{MODEL}"
        return {"custom_id": told_tag, "method": "POST", "url": endpoint, "body": body}

    async def _whole(self, kind: str, **more: Any) -> Told:
        told = self.ledger.new(kind, more.get("conversation"))
        compacted = 0.1 if told.conversation else 0.3
        answer = await self.ask("POST", "/responses", self.wanted(told, compacted=compacted, **more), key=self.key())
        told.ends(answer.json)
        return told

    async def _begun(self, told: Told, body: Body, key: str | None) -> None:
        """A stream from its beginning; if its connection breaks before anything came, it is given up."""
        if not await self.stream(told, "POST", "/responses", body=body, key=key) and told.id is not None:
            await self.follow(told)

    async def _append(self, conversation: str) -> None:
        self.ledger.tags += 1
        name = f"i{self.ledger.tags}"
        items = [{"role": "user", "content": f"{name}.{n}"} for n in range(3)]
        made = await self.ask("POST", f"/conversations/{conversation}/items", {"items": items}, key=self.key())
        self.ledger.appended.append((conversation, [item["id"] for item in made.json["data"]]))

    async def _cancel(self, told: Told) -> None:
        told.cancelled = True
        got = (await self.ask("POST", f"/responses/{told.id}/cancel")).json
        if got["status"] not in ENDED:
            self.ledger.problems.append(f"{told.tag} {told.id}: {got['status']} after it was cancelled")
        told.ends(got)

    async def _turn(self, socket: aiohttp.ClientWebSocketResponse, told: Told, frame: Body) -> None:
        self.ledger.requests += 1
        try:
            await socket.send_json(frame)
            while True:
                got = await socket.receive(SILENCE_S)
                if got.type != aiohttp.WSMsgType.TEXT:
                    break
                event = json.loads(got.data)
                if event["type"] == "error":
                    refusal = Answer(event["status"], got.data.encode())
                    if not self.refused(refusal):
                        self.ledger.problems.append(f"{told.tag}: {got.data}")
                    return
                if self.ledger.frame(told, got.data.encode()):
                    return
        except GONE:
            pass
        self.ledger.broken += 1


class Refused(Exception):
    """An answer that a client should never have got."""


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The events of a stream as they come, as JSON; comments and the end mark left out."""
    held = b""
    async for piece in answer.content.iter_any():
        *frames, held = (held + piece).split(b"\n\n")
        for frame in frames:
            raw = frame.partition(b"data: ")[2]
            if raw and raw != b"[DONE]":
                yield raw


def session() -> aiohttp.ClientSession:
    """Connections for any number of clients."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)


async def busy(clients: Clients, act: Callable[[], Awaitable[None]]) -> None:
    """One client, which does the same again and again until clients are told to stop."""
    while not clients.stopped:
        try:
            await act()
        except Unanswered:
            continue
        except Refused as error:
            clients.ledger.problems.append(str(error))
            await asyncio.sleep(PAUSE_S)
