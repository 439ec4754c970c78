"""From matches to an order."""

import pytest

from antiphon.errors import InvalidRequest
from antiphon.knowledge import SearchConfig
from antiphon.vectors.base import Match, Ranking
from antiphon.vectors.ranking import (
    adapted,
    best,
    by_meaning,
    by_words,
    fused,
    keyword_score,
    lean,
    mode_of,
    reranked,
    semantic_score,
)


def match(file: str, score: float = 1.0, number: int = 0) -> Match:
    return Match(file_id=file, attempt="1", number=number, score=score)


def files(ranked) -> list[str]:
    return [each.match.file_id for each in ranked]


@pytest.mark.parametrize(
    ("metric", "raw", "score"),
    [
        ("cosine", 1.0, 1.0),
        ("cosine", 1.0000001, 1.0),
        ("cosine", 0.4, 0.4),
        ("cosine", -0.3, 0.0),
        ("dot_product", 1.0, 0.5),
        ("dot_product", 99.0, 0.99),
        ("dot_product", -5.0, 0.0),
        ("squared_distance", 0.0, 1.0),
        ("squared_distance", -1.0, 0.5),
    ],
)
def test_scores_of_each_metric_lie_between_0_and_1(metric, raw, score):
    assert semantic_score(raw, metric) == pytest.approx(score)


def test_a_keyword_score_grows_towards_1():
    scores = [keyword_score(raw) for raw in (0.0, 0.1, 4.0, 20.0, 1e9)]
    assert scores == sorted(scores)
    assert scores[0] == 0
    assert scores[2] == 0.5
    assert scores[-1] <= 1


def test_by_ranks_the_first_of_both_lists_has_1_and_the_first_of_one_has_its_weight():
    meaning, words = by_meaning([match("a"), match("b")], "cosine"), by_words([match("a"), match("c")])
    ranked = fused(meaning, words, Ranking(vector_weight=0.7), fusion="rrf")
    assert files(ranked) == ["a", "b", "c"]
    assert ranked[0].score == pytest.approx(1)
    assert ranked[1].score == pytest.approx(0.7 * 61 / 62)
    only = fused(meaning, [], Ranking(vector_weight=0.7), fusion="rrf")
    assert only[0].score == pytest.approx(0.7)


def test_found_by_both_beats_found_higher_by_one():
    meaning = by_meaning([match("a"), match("b")], "cosine")
    words = by_words([match("c"), match("b")])
    assert files(fused(meaning, words, Ranking(), fusion="rrf"))[0] == "b"


def test_by_scores_the_weighted_mean_counts():
    meaning, words = by_meaning([match("a", 0.8), match("b", 0.6)], "cosine"), by_words([match("b", 4.0)])
    ranked = fused(meaning, words, Ranking(vector_weight=0.5), fusion="weighted")
    assert [(each.match.file_id, each.score) for each in ranked] == [("b", pytest.approx(0.55)), ("a", 0.4)]


def test_what_both_found_keeps_the_similarity():
    meaning, words = by_meaning([match("b", 0.6)], "cosine"), by_words([match("a", 9.0), match("b", 4.0)])
    ranked = fused(meaning, words, Ranking(), fusion="rrf")
    assert {each.match.file_id: each.similarity for each in ranked} == {"a": None, "b": 0.6}


def test_weights_of_0_and_1_leave_one_way():
    meaning, words = by_meaning([match("a", 0.8)], "cosine"), by_words([match("b", 4.0)])
    assert fused(meaning, words, Ranking(vector_weight=1), fusion="rrf")[0].match.file_id == "a"
    assert fused(meaning, words, Ranking(vector_weight=0), fusion="rrf")[0].match.file_id == "b"


def test_a_name_that_is_found_whole_leans_on_words_and_a_question_that_is_not_on_meaning():
    name = lean("ERR_COPY_17", 12.0, "It ends with ERR_COPY_17 then.")
    question = lean("How do I clone a folder?", 3.0, "How do I bind my own calendar?")
    assert name > 0 > question
    assert lean("", 0.0, "any text") < 0


def test_the_more_of_a_query_is_found_and_the_rarer_the_more_words_are_trusted():
    present = [lean("one two three four", 4.0, text) for text in ("one", "one two", "one two three four")]
    assert present == sorted(set(present))
    assert lean("one two", 4.0, "one") > lean("one two", 2.0, "one")


