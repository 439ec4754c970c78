"""Uploads: files that come in parts, each part kept like a file, until one file is made of them or nothing.

Who ends an upload (completes, cancels, or finds it expired) changes its status first, and only one can; then nobody
adds parts any longer, and the parts go, one by one, as files do. What a crash leaves of them belongs to an upload that
has ended, and `clean` removes it.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from antiphon.clock import Clock
from antiphon.errors import ApiError, InvalidRequest, NotFound
from antiphon.limits import Limits
from antiphon.stores.contents import AT_ONCE
from antiphon.stores.database import Database, Mismatch, Row, Statement
from antiphon.stores.files import Files
from antiphon.stores.table import Table, not_found
from antiphon.wire.files import File
from antiphon.wire.uploads import CompleteUpload, Upload, UploadPart, UploadStatus

UPLOADS = Table("uploads")
PARTS = Table("upload_parts")
LATE_S: Final = 3_600
"""How long after its hour an upload's parts are kept: a completion that began in time may need them."""
KEPT_S: Final = 86_400
"""How long it is remembered how an upload ended."""

log = logging.getLogger("antiphon.stores")

_COLUMNS = "id, created_at, expires_at, purpose, filename, bytes, expires_s, status, file_id, parts, part_bytes"
_INSERT = UPLOADS.insert(_COLUMNS)
_GET = UPLOADS.select(_COLUMNS)
_GROW = UPLOADS.update(
    "parts = parts + 1, part_bytes = part_bytes + ?",
    "id = ? AND status = 'pending' AND parts < ? AND part_bytes + ? <= ?",
)
_END = UPLOADS.update("status = ?, file_id = ?", "id = ? AND status = 'pending'")
_ADD_PART = PARTS.insert("upload_id, id, created_at, bytes, content")
_PART = PARTS.select("id, created_at, upload_id", "upload_id = ? AND id = ?")
_ALL_PARTS = PARTS.select("id, bytes, content", "upload_id = ?")
_DROP_PART = PARTS.delete("id = ?")
# Every owner's: what no tenant asks for and none sees.
_LAPSED = "SELECT owner, id FROM uploads WHERE status = 'pending' AND expires_at <= ? LIMIT ?"
_ENDED = (
    "SELECT DISTINCT uploads.owner, uploads.id FROM uploads JOIN upload_parts"
    " ON upload_parts.owner = uploads.owner AND upload_parts.upload_id = uploads.id"
    " WHERE uploads.status <> 'pending' LIMIT ?"
)
_FORGET = (
    "DELETE FROM uploads WHERE status <> 'pending' AND expires_at <= ? AND NOT EXISTS (SELECT 1 FROM upload_parts"
    " WHERE upload_parts.owner = uploads.owner AND upload_parts.upload_id = uploads.id)"
)


class Stored(Struct, frozen=True, kw_only=True):
    """An upload as its row has it: `expires_s` is how long its file is kept, `parts` and `part_bytes` what came."""

    upload: Upload
    expires_s: int | None
    file_id: str | None = None
    parts: int = 0
    part_bytes: int = 0


