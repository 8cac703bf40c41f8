"""Sentences of documents that answer a question, and how far a sentence rests on a text: by words, without a model."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import snowballstemmer

# What is read of one passage; a document that goes on for ever answers nothing.
MOST_SENTENCES = 60
LONGEST = 420  # characters of a sentence that is quoted
# A sentence counts beside the best one from this share of its weight on, and from another passage only from this.
BESIDE, ELSEWHERE = 0.45, 0.85
# A sentence without the question's most telling word may answer another question: it counts so much less.
WITHOUT = 0.5
# What a word of the heading above a sentence counts, what the first sentences of a passage count by themselves, and how
# much less a sentence counts with each place down the list: whoever found the passages knew more than words.
HEADING, OPENING, PLACE, STEEP = 0.35, (0.5, 0.25), 0.9, 3

# What has a point and ends no sentence: "Dr. Lee", "ca. 10 Euro"; and before a number: "No. 5".
_SHORT = ("[DM]r", "Mrs", "Ms", "St", "ca", "approx", "vs", r"e\.g", r"i\.e")
_GOES_ON = "".join(rf"(?<!\b{short}\.)" for short in _SHORT) + r"(?!(?<=\bN[or]\.)\s+\d)"
_END = re.compile(rf"(?<=[.!?…]){_GOES_ON}[\"'”’)\]]*\s+(?=[\"'“‘(]?[^\W_a-z])|[。！？]|\n{{2,}}")
# How a sentence begins that speaks of the one before.
_GOES_BACK = re.compile(
    r"(?:it|its|that|this|these|those|they|then|there|so|such|both|either|later|otherwise|instead|but|and|for that|"
    r"if (?:not|so|it|they|you still))\b",
    re.IGNORECASE,
)
_ITEM = re.compile(r"^\s*(?:[-*•+]|\d{1,2}[.)])\s+")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# A script without blanks between words is compared by pairs of characters.
_DENSE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_STEMMER = snowballstemmer.stemmer("english")
_DULL_WORDS = """
    a an the this that these those there here it its he she they them their his her i me my we us our you your yours
    and or but if so as of in on at to for from by with without about into over under up down out off than then
    is are was were be been being am do does did done doing have has had having will would can could shall should may
    might must not no yes any some all every each both what which who whom whose when where why how much many long
    get got getting go going just only also too very please ok okay hi hello hey thanks thank anything something
    everything someone anyone somebody anybody really actually still yet like want wanted need needs know tell say
    said ask question quick i'm i've i'll it's that's what's don't doesn't can't won't isn't there's let's u ur im
    happens happen thing things way one ones per before after during while until again there's
"""
_DULL = frozenset(_DULL_WORDS.split())
# Stems that are rare at times and yet never what a question is about.
_TELL_LITTLE = frozenset({"come", "guy", "fine", "make", "put"})


@dataclass(frozen=True, slots=True)
class Extract:
    """A sentence or list item as it stands in a passage. `source` counts the passages from 1."""

    source: int
    text: str


def extract(
    question: str,
    passages: Sequence[str],
    *,
    limit: int = 3,
    headings: Sequence[str] = (),
    scores: Sequence[float] = (),
) -> list[Extract]:
    """The sentences that answer best, in the order of the passages and of their text; [] when none fits.

    Args:
        question: As the person put it.
        passages: The best one first.
        limit: At most so many sentences.
        headings: Of each passage, where it stands in its document.
        scores: Of each passage, how well it fits; without them each place down the list counts for less.
    """
    asked = set(words(question))
    if not asked or not passages:
        return []
    tops = [set(words(headings[n])) if n < len(headings) else set() for n in range(len(passages))]
    places = [
        (source, at, sentence)
        for source, passage in enumerate(passages)
        for at, sentence in enumerate(sentences(passage)[:MOST_SENTENCES])
    ]
    held = [set(words(sentence)) for _, _, sentence in places]
    rarity = _rarity(held)
    fits = {source for (source, _, _), own in zip(places, held, strict=True) if asked & (own | tops[source])}
    weights = [
        _weight(asked, own, tops[source], rarity, at) * _trust(source, scores) if source in fits else 0.0
        for (source, at, _), own in zip(places, held, strict=True)
    ]
    known = (asked & rarity.keys()) - _TELL_LITTLE
    rarest = max((rarity[word] for word in known), default=0.0)
    telling = {word for word in known if rarity[word] == rarest}
    tells = [bool(telling & (own | tops[source])) for (source, _, _), own in zip(places, held, strict=True)]
    weights = [weight if told else weight * WITHOUT for weight, told in zip(weights, tells, strict=True)]
    best = max(weights, default=0.0)
    if best <= 0:
        return []
    first = weights.index(best)
    order = sorted(range(len(places)), key=lambda n: (-weights[n], n))
    beside = [n for n in order if n == first or tells[n] or not tells[first]]
    chosen = [n for n in beside if _stands_beside(places[n][0] == places[first][0], weights[n], best)][:limit]
    after = first + 1
    if len(chosen) == 1 < limit and after < len(places) and places[after][0] == places[first][0]:
        # One sentence seldom says all of it: the next one goes with it if it goes on from there.
        chosen += [after] if telling & held[after] or _GOES_BACK.match(places[after][2]) else []
    return [Extract(places[n][0] + 1, places[n][2]) for n in sorted(chosen)]


def _trust(source: int, scores: Sequence[float]) -> float:
    """How much the words of a passage count beside those of the best one."""
    if source < len(scores) and scores[0] > 0:
        return float((max(scores[source], 0.0) / scores[0]) ** STEEP)
    return 1 / (1 + PLACE * source)


def _stands_beside(same: bool, weight: float, best: float) -> bool:
    return weight >= (BESIDE if same else ELSEWHERE) * best


def _weight(asked: set[str], own: set[str], above: set[str], rarity: dict[str, float], at: int) -> float:
    """How much of the question a sentence holds, a rare word more than a common one; heading and place help."""
    said = sum(rarity.get(word, 0.0) for word in asked & own)
    led = sum(rarity.get(word, 1.0) for word in (asked & above) - own)
    return said + HEADING * led + (OPENING[at] if at < len(OPENING) else 0.0)


def _rarity(held: Sequence[set[str]]) -> dict[str, float]:
    seen = Counter(word for own in held for word in own)
    return {word: math.log(1 + len(held) / n) for word, n in seen.items()}


def sentences(text: str) -> list[str]:
    """The sentences and list items of a text in markdown, without headings; a list's lines stay whole."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line.strip() and not _HEADING.match(line)]
        items: list[str] = []
        for line in lines:
            if items and not _ITEM.match(line):
                items[-1] = f"{items[-1]} {line.strip()}"
            else:
                items.append(_ITEM.sub("", line).strip())
        for item in items:
            found += [part.strip() for part in _END.split(item) if part and part.strip()]
    return [each for each in found if len(each) <= LONGEST]


def support(sentence: str, text: str) -> float:
    """Which share of the words of a sentence a text holds, 0 to 1; 0 when there are too few to tell."""
    own = set(words(sentence))
    if len(own) < 4:
        return 0.0
    return len(own & set(words(text))) / len(own)


def words(text: str) -> list[str]:
    """The telling words of a text: stems without those that every text has."""
    folded = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
    found: list[str] = []
    for word in _WORD.findall(folded):
        if _DENSE.search(word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word not in _DULL:
            found.append(_stem(word))
    return found


@lru_cache(maxsize=8192)
def _stem(word: str) -> str:
    return str(_STEMMER.stemWord(word.removesuffix("'s")))
