"""How the routes stand, for operators: from what the service put on record, and what its replicas counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.routing.config import RollbackBudget, RouteConfig
from agent.routing.health import Totals
from backend.records.route_decisions import CONFIGURATION, Decision
from backend.sessions.route_statistics import Series, watched


class RouteRefusal(Exception):
    """What an operator asked for cannot be done; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What was measured, and what it may be; None where nothing is known yet. `p95` and `cost`: times the primary's."""

    name: str
    measured: float | None
    allowed: float


@dataclass(frozen=True, slots=True)
class CanaryStatus:
    """A canary: its share in percent now, and why. `arms` is None when the counts cannot be read."""

    to: str
    percent: float
    tenants: dict[str, float]
    why: str
    window_s: float
    samples: int
    budgets: list[Budget] = field(default_factory=list)
    arms: dict[str, Totals] | None = None


@dataclass(frozen=True, slots=True)
class RouteLine:
    """A route: who is asked in which order, by name and place, and what model that is."""

    route: str
    order: list[tuple[str, str]]
    canary: CanaryStatus | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The configuration that the service loaded last."""

    digest: str
    loaded_at: datetime | None
    route: str
    routes: dict[str, RouteConfig]
    tenants: dict[str, str]
    models: dict[str, str]


def recorded(decisions: Mapping[tuple[str, str], Decision]) -> Recorded:
    """The configuration on record; `RouteRefusal` when there is none."""
    found = decisions.get(CONFIGURATION)
    if found is None:
        raise RouteRefusal("No service has put its routes on record in this database yet. Start one, then look again.")
    facts = found.facts
    routes = {name: RouteConfig.model_validate(config) for name, config in facts["routes"].items()}
    return Recorded(facts["digest"], found.at, facts["route"], routes, facts["tenants"], facts["models"])


def back_s(config: Recorded, decisions: Mapping[tuple[str, str], Decision]) -> dict[Series, float]:
    """For how many seconds back each arm is judged now: its window, or since the last word on its canary."""
    wanted = watched(config.routes)
    for series in wanted:
        canary = config.routes[series.route].canary
        if canary and (last := decisions.get((series.route, canary.to))) and last.override != "rolled_back":
            wanted[series] = min(wanted[series], last.age_s)
    return wanted


def lines(
    config: Recorded, decisions: Mapping[tuple[str, str], Decision], counted: Mapping[Series, Totals] | None
) -> list[RouteLine]:
    """All routes."""
    return [
        RouteLine(name, _order(route), _canary(name, route, decisions, counted))
        for name, route in config.routes.items()
    ]


def _order(route: RouteConfig) -> list[tuple[str, str]]:
    order = [(route.canary.to, "canary")] if route.canary else []
    order += [(route.primary, "primary"), *((each.to, f"after {', '.join(each.on)}") for each in route.fallbacks)]
    has_planner = any(name == route.degraded for name, _ in order)
    return order if route.degraded is None or has_planner else [*order, (route.degraded, "when no circuit is closed")]


def _canary(
    name: str,
    route: RouteConfig,
    decisions: Mapping[tuple[str, str], Decision],
    counted: Mapping[Series, Totals] | None,
) -> CanaryStatus | None:
    if route.canary is None:
        return None
    canary, rollback = route.canary, route.canary.rollback
    last = decisions.get((name, canary.to))
    percent, tenants, why = canary.percent, canary.tenants, "as the models file says"
    if last is not None and last.override is not None:
        percent, tenants = (0.0 if last.override == "rolled_back" else 100.0), {}
        why = f"{last.action.replace('_', ' ')} by {last.by}{f': {last.reason}' if last.reason else ''}"
    arms = None
    if counted is not None:
        arms = {"canary": counted[Series(name, "canary", canary.to)]}
        arms["primary"] = counted[Series(name, "primary", route.primary)]
    budgets = _budgets(rollback, arms) if arms is not None else []
    return CanaryStatus(canary.to, percent, tenants, why, rollback.window_s, rollback.samples, budgets, arms)


def _budgets(rollback: RollbackBudget, arms: Mapping[str, Totals]) -> list[Budget]:
    canary, primary = arms["canary"], arms["primary"]
    found = [Budget("errors", canary.error_rate if canary.calls else None, rollback.errors)]
    if rollback.p95 is not None:
        found.append(Budget("p95", _times(canary.quantile_s(0.95), primary.quantile_s(0.95)), rollback.p95))
    if rollback.cost is not None:
        found.append(Budget("cost", _times(canary.cost_per_call_usd, primary.cost_per_call_usd), rollback.cost))
    return found


def _times(canary: float, primary: float) -> float | None:
    return canary / primary if canary and primary else None


def word(
    action: str, route: str, by: str, reason: str, decisions: Mapping[tuple[str, str], Decision]
) -> tuple[Decision, int]:
    """An operator's decision about the canary of a route, and the number that it is based on.

    Raises:
        RouteRefusal: there is no such route or no canary, or nothing to do.
    """
    config = recorded(decisions)
    if route not in config.routes:
        raise RouteRefusal(f"There is no route {route!r}; there are {', '.join(config.routes)}.")
    canary = config.routes[route].canary
    if canary is None:
        raise RouteRefusal(f"Route {route!r} has no canary; `routes.{route}.canary` in the models file gives it one.")
    last = decisions.get((route, canary.to))
    override = last.override if last else None
    if action == override and last:
        raise RouteRefusal(f"{canary.to} was {action.replace('_', ' ')} already, by {last.by}: there is nothing to do.")
    if action == "promoted" and override == "rolled_back" and last:
        raise RouteRefusal(
            f"{canary.to} was rolled back by {last.by} ({last.reason or 'no reason given'}). "
            f"Give it its share back first: `outcrop routes reset {route}`."
        )
    if action == "reset" and override is None:
        raise RouteRefusal(f"Nothing was decided about {canary.to}: it has its share as the models file says.")
    return Decision(route, canary.to, action, by, reason), last.number if last else 0  # type: ignore[arg-type]
