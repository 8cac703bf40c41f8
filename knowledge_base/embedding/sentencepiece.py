"""Text as pieces of a SentencePiece unigram vocabulary: the few fields of its file that this needs, and Viterbi.

Pieces never reach over a space, so each word is cut by itself and kept. Format: sentencepiece_model.proto.
"""

from __future__ import annotations

import math
import struct
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 0
SPACE = "▁"
KEPT_WORD = 40  # characters: longer ones, as of scripts without spaces, hardly recur


class Pieces:
    """The vocabulary in `model`, the bytes of a SentencePiece file with scores of log probability."""

    def __init__(self, model: bytes) -> None:
        self._pieces: dict[str, tuple[int, float]] = {}
        self._longest: dict[str, int] = {}
        scores = []
        for number, (piece, score) in enumerate(_vocabulary(model)):
            scores.append(score)
            if piece:
                self._pieces[piece] = (number, score)
                self._longest[piece[0]] = max(len(piece), self._longest.get(piece[0], 0))
        self.scores: NDArray[np.float64] = np.array(scores)
        self._unknown = min(scores) - 10.0
        self._kept = lru_cache(maxsize=1 << 16)(self._cut)

    def ids(self, text: str) -> list[int]:
        """Numbers of the pieces, `UNKNOWN` for characters that the vocabulary lacks."""
        found: list[int] = []
        for word in unicodedata.normalize("NFKC", text).split():
            found += self._kept(SPACE + word) if len(word) < KEPT_WORD else self._cut(SPACE + word)
        return found

    def _cut(self, word: str) -> tuple[int, ...]:
        """The most probable pieces."""
        length = len(word)
        best = [0.0] + [-math.inf] * length
        came: list[tuple[int, int]] = [(0, UNKNOWN)] * (length + 1)
        for start in range(length):
            best_here, stop = best[start], min(start + self._longest.get(word[start], 1), length)
            if best_here + self._unknown > best[start + 1]:
                best[start + 1], came[start + 1] = best_here + self._unknown, (start, UNKNOWN)
            for end in range(start + 1, stop + 1):
                known = self._pieces.get(word[start:end])
                if known is not None and best_here + known[1] > best[end]:
                    best[end], came[end] = best_here + known[1], (start, known[0])
        pieces, end = [], length
        while end:
            end, piece = came[end]
            pieces.append(piece)
        return tuple(reversed(pieces))


def _vocabulary(model: bytes) -> Iterator[tuple[str, float]]:
    """Each piece with its score: field 1 of the file, and of these fields 1 and 2."""
    for field, piece in _fields(model):
        if field == 1:
            of_piece = dict(_fields(piece))
            score = of_piece.get(2)
            yield of_piece.get(1, b"").decode(), struct.unpack("<f", score)[0] if score else 0.0


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every field of a protobuf message; those of integers are of no use here."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value.to_bytes(8, "little", signed=False) if value < 1 << 63 else b""
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, at = _varint(message, at)
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
