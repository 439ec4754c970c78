"""What every `VectorIndex` has to do, as cases that any test runner can run over any implementation.

Each case is an async function of a `Place` where nothing is kept yet; `CASES` lists them. Vectors have three
dimensions, texts a few words.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from antiphon.errors import InvalidRequest
from antiphon.vectors.base import Among, Chunk, Key, Match, Metric, Piece, VectorIndex

KEY = Key(owner="ada", store="vs_1", dimension=3)
PLAIN = Key(owner="ada", store="vs_2")
"""A store without vectors."""
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

E = TypeVar("E", bound=Exception)


class Place(Protocol):
    """Where indexes keep what they are given."""

    async def open(self) -> VectorIndex:
        """An index over this place, opened: another one each time, which the place closes in the end."""
        ...

    async def count(self) -> int:
        """How many chunks are kept there, of everybody, whether they count or not."""
        ...


def vector(*values: float) -> bytes:
    """Little-endian float32."""
    return struct.pack(f"<{len(values)}f", *values)


def chunk(number: int, text: str, values: Sequence[float] | None = None, **metadata: Any) -> Chunk:
    """A chunk with a text and perhaps a vector."""
    piece = Piece(text=text, start=10 * number, end=10 * number + len(text), page=number + 1, heading="A > B")
    made = None if values is None else vector(*values)
    return Chunk(id=f"chunk_{number}", number=number, piece=piece, vector=made, metadata=metadata)


def places(matches: Sequence[Match]) -> list[tuple[str, int]]:
    """The files and numbers of matches."""
    return [(match.file_id, match.number) for match in matches]


async def refused(kind: type[E], call: Awaitable[object]) -> E:
    """The error of this kind that the call ends with."""
    try:
        result = await call
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")


async def _near(index: VectorIndex, values: Sequence[float], among: Among, *, key: Key = KEY) -> list[tuple[str, int]]:
    return places(await index.semantic(key, vector(*values), count=10, among=among))


async def _with(index: VectorIndex, query: str, among: Among, *, key: Key = KEY) -> list[tuple[str, int]]:
    return places(await index.keyword(key, query, count=10, among=among))


async def what_was_added_is_found_and_fetched(place: Place) -> None:
    """By meaning, by words, in order, and with all that was said of it."""
    index = await place.open()
    added = [chunk(0, "red apples", X, page="one"), chunk(1, "green pears", Y)]
    await index.add(KEY, "file_a", "1", chunks=added)
    among = {"file_a": "1"}
    matches = await index.semantic(KEY, vector(0.9, 0.1, 0), count=10, among=among)
    assert places(matches) == [("file_a", 0), ("file_a", 1)]
    assert await _with(index, "pears", among) == [("file_a", 1)]
    bare = [Chunk(id=each.id, number=each.number, piece=each.piece, metadata=each.metadata) for each in added]
    assert await index.fetch(KEY, matches) == bare
    assert await index.chunks(KEY, "file_a", "1", after=-1, limit=10) == bare


async def an_empty_place_finds_nothing(place: Place) -> None:
    """A store that was never added to, a file without chunks, nothing that counts."""
    index = await place.open()
    for among in ({}, {"file_a": "1"}):
        assert await _near(index, X, among) == []
        assert await _with(index, "apples", among) == []
    await index.add(KEY, "file_a", "1", chunks=[])
    assert await index.chunks(KEY, "file_a", "1", after=-1, limit=10) == []
    assert await index.fetch(KEY, []) == []
    gone = Match(file_id="file_a", attempt="1", number=0, score=1.0)
    assert await index.fetch(KEY, [gone]) == [None]


async def only_attempts_that_count_are_found(place: Place) -> None:
    """A crash between adding and publishing leaves nothing that a search sees."""
    index = await place.open()
    await index.add(KEY, "file_a", "1", chunks=[chunk(0, "red apples", X)])
    await index.add(KEY, "file_a", "2", chunks=[chunk(0, "half of it", X)])
    await index.add(KEY, "file_b", "1", chunks=[chunk(0, "half of another", X)])
    among = {"file_a": "1"}
    assert await _near(index, X, among) == [("file_a", 0)]
    assert await _with(index, "half", among) == []
    after = {"file_a": "2", "file_b": "1"}
    assert await _near(index, X, after) == [("file_a", 0), ("file_b", 0)]
    assert await _with(index, "half apples", after) == [("file_a", 0), ("file_b", 0)]
    assert await _with(index, "apples", after) == []


async def a_chunk_with_a_number_that_is_there_is_replaced(place: Place) -> None:
    """Text, words and vector; also where one call brings a number twice."""
    index = await place.open()
    await index.add(KEY, "file_a", "1", chunks=[chunk(0, "red apples", X), chunk(1, "pears", Y)])
    among = {"file_a": "1"}
    assert await _near(index, X, among) == [("file_a", 0), ("file_a", 1)]
    await index.add(KEY, "file_a", "1", chunks=[chunk(0, "never seen", Y), chunk(0, "plums", Z)])
    assert await place.count() == 2
    assert await _with(index, "apples seen", among) == []
    assert await _with(index, "plums", among) == [("file_a", 0)]
    assert (await index.semantic(KEY, vector(*X), count=10, among=among))[0].score == 0
    assert [each.piece.text for each in await index.chunks(KEY, "file_a", "1", after=-1, limit=9)] == ["plums", "pears"]


async def removal_leaves_nothing_behind(place: Place) -> None:
    """Of a file, of all attempts but one, of the store; what is not there is no error."""
    index = await place.open()
    for file in ("file_a", "file_b"):
        for attempt in ("1", "2", "3"):
            await index.add(KEY, file, attempt, chunks=[chunk(n, f"apples {n}", X) for n in range(5)])
    assert await place.count() == 30
    await index.remove(KEY, "file_a", but="2")
    assert await place.count() == 20
    assert len(await _near(index, X, {"file_a": "2"})) == 5
    assert await _near(index, X, {"file_a": "1"}) == []
    await index.remove(KEY, "file_a")
    assert await place.count() == 15
    assert await _near(index, X, {"file_a": "2"}) == []
    assert await _with(index, "apples", {"file_a": "2"}) == []
    await index.remove(KEY)
    await index.remove(KEY)
    await index.remove(KEY, "file_z", but="9")
    assert await place.count() == 0
    assert await _with(index, "apples", {"file_b": "3"}) == []


async def owners_and_stores_do_not_see_each_other(place: Place) -> None:
    """The same names of stores, files and attempts, under another owner and in another store."""
    index = await place.open()
    eve = Key(owner="eve", store=KEY.store, dimension=3)
    other = Key(owner=KEY.owner, store="vs_9", dimension=3)
    for key, word in ((KEY, "mine"), (eve, "hers"), (other, "other")):
        await index.add(key, "file_a", "1", chunks=[chunk(0, f"{word} apples", X)])
    among = {"file_a": "1"}
    for key, word in ((KEY, "mine"), (eve, "hers"), (other, "other")):
        assert await _near(index, X, among, key=key) == [("file_a", 0)]
        assert await _with(index, "mine hers other", among, key=key) == [("file_a", 0)]
        found = await index.fetch(key, await index.semantic(key, vector(*X), count=1, among=among))
        assert [each.piece.text for each in found if each] == [f"{word} apples"]
    await index.remove(eve)
    assert await _near(index, X, among) == [("file_a", 0)]
    assert await _near(index, X, among, key=eve) == []
    assert len(await index.chunks(other, "file_a", "1", after=-1, limit=10)) == 1
    assert await index.chunks(eve, "file_a", "1", after=-1, limit=10) == []


async def what_one_instance_changes_another_sees(place: Place) -> None:
    """Both have searched before, and no message passes between them."""
    one, other = await place.open(), await place.open()
    await one.add(KEY, "file_a", "1", chunks=[chunk(0, "apples", X)])
    assert await _near(one, X, {"file_a": "1"}) == await _near(other, X, {"file_a": "1"}) == [("file_a", 0)]
    await other.add(KEY, "file_b", "1", chunks=[chunk(0, "pears", X)])
    await other.add(KEY, "file_a", "2", chunks=[chunk(0, "plums", Y)])
    after = {"file_a": "2", "file_b": "1"}
    for index in (one, other):
        assert await _near(index, X, after) == [("file_b", 0), ("file_a", 0)]
        assert await _with(index, "apples plums", after) == [("file_a", 0)]
    await one.remove(KEY, "file_b")
    assert await _near(other, X, {"file_a": "2"}) == [("file_a", 0)]


async def equal_scores_are_ordered_by_file_and_number(place: Place) -> None:
    """Whatever order they came in."""
    index = await place.open()
    for file in ("file_c", "file_a", "file_b"):
        await index.add(KEY, file, "1", chunks=[chunk(n, "apples", X) for n in (2, 0, 1)])
    among = {"file_b": "1", "file_c": "1", "file_a": "1"}
    expected = [(file, n) for file in ("file_a", "file_b", "file_c") for n in range(3)]
    assert await _near(index, X, among) == expected
    assert await _with(index, "apples", among) == expected


async def equal_scores_are_cut_in_that_order_too(place: Place) -> None:
    """Where only some of them are wanted."""
    index = await place.open()
    for file in ("file_c", "file_a", "file_b"):
        await index.add(KEY, file, "1", chunks=[chunk(n, "apples", X) for n in (2, 0, 1)])
    among = {"file_b": "1", "file_c": "1", "file_a": "1"}
    expected = [(file, n) for file in ("file_a", "file_b", "file_c") for n in range(3)]
    assert places(await index.semantic(KEY, vector(*X), count=4, among=among)) == expected[:4]
    assert places(await index.keyword(KEY, "apples", count=4, among=among)) == expected[:4]


async def any_text_is_a_query(place: Place) -> None:
    """Operators, quotes, NUL, emoji, half of a surrogate pair, and very long ones."""
    index = await place.open()
    await index.add(KEY, "file_a", "1", chunks=[chunk(0, 'NOT near the AND of it\'s "own"', X)])
    among = {"file_a": "1"}
    for query in (
        "",
        " ",
        '"',
        "'",
        "()",
        "*",
        "NEARBY(",
        '" OR 1=1 --',
        "\0",
        "\U0001f600",
        "a:b",
        "\\",
        "-",
        "^&|!<->",
    ):
        assert await _with(index, query, among) == [], query
    for query in ("AND", "own\0", "NOT near", "it's", "near*", '"own"', "own \ud800", "x" * 10_000 + " own"):
        assert await _with(index, query, among) == [("file_a", 0)], query
    assert await _with(index, "own " + " ".join(f"w{n}" for n in range(2_000)), among) == [("file_a", 0)]


async def case_accents_and_scripts_do_not_matter(place: Place) -> None:
    """Words match in any language, those of scripts without spaces character by character."""
    index = await place.open()
    texts = [
        "Crème brûlée",
        "STRASSE",
        "Привет мир",
        "東京都庁",
        "한국어 문서",
        "snake_case_name",
        "नमस्ते दुनिया",
        "version 3.14",
    ]
    await index.add(KEY, "file_a", "1", chunks=[chunk(n, text, X) for n, text in enumerate(texts)])
    queries = ["CREME BRULEE", "straße", "ПРИВЕТ", "東京", "문서", "Case", "नमस्ते", "3.14"]
    for number, query in enumerate(queries):
        assert (await _with(index, query, {"file_a": "1"}))[0] == ("file_a", number), query


async def words_are_joined_by_or_and_rare_ones_weigh_more(place: Place) -> None:
    """More of the words is better, a rare word beats a common one, a short text a long one."""
    index = await place.open()
    texts = ["the common word", "the rare word", "the common word and the rare one", "the common thing", "nothing"]
    await index.add(KEY, "file_a", "1", chunks=[chunk(n, text, X) for n, text in enumerate(texts)])
    among = {"file_a": "1"}
    matches = await index.keyword(KEY, "common rare", count=10, among=among)
    assert [match.number for match in matches] == [2, 1, 0, 3]
    assert all(match.score > 0 for match in matches)
    assert [match.number for match in await index.keyword(KEY, "common rare", count=2, among=among)] == [2, 1]


async def a_vector_must_fit_its_store(place: Place) -> None:
    """Another dimension, not a number, and vectors where there are none: refused, and nothing is stored."""
    index = await place.open()
    await refused(InvalidRequest, index.add(KEY, "file_a", "1", chunks=[chunk(0, "a", X), chunk(1, "b", (1.0, 2.0))]))
    await refused(InvalidRequest, index.add(KEY, "file_a", "1", chunks=[chunk(0, "a", (float("nan"), 0.0, 0.0))]))
    await refused(InvalidRequest, index.add(PLAIN, "file_a", "1", chunks=[chunk(0, "a", X)]))
    assert await place.count() == 0
    error = await refused(InvalidRequest, index.semantic(KEY, vector(1.0), count=1, among={"file_a": "1"}))
    assert "1 dimension" in error.message
    assert "3" in error.message
    await refused(InvalidRequest, index.semantic(PLAIN, vector(*X), count=1, among={"file_a": "1"}))


async def a_store_without_vectors_has_words(place: Place) -> None:
    """So has a chunk without a vector in a store that has some."""
    index = await place.open()
    await index.add(PLAIN, "file_a", "1", chunks=[chunk(0, "red apples"), chunk(1, "pears")])
    among = {"file_a": "1"}
    assert await _with(index, "apples", among, key=PLAIN) == [("file_a", 0)]
    await index.add(KEY, "file_a", "1", chunks=[chunk(0, "red apples", Y), chunk(1, "green apples")])
    assert await _with(index, "apples", among) == [("file_a", 0), ("file_a", 1)]
    assert await _near(index, X, among) == [("file_a", 0)]
    await index.remove(PLAIN)
    assert await _with(index, "apples", among, key=PLAIN) == []
    assert await place.count() == 2


def _close(got: Sequence[Match], expected: dict[int, float]) -> bool:
    same = [match.number for match in got] == list(expected)
    return same and all(abs(match.score - expected[match.number]) < 1e-5 for match in got)


async def each_metric_has_its_scores(place: Place) -> None:
    """Of vectors of any length, the zero vector among them."""
    index = await place.open()
    values = [(2.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (-3.0, 0.0, 0.0)]
    expected: dict[Metric, dict[int, float]] = {
        "cosine": {0: 1.0, 1: 0.5**0.5, 2: 0.0, 3: -1.0},
        "dot_product": {0: 8.0, 1: 4.0, 2: 0.0, 3: -12.0},
        "squared_distance": {0: -4.0, 1: -10.0, 2: -16.0, 3: -49.0},
    }
    for metric, scores in expected.items():
        key = Key(owner="ada", store=metric, dimension=3, metric=metric)
        await index.add(key, "file_a", "1", chunks=[chunk(n, "x", each) for n, each in enumerate(values)])
        assert _close(await index.semantic(key, vector(4, 0, 0), count=9, among={"file_a": "1"}), scores), metric
    zero = await index.semantic(
        Key(owner="ada", store="cosine", dimension=3), vector(0, 0, 0), count=9, among={"file_a": "1"}
    )
    assert _close(zero, dict.fromkeys(range(4), 0.0))


async def a_few_of_many_files_are_found_exactly(place: Place) -> None:
    """A filter that leaves three files of two hundred, then one, then all again."""
    index = await place.open()
    for n in range(200):
        angle = n / 200
        await index.add(KEY, f"file_{n:03}", "1", chunks=[chunk(0, f"apples n{n}", (1.0 - angle, angle, 0.0))])
    few = {f"file_{n:03}": "1" for n in (150, 20, 199)}
    whole = {f"file_{n:03}": "1" for n in range(200)}
    for _ in range(2):
        assert await _near(index, X, few) == [("file_020", 0), ("file_150", 0), ("file_199", 0)]
        assert await _with(index, "apples n150", few) == [("file_150", 0), ("file_020", 0), ("file_199", 0)]
        assert await _near(index, X, {"file_042": "1"}) == [("file_042", 0)]
        assert await _with(index, "n77", few) == []
        assert await _near(index, X, whole) == [(f"file_{n:03}", 0) for n in range(10)]
        assert await _with(index, "n77", whole) == [("file_077", 0)]


async def a_large_file_pages_and_goes(place: Place) -> None:
    """In batches; found while it grows; nothing is left."""
    index = await place.open()
    for start in range(0, 1_200, 300):
        some = [chunk(n, f"apples n{n}", (1.0, n / 1000, 0.0)) for n in range(start, start + 300)]
        await index.add(KEY, "file_a", "1", chunks=some)
    among = {"file_a": "1"}
    assert await _near(index, X, among) == [("file_a", n) for n in range(10)]
    assert await _with(index, "n1199", among) == [("file_a", 1199)]
    page = await index.chunks(KEY, "file_a", "1", after=1_090, limit=100)
    assert [each.number for each in page] == list(range(1_091, 1_191))
    await index.remove(KEY, "file_a")
    assert await place.count() == 0


async def many_at_once_do_not_disturb_each_other(place: Place) -> None:
    """Files are added and removed while searches go on."""
    index = await place.open()
    await index.add(KEY, "file_a", "1", chunks=[chunk(0, "apples", X)])

    async def one(n: int) -> None:
        among = {"file_a": "1", f"file_b{n}": "1"}
        await index.add(KEY, f"file_b{n}", "1", chunks=[chunk(k, f"pears n{n}", Y) for k in range(3)])
        assert await _near(index, X, among) == [("file_a", 0), *((f"file_b{n}", k) for k in range(3))]
        await index.remove(KEY, f"file_b{n}")
        assert await _near(index, X, among) == [("file_a", 0)]

    await asyncio.gather(*(one(n) for n in range(12)))
    assert await place.count() == 1


Case = Callable[[Place], Awaitable[None]]

CASES: tuple[Case, ...] = (
    what_was_added_is_found_and_fetched,
    an_empty_place_finds_nothing,
    only_attempts_that_count_are_found,
    a_chunk_with_a_number_that_is_there_is_replaced,
    removal_leaves_nothing_behind,
    owners_and_stores_do_not_see_each_other,
    what_one_instance_changes_another_sees,
    equal_scores_are_ordered_by_file_and_number,
    equal_scores_are_cut_in_that_order_too,
    any_text_is_a_query,
    case_accents_and_scripts_do_not_matter,
    words_are_joined_by_or_and_rare_ones_weigh_more,
    a_vector_must_fit_its_store,
    a_store_without_vectors_has_words,
    each_metric_has_its_scores,
    a_few_of_many_files_are_found_exactly,
    a_large_file_pages_and_goes,
    many_at_once_do_not_disturb_each_other,
)
