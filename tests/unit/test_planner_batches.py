"""What the planner hears when somebody speaks of many projects at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent.definition import load_definition
from agent.planner.batches import BatchListener
from agent.planner.frame import Frame, Wish
from agent.planner.knowledge import Knowledge
from agent.planner.planner import Planner
from agent.planner.reading import Reader
from agent.providers.base import TurnFacts
from tools.contract import Identity

DEFINITION = load_definition()
COORDINATORS = Knowledge(DEFINITION, "coordinator")
CUSTOMERS = Knowledge(DEFINITION)
READER = Reader(COORDINATORS)
FACTS = TurnFacts(now=datetime(2026, 3, 11, 9, 30, tzinfo=UTC), identity=Identity("coordinator"), locations=())
TUESDAY = "2026-03-17,2026-03-17"
ASSIGNING = Wish("assign", values={"batch": "500101,500102,500103", "team": "Team B", "span": TUESDAY})


def heard(text: str, frame: Frame = Frame()) -> list[tuple[str, dict[str, str]]]:
    return [(wish.intent, wish.values) for wish, _ in BatchListener(COORDINATORS, READER, FACTS, frame).hear(text)]


@pytest.mark.parametrize(
    ("text", "intent", "values"),
    [
        ("validate 500101-500103", "validate", {"batch": "500101,500102,500103"}),
        ("chk the permits of 500101 thru 02 pls", "validate", {"batch": "500101,500102", "checks": "permit"}),
        (
            "route 500101, 500103 tmrw, shortest distance",
            "route",
            {"batch": "500101,500103", "span": "2026-03-12,2026-03-12", "least": "distance"},
        ),
        (
            "optimize the route for 500101 500102 on 3/17 starting at 28.1, -82.1",
            "route",
            {"batch": "500101,500102", "span": TUESDAY, "start": "28.1,-82.1"},
        ),
        (
            "any conflicts for 500101 with Team A Monday thru Wednesday?",
            "conflicts",
            {"batch": "500101", "team": "A", "span": "2026-03-16,2026-03-18"},
        ),
        (
            "assign 500101-500104 except 500103 to crew b tuesday, ignore conflicts",
            "assign",
            {"batch": "500101,500102,500104", "team": "b", "span": TUESDAY, "override": "yes"},
        ),
        ("500101-500102", "numbers", {"batch": "500101,500102"}),
    ],
)
def test_one_message_says_it_all(text: str, intent: str, values: dict[str, str]) -> None:
    """Ids, ranges, exceptions, teams, days, and what is to be small."""
    assert heard(text) == [(intent, values)]


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("without 500102", {"batch": "500101,500103"}),
        ("leave 500101 out", {"batch": "500102,500103"}),
        ("add 500110", {"batch": "500101,500102,500103,500110"}),
        ("only 500102", {"batch": "500102"}),
        ("make it wednesday", {"span": "2026-03-18,2026-03-18"}),
        ("team c rather", {"team": "c"}),
        ("override the conflicts", {"override": "yes"}),
    ],
)
def test_the_next_one_says_what_is_different(text: str, changed: dict[str, str]) -> None:
    """The rest stays."""
    assert heard(text, Frame(wish=ASSIGNING)) == [("assign", {**ASSIGNING.values, **changed})]


def test_an_override_does_not_outlive_its_wish() -> None:
    """Other projects are assigned without one."""
    overridden = ASSIGNING.with_value("override", "yes")
    ((intent, values),) = heard("assign 500110 to team b on tuesday", Frame(wish=overridden))
    assert (intent, values.get("override"), values["batch"]) == ("assign", None, "500110")


def test_two_wishes_share_their_list() -> None:
    """The second is for those that the first finds good."""
    (first, checked), (second, assigned) = heard("check 500101-500102 n assign the good ones to team b on tuesday")
    assert (first, second) == ("validate", "assign")
    assert assigned["batch"] == checked["batch"]
    assert (assigned["kept"], assigned["team"]) == ("yes", "b")


@pytest.mark.parametrize("text", ["show my projects", "book my flooring for monday", "add a note: the gate code is 12"])
def test_coordinators_have_no_wish_of_a_customer(text: str) -> None:
    """Nothing that needs a customer is even understood."""
    assert {intent for intent, _ in heard(text)} <= {"unknown", "assign", "numbers"}


@pytest.mark.parametrize(
    "text",
    ["optimize the route for your crews", "assign 500101-500105 to team a", "validate 500101", "i'm the dispatcher"],
)
def test_customers_are_told_whose_business_it_is(text: str) -> None:
    """Their planner has no intent that leads to a coordinator's tool."""
    guesses = CUSTOMERS.classifier.rank(CUSTOMERS.lexicon.mend(text))
    assert guesses[0].intent.name == "staff_only"
    goals = {intent.goal for intent in CUSTOMERS.intents.values()}
    assert goals.isdisjoint({"optimize_route", "validate_projects", "detect_conflicts", "bulk_assign_teams"})
    assert Planner(CUSTOMERS).classify(text) == "chitchat"
