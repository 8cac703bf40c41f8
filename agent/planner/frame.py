"""What the planner carries from one turn to the next: the open wish, what was shown, standing constraints.

Stored with the assistant's message as the provider's private state, so that it lives and dies with the transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from agent.transcript import AssistantMessage, JsonObject, Message


@dataclass(frozen=True, slots=True)
class Window:
    """A span of days or of times of day, as ISO strings; `end` is inclusive for days, exclusive for times."""

    start: str
    end: str

    def holds(self, value: str) -> bool:
        """Whether an ISO date (or HH:MM) lies within."""
        return self.start <= value < self.end if ":" in self.start else self.start <= value <= self.end


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing the person wants, as far as it is known.

    `values` holds filled slots by slot name. `days`/`times` narrow an offer without choosing from it; `not_days` rules
    days out. `pick` is "earliest" or "latest". `mention` is the text in which records are still to be looked up.
    """

    intent: str
    values: dict[str, str] = field(default_factory=dict)
    days: tuple[Window, ...] = ()
    weekdays: tuple[int, ...] = ()
    not_days: tuple[Window, ...] = ()
    times: tuple[Window, ...] = ()
    pick: str | None = None
    mention: str = ""
    raw: str = ""
    hours: str = ""  # the wished times in the person's words
    shift: int = 0  # so many days from where it stands now
    same_time: bool = False  # at the hour it stands at now
    asking: bool = False  # said as a question, so nothing is to be proposed yet; holds for one turn

    def with_value(self, slot: str, value: str) -> Wish:
        """The same wish with one more slot filled."""
        return replace(self, values={**self.values, slot: value})

    def without(self, *slots: str) -> Wish:
        """The same wish with these slots open again."""
        return replace(self, values={k: v for k, v in self.values.items() if k not in slots})

    def to_json(self) -> JsonObject:
        """JSON form, empty parts left out."""
        body: JsonObject = {"intent": self.intent}
        for key in ("values", "weekdays", "pick", "mention", "raw", "hours", "shift", "same_time"):
            if value := getattr(self, key):
                body[key] = value
        for key in ("days", "not_days", "times"):
            if windows := getattr(self, key):
                body[key] = [[w.start, w.end] for w in windows]
        return body

    @staticmethod
    def from_json(body: JsonObject) -> Wish:
        """Inverse of `to_json`."""

        def windows(key: str) -> tuple[Window, ...]:
            return tuple(Window(*pair) for pair in body.get(key, ()))

        return Wish(
            intent=body["intent"],
            values=body.get("values", {}),
            weekdays=tuple(body.get("weekdays", ())),
            pick=body.get("pick"),
            mention=body.get("mention", ""),
            raw=body.get("raw", ""),
            hours=body.get("hours", ""),
            shift=body.get("shift", 0),
            same_time=body.get("same_time", False),
            days=windows("days"),
            not_days=windows("not_days"),
            times=windows("times"),
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """A numbered offer that the person may answer by position. `kind` is the slot it fills."""

    kind: str
    options: tuple[str, ...]
    more: tuple[str, ...] = ()  # what was held back of a long list


@dataclass(frozen=True, slots=True)
class Frame:
    """The dialogue state after a turn."""

    wish: Wish | None = None
    asked: str | None = None  # slot that the last question was about, "choice", or "go"
    shown: Shown | None = None
    focus: str | None = None  # key of the record last spoken of
    times: tuple[Window, ...] = ()  # standing: only these hours
    not_days: tuple[Window, ...] = ()
    not_weekdays: tuple[int, ...] = ()
    standing: str = ""  # the standing constraint on hours in the person's own words
    last: str | None = None  # the intent that the last reply answered with facts, for "and on Saturdays?"
    queue: tuple[Wish, ...] = ()
    misses: int = 0

    def to_json(self) -> JsonObject:
        """JSON form, empty parts left out."""
        body: JsonObject = {}
        if self.wish:
            body["wish"] = self.wish.to_json()
        if self.shown:
            body["shown"] = {"kind": self.shown.kind, "options": self.shown.options, "more": self.shown.more}
        for key in ("asked", "focus", "standing", "last", "misses"):
            if value := getattr(self, key):
                body[key] = value
        for key in ("times", "not_days"):
            if windows := getattr(self, key):
                body[key] = [[w.start, w.end] for w in windows]
        if self.not_weekdays:
            body["not_weekdays"] = self.not_weekdays
        if self.queue:
            body["queue"] = [w.to_json() for w in self.queue]
        return body

    @staticmethod
    def from_json(body: JsonObject) -> Frame:
        """Inverse of `to_json`."""
        shown = body.get("shown")
        return Frame(
            wish=Wish.from_json(body["wish"]) if "wish" in body else None,
            asked=body.get("asked"),
            shown=Shown(shown["kind"], tuple(shown["options"]), tuple(shown.get("more", ()))) if shown else None,
            focus=body.get("focus"),
            times=tuple(Window(*p) for p in body.get("times", ())),
            not_days=tuple(Window(*p) for p in body.get("not_days", ())),
            not_weekdays=tuple(body.get("not_weekdays", ())),
            standing=body.get("standing", ""),
            last=body.get("last"),
            queue=tuple(Wish.from_json(w) for w in body.get("queue", ())),
            misses=body.get("misses", 0),
        )

    def forbids_day(self, day: str) -> bool:
        """Whether a standing constraint rules this ISO date out."""
        return date.fromisoformat(day).weekday() in self.not_weekdays or any(w.holds(day) for w in self.not_days)

    def forbids_time(self, clock: str) -> bool:
        """Whether a standing constraint rules this HH:MM out."""
        return bool(self.times) and not any(w.holds(clock) for w in self.times)


def last_frame(history: Sequence[Message], provider: str) -> Frame:
    """The frame that this provider left last; an empty one after another provider spoke."""
    for message in reversed(history):
        if isinstance(message, AssistantMessage) and message.provider == provider:
            if message.state is not None:
                return Frame.from_json(_plain(message.state))
        elif isinstance(message, AssistantMessage) and message.provider and message.text:
            return Frame()
    return Frame()


def _plain(state: JsonObject) -> dict[str, Any]:
    return dict(state)
