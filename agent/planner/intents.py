"""What a person wants, by cues and by likeness to example utterances of the definition.

Each intent has cues (regular expressions over mended text, with weights), vetoes, and examples. The score of an intent
is the sum of its cue weights plus its best likeness to an example (TF-IDF cosine over stems, 0..1). Where that decides
nothing, the wordings nearest to the message vote; records, days, times and numbers are masked in both.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from agent.planner.text import WORD, Lexicon, stem

MASK = "zz"  # begins a word that stands for something said but no part of what is wanted: a day, a record
_MASK_SHARE = 0.6
_SHARES = {"+": 0.5, "#": 0.25}  # of a pair of words and of a piece of a word


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing a person may want.

    `goal` names the tool that fulfils it; without one, `say` names the template that answers. `about` fixes argument
    values of the goal. `answers` overrides the goal's usual answer template. `examples` are typical ways to say it,
    `wordings` any others. `writes` marks an intent that leads to a change.
    """

    name: str
    specialist: str
    goal: str | None = None
    say: str | None = None
    answer: str | None = None
    cues: tuple[tuple[re.Pattern[str], float], ...] = ()
    vetoes: tuple[re.Pattern[str], ...] = ()
    examples: tuple[str, ...] = ()
    wordings: tuple[str, ...] = ()
    writes: bool = False
    captures: tuple[re.Pattern[str], ...] = ()
    facts: tuple[str, ...] = ()
    small_talk: bool = False
    question: bool = False
    choices: tuple[str, ...] = ()
    rank: int = 0
    tell: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guess:
    """An intent with its score; `cue` is the part of it that cues gave. `voted`: wordings decided, for want of cues."""

    intent: Intent
    score: float
    cue: float
    voted: bool = False


def read_intents(
    block: Mapping[str, Mapping[str, Any]],
    wordings: Mapping[str, Sequence[str]] = MappingProxyType({}),
    writes: Collection[str] = (),
    pieces: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Intent]:
    """The `intents` block of a definition. `<name>` in a cue stands for the piece of that name."""
    intents = {}
    for rank, (name, raw) in enumerate(block.items()):
        body = dict(raw)
        body["cues"] = tuple(_cue(c, pieces) for c in body.get("cues", ()))
        body["vetoes"] = tuple(re.compile(v) for v in body.get("vetoes", ()))
        body["captures"] = tuple(re.compile(c, re.IGNORECASE | re.DOTALL) for c in body.get("captures", ()))
        for key in ("examples", "facts", "choices"):
            body[key] = tuple(body.get(key, ()))
        body["wordings"] = tuple(wordings.get(name, ()))
        body["writes"] = _may_write(body, writes)
        intents[name] = Intent(name=name, rank=rank, **body)
    return intents


def _may_write(body: Mapping[str, Any], writes: Collection[str]) -> bool:
    """Whether the intent leads to a change, at once or after the question that it answers with."""
    tell = body.get("tell", {})
    asks = bool(body.get("question")) and ("choices" in body or "leads_to" in tell)
    return asks or (body.get("goal") in writes and not tell.get("inquires"))


def _cue(raw: str | Mapping[str, float], pieces: Mapping[str, str]) -> tuple[re.Pattern[str], float]:
    ((pattern, weight),) = ((raw, 1.0),) if isinstance(raw, str) else raw.items()
    for name, piece in pieces.items():
        pattern = pattern.replace(f"<{name}>", piece)
    return re.compile(pattern), float(weight)


