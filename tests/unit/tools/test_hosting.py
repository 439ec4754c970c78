"""Containers that are open in a process: over a sandbox for tests that remembers what is put into it."""

import asyncio
from collections.abc import Callable

import pytest

from antiphon.errors import Conflict, InvalidRequest, NotFound, RoomLost, Unavailable, Unsupported
from antiphon.hosted import SandboxConfig
from antiphon.stores.blobs import LocalBlobs
from antiphon.stores.containers import EXPIRED_KEPT_S, Containers
from antiphon.stores.files import Files
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import open_postgres
from antiphon.stores.sqlite import open_sqlite
from antiphon.tools.hosting import FRESH, Auto, Hosting, check_memory
from antiphon.tools.sandbox.base import Found, NoSandbox, Ran
from antiphon.wire.containers import Container, ContainerFileListQuery, ContainerListQuery, ExpiresAfter

ID = f"cntr_{'a' * 48}"
OTHER = f"cntr_{'b' * 48}"
AUTO = Auto()


class FakeRoom:
    """A room whose code is a function of its files: path -> (content, when changed)."""

    def __init__(self):
        self.contents: dict[str, tuple[bytes, int]] = {}
        self.closed = False
        self.closing = asyncio.Event()
        self.clock = 0

    def write(self, path, content):
        self.clock += 1
        self.contents[path] = (content, self.clock)

    async def put(self, path, piece, start):
        before = self.contents.get(path, (b"", 0))[0] if start else b""
        self.write(path, before + piece)

    async def get(self, path, start, length):
        return self.contents[path][0][start : start + length]

    async def remove(self, path):
        self.contents.pop(path, None)

    async def files(self):
        return tuple(Found(path=path, bytes=len(c), changed=at) for path, (c, at) in sorted(self.contents.items()))

    async def close(self):
        self.closed = True
        self.closing.set()


class FakeSandbox:
    """Rooms in the order in which they were opened."""

    def __init__(self):
        self.rooms: list[FakeRoom] = []
        self.bounds = []

    async def check(self):
        pass

    async def open(self, bounds):
        self.bounds.append(bounds)
        self.rooms.append(FakeRoom())
        return self.rooms[-1]


class Bench:
    """Stores in memory, a clock that is set, and as many processes as are wanted."""

    def __init__(self, database, blobs):
        self.now = 1000.0
        self.containers = Containers(database, blobs, lambda: self.now)
        self.uploads = Files(database, blobs, lambda: self.now)
        self.sandbox = FakeSandbox()

    def process(self, **settings):
        return Hosting(
            self.sandbox,
            self.containers,
            self.uploads,
            config=SandboxConfig(**settings),
            clock=lambda: self.now,
        )

    async def files(self, id=ID):
        return sorted(kept.file.path for kept in await self.containers.kept("me", id))


