"""What the assistant says in its own words, in one language: templates of the definition, compiled.

English stands in `agent.yaml` and `planner.yaml`; every other language is a file beside them, and what it lacks is said
in English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from pydantic import BaseModel, ConfigDict, Field

from agent.dates import say_date, say_time

# How far back a conversation is read to tell its language, when the message itself is too short to tell.
LOOK_BACK = 6
_TELLING_WORDS = 3


class GatedWording(BaseModel):
    """The sentences of one gated tool."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    restate: str
    question: str
    done: str


class Translation(BaseModel):
    """Schema of a language file, such as `es.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    markers: str = Field(description="pattern that only text in this language matches")
    weekdays: tuple[str, ...] = Field(min_length=7, max_length=7)
    months: tuple[str, ...] = Field(min_length=12, max_length=12)
    day_format: str = Field(alias="date", description="python format with {weekday}, {day} and {month}")
    gated: dict[str, GatedWording] = {}
    claims: dict[str, tuple[str, ...]] = {}
    phrases: dict[str, str] = {}
    statuses: dict[str, str] = {}
    values: dict[str, str] = {}
    answers: dict[str, str] = {}
    aliases: dict[str, str] = Field(default={}, description="word or phrase -> the English that the planner reads")

    def say_day(self, day: date) -> str:
        """A day with its weekday, as this language writes it."""
        return self.day_format.format(
            weekday=self.weekdays[day.weekday()], day=day.day, month=self.months[day.month - 1]
        )


class Wording:
    """Compiled sentences of one language. `translation` is None for English, the language of the definition itself."""

    def __init__(
        self,
        gated: Mapping[str, GatedWording],
        phrases: Mapping[str, str],
        answers: Mapping[str, str],
        translation: Translation | None = None,
    ) -> None:
        self._translation = translation
        self.environment = self._environment()
        compile_ = self.environment.from_string
        self.restatements = {tool: compile_(g.restate) for tool, g in gated.items()}
        self.questions = {tool: compile_(g.question) for tool, g in gated.items()}
        self.receipts = {tool: compile_(g.done) for tool, g in gated.items()}
        self._phrases = {key: compile_(text) for key, text in phrases.items()}
        self._answers = answers

    def phrase(self, key: str, **facts: Any) -> str:
        """A sentence that the runtime itself says."""
        return self._phrases[key].render(**facts).strip()

    def answers(self, undefined: type[Any]) -> dict[str, Template]:
        """The planner's answer templates, compiled with this treatment of missing names."""
        environment = self.environment.overlay(undefined=undefined)
        return {key: environment.from_string(text) for key, text in self._answers.items()}

    def _environment(self) -> Environment:
        """Templates over facts; undefined names are errors.

        Filters: `day` writes "2026-03-16", or an object with such a `date`, as "Monday, March 16"; `clock` writes
        "13:00" as "1:00 PM"; `word` translates a word of the data, such as a status; `plain` writes any value as a
        person can read it, texts in quotes.
        """
        env = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
        env.filters["day"] = self._day
        env.filters["clock"] = lambda iso: say_time(time.fromisoformat(iso))
        env.filters["word"] = self._word
        env.filters["plain"] = _plain
        return env

    def _day(self, value: Any) -> str:
        if not value:
            return ""
        day = date.fromisoformat(value["date"] if isinstance(value, dict) else value)
        return self._translation.say_day(day) if self._translation else say_date(day)

    def _word(self, value: str) -> str:
        if self._translation is None:
            return value
        return self._translation.statuses.get(value) or self._translation.values.get(value) or value


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_plain(each) for each in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items()) or "none"
    return f'"{value}"' if isinstance(value, str) else str(value)


def language_of(texts: Sequence[str], markers: Mapping[str, re.Pattern[str]], default: str = "en") -> str:
    """The language of a person's messages, newest first: the first one long enough to tell decides."""
    for text in texts[:LOOK_BACK]:
        for language, pattern in markers.items():
            if pattern.search(text):
                return language
        if len(text.split()) >= _TELLING_WORDS:
            return default
    return default
