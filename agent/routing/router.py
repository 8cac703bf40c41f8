"""Which plan a turn gets: pure, made once for a configuration, some microseconds a turn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from agent.routing.config import OFFLINE, Canary, ModelsFile, RouteConfig, Shadow, takes_over
from agent.routing.plan import ANY, Arm, Candidate, ErrorClass, ModelCall, Plan, Purse

NO_ROUTE = "-"  # stands for the route of a call that was asked of a provider by name
Override = Literal["rolled_back", "promoted"]


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """A route as it stands: who would be asked, in order, and the share of its canary in percent."""

    name: str
    config: RouteConfig
    canary_percent: float
    override: Override | None


@dataclass(frozen=True, slots=True)
class Shadowed:
    """Whoever is to run the turns of a route again."""

    route: str
    config: Shadow
    candidate: Candidate


class Router:
    """The routes of one configuration. Overrides say what became of canaries: (route, canary) -> how it ended."""

    def __init__(
        self, models: ModelsFile, ready: Mapping[str, Candidate], observe: Callable[[ModelCall], None], route: str = ""
    ) -> None:
        """`ready` holds a candidate for every provider of the file and for `offline`; `route` overrides the file's."""
        self.models = models
        self._default = route or models.route
        self._observe = observe
        self._ready = ready
        self._overrides: dict[tuple[str, str], Override] = {}
        self._plans = {
            (name, arm): self._plan(name, config, arm, ready)
            for name, config in models.routes.items()
            for arm in ("primary", "canary")
            if arm == "primary" or config.canary
        }
        self._shadows = {
            name: Shadowed(name, config.shadow, ready[config.shadow.to])
            for name, config in models.routes.items()
            if config.shadow
        }

    def plan(self, tenant: str, conversation_id: UUID, purse: Purse | None = None) -> Plan:
        """Who answers in this conversation; the same again for its next turn, unless the canary came to an end."""
        return self.plan_of(self.route_of(tenant), tenant, conversation_id, purse)

    def plan_of(self, name: str, tenant: str, conversation_id: UUID, purse: Purse | None = None) -> Plan:
        """The same of a route that is named."""
        canary = self.models.routes[name].canary
        arm = "primary"
        if canary is not None:
            percent = self._percent(name, canary, tenant)
            if percent > 0 and share_of(f"{name}/{canary.to}", conversation_id) < percent:
                arm = "canary"
        plan = self._plans[name, arm]
        return replace(plan, purse=purse) if purse is not None else plan

    def alone(self, provider: str, purse: Purse | None = None) -> Plan:
        """Nobody but this provider, or the planner; counted apart from the routes."""
        return Plan((self._ready[provider],), NO_ROUTE, None, purse, self._observe)

    def shadow(self, tenant: str, turn_id: UUID) -> Shadowed | None:
        """Who runs this turn again, if it is among those of its route that are."""
        shadowed = self._shadows.get(self.models.tenants.get(tenant, self._default))
        if shadowed is None or share_of(f"shadow/{shadowed.config.to}", turn_id) >= shadowed.config.percent:
            return None
        return shadowed

    def override(self, overrides: Mapping[tuple[str, str], Override]) -> None:
        """Take over what was decided."""
        self._overrides = dict(overrides)

    def route_of(self, tenant: str) -> str:
        """The route that answers this tenant."""
        return self.models.tenants.get(tenant, self._default)

    def status(self) -> list[RouteStatus]:
        """All routes."""
        return [
            RouteStatus(
                name,
                config,
                self._percent(name, config.canary, "") if config.canary else 0.0,
                self._overrides.get((name, config.canary.to)) if config.canary else None,
            )
            for name, config in self.models.routes.items()
        ]

    def _percent(self, route: str, canary: Canary, tenant: str) -> float:
        match self._overrides.get((route, canary.to)):
            case "rolled_back":
                return 0.0
            case "promoted":
                return 100.0
        return canary.tenants.get(tenant, canary.percent)

    def _plan(self, name: str, config: RouteConfig, arm: str, ready: Mapping[str, Candidate]) -> Plan:
        candidates: list[Candidate] = []

        def add(provider: str, as_arm: Arm, classes: frozenset[ErrorClass]) -> None:
            if all(candidate.provider.name != provider for candidate in candidates):
                candidates.append(replace(ready[provider], arm=as_arm, takes_over=classes))

        if arm == "canary" and config.canary:
            # Whatever is wrong with a canary, the person in front of it is answered by the primary.
            add(config.canary.to, "canary", ANY)
        add(config.primary, "primary", ANY)
        for fallback in config.fallbacks:
            add(fallback.to, "fallback", takes_over(fallback))
        degraded = replace(ready[OFFLINE], arm="degraded") if config.degraded and config.primary != OFFLINE else None
        return Plan(tuple(candidates), name, degraded, None, self._observe)


def share_of(experiment: str, of: UUID) -> float:
    """Where in 0 to 100 a conversation or turn stands in an experiment: the same everywhere, independent of others."""
    digest = hashlib.blake2b(experiment.encode() + of.bytes, digest_size=4).digest()
    return int.from_bytes(digest) / 2**32 * 100
