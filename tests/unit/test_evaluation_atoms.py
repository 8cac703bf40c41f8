"""Atoms accept what people usually write and nothing else."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.evaluation.atoms import mentions, says
from backend.evaluation.matching import argument_matches
from backend.evaluation.renderings import find_dates, find_times, readable
from backend.evaluation.scenario import DEFAULT_FIXTURE, read_yaml
from backend.evaluation.wording import claims, question_count
from backend.evaluation.world import World

WORLD = World(read_yaml(DEFAULT_FIXTURE)["fixture"])
C1, C5, BIZ, COORD = (WORLD.view(persona) for persona in ("c1", "c5", "biz", "coord"))


@pytest.mark.parametrize(
    "text",
    [
        "Mar 16",
        "March 16",
        "Monday, March 16",
        "**Monday, March 16, 2026**",
        "Mon, Mar. 16th",
        "Monday the 16th",
        "on Monday 16 at 8 AM",
        "Monday, the 16th of March",
        "16 March 2026",
        "3/16",
        "03/16/2026",
        "Mon 3/16/26",
        "2026-03-16",
        "March 16 (Monday)",
        "March 13, 16 and 18",
        "March 13–16",
        "Friday, March 13; Monday the 16th; the 18th",
        "el lunes 16 de marzo",
        "1. Mon Mar 16\n2. Tue Mar 17",
        "March\u00a016",
        "March 16 at 8 and 10 AM",
        "(Mar 16)",
    ],
)
def test_dates_as_people_write_them(text: str) -> None:
    """Any usual rendering that names day and month, or weekday and day."""
    assert says("date:2026-03-16", text, C1)


@pytest.mark.parametrize(
    "text",
    [
        "Tuesday, March 16",
        "Tue 3/16",
        "Tuesday the 16th",
        "March 16 (Sunday)",
        "March 17",
        "April 16",
        "March 16, 2025",
        "16 windows",
        "at 3:16 PM",
        "SO-26-1003_16",
        "13/16",
        "March 1-6",
        "Monday",
        "the 16th",
        "Monday, March 16 or, to be exact, Tuesday, March 16",
    ],
)
def test_dates_that_are_not_said(text: str) -> None:
    """Another day, a wrong weekday, or no date at all."""
    assert not says("date:2026-03-16", text, C1)


def test_a_wrong_weekday_is_still_a_mention() -> None:
    """What must not be said is not excused by a slip."""
    assert mentions("date:2026-03-16", "Tuesday, March 16", C1)


@given(
    st.dates(date(2026, 1, 1), date(2026, 12, 31)),
    st.sampled_from(["%A, %B %-d", "%b %-d", "%-m/%-d", "%-d %B %Y", "%F"]),
)
def test_every_day_is_found_and_no_other(day: date, form: str) -> None:
    """A rendering names its own day and neither neighbour."""
    text = f"We could do {day.strftime(form)} at 8:00 AM."
    assert says(f"date:{day}", text, C1)
    assert not says(f"date:{day + timedelta(days=1)}", text, C1)
    assert not says(f"date:{day - timedelta(days=1)}", text, C1)
    assert find_times(text) == {"08:00"}


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("1 PM", {"13:00"}),
        ("1:00 p.m.", {"13:00"}),
        ("at 1pm", {"13:00"}),
        ("1:00\u202fPM", {"13:00"}),
        ("8, 10 AM, 1 and 3 PM", {"08:00", "10:00", "13:00", "15:00"}),
        ("8:00 AM to 5:00 PM", {"08:00", "17:00"}),
        ("8–10 AM", {"08:00", "10:00"}),
        ("10-1 PM", {"10:00", "13:00"}),
        ("1 - 8 AM\n2 - 10 AM", {"08:00", "10:00"}),
        ("order SO-26-1001_1, 8 AM", {"08:00"}),
        ("noon", {"12:00"}),
        ("12 PM", {"12:00"}),
        ("12:30 AM", {"00:30"}),
        ("1 in the afternoon", {"13:00"}),
        ("a las 10 de la mañana", {"10:00"}),
        ("March 9, 10 AM", {"10:00"}),
        ("13:00", set()),
        ("13:00 PM", set()),
        ("11:00 PM", {"23:00"}),
        ("8 am and 24 windows", {"08:00"}),
        ("3 ampere", set()),
        ("$5 pm", set()),
    ],
)
def test_times(text: str, times: set[str]) -> None:
    """12-hour renderings, with what a list or a range shares; a bare 24-hour time does not count."""
    assert find_times(readable(text)) == times


@pytest.mark.parametrize(
    ("project", "view", "text", "named"),
    [
        ("410001", C1, "your flooring", True),
        ("410001", C1, "order SO-26-1001_1", True),
        ("410001", C1, "order SO-26-1001_2", False),
        ("410001", C1, "your floor plan", False),
        ("410002", C1, "the Windows Installation", True),
        ("410002", C1, "your window install", True),
        ("410002", C1, "installation of your windows", True),
        ("410002", C1, "your windows", False),
        ("410002", C1, "Windows Measurement", False),
        ("410002", C1, "1. Flooring Installation\n2. Windows Measurement", False),
        ("410005", C1, "Windows: the installation or the measurement", True),
        ("410005", C1, "1. Windows Installation\n2. Windows Measurement", True),
        ("410003", C1, "Deck Repair", True),
        ("410003", C1, "deck", False),
        ("450001", C5, "HVAC Service", False),
        ("450001", C5, "HVAC Service at 5 Mock St", True),
        ("450001", C5, "HVAC service, Mock Street", True),
        ("450001", C5, "HVAC Service at 9 Demo Rd", False),
        ("450002", C5, "1. HVAC Service, 5 Mock St\n2. HVAC Service, 9 Demo Rd", True),
        ("450001", C5, "1. HVAC Service, 5 Mock St\n2. HVAC Service, 9 Demo Rd", True),
        ("510001", BIZ, "Flooring Installation at 1 Retail Plz", True),
        ("510001", BIZ, "Flooring Installation at 45 Harbor Mall", False),
        ("520002", BIZ, "Flooring Repair", True),
        ("500101", COORD, "500101 first", True),
        ("500101", COORD, "5001011", False),
    ],
)
def test_projects(project: str, view: object, text: str, named: bool) -> None:
    """As much as tells the project from the persona's others, each word next to its own."""
    assert says(f"project:{project}", text, view) is named  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("call 555-0111.", True),
        ("(555-0111)", True),
        ("call 555.0111", True),
        ("call 555-01112", False),
        ("call 800-555-0111", False),
        ("call (800) 555-0111", False),
        ("call 1555-0111", False),
    ],
)
def test_phones(text: str, said: bool) -> None:
    """Exactly this number."""
    assert says("phone:555-0111", text, C1) is said


