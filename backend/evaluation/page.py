"""The report as one page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from backend.evaluation.comparison import Disagreement, Results, Runs, by_scenario, disagreements
from backend.evaluation.figures import Figures, figures
from backend.evaluation.plots import colour, cost_against_score, latencies, scores_by_tag
from backend.evaluation.report import rows
from backend.evaluation.run import Outcome
from backend.evaluation.transcript import Commit, ObservedTurn

CSS = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
WORDS = {"passed": "result", "writes": "writes", "calls": "calls"}


def render(results: Results) -> str:
    """The page, as HTML."""
    numbers = {route: figures(outcomes) for route, outcomes in results.items()}
    apart = disagreements(results)
    scenarios = by_scenario(results)
    body = [
        _head(numbers, len(scenarios), len(apart)),
        _glance(numbers),
        _plots(numbers),
        _disagreements(apart) if len(numbers) > 1 else "",
        _scenarios(scenarios, {each.scenario for each in apart}),
    ]
    return document(f"Evaluation: {', '.join(numbers)}", "".join(body))


def document(title: str, body: str) -> str:
    """A whole page around this HTML, in our style."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS.read_text('utf-8')}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(numbers: Mapping[str, Figures], scenarios: int, apart: int) -> str:
    routes = "the route" if len(numbers) == 1 else f"{len(numbers)} routes,"
    differ = "" if len(numbers) == 1 else f" {apart} of the scenarios did not go alike."
    return (
        f"<h1>Evaluation</h1><p class=soft>{scenarios} scenarios on {routes} {escape(', '.join(numbers))}.{differ}</p>"
    )


def _glance(numbers: Mapping[str, Figures]) -> str:
    heads = "".join(f"<th scope=col>{_key(n)}{escape(route)}</th>" for n, route in enumerate(numbers))
    shares = "".join(
        f"<td>{each.score.passed}/{each.score.total} · {each.score.share:.0%}</td>" for each in numbers.values()
    )
    others = "".join(
        f"<tr><th scope=row>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, *values in rows(list(numbers.values()))
    )
    return (
        f"<h2>At a glance</h2><div class='card wide'><table class=numbers><thead><tr><td></td>{heads}</tr></thead>"
        f"<tbody><tr class=first><th scope=row>passed</th>{shares}</tr>{others}</tbody></table></div>"
        "<p class='soft small'>Model calls, tokens and cost are those of turns that did not fail.</p>"
    )


def _plots(numbers: Mapping[str, Figures]) -> str:
    legend = "".join(f"<span>{_key(n)}{escape(route)}</span>" for n, route in enumerate(numbers))
    cards = (
        ("Passed, by tag", scores_by_tag(numbers)),
        ("Time a turn took", latencies(numbers)),
        ("Cost against score", cost_against_score(numbers)),
    )
    first, *rest = (f"<div class=card><h3>{title}</h3>{plot}</div>" for title, plot in cards)
    return (
        f"<h2>Plots</h2><div class=legend>{legend}</div><div class=plots>{first}"
        f"<div class=plots style='grid-template-columns:minmax(0,1fr)'>{''.join(rest)}</div></div>"
    )


