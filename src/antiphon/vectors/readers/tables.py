"""Rows as text: a table is cut into blocks that each begin with its header, so that no piece of it is without."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from antiphon.vectors.base import Block
from antiphon.vectors.readers.encoding import decoded
from antiphon.vectors.readers.refused import Bounds, broken

BLOCK_CHARS: Final = 1_500
"""After so many characters, some 400 tokens, the header is repeated."""
HEADER_CHARS_MAX: Final = BLOCK_CHARS // 2
"""A longer header is not repeated."""
SNIFFED_CHARS: Final = 16 * 1024
DELIMITERS: Final = ",;\t|"


def table(rows: Iterable[Sequence[str]], page: int | None = None) -> Iterator[Block]:
    """A table's blocks: a line for each row, cells with ` | ` between; empty rows are left out."""
    lines = filter(None, map(line, rows))
    header = next(lines, None)
    if header is None:
        return
    repeated = header if len(header) <= HEADER_CHARS_MAX else None
    held, room = [header], BLOCK_CHARS - len(header)
    for each in lines:
        if room < len(each) and len(held) > (repeated is not None):
            yield Block(text="\n".join(held), kind="table", page=page)
            held, room = ([repeated], BLOCK_CHARS - len(repeated)) if repeated else ([], BLOCK_CHARS)
        held.append(each)
        room -= len(each) + 1
    yield Block(text="\n".join(held), kind="table", page=page)


def line(row: Sequence[str]) -> str:
    """A row as one line; empty if all of its cells are."""
    cells = [" ".join(cell.split()) for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return " | ".join(cells)


def read_csv(content: bytes, _: Bounds) -> Iterator[Block]:
    """Comma-separated values, or with semicolons, tabs or bars: whatever the first lines have the same number of."""
    text = decoded(content)
    sample = text[:SNIFFED_CHARS]
    delimiter = max(DELIMITERS, key=lambda each: _fitness(sample, each))
    csv.field_size_limit(len(text) + 1)
    try:
        yield from table(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise broken("CSV file", error) from error


def _fitness(sample: str, delimiter: str) -> tuple[float, int]:
    """How well a delimiter explains a sample: how many rows have as many cells as the first, and how many cells."""
    try:
        rows = [row for row in islice(csv.reader(io.StringIO(sample), delimiter=delimiter), 50) if row]
    except csv.Error:
        return 0.0, 0
    cells = len(rows[0]) if rows else 0
    if cells < 2:
        return 0.0, 0
    return sum(len(row) == cells for row in rows) / len(rows), cells


def grid(cells: Iterable[tuple[int, int, str]]) -> Iterator[list[str]]:
    """Rows out of cells that come as row, column (both from 0) and text, row by row."""
    current, row = -1, list[str]()
    for at, column, text in chain(cells, [(-2, 0, "")]):
        if at != current:
            if row:
                yield row
            current, row = at, []
        row.extend([""] * (column - len(row)))
        row.append(text)
