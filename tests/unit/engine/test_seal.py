"""Sealed reasoning: only the server's key opens it."""

import pytest

from antiphon.engine.seal import Sealer
from antiphon.errors import InvalidRequest


def test_what_was_sealed_opens_on_any_process_with_the_same_secret():
    assert Sealer(b"secret").open(Sealer(b"secret").seal("thought é"), "input") == "thought é"


def test_sealing_is_deterministic_so_that_replays_are_identical():
    assert Sealer(b"secret").seal("thought") == Sealer(b"secret").seal("thought")


def test_what_was_sealed_for_one_purpose_does_not_open_for_another():
    sealer = Sealer(b"secret")
    assert sealer.open(sealer.seal("summary", "compaction"), "input", "compaction") == "summary"
    for sealed, purpose in ((sealer.seal("summary", "compaction"), "reasoning"), (sealer.seal("hm"), "compaction")):
        with pytest.raises(InvalidRequest, match="could not be verified"):
            sealer.open(sealed, "input", purpose)


@pytest.mark.parametrize("sealed", ["", "garbage", "AAAA", "é", Sealer(b"other").seal("thought")])
def test_anything_else_is_refused_naming_the_field(sealed):
    with pytest.raises(InvalidRequest) as refused:
        Sealer(b"secret").open(sealed, "input[0].encrypted_content")
    assert (refused.value.param, refused.value.code) == ("input[0].encrypted_content", "invalid_encrypted_content")
