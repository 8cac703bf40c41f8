"""Make knowledge_base/embedding/use_multilingual_static.npz from the weights of the embedded model, and nothing else.

Each piece of the vocabulary is encoded alone; of both its encodings, the common part under the vocabulary's own
probabilities is taken away (the mean, and the four directions in which frequent pieces differ most), and the 256
directions that hold most of what is left are kept. Takes about a minute. Signs of axes depend on the BLAS, so the file
is shipped; made anew, it gives the same cosines.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.embedded import DISTILLED, MODEL, WIDTH, PieceEncoder, pinned, probabilities, rarity
from knowledge_base.embedding.sentencepiece import Pieces

COMMON = 4
AT_ONCE = 4000

Numbers = NDArray[np.float64]


def main() -> None:
    """Write to the path given, or beside the module."""
    scores = Pieces(pinned("sp.model")).scores
    encoder = PieceEncoder(pinned("weights.npz"))
    places = np.arange(len(scores))
    encoded = np.concatenate([encoder.encode(places[at : at + AT_ONCE]) for at in range(0, len(places), AT_ONCE)])
    chances, rare = probabilities(scores)[:, None], rarity(scores)[:, None].astype(np.float64)
    halves = [
        _without_common(half.astype(np.float64), chances, rare) for half in (encoded[:, :WIDTH], encoded[:, WIDTH:])
    ]
    whole = np.concatenate([vectors for _, _, vectors in halves], axis=1)
    whole /= np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-6)
    axes = np.linalg.eigh(whole.T @ whole)[1][:, -MODEL.dimension :][:, ::-1]
    maps = [removed @ axes[n * WIDTH : (n + 1) * WIDTH] for n, (_, removed, _) in enumerate(halves)]
    np.savez(
        Path(sys.argv[1]) if len(sys.argv) > 1 else DISTILLED,
        center=np.concatenate([center for center, _, _ in halves]).astype(np.float32),
        projection=np.concatenate(maps).astype(np.float16),
    )


def _without_common(vectors: Numbers, chances: Numbers, rare: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The centre, the map that takes common directions away and makes the usual length 1, and what they make of it."""
    center = (chances * vectors * rare).sum(axis=0) / (chances * rare).sum()
    weighed = (vectors - center) * rare
    common = np.linalg.eigh((weighed * chances).T @ weighed)[1][:, -COMMON:]
    removed = np.eye(WIDTH) - common @ common.T
    left = weighed @ removed
    length = np.sqrt((chances * left**2).sum())
    return center, removed / length, left / length


if __name__ == "__main__":
    main()
