"""`python bench/vectors.py`: what the embedded index costs in CPU and memory, in one process, without HTTP.

Random unit vectors of 384 dimensions and texts of 100 words, drawn as words of a language are; questions of 8 words.
"""

import argparse
import asyncio
import itertools
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from antiphon.knowledge import IndexConfig, SearchConfig
from antiphon.models.base import NO_ACCESS, Access
from antiphon.stores.database import Database
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.vector_stores import FileFacts, StoreView
from antiphon.vectors.base import Chunk, Key, Piece, Ranking, Wanted
from antiphon.vectors.search import Search
from antiphon.vectors.sqlite_index import EmbeddedIndex
from antiphon.wire.search import Filter

DIMENSION: Final = 384
BATCH: Final = 500
FILE: Final = 1_000
QUESTIONS: Final = 100
VOCABULARY: Final = [f"word{n}" for n in range(50_000)]
WEIGHTS: Final = list(itertools.accumulate(1 / (n + 2.7) for n in range(len(VOCABULARY))))
KEY: Final = Key(owner="ada", store="vs_1", dimension=DIMENSION)


def text(count: int) -> str:
    return " ".join(random.choices(VOCABULARY, cum_weights=WEIGHTS, k=count))


def vector() -> bytes:
    made = np.random.default_rng(random.getrandbits(32)).standard_normal(DIMENSION)
    return (made / np.linalg.norm(made)).astype("<f4").tobytes()


def resident_mib() -> tuple[float, float]:
    """Now, and at the most so far."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Store:
    """One store, and a model that has its answers ready."""

    def __init__(self, chunks: int) -> None:
        files = [f"file_{n:05}" for n in range(-(-chunks // FILE))]
        self.vectors = [vector() for _ in range(QUESTIONS)]
        self._view = StoreView(
            id=KEY.store,
            index="embedded",
            embedding_model="model",
            dimension=DIMENSION,
            metric="cosine",
            among=dict.fromkeys(files, "1"),
            files={file: FileFacts(filename=file, attributes={"n": n % 10}) for n, file in enumerate(files)},
        )

    async def view(self, owner: str, id: str) -> StoreView:  # noqa: ARG002 - a protocol's
        """The store, whoever asks."""
        return self._view

    async def embed(self, model: str, texts: Sequence[str], *, dimension: int, access: Access) -> list[bytes]:  # noqa: ARG002
        """A vector that was made before."""
        return [random.choice(self.vectors) for _ in texts]


async def no_rerank(*_: object) -> list[float]:
    """Nothing reranks here."""
    return []


async def cost(work: Callable[[], Awaitable[object]], times: int = QUESTIONS) -> float:
    """CPU milliseconds of the whole process."""
    await work()
    before = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - before) / times * 1e3


async def ingest(database: Database, chunks: int) -> None:
    index = EmbeddedIndex(database, IndexConfig())
    spent = longest = 0.0
    for start in range(0, chunks, BATCH):
        pieces = [Piece(text=text(100), start=n, end=n + 1) for n in range(start, start + BATCH)]
        some = [Chunk(id=f"c{p.start}", number=p.start, piece=p, vector=vector()) for p in pieces]
        before = time.process_time()
        await index.add(KEY, f"file_{start // FILE:05}", "1", chunks=some)
        took = time.process_time() - before
        spent, longest = spent + took, max(longest, took)
    now, _ = resident_mib()
    print(f"added in batches of {BATCH}: {spent:.2f} CPU s, at most {longest * 1e3:.0f} ms at once, {now:.0f} MiB")
    await index.close()


async def search(database: Database, chunks: int) -> None:
    index, store = EmbeddedIndex(database, IndexConfig()), Store(chunks)
    searching = Search(store, {"embedded": index}, SearchConfig(), embed=store.embed, rerank=no_rerank)
    before = time.process_time()
    await searching.search("ada", KEY.store, Wanted(queries=("word1",)), access=NO_ACCESS)
    now, most = resident_mib()
    print(f"read by the first search: {time.process_time() - before:.2f} CPU s, {now:.0f} MiB, {most:.0f} at most")
    tenth = Filter(type="eq", key="n", value=3)
    for mode in ("semantic", "keyword", "hybrid"):
        questions = itertools.cycle([text(8) for _ in range(QUESTIONS)])
        for filters in (None, tenth):

            async def one(mode: str = mode, filters: Filter | None = filters) -> object:
                ranking = Ranking(mode=mode)  # type: ignore[arg-type]
                wanted = Wanted(queries=(next(questions),), ranking=ranking, filters=filters)  # noqa: B023
                return await searching.search("ada", KEY.store, wanted, access=NO_ACCESS)

            print(f"{mode:9} {'in a tenth' if filters else 'in all':10} {await cost(one):7.2f} CPU ms a search")
    now, most = resident_mib()
    print(f"{now:.0f} MiB resident, {most:.0f} at most, of which {index.memory_bytes() / 2**20:.0f} the copy")
    await index.close()


async def remove(database: Database) -> None:
    index = EmbeddedIndex(database, IndexConfig())
    rows = await database.all("SELECT count(*) FROM vector_chunks")
    before = time.perf_counter()
    await index.remove(KEY)
    print(f"removed {rows[0][0]:,} in {time.perf_counter() - before:.2f} s")
    await index.close()


async def main(chunks: int, part: str, path: Path) -> None:
    database = open_sqlite(path)
    await migrate(database, migrations())
    if part == "ingest":
        print(f"{chunks:,} chunks")
        await ingest(database, chunks)
    elif part == "search":
        await search(database, chunks)
    else:
        await remove(database)
    await database.close()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--chunks", type=int, nargs="*", default=[10_000, 100_000])
    arguments.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.part:
        asyncio.run(main(chosen.chunks[0], chosen.part[0], Path(chosen.part[1])))
        sys.exit()
    # Each part in a process of its own, so that the memory is that of a server that was started anew.
    for number in chosen.chunks:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("ingest", "search", "remove"):
                command = [sys.executable, __file__, "--chunks", str(number), "--part", name, f"{folder}/bench.db"]
                subprocess.run(command, check=True)
