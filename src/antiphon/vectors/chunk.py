"""Documents are cut into pieces: windows over their tokens, as OpenAI defines them, or along their own seams.

Pure and lazy: of a long text, no more than some slices are held beside the document itself. What tokens are is the
vocabulary's affair; a window that would begin or end within a character begins or ends after it.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from antiphon.vectors.base import Block, Document, Piece
from antiphon.wire.chunking import (
    ChunkingStrategyResponse,
    StaticChunkingStrategyResponseParam,
    StructuredChunkingStrategyResponseParam,
    as_cut,
)

SEPARATOR: Final = "\n\n"
"""What stands between the blocks of `Document.text()`."""
SLICE_CHARS: Final = 100_000
"""So much is tokenized at once: a few milliseconds, in which the tokenizer holds the interpreter."""
SEAM_CHARS: Final = 1_000
"""How far back from a slice's end a seam is looked for at which no token can be cut."""
JOINT_TOKENS: Final = 2
"""What the separator costs, and that words may be tokenized otherwise beside it."""
_SEAM: Final = re.compile(r"(?<=\n)(?=[^\W_])|(?<=\S)(?= [^\W\d_])")
_CONTINUING: Final = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that no character begins with."""
_CUTS: Final = (re.compile(r"(?<=\n)"), re.compile(r"(?<=[.!?;])(?=\s)|(?<=[\u3002\uff01\uff1f\uff1b])"))
"""Where a long block is cut: between lines, or else between sentences, Chinese and Japanese ones too."""
PATH: Final = " > "


class Tokenizer(Protocol):
    """What is needed of a vocabulary; `models.tokens.tokenizer` has it."""

    def encode_ordinary(self, text: str, /) -> list[int]:
        """A text's tokens, none of them special."""
        ...

    def decode_bytes(self, tokens: list[int], /) -> bytes:
        """The UTF-8 of tokens, which may begin and end within a character."""
        ...


def pieces(document: Document, strategy: ChunkingStrategyResponse, tokenizer: Tokenizer) -> Iterator[Piece]:
    """The document's pieces in order, each with its text, place, page and headings. None of them is white only."""
    match strategy:
        case StructuredChunkingStrategyResponseParam(structured=structured):
            return _placed(document, _packed(document, structured.max_chunk_size_tokens, tokenizer))
        case StaticChunkingStrategyResponseParam(static=static):
            sizes = static.max_chunk_size_tokens, static.chunk_overlap_tokens
            return _placed(document, _windows(_slices(document), sizes, tokenizer))
    return pieces(document, as_cut(None), tokenizer)


class _Span(NamedTuple):
    start: int
    text: str
    tokens: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.text)


# ---------------------------------------------------------------- places


def _placed(document: Document, spans: Iterable[_Span]) -> Iterator[Piece]:
    """The spans as pieces. They come in the order of their starts, and so do the blocks in which they begin."""
    following = iter(document.blocks)
    block, start = Block(text=""), 0
    upcoming, next_start = next(following, None), 0
    headings: list[Block] = []
    for span in spans:
        while upcoming is not None and next_start <= span.start:
            block, start = upcoming, next_start
            if block.kind == "heading":
                headings = [each for each in headings if each.level < block.level] + [block]
            upcoming, next_start = next(following, None), start + len(block.text) + len(SEPARATOR)
        if span.text and not span.text.isspace():
            path = PATH.join(each.text for each in headings)
            place = {"start": span.start, "end": span.end, "tokens": span.tokens}
            yield Piece(text=span.text, page=block.page, heading=path, **place)


# ---------------------------------------------------------------- windows


def _slices(document: Document) -> Iterator[str]:
    """The document's text in slices that are cut where tokens end, as far as that can be known."""
    held, size = list[str](), 0
    for part in _parts(document):
        held.append(part)
        size += len(part)
        if size >= SLICE_CHARS:
            text = "".join(held)
            cut = _seam(text)
            yield text[:cut]
            held, size = [text[cut:]], len(text) - cut
    yield "".join(held)


def _parts(document: Document) -> Iterator[str]:
    for number, block in enumerate(document.blocks):
        if number:
            yield SEPARATOR
        for start in range(0, len(block.text), SLICE_CHARS):
            yield block.text[start : start + SLICE_CHARS]


def _seam(text: str) -> int:
    """The last place where a word begins that no vocabulary joins to what stands before; the end if there is none."""
    *_, last = len(text), *(seam.start() for seam in _SEAM.finditer(text, max(1, len(text) - SEAM_CHARS)))
    return last


