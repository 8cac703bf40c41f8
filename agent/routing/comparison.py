"""How a shadow's run of a turn differs from the real one.

What is said of it holds nothing that people wrote: names of tools and arguments, counts and shares.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from rapidfuzz import fuzz, utils

from agent.date_mentions import DateMention, find_dates
from agent.long_results import READ
from agent.ports import TurnWork
from agent.routing.same_call import Things, differing
from agent.routing.shadow import Ran
from agent.time_mentions import find_times
from agent.transcript import AssistantMessage, JsonObject
from tools.contract import ToolSpec

# Of a longer text only the beginning is compared.
MAX_TEXT = 4_000
MAX_DIFFERENCES = 20

_NUMBER = re.compile(r"\w*\d(?:[\w.,/-]*\w)?")
_ENUMERATION = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs. `outcome` is completed, waiting, or `failed: ` and a code; `asked` are tools that wait."""

    provider: str
    model: str
    outcome: str
    asked: tuple[str, ...]
    calls: tuple[str, ...]
    model_ms: float
    first_ms: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both runs, and what is the same. Calls are those that models made, not what a yes set off.

    `paired` calls are of the same tool on both sides; of them `paired_same` have the same arguments. `similarity`
    (0 to 1, by words, whatever their order) and `same_facts` (the dates, times and numbers named) are of the texts;
    None where a run failed. `differences` name what differs, fit to be counted.
    """

    real: Side
    shadow: Side
    same_calls: bool
    paired: int
    paired_same: int
    same_outcome: bool
    similarity: float | None
    same_facts: bool | None
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Made:
    """A call that a model made: the tool, and its arguments as written and as they came out of the checks."""

    tool: str
    written: JsonObject
    effective: JsonObject
    was_refused: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What calls are compared by: the tools that both were offered, the names of things, and what is free text."""

    tools: tuple[ToolSpec, ...]
    things: Things
    free_text: Mapping[str, frozenset[str]] = field(default_factory=dict)  # arguments, by tool

    def unlike(self, ours: _Made, theirs: _Made) -> tuple[str, ...]:
        """In what two calls of the same tool differ."""
        spec = next((spec for spec in (*self.tools, READ) if spec.name == ours.tool), None)
        if spec is None:
            return ()
        # A call that was answered as another one has that one's effective arguments, so words are compared as written.
        words = self.free_text.get(spec.name, frozenset())
        names = differing(spec, self.things, [ours.written, ours.effective], [theirs.written, theirs.effective])
        worded = [name for name in differing(spec, self.things, [ours.written], [theirs.written]) if name in words]
        refused = ["(refused)"] if ours.was_refused != theirs.was_refused else []
        return tuple(dict.fromkeys([*names, *worded, *refused]))


def compare(real: Ran, shadow: Ran, known: Known, today: date) -> Comparison:
    """Hold one against the other. Some milliseconds of CPU for long texts."""
    names = {spec.name for spec in (*known.tools, READ)}
    ours, theirs = _made(real.work, names), _made(shadow.work, names)
    unpaired = _unpaired(ours, theirs)
    unlike = _paired(ours, theirs, known)
    same_outcome = _outcome(real) == _outcome(shadow) and _asked(real.work) == _asked(shadow.work)
    similarity = same_facts = None
    facts: list[str] = []
    if real.status != "failed" and shadow.status != "failed":
        similarity = fuzz.token_sort_ratio(
            real.work.text[:MAX_TEXT], shadow.work.text[:MAX_TEXT], processor=utils.default_process
        )
        facts = _unlike_facts(real.work.text[:MAX_TEXT], shadow.work.text[:MAX_TEXT], today)
        same_facts = not facts
    differences = [*unpaired, *(f"{tool}.{name}" for tool, names in unlike for name in names), *facts]
    if not same_outcome:
        differences.append(f"{_ended(real)} -> {_ended(shadow)}")
    return Comparison(
        real=_side(real, ours),
        shadow=_side(shadow, theirs),
        same_calls=not unpaired,
        paired=len(unlike),
        paired_same=sum(not names for _, names in unlike),
        same_outcome=same_outcome,
        similarity=None if similarity is None else round(similarity / 100, 4),
        same_facts=same_facts,
        differences=tuple(dict.fromkeys(differences))[:MAX_DIFFERENCES],
    )


