"""What this process counts, in the text form of Prometheus. Labels come from the configuration, never from a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.routing.plan import ModelCall
from agent.routing.router import RouteStatus
from tools.breaker import Snapshot

MEDIA_TYPE = CONTENT_TYPE_LATEST
CALL = ("route", "arm", "provider", "model")
CALL_S = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
FIRST_TOKEN_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12)
BREAKER_STATES = {"closed": 0, "half-open": 1, "open": 2}


@dataclass(frozen=True, slots=True)
class _OfCalls:
    """What a call of one arm and model counts; looked up once, as that costs more than to count."""

    call_s: Histogram
    first_token_s: Histogram
    input_tokens: Counter
    output_tokens: Counter
    cost_usd: Counter


class Metrics:
    """Counters of one process, and gauges that are read when somebody asks."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], _OfCalls] = {}
        self._registry = registry = CollectorRegistry()
        self._calls = Counter(
            "outcrop_model_calls", "Calls of models; circuit, probe and limit: why nothing was sent.",
            [*CALL, "outcome"], registry=registry,
        )  # fmt: skip
        self._call_s = Histogram(
            "outcrop_model_call_seconds", "Length of answered calls.", CALL, buckets=CALL_S, registry=registry
        )
        self._first_token_s = Histogram(
            "outcrop_model_first_token_seconds", "Until the first useful piece.", CALL, buckets=FIRST_TOKEN_S,
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter("outcrop_model_tokens", "Tokens.", [*CALL, "direction"], registry=registry)
        self._cost_usd = Counter("outcrop_model_cost_usd", "US dollars, by the price file.", CALL, registry=registry)
        self._failovers = Counter(
            "outcrop_model_failovers", "Messages that one provider took over from another.",
            ["route", "provider", "instead_of"], registry=registry,
        )  # fmt: skip
        self._decisions = Counter(
            "outcrop_route_decisions", "What became of canaries, as this process learned it.",
            ["route", "canary", "action", "by"], registry=registry,
        )  # fmt: skip
        self._shadows = Counter(
            "outcrop_shadow_turns", "Turns run again: compared, or why not.", ["route", "provider", "result"],
            registry=registry,
        )  # fmt: skip
        self._turns = Counter("outcrop_turns", "Turns that ended here.", ["state"], registry=registry)
        self._running = Gauge("outcrop_running_turns", "Turns that run now.", registry=registry)
        self._percent = Gauge(
            "outcrop_canary_percent", "Share of conversations, now.", ["route", "canary"], registry=registry
        )
        self._rolled_back = Gauge(
            "outcrop_canary_rolled_back", "1 until an operator resets it.", ["route", "canary"], registry=registry
        )
        self._breakers = Gauge(
            "outcrop_breaker_state", "0 closed, 1 half-open, 2 open.", ["upstream"], registry=registry
        )

    def count(self, call: ModelCall) -> None:
        """Count a finished call of a model."""
        labels = (call.route, call.arm, call.provider, call.model)
        self._calls.labels(*labels, call.refused or call.outcome).inc()
        if call.refused:
            return
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = self._of(labels)
        if call.outcome == "ok":
            found.call_s.observe(call.duration_s)
        if call.first_token_s is not None:
            found.first_token_s.observe(call.first_token_s)
        found.input_tokens.inc(call.input_tokens)
        found.output_tokens.inc(call.output_tokens)
        found.cost_usd.inc(call.cost_usd)
        if call.instead_of and call.instead_of != call.provider:
            self._failovers.labels(call.route, call.provider, call.instead_of).inc()

    def _of(self, labels: tuple[str, ...]) -> _OfCalls:
        return _OfCalls(
            self._call_s.labels(*labels),
            self._first_token_s.labels(*labels),
            self._tokens.labels(*labels, "input"),
            self._tokens.labels(*labels, "output"),
            self._cost_usd.labels(*labels),
        )

    def decided(self, route: str, canary: str, action: str, by: Literal["budget", "service", "operator"]) -> None:
        """Count a decision about a canary."""
        self._decisions.labels(route, canary, action, by).inc()

    def shadowed(self, route: str, provider: str, result: str) -> None:
        """Count a turn that was to be run again; `result` is `compared`, or why it was left out."""
        self._shadows.labels(route, provider, result).inc()

    def turn_ended(self, state: str) -> None:
        """Count a turn; `state` as it is stored."""
        self._turns.labels(state).inc()

    def render(self, running_turns: int, breakers: Mapping[str, Snapshot], routes: Iterable[RouteStatus]) -> bytes:
        """All of it, with the gauges as given; of `MEDIA_TYPE`."""
        self._running.set(running_turns)
        for gauge in (self._breakers, self._percent, self._rolled_back):
            gauge.clear()
        for upstream, snapshot in breakers.items():
            self._breakers.labels(upstream).set(BREAKER_STATES[snapshot.state])
        for route in routes:
            if canary := route.config.canary:
                self._percent.labels(route.name, canary.to).set(route.canary_percent)
                self._rolled_back.labels(route.name, canary.to).set(route.override == "rolled_back")
        return generate_latest(self._registry)