on_both = pytest.mark.parametrize("bench", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
async def bench(request):
    on_postgres = getattr(request, "param", "sqlite") == "postgres"
    database = open_postgres(request.getfixturevalue("postgres_url")) if on_postgres else open_sqlite(None)
    blobs = LocalBlobs(None)
    await migrate(database, migrations(database.dialect))
    yield Bench(database, blobs)
    await database.close()
    await blobs.close()


def running(change: Callable[[FakeRoom], None] = lambda room: None, skipped=0):
    """Code that does this to the room's files."""

    async def work(room):
        change(room)
        return [Ran(outcome="ended", files=await room.files(), skipped=skipped)]

    return work


@on_both
async def test_what_is_written_is_kept_once_and_what_is_removed_goes(bench):
    hosting = bench.process()
    first = await hosting.run("me", ID, AUTO, work=running(lambda room: room.write("a.txt", b"one")))
    assert [(file.path, file.bytes, file.source) for file in first.files] == [("/mnt/data/a.txt", 3, "assistant")]
    assert (await hosting.run("me", ID, AUTO, work=running())).files == ()
    changed = await hosting.run("me", ID, AUTO, work=running(lambda room: room.write("a.txt", b"two!")))
    assert changed.files[0].bytes == 4
    assert len(bench.sandbox.rooms) == 1
    await hosting.run("me", ID, AUTO, work=running(lambda room: room.contents.clear()))
    assert await bench.files() == []


async def test_nothing_is_taken_for_removed_where_not_all_was_seen(bench):
    hosting = bench.process()
    await hosting.run("me", ID, AUTO, work=running(lambda room: room.write("a.txt", b"one")))
    report = await hosting.run("me", ID, AUTO, work=running(lambda room: room.contents.clear(), skipped=2))
    assert await bench.files() == ["/mnt/data/a.txt"]
    assert report.notes == ("2 files are not kept: they have no usable name, or are too many.",)


async def test_another_process_goes_on_with_the_files_and_says_what_is_lost(bench):
    one, other = bench.process(), bench.process()
    await one.run("me", ID, AUTO, work=running(lambda room: room.write("a.txt", b"x" * 3_000_000)))
    report = await other.run("me", ID, AUTO, work=running(lambda room: room.write("b.txt", b"two")))
    assert report.notes == (FRESH,)
    assert bench.sandbox.rooms[1].contents["a.txt"][0] == b"x" * 3_000_000
    back = await one.run("me", ID, AUTO, work=running())
    assert back.notes == (FRESH,)
    assert bench.sandbox.rooms[0].closed
    assert sorted(bench.sandbox.rooms[2].contents) == ["a.txt", "b.txt"]


@on_both
async def test_a_container_is_used_by_one_at_a_time(bench):
    hosting = bench.process()
    await hosting.run("me", ID, AUTO, work=running())
    claimed = await bench.containers.claim("me", ID, 30)
    with pytest.raises(Conflict, match="Something else is being run"):
        await bench.containers.claim("me", ID, 30)
    await bench.containers.release("me", claimed, ran=True)
    assert (await bench.containers.claim("me", ID, 30)).runs == 2
    bench.now += 31
    assert (await bench.containers.claim("me", ID, 30)).runs == 2


async def test_a_run_that_breaks_closes_the_room_and_leaves_the_container_free(bench):
    hosting = bench.process()

    async def broken(_room):
        raise RoomLost("gone")

    with pytest.raises(RoomLost):
        await hosting.run("me", ID, AUTO, work=broken)
    assert bench.sandbox.rooms[0].closed
    assert (await hosting.run("me", ID, AUTO, work=running())).notes == (FRESH,)


async def test_of_too_many_open_containers_the_one_that_rested_longest_is_closed(bench):
    hosting = bench.process(open_max=1)
    await hosting.run("me", ID, AUTO, work=running())
    await hosting.run("me", OTHER, AUTO, work=running())
    assert [room.closed for room in bench.sandbox.rooms] == [True, False]
    gate, begun = asyncio.Event(), asyncio.Event()

    async def waiting(_room):
        begun.set()
        await gate.wait()
        return []

    busy = asyncio.ensure_future(hosting.run("me", OTHER, AUTO, work=waiting))
    await begun.wait()
    with pytest.raises(Unavailable, match="All 1 containers"):
        await hosting.run("me", ID, AUTO, work=running())
    gate.set()
    await busy
    await hosting.close()
    assert all(room.closed for room in bench.sandbox.rooms)


async def test_a_container_that_nobody_uses_is_closed_by_itself(bench):
    hosting = bench.process(idle_s=0.01)
    await hosting.run("me", ID, AUTO, work=running())
    async with asyncio.timeout(10):
        await bench.sandbox.rooms[0].closing.wait()
    assert bench.sandbox.rooms[0].closed


@on_both
async def test_an_expired_container_is_gone_but_for_its_name_and_an_automatic_one_begins_anew(bench):
    hosting = bench.process(expires_minutes=1)
    await hosting.run("me", ID, AUTO, work=running(lambda room: room.write("a.txt", b"one")))
    bench.now += 61
    assert (await bench.containers.get("me", ID)).status == "expired"
    for refused in (
        bench.containers.live("me", ID),
        bench.containers.list_files("me", ID, ContainerFileListQuery()),
        hosting.run("me", ID, None, work=running()),
    ):
        with pytest.raises(NotFound, match="is expired"):
            await refused
    await hosting.run("me", ID, AUTO, work=running())
    assert (await bench.files(), (await bench.containers.get("me", ID)).status) == ([], "running")


@on_both
async def test_what_has_expired_is_cleaned_up_files_first(bench):
    hosting = bench.process(expires_minutes=1)
    await hosting.run("me", ID, AUTO, work=running(lambda room: room.write("a.txt", b"one")))
    await bench.containers.clean()
    assert await bench.files() == ["/mnt/data/a.txt"]
    bench.now += 61
    await bench.containers.clean()
    assert await bench.files() == []
    assert (await bench.containers.list("me", ContainerListQuery())).data[0].status == "expired"
    bench.now += EXPIRED_KEPT_S
    await bench.containers.clean()
    assert (await bench.containers.list("me", ContainerListQuery())).data == []


async def test_nobody_uses_what_is_somebody_elses(bench):
    hosting = bench.process()
    await hosting.run("me", ID, AUTO, work=running(lambda room: room.write("a.txt", b"one")))
    (kept,) = await bench.containers.kept("me", ID)
    for refused in (
        hosting.run("you", ID, AUTO, work=running()),
        hosting.run("you", ID, None, work=running()),
        bench.containers.get("you", ID),
        bench.containers.delete("you", ID),
        bench.containers.get_file("you", ID, kept.file.id),
        bench.containers.put_file("you", kept.file, None),
    ):
        with pytest.raises(NotFound):
            await refused
    assert await bench.containers.kept("you", ID) == []


async def test_a_container_has_the_memory_that_is_asked_for_and_no_more_than_is_configured(bench):
    when = ExpiresAfter(anchor="last_active_at", minutes=5)
    made = Container(id=ID, created_at=1, name="n", expires_after=when, last_active_at=1000, memory_limit="4g")
    await bench.containers.create("me", made)
    await bench.process(memory_mb=2048).run("me", ID, None, work=running())
    assert bench.sandbox.bounds[0].memory_bytes == 2048 * 2**20
    check_memory(SandboxConfig(memory_mb=4096), "4g", "at")
    with pytest.raises(InvalidRequest, match="'4g' is more"):
        check_memory(SandboxConfig(memory_mb=2048), "4g", "at")


async def test_without_a_sandbox_the_reason_is_told(bench):
    class NotHere(FakeSandbox):
        async def check(self):
            raise NoSandbox("the kernel does not want to")

    none = Hosting(None, bench.containers, bench.uploads, config=SandboxConfig(), clock=lambda: 1.0)
    with pytest.raises(Unsupported, match=r"sandbox\.enabled"):
        await none.check("code_interpreter", "tools[0]")
    bench.sandbox = NotHere()
    with pytest.raises(Unsupported, match="the kernel does not want to"):
        await bench.process().check("code_interpreter", "tools[0]")
    with pytest.raises(Unavailable):
        await none.run("me", ID, AUTO, work=running())
