"""The journal's bytes."""

import pytest

from antiphon.engine import journal
from antiphon.engine.journal import Journal, Written
from antiphon.models.base import Finish, Text

HEAD = Journal(service_tier="default", sealed=True)


@pytest.mark.parametrize("counts", [[], [1], [15], [16], [3, 20, 1], [15, 1], [65_535], [65_536], [65_535, 2]])
@pytest.mark.parametrize("rest", [0, 1, 17])
def test_a_journal_that_was_written_in_parts_is_the_one_that_is_written_at_once(counts: list[int], rest: int) -> None:
    written = Written()
    whole: list[journal.Entry] = []
    for count in counts:
        part: list[journal.Entry] = [Text(f"word {place} ") for place in range(count)]
        written.add(journal.encode(part), count)
        whole += part
    last: list[journal.Entry] = [Finish("stop")] * rest
    stored = written.journal(Journal(service_tier=HEAD.service_tier, sealed=HEAD.sealed, events=last))
    at_once = Journal(service_tier=HEAD.service_tier, sealed=HEAD.sealed, events=whole + last)
    assert stored == journal.encode(at_once)
