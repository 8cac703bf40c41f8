"""Which plan a conversation gets: always the same, in the right order, obedient to what was decided."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.routing.config import ModelsFile, read
from agent.routing.plan import ANY, Candidate, Plan
from agent.routing.router import Router, share_of
from tests.doubles.scripted_model import scripted

FILE = read(
    """
providers:
  old: {kind: ollama, model: a}
  new: {kind: ollama, model: b}
  spare: {kind: ollama, model: c}
routes:
  default:
    primary: old
    fallbacks: [{to: spare, on: [timeout]}]
    canary: {to: new, percent: 25, tenants: {keen: 100, shy: 0}}
  plain: {primary: spare, fallbacks: [{to: spare}], degraded: null}
  planned: {primary: offline}
tenants: {other: plain}
""",
    {},
)
CANARY = ("default", "new")


def models(percent: float) -> ModelsFile:
    default = FILE.routes["default"]
    assert default.canary
    changed = default.model_copy(update={"canary": default.canary.model_copy(update={"percent": percent})})
    return FILE.model_copy(update={"routes": {**FILE.routes, "default": changed}})


def router(percent: float = 25, route: str = "") -> Router:
    provider, _ = scripted([])
    ready = {name: Candidate(replace(provider, name=name)) for name in ("old", "new", "spare", "offline")}
    return Router(models(percent), ready, lambda call: None, route)


def arms(plan: Plan) -> list[tuple[str, str]]:
    return [(candidate.provider.name, candidate.arm) for candidate in plan.candidates]


@given(st.uuids(), st.floats(0, 100))
def test_a_conversation_stays_where_it_began(conversation_id: UUID, percent: float) -> None:
    """Turn after turn, and on every replica."""
    one, other = router(percent), router(percent)
    assert one.plan("acme", conversation_id).in_canary == other.plan("acme", conversation_id).in_canary
    assert arms(one.plan("acme", conversation_id)) == arms(one.plan("acme", conversation_id))


@given(st.uuids(), st.floats(0, 100), st.floats(0, 100))
def test_a_greater_share_takes_nobody_out_of_the_canary(conversation_id: UUID, one: float, other: float) -> None:
    """Whoever is in at the smaller share is in at the greater one."""
    less, more = sorted((one, other))
    if router(less).plan("acme", conversation_id).in_canary:
        assert router(more).plan("acme", conversation_id).in_canary


def test_the_share_is_the_share_and_experiments_are_independent() -> None:
    """Of 4,000 conversations a quarter; who is in one canary says nothing of another."""
    ids = [UUID(int=n) for n in range(4000)]
    quarter = router(25)
    inside = [each for each in ids if quarter.plan("acme", each).in_canary]
    assert 0.22 < len(inside) / len(ids) < 0.28
    both = [each for each in inside if share_of("default/newer", each) < 25]
    assert 0.20 < len(both) / len(inside) < 0.30


@pytest.mark.parametrize(("percent", "inside"), [(0, False), (100, True)])
def test_none_and_all_are_exact(percent: float, inside: bool) -> None:
    """No conversation in or out by chance."""
    one = router(percent)
    assert {one.plan("acme", uuid4()).in_canary for _ in range(200)} == {inside}


def test_tenants_have_shares_and_routes_of_their_own() -> None:
    """As the file says; a route of a tenant's own has its own canary, or none."""
    one = router(25)
    ids = [uuid4() for _ in range(50)]
    assert all(one.plan("keen", each).in_canary for each in ids)
    assert not any(one.plan("shy", each).in_canary for each in ids)
    assert {one.plan("other", each).route for each in ids} == {"plain"}
    assert (one.route_of("other"), one.route_of("acme")) == ("plain", "default")
    assert router(25, route="planned").route_of("acme") == "planned"
    assert router(25, route="planned").route_of("other") == "plain"


def test_decisions_outweigh_the_file_for_everybody() -> None:
    """Rolled back: nobody, also no tenant with a share of its own. Promoted: all. Reset: as the file says."""
    one = router(25)
    ids = [UUID(int=n) for n in range(200)]
    before = [one.plan("acme", each).in_canary for each in ids]
    one.override({CANARY: "rolled_back"})
    assert not any(one.plan(tenant, each).in_canary for tenant in ("acme", "keen") for each in ids)
    one.override({CANARY: "promoted"})
    assert all(one.plan(tenant, each).in_canary for tenant in ("acme", "shy") for each in ids)
    one.override({("default", "older"): "rolled_back", ("plain", "new"): "rolled_back"})
    assert [one.plan("acme", each).in_canary for each in ids] == before


def test_the_status_says_who_is_asked_and_why() -> None:
    """The share now, and what was decided."""
    one = router(25)
    one.override({CANARY: "rolled_back"})
    status = {each.name: each for each in one.status()}
    assert (status["default"].canary_percent, status["default"].override) == (0.0, "rolled_back")
    assert (status["plain"].canary_percent, status["plain"].override) == (0.0, None)
    assert (router(25).status()[0].canary_percent, router(25).status()[0].override) == (25.0, None)


def test_the_order_is_canary_primary_fallbacks() -> None:
    """Each once; the primary takes over whatever the canary fails with, a fallback what it is there for."""
    plan = router(100).plan("acme", uuid4())
    assert arms(plan) == [("new", "canary"), ("old", "primary"), ("spare", "fallback")]
    assert [candidate.takes_over for candidate in plan.candidates[1:]] == [ANY, frozenset({"timeout"})]
    assert plan.degraded is not None
    assert (plan.degraded.provider.name, plan.degraded.arm) == ("offline", "degraded")
    plan = router(0).plan("acme", uuid4())
    assert arms(plan) == [("old", "primary"), ("spare", "fallback")]
    assert (plan.after(0, "timeout"), plan.after(0, "rejected")) == (1, None)
    plan = router().plan("other", uuid4())
    assert (arms(plan), plan.degraded) == ([("spare", "primary")], None)
    plan = router(route="planned").plan("acme", uuid4())
    assert (arms(plan), plan.degraded) == ([("offline", "primary")], None)


def test_to_decide_takes_microseconds() -> None:
    """Far under the 50 that a turn may spend on it; generous, and the best of some rounds."""
    one, ids = router(25), [uuid4() for _ in range(500)]

    def seconds() -> float:
        began = time.perf_counter()
        for each in ids:
            one.plan("acme", each)
        return (time.perf_counter() - began) / len(ids)

    assert min(seconds() for _ in range(5)) < 50e-6
