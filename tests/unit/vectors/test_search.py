"""A question to a store, over an embedded index, with a model that knows three words."""

import asyncio

import pytest
from msgspec.structs import replace

from antiphon.errors import InvalidRequest, NotFound, Unavailable
from antiphon.knowledge import IndexConfig, SearchConfig
from antiphon.models.base import NO_ACCESS, Access
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.vector_stores import FileFacts, StoreView
from antiphon.testing.index_suite import chunk, vector
from antiphon.vectors.base import Key, Ranking, Wanted
from antiphon.vectors.search import Search
from antiphon.vectors.sqlite_index import EmbeddedIndex
from antiphon.wire.search import Filter

AXES = ("apples", "pears", "plums")
ACCESS = Access(key="of the client")


def meaning(text: str) -> list[float]:
    return [float(axis in text) for axis in AXES]


class World:
    """One store, its index, and models that note what they are asked."""

    def __init__(self, database):
        self.index = EmbeddedIndex(database, IndexConfig())
        self.view_ = StoreView(
            id="vs_1", index="here", embedding_model="lab/embed", dimension=3, metric="cosine", among={}, files={}
        )
        self.embedded = []
        self.reranked = []
        self.amongs = []

    async def add(self, file, *texts, **attributes):
        bare = not self.view_.embedding_model
        chunks = [chunk(n, text, None if bare else meaning(text)) for n, text in enumerate(texts)]
        key = Key(owner="ada", store="vs_1", dimension=self.view_.dimension)
        await self.index.add(key, file, "1", chunks=chunks)
        facts = FileFacts(filename=f"{file}.txt", attributes=attributes)
        self.view_ = replace(self.view_, among={**self.view_.among, file: "1"}, files={**self.view_.files, file: facts})

    async def view(self, owner, id):
        if (owner, id) != ("ada", "vs_1"):
            raise NotFound(f"Vector store with id '{id}' not found.")
        return self.view_

    async def embed(self, model, texts, *, dimension, access):
        assert dimension == self.view_.dimension
        self.embedded.append((model, list(texts), access))
        return [vector(*meaning(text)) for text in texts]

    async def rerank(self, model, query, documents, access):
        self.reranked.append((model, query, list(documents), access))
        return [1 / len(text) for text in documents]

    def search(self, **config):
        settings = SearchConfig(**config)
        return Search(self, {"here": self.index}, settings, embed=self.embed, rerank=self.rerank)


@pytest.fixture
async def world():
    database = open_sqlite(None)
    await migrate(database, migrations())
    made = World(database)
    await made.add("file_a", "red apples", "green pears", year=2020)
    await made.add("file_b", "apples and pears", "plums", year=2021)
    yield made
    await made.index.close()
    await database.close()


async def found(world, *queries, search=None, **more):
    wanted = Wanted(queries=queries, **more)
    hits = await (search or world.search()).search("ada", "vs_1", wanted, access=ACCESS)
    return [(hit.file_id, hit.chunk.number) for hit in hits]


async def test_a_hit_says_what_is_known_of_its_file(world):
    (hit, *_) = await world.search().search("ada", "vs_1", Wanted(queries=("red apples",)), access=ACCESS)
    assert (hit.file_id, hit.filename, hit.attributes) == ("file_a", "file_a.txt", {"year": 2020})
    assert hit.chunk.piece.text == "red apples"
    assert hit.chunk.piece.page == 1
    assert hit.score == pytest.approx(1)
    assert hit.similarity == pytest.approx(1)
    assert world.embedded == [("lab/embed", ["red apples"], ACCESS)]


async def test_each_mode_finds_its_own(world):
    async def by(mode):
        return await found(world, "green apples", ranking=Ranking(mode=mode))

    assert (await by("semantic"))[:2] == [("file_a", 0), ("file_b", 0)]
    assert (await by("keyword"))[0] == ("file_a", 1)
    assert len(world.embedded) == 1
    assert set(await by("hybrid")) == {("file_a", 0), ("file_a", 1), ("file_b", 0), ("file_b", 1)}
    assert len(world.embedded) == 2


