"""Who goes when: never over capacity, never on vacation, never two at once, and a reason for whoever stays at home."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.coordination.issues import own_issues, standing_conflict
from tools.coordination.packing import Calendar, days_of
from tools.coordination.plans import Plan, conflicts, make_plan
from tools.pf360.models import BusinessHours, DayHours, Engagement, QueuedProject, TeamSchedule
from tools.wording import WEEKDAYS

MONDAY = date(2026, 3, 16)
NOW = datetime(2026, 3, 11, 9, 30)
WEEK = BusinessHours(
    tuple(
        DayHours(name, n < 5, time(8), time(17)) if n < 5 else DayHours(name, False) for n, name in enumerate(WEEKDAYS)
    ),
    None,
    frozenset(),
)


def project(project_id: str = "1", hours: float = 2, **more: object) -> QueuedProject:
    fields: dict[str, object] = {
        "category": "Doors",
        "address": None,
        "place": (28.0, -82.0),
        "permit": "approved",
        "measurement": "complete",
        "access": True,
        **more,
    }
    return QueuedProject(project_id=project_id, hours=hours, **fields)  # type: ignore[arg-type]


def busy(day: date, first: int, last: int, project_id: str | None = None) -> Engagement:
    return Engagement(datetime.combine(day, time(first)), datetime.combine(day, time(last)), project_id)


def schedule(*taken: Engagement, capacity: float = 8, vacation: Sequence[date] = ()) -> TeamSchedule:
    return TeamSchedule("Team A", capacity, frozenset(vacation), tuple(taken))


def plan_for(
    projects: Sequence[QueuedProject],
    team: TeamSchedule,
    last: date = MONDAY,
    *,
    first: date = MONDAY,
    now: datetime = NOW,
    ignore_conflicts: bool = False,
) -> Plan:
    calendar = Calendar(team, WEEK, days_of(first, last), now)
    return make_plan(
        [each.project_id for each in projects],
        projects,
        calendar,
        datetime.combine(first, time.min),
        datetime.combine(last, time.max),
        ignore_conflicts=ignore_conflicts,
    )


def placed(plan: Plan) -> list[tuple[str, str]]:
    return [(each.project.project_id, f"{each.start:%m-%d %H:%M}") for each in plan.visits]


def reasons(plan: Plan) -> dict[str, str]:
    return {each.project_id: each.kind for each in plan.left_out}


# --- properties -----------------------------------------------------------------------------------------------------

HOURS = st.sampled_from([0.5, 1, 1.5, 2, 3, 4, 6, 8, 10])
TAKEN = st.builds(
    lambda n, start, length: busy(MONDAY + timedelta(days=n), start, min(start + length, 23)),
    st.integers(0, 6),
    st.integers(6, 18),
    st.integers(1, 4),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(HOURS, min_size=1, max_size=25),
    st.lists(TAKEN, max_size=6),
    st.sampled_from([4, 6, 8, 9]),
    st.sets(st.integers(0, 6)),
    st.integers(0, 6),
)
def test_no_plan_breaks_a_day(
    hours: list[float], taken: list[Engagement], capacity: float, off: set[int], more_days: int
) -> None:
    """Capacity, vacation, opening hours and other visits hold for every plan; nobody is lost on the way."""
    projects = [project(str(n), each) for n, each in enumerate(hours)]
    vacation = [MONDAY + timedelta(days=n) for n in off]
    team = schedule(*taken, capacity=capacity, vacation=vacation)
    plan = plan_for(projects, team, MONDAY + timedelta(days=more_days))
    by_day: dict[date, list[Engagement]] = defaultdict(list)
    for visit in plan.visits:
        by_day[visit.start.date()].append(Engagement(visit.start, visit.end))
        assert visit.start.date() not in vacation
        assert visit.start.weekday() < 5
        assert visit.start.time() >= time(8)
        assert visit.end <= datetime.combine(visit.start.date(), time(17))
    for day, mine in by_day.items():
        other = [each for each in taken if each.start.date() == day]
        assert sum((each.end - each.start) / timedelta(hours=1) for each in (*mine, *other)) <= capacity
        for n, each in enumerate(mine):
            assert not any(each.overlaps(o.start, o.end) for o in (*mine[n + 1 :], *other))
    named = [each.project.project_id for each in plan.visits] + [each.project_id for each in plan.left_out]
    assert sorted(named) == sorted(each.project_id for each in projects)


@settings(deadline=None)
@given(st.lists(HOURS, min_size=1, max_size=12), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 4)))
def test_what_is_blocked_is_never_placed(hours: list[float], blocked: set[int], off: set[int]) -> None:
    """Whatever is overridden, and whatever else is overridden does get a place on one day."""
    projects = [project(str(n), h, permit="pending" if n in blocked else "approved") for n, h in enumerate(hours)]
    team = schedule(vacation=[MONDAY + timedelta(days=n) for n in off])
    plan = plan_for(projects, team, MONDAY + timedelta(days=4), ignore_conflicts=True)
    assert {each.project.project_id for each in plan.visits} == {str(n) for n in range(len(hours)) if n not in blocked}
    assert all(each.start.date() == each.end.date() for each in plan.visits)


# --- by example -----------------------------------------------------------------------------------------------------


def test_visits_fill_a_day_before_the_next_one_begins() -> None:
    """In the order given; a short one slips into what a long one leaves."""
    projects = [project("a", 6), project("b", 3), project("c", 2), project("d", 8)]
    plan = plan_for(projects, schedule(), MONDAY + timedelta(days=2))
    assert placed(plan) == [("a", "03-16 08:00"), ("c", "03-16 14:00"), ("b", "03-17 08:00"), ("d", "03-18 08:00")]


def test_busy_hours_are_gone_around() -> None:
    """A gap before, between and after counts; hours must be in a row."""
    team = schedule(busy(MONDAY, 9, 10), busy(MONDAY, 13, 14))
    plan = plan_for([project("long", 3), project("short", 1), project("longer", 4)], team)
    assert placed(plan) == [("short", "03-16 08:00"), ("long", "03-16 10:00")]
    assert reasons(plan) == {"longer": "capacity"}
    assert reasons(plan_for([project("longer", 4)], team)) == {"longer": "overlap"}


@pytest.mark.parametrize(
    ("team", "hours", "kind"),
    [
        (schedule(vacation=[MONDAY]), 1, "vacation"),
        (schedule(capacity=4), 6, "capacity"),
        (schedule(busy(MONDAY, 8, 14), capacity=8), 3, "capacity"),
        (schedule(busy(MONDAY, 11, 13), capacity=9), 5, "overlap"),
    ],
)
def test_whoever_has_no_place_is_told_why(team: TeamSchedule, hours: float, kind: str) -> None:
    """An error, which can be overridden."""
    (issue,) = plan_for([project("x", hours)], team).left_out
    assert (issue.kind, issue.severity) == (kind, "error")
    assert placed(plan_for([project("x", hours)], team, ignore_conflicts=True))


def test_days_on_which_nobody_works_are_no_days() -> None:
    """A weekend, and what is over."""
    saturday = date(2026, 3, 14)
    assert reasons(plan_for([project("x")], schedule(), saturday, first=saturday)) == {"x": "closed"}
    yesterday = NOW.date() - timedelta(days=1)
    assert reasons(plan_for([project("x")], schedule(), yesterday, first=yesterday)) == {"x": "closed"}


def test_today_begins_with_the_next_quarter_hour() -> None:
    """Nobody is sent into the past."""
    today, late = NOW.date(), NOW.replace(hour=9, minute=31)
    assert placed(plan_for([project("x")], schedule(), today, first=today, now=late)) == [("x", "03-11 09:45")]
    assert placed(plan_for([project("x")], schedule(), today, first=today)) == [("x", "03-11 09:30")]


def test_open_issues_keep_a_project_back() -> None:
    """The gravest is named; warnings and errors yield to an override, a permit does not."""
    projects = [
        project("ok"),
        project("permit", permit="expired", measurement="incomplete"),
        project("measure", measurement="incomplete", access=False),
        project("access", access=False),
    ]
    plan = plan_for(projects, schedule())
    assert [each for each, _ in placed(plan)] == ["ok"]
    assert {each.project_id: each.severity for each in plan.left_out} == {
        "permit": "blocking",
        "measure": "error",
        "access": "warning",
    }
    forced = plan_for(projects, schedule(), ignore_conflicts=True)
    assert reasons(forced) == {"permit": "permit"}
    assert [issue.kind for visit in forced.visits for issue in visit.despite] == ["measurement", "access", "access"]


def test_an_assignment_elsewhere_is_taken_over_only_when_overridden() -> None:
    """One that is as wished already stays as it is either way."""
    elsewhere = project("away", team="Team B", visit=busy(MONDAY, 8, 10, "away"))
    here = project("here", team="Team A", visit=busy(MONDAY, 8, 10, "here"))
    team = schedule(busy(MONDAY, 8, 10, "here"))
    assert reasons(plan_for([elsewhere, here], team)) == {"away": "assigned_elsewhere", "here": "already_assigned"}
    forced = plan_for([elsewhere, here], team, ignore_conflicts=True)
    assert placed(forced) == [("away", "03-16 10:00")]
    assert reasons(forced) == {"here": "already_assigned"}


def test_a_visit_that_moves_within_its_team_frees_its_own_hours() -> None:
    """Its old time does not stand in its way."""
    tuesday = MONDAY + timedelta(days=1)
    moved = project("x", 8, team="Team A", visit=busy(tuesday, 8, 16, "x"))
    plan = plan_for([moved], schedule(busy(tuesday, 8, 16, "x")), MONDAY, ignore_conflicts=True)
    assert placed(plan) == [("x", "03-16 08:00")]
    wider = schedule(busy(MONDAY, 8, 16, "other"), busy(tuesday, 8, 16, "x"))
    later = replace(moved, visit=busy(MONDAY + timedelta(days=7), 8, 16, "x"))
    assert placed(plan_for([later], wider, tuesday, ignore_conflicts=True)) == [("x", "03-17 08:00")]


def test_conflicts_name_everything_that_is_open() -> None:
    """All issues of a project, unknown ids, and none for what has a place."""
    projects = [project("a"), project("b", permit="pending", access=False), project("c", 9)]
    calendar = Calendar(schedule(), WEEK, [MONDAY], NOW)
    found = conflicts(
        ["a", "b", "c", "nobody"],
        projects,
        calendar,
        datetime.combine(MONDAY, time.min),
        datetime.combine(MONDAY, time.max),
    )
    assert [(each.project_id, each.kind, each.severity) for each in found] == [
        ("b", "permit", "blocking"),
        ("b", "access", "warning"),
        ("c", "capacity", "error"),
        ("nobody", "unknown", "blocking"),
    ]


def test_only_the_checks_asked_for_are_made() -> None:
    """Severities as the office knows them."""
    bad = project(permit="pending", measurement="incomplete", access=False)
    assert [(each.kind, each.severity) for each in own_issues(bad)] == [
        ("permit", "blocking"),
        ("measurement", "error"),
        ("access", "warning"),
    ]
    assert [each.kind for each in own_issues(bad, ["access"])] == ["access"]
    assert own_issues(project()) == []


def test_a_standing_assignment_may_have_become_impossible() -> None:
    """Vacation or another visit at its time; its own entry in the calendar is no conflict."""
    mine = project("x", team="Team A", visit=busy(MONDAY, 8, 10, "x"))
    assert standing_conflict(project(), schedule()) is None
    assert standing_conflict(mine, schedule(busy(MONDAY, 8, 10, "x"), busy(MONDAY, 10, 12, "y"))) is None
    clash = standing_conflict(mine, schedule(busy(MONDAY, 9, 11, "y")))
    assert clash is not None
    assert "busy" in clash.message
    away = standing_conflict(mine, schedule(vacation=[MONDAY]))
    assert away is not None
    assert "vacation" in away.message
