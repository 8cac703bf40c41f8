"""How the pursuit of a wish can end: with a call to make first, something to say, or a write to propose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.planner.frame import Shown, Wish
from agent.transcript import JsonObject


class Needs(Exception):
    """The attempt cannot go on without the result of this call."""

    def __init__(self, tool: str, args: JsonObject) -> None:
        super().__init__(tool)
        self.tool = tool
        self.arguments = args


@dataclass(frozen=True, slots=True)
class Fragment:
    """One piece of the reply, and what it leaves open."""

    text: str
    question: bool = False
    asked: str | None = None
    shown: Shown | None = None
    wish: Wish | None = None
    focus: str | None = None
    answered: str | None = None  # the intent, when it was answered with facts


@dataclass(frozen=True, slots=True)
class Proposal:
    """A call with effects, ready to be made."""

    tool: str
    args: JsonObject
    wish: Wish
    focus: str | None = None
    remark: str = ""


class Instead(Exception):
    """The record's state makes this another intent: who asks for days of a planned visit wants to move it."""

    def __init__(self, intent: str, wish: Wish) -> None:
        super().__init__(intent)
        self.intent = intent
        self.wish = wish


class Each(Exception):
    """The wish is for several records: all that fit."""

    def __init__(self, wishes: Sequence[Wish]) -> None:
        super().__init__()
        self.wishes = tuple(wishes)


class Answered(Exception):
    """The attempt ends here with something to say."""

    def __init__(self, fragment: Fragment) -> None:
        super().__init__(fragment.text)
        self.fragment = fragment
