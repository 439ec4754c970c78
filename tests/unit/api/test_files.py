"""What the header of a download says, whatever a file is called."""

from urllib.parse import unquote

import pytest

from antiphon.api.files import byte_range, disposition
from antiphon.errors import RangeNotSatisfiable


@pytest.mark.parametrize("name", ["a.txt", "with space.txt", "it's;a=b,c.txt"])
def test_a_plain_name_stands_as_it_is(name: str) -> None:
    assert disposition(name).decode() == f'attachment; filename="{name}"'


@pytest.mark.parametrize("name", ['a"b', "a\\b", "é.txt", "文", "100%.txt", "a\r\nx: y", "\x7f"])
def test_any_other_name_is_given_twice_and_breaks_no_header(name: str) -> None:
    head = disposition(name).decode("ascii")
    plain, _, full = head.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert head.isprintable()
    assert len(plain) == len(name)
    assert not set('"\\%') & set(plain)
    assert unquote(full) == name


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=3-", (3, 7)),
        ("bytes=3-99", (3, 7)),
        ("bytes=-4", (6, 4)),
        ("bytes=-99", (0, 10)),
        (" Bytes = 2 - 3 ", (2, 2)),
    ],
)
def test_a_range_is_a_start_and_a_length(header: str, part: tuple[int, int]) -> None:
    assert byte_range(header.encode(), 10) == part


@pytest.mark.parametrize("header", ["", "bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "bytes=a-b"])
def test_what_is_no_single_range_asks_for_the_whole(header: str) -> None:
    assert byte_range(header.encode(), 10) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_beyond_the_end_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable, match=f"{size} bytes"):
        byte_range(header.encode(), size)