def _disagreements(apart: Sequence[Disagreement]) -> str:
    if not apart:
        return "<h2>Disagreements</h2><p class=soft>None: every scenario went alike on all routes.</p>"
    lines = "".join(
        f"<tr><td><a href='#{escape(each.scenario)}'>{escape(each.scenario)}</a></td><td>{escape(each.title)}</td>"
        f"<td>{escape(', '.join(WORDS[kind] for kind in each.kinds))}</td>"
        f"<td>{''.join(_badge(route, passed) for route, passed in each.passed.items())}</td>"
        f"<td>{each.similarity:.0%}</td></tr>"
        for each in apart
    )
    heads = "".join(
        f"<th scope=col>{name}</th>" for name in ("", "scenario", "what differs", "passed", "replies alike")
    )
    return (
        f"<h2>Disagreements</h2><div class='card wide'><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def _scenarios(scenarios: Sequence[Runs], apart: set[str]) -> str:
    choices = (("all", "all"), ("failed", "only failed ones"), ("apart", "only disagreements"))
    filters = "".join(
        f"<label><input type=radio name=only id=only-{key} {'checked' if key == 'all' else ''}> {words}</label>"
        for key, words in choices
    )
    listed = "".join(_scenario(runs, apart) for runs in scenarios)
    return f"<h2>Scenarios</h2><div class=filter>{filters}</div>{listed}"


def _scenario(runs: Runs, apart: set[str]) -> str:
    scenario = next(iter(runs.values())).task.scenario
    failed = not all(outcome.verdict.passed for outcome in runs.values())
    kinds = f"scenario{' failed' if failed else ''}{' apart' if scenario.id in apart else ''}"
    badges = "".join(_badge(route, outcome.verdict.passed) for route, outcome in runs.items())
    tags = "".join(f"<span class='badge plain'>{escape(tag)}</span> " for tag in scenario.tags)
    reasons = "".join(
        _reasons(route if len(runs) > 1 else "", outcome) for route, outcome in runs.items() if outcome.verdict.reasons
    )
    turns = "".join(_turn(number, runs) for number in range(len(scenario.turns)))
    return (
        f"<details class='{kinds}'><summary><b>{escape(scenario.id)}</b>"
        f"<span class=title>{escape(scenario.title)}</span><span>{badges}</span></summary>"
        f"<div class=inside id='{escape(scenario.id)}'>"
        f"<p class='soft small'>as {escape(scenario.persona)} {tags}</p>{reasons}{turns}</div></details>"
    )


def _reasons(route: str, outcome: Outcome) -> str:
    lines = "".join(f"<li>{escape(str(reason))}</li>" for reason in outcome.verdict.reasons)
    return f"<div class='reasons small'><b>{escape(route) or 'Why it failed'}</b><ul>{lines}</ul></div>"


def _turn(number: int, runs: Runs) -> str:
    user = next(iter(runs.values())).task.scenario.turns[number].user
    replies = "".join(
        _reply(position, route if len(runs) > 1 else "", outcome.transcript.turns[number])
        for position, (route, outcome) in enumerate(runs.items())
        if number < len(outcome.transcript.turns)
    )
    return f"<div class=turn><div class=user>{escape(user)}</div><div class=runs>{replies}</div></div>"


def _reply(position: int, route: str, turn: ObservedTurn) -> str:
    facts = [route, turn.specialist, f"{turn.duration_s:.2f} s"]
    if turn.spent.cost_usd:
        facts.append(f"${turn.spent.cost_usd:.5f}")
    calls = "".join(
        f"<div class=call><b>{escape(c.tool)}</b> {_args(c.args)} → {escape(c.status)}</div>" for c in turn.calls
    )
    commits = "".join(f"<div class='call commit'>committed {escape(_commit(commit))}</div>" for commit in turn.commits)
    waits = "".join(
        f"<div class=call>waits for a yes: <b>{escape(pending.tool)}</b> {_args(pending.args)}</div>"
        for pending in turn.fresh_pending
    )
    error = f"<div class=small><span class='badge bad'>failed</span> {escape(turn.error)}</div>" if turn.error else ""
    return (
        f"<div class='run {colour(position)}'><div class='soft small'>{escape(' · '.join(filter(None, facts)))}</div>"
        f"{calls}{commits}{waits}{error}<div class=reply>{escape(turn.text)}</div></div>"
    )


def _commit(commit: Commit) -> str:
    values = (commit.endpoint, commit.project_id, commit.date, commit.time, commit.team, commit.note_text)
    return " ".join(value for value in values if value)


def _args(args: Mapping[str, object]) -> str:
    return escape(_joined(f"{name}={value!r}" for name, value in args.items()))


def _joined(parts: Iterable[str]) -> str:
    return f"({', '.join(parts)})"


def _badge(route: str, passed: bool) -> str:
    mark, kind = ("✓", "good") if passed else ("✗", "bad")
    said = "passed" if passed else "failed"
    return f"<span class='badge {kind}'><span aria-label='{said}'>{mark}</span> {escape(route)}</span> "


def _key(position: int) -> str:
    return f"<span class='key {colour(position)}'></span>"