def _windows(slices: Iterable[str], sizes: tuple[int, int], tokenizer: Tokenizer) -> Iterator[_Span]:
    """Windows of a size with an overlap over all tokens; the last is one that has something of its own."""
    size, overlap = sizes
    step = size - overlap
    text, tokens = "", list[int]()  # from the beginning of the next window, or a little before
    base = at = first = 0  # characters before `text`; where in `text` and in `tokens` the next window begins
    shared = 0  # so many tokens of it are of the window before
    for part in slices:
        text, base, at = text[at:] + part, base + at, 0
        tokens, first = tokens[first:] + tokenizer.encode_ordinary(part), 0
        while len(tokens) - first >= size:
            middle, last = first + step, first + size
            own = _characters(tokenizer.decode_bytes(tokens[first:middle]))
            end = at + own + _characters(tokenizer.decode_bytes(tokens[middle:last]))
            yield _Span(base + at, text[at:end], size)
            at, first, shared = at + own, middle, overlap
    if len(tokens) - first > shared:
        yield _Span(base + at, text[at:], len(tokens) - first)


def _characters(utf8: bytes) -> int:
    """How many characters begin in it."""
    return len(utf8.translate(None, _CONTINUING))


# ---------------------------------------------------------------- along the seams


class _Atom(NamedTuple):
    """What is not cut: a block, or a part of one that is too long. `cost` is in tokens, with what joins it."""

    start: int
    text: str
    cost: int
    heading: bool
    page: int | None

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def _packed(document: Document, size: int, tokenizer: Tokenizer) -> Iterator[_Span]:
    """Atoms packed until a piece is full; a page begins a new piece if it is whole in that, but not in this one."""
    packer = _Packer(size)
    for page, group in groupby(_atoms(document, size, tokenizer), attrgetter("page")):
        if page is None:
            for atom in group:
                yield from packer.put(atom)
        else:
            atoms = list(group)
            if packer.cost + (cost := sum(atom.cost for atom in atoms)) > size >= cost:
                yield from packer.end()
            for atom in atoms:
                yield from packer.put(atom)
    yield from packer.end()


class _Packer:
    """The piece that is being filled."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._atoms: list[_Atom] = []
        self.cost = 0

    def put(self, atom: _Atom) -> Iterator[_Span]:
        """Adds an atom, and gives the piece before it where it begins another."""
        bodied = any(not each.heading for each in self._atoms)
        if self.cost + atom.cost > self._size:
            kept = self._headings(atom) if bodied else []
            yield from self.end(but=len(kept))
            self._atoms, self.cost = kept, sum(each.cost for each in kept)
        elif atom.heading and bodied and 2 * self.cost >= self._size:
            yield from self.end()
        self._atoms.append(atom)
        self.cost += atom.cost

    def end(self, but: int = 0) -> Iterator[_Span]:
        """The piece, without its last atoms."""
        atoms = self._atoms[: len(self._atoms) - but]
        if atoms:
            text = [atoms[0].text]
            for before, atom in pairwise(atoms):
                text += [SEPARATOR, atom.text] if atom.start > before.end else [atom.text]
            yield _Span(atoms[0].start, "".join(text))
        self._atoms, self.cost = [], 0

    def _headings(self, atom: _Atom) -> list[_Atom]:
        """The headings at the end, which go with what follows if there is room."""
        kept: list[_Atom] = []
        room = self._size - atom.cost
        for each in reversed(self._atoms):
            room -= each.cost
            if not each.heading or room < 0:
                break
            kept.insert(0, each)
        return kept


def _atoms(document: Document, size: int, tokenizer: Tokenizer) -> Iterator[_Atom]:
    start = 0
    for block in document.blocks:
        at = start
        for part in _cut(block.text, size - JOINT_TOKENS, tokenizer):
            yield _Atom(at, part.text, part.tokens + JOINT_TOKENS, block.kind == "heading", block.page)
            at += len(part.text)
        start += len(block.text) + len(SEPARATOR)


class _Part(NamedTuple):
    text: str
    tokens: int


def _cut(text: str, size: int, tokenizer: Tokenizer, *, cuts: tuple[re.Pattern[str], ...] = _CUTS) -> Iterator[_Part]:
    """A text in parts of up to `size` tokens: cut between lines if it must be, or sentences, or tokens."""
    tokens = _count(text, tokenizer)
    if tokens <= size:
        yield _Part(text, tokens)
    elif cuts:
        held, total = list[str](), 0
        for unit in _units(text, cuts[0], size // 2):
            for part in _cut(unit, size, tokenizer, cuts=cuts[1:]):
                if held and total + part.tokens > size:
                    yield _Part("".join(held), total)
                    held, total = [], 0
                held.append(part.text)
                total += part.tokens + 1
        yield _Part("".join(held), total)
    else:
        whole = Document(blocks=(Block(text=text),))
        yield from (_Part(span.text, size) for span in _windows(_slices(whole), (size, 0), tokenizer))


def _units(text: str, cut: re.Pattern[str], chars: int) -> Iterator[str]:
    """A text in lines or sentences, very short ones together: to count each for itself would take long."""
    start = 0
    for found in cut.finditer(text):
        if found.start() - start >= chars:
            yield text[start : found.start()]
            start = found.start()
    yield text[start:]


def _count(text: str, tokenizer: Tokenizer) -> int:
    """In slices, as elsewhere: at a cut, a token may be counted twice."""
    starts = range(0, len(text), SLICE_CHARS)
    return sum(len(tokenizer.encode_ordinary(text[start : start + SLICE_CHARS])) for start in starts)
