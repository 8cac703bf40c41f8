"""Words of any script, and their weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_base.lexical.bm25 import WordIndex, idf, weight
from knowledge_base.lexical.function_words import SHARE, importance, is_function_word
from knowledge_base.lexical.tokens import MAX_LENGTH, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cancelling appointments", ["cancel", "appoint"]),
        ("FAQ-03, snake_case", ["faq", "03", "snake", "case"]),
        ("24h notice, 1,000 m²", ["24h", "24", "h", "notic", "1000", "m2", "m", "2"]),
        ("a1b2c3d4e5", ["a1b2c3d4e5"]),
        ("Straße GROẞ Häuser", ["strass", "gross", "hauser"]),
        ("Kündigungsfrist Kündigungen", ["kundigun", "kundigun"]),
        ("naïve cafe\u0301 Ærø İstanbul", ["naiv", "cafe", "aero", "istanbul"]),
        ("ёлка Йод", ["елк", "йод"]),
        ("λόγος ΛΌΓΟΣ", ["λογ", "λογ"]),
        ("والكتابُ الجديدة كتـــاب", ["كتاب", "جديد", "كتاب"]),
        ("שָׁלוֹם", ["שלום"]),
        ("٣٤", ["34"]),
        ("हिन्दी", ["हिन्द"]),
        ("猫", ["猫"]),
        ("黑豹队", ["黑豹", "豹队", "黑", "豹", "队"]),
        ("iPhone手机", ["iphon", "手机", "手", "机"]),
        ("タワーに", ["タワ", "ワー", "ーに"]),
        ("한국어 문서", ["한국", "국어", "문서"]),
        ("ประเทศไทย", ["ประ", "ระเท", "เทศ", "ศไท", "ไทย"]),
        ("ភាសាខ្មែរ", ["ភាសា", "សាខ្មែ", "ខ្មែរ"]),
        ("?! … \u200b", []),
        ("", []),
    ],
)
def test_each_script_has_its_words(text: str, words: list[str]) -> None:
    """What is stored: a change here needs another `TOKENS_VERSION`."""
    assert tokens(text) == words


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=200))
def test_any_text_has_words_that_can_be_stored(text: str) -> None:
    """Short, not empty, without NUL and lone surrogates, and the same each time."""
    found = tokens(text)
    assert found == tokens(text)
    for word in found:
        assert 0 < len(word) <= 2 * MAX_LENGTH
        assert "\x00" not in word
        word.encode()


def test_bm25_is_what_it_is_by_hand() -> None:
    """Three chunks, average length 3."""
    assert idf(3, 1) == pytest.approx(math.log(1 + 2.5 / 1.5))
    assert idf(3, np.array([0.0, 3.0])) == pytest.approx([math.log(8), math.log(1 + 0.5 / 3.5)])
    assert weight(1.0, 3.0, 3.0) == pytest.approx(1.0)
    assert weight(2.0, 6.0, 3.0) == pytest.approx(2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 2)))
    scores, coverage = WordIndex([["x", "b", "b"], ["b"], ["c", "c", "q", "e", "f"]]).scores(["b", "x", "b", "z"])
    a, b, z = idf(3, 1), idf(3, 2), idf(3, 0)
    assert scores == pytest.approx(
        [a * weight(1.0, 3.0, 3.0) + b * weight(2.0, 3.0, 3.0), b * weight(1.0, 1.0, 3.0), 0]
    )
    assert coverage == pytest.approx([(a + b) / (a + b + z), b / (a + b + z), 0])


def test_words_that_ask_count_for_less_than_words_that_name() -> None:
    """In three languages, as whole words; what names something in another language counts in full."""
    for question in ("how long does it take", "¿cómo puedo hacerlo?", "wie lange dauert das"):
        assert is_function_word(tokens(question)[0]), question
    for word in ("war", "hat", "sin", "roof", "dauert", "iphone", "屋顶"):
        assert not is_function_word(tokens(word)[0]), word
    assert importance("how") == SHARE < importance("roof") == 1.0
    chunks = [tokens("How does the sun shine?"), tokens("A visit takes 4 hours"), tokens("Bring a key")]
    scores, coverage = WordIndex(chunks).scores(tokens("how does a visit go?"))
    assert int(scores.argmax()) == int(coverage.argmax()) == 1


def test_an_empty_index_and_an_empty_question_score_nothing() -> None:
    """No division by zero."""
    assert WordIndex([]).scores(["a"])[0].size == 0
    assert WordIndex([["a"]]).scores([])[1].tolist() == [0.0]
