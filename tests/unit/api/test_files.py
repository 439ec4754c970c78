"""What the header of a download says, whatever a file is called."""

from urllib.parse import unquote

import pytest

from antiphon.api.files import disposition


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
