"""The contracts of blobs, files, uploads, containers: a folder, also with every fsync, a bucket; on either database."""

import errno
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import bucket
import containers_suite
import files_suite
import uploads_suite
from antiphon.errors import NotFound, Unavailable
from antiphon.stores.blobs import BlobOptions, Blobs, LocalBlobs, open_blobs
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.postgres import open_postgres
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing import blobs_suite
from antiphon.testing.blobs_suite import pieces, whole
from files_suite import Place

CASES = [*files_suite.CASES, *uploads_suite.CASES, *containers_suite.CASES]


@pytest.fixture(scope="module")
def bucket_url() -> Iterator[str]:
    """The address of a bucket; what one test leaves there, the next must not meet."""
    with bucket.s3_server() as url:
        yield url


@pytest.fixture(params=["temporary", "local", "synced", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    """An open, empty storage."""
    if request.param == "s3":
        url = request.getfixturevalue("bucket_url").replace("some", tmp_path.name)
        options = BlobOptions(url=url, access_key="key", secret_key="secret")
    else:
        url = None if request.param == "temporary" else f"file://{tmp_path}/files"
        options = BlobOptions(url=url, sync=request.param == "synced")
    opened = open_blobs(options)
    yield opened
    await opened.close()


@pytest.mark.parametrize("case", blobs_suite.CASES, ids=lambda case: case.__name__)
async def test_blobs(case: blobs_suite.Case, blobs: Blobs) -> None:
    """Each case of the suite says its own behaviour."""
    await case(blobs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_files(case: files_suite.Case, blobs: Blobs) -> None:
    """Each case of the suite says its own behaviour."""
    database = open_sqlite(None)
    await migrate(database, migrations())
    await case(Place(database, blobs))
    await database.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_files_on_postgres(case: files_suite.Case, postgres_url: str) -> None:
    """Each case of the suite says its own behaviour."""
    blobs, database = LocalBlobs(None), open_postgres(postgres_url)
    await migrate(database, migrations(database.dialect))
    await case(Place(database, blobs))
    await database.close()
    await blobs.close()


async def test_a_folder_holds_only_what_is_complete(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "new" / "files")
    await blobs.put("blob_1", pieces(b"x"))
    with pytest.raises(ZeroDivisionError):
        await blobs.put("blob_2", pieces(b"x", error=ZeroDivisionError()))
    (tmp_path / "new" / "files" / "blob_3.part").write_bytes(b"a killed process left this")
    with pytest.raises(NotFound):
        await blobs.read("blob_3")
    await blobs.delete("blob_3")
    assert [each.name for each in (tmp_path / "new" / "files").iterdir()] == ["blob_1"]


async def test_a_disk_that_fails_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        await LocalBlobs(tmp_path / "files").put("blob_1", pieces(b"x"))


async def test_a_full_disk_is_named() -> None:
    blobs = LocalBlobs(None)
    with pytest.raises(Unavailable, match="the disk is full"):
        await blobs._run(full_disk)
    await blobs.close()


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "no space left")


async def test_a_temporary_folder_goes_when_it_is_closed() -> None:
    blobs = LocalBlobs(None)
    await blobs.put("blob_1", pieces(b"x"))
    assert blobs._folder.is_dir()
    await blobs.close()
    assert not blobs._folder.exists()


async def test_an_s3_server_that_is_gone_or_refuses_is_unavailable(bucket_url: str) -> None:
    missing = open_blobs(
        BlobOptions(url=bucket_url.replace("s3://antiphon", "s3://missing"), access_key="k", secret_key="s")
    )
    with pytest.raises(Unavailable):
        await missing.put("blob_1", pieces(b"x"))
    gone = open_blobs(BlobOptions(url="s3://bucket?endpoint=http://127.0.0.1:9", access_key="k", secret_key="s"))
    with pytest.raises(Unavailable) as refused:
        await whole(gone.read("blob_1"))
    assert "127.0.0.1" not in refused.value.message
