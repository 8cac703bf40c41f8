"""What of a reply rests on which passage: as the model marked it, held against what was found; else by its words.

Marks are taken out of the text before the guards read it, so that what they judge is what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.citations import Cited as Marked
from agent.citations import Citer, Shown
from agent.extracts import sentences, support, words
from agent.passages import Passage, Passages
from agent.providers.base import Cited

# A sentence rests on a passage that holds this share of its words, and so many of them.
SHARE, WORDS = 0.6, 4
QUOTE_CHARS = 300
MOST_CITED = 12  # of one message
_ANY_NUMBER = 999
_PARAGRAPH = "\n\n"  # may stand before a message that goes on with a reply


@dataclass(frozen=True, slots=True)
class Ground:
    """A span of the reply and the passage it rests on; `marked` when its model said so, else by its words."""

    passage: Passage
    start: int
    end: int
    marked: bool


class Marks:
    """Takes the marks out of one message, and remembers what they stood at."""

    def __init__(self, passages: Passages) -> None:
        self._passages = passages
        # Where no number was ever given out, brackets are the model's own, and so is any other number in them.
        self._citer = Citer(_ANY_NUMBER, passages.gave) if passages.has_given else None
        self._said: list[str] = []
        self._marked: list[Marked] = []

    def feed(self, text: str) -> str:
        """The text without marks; what may turn out to be one waits for the next piece."""
        return self._taken(self._citer.feed(text)) if self._citer is not None else text

    def finish(self) -> str:
        """The end of the text."""
        return self._taken(self._citer.finish()) if self._citer is not None else ""

    def _taken(self, pieces: Sequence[Shown | Marked]) -> str:
        shown = [piece.text for piece in pieces if isinstance(piece, Shown)]
        self._marked += [piece for piece in pieces if isinstance(piece, Marked)]
        self._said += shown
        return "".join(shown)

    def grounds(self, reply: str, start: int) -> list[Ground]:
        """What of the reply from `start` on rests on what, as it was marked. A sentence that was not shown has none."""
        if not self._passages:
            return []
        said = "".join(self._said)
        found: list[Ground] = []
        after = start
        for mark in self._marked:
            sentence = said[mark.start : mark.end].strip()
            # Nothing is shown later than it was said; the same words may have been said before.
            latest = start + len(_PARAGRAPH) + mark.end
            at = reply.rfind(sentence, after, latest) if sentence else -1
            if at < 0:
                continue
            after = at + len(sentence)
            cited = [passage for n in mark.numbers if (passage := self._passages.get(n))]
            found += [Ground(passage, at, after, marked=True) for passage in cited]
        return found[:MOST_CITED]


def theirs(cited: Sequence[Cited], reply: str, start: int) -> list[Ground]:
    """What a provider says of its own knowledge. Of such a document no more is known than its name."""
    found: list[Ground] = []
    for numbered, each in enumerate(cited[:MOST_CITED], start=1):
        at = reply.find(each.text.strip(), start)
        span = (at, at + len(each.text.strip())) if each.text.strip() and at >= 0 else (start, len(reply))
        source = Passage(-numbered, each.document_id, "", each.section, None, 0, 0, None, each.score, "", "")
        found.append(Ground(source, *span, marked=True))
    return found


def evidence(passages: Passages, reply: str, start: int) -> list[Ground]:
    """The sentences of the reply from `start` on whose words are those of a passage."""
    found: list[Ground] = []
    at = start
    for sentence in sentences(reply[start:]):
        own = set(words(sentence))
        rated = [(support(sentence, each.text), each) for each in passages]
        share, best = max(rated, key=lambda pair: pair[0], default=(0.0, None))
        place = reply.find(sentence, at)
        if best is None or place < 0 or share < SHARE or share * len(own) < WORDS:
            continue
        at = place + len(sentence)
        found.append(Ground(best, place, at, marked=False))
    return found[:MOST_CITED]


def quote(ground: Ground, reply: str) -> str:
    """The words of the passage that the span rests on: its sentence that is most like it."""
    said = set(words(reply[ground.start : ground.end]))
    listed = sentences(ground.passage.text) or [ground.passage.text.strip()]
    best = max(listed, key=lambda each: len(said & set(words(each))))
    return best if len(best) <= QUOTE_CHARS else best[:QUOTE_CHARS].rsplit(" ", 1)[0] + " …"
