"""Cutting documents into pieces."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.models.tokens import tokenizer
from antiphon.vectors import chunk
from antiphon.vectors.base import Block, Document
from antiphon.wire.chunking import (
    OtherChunkingStrategyResponseParam,
    StaticChunkingStrategy,
    StaticChunkingStrategyResponseParam,
    StructuredChunkingStrategy,
    StructuredChunkingStrategyResponseParam,
    as_cut,
)

TOKENS = tokenizer()


def pieces(document, strategy):
    return list(chunk.pieces(document, strategy, TOKENS))


def static(size, overlap):
    sizes = StaticChunkingStrategy(max_chunk_size_tokens=size, chunk_overlap_tokens=overlap)
    return StaticChunkingStrategyResponseParam(static=sizes)


def structured(size):
    sizes = StructuredChunkingStrategy(max_chunk_size_tokens=size)
    return StructuredChunkingStrategyResponseParam(structured=sizes)


def count(text):
    return len(TOKENS.encode_ordinary(text))


def words(number):
    return " ".join(f"word{each}" for each in range(number))


LETTERS = st.text(st.sampled_from("ab. \n\tÄ中👩\u200d0"), max_size=120)
REPEATED = st.builds(lambda text, times: text * times, LETTERS, st.sampled_from([1, 1, 7, 60]))
BLOCKS = st.lists(
    st.builds(
        Block,
        text=REPEATED.filter(bool),
        kind=st.sampled_from(["text", "heading", "table", "code"]),
        level=st.integers(1, 3),
        page=st.sampled_from([None, 1, 2]),
    ),
    min_size=1,
    max_size=8,
)
DOCUMENTS = st.builds(lambda blocks: Document(blocks=tuple(blocks)), BLOCKS)
SIZES = st.integers(100, 160).flatmap(lambda size: st.builds(partial(static, size), st.integers(0, size // 2)))
STRUCTURED = st.builds(structured, st.integers(100, 160))


# ---------------------------------------------------------------- every strategy


@given(document=DOCUMENTS, strategy=SIZES | STRUCTURED)
def test_a_piece_is_what_stands_at_its_place(document, strategy):
    text = document.text()
    for piece in pieces(document, strategy):
        assert piece.text == text[piece.start : piece.end]
        assert piece.text.strip()


@given(document=DOCUMENTS, strategy=SIZES | STRUCTURED)
def test_nothing_of_the_text_is_lost(document, strategy):
    text, covered = document.text(), set()
    for piece in pieces(document, strategy):
        covered.update(range(piece.start, piece.end))

    assert "".join(sign for at, sign in enumerate(text) if at not in covered).strip() == ""


@given(document=DOCUMENTS, strategy=SIZES | STRUCTURED)
def test_pieces_come_in_order_and_each_has_something_of_its_own(document, strategy):
    found = pieces(document, strategy)

    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(found))


def test_nothing_is_cut_before_it_is_asked_for():
    seen = []

    class Spy:
        def encode_ordinary(self, text):
            seen.append(len(text))
            return TOKENS.encode_ordinary(text)

        decode_bytes = TOKENS.decode_bytes

    document = Document(blocks=tuple(Block(text=words(1_000)) for _ in range(200)))
    next(chunk.pieces(document, as_cut(None), Spy()))

    assert sum(seen) < 2 * chunk.SLICE_CHARS < len(document.text())


# ---------------------------------------------------------------- windows


@given(text=REPEATED.filter(bool), strategy=SIZES)
def test_windows_are_those_of_the_whole_texts_tokens(text, strategy):
    """By what is obvious and slow: decode each window. Where a character is cut, it belongs to the earlier side."""
    tokens = TOKENS.encode_ordinary(text)
    size, overlap = strategy.static.max_chunk_size_tokens, strategy.static.chunk_overlap_tokens
    expected = []
    for start in range(0, len(tokens), size - overlap):
        if start and start + overlap >= len(tokens):
            break
        place = [len(TOKENS.decode_bytes(tokens[:edge]).decode(errors="ignore")) for edge in (start, start + size)]
        cut = [
            at + (TOKENS.decode_bytes(tokens[:edge]) != text[:at].encode())
            for at, edge in zip(place, (start, start + size), strict=True)
        ]
        expected.append(text[cut[0] : cut[1]])

    found = pieces(Document(blocks=(Block(text=text),)), strategy)
    assert [piece.text for piece in found] == [each for each in expected if each.strip()]


def test_auto_is_windows_of_800_tokens_of_which_400_repeat():
    text = words(2_000)
    found = pieces(Document(blocks=(Block(text=text),)), as_cut(None))

    assert [count(piece.text) for piece in found[:-1]] == [800] * (len(found) - 1)
    for before, piece in pairwise(found):
        assert count(text[piece.start : before.end]) == 400


@pytest.mark.parametrize(("tokens", "windows"), [(1, 1), (800, 1), (801, 2), (1200, 2), (1201, 3)])
def test_no_last_window_repeats_only_the_overlap(tokens, windows):
    text = "a" + " a" * (tokens - 1)
    assert count(text) == tokens

    assert len(pieces(Document(blocks=(Block(text=text),)), as_cut(None))) == windows


def test_slices_do_not_change_the_tokens():
    """The text is tokenized in slices; the windows are those of a tokenizer that sees all of it."""
    text = "\n".join(
        f"Line {number}: it's {number * 7919} (so-called) words; 中文 and more." for number in range(9_000)
    )
    assert len(text) > 3 * chunk.SLICE_CHARS
    tokens = TOKENS.encode_ordinary(text)

    found = pieces(Document(blocks=(Block(text=text),)), static(800, 0))
    assert [TOKENS.encode_ordinary(piece.text) for piece in found[:5]] == [
        tokens[at : at + 800] for at in range(0, 4_000, 800)
    ]
    assert len(found) == -(-len(tokens) // 800)


def test_a_file_whose_strategy_is_not_known_is_cut_as_auto():
    document = Document(blocks=(Block(text=words(2_000)),))

    assert pieces(document, OtherChunkingStrategyResponseParam()) == pieces(document, as_cut(None))


@pytest.mark.parametrize("text", ["a" * 2**18, "x" + " " * 2**18 + "x", "x" + "\n" * 2**18 + "x", "中" * 2**17])
@pytest.mark.parametrize("strategy", [as_cut(None), structured(800)])
def test_monotonous_texts_cost_no_more_than_others(text, strategy):
    """Many tokenizers are quadratic in such a word; this would take hours."""
    found = pieces(Document(blocks=(Block(text=text),)), strategy)

    assert (found[0].start, found[-1].end) == (0, len(text))


# ---------------------------------------------------------------- along the seams


@given(document=DOCUMENTS, size=st.integers(100, 160))
def test_no_piece_has_more_tokens_than_allowed(document, size):
    assert all(count(piece.text) <= size for piece in pieces(document, structured(size)))


def test_blocks_are_packed_and_not_cut():
    document = Document(blocks=tuple(Block(text=f"{each}: {words(12)}.") for each in range(30)))
    found = pieces(document, structured(100))

    assert 1 < len(found) < 30
    assert "\n\n".join(piece.text for piece in found) == document.text()
    assert all(piece.text.endswith(".") for piece in found)


def test_a_heading_stays_with_what_follows_it():
    blocks = [Block(text=words(20)), Block(text="Part", kind="heading", level=1), Block(text=words(40))]
    found = pieces(Document(blocks=tuple(blocks)), structured(100))

    assert [piece.text for piece in found] == [blocks[0].text, f"Part\n\n{blocks[2].text}"]
    assert [piece.heading for piece in found] == ["", "Part"]


def test_a_section_begins_a_piece_of_its_own_once_a_piece_is_half_full():
    blocks = [Block(text=words(30)), Block(text="Part", kind="heading", level=1), Block(text="short")]

    assert [piece.text[:4] for piece in pieces(Document(blocks=tuple(blocks)), structured(100))] == ["word", "Part"]
    assert len(pieces(Document(blocks=tuple(blocks)), structured(400))) == 1


def test_a_page_that_fits_is_not_cut():
    blocks = tuple(Block(text=words(15), page=page) for page in (1, 1, 2, 2, 3))
    found = pieces(Document(blocks=blocks), structured(100))

    assert [(piece.page, piece.text.count("word0")) for piece in found] == [(1, 2), (2, 3)]


def test_a_long_table_is_cut_between_its_rows():
    rows = [f"{number} | {words(4)} | end" for number in range(60)]
    found = pieces(Document(blocks=(Block(text="\n".join(rows), kind="table"),)), structured(100))

    assert len(found) > 5
    assert all(piece.text.rstrip("\n").endswith("| end") for piece in found)


def test_a_long_paragraph_is_cut_between_its_sentences():
    text = " ".join(f"This is sentence {number}, and it ends." for number in range(60))
    found = pieces(Document(blocks=(Block(text=text),)), structured(100))

    assert len(found) > 5
    assert all(piece.text.endswith("ends.") for piece in found)


# ---------------------------------------------------------------- places


def test_a_piece_knows_the_headings_above_it_and_its_page():
    blocks = (
        Block(text="Book", kind="heading", level=1, page=1),
        Block(text="Chapter 1", kind="heading", level=2, page=1),
        Block(text=words(30), page=1),
        Block(text="Chapter 2", kind="heading", level=2, page=2),
        Block(text=words(30), page=2),
        Block(text=words(30), page=3),
    )
    found = pieces(Document(blocks=blocks), structured(100))

    assert [(piece.page, piece.heading) for piece in found] == [
        (1, "Book"),
        (2, "Book > Chapter 2"),
        (3, "Book > Chapter 2"),
    ]
