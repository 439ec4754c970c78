"""What uploads promise, as cases that run over any storage and any migrated, empty `Database`."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from antiphon.errors import InvalidRequest, NotFound, Unavailable
from antiphon.limits import Limits
from antiphon.stores.blobs import Blobs
from antiphon.stores.database import Database, Dialect, Params, Row, Statement
from antiphon.stores.files import Files
from antiphon.stores.uploads import LATE_S, Stored, Uploads
from antiphon.stores.workers import Workers
from antiphon.testing.blobs_suite import pieces, whole
from antiphon.testing.database_suite import refused
from antiphon.wire.uploads import UPLOAD_S, CompleteUpload, Upload
from files_suite import NOW, Place
from stores_suite import THEM, US

LIMITS = Limits(upload_parts_max=5, upload_part_bytes_max=100)


def uploads_of(place: Place, *, workers: Workers | None = None) -> Uploads:
    """The store, as another process would open it."""
    files = Files(place.database, place.blobs, lambda: place.now_s, workers=workers)
    return Uploads(place.database, files, lambda: place.now_s, limits=LIMITS)


def new(size: int, id: str = "upload_1", expires_s: int | None = None) -> Stored:
    """An upload that begins."""
    upload = Upload(
        id=id,
        bytes=size,
        created_at=NOW,
        expires_at=NOW + UPLOAD_S,
        filename="f.txt",
        purpose="evals",
        status="pending",
    )
    return Stored(upload=upload, expires_s=expires_s)


async def begun(place: Place, *parts: bytes, size: int | None = None) -> Uploads:
    """An upload `upload_1` with parts `part_0`, `part_1`, ..."""
    uploads = uploads_of(place)
    await uploads.create(US, new(sum(map(len, parts)) if size is None else size))
    for index, part in enumerate(parts):
        await add(uploads, part, f"part_{index}")
    return uploads


async def add(uploads: Uploads, content: bytes, id: str, owner: str = US) -> None:
    """Adds a part."""
    await uploads.add(owner, "upload_1", pieces(content), name=lambda: id)


async def complete(uploads: Uploads, *part_ids: str, md5: str | None = None, file_id: str = "file-1") -> Upload:
    """Completes `upload_1`."""
    return await uploads.complete(US, "upload_1", CompleteUpload(part_ids=list(part_ids), md5=md5), file_id=file_id)


async def nothing_is_left(place: Place) -> None:
    """No part, and no bytes that belong to nobody."""
    assert await place.database.all("SELECT id FROM upload_parts") == []
    assert await place.loose() == []


async def parts_become_a_file_in_the_order_that_is_named(place: Place) -> None:
    """Not in that of their arrival; what is not named is left out."""
    uploads = await begun(place, b"world", b"unused", b"hello ", size=11)
    made = await complete(uploads, "part_2", "part_0", md5=hashlib.md5(b"hello world").hexdigest().upper())
    assert made.file is not None
    assert (made.status, made.file.id, made.file.bytes, made.file.filename) == ("completed", "file-1", 11, "f.txt")
    assert (made.file.purpose, made.file.expires_at) == ("evals", None)
    assert await whole(place.files.read(US, "file-1")) == b"hello world"
    assert await place.files.get(US, "file-1") == made.file
    await nothing_is_left(place)


async def an_upload_completed_again_gives_the_same_file(place: Place) -> None:
    """Whatever the second request names; until that file is deleted."""
    uploads = await begun(place, b"abc")
    made = await complete(uploads, "part_0")
    assert await complete(uploads, "part_0", file_id="file-2") == made
    assert await complete(uploads, file_id="file-3") == made
    await place.files.delete(US, "file-1")
    await refused(NotFound, complete(uploads, "part_0"))


async def completions_at_once_give_one_file(place: Place) -> None:
    """On several processes as on one."""
    uploads = await begun(place, *[bytes([65 + number]) * 100 for number in range(5)])
    names = [f"part_{number}" for number in range(5)]
    several = [complete(uploads_of(place), *names, file_id=f"file-{number}") for number in range(4)]
    made = await asyncio.gather(*several)
    assert len({each.file.id for each in made if each.file}) == 1
    assert len(await place.keys()) == 1
    assert made[0].file is not None
    assert len(await whole(place.files.read(US, made[0].file.id))) == 500
    await uploads.clean()
    await nothing_is_left(place)


class _Overtaken(Uploads):
    """Another request completes the upload after this one has read it for the first time."""

    overtaken = False

    async def get(self, owner: str, id: str) -> Stored:
        stored = await super().get(owner, id)
        if not self.overtaken:
            self.overtaken = True
            await super().complete(owner, id, CompleteUpload(part_ids=["part_0"]), file_id="file-first")
        return stored


async def a_completion_that_is_overtaken_gives_the_file_of_the_other(place: Place) -> None:
    """Though the parts that it names are gone already when it looks for them."""
    await begun(place, b"abc")
    uploads = _Overtaken(place.database, place.files, lambda: place.now_s, limits=LIMITS)
    made = await complete(uploads, "part_0", file_id="file-second")
    assert made.file is not None
    assert made.file.id == "file-first"
    await nothing_is_left(place)


async def the_file_expires_as_the_upload_was_told(place: Place) -> None:
    """Counted from its completion."""
    uploads = uploads_of(place)
    await uploads.create(US, new(0, expires_s=7200))
    place.now_s += 10
    made = await complete(uploads)
    assert made.file is not None
    assert made.file.expires_at == NOW + 10 + 7200


async def what_does_not_fit_is_refused_and_the_upload_goes_on(place: Place) -> None:
    """A wrong size, an unknown part, one named twice, another checksum."""
    uploads = await begun(place, b"abc", b"def")
    for code, part_ids, md5 in (
        ("size_mismatch", ["part_0"], None),
        ("size_mismatch", [], None),
        ("part_not_found", ["part_0", "part_9"], None),
        ("invalid_value", ["part_0", "part_0"], None),
        ("checksum_mismatch", ["part_1", "part_0"], hashlib.md5(b"abcdef").hexdigest()),
    ):
        error = await refused(InvalidRequest, complete(uploads, *part_ids, md5=md5))
        assert error.code == code
    assert await place.loose() == []
    assert (await complete(uploads, "part_0", "part_1")).status == "completed"


async def a_cancelled_upload_keeps_nothing(place: Place) -> None:
    """And is changed no more; to cancel it again is no error, to cancel a completed one is."""
    uploads = await begun(place, b"abc")
    assert (await uploads.cancel(US, "upload_1")).status == "cancelled"
    await nothing_is_left(place)
    assert (await uploads.cancel(US, "upload_1")).status == "cancelled"
    for refusal in (add(uploads, b"x", "part_9"), complete(uploads, "part_0")):
        assert (await refused(InvalidRequest, refusal)).code == "upload_cancelled"
    await uploads.create(US, new(0, "upload_2"))
    await uploads.complete(US, "upload_2", CompleteUpload(part_ids=[]), file_id="file-2")
    assert (await refused(InvalidRequest, uploads.cancel(US, "upload_2"))).code == "upload_completed"


async def an_upload_expires_after_its_hour(place: Place) -> None:
    """At once for its client; its bytes go with a later clean-up, and the memory of it another day later."""
    uploads = await begun(place, b"abc")
    place.now_s = NOW + UPLOAD_S - 1
    await add(uploads, b"", "part_1")
    place.now_s = NOW + UPLOAD_S
    for refusal in (add(uploads, b"x", "part_9"), complete(uploads, "part_0"), uploads.cancel(US, "upload_1")):
        assert (await refused(InvalidRequest, refusal)).code == "upload_expired"
    await uploads.clean()
    assert len(await place.database.all("SELECT id FROM upload_parts")) == 2
    place.now_s += LATE_S
    await uploads.clean()
    await nothing_is_left(place)
    assert (await uploads.get(US, "upload_1")).upload.status == "expired"
    place.now_s += 86_400
    await uploads.clean()
    await refused(NotFound, uploads.get(US, "upload_1"))


async def a_part_that_comes_when_the_upload_has_ended_is_refused(place: Place) -> None:
    """Although it was open when the part began to arrive."""
    uploads = await begun(place, size=1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await uploads.cancel(US, "upload_1")

    error = await refused(InvalidRequest, uploads.add(US, "upload_1", slow(), name=lambda: "part_0"))
    assert error.code == "upload_cancelled"
    await nothing_is_left(place)


async def an_upload_has_so_many_parts_and_bytes_and_no_more(place: Place) -> None:
    """Each part may come twice, since an answer may be lost."""
    uploads = await begun(place, *[b"x"] * 5)
    assert (await refused(InvalidRequest, add(uploads, b"x", "part_9"))).code == "too_many_parts"
    await uploads.cancel(US, "upload_1")
    await uploads.create(US, new(10, "upload_2"))
    await uploads.add(US, "upload_2", pieces(b"x" * 100), name=lambda: "part_a")
    await uploads.add(US, "upload_2", pieces(b"x" * 20), name=lambda: "part_b")
    assert (await refused(InvalidRequest, uploads.add(US, "upload_2", pieces(b"x"), name=lambda: "c"))).code == (
        "size_mismatch"
    )
    assert await place.loose() == []


async def nobody_touches_the_uploads_of_others(place: Place) -> None:
    """Not by adding, completing, cancelling, or naming their parts."""
    uploads = await begun(place, b"abc")
    wanted = CompleteUpload(part_ids=["part_0"])
    for refusal in (
        uploads.get(THEM, "upload_1"),
        uploads.get_part(THEM, "upload_1", "part_0"),
        add(uploads, b"x", "part_9", THEM),
        uploads.complete(THEM, "upload_1", wanted, file_id="file-2"),
        uploads.cancel(THEM, "upload_1"),
    ):
        await refused(NotFound, refusal)
    await uploads.create(THEM, new(3, "upload_2"))
    error = await refused(InvalidRequest, uploads.complete(THEM, "upload_2", wanted, file_id="file-2"))
    assert error.code == "part_not_found"


class Dying(Struct):
    """A database and a storage that are cut off from this process at some write, as by its death."""

    database: Database
    blobs: Blobs
    writes: int
    alive: set[str]

    @property
    def dialect(self) -> Dialect:
        """The database's."""
        return self.database.dialect

    def _step(self) -> None:
        self.writes -= 1
        if self.writes < 0:
            raise Unavailable("dead")

    async def one(self, sql: str, params: Params = ()) -> Row | None:
        """Reads."""
        return await self.database.one(sql, params)

    async def all(self, sql: str, params: Params = ()) -> list[Row]:
        """Reads."""
        return await self.database.all(sql, params)

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Writes, while it lives."""
        self._step()
        return await self.database.execute(sql, params)

    async def transaction(self, statements: Sequence[Statement]) -> list[int]:
        """Writes, while it lives."""
        self._step()
        return await self.database.transaction(statements)

    async def put(self, key: str, content: AsyncIterator[bytes]) -> int:
        """Stores, while it lives."""
        self._step()
        self.alive.add(key)
        return await self.blobs.put(key, content)

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Reads."""
        return await self.blobs.read(key, start, length)

    async def delete(self, key: str) -> None:
        """Deletes, while it lives."""
        self._step()
        await self.blobs.delete(key)
        self.alive.discard(key)

    async def close(self) -> None:
        """Belongs to somebody else."""