# --- calls


def _made(work: TurnWork, names: set[str]) -> list[_Made]:
    """The calls that models made. A name that is no tool's may be anything, and is not repeated."""
    calls = {c.id: c for m in work.messages if isinstance(m, AssistantMessage) for c in m.tool_calls}
    return [
        _Made(
            record.tool if record.tool in names else "(unknown tool)",
            calls[record.call_id].args,
            record.args,
            record.status == "refused",
        )
        for record in work.calls
        if not calls[record.call_id].by_runtime
    ]


def _unpaired(ours: list[_Made], theirs: list[_Made]) -> list[str]:
    """Calls that only one side made; the same ones in another order."""
    our, their = [made.tool for made in ours], [made.tool for made in theirs]
    if our == their:
        return []
    missing, extra = Counter(our) - Counter(their), Counter(their) - Counter(our)
    found = [*(f"not called: {tool}" for tool in missing), *(f"also called: {tool}" for tool in extra)]
    return found or ["calls in another order"]


def _paired(ours: list[_Made], theirs: list[_Made], known: Known) -> list[tuple[str, tuple[str, ...]]]:
    """What each call and one of the same tool on the other side differ in; those that differ in nothing go first."""
    pairs: list[tuple[str, tuple[str, ...]]] = []
    left, unmatched = list(theirs), []
    for call in ours:
        same = next((each for each in left if each.tool == call.tool and not known.unlike(call, each)), None)
        if same is None:
            unmatched.append(call)
        else:
            left.remove(same)
            pairs.append((call.tool, ()))
    for call in unmatched:
        other = next((each for each in left if each.tool == call.tool), None)
        if other is not None:
            left.remove(other)
            pairs.append((call.tool, known.unlike(call, other)))
    return pairs


# --- how it ended


def _outcome(ran: Ran) -> str:
    return f"failed: {ran.code}" if ran.status == "failed" else ran.status


def _asked(work: TurnWork) -> list[tuple[str, JsonObject]]:
    return [(pending.tool, pending.args) for pending in work.opened]


def _ended(ran: Ran) -> str:
    asked = ", ".join(tool for tool, _ in _asked(ran.work))
    return f"{_outcome(ran)} ({asked})" if asked else _outcome(ran)


def _side(ran: Ran, made: list[_Made]) -> Side:
    work = ran.work
    return Side(
        provider=work.provider,
        model=work.model,
        outcome=_outcome(ran),
        asked=tuple(tool for tool, _ in _asked(work)),
        calls=tuple(each.tool for each in made),
        model_ms=round(work.model_ms, 2),
        first_ms=None if ran.first_ms is None else round(ran.first_ms, 2),
        input_tokens=work.input_tokens,
        output_tokens=work.output_tokens,
        cost_usd=work.cost_usd,
    )


# --- what it says


def _unlike_facts(one: str, other: str, today: date) -> list[str]:
    kinds = ("dates", "times", "numbers")
    named = zip(kinds, _facts(one, today), _facts(other, today), strict=True)
    return [f"{kind} in the text" for kind, ours, theirs in named if ours != theirs]


def _facts(text: str, today: date) -> tuple[set[object], set[object], set[object]]:
    """The days, the times of day and the other numbers that a text names."""
    text = _ENUMERATION.sub(" ", text)
    dates = [found for found in find_dates(text, today) if isinstance(found, DateMention)]
    times = [found for found in find_times(text) if found.explicit]
    rest = list(text)
    for start, end in [found.span for found in dates] + [found.span for found in times]:
        rest[start:end] = " " * (end - start)
    numbers = {number.replace(",", "").casefold() for number in _NUMBER.findall("".join(rest))}
    return {(found.start, found.end) for found in dates}, {(found.start, found.end) for found in times}, {*numbers}
