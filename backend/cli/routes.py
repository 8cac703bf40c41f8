"""`outcrop routes …`: who answers, how canaries do, and an operator's word on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.database import with_database
from backend.cli.terminal import at, operator_name, print_table, shown

if TYPE_CHECKING:
    from agent.routing.health import Totals
    from backend.records.database import Database
    from backend.records.route_decisions import Action, Decision
    from backend.routing.report import Budget, CanaryStatus, Recorded, RouteLine
    from backend.sessions.route_statistics import Series
    from backend.settings import Settings

LONGEST_REASON = 2000
LAST_DECISIONS = 8
ATTEMPTS = 3
HEADS = ("WHEN (UTC)", "ROUTE", "CANARY", "DECISION", "BY", "REASON")

app = typer.Typer(
    help="The routes of the running service: who answers, how canaries do, and your word on them.",
    no_args_is_help=True,
)
Json = Annotated[bool, typer.Option("--json", help="JSON in place of text")]
Route = Annotated[str, typer.Argument(metavar="ROUTE", help="a route of the models file")]
Reason = Annotated[str, typer.Option(help="why; kept with the decision")]
By = Annotated[str | None, typer.Option(help="your name for the record; the user of this shell without it")]
Work = Callable[["Database", "Settings"], Awaitable[int]]


@app.command()
def status(as_json: Json = False) -> None:
    """Show all routes: their order, canaries with their share and numbers, open circuits, the last decisions."""

    async def work(db: Database, settings: Settings) -> int:
        from backend.records import route_decisions
        from backend.routing import report

        decisions = await route_decisions.latest(db, settings.tenant)
        config = report.recorded(decisions)
        counted, breakers = await _counted(settings, report.back_s(config, decisions))
        lines = report.lines(config, decisions, counted)
        last = await route_decisions.since(db, settings.tenant, 10 * 365 * 86_400, LAST_DECISIONS)
        if as_json:
            print(_json(_status(config, lines, breakers, last)))
        else:
            _print_status(config, lines, breakers, last)
        return 0

    _run(work)


@app.command()
def promote(route: Route, reason: Reason = "", by: By = None) -> None:
    """Give a canary every conversation. It stays under its budgets until the models file makes it the primary."""
    _decide("promoted", route, reason, by)


@app.command()
def rollback(route: Route, reason: Reason = "", by: By = None) -> None:
    """Take every conversation from a canary, until somebody resets it."""
    _decide("rolled_back", route, reason, by)


@app.command()
def reset(route: Route, reason: Reason = "", by: By = None) -> None:
    """Forget what was decided about a canary: it has its share again, and begins with a clean slate."""
    _decide("reset", route, reason, by)


@app.command("report")
def report_(
    route: Annotated[str | None, typer.Argument(metavar="ROUTE", help="of this route alone")] = None,
    hours: Annotated[int, typer.Option(min=1, help="how far to look back")] = 168,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many at most, newest first")] = 200,
    as_json: Json = False,
) -> None:
    """Show what was decided about routes, by whom, and on which numbers, newest first; and what shadows came to."""

    async def work(db: Database, settings: Settings) -> int:
        from backend.cli.shadow_report import written
        from backend.records import route_decisions, shadow_turns

        decided = await route_decisions.since(db, settings.tenant, hours * 3600, limit)
        found = [each for each in decided if route in (None, each.route)]
        shadows = await shadow_turns.report(db, settings.tenant, hours, route)
        if as_json:
            print(_json({"decisions": [_plain(each) for each in found], **asdict(shadows)}))
            return 0
        if found:
            print_table(HEADS, [_row(each) for each in found])
        else:
            print(f"Nothing was decided in the last {hours} h.")
        if shadows.shadows:
            print(f"\n{written(shadows)}")
        return 0

    _run(work)


def _run(work: Work) -> None:
    """Do some work with the database, and exit; a refusal is said in a line."""
    from backend.cli.serve import complain
    from backend.routing.report import RouteRefusal

    async def politely(db: Database, settings: Settings) -> int:
        try:
            return await work(db, settings)
        except RouteRefusal as error:
            return complain(str(error))

    sys.exit(with_database(politely))


def _decide(action: Action, route: str, reason: str, by: str | None) -> None:
    name = operator_name(by)
    reason = shown(reason.strip())
    if len(reason) > LONGEST_REASON:
        raise typer.BadParameter(f"--reason takes {LONGEST_REASON} characters at most.")

    async def work(db: Database, settings: Settings) -> int:
        from backend.records import route_decisions
        from backend.routing import report

        for _ in range(ATTEMPTS):
            found = await route_decisions.latest(db, settings.tenant)
            decision, after = report.word(action, route, name, reason, found)
            if await route_decisions.record(db, settings.tenant, decision, after=after):
                print(_told(decision))
                return 0
        raise report.RouteRefusal("It keeps changing at this moment; look at `outcrop routes status`.")

    _run(work)


def _told(decision: Decision) -> str:
    route, canary = decision.route, decision.canary
    match decision.action:
        case "promoted":
            return (
                f"Every conversation of route {route} goes to {canary}, within two seconds on all replicas.\n"
                f"To make it permanent, set `routes.{route}.primary: {canary}` in models.yaml, "
                f"and take out `routes.{route}.canary`."
            )
        case "rolled_back":
            return (
                f"No conversation of route {route} goes to {canary} any more, within two seconds on all replicas.\n"
                f"`outcrop routes reset {route}` gives it its share back."
            )
    return f"{canary} has its share of route {route} again, as the models file says, and begins with a clean slate."


async def _counted(
    settings: Settings, back_s: dict[Series, float]
) -> tuple[dict[Series, Totals] | None, list[str] | None]:
    """What was counted, and which circuits are open; None without Redis."""
    from backend.embedded.stores import known_redis_url
    from backend.sessions.breakers import not_closed
    from backend.sessions.route_statistics import on_record
    from backend.sessions.store import LOST

    url = settings.redis_url or known_redis_url(settings.outcrop_data_dir)
    if url is None:
        return None, None
    try:
        return await on_record(url, settings.tenant, back_s), await not_closed(url, settings.tenant)
    except LOST:
        return None, None


# --- as JSON --------------------------------------------------------------------------------------------------------


def _status(
    config: Recorded, lines: Sequence[RouteLine], breakers: list[str] | None, last: Sequence[Decision]
) -> dict[str, Any]:
    return {
        "configuration": {"digest": config.digest, "loaded_at": config.loaded_at},
        "route": config.route,
        "tenants": config.tenants,
        "models": config.models,
        "routes": [_plain_line(line) for line in lines],
        "breakers_not_closed": breakers,
        "decisions": [_plain(each) for each in last],
    }


def _plain_line(line: RouteLine) -> dict[str, Any]:
    from backend.routing.control import summary

    plain = asdict(line)
    plain["order"] = [{"provider": name, "place": place} for name, place in line.order]
    if line.canary and line.canary.arms is not None:
        plain["canary"]["arms"] = {arm: summary(totals) for arm, totals in line.canary.arms.items()}
    return plain


def _plain(decision: Decision) -> dict[str, Any]:
    return {key: value for key, value in asdict(decision).items() if key != "age_s"}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str)


# --- as text --------------------------------------------------------------------------------------------------------


def _print_status(
    config: Recorded, lines: Sequence[RouteLine], breakers: list[str] | None, last: Sequence[Decision]
) -> None:
    print(f"Configuration {config.digest}, loaded {at(config.loaded_at)} UTC")
    for line in lines:
        whose = [tenant for tenant, route in config.tenants.items() if route == line.route]
        whose = ["everybody else" if config.tenants else "everybody"] * (line.route == config.route) + whose
        print(f"\n{line.route}" + (f" (answers {shown(', '.join(whose))})" if whose else ""))
        print("  order    " + ", ".join(f"{name} ({place})" for name, place in line.order))
        if line.canary:
            _print_canary(line.canary)
    if breakers is None:
        print("\nRedis cannot be reached: no numbers, and nothing is known of circuits.")
    else:
        print(f"\nCircuits that are not closed: {', '.join(breakers) or 'none'}")
    if last:
        print()
        print_table(HEADS, [_row(each) for each in last])


def _print_canary(canary: CanaryStatus) -> None:
    print(f"  canary   {canary.to}: {canary.percent:g} %, {shown(canary.why)}")
    for tenant, percent in canary.tenants.items():
        print(f"           {shown(tenant)}: {percent:g} %")
    for arm, totals in (canary.arms or {}).items():
        print(
            f"  {arm:<8} {totals.calls} calls in at most {canary.window_s:g} s, {totals.errors} errors, "
            f"p95 {totals.quantile_s(0.95):.2f} s, {totals.cost_per_call_usd:.6f} USD a call"
        )
    if canary.arms is not None:
        budgets = "; ".join(_budget(each) for each in canary.budgets)
        print(f"  budgets  {budgets}; judged from {canary.samples} calls on")


def _budget(budget: Budget) -> str:
    if budget.name == "errors":
        return f"errors {_percent(budget.measured)} of {_percent(budget.allowed)}"
    measured = "nothing" if budget.measured is None else f"{budget.measured:.2f} times"
    return f"{budget.name} {measured} of {budget.allowed:g} times the primary's"


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.4g} %"


def _row(decision: Decision) -> tuple[str, ...]:
    return (
        at(decision.at),
        decision.route,
        decision.canary,
        decision.action.replace("_", " "),
        decision.by,
        decision.reason or decision.facts.get("digest", ""),
    )