def test_links_and_patterns() -> None:
    """The portal link of just this project; patterns ignore case, emphasis and curly quotes."""
    link = "https://brookhaven.cx-portal.dev.projectsforce.com/details/410001"
    assert says("url:410001", f"[your project]({link})", C1)
    assert not says("url:410001", f"{link}9", C1)
    assert not says("url:410001", link.replace("brookhaven", "lakemont"), C1)
    assert says("re:isn't available", "It **isn\u2019t** available", C1)
    assert says(r"re:(?m)^\s*1[.)]", "Here:\n1. Flooring", C1)


@pytest.mark.parametrize(
    ("name", "expected", "actual", "fits"),
    [
        ("project_id", "410001", 410001, True),
        ("project_id", "410001", "410002", False),
        ("date", "2026-03-16", "2026-03-16T00:00:00", True),
        ("date", "2026-03-16", "03/16/2026", True),
        ("time", "13:00", "13:00:00", True),
        ("time", "13:00", "1:00 PM", True),
        ("time", "13:00", "1:00", False),
        ("reason", "*", None, True),
        ("reason", None, None, True),
        ("reason", None, "", False),
        ("note_text", {"contains": ["Call", "night"]}, "call on NIGHT shift", True),
        ("note_text", {"contains": ["Call", "day"]}, "call on NIGHT shift", False),
        ("client_id", {"any_of": ["20OC01BK", None]}, None, True),
        ("client_id", {"any_of": ["20OC01BK", None]}, "20OC02LM", False),
        ("project_ids", {"set": ["1", "2"]}, ["2", "1"], True),
        ("project_ids", {"set": ["1", "2"]}, ["2", "1", "3"], False),
        ("project_ids", ["1", "2"], ["2", "1"], False),
        ("date_range", ["2026-03-16", "2026-03-17"], ["2026-03-16", "2026-03-17"], True),
        ("ignore_conflicts", True, True, True),
        ("ignore_conflicts", True, False, False),
        ("start_location", {"latitude": 28.0}, {"latitude": 28.0, "longitude": 1}, True),
    ],
)
def test_arguments(name: str, expected: object, actual: object, fits: bool) -> None:
    """Ids as text, dates as days, times as minutes, and the matchers of the schema."""
    assert argument_matches(name, expected, actual) is fits


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Shall I book it?", 1),
        ("Shall I book it??", 1),
        ("Really? Shall I?", 2),
        ('You asked "can you come earlier?" - yes.', 0),
        ("See https://example.com/a?b=c and [this](https://x.y/?z)", 0),
        ("Done.", 0),
    ],
)
def test_questions(text: str, count: int) -> None:
    """Marks in links and quotations are no questions."""
    assert question_count(text) == count


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("I've booked your flooring.", {"booking"}),
        ("Your appointment is now confirmed.", {"booking"}),
        ("Your flooring has been scheduled.", {"booking"}),
        ("Booked! See you Monday.", {"booking"}),
        ("Done - your windows have been moved.", {"move"}),
        ("I have cancelled it.", {"cancel"}),
        ("Your appointment has been canceled.", {"cancel"}),
        ("I've added a note.", {"note"}),
        ("The note has been saved.", {"note"}),
        ("You're all set.", {"any"}),
        ("Nothing has been booked.", set()),
        ("It has not been cancelled.", set()),
        ("Shall I book it, so that it is booked today?", set()),
        ("Once you say yes, it is booked.", set()),
        ("It is booked as soon as you confirm.", set()),
        ("That slot has just been booked by someone else.", set()),
        ("It can be rescheduled.", set()),
        ("It will be cancelled after your yes.", set()),
        ("Before anything is booked, I ask.", set()),
        ("Status: Tentatively Scheduled.", set()),
        ("I couldn't tell whether it was booked.", set()),
        ('Your note says "the visit has been cancelled".', set()),
    ],
)
def test_claims(text: str, kinds: set[str]) -> None:
    """What says that something was done; denials, conditions, questions and quotations do not."""
    assert {kind for kind, _ in claims(readable(text))} == kinds


def test_a_date_without_month_resolves_to_nothing() -> None:
    """It is judged by weekday and day alone."""
    (mention,) = find_dates("Monday the 16th")
    assert mention.resolve(date(2026, 3, 11)) is None
    assert mention.names(date(2026, 3, 16))
