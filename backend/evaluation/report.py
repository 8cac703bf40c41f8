"""What an evaluation came to: progress, a table by tag, reasons, JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from backend.evaluation.run import Outcome

JsonObject = dict[str, Any]
RULES = tuple(f"D{number}" for number in range(1, 9))
GRAVE = RULES[:7]  # D8, calls and questions, is a matter of taste beside these


def as_json(outcomes: Sequence[Outcome]) -> JsonObject:
    """`{passed, total, wrong_writes, violations: {D1..D8: n}, scenarios: {id: {...}}}`."""
    return {
        "passed": sum(outcome.verdict.passed for outcome in outcomes),
        "total": len(outcomes),
        "wrong_writes": sum(outcome.verdict.wrong_writes for outcome in outcomes),
        "violations": violations(outcomes),
        "scenarios": {outcome.task.scenario.id: _scenario_json(outcome) for outcome in outcomes},
    }


def violations(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How often each of the standing rules was broken."""
    counts = Counter(reason.rule for outcome in outcomes for reason in outcome.verdict.reasons)
    return {rule: counts[rule] for rule in RULES}


def is_good_enough(outcomes: Sequence[Outcome], minimum: float | None) -> bool:
    """Everything passed; with a minimum: that share did, nothing wrong was written, no rule of D1 to D7 broken."""
    passed = sum(outcome.verdict.passed for outcome in outcomes)
    if minimum is None:
        return passed == len(outcomes)
    broken = violations(outcomes)
    clean = not any(broken[rule] for rule in GRAVE) and not any(outcome.verdict.wrong_writes for outcome in outcomes)
    return clean and passed >= minimum * len(outcomes)


def summary(outcomes: Sequence[Outcome]) -> RenderableType:
    """The table by tag and the totals."""
    table = Table(title=None, show_edge=False, pad_edge=False)
    for column in ("tag", "passed", "of", "share"):
        table.add_column(column, justify="left" if column == "tag" else "right")
    tags = sorted({tag for outcome in outcomes for tag in outcome.task.scenario.tags})
    for tag in tags:
        _row(table, tag, [outcome for outcome in outcomes if tag in outcome.task.scenario.tags])
    table.add_section()
    _row(table, "all", outcomes)
    broken = ", ".join(f"{rule} {count}" for rule, count in violations(outcomes).items() if count) or "none"
    wrong = sum(outcome.verdict.wrong_writes for outcome in outcomes)
    return Group(table, "", f"wrong writes: {wrong}    violations: {broken}")


def failures(outcomes: Sequence[Outcome]) -> RenderableType:
    """Each failed scenario with its reasons."""
    lines = []
    for outcome in outcomes:
        if not outcome.verdict.passed:
            scenario = outcome.task.scenario
            lines.append(f"[bold]{escape(scenario.id)}[/bold] {escape(scenario.title)}")
            lines += [f"    {escape(str(reason))}" for reason in outcome.verdict.reasons]
    return Group(*lines)


def print_transcript(console: Console, outcome: Outcome) -> None:
    """The conversation as it went."""
    mark = "[green]passed[/green]" if outcome.verdict.passed else "[red]failed[/red]"
    scenario = outcome.task.scenario
    console.print(f"\n[bold]{escape(scenario.id)}[/bold] {escape(scenario.title)} ({scenario.persona}): {mark}")
    for turn in outcome.transcript.turns:
        console.print(f"  [cyan]user[/cyan]  {escape(turn.user)}")
        for call in turn.calls:
            console.print(f"  [dim]call  {escape(f'{call.tool} {call.args} {call.status}')}[/dim]", soft_wrap=True)
        for commit in turn.commits:
            console.print(f"  [yellow]commit {escape(commit.endpoint)} {escape(commit.project_id)}[/yellow]")
        for pending in turn.pending:
            console.print(f"  [magenta]waits {escape(f'{pending.tool} {pending.args}')}[/magenta]", soft_wrap=True)
        who = turn.error or turn.specialist
        console.print(f"  [green]{escape(who)}[/green]  {escape(turn.text)}")


def _row(table: Table, name: str, outcomes: Sequence[Outcome]) -> None:
    passed = sum(outcome.verdict.passed for outcome in outcomes)
    share = f"{passed / len(outcomes):.0%}" if outcomes else ""
    colour = "green" if passed == len(outcomes) else "red"
    table.add_row(name, f"[{colour}]{passed}[/{colour}]", str(len(outcomes)), share)


def _scenario_json(outcome: Outcome) -> JsonObject:
    return {
        "passed": outcome.verdict.passed,
        "title": outcome.task.scenario.title,
        "tags": list(outcome.task.scenario.tags),
        "persona": outcome.task.scenario.persona,
        "file": outcome.task.file.path,
        "duration_s": round(outcome.duration_s, 3),
        "wrong_writes": outcome.verdict.wrong_writes,
        "reasons": [
            {"rule": reason.rule, "turn": None if reason.turn is None else reason.turn + 1, "text": reason.text}
            for reason in outcome.verdict.reasons
        ],
        "transcript": [
            {
                "user": turn.user,
                "text": turn.text,
                "specialist": turn.specialist,
                "status": turn.status,
                "error": turn.error,
                "tool_calls": [asdict(call) for call in turn.calls],
                "pending_actions": [asdict(pending) for pending in turn.pending],
                "citations": list(turn.citations),
                "commits": [asdict(commit) for commit in turn.commits],
                "duration_s": round(turn.duration_s, 3),
            }
            for turn in outcome.transcript.turns
        ],
    }
