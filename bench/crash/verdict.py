"""Judges what the servers have kept, after all is quiet, by what their clients were told meanwhile."""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from antiphon.testing import rules
from clients import Clients
from fleet import Down, Fleet
from ledger import ENDED, Ledger, Told
from stage import Stage
from upstream import Asked, words

QUIET_S_MAX = 45.0
"""Within that time after the last kill everything has to have come to its end."""
LAG_S = 0.3
"""How much later the model host may notice what was asked before a kill."""
NEAR_S = 10.0
COMMIT_S_MAX = 1.0
"""How long after its last byte a model call may still be lost with its process."""
SDK_CHECKED_MAX = 150
AT_ONCE = 8

OURS = ("antiphon", "uvicorn")
"""Loggers whose errors are ours. procrastinate's tasks end in one each when their process was frozen."""
GIVEN_UP = "its worker died in each of"
"""Why a job ends that has lost too many processes."""
GREETING = ("Antiphon ", "Database ", "Model host ")
"""What a process says before its log begins."""

Body = dict[str, Any]

LEFT_OVER = {
    "runs": "SELECT COUNT(*) FROM runs",
    "parts of journals": "SELECT COUNT(*) FROM journal_parts",
    "locked conversations": "SELECT COUNT(*) FROM conversations WHERE turn IS NOT NULL",
    "unfinished responses": "SELECT COUNT(*) FROM responses WHERE status IN ('queued', 'in_progress')",
}
"""What must not be left in the database when all is quiet."""


