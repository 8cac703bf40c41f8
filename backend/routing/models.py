"""The models of this process: made from their description, and made anew when it changes.

A description with faults changes nothing: they are logged, shown to operators, and the running one stays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

import structlog

from agent.definition import AgentDefinition
from agent.ports import TurnInput
from agent.providers import kinds
from agent.providers.base import Provider, Where
from agent.routing.config import OFFLINE, Budgets, ModelsError, ModelsFile, ProviderEntry
from agent.routing.plan import Candidate, Gate, ModelCall, Plan, Purse
from agent.routing.router import Router, Shadowed
from backend.routing.models_file import Described, describe, located, looked_at
from backend.settings import Settings, SettingsError
from tools.breaker import Breaker

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
BREAKER_FAILURES, BREAKER_RESET_S = 5, 5.0
SHADOWS_SHARE = 0.8  # of each budget; when so much of it is spent, no more shadows are run


class Payer(Protocol):
    """Out of whose budget a call is paid: a turn, a principal."""

    @property
    def tenant(self) -> str:
        """The tenant."""
        ...

    @property
    def subject(self) -> str:
        """The person."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What candidates are made with, besides their providers."""

    make_breaker: Callable[[str, int, float], Breaker]
    make_gate: Callable[[str, ProviderEntry], Gate | None] = lambda _, __: None
    purse_of: Callable[[ModelsFile, Payer], Purse | None] = lambda _, __: None
    observe: Callable[[ModelCall], None] = lambda _: None
    on_router: Callable[[Router], None] = lambda _: None  # before a new router answers its first turn
    wrap: Callable[[Provider], Provider] = lambda provider: provider


@dataclass(frozen=True, slots=True)
class Shadowing:
    """Who runs a turn again, and what that may cost."""

    by: Shadowed
    purse: Purse | None