def test_adapted_to_the_query_either_way_may_decide():
    meaning = by_meaning([match("a", 0.8), match("b", 0.3), match("c", 0.2)], "cosine")
    words = by_words([match("b", 8.0), match("a", 2.0)])
    assert files(adapted(meaning, words, Ranking(), lean=2.0)) == ["b", "a", "c"]
    assert files(adapted(meaning, words, Ranking(), lean=-2.0)) == ["a", "b", "c"]
    assert files(adapted(meaning, words, Ranking(vector_weight=0.0), lean=-2.0)) == ["b", "a", "c"]
    assert files(adapted(meaning, words, Ranking(vector_weight=1.0), lean=2.0)) == ["a", "b", "c"]


def test_adapted_scores_lie_between_0_and_1_and_the_first_of_both_ways_has_1():
    ranked = adapted(
        by_meaning([match("a", 0.8), match("b", 0.3)], "cosine"), by_words([match("a", 8.0)]), Ranking(), lean=0
    )
    assert [(each.match.file_id, each.score, each.similarity) for each in ranked] == [("a", 1.0, 0.8), ("b", 0.0, 0.3)]
    assert [each.score for each in adapted([], by_words([match("a", 8.0)]), Ranking(), lean=0.0)] == [0.5]
    assert adapted([], [], Ranking(), lean=0.0) == []


def test_how_high_a_model_s_cosines_lie_does_not_move_the_adapted_order():
    low = [match("a", 0.6), match("b", 0.5), match("c", 0.1)]
    high = [match(each.file_id, 0.8 + each.score / 10) for each in low]
    words = by_words([match("c", 5.0), match("b", 4.0)])
    results = [adapted(by_meaning(each, "cosine"), words, Ranking(), lean=0.0) for each in (low, high)]
    scores = [[(each.match.file_id, round(each.score, 6)) for each in ranked] for ranked in results]
    assert scores[0] == scores[1]


def test_what_a_full_list_of_words_had_no_room_for_counts_as_its_last():
    meaning = by_meaning([match("a", 0.8), match("b", 0.3)], "cosine")
    full = adapted(meaning, by_words([match("b", 8.0), match("c", 6.0)]), Ranking(), lean=0.0)
    assert {each.match.file_id: each.score for each in full} == pytest.approx({"a": 0.875, "b": 0.5, "c": 0.375})
    short = adapted(meaning, by_words([match("b", 8.0)]), Ranking(), lean=0.0)
    assert {each.match.file_id: each.score for each in short} == pytest.approx({"a": 0.5, "b": 0.5})


def test_of_several_queries_the_best_score_of_a_chunk_counts_once():
    first, second = by_meaning([match("a", 0.3), match("b", 0.9)], "cosine"), by_meaning([match("a", 0.7)], "cosine")
    ranked = best([first, second], 10)
    assert [(each.match.file_id, each.score) for each in ranked] == [("b", 0.9), ("a", 0.7)]
    assert files(best([first, second], 1)) == ["b"]


def test_what_is_below_the_threshold_is_left_out():
    ranked = by_meaning([match("a", 0.5), match("b", 0.49)], "cosine")
    assert files(best([ranked], 10, 0.5)) == ["a"]


def test_equal_scores_are_ordered_by_file_and_number():
    ranked = by_meaning([match("b", 0.5, 1), match("b", 0.5, 0), match("a", 0.5, 7)], "cosine")
    assert [each.place for each in best([ranked], 10)] == [("a", 7), ("b", 0), ("b", 1)]


def test_a_rerank_model_gives_new_scores_and_the_similarity_stays():
    ranked = reranked(by_meaning([match("a", 0.9), match("b", 0.5)], "cosine"), [0.1, 1.2])
    assert [(each.match.file_id, each.score, each.similarity) for each in best([ranked], 10)] == [
        ("b", 1.0, 0.5),
        ("a", 0.1, 0.9),
    ]


@pytest.mark.parametrize(("asked", "mode"), [(None, "hybrid"), ("keyword", "keyword"), ("semantic", "semantic")])
def test_a_store_with_vectors_is_searched_as_asked_or_else_as_configured(asked, mode):
    assert mode_of(Ranking(mode=asked), SearchConfig(), vectors=True) == mode


def test_a_store_without_vectors_is_searched_by_words_and_says_so_where_only_vectors_are_asked():
    assert mode_of(Ranking(), SearchConfig(mode="semantic"), vectors=False) == "keyword"
    assert mode_of(Ranking(mode="hybrid"), SearchConfig(), vectors=False) == "keyword"
    with pytest.raises(InvalidRequest, match="has no vectors"):
        mode_of(Ranking(mode="semantic"), SearchConfig(), vectors=False)