async def test_a_filter_leaves_files_out_and_the_index_sees_the_same_set_again(world):
    search = world.search()
    late = Filter(type="gt", key="year", value=2020)
    assert await found(world, "apples", search=search, filters=late, ranking=Ranking(mode="keyword")) == [("file_b", 0)]
    first = search._among("ada", world.view_, late)
    assert search._among("ada", world.view_, Filter(type="gt", key="year", value=2020)) is first
    await world.add("file_c", "apples", year=2030)
    assert set(search._among("ada", world.view_, late)) == {"file_b", "file_c"}
    assert search._among("ada", world.view_, None) is world.view_.among


async def test_a_filter_that_allows_nothing_asks_nobody(world):
    assert await found(world, "apples", filters=Filter(type="eq", key="year", value=1)) == []
    assert await found(world) == []
    assert world.embedded == []


async def test_several_queries_give_each_chunk_once(world):
    hits = await found(world, "apples", "pears", "apples", ranking=Ranking(mode="semantic", score_threshold=0.5))
    assert hits == [("file_a", 0), ("file_a", 1), ("file_b", 0)]
    assert world.embedded == [("lab/embed", ["apples", "pears"], ACCESS)]
    assert await found(world, "apples", "pears", count=2) == [("file_a", 0), ("file_a", 1)]


async def test_a_threshold_leaves_out_what_is_not_near(world):
    semantic = Ranking(mode="semantic", score_threshold=0.8)
    assert await found(world, "apples", ranking=semantic) == [("file_a", 0)]
    assert await found(world, "nothing known", ranking=semantic) == []


async def test_a_rerank_model_orders_the_best_anew(world):
    named = Ranking(mode="semantic", reranker="lab/rerank", score_threshold=0.05)
    assert (await found(world, "apples", ranking=named))[0] == ("file_b", 1)
    ((model, query, documents, access),) = world.reranked
    assert (model, query, access) == ("lab/rerank", "apples", ACCESS)
    assert documents[0] == "red apples"
    search = world.search(reranker="lab/usual", rerank_candidates=2)
    await found(world, "apples", search=search)
    assert (world.reranked[1][0], len(world.reranked[1][2])) == ("lab/usual", 2)
    await found(world, "apples", search=search, ranking=Ranking(reranker=""))
    assert len(world.reranked) == 2


async def test_a_store_without_vectors_is_searched_by_words(world):
    world.view_ = replace(world.view_, embedding_model="", dimension=0, among={}, files={})
    await world.add("file_w", "red apples")
    (hit,) = await world.search(mode="semantic").search("ada", "vs_1", Wanted(queries=("apples",)), access=NO_ACCESS)
    assert (hit.chunk.piece.text, hit.similarity) == ("red apples", None)
    assert 0 < hit.score < 1
    with pytest.raises(InvalidRequest, match="no vectors"):
        await found(world, "apples", ranking=Ranking(mode="semantic"))
    assert world.embedded == []


async def test_what_was_removed_meanwhile_is_no_hit(world):
    class Slow(EmbeddedIndex):
        async def fetch(self, key, matches):
            await self.remove(key, "file_a")
            return await super().fetch(key, matches)

    world.index.__class__ = Slow
    assert await found(world, "apples", ranking=Ranking(mode="semantic")) == [("file_b", 0), ("file_b", 1)]


async def test_a_foreign_store_is_not_found_and_a_lost_index_is_named(world):
    with pytest.raises(NotFound):
        await world.search().search("eve", "vs_1", Wanted(queries=("apples",)), access=ACCESS)
    world.view_ = replace(world.view_, index="elsewhere")
    with pytest.raises(Unavailable, match=r"'elsewhere'.*There are: here"):
        await found(world, "apples")


async def test_words_are_looked_for_while_a_host_embeds(world):
    asked, answered = asyncio.Event(), asyncio.Event()

    class Watched(EmbeddedIndex):
        async def keyword(self, *arguments, **named):
            await asked.wait()
            answered.set()
            return await super().keyword(*arguments, **named)

    async def embed(model, texts, *, dimension, access):
        asked.set()
        await answered.wait()
        return await world.embed(model, texts, dimension=dimension, access=access)

    world.index.__class__ = Watched
    search = Search(world, {"here": world.index}, SearchConfig(), embed=embed, rerank=world.rerank)
    async with asyncio.timeout(5):
        assert await found(world, "apples", search=search)