class Classifier:
    """Ranks intents for one clause."""

    def __init__(
        self,
        intents: Mapping[str, Intent],
        lexicon: Lexicon,
        thresholds: Mapping[str, float],
        masked: Callable[[str], str] = str,
    ) -> None:
        self._by_name = dict(intents)
        self._thresholds = thresholds
        self._masked = masked
        typical = [(i.name, _stems(lexicon.mend(e))) for i in intents.values() for e in i.examples]
        wordings = [
            (i.name, features(masked(lexicon.mend(e)))) for i in intents.values() for e in (*i.examples, *i.wordings)
        ]
        self._typical = Likeness(typical)
        self._wordings = Likeness([(name, found) for name, found in wordings if _has_words(found)])
        # Each step of a turn reads the same message again, in the same parts.
        self.rank = lru_cache(maxsize=512)(self._rank)

    def _rank(self, mended: str) -> tuple[Guess, ...]:
        """Guesses for a mended clause, best first; intents that score nothing are left out."""
        likeness = self._typical.best(_stems(mended))
        guesses: list[Guess] = []
        vetoed: set[str] = set()
        for intent in self._by_name.values():
            if any(v.search(mended) for v in intent.vetoes):
                vetoed.add(intent.name)
                continue
            cue = sum(weight for pattern, weight in intent.cues if pattern.search(mended))
            score = cue + likeness.get(intent.name, 0.0)
            if score > 0:
                guesses.append(Guess(intent, score, cue))
        guesses.sort(key=lambda g: (-g.score, g.intent.rank))
        if not guesses or guesses[0].score < self._thresholds["intent"]:
            guesses = self._led_by_vote(mended, guesses, vetoed)
        return tuple(guesses)

    def _led_by_vote(self, mended: str, guesses: list[Guess], vetoed: Collection[str]) -> list[Guess]:
        """The guesses, led by the intent that the nearest wordings agree on, if they do."""
        bar = self._thresholds
        for name, near, share in self.vote(mended, vetoed)[:1]:
            intent = self._by_name[name]
            if near >= bar["like_write" if intent.writes else "like"] and share >= bar["like_share"]:
                cue = next((g.cue for g in guesses if g.intent is intent), 0.0)
                voted = Guess(intent, max(near, bar["intent"]), cue, voted=True)
                return [voted, *(g for g in guesses if g.intent is not intent)]
        return guesses

    def vote(self, mended: str, vetoed: Collection[str] = ()) -> list[tuple[str, float, float]]:
        """(intent, its greatest likeness 0..1, its share of the votes 0..1) by the nearest wordings, most votes first.

        A vote weighs the cube of its likeness. Nothing but masks is like nothing.
        """
        found = features(self._masked(mended))
        if not _has_words(found):
            return []
        ranked = [(name, near) for name, near in self._wordings.nearest(found) if name not in vetoed]
        likes: dict[str, list[float]] = {}
        for name, near in ranked[: int(self._thresholds["voters"])]:
            likes.setdefault(name, []).append(near)
        votes = {name: sum(like**3 for like in mine) for name, mine in likes.items()}
        total = sum(votes.values())
        return [(n, max(likes[n]), votes[n] / total) for n in sorted(votes, key=lambda n: -votes[n])]


class Likeness:
    """Labelled texts as bags of weighted features; finds those nearest to another (cosine, 0..1)."""

    def __init__(self, documents: Sequence[tuple[str, Sequence[str]]]) -> None:
        seen = Counter(f for _, found in documents for f in set(found))
        self._idf = {f: math.log((1 + len(documents)) / (1 + n)) + 1 for f, n in seen.items()}
        self._unseen = max(self._idf.values(), default=1.0)  # what no text has counts against every text
        self._labels = [label for label, _ in documents]
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for at, (_, found) in enumerate(documents):
            for f, weight in self._weigh(found).items():
                self._postings.setdefault(f, []).append((at, weight))

    def best(self, found: Sequence[str]) -> dict[str, float]:
        """The best likeness to a text of each label; labels without any are left out."""
        best: dict[str, float] = {}
        for at, dot in self._dots(found).items():
            if dot > best.get(self._labels[at], 0.0):
                best[self._labels[at]] = dot
        return best

    def nearest(self, found: Sequence[str]) -> list[tuple[str, float]]:
        """(label, likeness) of every text that shares a feature, the most like first."""
        dots = self._dots(found)
        return [(self._labels[at], dots[at]) for at in sorted(dots, key=lambda at: (-dots[at], at))]

    def _dots(self, found: Sequence[str]) -> dict[int, float]:
        dots: dict[int, float] = {}
        for f, weight in self._weigh(found).items():
            for at, theirs in self._postings.get(f, ()):
                dots[at] = dots.get(at, 0.0) + weight * theirs
        return dots

    def _weigh(self, found: Sequence[str]) -> dict[str, float]:
        raw = {f: n * self._idf.get(f, self._unseen) * _share(f) for f, n in Counter(found).items()}
        norm = math.sqrt(sum(v * v for v in raw.values())) or 1.0
        return {f: v / norm for f, v in raw.items()}


def features(text: str) -> list[str]:
    """Stems, pairs of neighbouring stems ("+a b") and pieces of words ("#abcd")."""
    stems = _stems(text)
    pairs = [f"+{a} {b}" for a, b in pairwise(["^", *stems])]
    pieces = [f"#{word[i : i + 4]}" for word in (f"_{s}" for s in stems if len(s) > 4) for i in range(len(word) - 3)]
    return [*stems, *pairs, *pieces]


def _share(feature: str) -> float:
    """What a feature counts beside a whole word."""
    return _MASK_SHARE if feature.startswith(MASK) else _SHARES.get(feature[0], 1.0)


def _has_words(found: Sequence[str]) -> bool:
    """Whether anything but masks is said."""
    return any(f[0] not in _SHARES and not f.startswith(MASK) for f in found)


def _stems(text: str) -> list[str]:
    return [stem(w) for w in WORD.findall(text) if w[0].isalnum()]
