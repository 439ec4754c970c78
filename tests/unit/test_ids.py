"""Ids: unguessable when live, a function of the request when replaying."""

from antiphon.ids import child_id, random_id, replayable_ids


def test_a_live_id_has_its_prefix_and_48_digits():
    prefix, _, digits = random_id("resp").partition("_")
    assert prefix == "resp"
    assert len(digits) == 48
    assert int(digits, 16) > 0


def test_live_ids_differ():
    assert len({random_id("resp") for _ in range(1000)}) == 1000


def test_replayed_ids_depend_on_prefix_seed_and_occurrence_only():
    one, other = replayable_ids(), replayable_ids()
    first = [one("resp", b"a"), one("resp", b"a"), one("resp", b"b"), one("conv", b"a")]
    assert len(set(first)) == 4
    again = [other("resp", b"b"), other("conv", b"a"), other("resp", b"a"), other("resp", b"a")]
    assert again == [first[2], first[3], first[0], first[1]]


def test_a_child_id_shares_its_parents_digits():
    assert child_id("resp_00ff", "msg", 3) == "msg_00ff0003"
