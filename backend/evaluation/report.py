"""What an evaluation came to: tables for the console, reasons, JSON. The page is in `page.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from backend.evaluation.comparison import KINDS, Disagreement, Results, by_scenario, disagreements, least_similar
from backend.evaluation.figures import Figures, Score, figures
from backend.evaluation.run import Outcome
from backend.evaluation.transcript import Pending

JsonObject = dict[str, Any]
FORM = 2  # of the JSON report


def is_good_enough(outcomes: Sequence[Outcome], minimum: float | None) -> bool:
    """Everything passed; with a minimum: that share did, nothing wrong was written, no rule of D1 to D7 broken."""
    found = figures(outcomes)
    if minimum is None:
        return found.score.passed == found.score.total
    return not found.is_unsafe and found.score.passed >= minimum * found.score.total


# --- JSON -----------------------------------------------------------------------------------------------------------


def as_json(results: Results) -> JsonObject:
    """The whole report; `docs/evaluation.md` describes it. Only `duration_s` and `latency_s` differ between replays."""
    numbers = {route: figures(outcomes) for route, outcomes in results.items()}
    rules = next(iter(numbers.values())).violations
    return {
        "form": FORM,
        "passed": sum(each.score.passed for each in numbers.values()),
        "total": sum(each.score.total for each in numbers.values()),
        "wrong_writes": sum(each.wrong_writes for each in numbers.values()),
        "violations": {rule: sum(each.violations[rule] for each in numbers.values()) for rule in rules},
        "routes": {route: _figures_json(each) for route, each in numbers.items()},
        "disagreements": [_disagreement_json(each) for each in disagreements(results)],
        "scenarios": {_first(runs).task.scenario.id: _scenario_json(runs) for runs in by_scenario(results)},
    }


def _figures_json(found: Figures) -> JsonObject:
    return {
        **_score_json(found.score),
        "tags": {tag: _score_json(score) for tag, score in found.by_tag.items()},
        "wrong_writes": found.wrong_writes,
        "violations": found.violations,
        "turns": found.turns,
        "failed_turns": found.failed_turns,
        "tool_calls": found.tool_calls,
        "model_calls": found.model_calls,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "cost_usd": found.cost_usd,
        "latency_s": {"p50": round(found.p50_s, 3), "p95": round(found.p95_s, 3)},
    }


def _score_json(score: Score) -> JsonObject:
    return {"passed": score.passed, "total": score.total, "share": round(score.share, 4)}


def _disagreement_json(found: Disagreement) -> JsonObject:
    body = asdict(found)
    for part in ("kinds", "writes", "calls"):
        body[part] = {key: list(each) for key, each in body[part].items()} if part != "kinds" else list(body[part])
    return body


def _scenario_json(runs: Mapping[str, Outcome]) -> JsonObject:
    task = _first(runs).task
    return {
        "passed": all(outcome.verdict.passed for outcome in runs.values()),
        "title": task.scenario.title,
        "tags": list(task.scenario.tags),
        "persona": task.scenario.persona,
        "file": task.file.path,
        "similarity": least_similar(runs),
        "routes": {route: _run_json(outcome) for route, outcome in runs.items()},
    }


def _run_json(outcome: Outcome) -> JsonObject:
    numbers: dict[str, str] = {}
    return {
        "passed": outcome.verdict.passed,
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
                "pending_actions": [_pending_json(pending, numbers) for pending in turn.pending],
                "citations": list(turn.citations),
                "commits": [asdict(commit) for commit in turn.commits],
                **asdict(turn.spent),
                "duration_s": round(turn.duration_s, 3),
            }
            for turn in outcome.transcript.turns
        ],
    }


def _pending_json(pending: Pending, numbers: dict[str, str]) -> JsonObject:
    """Under the number of its first appearance: ids are made anew in each run."""
    return {**asdict(pending), "pending_id": numbers.setdefault(pending.pending_id, str(len(numbers) + 1))}


def _first(runs: Mapping[str, Outcome]) -> Outcome:
    return next(iter(runs.values()))


# --- console --------------------------------------------------------------------------------------------------------


def summary(results: Results) -> RenderableType:
    """Scores by tag and the figures, a column a route; then where the routes disagree."""
    numbers = {route: figures(outcomes) for route, outcomes in results.items()}
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("tag")
    for route in numbers:
        table.add_column(escape(route), justify="right")
    for tag in sorted({tag for each in numbers.values() for tag in each.by_tag}):
        table.add_row(escape(tag), *(_share(each.by_tag[tag]) for each in numbers.values()))
    table.add_section()
    table.add_row("all", *(_share(each.score) for each in numbers.values()))
    table.add_section()
    for name, *values in rows(list(numbers.values())):
        table.add_row(name, *values)
    return Group(table, *_disagreements(results))


def rows(numbers: Sequence[Figures]) -> Iterator[tuple[str, ...]]:
    """What is compared besides the scores: its name, then a value for each route. Also those of the page."""

    def row(name: str, *values: str) -> tuple[str, ...]:
        return (name, *values)

    yield row("wrong writes", *(str(each.wrong_writes) for each in numbers))
    yield row("violations", *(_broken(each) for each in numbers))
    yield row("failed turns", *(f"{each.failed_turns} of {each.turns}" for each in numbers))
    yield row("tool calls", *(f"{each.tool_calls:,}" for each in numbers))
    yield row("model calls", *(f"{each.model_calls:,}" for each in numbers))
    yield row("tokens in", *(f"{each.input_tokens:,}" for each in numbers))
    yield row("tokens out", *(f"{each.output_tokens:,}" for each in numbers))
    yield row("cost", *(f"${each.cost_usd:.4f}" for each in numbers))
    yield row("p50 a turn", *(f"{each.p50_s:.2f} s" for each in numbers))
    yield row("p95 a turn", *(f"{each.p95_s:.2f} s" for each in numbers))


def failures(results: Results) -> RenderableType:
    """Each failed scenario with its reasons, under the routes on which it failed."""
    lines = []
    for runs in by_scenario(results):
        scenario = _first(runs).task.scenario
        for route, outcome in runs.items():
            if not outcome.verdict.passed:
                where = f" [dim]{escape(route)}[/dim]" if len(results) > 1 else ""
                lines.append(f"[bold]{escape(scenario.id)}[/bold]{where} {escape(scenario.title)}")
                lines += [f"    {escape(str(reason))}" for reason in outcome.verdict.reasons]
    return Group(*lines)


def print_transcript(console: Console, outcome: Outcome, route: str = "") -> None:
    """The conversation as it went."""
    mark = "[green]passed[/green]" if outcome.verdict.passed else "[red]failed[/red]"
    scenario = outcome.task.scenario
    where = f" on {escape(route)}" if route else ""
    console.print(f"\n[bold]{escape(scenario.id)}[/bold] {escape(scenario.title)} ({scenario.persona}){where}: {mark}")
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


def _disagreements(results: Results) -> Iterator[RenderableType]:
    if len(results) < 2:
        return
    found = disagreements(results)
    counts = ", ".join(f"{kind} {sum(kind in each.kinds for each in found)}" for kind in KINDS)
    yield f"\ndisagreements: {len(found)} of {len(by_scenario(results))} scenarios ({counts})"
    for each in found:
        passed = ", ".join(route for route, is_passed in each.passed.items() if is_passed) or "none"
        only = f"passed on {passed}; " if "passed" in each.kinds else ""
        other = ", ".join(kind for kind in each.kinds if kind != "passed")
        differs = f"other {other}; " if other else ""
        yield f"  {escape(each.scenario)}  {escape(only + differs)}replies {each.similarity:.0%} alike"


def _broken(found: Figures) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in found.violations.items() if count) or "none"


def _share(score: Score) -> str:
    colour = "green" if score.passed == score.total else "red"
    return f"[{colour}]{score.passed}[/{colour}]/{score.total} {score.share:>4.0%}"
