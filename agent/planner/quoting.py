"""What documents say, in their own words: the planner quotes them, and takes nothing they say as a wish."""

from __future__ import annotations

from agent.extracts import extract, sentences
from agent.passages import PART, read_passage
from agent.transcript import JsonObject

# A passage that fits so well is quoted from its beginning, though it shares no word with the question.
FITS_WELL = 0.6
_FIRST_SENTENCES = 2


def quoted(question: str, result: JsonObject, limit: int) -> str:
    """The sentences of found passages that answer a question, each with the mark of its passage; "" for none."""
    passages = [each for body in result.get(PART) or () if (each := read_passage(body)) is not None]
    headings = [f"{each.title} {each.section}" for each in passages]
    found = extract(question, [each.text for each in passages], limit=limit, headings=headings)
    lines = [(passages[each.source - 1], each.text) for each in found]
    if not lines and passages and passages[0].score >= FITS_WELL:
        lines = [(passages[0], sentence) for sentence in sentences(passages[0].text)[: min(limit, _FIRST_SENTENCES)]]
    return " ".join(f"{text} [{passage.number}]" for passage, text in lines)