@dataclass
class Verdict:
    """What was found. `figures` are for the table, `problems` should be none."""

    stage: Stage
    kept: dict[str, Body] = field(default_factory=dict)
    figures: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    streams: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def clients(self) -> Clients:
        """Who was told."""
        return self.stage.clients

    @property
    def ledger(self) -> Ledger:
        """What clients were told."""
        return self.clients.ledger

    @property
    def fleet(self) -> Fleet:
        """Who told it."""
        return self.clients.fleet

    async def reach(self) -> None:
        """Looks at everything."""
        began_s = time.monotonic()
        await self._quiet(began_s)
        self.figures["quiet after the last kill (s)"] = round(time.monotonic() - began_s, 1)
        self.kept = {each["id"]: each async for each in self._pages("/responses?order=asc&limit=100")}
        self._acknowledged()
        await self._side_by_side([self._stream(id) for id in self.kept])
        for told in self.ledger.told:
            self._told_stream(told)
        await self._side_by_side([self._conversation(id) for id in self.ledger.conversations])
        await self._side_by_side([self._batch(record) for record in self.ledger.batches])
        made = [each["id"] async for each in self._pages("/batches?limit=100")]
        if twice := set(made) - {record.get("id") for record in self.ledger.batches}:
            self.problems.append(f"batches that nobody was told of: {twice}")
        self._paid()
        self._logs()
        self.problems += self.ledger.problems + self.fleet.problems
        statuses = Counter(each["status"] for each in self.kept.values())
        self.figures["responses by end"] = dict(sorted(statuses.items()))

    # ------------------------------------------------------------ the database

    async def _quiet(self, began_s: float) -> None:
        left: dict[str, int] = {}
        while time.monotonic() < began_s + QUIET_S_MAX:
            left = {what: found for what, sql in LEFT_OVER.items() if (found := await self.stage.count(sql))}
            if not left:
                return
            await asyncio.sleep(0.1)
        self.problems.append(f"after {QUIET_S_MAX:g} s of quiet there are {left}")

    # ------------------------------------------------------------ responses

    def _acknowledged(self) -> None:
        lost = 0
        for told in self.ledger.told:
            if told.id is None:
                continue
            kept = self.kept.get(told.id)
            if told.deleted:
                if told.gone and kept is not None:
                    self.problems.append(f"{told.tag} {told.id}: deleted and there again")
            elif kept is None:
                lost += 1
                self.problems.append(f"{told.tag} {told.id}: lost ({told.kind})")
            elif told.final is not None and told.final != kept:
                self.problems.append(f"{told.tag} {told.id}: ended as {told.final}, now it is {kept}")
        self.figures["acknowledged, lost"] = lost
        cancelled = {told.id for told in self.ledger.told if told.cancelled}
        for id, kept in self.kept.items():
            self._whole(id, kept, cancelled=id in cancelled)
        self.figures["responses"] = len(self.kept)
        self.figures["of them resumed"] = sum(map(_is_resumed, self.kept.values()))

    def _whole(self, id: str, kept: Body, *, cancelled: bool) -> None:
        tag = str(kept["instructions"]).strip("[]")
        if kept["status"] not in ENDED:
            self.problems.append(f"{tag} {id}: is {kept['status']}")
        elif kept["status"] == "completed":
            said = [item for item in kept["output"] if item["type"] == "message"]
            text = said[-1]["content"][0]["text"] if said else ""
            if text != "".join(words(tag)) or said[-1]["status"] != "completed":
                self.problems.append(f"{tag} {id}: completed with {text!r}")
            if len({item["id"] for item in kept["output"]}) != len(kept["output"]):
                self.problems.append(f"{tag} {id}: an item twice in {kept['output']}")
        elif kept["status"] != "cancelled" or not cancelled:
            self.problems.append(f"{tag} {id}: ended as {kept['status']}, {kept['error']}")

    # ------------------------------------------------------------ streams

    async def _stream(self, id: str) -> None:
        """The stream, read again from several processes: the same bytes, and within the rules."""
        members = random.Random(id).sample(self.fleet.members, min(2, len(self.fleet.members)))
        raws = []
        for member in members:
            async with self.clients.session.get(f"{member.root}/v1/responses/{id}?stream=true") as answer:
                raws.append(await answer.read())
        if len(set(raws)) > 1:
            self.problems.append(f"{id}: its stream differs between processes")
        try:
            found = rules.check(raws[0], sdk=len(self.streams) < SDK_CHECKED_MAX)
        except rules.Broken as error:
            self.problems.append(f"{id}: {str(error)[:1500]}")
            return
        self.streams[id] = [frame.partition(b"data: ")[2].strip() for frame in found.frames]
        last = {name: each for name, each in found.response.items() if name != "output"}
        if last != {name: each for name, each in self.kept[id].items() if name != "output"}:
            self.problems.append(f"{id}: its stream ends otherwise than it is kept")

    def _told_stream(self, told: Told) -> None:
        whole = self.streams.get(told.id or "", [])
        if told.id is None or told.deleted or not told.frames or not whole:
            return
        if whole[: len(told.frames)] != told.frames:
            at = next((n for n, pair in enumerate(zip(whole, told.frames, strict=False)) if pair[0] != pair[1]), -1)
            self.problems.append(
                f"{told.tag} {told.id}: event {at} was {told.frames[at][:300]!r}, now {whole[at : at + 1]!r}"
            )
        elif told.final is not None and len(told.frames) != len(whole):
            self.problems.append(f"{told.tag} {told.id}: its client got {len(told.frames)} of {len(whole)} events")

    # ------------------------------------------------------------ conversations

    async def _conversation(self, conversation: str) -> None:
        """Items once each, in whole turns and whole additions; nothing of what failed; all that was acknowledged."""
        path = f"/conversations/{conversation}/items?order=asc&limit=100"
        items = [item async for item in self._pages(path)]
        ids = [item["id"] for item in items]
        if len(set(ids)) != len(ids):
            self.problems.append(f"{conversation}: an item twice")
        places = {id: place for place, id in enumerate(ids)}
        free = set(ids)
        added = [
            part["text"]
            for item in items
            if item["type"] == "message" and item["role"] == "user"
            for part in item["content"]
            if part["text"].startswith(("i", "say "))
        ]
        if len(set(added)) != len(added):
            twice = [text for text, count in Counter(added).items() if count > 1]
            self.problems.append(f"{conversation}: added twice: {twice[:10]}")
        for id, kept in self.kept.items():
            if (kept.get("conversation") or {}).get("id") != conversation:
                continue
            given = [item["id"] async for item in self._pages(f"/responses/{id}/input_items?order=asc&limit=100")]
            turn = [*given, *(item["id"] for item in kept["output"])]
            if kept["status"] == "completed":
                self._contiguous(conversation, turn, places, ids)
                free -= set(turn)
            elif set(turn) & places.keys():
                self.problems.append(f"{conversation}: has items of {id}, which is {kept['status']}")
        for where, added in self.ledger.appended:
            if where == conversation:
                self._contiguous(conversation, added, places, ids)
                free -= set(added)
        self._rest(conversation, [item for item in items if item["id"] in free])

    def _contiguous(self, conversation: str, some: Sequence[str], places: dict[str, int], ids: list[str]) -> None:
        start = places.get(some[0], -1)
        if start < 0 or ids[start : start + len(some)] != list(some):
            self.problems.append(f"{conversation}: {some} are not there in one piece")

    def _rest(self, conversation: str, items: list[Body]) -> None:
        """What nobody was told of is a whole addition as well, whose answer was lost."""
        names = [item["content"][0]["text"] for item in items if item["type"] == "message"]
        whole = all(
            {f"{name.partition('.')[0]}.{n}" for n in range(3)} <= set(names) and name.startswith("i") for name in names
        )
        if len(names) != len(items) or len(set(names)) != len(names) or not whole:
            self.problems.append(f"{conversation}: has items of nobody: {names[:10]}")

    # ------------------------------------------------------------ batches

    async def _batch(self, record: Body) -> None:
        final = record.get("final")
        if final is None:
            if "id" in record:
                self.problems.append(f"batch {record['id']}: did not end")
            return
        counts = final["request_counts"]
        total = len(record["custom_ids"])
        if final["status"] != "completed" or (counts["completed"], counts["failed"]) != (total, 0):
            self.problems.append(f"batch {final['id']}: {final['status']}, {counts}")
        raw = (await self.clients.ask("GET", f"/files/{final['output_file_id']}/content")).raw
        lines = [json.loads(line) for line in raw.splitlines()]
        if [line["custom_id"] for line in lines] != record["custom_ids"]:
            self.problems.append(f"batch {final['id']}: has results of {[line['custom_id'] for line in lines]}")
        for line in lines:
            if "".join(words(line["custom_id"])) not in json.dumps(line["response"]["body"]):
                self.problems.append(f"batch {final['id']}: {line}")

    # ------------------------------------------------------------ what was paid

    def _paid(self) -> None:
        """A step is asked again only where its process went down between the two calls, and before it was kept."""
        by_step: defaultdict[tuple[str, str], list[Asked]] = defaultdict(list)
        for call in self.stage.upstream.calls:
            by_step[(call.tag, call.step)].append(call)
        again = finished_again = 0
        for (tag, step), calls in by_step.items():
            for one, next in pairwise(calls):
                again += 1
                finished_again += one.ended_s is not None
                if not _is_excused(one, next, self.fleet.down):
                    near = [each for each in self.fleet.down if abs(each.at_s - one.began_s) < NEAR_S]
                    self.problems.append(f"{tag}: its {step} was paid twice without need: {one}, {next}; {near}")
        for told in self.ledger.told:
            for call in by_step[(told.tag, "answer")]:
                if told.ended_s is not None and call.began_s > told.ended_s + LAG_S:
                    self.problems.append(f"{told} was asked again after its end was told: {call}")
        self.figures["model calls"] = len(self.stage.upstream.calls)
        self.figures["asked again after a kill"] = again
        self.figures["of them had been answered whole, not yet kept"] = finished_again
        self.figures["compactions"] = sum(step == "summary" for _, step in by_step)

    # ------------------------------------------------------------ what servers say

    def _logs(self) -> None:
        taken_s = errors = foreign = given_up = runs = 0
        for member in self.fleet.members:
            for line in self.fleet.log(member.number).read_text(errors="replace").splitlines():
                if not line.startswith("{"):
                    if line.strip() and not line.startswith(GREETING):
                        self.problems.append(f"log of process {member.number}: {line[:300]}")
                    continue
                try:
                    said = json.loads(line)
                except ValueError:  # cut off by a kill
                    continue
                if said.get("level") in ("error", "critical") and not said["logger"].startswith(OURS):
                    foreign += 1
                elif str(said.get("reason")).startswith(GIVEN_UP):
                    given_up += 1
                elif said.get("level") in ("error", "critical"):
                    errors += 1
                    self.problems.append(f"log of process {member.number}: {line[:2000]}")
                elif said.get("message") == "taken over":
                    taken_s += 1
                    runs += said.get("runs", 0)
        self.figures["take-overs, runs taken over"] = f"{taken_s}, {runs}"
        self.figures["jobs given up, and put again by a sweep"] = given_up
        self.figures["errors in logs, of libraries"] = f"{errors}, {foreign}"

    # ------------------------------------------------------------ inside

    async def _pages(self, path: str) -> AsyncIterator[Body]:
        after = ""
        while True:
            page = (await self.clients.ask("GET", f"{path}{after}")).json
            for each in page["data"]:
                yield each
            if not page["has_more"]:
                return
            after = f"&after={page['last_id']}"

    async def _side_by_side(self, works: Sequence[Awaitable[None]]) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(work: Awaitable[None]) -> None:
            async with room:
                await work

        await asyncio.gather(*(one(work) for work in works))


def _is_excused(one: Asked, next: Asked, down: Sequence[Down]) -> bool:
    """Whether the process of the first call went down before what it got was kept.

    A process that was frozen works for another moment before it learns that it was given up: then either call is its.
    """
    until_s = next.began_s if one.ended_s is None else min(next.began_s, one.ended_s + COMMIT_S_MAX)
    killed = any(each.process == one.process and one.began_s - LAG_S <= each.at_s <= until_s for each in down)
    return killed or any(
        each.thawed_s is not None and each.at_s <= call.began_s + LAG_S <= each.thawed_s + COMMIT_S_MAX
        for call in (one, next)
        for each in down
        if each.process == call.process
    )


def _is_resumed(kept: Body) -> bool:
    return kept["status"] == "completed" and any(item.get("status") == "incomplete" for item in kept["output"])
