"""What a reply must or must not say, one atom at a time: `kind:value`.

`date:` any usual rendering, whose weekday must not contradict it; `time:` a 12-hour rendering; `project:` the order
number, or the category with as much of type and street as tells it from the persona's other projects; `phone:` exactly
this number; `url:` the portal link of a project; `re:` a case-insensitive regular expression.
"""

from __future__ import annotations

import re
from datetime import date

from backend.evaluation.renderings import find_dates, find_times, readable
from backend.evaluation.world import Project, View

KINDS = ("date", "time", "project", "phone", "url", "re")
# Words by which people call a type of work.
TYPE_WORDS = {
    "installation": r"install(?:ation|ations|ing|ed|s)?",
    "measurement": r"measur(?:e|ement|ements|ing)",
    "repair": r"repair(?:s|ing)?",
    "service": r"servic(?:e|es|ing)",
    "delivery": r"deliver(?:y|ies)",
}
TYPE_REACH = 120  # characters between a category and the type that goes with it
STREET_REACH = 200
# A line break separates: more so from what stands before, since items begin with what they are.
LINE_AFTER, LINE_BEFORE = 100, 200


def check_atom(atom: str) -> str:
    """Refuse an atom that cannot be judged (`ValueError`)."""
    kind, colon, value = atom.partition(":")
    if kind not in KINDS or not colon or not value:
        raise ValueError(f"{atom!r}: an atom is one of {', '.join(kind + ':' for kind in KINDS)} and a value")
    if kind == "date":
        date.fromisoformat(value)
    if kind == "time" and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError(f"{atom!r}: a time is HH:MM")
    if kind == "re":
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{atom!r}: not a regular expression: {error}") from error
    return atom


def says(atom: str, text: str, view: View) -> bool:
    """Whether a reply says this; a date with a wrong weekday is not said."""
    kind, _, value = atom.partition(":")
    plain = readable(text)
    if kind == "date":
        return says_date(date.fromisoformat(value), plain)
    return _mentions(kind, value, text, plain, view)


def mentions(atom: str, text: str, view: View) -> bool:
    """Whether a reply brings this up at all, for what it must not say: here a wrong weekday is no excuse."""
    kind, _, value = atom.partition(":")
    plain = readable(text)
    if kind == "date":
        return any(m.names(date.fromisoformat(value)) for m in find_dates(plain))
    return _mentions(kind, value, text, plain, view)


def says_date(wanted: date, plain: str) -> bool:
    """Whether the date is named, and nowhere with another weekday."""
    found = find_dates(plain)
    return any(m.names(wanted) for m in found) and not any(m.contradicts(wanted) for m in found)


def _mentions(kind: str, value: str, text: str, plain: str, view: View) -> bool:
    if kind == "time":
        return value in find_times(plain)
    if kind == "project":
        return names_project(value, plain, view)
    if kind == "phone":
        return says_phone(value, plain)
    if kind == "url":
        return re.search(re.escape(view.portal_url(value)) + r"(?![\w/-])", text) is not None
    return any(re.search(value, form, re.IGNORECASE) for form in (text, plain))


def says_phone(number: str, plain: str) -> bool:
    """Whether exactly this number stands there: no other area code, no further digit."""
    digits = re.escape(number).replace(r"\-", "[-. \u2010-\u2015]")
    return re.search(rf"(?<!\d)(?<!\d[-. )])(?<!\d\) ){digits}(?!\d)(?![-.]\d)", plain) is not None


def names_project(project_id: str, plain: str, view: View) -> bool:
    """Whether the project is named so that this persona cannot take it for another."""
    project = view.projects.get(project_id) or view.world.projects.get(project_id) or view.world.queue[project_id]
    if project.order_number and _order_number(project.order_number).search(plain):
        return True
    if not project.order_number and re.search(rf"(?<!\d){project_id}(?!\d)", plain):
        return True
    rivals = [p for p in view.projects.values() if p.is_active and p.project_id != project_id]
    same_category = [p for p in rivals if p.category.lower() == project.category.lower()]
    same_type = [p for p in same_category if p.type.lower() == project.type.lower()]
    places = [found.span() for found in project.category_pattern.finditer(plain)]
    if same_category:
        places = [place for place in places if _has_type(place, project, plain)]
    if same_type:
        places = [place for place in places if _has_street(place, project, same_type, plain)]
    return bool(places)


def _order_number(number: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(number)}(?!\w)", re.IGNORECASE)


def _has_type(place: tuple[int, int], project: Project, plain: str) -> bool:
    """The type next to the category is this one (or stands beside it: "installation or measurement")."""
    types = sorted(
        (_distance(place, found.span(), plain), found.span(), name)
        for name, pattern in TYPE_WORDS.items()
        for found in re.finditer(rf"\b{pattern}\b", plain, re.IGNORECASE)
        # a type word inside the category ("Deck Repair") is not the type
        if found.end() <= place[0] or found.start() >= place[1]
    )
    types = [entry for entry in types if _gap(place, entry[1]) <= TYPE_REACH]
    wanted = project.type.lower()
    if not types:
        return False
    if wanted not in TYPE_WORDS:
        return (
            re.search(rf"\b{re.escape(wanted)}\b", plain[place[0] : place[1] + TYPE_REACH], re.IGNORECASE) is not None
        )
    _, near, name = types[0]
    if name == wanted:
        return True
    following = [(span, other) for _, span, other in types if span[0] >= near[1]]
    for span, other in sorted(following):
        if not re.fullmatch(r"[\s,/&]*(?:(?:and|or|y|o|the|a)\b[\s,/&]*)*", plain[near[1] : span[0]], re.IGNORECASE):
            break
        if other == wanted:
            return True
        near = span
    return False


def _has_street(place: tuple[int, int], project: Project, rivals: list[Project], plain: str) -> bool:
    """The street next to the category is this project's, not that of one that is otherwise the same."""
    own = _nearest_street(place, project, plain)
    others = [gap for rival in rivals if (gap := _nearest_street(place, rival, plain)) is not None]
    return own is not None and own <= STREET_REACH + LINE_BEFORE and all(own <= gap for gap in others)


def _nearest_street(place: tuple[int, int], project: Project, plain: str) -> int | None:
    gaps = [_distance(place, found.span(), plain) for found in project.street_pattern.finditer(plain)]
    return min(gaps, default=None)


def _distance(place: tuple[int, int], other: tuple[int, int], plain: str) -> int:
    """How far apart two places are, for deciding which belong together."""
    if other[0] >= place[1]:
        return _gap(place, other) + LINE_AFTER * plain.count("\n", place[1], other[0])
    return _gap(place, other) + LINE_BEFORE * plain.count("\n", other[1], place[0])


def _gap(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(other[0] - one[1], one[0] - other[1], 0)
