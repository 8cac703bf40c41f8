"""Passages of documents that a turn has found: numbered, so that a reply can name what it rests on.

Numbers go on through a conversation: a passage of an earlier turn has another number, and cannot be cited any more,
since its document may have changed or gone meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.by_object import ByObject
from agent.transcript import JsonObject, Message, ToolMessage

# What stays of a passage when its turn is over: enough to see that it was looked up.
_KEPT = ("number", "document_id", "title", "version")
# The kind of part that a tool makes whose results hold passages, under the same name.
PART = "passages"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document. `start` and `end` count characters of that version of it."""

    number: int
    document_id: str
    title: str
    section: str
    page: int | None
    start: int
    end: int
    version: int | None
    score: float
    uri: str
    text: str


class Passages:
    """What this turn has found, by number."""

    def __init__(self, history: Sequence[Message]) -> None:
        self._history = history
        self._next = 0
        self._known: dict[int, Passage] = {}
        self._numbers: dict[tuple[str, Any, int, int], int] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def __iter__(self) -> Iterator[Passage]:
        return iter(self._known.values())

    def get(self, number: int) -> Passage | None:
        """The passage of that number, if this turn has found it."""
        return self._known.get(number)

    @property
    def has_given(self) -> bool:
        """Whether this conversation has given out any number."""
        return self._after_last > 1

    def gave(self, number: int) -> bool:
        """Whether this conversation has given out that number, in this turn or before."""
        return 1 <= number < self._after_last

    def take(self, result: JsonObject) -> JsonObject:
        """The result of a search with these numbers; one found before keeps its number. What is no passage is left out.

        A result without passages is returned as it is.
        """
        listed = result.get(PART)
        if not isinstance(listed, list) or not listed:
            return result
        return {**result, PART: [numbered for each in listed if (numbered := self._numbered(each)) is not None]}

    def _numbered(self, body: Any) -> JsonObject | None:
        passage = read_passage(body)
        if passage is None:
            return None
        place = (passage.document_id, passage.version, passage.start, passage.end)
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = self._fresh()
        numbered = {**body, "number": number}
        if (known := read_passage(numbered)) is not None:
            self._known[number] = known
        return numbered

    @property
    def _after_last(self) -> int:
        if not self._next:
            self._next = 1 + max((n for message in self._history for n in _numbers_in(message)), default=0)
        return self._next

    def _fresh(self) -> int:
        number = self._after_last
        self._next = number + 1
        return number


def read_passage(body: Any) -> Passage | None:
    """A passage of a tool's result; None for what is none."""
    if not isinstance(body, dict) or not isinstance(body.get("text"), str) or not body.get("document_id"):
        return None
    return Passage(
        number=_whole(body.get("number")) or 0,
        document_id=str(body["document_id"]),
        title=str(body.get("title") or ""),
        section=str(body.get("section") or ""),
        page=_whole(body.get("page")),
        start=_whole(body.get("start")) or 0,
        end=_whole(body.get("end")) or 0,
        version=_whole(body.get("version")),
        score=float(body["score"]) if isinstance(body.get("score"), int | float) else 0.0,
        uri=str(body.get("uri") or ""),
        text=body["text"],
    )


def forgotten(message: Message) -> Message:
    """The message as a later turn's model reads it: passages by name, without texts, since they may have changed."""
    return _FORGOTTEN.of(message) if isinstance(message, ToolMessage) and PART in message.result else message


def _forget(message: ToolMessage) -> ToolMessage:
    listed = message.result[PART]
    found = [each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, dict)]
    named = [{key: each[key] for key in _KEPT if key in each} for each in found]
    note = "The texts are left out, since documents may have changed meanwhile. Search again to read them."
    return replace(message, result={**message.result, PART: named, **({"note": note} if named else {})})


def sources_in(result: JsonObject) -> tuple[JsonObject, ...]:
    """What a result found, without the texts: for whoever follows the turn."""
    listed = result.get(PART)
    found = [passage for each in (listed if isinstance(listed, list) else ()) if (passage := read_passage(each))]
    return tuple(
        {
            "number": each.number,
            "document_id": each.document_id,
            "title": each.title,
            "section": each.section,
            "page": each.page,
            "score": each.score,
        }
        for each in found
    )


def _numbers_in(message: Message) -> Iterator[int]:
    listed = message.result.get(PART) if isinstance(message, ToolMessage) else None
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and (number := _whole(each.get("number"))):
            yield number


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# The same message gives the same object again, so that its text is made once.
_FORGOTTEN: ByObject[ToolMessage, ToolMessage] = ByObject(_forget, kept=2_048)
