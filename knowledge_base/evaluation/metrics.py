"""How good a ranking is, against what people judged relevant. Pure functions.

A ranking is document ids, best first; one that comes twice counts where it comes first. Judgements are grades by
document id: above 0 is relevant, and more is better. Documents of equal score stay in the order they were returned in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Grades = Mapping[str, float]


def recall(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Of the relevant documents the share among the first k; when there are more than k, of k of them.

    So 1 can be reached whatever k is, and recall at 1 says whether the first document is a right one.
    """
    relevant = _relevant(grades)
    return len(relevant.intersection(_first(ranking, k))) / min(k, len(relevant)) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], grades: Grades, k: int = 10) -> float:
    """1 over the place of the first relevant document, 0 when none is among the first k."""
    relevant = _relevant(grades)
    places = (place for place, doc_id in enumerate(_first(ranking, k), 1) if doc_id in relevant)
    return 1 / next(places, math.inf)


def ndcg(ranking: Sequence[str], grades: Grades, k: int = 10) -> float:
    """Discounted gain of the first k over that of the best order. The gain is the grade, as in trec_eval and BEIR."""
    best = _gain(sorted(grades.values(), reverse=True)[:k])
    return _gain([grades.get(doc_id, 0.0) for doc_id in _first(ranking, k)]) / best if best else 0.0


def mean(values: Sequence[float]) -> float:
    """0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0


def _gain(grades: Sequence[float]) -> float:
    return math.fsum(max(grade, 0.0) / math.log2(place + 1) for place, grade in enumerate(grades, 1))


def _first(ranking: Sequence[str], k: int) -> list[str]:
    return list(dict.fromkeys(ranking))[:k]


def _relevant(grades: Grades) -> set[str]:
    return {doc_id for doc_id, grade in grades.items() if grade > 0}
