"""Who is alive, on any database: cases of an open database with the schema."""

import subprocess
import sys

from antiphon.stores.database import Database
from antiphon.stores.workers import Workers


async def the_living_and_the_dead_are_told_apart(database: Database) -> None:
    me, other, late = (Workers(database, lease_s, name) for lease_s, name in ((60, "a"), (60, "b"), (-1, "c")))
    for worker in (me, other, late):
        await worker.beat()
    assert await me.others() == (["b"], ["c"])


async def one_that_was_given_up_joins_again(database: Database) -> None:
    me, other = Workers(database, 60, "a"), Workers(database, 60, "b")
    await other.beat()
    await me.forget("b")
    assert await me.others() == ([], [])
    await other.beat()
    assert await me.others() == (["b"], [])


async def a_killed_process_of_this_machine_is_dead_before_its_lease_ends(database: Database) -> None:
    code = "from antiphon.stores.workers import Workers; print(Workers(None, 60).id, flush=True); input()"
    child = subprocess.Popen(  # noqa: ASYNC220 - it only waits
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    name = child.stdout.readline().strip()
    await Workers(database, 60, name).beat()
    me = Workers(database, 60)
    assert await me.others() == ([name], [])
    child.kill()
    child.communicate()
    assert await me.others() == ([], [name])


async def whoever_holds_something_and_lives_no_longer_is_gone(database: Database) -> None:
    me, other, late = (Workers(database, lease_s, name) for lease_s, name in ((60, "a"), (60, "b"), (-1, "c")))
    for worker in (me, other, late):
        await worker.beat()
    assert await me.gone(["a", "b", "c", "never heard of"]) == ["c", "never heard of"]


CASES = [
    whoever_holds_something_and_lives_no_longer_is_gone,
    the_living_and_the_dead_are_told_apart,
    one_that_was_given_up_joins_again,
    a_killed_process_of_this_machine_is_dead_before_its_lease_ends,
]
