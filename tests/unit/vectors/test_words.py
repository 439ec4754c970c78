"""The words of a text."""

import pytest

from antiphon.vectors.words import words


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
