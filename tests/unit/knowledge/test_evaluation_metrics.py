"""Recall, MRR and nDCG against values worked out by hand."""

from math import log2

import pytest

from knowledge_base.evaluation.metrics import mean, ndcg, recall, reciprocal_rank


def test_recall_counts_relevant_documents_among_the_first() -> None:
    """Two of three are found, the second of them at place 3."""
    grades = {"a": 1.0, "b": 1.0, "c": 1.0, "x": 0.0}
    ranking = ["a", "x", "b", "y"]
    assert recall(ranking, grades, 3) == pytest.approx(2 / 3)
    assert recall(ranking, grades, 10) == pytest.approx(2 / 3)


def test_recall_can_reach_1_at_every_depth() -> None:
    """With three relevant documents the first one right is all that can be asked of the first place."""
    grades = {"a": 2.0, "b": 1.0, "c": 1.0}
    assert recall(["b"], grades, 1) == 1.0
    assert recall(["b", "x"], grades, 2) == 0.5
    assert recall(["x", "b"], grades, 1) == 0.0


def test_the_reciprocal_rank_is_that_of_the_first_relevant_document() -> None:
    """Up to k, and not beyond."""
    grades = {"a": 1.0, "b": 3.0}
    assert reciprocal_rank(["x", "y", "a", "b"], grades) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x", "y", "a", "b"], grades, 2) == 0.0


def test_ndcg_weighs_grades_by_place() -> None:
    """Gains 1, 0, 2 where 2, 1 would be best."""
    grades = {"good": 2.0, "fair": 1.0}
    best = 2 / log2(2) + 1 / log2(3)
    assert ndcg(["fair", "x", "good"], grades) == pytest.approx((1 / log2(2) + 2 / log2(4)) / best)
    assert ndcg(["good", "fair"], grades) == 1.0
    assert ndcg(["fair", "good"], grades) == pytest.approx((1 + 2 / log2(3)) / best)


def test_ndcg_compares_with_what_fits_into_k() -> None:
    """Twelve relevant documents, the first ten places all relevant: nothing could be better."""
    grades = {f"d{n}": 1.0 for n in range(12)}
    assert ndcg([f"d{n}" for n in range(10)], grades, 10) == 1.0
    assert ndcg([f"d{n}" for n in range(5)], grades, 10) < 0.7


def test_a_document_that_comes_twice_counts_once_and_takes_one_place() -> None:
    """Passages of one document are one find."""
    grades = {"a": 1.0, "b": 1.0}
    assert recall(["a", "a", "b"], grades, 2) == 1.0
    assert reciprocal_rank(["x", "x", "a"], grades) == 0.5
    assert ndcg(["a", "a", "b"], grades) == 1.0


def test_documents_of_equal_score_stay_in_the_order_they_came_in() -> None:
    """Nothing is sorted here: which of two equals comes first is what the search said."""
    assert recall(["wrong", "right"], {"right": 1.0}, 1) == 0.0
    assert recall(["right", "wrong"], {"right": 1.0}, 1) == 1.0


@pytest.mark.parametrize(
    ("ranking", "grades"), [([], {"a": 1.0}), (["a"], {}), (["a"], {"a": 0.0}), (["b"], {"a": 1.0})]
)
def test_where_nothing_is_found_or_nothing_is_right_there_is_nothing(
    ranking: list[str], grades: dict[str, float]
) -> None:
    """Empty rankings, no judgements, judged irrelevant only, found others."""
    assert recall(ranking, grades, 10) == reciprocal_rank(ranking, grades) == ndcg(ranking, grades) == 0.0


def test_grades_below_0_gain_nothing() -> None:
    """Some sets mark spam with -1."""
    assert ndcg(["spam", "a"], {"spam": -1.0, "a": 1.0}) == pytest.approx(1 / log2(3))


def test_the_mean_of_nothing_is_0() -> None:
    """A set of unanswerable questions has no recall."""
    assert mean([]) == 0.0
    assert mean([1.0, 0.0, 0.5]) == 0.5