class Models:
    """Makes and keeps providers; `plan` says who answers a turn. `start`, then `close`."""

    def __init__(self, settings: Settings, definition: AgentDefinition, around: Surroundings) -> None:
        """Reads the description; `SettingsError` when it cannot be used."""
        self._settings = settings
        self._around = around
        self._longest_turn_s = definition.file.limits.deadline_s
        self._breakers: dict[str, Breaker] = {}
        self._made: dict[str, tuple[ProviderEntry, Candidate]] = {}
        self._left: list[tuple[float, Provider]] = []  # replaced ones, with the time when no turn can need them
        self._watch: asyncio.Task[None] | None = None
        self._offline = Candidate(self._around.wrap(_planner(definition)))
        self.faults: list[tuple[str, str]] = []  # of the description as it lies there now; the running one has none
        self.described = describe(settings)
        self.router = self._build(self.described)

    def plan(self, turn: TurnInput) -> Plan:
        """Who answers this turn."""
        purse = self._around.purse_of(self.router.models, turn)
        return self.router.plan(turn.tenant, turn.conversation_id, purse)

    def named(self, name: str, payer: Payer, key: UUID) -> Plan | None:
        """Who answers when somebody names a model: a route, or a provider by its name or its model's; None: nobody.

        `key` says whether a canary of that route answers. A managed agent answers nobody but its own conversations.
        """
        purse, router = self._around.purse_of(self.router.models, payer), self.router
        if name in router.models.routes:
            plan = router.plan_of(name, payer.tenant, key, purse)
        elif (provider := self._called(name)) is not None:
            plan = router.alone(provider, purse)
        else:
            return None
        able = tuple(each for each in plan.candidates if not each.provider.capabilities.managed)
        return replace(plan, candidates=able) if able else None

    @property
    def names(self) -> list[str]:
        """What `named` knows."""
        models = self.router.models
        providers = [name for name, (_, made) in self._made.items() if not made.provider.capabilities.managed]
        known = [*models.routes, *providers, *(models.providers[name].model for name in providers), OFFLINE]
        return list(dict.fromkeys(known))

    def _called(self, name: str) -> str | None:
        by_model = {entry.model: provider for provider, entry in reversed(self.router.models.providers.items())}
        return name if name == OFFLINE or name in self.router.models.providers else by_model.get(name)

    def shadow(self, turn: TurnInput) -> Shadowing | None:
        """Who runs this turn again, if anybody, and out of what: the last of a budget is left to turns of people."""
        found = self.router.shadow(turn.tenant, turn.turn_id)
        if found is None:
            return None
        models = self.router.models
        usual = models.budgets.model_dump()
        budgets = Budgets(**{name: usd and usd * SHADOWS_SHARE for name, usd in usual.items()})
        return Shadowing(found, self._around.purse_of(models.model_copy(update={"budgets": budgets}), turn))

    @property
    def primary(self) -> Provider:
        """Who answers most turns."""
        router = self.router
        return self._candidate(router.models.routes[router.route_of(self._settings.tenant)].primary).provider

    @property
    def answered_by(self) -> str:
        """Which brain answers most turns, for people."""
        provider = self.primary
        if provider.name == OFFLINE:
            return "the offline planner (not a language model; LLM_PROVIDER chooses one)"
        return f"{provider.model} ({provider.name})"

    def providers(self) -> dict[str, Candidate]:
        """All configured ones, by name."""
        return {name: candidate for name, (_, candidate) in self._made.items()}

    def start(self) -> None:
        """Look for a changed description from now on."""
        if self._settings.models_file is not None:
            self._watch = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Stop looking, and close every provider."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        everybody = [*(made.provider for _, made in self._made.values()), *(provider for _, provider in self._left)]
        for provider in (*everybody, self._offline.provider):
            await provider.wire.close()

    async def _look(self) -> None:
        """For as long as the process lives."""
        seen = looked_at(self._settings)
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                now = await asyncio.to_thread(looked_at, self._settings)
                if now != seen:
                    seen = now
                    self.reload(await asyncio.to_thread(self._described))
                await self._close_left()
            except Exception as error:  # outermost loop: one odd file must not end the look-out for the next one
                log.exception("models_look_stumbled")
                self.faults = [("MODELS_FILE", f"cannot be used: {type(error).__name__}; the log has the details")]

    def _described(self) -> Described | SettingsError:
        """The description as it is now, or why it is none."""
        try:
            return describe(self._settings)
        except SettingsError as error:
            return error

    def reload(self, described: Described | SettingsError) -> bool:
        """Take over a description; False when it says nothing new, or cannot be used."""
        try:
            if isinstance(described, SettingsError):
                raise described
            if described.digest == self.described.digest:
                self.faults = []
                return False
            router = self._build(described)
        except SettingsError as error:
            if error.problems != self.faults:
                log.error("models_not_reloaded", problems=[f"{place}: {what}" for place, what in error.problems])
            self.faults = error.problems
            return False
        self.described, self.router, self.faults = described, router, []
        log.info("models_reloaded", digest=described.digest, routes=list(described.models.routes))
        return True

    def _build(self, described: Described) -> Router:
        """Providers whose entry is new or changed are made; the others go on with what they know."""
        made, problems = dict(self._made), []
        for name, entry in described.models.providers.items():
            known = made.get(name)
            if known is None or known[0] != entry:
                try:
                    made[name] = (entry, self._make(name, entry, described.environ))
                except ModelsError as error:
                    problems += error.problems
        if problems:
            raise located(self._settings.models_file, ModelsError(problems))
        for name in set(made) - set(described.models.providers):
            del made[name]
        kept = {id(candidate) for _, candidate in made.values()}
        until = time.monotonic() + self._longest_turn_s
        self._left += [(until, old.provider) for _, old in self._made.values() if id(old) not in kept]
        self._made = made
        prices = described.prices
        ready = {name: replace(candidate, price=prices.of(entry)) for name, (entry, candidate) in made.items()}
        route = self._settings.model_route or ""
        router = Router(described.models, {**ready, OFFLINE: self._offline}, self._around.observe, route)
        self._around.on_router(router)
        return router

    def _make(self, name: str, entry: ProviderEntry, environ: Mapping[str, str]) -> Candidate:
        where = None if self._settings.models_file else Where()
        provider = self._around.wrap(kinds.make(name, entry, environ, where))
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = self._around.make_breaker(f"model:{name}", BREAKER_FAILURES, BREAKER_RESET_S)
            self._breakers[name] = breaker
        gate = self._around.make_gate(name, entry)
        return Candidate(provider, breaker=breaker, gate=gate, first_token_s=entry.timeouts.first_token_s)

    def _candidate(self, name: str) -> Candidate:
        return self._made[name][1] if name in self._made else self._offline

    async def _close_left(self) -> None:
        due = [provider for until, provider in self._left if until <= time.monotonic()]
        self._left = [(until, provider) for until, provider in self._left if provider not in due]
        for provider in due:
            await provider.wire.close()


def _planner(definition: AgentDefinition) -> Provider:
    from agent.planner import offline

    return offline(definition)
