"""How much may be in memory at once."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """Bytes that are under way, handed out in turn. One that is larger than all there is gets in alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        await turn

    def give_back(self, size: int) -> None:
        """Let the next ones in."""
        self._used -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._used += size
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit
