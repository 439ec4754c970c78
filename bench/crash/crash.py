"""Kills Antiphon again and again while clients work with it, and looks at what is left.

    python bench/crash/crash.py                 one process on SQLite, 300 kills
    python bench/crash/crash.py --postgres      three processes on one PostgreSQL, 300 kills

Exit code 1, and a list, if anything was lost, done twice, or left unfinished.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from clients import busy
from fleet import Fleet, Member
from ledger import Ledger
from stage import Plan, staged
from verdict import Verdict

LOAD = {
    "background": 3,
    "background_stream": 2,
    "foreground_stream": 2,
    "keyed_stream": 1,
    "whole": 2,
    "chain": 1,
    "turns": 4,
    "cancellation": 2,
    "deletion": 1,
    "socket": 1,
    "batch": 1,
}
"""How many clients do what."""
WHILE_STARTING = 0.15
"""How often a process is killed that is not up yet."""
ANSWERS_MIN = 15
"""Clients get so many answers between two kills, except while processes start: a slow machine has to serve, too."""
LAST_ONE = 0.1
"""How often the last process of several that answers is killed as well."""
STUCK_S = 120.0
"""How long a client may take to finish what it is about."""


async def crash(plan: Plan) -> Verdict:
    """Carries out the plan."""
    began_s = time.monotonic()
    async with staged(plan) as stage:
        clients, fleet = stage.clients, stage.fleet
        acts = [getattr(clients, name) for name, count in LOAD.items() for _ in range(count)]
        tasks = [asyncio.create_task(busy(clients, act)) for act in acts]
        await _kill(plan, fleet, clients.ledger)
        await fleet.all_ready()
        clients.stopped = True
        _, stuck = await asyncio.wait(tasks, timeout=STUCK_S)
        for task in stuck:
            task.cancel()
        for task in set(tasks) - stuck:
            task.result()
        found = Verdict(stage)
        found.problems += [f"a client is stuck: {task}" for task in stuck]
        found.figures["kills"] = sum(each.thawed_s is None for each in fleet.down)
        found.figures["of them while starting"] = fleet.kills_while_starting
        found.figures["freezes"] = sum(each.thawed_s is not None for each in fleet.down)
        await found.reach()
    found.figures |= _figures(clients.ledger, fleet)
    found.figures["seconds in all"] = round(time.monotonic() - began_s)
    return found


def _victims(fleet: Fleet, *, early: bool, last: bool) -> list[Member]:
    """Who may be next. A fleet that is killed faster than it starts would show nothing: mostly, one goes on."""
    answering = sum(each.ready and not each.frozen for each in fleet.members)
    few = answering < 2 and not last and len(fleet.members) > 1
    return [each for each in fleet.members if not each.frozen and (early if not each.ready else not few)]


async def _kill(plan: Plan, fleet: Fleet, ledger: Ledger) -> None:
    chance, answers = fleet.chance, 0
    while len(fleet.down) < plan.kills:
        early, last = chance.random() < WHILE_STARTING, chance.random() < LAST_ONE
        await asyncio.sleep(chance.random() * plan.pause_s_max)
        while not (some := _victims(fleet, early=early, last=last)) or ledger.answers < answers:
            await asyncio.sleep(chance.random() * 0.1)
        answers = ledger.answers + (0 if early else ANSWERS_MIN)
        member = chance.choice([each for each in some if each.ready != early] or some)
        if member.ready and chance.random() < plan.frozen_share:
            fleet.freeze(member)
            asyncio.get_running_loop().call_later(plan.lease_s * 1.5, fleet.thaw, member)
        else:
            await fleet.kill(member)
    for member in fleet.members:
        fleet.thaw(member)


def _figures(ledger: Ledger, fleet: Fleet) -> dict[str, object]:
    kinds: dict[str, int] = {}
    for told in ledger.told:
        if told.id is not None:
            kinds[told.kind] = kinds.get(told.kind, 0) + 1
    ended = [record["final"]["status"] for record in ledger.batches if "final" in record]
    return {
        "requests": ledger.requests,
        "connections broken": ledger.broken,
        "refusals": dict(ledger.refusals),
        "acknowledged by kind": kinds,
        "additions to conversations": len(ledger.appended),
        "conversations": len(ledger.conversations),
        "batches": f"{len(ended)} of 36 lines",
        "streams taken up again": ledger.reconnections,
        "from break to next event, median, longest (s)": _spread(ledger.gaps_s),
        "start, longest (s)": round(max(fleet.start_s, default=0), 2),
    }


def _spread(times_s: list[float]) -> str:
    return f"{statistics.median(times_s):.2f}, {max(times_s):.2f}" if times_s else "-"


def show(found: Verdict) -> None:
    """Prints the table."""
    for name, each in found.figures.items():
        print(f"{name:48} {each}")
    print(f"{'problems':48} {len(found.problems)}")
    for problem in found.problems[:40]:
        print(f"  - {problem}")


def main() -> int:
    """Runs as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, help="1, or 3 with --postgres")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL that is started for this")
    parser.add_argument("--database-url", default="", help="on this one, whose database is empty")
    parser.add_argument("--lease", type=float, default=2.0, help="in seconds")
    parser.add_argument("--frozen", type=float, default=0.0, help="share of SIGSTOP among the kills")
    parser.add_argument("--keep", type=Path, help="a folder for logs and state that stays")
    given = parser.parse_args()
    with ExitStack() as opened:
        folder = given.keep or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        url = given.database_url
        if given.postgres and not url:
            from postgres_server import postgres_server

            url = opened.enter_context(postgres_server()).new_database()
        plan = Plan(
            folder=folder,
            processes=given.processes or (3 if url else 1),
            kills=given.kills,
            seed=given.seed,
            database_url=url,
            lease_s=given.lease,
            frozen_share=given.frozen,
        )
        found = asyncio.run(crash(plan))
    show(found)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
