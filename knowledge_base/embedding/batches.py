"""Texts in batches, and batches side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import numpy as np

from knowledge_base.embedding.base import Vectors

Embed = Callable[[Sequence[str]], Awaitable[Vectors]]


def batches(texts: Sequence[str], max_texts: int, max_chars: int) -> Iterator[range]:
    """Neighbours that go together: at most so many texts and, unless one text alone has more, characters."""
    start = chars = 0
    for n, text in enumerate(texts):
        if n > start and (n - start == max_texts or chars + len(text) > max_chars):
            yield range(start, n)
            start, chars = n, 0
        chars += len(text)
    if start < len(texts):
        yield range(start, len(texts))


async def embed_in_batches(
    texts: Sequence[str], embed: Embed, *, max_texts: int, max_chars: int, concurrent: int
) -> Vectors:
    """All texts, of which there is at least one; the first failure ends the rest."""
    done: dict[int, Vectors] = {}
    waiting = batches(texts, max_texts, max_chars)

    async def work() -> None:
        for batch in waiting:
            done[batch.start] = await embed([texts[n] for n in batch])

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrent):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return np.concatenate([done[start] for start in sorted(done)])
