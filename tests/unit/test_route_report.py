"""What operators are told of routes, and which of their words are refused."""

from __future__ import annotations

import pytest

from agent.routing.config import ModelsFile, read
from agent.routing.health import Totals
from agent.routing.plan import Candidate, ModelCall
from agent.routing.router import Router
from backend.records.route_decisions import CONFIGURATION, Action, Decision
from backend.routing.control import described
from backend.routing.report import Budget, RouteRefusal, back_s, lines, recorded, word
from backend.sessions.route_statistics import Series
from tests.doubles.scripted_model import scripted

NEW, OLD = Series("default", "canary", "new"), Series("default", "primary", "old")
FILE = read(
    """
    providers:
      old: {kind: ollama, model: a}
      new: {kind: ollama, model: b}
    routes:
      default:
        primary: old
        canary: {to: new, percent: 10, tenants: {keen: 50}, rollback: {cost: 3, samples: 4, window_s: 60}}
      plain: {primary: old, fallbacks: [{to: new, on: [timeout]}], degraded: null}
    """,
    {},
)
Decisions = dict[tuple[str, str], Decision]


def on_record(*decisions: Decision, file: ModelsFile = FILE) -> Decisions:
    provider, _ = scripted([])
    router = Router(file, {name: Candidate(provider) for name in ("old", "new", "offline")}, lambda call: None)
    loaded = Decision(*CONFIGURATION, "configuration", "service", "", described(router), 1)
    return {each.key: each for each in (loaded, *decisions)}


def decision(action: Action, by: str = "budget", age_s: float = 7.0) -> Decision:
    return Decision("default", "new", action, by, "too slow", number=3, age_s=age_s)


def totals(*calls: tuple[float, bool, float]) -> Totals:
    made = Totals()
    for seconds, ok, cost_usd in calls:
        made.add(ModelCall("r", "canary", "p", "m", "ok" if ok else "timeout", seconds, cost_usd=cost_usd))
    return made


def test_a_configuration_is_read_as_it_was_written() -> None:
    """Routes, models, and who is answered by which."""
    found = recorded(on_record())
    assert (found.routes, found.route, found.models) == (FILE.routes, "default", {"old": "a", "new": "b"})
    with pytest.raises(RouteRefusal, match="No service has put its routes on record"):
        recorded({})


def test_a_canary_is_shown_beside_its_primary_and_its_budgets() -> None:
    """Errors as a share, the others as multiples; nothing where nothing is known."""
    counted = {NEW: totals((2.0, True, 0.04), (9.0, False, 0.0)), OLD: totals((1.0, True, 0.01))}
    default, plain = lines(recorded(on_record()), on_record(), counted)
    assert default.order == [("new", "canary"), ("old", "primary"), ("offline", "when no circuit is closed")]
    assert (plain.order, plain.canary) == ([("old", "primary"), ("new", "after timeout")], None)
    canary = default.canary
    assert canary is not None
    assert (canary.percent, canary.tenants, canary.why) == (10, {"keen": 50}, "as the models file says")
    errors, p95, cost = canary.budgets
    assert errors == Budget("errors", 0.5, 0.05)
    assert (p95.name, p95.allowed, cost.name, cost.allowed) == ("p95", 2.0, "cost", 3.0)
    assert p95.measured == pytest.approx(2.0, rel=0.2)
    assert cost.measured == pytest.approx(2.0)
    (unknown, _) = lines(recorded(on_record()), on_record(), {NEW: Totals(), OLD: Totals()})
    assert unknown.canary is not None
    assert [each.measured for each in unknown.canary.budgets] == [None, None, None]
    (blind, _) = lines(recorded(on_record()), on_record(), None)
    assert blind.canary is not None
    assert (blind.canary.arms, blind.canary.budgets) == (None, [])


@pytest.mark.parametrize(
    ("action", "percent", "seconds"),
    [("rolled_back", 0.0, 60.0), ("promoted", 100.0, 7.0), ("reset", 10.0, 7.0)],
)
def test_the_share_and_the_window_follow_the_last_decision(action: Action, percent: float, seconds: float) -> None:
    """After a word that lets a canary go on, only later calls are judged."""
    found = on_record(decision(action))
    canary = lines(recorded(found), found, None)[0].canary
    assert canary is not None
    assert canary.percent == percent
    assert (canary.tenants == {}) == (action != "reset")
    assert ("too slow" in canary.why) == (action != "reset")
    assert back_s(recorded(found), found) == {NEW: seconds, OLD: seconds}


@pytest.mark.parametrize(
    ("action", "last", "said"),
    [
        ("promoted", "promoted", "already"),
        ("rolled_back", "rolled_back", "already, by budget"),
        ("promoted", "rolled_back", "outcrop routes reset default"),
        ("reset", "reset", "Nothing was decided"),
        ("reset", None, "Nothing was decided"),
    ],
)
def test_a_word_that_changes_nothing_is_refused(action: Action, last: Action | None, said: str) -> None:
    """With what to do in its place."""
    found = on_record(*([decision(last)] if last else []))
    with pytest.raises(RouteRefusal, match=said):
        word(action, "default", "kim", "", found)


@pytest.mark.parametrize(
    ("action", "last"),
    [
        ("promoted", None),
        ("promoted", "reset"),
        ("rolled_back", None),
        ("rolled_back", "promoted"),
        ("reset", "rolled_back"),
        ("reset", "promoted"),
    ],
)
def test_other_words_are_based_on_the_last(action: Action, last: Action | None) -> None:
    """So that they are not taken when somebody else was faster."""
    found = on_record(*([decision(last)] if last else []))
    taken, after = word(action, "default", "kim", "I say so", found)
    assert (taken.key, taken.action, taken.by, taken.reason) == (("default", "new"), action, "kim", "I say so")
    assert after == (3 if last else 0)


def test_routes_without_a_canary_have_nothing_to_decide() -> None:
    """And unknown ones are not there."""
    with pytest.raises(RouteRefusal, match="has no canary"):
        word("promoted", "plain", "kim", "", on_record())
    with pytest.raises(RouteRefusal, match="there are default, plain"):
        word("promoted", "nowhere", "kim", "", on_record())
