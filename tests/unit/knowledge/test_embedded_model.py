"""The embedding model that is always there."""

from __future__ import annotations

import numpy as np
import pytest

from knowledge_base.embedding import embedded
from knowledge_base.embedding.embedded import MODEL, EmbeddedModel, pinned
from knowledge_base.embedding.sentencepiece import UNKNOWN, Pieces
from knowledge_base.errors import EmbeddingFailed


@pytest.fixture(scope="module")
def model() -> EmbeddedModel:
    """Weights are loaded once for this file."""
    return EmbeddedModel()


async def test_what_means_the_same_is_near_in_any_language(model: EmbeddedModel) -> None:
    """Each question finds its answer among four, in English, German and Spanish."""
    answers = ["Dogs and cats must be locked away.", "Pay by credit card.", "It rains today.", "The roof is repaired."]
    vectors = await model.documents(answers)
    assert vectors.shape == (4, MODEL.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    for question, answer in (
        ("where should my pets be", 0),
        ("Regnet es heute?", 2),
        ("¿Puedo pagar con tarjeta?", 1),
        ("Wer repariert das Dach?", 3),
    ):
        assert int(np.argmax(vectors @ await model.query(question))) == answer, question


async def test_texts_without_known_pieces_have_vectors_that_are_near_nothing(model: EmbeddedModel) -> None:
    """Documents still have length 1, which stores need; a question has none and asks for nothing."""
    vectors = await model.documents(["", "\U0001f6f8", "Your visit"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert not (await model.query(" ")).any()
    assert abs(float(vectors[0] @ vectors[2])) < 0.2
    assert (await model.documents([])).shape == (0, MODEL.dimension)


async def test_a_text_has_the_same_vector_alone_and_among_others(model: EmbeddedModel) -> None:
    """Whatever stands beside it in the batch."""
    texts = [f"Visit number {n} is booked" for n in range(300)]
    together = await model.documents(texts)
    assert together[299] == pytest.approx(await model.query(texts[299]), abs=1e-5)


def test_pieces_are_the_most_probable_ones() -> None:
    """A vocabulary of five, by hand: the sum of log probabilities decides, and what is lacking is unknown."""

    def piece(text: str, score: float) -> bytes:
        body = b"\x0a" + bytes([len(text.encode())]) + text.encode() + b"\x15" + np.float32(score).tobytes()
        return b"\x0a" + bytes([len(body)]) + body

    scored = [("<unk>", 0.0), ("▁a", -1.0), ("b", -1.5), ("▁ab", -2.0), ("c", -3.0)]
    pieces = Pieces(b"".join(piece(text, score) for text, score in scored) + b"\x10\x07")
    assert pieces.ids("ab  abc") == [3, 3, 4]
    assert pieces.ids("ac?b") == [1, 4, UNKNOWN, 2]
    assert pieces.ids(" ") == []


def test_other_weights_than_the_checked_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """So are none at all; both say what to install."""
    monkeypatch.setitem(embedded.PINS, "sp.model", "0" * 64)
    with pytest.raises(EmbeddingFailed, match=r"install version 0\.2\.1"):
        pinned("sp.model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddingFailed, match="not installed"):
        pinned("sp.model")