async def a_death_at_any_step_loses_nothing_and_leaves_nothing(place: Place) -> None:
    """Parts that were acknowledged are there until the file is; then its bytes are all there is."""
    alive: set[str] = set()
    for steps in range(100):
        dying = Dying(place.database, place.blobs, steps, alive)
        told = await _until_death(place, dying, f"upload_{steps}")
        survivor = Dying(place.database, place.blobs, 10**6, alive)
        worker = Workers(place.database, 60, f"survivor-{steps}")
        files = Files(survivor, survivor, lambda: place.now_s, workers=worker)
        uploads = Uploads(survivor, files, lambda: place.now_s, limits=LIMITS)
        wanted = CompleteUpload(part_ids=[f"part_{steps}_{number}" for number in range(2)])
        await uploads.clean()
        await files.clean(0)
        if len(told) >= 3:
            made = await uploads.complete(US, f"upload_{steps}", wanted, file_id=f"file-{steps}")
            assert made.file is not None
            assert await whole(place.files.read(US, made.file.id)) == b"abcdef"
        elif told:
            await uploads.cancel(US, f"upload_{steps}")
        assert alive == set(await place.keys()), f"death at step {steps}"
        await nothing_is_left(place)
        if len(told) == 4:
            return
    raise AssertionError("it never came to its end")


async def _until_death(place: Place, dying: Dying, upload_id: str) -> list[Any]:
    """What the client of a process that dies was told."""
    worker = Workers(place.database, 60, f"dead-{upload_id}")
    files = Files(dying, dying, lambda: place.now_s, workers=worker)
    uploads = Uploads(dying, files, lambda: place.now_s, limits=LIMITS)
    number, told = upload_id.partition("_")[2], list[Any]()
    ids = [f"part_{number}_{index}" for index in range(2)]
    try:
        told.append(await uploads.create(US, new(6, upload_id)))
        for part_id, content in zip(ids, (b"abc", b"def"), strict=True):
            told.append(await uploads.add(US, upload_id, pieces(content), name=partial(str, part_id)))
        told.append(await uploads.complete(US, upload_id, CompleteUpload(part_ids=ids), file_id=f"file-{number}"))
    except Unavailable:
        pass
    return told


Case = Callable[[Place], Awaitable[None]]

CASES: list[Case] = [
    parts_become_a_file_in_the_order_that_is_named,
    an_upload_completed_again_gives_the_same_file,
    completions_at_once_give_one_file,
    a_completion_that_is_overtaken_gives_the_file_of_the_other,
    the_file_expires_as_the_upload_was_told,
    what_does_not_fit_is_refused_and_the_upload_goes_on,
    a_cancelled_upload_keeps_nothing,
    an_upload_expires_after_its_hour,
    a_part_that_comes_when_the_upload_has_ended_is_refused,
    an_upload_has_so_many_parts_and_bytes_and_no_more,
    nobody_touches_the_uploads_of_others,
    a_death_at_any_step_loses_nothing_and_leaves_nothing,
]
