"""Where routes went different ways in the same scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations
from typing import Literal

from backend.evaluation.run import Outcome
from backend.evaluation.transcript import Transcript
from backend.evaluation.writes import writes_of

Kind = Literal["passed", "writes", "calls"]
KINDS: tuple[Kind, ...] = ("passed", "writes", "calls")
Results = Mapping[str, Sequence[Outcome]]  # by route; each has the same scenarios in the same order
Runs = Mapping[str, Outcome]  # of one scenario, by route


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A scenario that did not go alike on all routes; values are by route.

    `similarity` is that of the two least similar routes: 1.0 for the same words in each turn. On its own it is no
    disagreement: two models never use the same words.
    """

    scenario: str
    title: str
    kinds: tuple[Kind, ...]
    passed: dict[str, bool]
    writes: dict[str, tuple[str, ...]]
    calls: dict[str, tuple[str, ...]]
    similarity: float


def by_scenario(results: Results) -> list[Runs]:
    """The outcomes of each scenario side by side, in the order of the run."""
    routes = list(results)
    return [dict(zip(routes, runs, strict=True)) for runs in zip(*results.values(), strict=True)]


def disagreements(results: Results) -> list[Disagreement]:
    """What went different ways: first what passed on one route alone, then other writes, then other calls."""
    found = [each for runs in by_scenario(results) if (each := disagreement(runs)) is not None]
    return sorted(found, key=lambda each: KINDS.index(each.kinds[0]))


def disagreement(runs: Runs) -> Disagreement | None:
    """How the routes differ in one scenario; None when they do not."""
    passed = {route: outcome.verdict.passed for route, outcome in runs.items()}
    writes = {route: writes_told(outcome.transcript) for route, outcome in runs.items()}
    calls = {route: calls_told(outcome.transcript) for route, outcome in runs.items()}
    values: dict[Kind, Sequence[object]] = {
        "passed": list(passed.values()),
        "writes": list(writes.values()),
        "calls": list(calls.values()),
    }
    kinds = tuple(kind for kind in KINDS if any(value != values[kind][0] for value in values[kind]))
    if not kinds:
        return None
    scenario = next(iter(runs.values())).task.scenario
    return Disagreement(scenario.id, scenario.title, kinds, passed, writes, calls, least_similar(runs))


def writes_told(transcript: Transcript) -> tuple[str, ...]:
    """What was committed, in order."""
    return tuple(str(write) for write in writes_of(transcript.turns))


def calls_told(transcript: Transcript) -> tuple[str, ...]:
    """What was called, in order, and how it ended."""
    return tuple(
        f"{number}: {call.tool}({_told(call.args)}) {call.status}"
        for number, turn in enumerate(transcript.turns, 1)
        for call in turn.calls
    )


def _told(args: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sorted(args.items()))


def least_similar(runs: Runs) -> float:
    """The similarity of the two routes whose replies are least alike; 1.0 for a single route."""
    pairs = combinations([outcome.transcript for outcome in runs.values()], 2)
    return min((similarity(*pair) for pair in pairs), default=1.0)


def similarity(one: Transcript, other: Transcript) -> float:
    """How alike the replies are, 0 to 1: the words that both say in the same order, as a mean over the turns."""
    turns = max(len(one.turns), len(other.turns))
    shares = [_alike(a.text, b.text) for a, b in zip(one.turns, other.turns, strict=False)]
    return round(sum(shares) / turns, 3) if turns else 1.0


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower().split(), other.lower().split(), autojunk=False).ratio()
