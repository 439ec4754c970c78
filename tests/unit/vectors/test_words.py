"""The words of a text."""

import numpy as np
import pytest

from antiphon.vectors.words import asked, packed, term, unpacked, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The quick, brown fox.", ["the", "quick", "brown", "fox"]),
        ("snake_case kebab-case CamelCase", ["snake", "case", "kebab", "case", "camelcase"]),
        ("Crème Ångström naïve", ["creme", "angstrom", "naive"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("\uff13 \ufb01ne", ["3", "fine"]),
        ("東京 is", ["東", "京", "is"]),
        ("ガか゛", ["ガ", "か"]),
        ("한국어", ["한국어"]),
        ("हिन्दी", ["हनद"]),
        ("a\0b \U0001f600", ["a", "b"]),
        ("", []),
    ],
)
def test_words_are_folded(text, found):
    assert words(text) == found


def test_a_voiced_syllable_is_another_one():
    assert words("が") != words("か")


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
