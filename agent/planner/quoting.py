"""What documents say, in their own words: the planner quotes them, and takes nothing they say as a wish."""

from __future__ import annotations

from agent.extracts import extract, sentences, words
from agent.passages import PART, read_passage
from agent.transcript import JsonObject

# The best passage answers when it fits so well, or holds so much of the question's words; else nothing is quoted.
FITS_WELL = 0.5
HOLDS = 0.3
_FIRST_SENTENCES = 2


def quoted(question: str, result: JsonObject, limit: int, holds: float = HOLDS) -> str:
    """The sentences of found passages that answer a question, each with the mark of its passage; "" for none.

    `holds`: the share of the question's words that the best passage has to hold, unless it fits well all the same.
    """
    passages = [each for body in result.get(PART) or () if (each := read_passage(body)) is not None]
    headings = [f"{each.title} {each.section}" for each in passages]
    if not passages or (passages[0].score < FITS_WELL and _held(question, f"{headings[0]} {passages[0].text}") < holds):
        return ""
    scores = [each.score for each in passages]
    found = extract(question, [each.text for each in passages], limit=limit, headings=headings, scores=scores)
    lines = [(passages[each.source - 1], each.text) for each in found]
    if not lines and passages[0].score >= FITS_WELL:
        told = [sentence for sentence in sentences(passages[0].text) if words(sentence)]  # "Hello there." tells nothing
        lines = [(passages[0], sentence) for sentence in told[: min(limit, _FIRST_SENTENCES)]]
    return " ".join(f"{text} [{passage.number}]" for passage, text in lines)


def _held(question: str, text: str) -> float:
    """Which share of the question's telling words a text holds."""
    asked = set(words(question))
    return len(asked & set(words(text))) / len(asked) if asked else 0.0
