"""What is sent to PostgreSQL: placeholders by the type of their value, and groups as arrays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import Internal, InvalidRequest
from antiphon.stores.database import Statement
from antiphon.stores.pg_sql import arguments, check, numbered, subscripted, work


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((str, int), "a = $1::text AND b > $2::bigint"),
        ((bytes, bool), "a = $1::bytea AND b > $2::bigint"),
        ((type(None), float), "a = $1 AND b > $2::double precision"),
    ],
)
def test_a_placeholder_has_the_type_of_its_value(kinds: tuple[type, ...], expected: str) -> None:
    assert numbered("a = ? AND b > ?", kinds) == expected


def test_texts_and_blobs_come_from_two_arrays() -> None:
    sql = subscripted("VALUES (?, ?, ?, ?, ?)", (str, bytes, int, type(None), bytes))
    assert sql == "VALUES ($1[1], $2[1], $1[2]::bigint, NULL, $2[2])"


def test_question_marks_in_quotes_are_no_placeholders() -> None:
    sql = """SELECT '?', 'it''s ?', "a?", body FROM x WHERE id = ? AND y = '' AND z = ?"""
    assert numbered(sql, (str, str)) == sql[: sql.index("id =")] + "id = $1::text AND y = '' AND z = $2::text"


@given(st.lists(st.sampled_from(["?", "'?'", "'a''?'", '"?"', "x"]), min_size=1))
def test_as_many_placeholders_are_replaced_as_there_are(parts: list[str]) -> None:
    count = parts.count("?")
    sql = numbered(" ".join(parts), (str,) * count)
    assert sql.split(" ") == [
        f"${parts[:place].count('?') + 1}::text" if part == "?" else part for place, part in enumerate(parts)
    ]


def test_a_group_is_one_call() -> None:
    first = [Statement("INSERT INTO a VALUES (?, ?)", ("x", b"1")), Statement("UPDATE a SET b = ?", (True,), 1)]
    second = [Statement("DELETE FROM a WHERE c = ? AND d = ?", (7, None))]
    assert arguments([work(first), work(second)], 50) == (
        "50",
        [
            "INSERT INTO a VALUES ($1[1], $2[1])",
            "UPDATE a SET b = $1[1]::bigint",
            "DELETE FROM a WHERE c = $1[1]::bigint AND d = NULL",
        ],
        [None, 1, None],
        [2, 3],
        ["x", "1", "7"],
        [1, 2, 3],
        [b"1"],
        [1, 1, 1],
    )


@pytest.mark.parametrize(
    ("value", "kind"), [(["list"], Internal), (object(), Internal), ("\ud800", Internal), ("a\0", InvalidRequest)]
)
def test_what_cannot_be_stored_is_refused_before_it_is_sent(value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        work([Statement("INSERT INTO a VALUES (?)", (value,))])


def test_texts_to_look_up_are_judged_in_the_same_way() -> None:
    check(("a", 1, None, b"\0"))
    with pytest.raises(InvalidRequest):
        check(("a\0",))
    with pytest.raises(Internal):
        check(("\ud800",))
