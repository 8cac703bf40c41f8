"""What a run came to in numbers, for one route."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.evaluation.run import Outcome

RULES = tuple(f"D{number}" for number in range(1, 9))
GRAVE = RULES[:7]  # D8, calls and questions, is a matter of taste beside these


@dataclass(frozen=True, slots=True)
class Score:
    """So many of so many scenarios passed."""

    passed: int
    total: int

    @property
    def share(self) -> float:
        """0 to 1; of nothing, all passed."""
        return self.passed / self.total if self.total else 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One route. Times are seconds a turn, as the client saw them; costs are US dollars."""

    score: Score
    by_tag: dict[str, Score]  # in alphabetical order
    wrong_writes: int
    violations: dict[str, int]  # of D1 to D8
    turns: int
    failed_turns: int
    tool_calls: int
    model_calls: int  # like tokens and cost: of turns that did not fail
    input_tokens: int
    output_tokens: int
    cost_usd: float
    latencies_s: tuple[float, ...]  # ascending
    is_unsafe: bool  # something wrong was written, or a rule of D1 to D7 broken

    @property
    def p50_s(self) -> float:
        """Half of the turns took no longer."""
        return percentile(self.latencies_s, 50)

    @property
    def p95_s(self) -> float:
        """Of twenty turns, nineteen took no longer."""
        return percentile(self.latencies_s, 95)


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """Count one route's outcomes."""
    turns = [turn for outcome in outcomes for turn in outcome.transcript.turns]
    tags = sorted({tag for outcome in outcomes for tag in outcome.task.scenario.tags})
    broken = violations(outcomes)
    wrong_writes = sum(outcome.verdict.wrong_writes for outcome in outcomes)
    return Figures(
        score=score(outcomes),
        by_tag={tag: score([each for each in outcomes if tag in each.task.scenario.tags]) for tag in tags},
        wrong_writes=wrong_writes,
        violations=broken,
        turns=len(turns),
        failed_turns=sum(turn.error is not None for turn in turns),
        tool_calls=sum(len(turn.calls) for turn in turns),
        model_calls=sum(turn.spent.model_calls for turn in turns),
        input_tokens=sum(turn.spent.input_tokens for turn in turns),
        output_tokens=sum(turn.spent.output_tokens for turn in turns),
        cost_usd=round(math.fsum(turn.spent.cost_usd for turn in turns), 6),
        latencies_s=tuple(sorted(turn.duration_s for turn in turns)),
        is_unsafe=wrong_writes > 0 or any(broken[rule] for rule in GRAVE),
    )


def score(outcomes: Sequence[Outcome]) -> Score:
    """How many passed."""
    return Score(sum(outcome.verdict.passed for outcome in outcomes), len(outcomes))


def violations(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How often each of the standing rules was broken."""
    counts = Counter(reason.rule for outcome in outcomes for reason in outcome.verdict.reasons)
    return {rule: counts[rule] for rule in RULES}


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the least value that so many percent do not exceed. 0.0 of nothing."""
    if not ascending:
        return 0.0
    return ascending[max(0, math.ceil(percent / 100 * len(ascending)) - 1)]
