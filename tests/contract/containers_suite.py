"""What containers promise, as cases that run over any storage and any migrated, empty `Database`."""

import asyncio
from collections.abc import Awaitable, Callable

from antiphon.errors import Conflict, NotFound
from antiphon.stores.containers import EXPIRED_KEPT_S, Containers
from antiphon.testing.blobs_suite import pieces, whole
from antiphon.testing.database_suite import refused
from antiphon.wire.containers import (
    Container,
    ContainerFile,
    ContainerFileListQuery,
    ContainerListQuery,
    ExpiresAfter,
)
from files_suite import NOW, Place
from stores_suite import THEM, US

MINUTES = 20


def containers_of(place: Place) -> Containers:
    """The store, as another process would open it."""
    return Containers(place.database, place.blobs, lambda: place.now_s)


async def made(place: Place, *ids: str) -> Containers:
    """Containers with these ids; each is its own name."""
    containers = containers_of(place)
    for id in ids:
        expires_after = ExpiresAfter(anchor="last_active_at", minutes=MINUTES)
        new = Container(id=id, created_at=NOW, name=id, expires_after=expires_after, last_active_at=int(place.now_s))
        await containers.create(US, new)
    return containers


async def put(containers: Containers, id: str, content: bytes, path: str = "/mnt/data/a") -> ContainerFile:
    """Puts a file into the container `c1`."""
    file = ContainerFile(id=id, bytes=0, container_id="c1", created_at=NOW, path=path, source="assistant")
    return await containers.put_file(US, file, pieces(content))


async def paths(containers: Containers) -> list[tuple[str, str, int]]:
    """The files of `c1`, the oldest first."""
    page = await containers.list_files(US, "c1", ContainerFileListQuery(order="asc"))
    return [(file.id, file.path, file.bytes) for file in page.data]


async def containers_are_listed_the_newest_first_and_found_by_name(place: Place) -> None:
    """Pages agree with the whole."""
    containers = await made(place, "c1", "c2", "c3")
    first = await containers.list(US, ContainerListQuery(limit=2))
    rest = await containers.list(US, ContainerListQuery(limit=2, after=first.last_id))
    assert [[each.id for each in page.data] for page in (first, rest)] == [["c3", "c2"], ["c1"]]
    assert (first.has_more, rest.has_more) == (True, False)
    named = await containers.list(US, ContainerListQuery(name="c2"))
    assert [each.id for each in named.data] == ["c2"]


