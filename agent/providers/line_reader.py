"""What the readers of line-based streams share: text that arrived together stays together, and goes past quickly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from agent.providers.base import Chunk, Text
from agent.providers.think_tags import ThinkTags
from agent.transcript import JsonObject


class LineReader(ABC):
    """Makes chunks of an answer's lines. `done`: the server has said that it is at its end."""

    def __init__(self) -> None:
        self.done = False
        self._tags = ThinkTags()
        self._begun = False  # it has been told that there are calls
        self._characters = 0

    def read(self, batch: Sequence[bytes]) -> list[Chunk]:
        """The chunks of some lines of the stream; what follows its end is passed over."""
        chunks: list[Chunk] = []
        texts: list[str] = []
        passes = self._tags.is_idle
        for line in batch:
            body = self._body(line)
            if body is not None:
                if passes and (text := self._plain_text(body)):
                    texts.append(text)
                    continue
                self._pass_on(texts, chunks)
                chunks += self._event(body)
                passes = self._tags.is_idle
            if self.done:
                break
        self._pass_on(texts, chunks)
        return chunks

    def _pass_on(self, texts: list[str], chunks: list[Chunk]) -> None:
        if texts:
            text = "".join(texts)
            self._characters += len(text)
            chunks.append(Text(text))
            texts.clear()

    @abstractmethod
    def _body(self, line: bytes) -> JsonObject | None:
        """What a line holds, if anything. May find that the stream is at its end."""

    @abstractmethod
    def _plain_text(self, body: JsonObject) -> str | None:
        """The text of a body that brings just that, as nearly all do, and no mark of thoughts; None of any other."""

    @abstractmethod
    def _event(self, body: JsonObject) -> list[Chunk]:
        """The chunks of any other body."""