class Uploads:
    """The uploads of all owners, one owner at a time. A foreign or missing id raises `NotFound`.

    An upload that has ended refuses what would change it with an `InvalidRequest` whose code says how it ended.
    """

    def __init__(self, database: Database, files: Files, clock: Clock, *, limits: Limits) -> None:
        self._database = database
        self._files = files
        self._clock = clock
        self._limits = limits

    async def create(self, owner: str, new: Stored) -> None:
        """Stores an upload without parts."""
        made = new.upload
        values = (made.id, made.created_at, made.expires_at, made.purpose, made.filename, made.bytes)
        await self._database.execute(_INSERT, (owner, *values, new.expires_s, made.status, None, 0, 0))

    async def get(self, owner: str, id: str) -> Stored:
        """The upload as it stands now, without its file."""
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("Upload", id)
        stored = _stored(row)
        upload = stored.upload
        if upload.status == "pending" and upload.expires_at <= self._clock():
            return replace(stored, upload=replace(upload, status="expired"))
        return stored

    async def get_part(self, owner: str, upload_id: str, id: str) -> UploadPart:
        """A part of an upload that has not ended."""
        row = await self._database.one(_PART, (owner, upload_id, id))
        if row is None:
            raise not_found("Part", id)
        return UploadPart(id=row[0], created_at=row[1], upload_id=row[2])

    async def open(self, owner: str, id: str) -> Stored:
        """The upload, if parts may be added to it; raises otherwise."""
        stored = await self.get(owner, id)
        _check_pending(stored)
        if stored.parts >= self._limits.upload_parts_max:
            message = f"Upload {id} has {stored.parts} parts; at most {self._limits.upload_parts_max} are allowed."
            raise InvalidRequest(message, code="too_many_parts")
        if stored.part_bytes > self._bytes_max(stored):
            raise _too_much(stored)
        return stored

    async def add(
        self, owner: str, upload_id: str, content: AsyncIterator[bytes], *, name: Callable[[], str]
    ) -> UploadPart:
        """Stores a part; `name` gives its id when its bytes are there."""
        stored = await self.open(owner, upload_id)
        created_at, bytes_max = int(self._clock()), self._bytes_max(stored)
        made: list[UploadPart] = []

        def rows(key: str, size: int) -> Sequence[Statement]:
            part = UploadPart(id=name(), created_at=created_at, upload_id=upload_id)
            made.append(part)
            grow = (size, owner, upload_id, self._limits.upload_parts_max, size, bytes_max)
            add = (owner, upload_id, part.id, created_at, size, key)
            return [Statement(_GROW, grow, 1), Statement(_ADD_PART, add)]

        try:
            await self._files.contents.put(owner, content, rows)
        except Mismatch as error:
            raise _too_much(await self.open(owner, upload_id)) from error
        return made[0]

    async def complete(self, owner: str, id: str, wanted: CompleteUpload, *, file_id: str) -> Upload:
        """Makes a file of the parts, in the order that is wanted. Of several who do so at once, all get the same file.

        Raises `InvalidRequest` if the parts are not the upload's, have another size than was announced, or another
        MD5 than is wanted; then the upload goes on.
        """
        stored = await self.get(owner, id)
        if stored.file_id is not None:
            return await self._completed(owner, stored)
        _check_pending(stored)
        digest = hashlib.md5(usedforsecurity=False) if wanted.md5 else None

        def described(size: int) -> File:
            if digest is not None and digest.hexdigest() != (wanted.md5 or "").lower():
                message = f"The file's MD5 is {digest.hexdigest()}, not {wanted.md5}: parts or their order are wrong."
                raise InvalidRequest(message, param="md5", code="checksum_mismatch")
            return self._file(stored, file_id, size)

        try:
            keys = await self._chosen(owner, stored, wanted.part_ids)
            file = await self._files.create(
                owner,
                self._content(keys, digest),
                described,
                along=[Statement(_END, ("completed", file_id, owner, id), 1)],
            )
        except (Mismatch, NotFound, InvalidRequest):
            # Perhaps somebody else ended it meanwhile, and removed parts under our hands.
            ended = await self.get(owner, id)
            if ended.file_id is not None:
                return await self._completed(owner, ended)
            _check_pending(ended)
            raise
        await self._drop(owner, id)
        return replace(stored.upload, status="completed", file=file)

    async def cancel(self, owner: str, id: str) -> Upload:
        """Ends an upload without a file. To cancel it again is no error."""
        stored = await self.get(owner, id)
        if stored.upload.status == "cancelled":
            return stored.upload
        _check_pending(stored)
        if not await self._end(owner, id, "cancelled"):
            return await self.cancel(owner, id)  # it has ended since, as its row says now
        return replace(stored.upload, status="cancelled")

    async def clean(self) -> None:
        """Ends uploads whose time is over, removes what is left of those that ended, and forgets the oldest.

        Never raises for a storage or database that is away: what is left is removed another time.
        """
        now = int(self._clock())
        try:
            while lapsed := await self._database.all(_LAPSED, (now - LATE_S, AT_ONCE)):
                for owner, id in lapsed:
                    await self._end(owner, id, "expired")
            while ended := await self._database.all(_ENDED, (AT_ONCE,)):
                for owner, id in ended:
                    await self._drop(owner, id)
            await self._database.execute(_FORGET, (now - KEPT_S,))
        except ApiError as error:
            log.warning("uploads were not cleaned up", extra={"exception": error.message})

    # ------------------------------------------------------------ ends

    async def _end(self, owner: str, id: str, status: UploadStatus) -> bool:
        """Ends an upload without a file, and removes its parts; whether it had not ended before."""
        if not await self._database.execute(_END, (status, None, owner, id)):
            return False
        await self._drop(owner, id)
        return True

    async def _drop(self, owner: str, id: str) -> None:
        """Removes the parts of an upload that has ended."""
        for part_id, _, key in await self._database.all(_ALL_PARTS, (owner, id)):
            loosen = self._files.contents.loosened(owner, key)
            try:
                await self._database.transaction([Statement(_DROP_PART, (owner, part_id), 1), loosen])
            except Mismatch:
                continue  # somebody else does the same
            await self._files.contents.remove(owner, key)

    async def _completed(self, owner: str, stored: Stored) -> Upload:
        return replace(stored.upload, file=await self._files.get(owner, stored.file_id or ""))

    # ------------------------------------------------------------ parts

    async def _chosen(self, owner: str, stored: Stored, part_ids: Sequence[str]) -> list[str]:
        """The keys of the parts' bytes, in the order of their ids. Raises `InvalidRequest`."""
        upload = stored.upload
        known = {id: (size, key) for id, size, key in await self._database.all(_ALL_PARTS, (owner, upload.id))}
        keys: dict[str, str] = {}
        total = 0
        for index, part_id in enumerate(part_ids):
            if part_id not in known:
                message = f"Upload {upload.id} has no part with id '{part_id[:100]}'."
                raise InvalidRequest(message, param=f"part_ids[{index}]", code="part_not_found")
            if part_id in keys:
                raise InvalidRequest(f"The part '{part_id}' is named twice.", param=f"part_ids[{index}]")
            size, keys[part_id] = known[part_id]
            total += size
        if total != upload.bytes:
            message = f"The parts have {total} bytes together, but the upload was announced to have {upload.bytes}."
            raise InvalidRequest(message, param="part_ids", code="size_mismatch")
        return list(keys.values())

    async def _content(self, keys: Sequence[str], digest: "hashlib._Hash | None") -> AsyncIterator[bytes]:
        for key in keys:
            async for piece in await self._files.contents.read(key):
                if digest is not None:
                    await asyncio.to_thread(digest.update, piece)
                yield piece

    def _file(self, stored: Stored, id: str, size: int) -> File:
        upload, created_at = stored.upload, int(self._clock())
        return File(
            id=id,
            bytes=size,
            created_at=created_at,
            expires_at=None if stored.expires_s is None else created_at + stored.expires_s,
            filename=upload.filename,
            purpose=upload.purpose,
        )

    def _bytes_max(self, stored: Stored) -> int:
        """All of the parts, some of them twice: an answer may be lost, and its part be sent again."""
        return 2 * stored.upload.bytes + self._limits.upload_part_bytes_max


def _stored(row: Row) -> Stored:
    id, created_at, expires_at, purpose, filename, size, expires_s, status, file_id, parts, part_bytes = row
    upload = Upload(
        id=id,
        bytes=size,
        created_at=created_at,
        expires_at=expires_at,
        filename=filename,
        purpose=purpose,
        status=status,
    )
    return Stored(upload=upload, expires_s=expires_s, file_id=file_id, parts=parts, part_bytes=part_bytes)


def _check_pending(stored: Stored) -> None:
    upload = stored.upload
    if upload.status != "pending":
        message = f"Upload {upload.id} is {upload.status}: it can no longer be changed."
        raise InvalidRequest(message, code=f"upload_{upload.status}")


def _too_much(stored: Stored) -> InvalidRequest:
    upload = stored.upload
    message = f"The parts of upload {upload.id} have far more bytes than the {upload.bytes} that were announced."
    return InvalidRequest(message, code="size_mismatch")
