"""What a person wants, by cues and by likeness to example utterances of the definition.

Each intent has cues (regular expressions over mended text, with weights), vetoes, and examples. The score of an intent
is the sum of its cue weights plus its best likeness to an example (TF-IDF cosine over stems, 0..1).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from agent.planner.text import WORD, Lexicon, stem


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing a person may want.

    `goal` names the tool that fulfils it; without one, `say` names the template that answers. `about` fixes argument
    values of the goal. `answers` overrides the goal's usual answer template.
    """

    name: str
    specialist: str
    goal: str | None = None
    say: str | None = None
    answer: str | None = None
    cues: tuple[tuple[re.Pattern[str], float], ...] = ()
    vetoes: tuple[re.Pattern[str], ...] = ()
    examples: tuple[str, ...] = ()
    captures: tuple[re.Pattern[str], ...] = ()
    facts: tuple[str, ...] = ()
    small_talk: bool = False
    question: bool = False
    choices: tuple[str, ...] = ()
    rank: int = 0
    tell: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guess:
    """An intent with its score; `cue` is the part of it that cues gave."""

    intent: Intent
    score: float
    cue: float


def read_intents(block: Mapping[str, Mapping[str, Any]]) -> dict[str, Intent]:
    """The `intents` block of a definition."""
    intents = {}
    for rank, (name, raw) in enumerate(block.items()):
        body = dict(raw)
        body["cues"] = tuple(_cue(c) for c in body.get("cues", ()))
        body["vetoes"] = tuple(re.compile(v) for v in body.get("vetoes", ()))
        body["captures"] = tuple(re.compile(c, re.IGNORECASE | re.DOTALL) for c in body.get("captures", ()))
        for key in ("examples", "facts", "choices"):
            body[key] = tuple(body.get(key, ()))
        intents[name] = Intent(name=name, rank=rank, **body)
    return intents


def _cue(raw: str | Mapping[str, float]) -> tuple[re.Pattern[str], float]:
    if isinstance(raw, str):
        return re.compile(raw), 1.0
    ((pattern, weight),) = raw.items()
    return re.compile(pattern), float(weight)


class Classifier:
    """Ranks intents for one clause."""

    def __init__(self, intents: Mapping[str, Intent], lexicon: Lexicon) -> None:
        self._intents = tuple(intents.values())
        self._lexicon = lexicon
        documents = [(i, _stems(lexicon.mend(e))) for i in self._intents for e in i.examples]
        seen = Counter(w for _, words in documents for w in set(words))
        self._idf = {w: math.log((1 + len(documents)) / (1 + n)) + 1 for w, n in seen.items()}
        self._examples = [(i, self._weigh(words)) for i, words in documents]
        # Each step of a turn reads the same message again, in the same parts.
        self.rank = lru_cache(maxsize=512)(self._rank)

    def _rank(self, mended: str) -> tuple[Guess, ...]:
        """Guesses for a mended clause, best first; intents that score nothing are left out."""
        likeness = self._likeness(_stems(mended))
        guesses = []
        for intent in self._intents:
            if any(v.search(mended) for v in intent.vetoes):
                continue
            cue = sum(weight for pattern, weight in intent.cues if pattern.search(mended))
            score = cue + likeness.get(intent.name, 0.0)
            if score > 0:
                guesses.append(Guess(intent, score, cue))
        return tuple(sorted(guesses, key=lambda g: (-g.score, g.intent.rank)))

    def _likeness(self, words: Sequence[str]) -> dict[str, float]:
        mine = self._weigh(words)
        best: dict[str, float] = {}
        for intent, theirs in self._examples:
            dot = sum(weight * theirs[w] for w, weight in mine.items() if w in theirs)
            if dot > best.get(intent.name, 0.0):
                best[intent.name] = dot
        return best

    def _weigh(self, words: Sequence[str]) -> dict[str, float]:
        counts = Counter(words)
        default = max(self._idf.values(), default=1.0)  # a word no example has counts against every example
        raw = {w: n * self._idf.get(w, default) for w, n in counts.items()}
        norm = math.sqrt(sum(v * v for v in raw.values())) or 1.0
        return {w: v / norm for w, v in raw.items()}


def _stems(text: str) -> list[str]:
    return [stem(w) for w in WORD.findall(text) if w[0].isalnum()]
