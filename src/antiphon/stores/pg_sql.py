"""What is sent to PostgreSQL: our SQL with its placeholders, and many transactions as the arguments of one call.

A transaction of four statements costs six round trips if it is sent statement by statement, and a client some 25 us
for each. `RUN` is a function that every writing connection makes for itself: it takes the statements of a whole group
of transactions, with their parameters in two arrays, and runs each transaction so that it succeeds or fails alone. One
round trip, one commit, and parameters are still bound, never written into SQL.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from antiphon.errors import Internal, InvalidRequest
from antiphon.stores.database import Params, Statement

RUN: Final = """\
CREATE FUNCTION pg_temp.antiphon_run(
  patience text, statements text[], expected bigint[], lasts int[],
  texts text[], text_ends int[], blobs bytea[], blob_ends int[], OUT counts bigint[], OUT failures text[]
) LANGUAGE plpgsql AS $$
DECLARE
  i int := 0;
  first int;
  n bigint;
BEGIN
  counts := array_fill(0, ARRAY[cardinality(statements)]);
  PERFORM set_config('lock_timeout', patience, true);
  FOR k IN 1 .. cardinality(lasts) LOOP
    first := i + 1;
    BEGIN
      WHILE i < lasts[k] LOOP
        i := i + 1;
        EXECUTE statements[i] USING
          texts[coalesce(text_ends[i - 1], 0) + 1 : text_ends[i]],
          blobs[coalesce(blob_ends[i - 1], 0) + 1 : blob_ends[i]];
        GET DIAGNOSTICS n = ROW_COUNT;
        IF n <> expected[i] THEN
          RAISE EXCEPTION USING ERRCODE = 'AN001', MESSAGE = n::text;
        END IF;
        counts[i] := n;
      END LOOP;
    EXCEPTION WHEN OTHERS THEN
      failures := failures || ARRAY[(k - 1)::text, (i - first)::text, SQLSTATE, SQLERRM];
      i := lasts[k];
    END;
  END LOOP;
END $$"""
"""Makes the function. Where a transaction fails, `failures` gets its place in the group, the statement's place in the
transaction, the code of the error, and its text. `patience` is how long it waits for a lock that others hold."""

CALL: Final = "SELECT counts, failures FROM pg_temp.antiphon_run($1, $2, $3, $4, $5, $6, $7, $8)"
MISMATCH: Final = "AN001"
"""The code of a failure whose text is how many rows the statement touched."""

_CASTS: Final = {str: "text", int: "bigint", bool: "bigint", float: "double precision", bytes: "bytea"}
_TOKEN: Final = re.compile(r"""'[^']*'|"[^"]*"|\?""")
_STATEMENTS_MAX: Final = 4096


class Work(NamedTuple):
    """A transaction as `RUN` takes it: its statements, and how many of the texts and blobs each of them uses."""

    statements: list[str]
    expected: list[int | None]
    texts: list[str]
    text_counts: list[int]
    blobs: list[bytes]
    blob_counts: list[int]


@functools.lru_cache(_STATEMENTS_MAX)
def numbered(sql: str, kinds: tuple[type, ...]) -> str:
    """The SQL with `$1`, `$2`, ... for `?`, each of the type of its value. Raises `Internal` for other types."""
    casts = (f"${number}{_cast(kind)}" for number, kind in enumerate(kinds, 1))
    return _filled(sql, casts)


@functools.lru_cache(_STATEMENTS_MAX)
def subscripted(sql: str, kinds: tuple[type, ...]) -> str:
    """The SQL with elements of `$1`, an array of texts, or of `$2`, an array of blobs, for `?`."""
    return _filled(sql, _elements(kinds))


def work(statements: Sequence[Statement]) -> Work:
    """A transaction, encoded. Raises `Internal` or `InvalidRequest` for a value that cannot be stored."""
    made = Work([], [], [], [], [], [])
    for statement in statements:
        kinds = tuple(map(type, statement.params))
        made.statements.append(subscripted(statement.sql, kinds))
        made.expected.append(statement.rows)
        texts, blobs = len(made.texts), len(made.blobs)
        for value, kind in zip(statement.params, kinds, strict=True):
            if kind is bytes:
                made.blobs.append(value)
            elif value is not None:
                made.texts.append(value if kind is str else str(int(value) if kind is bool else value))
        made.text_counts.append(len(made.texts) - texts)
        made.blob_counts.append(len(made.blobs) - blobs)
    _check("".join(made.texts))
    return made


def arguments(group: Sequence[Work], patience_ms: int) -> tuple[Any, ...]:
    """The arguments of `CALL` for a group of transactions."""
    statements, expected, texts, text_counts, blobs, blob_counts = (
        list(itertools.chain.from_iterable(fields)) for fields in zip(*group, strict=True)
    )
    lasts = _sums(len(each.statements) for each in group)
    return (
        str(patience_ms),
        statements,
        expected,
        lasts,
        texts,
        _sums(text_counts),
        blobs,
        _sums(blob_counts),
    )


def check(params: Params) -> None:
    """Raises `Internal` or `InvalidRequest` for texts that PostgreSQL does not know."""
    for value in params:
        if type(value) is str:
            _check(value)


def _check(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Internal("A text with half of a surrogate pair was to be stored.") from error
    if "\0" in text:
        raise InvalidRequest("The request has a text with the character U+0000, which this server's database refuses.")


def _filled(sql: str, places: Iterator[str]) -> str:
    return _TOKEN.sub(lambda found: next(places) if found[0] == "?" else found[0], sql)


def _cast(kind: type) -> str:
    if kind is type(None):
        return ""
    if kind not in _CASTS:
        raise Internal(f"A value of type '{kind.__name__}' was to be stored.")
    return f"::{_CASTS[kind]}"


def _elements(kinds: tuple[type, ...]) -> Iterator[str]:
    texts = blobs = 0
    for kind in kinds:
        if kind is type(None):
            yield "NULL"
        elif kind is bytes:
            blobs += 1
            yield f"$2[{blobs}]"
        else:
            texts += 1
            yield f"$1[{texts}]" if kind is str else f"$1[{texts}]{_cast(kind)}"


def _sums(counts: Iterable[Any]) -> list[int]:
    return list(itertools.accumulate(counts))
