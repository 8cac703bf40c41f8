from __future__ import annotations

from charset_normalizer import from_bytes


def guess(content: bytes) -> str | None:
    best = from_bytes(content[:100000]).best()
    return best.encoding if best else None