async def a_container_id_is_taken_once(place: Place) -> None:
    """Also by several at once."""
    outcomes = await asyncio.gather(made(place, "c1"), made(place, "c1"), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Conflict", "Containers"]


async def one_at_a_time_runs_something_in_a_container(place: Place) -> None:
    """A claim that was not released ends by itself, and then counts for nothing."""
    containers = await made(place, "c1")
    outcomes = await asyncio.gather(*(containers.claim(US, "c1", 60) for _ in range(5)), return_exceptions=True)
    claims = [each for each in outcomes if not isinstance(each, BaseException)]
    assert (len(claims), claims[0].runs) == (1, 0)
    assert {each.code for each in outcomes if isinstance(each, Conflict)} == {"container_busy"}
    await containers.release(US, claims[0], ran=True)
    second = await containers.claim(US, "c1", 60)
    assert second.runs == 1
    place.now_s += 61
    third = await containers.claim(US, "c1", 60)
    await containers.release(US, second, ran=True)
    await refused(Conflict, containers.claim(US, "c1", 60))
    await containers.release(US, third, ran=False)
    assert (await containers.claim(US, "c1", 60)).runs == 1


async def a_file_takes_the_place_of_the_one_at_its_path(place: Place) -> None:
    """The bytes of the former go."""
    containers = await made(place, "c1")
    await put(containers, "f1", b"one")
    former = await containers.get_file(US, "c1", "f1")
    assert (await put(containers, "f2", b"second")).bytes == 6
    await put(containers, "f3", b"", path="/mnt/data/b")
    assert await paths(containers) == [("f2", "/mnt/data/a", 6), ("f3", "/mnt/data/b", 0)]
    assert await whole(containers.read(await containers.get_file(US, "c1", "f2"))) == b"second"
    await refused(NotFound, containers.read(former))
    await refused(NotFound, containers.get_file(US, "c1", "f1"))


async def files_put_at_one_path_at_once_leave_one(place: Place) -> None:
    """Whoever loses is told to try again, and nothing of theirs stays."""
    containers = await made(place, "c1")
    await put(containers, "f0", b"0")
    outcomes = await asyncio.gather(*(put(containers, f"f{n}", b"x" * n) for n in range(1, 5)), return_exceptions=True)
    assert all(isinstance(each, ContainerFile | Conflict) for each in outcomes)
    (left,) = await paths(containers)
    assert left[0] in {each.id for each in outcomes if isinstance(each, ContainerFile)}
    assert await place.loose() == []


async def a_failing_source_leaves_the_former_file(place: Place) -> None:
    """Nothing is half written."""
    containers = await made(place, "c1")
    await put(containers, "f1", b"one")
    file = ContainerFile(id="f2", bytes=0, container_id="c1", created_at=NOW, path="/mnt/data/a", source="user")
    await refused(ZeroDivisionError, containers.put_file(US, file, pieces(b"half", error=ZeroDivisionError())))
    assert await whole(containers.read(await containers.get_file(US, "c1", "f1"))) == b"one"
    assert await paths(containers) == [("f1", "/mnt/data/a", 3)]


async def an_expired_container_is_emptied_then_forgotten(place: Place) -> None:
    """It can be looked at for a day, and be revived without its files."""
    containers = await made(place, "c1")
    await put(containers, "f1", b"one")
    kept = await containers.get_file(US, "c1", "f1")
    place.now_s += MINUTES * 60 - 1
    await put(containers, "f2", b"used", path="/mnt/data/b")  # each use puts the end off
    place.now_s += MINUTES * 60 - 1
    assert (await containers.live(US, "c1")).status == "running"
    place.now_s += 1
    assert (await containers.get(US, "c1")).status == "expired"
    for call in (
        containers.live(US, "c1"),
        containers.claim(US, "c1", 1),
        containers.get_file(US, "c1", "f1"),
        containers.list_files(US, "c1", ContainerFileListQuery()),
    ):
        assert (await refused(NotFound, call)).code == "container_expired"
    await asyncio.gather(containers.clean(), containers.clean())
    await refused(NotFound, containers.read(kept))
    await containers.revive(US, "c1")
    assert await paths(containers) == []
    place.now_s += MINUTES * 60 + EXPIRED_KEPT_S
    await containers.clean()
    await refused(NotFound, containers.get(US, "c1"))


async def a_deleted_container_takes_its_files_along(place: Place) -> None:
    """Rows and bytes."""
    containers = await made(place, "c1")
    await put(containers, "f1", b"one")
    kept = await containers.get_file(US, "c1", "f1")
    await containers.delete_file(US, "c1", "f1")
    await refused(NotFound, containers.delete_file(US, "c1", "f1"))
    await refused(NotFound, containers.read(kept))
    await put(containers, "f2", b"two")
    kept = await containers.get_file(US, "c1", "f2")
    await containers.delete(US, "c1")
    await refused(NotFound, containers.get(US, "c1"))
    await refused(NotFound, containers.read(kept))
    assert list(await containers.kept(US, "c1")) == []
    assert await place.loose() == []


async def nothing_of_another_owners_containers_is_seen_or_changed(place: Place) -> None:
    """Not even that they exist."""
    containers = await made(place, "c1")
    await put(containers, "f1", b"one")
    assert (await containers.list(THEM, ContainerListQuery())).data == []
    for call in (
        containers.get(THEM, "c1"),
        containers.claim(THEM, "c1", 60),
        containers.revive(THEM, "c1"),
        containers.delete(THEM, "c1"),
        containers.list_files(THEM, "c1", ContainerFileListQuery()),
        containers.get_file(THEM, "c1", "f1"),
        containers.delete_file(THEM, "c1", "f1"),
    ):
        await refused(NotFound, call)
    assert list(await containers.kept(THEM, "c1")) == []
    assert await paths(containers) == [("f1", "/mnt/data/a", 3)]


Case = Callable[[Place], Awaitable[None]]

CASES: tuple[Case, ...] = (
    containers_are_listed_the_newest_first_and_found_by_name,
    a_container_id_is_taken_once,
    one_at_a_time_runs_something_in_a_container,
    a_file_takes_the_place_of_the_one_at_its_path,
    files_put_at_one_path_at_once_leave_one,
    a_failing_source_leaves_the_former_file,
    an_expired_container_is_emptied_then_forgotten,
    a_deleted_container_takes_its_files_along,
    nothing_of_another_owners_containers_is_seen_or_changed,
)
