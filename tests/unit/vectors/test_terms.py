"""What an index keeps of a text's words."""

import numpy as np

from antiphon.vectors.terms import asked, packed, term, unpacked


def test_terms_count_each_word_up_to_255():
    terms = unpacked(packed("b a b " + "c " * 300))
    counted = dict(zip(terms.numbers.tolist(), terms.counts.tolist(), strict=True))
    assert counted == {term("a"): 1, term("b"): 2, term("c"): 255}


def test_a_text_without_words_has_no_terms():
    assert packed("...") == b""
    assert len(unpacked(b"").numbers) == 0


def test_a_query_asks_for_each_word_once_in_a_fixed_order():
    assert asked("b a B").tolist() == sorted([term("a"), term("b")])
    assert asked("?").dtype == np.uint32
