"""Dates and times as people write them, on Wednesday 2026-03-11."""

from __future__ import annotations

from datetime import date, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dates import (
    DateError,
    DateMention,
    ImpossibleDate,
    TimeError,
    find_dates,
    find_times,
    parse_day,
    parse_time,
    say_date,
    say_time,
)

TODAY = date(2026, 3, 11)


def described(mention: DateMention | ImpossibleDate) -> str:
    """`03-16`, `03-16..03-20`, `until 03-20`, `03-10 past`, `every 03-13`, `2027-01-05`, `impossible`."""
    if isinstance(mention, ImpossibleDate):
        return "impossible"
    days = [str(mention.start).removeprefix("2026-")]
    if mention.end != mention.start:
        days.append(str(mention.end).removeprefix("2026-"))
    relation = "" if mention.relation == "on" else f"{mention.relation} "
    every = "every " if mention.kind == "recurring_weekday" else ""
    return f"{relation}{every}{'..'.join(days)}{' past' if mention.past else ''}"


ONE_DAY = """
today                          | 03-11
tonight                        | 03-11
tonight at 8                   | 03-11
this afternoon                 | 03-11
tomorrow                       | 03-12
tomorow                        | 03-12
tommorow                       | 03-12
tomorrrow please               | 03-12
tmrw                           | 03-12
2moro? no, tmr                 | 03-12
day after tomorrow             | 03-13
the day after tomorrow         | 03-13
in 3 days                      | 03-14
in three days                  | 03-14
in two weeks                   | 03-25
in 2 weeks                     | 03-25
in a week                      | 03-18
in a couple of weeks           | 03-25
2 weeks from now               | 03-25
a month from now               | 04-11
a week from today              | 03-18
a week from tomorrow           | 03-19
a week from friday             | 03-20
a week from Friday, please     | 03-20
two weeks from monday          | 03-30
friday week                    | 03-20
a week on friday               | 03-20
the day after the 16th         | 03-17
two days before monday         | 03-14
friday                         | 03-13
on friday                      | 03-13
Fri                            | 03-13
this friday                    | 03-13
this coming friday             | 03-13
coming friday                  | 03-13
the following tuesday          | 03-17
next friday                    | 03-20
next monday                    | 03-16
next thursday                  | 03-19
next wed                       | 03-18
monday works                   | 03-16
tuesday then, what times       | 03-17
tues                           | 03-17
thu                            | 03-12
thurs                          | 03-12
weds works                     | 03-18
wendsday                       | 03-18
wensday                        | 03-18
wedensday                      | 03-18
thrusday                       | 03-12
thurday                        | 03-12
munday                         | 03-16
tuseday                        | 03-17
firday                         | 03-13
saterday                       | 03-14
is sat ok                      | 03-14
sat at 10                      | 03-14
sunday                         | 03-15
wednesday                      | 03-18
this wednesday                 | 03-11
tuesday next week              | 03-17
next week on tuesday           | 03-17
friday of next week            | 03-20
monday after next              | 03-23
next monday's slot             | 03-16
second friday of april         | 04-10
last friday in march           | 03-27
the 16th                       | 03-16
16th                           | 03-16
on the 16th                    | 03-16
on the 16                      | 03-16
at 5 pm on the 16              | 03-16
the 1st                        | 04-01
the 5th                        | 04-05
the 11th                       | 03-11
the 31st                       | 03-31
the sixteenth                  | 03-16
on the fifth                   | 04-05
the 16th appointment           | 03-16
monday the 16th                | 03-16
monday the 16th at 8 am        | 03-16
thursday the 19th, early afternoon | 03-19
ok put it on the 20th, 1pm     | 03-20
friday the 13th                | 03-13
friday 13                      | 03-13
friday 8                       | 03-13
march 16                       | 03-16
March 16th                     | 03-16
march the 16th                 | 03-16
mar 16                         | 03-16
16 march                       | 03-16
16th of March                  | 03-16
the 16th of march              | 03-16
twenty-first of march          | 03-21
march first                    | 03-01 past
first of april                 | 04-01
the 16th of next month         | 04-16
next month on the 5th          | 04-05
Mar. 16th, 2026                | 03-16
march 16 2026 10am             | 03-16
Monday, March 16 at 10:00 AM   | 03-16
monday, march 16, 2026         | 03-16
march 20 1pm                   | 03-20
march 16, 8am                  | 03-16
3/16                           | 03-16
3/16 at 10                     | 03-16
3/16/26                        | 03-16
03/16/2026                     | 03-16
3-16                           | 03-16
3-16-2026                      | 03-16
mar-16                         | 03-16
16-mar-2026                    | 03-16
16.03.2026                     | 03-16
16/3                           | 03-16
mon 3/16                       | 03-16
3/16 (monday)                  | 03-16
2026-03-16                     | 03-16
2026-03-16T10:00:00            | 03-16
2026/03/16                     | 03-16
may 5                          | 05-05
may 5th                        | 05-05
january 5                      | 2027-01-05
february 20                    | 2027-02-20
march 5                        | 03-05 past
yesterday                      | 03-10 past
last monday                    | 03-09 past
last friday                    | 03-06 past
3 weeks ago                    | 02-18 past
2026-3-5                       | 03-05 past
lunes                          | 03-16
el lunes a las 10              | 03-16
miércoles                      | 03-18
hoy                            | 03-11
mañana                         | 03-12
manana                         | 03-12
mañana por la mañana           | 03-12
pasado mañana                  | 03-13
el 16 de marzo                 | 03-16
el lunes 16 a las 10 de la mañana | 03-16
el 20                          | 03-20
el próximo viernes             | 03-13
dentro de dos semanas          | 03-25
"""

RANGES = """
this week                      | 03-09..03-13
next week                      | 03-16..03-20
nxt week                       | 03-16..03-20
anything next week in the afternoon for the flooring? | 03-16..03-20
rest of this week              | 03-11..03-13
later this week                | 03-11..03-13
early next week                | 03-16..03-17
the middle of next week        | 03-17..03-19
end of next week               | 03-19..03-20
end of the week                | 03-12..03-13
week after next                | 03-23..03-27
the week of march 16           | 03-16..03-20
the week of the 23rd           | 03-23..03-27
last week                      | 03-02..03-06 past
this weekend                   | 03-14..03-15
the weekend                    | 03-14..03-15
next weekend                   | 03-21..03-22
the weekend after next         | 03-28..03-29
this month                     | 03-01..03-31
next month                     | 04-01..04-30
end of the month               | 03-25..03-31
end of month                   | 03-25..03-31
end of next month              | 04-24..04-30
end of the next month          | 04-24..04-30
end of april                   | 04-24..04-30
early april                    | 04-01..04-10
mid-april                      | 04-11..04-20
mid march                      | 03-11..03-20
late March                     | 03-21..03-31
first week of April            | 04-01..04-07
second week of april           | 04-08..04-14
2nd week of next month         | 04-08..04-14
third week of the month        | 03-15..03-21
last week of April             | 04-24..04-30
first half of april            | 04-01..04-15
march                          | 03-01..03-31
in may                         | 05-01..05-31
any day in april               | 04-01..04-30
january                        | 2027-01-01..2027-01-31
February                       | 2027-02-01..2027-02-28
March 2027                     | 2027-03-01..2027-03-31
2026-03                        | 03-01..03-31
2026-04                        | 04-01..04-30
next year                      | 2027-01-01..2027-12-31
between march 16 and march 20  | 03-16..03-20
between the 16th and the 20th  | 03-16..03-20
between monday and thursday    | 03-16..03-19
from monday to thursday        | 03-16..03-19
monday through wednesday       | 03-16..03-18
mon-wed                        | 03-16..03-18
friday to tuesday              | 03-13..03-17
from tomorrow to friday        | 03-12..03-13
3/16 - 3/20                    | 03-16..03-20
2026-03-16 to 2026-03-20       | 03-16..03-20
march 16-20                    | 03-16..03-20
march 16 to 20                 | 03-16..03-20
march 16 through the 20th      | 03-16..03-20
16-20 march                    | 03-16..03-20
march 16 - april 2             | 03-16..04-02
dec 30 to jan 2                | 12-30..2027-01-02
the 30th to the 2nd            | 03-30..04-02
within two weeks               | 03-11..03-25
in the next 10 days            | 03-11..03-21
in a few days                  | 03-13..03-16
in two to three weeks          | 03-25..04-01
la semana que viene            | 03-16..03-20
esta semana                    | 03-09..03-13
la próxima semana              | 03-16..03-20
este fin de semana             | 03-14..03-15
entre el 16 y el 20 de marzo   | 03-16..03-20
del 16 al 20 de marzo          | 03-16..03-20
"""

SEVERAL = """
mon or tues                    | 03-16, 03-17
the 16th or 17th               | 03-16, 03-17
monday and wednesday           | 03-16, 03-18
april 3rd or 4th               | 04-03, 04-04
march 16, 17 or 18             | 03-16, 03-17, 03-18
march 16 or 17 at 10           | 03-16, 03-17
the 16th, 17th or 18th of april | 04-16, 04-17, 04-18
next week thursday or friday   | 03-19, 03-20
thursday or friday next week   | 03-19, 03-20
next monday or tuesday         | 03-16, 03-17
next friday or saturday        | 03-20, 03-21
anything next week? maybe thursday | 03-16..03-20, 03-19
sat or sun                     | 03-14, 03-15
lunes o martes                 | 03-16, 03-17
march 16 at 10 or the 17th at 8 | 03-16, 03-17
"""

RELATIONS = """
before the 20th                | before 03-20
after tuesday                  | after 03-17
after next week                | after 03-16..03-20
from monday on                 | from 03-16
from monday                    | from 03-16
starting monday                | from 03-16
the 20th or later              | from 03-20
friday onwards                 | from 03-13
no earlier than the 20th       | from 03-20
not before the 20th            | from 03-20
by friday                      | until 03-13
until the 20th                 | until 03-20
no later than march 20         | until 03-20
not after the 20th             | until 03-20
not friday                     | not 03-13
not on friday                  | not 03-13
can't do friday                | not 03-13
I don't want friday            | not 03-13
friday doesn't work for me     | not 03-13
friday is no good              | not 03-13
i cant make it wednesday       | not 03-18
anything but friday            | not 03-13
not the 16th or 17th           | not 03-16, not 03-17
any day except monday or tuesday | not 03-16, not 03-17
any day but monday             | not every 03-16
no fridays                     | not every 03-13
fridays only                   | every 03-13
any tuesday                    | every 03-17
every monday                   | every 03-16
weekdays                       | every 03-12
weekends are better            | every 03-14
no weekends                    | not every 03-14
move it from monday to tuesday | instead_of 03-16, 03-17
switch from the 18th to the 19th | instead_of 03-18, 03-19
monday instead of friday       | 03-16, instead_of 03-13
move my 3 o'clock to Thursday  | 03-12
no, friday                     | 03-13
no friday                      | 03-13
why not friday                 | 03-13
antes del viernes              | before 03-13
a partir del lunes             | from 03-16
el viernes no puedo            | not 03-13
"""

IMPOSSIBLE = """
february 30                    | February has 28 or 29 days
Feb 29                         | February 2027 has 28 days
april 31st                     | April has 30 days
31 june                        | June has 30 days
the 32nd                       | no month has a day 32
the 99th                       | no month has a day 99
2026-13-01                     | there is no month 13
2026-02-30                     | February has 28 or 29 days
2/30                           | February has 28 or 29 days
3/32                           | March has 31 days
the fifth week of february     | February has no week 5
"""

NO_DATE = """
may I ask something
I may be late
may we come by
we will march in
sat down with my wife
I sat there
the sun is bright
sun is shining
the first one
the 2nd one
2nd option
the 1st project
give me a second
one second please
SO-26-1001_1
SO-26-1001_2 and ST-11
call 555-0111
(555) 010-1234
+1 555-010-1234
500101, 500102, 500103 and 500105
410001
number 2
option 3
#2
2 please
2
$16
16 dollars
16%
12 Sample Ln
14 Sample Ln
33 Placeholder Dr
80 Test Ct
5th ave
zip 34901
10:30
10-12
between 1 and 3
at ten
open 24/7
good morning!
the morning one
3 windows
gate code 1234
what about the one after
my mon amour
I need it done asap
the other day you said
"""


def rows(table: str) -> list[tuple[str, str]]:
    return [(text.strip(), wanted.strip()) for text, wanted in (row.split("|") for row in table.strip().splitlines())]


@pytest.mark.parametrize(("text", "wanted"), rows(ONE_DAY), ids=lambda value: value)
def test_one_day(text: str, wanted: str) -> None:
    assert [described(m) for m in find_dates(text, TODAY)] == [wanted]


@pytest.mark.parametrize(("text", "wanted"), rows(RANGES), ids=lambda value: value)
def test_a_range_is_one_mention(text: str, wanted: str) -> None:
    mentions = find_dates(text, TODAY)
    assert [described(m) for m in mentions] == [wanted]
    assert isinstance(mentions[0], DateMention)
    assert mentions[0].kind == "range"


@pytest.mark.parametrize(("text", "wanted"), rows(SEVERAL), ids=lambda value: value)
def test_several_dates_share_what_one_of_them_names(text: str, wanted: str) -> None:
    assert ", ".join(described(m) for m in find_dates(text, TODAY)) == wanted


@pytest.mark.parametrize(("text", "wanted"), rows(RELATIONS), ids=lambda value: value)
def test_the_relation_to_a_date(text: str, wanted: str) -> None:
    assert ", ".join(described(m) for m in find_dates(text, TODAY)) == wanted


@pytest.mark.parametrize(("text", "reason"), rows(IMPOSSIBLE), ids=lambda value: value)
def test_an_impossible_date_says_why(text: str, reason: str) -> None:
    (mention,) = find_dates(text, TODAY)
    assert isinstance(mention, ImpossibleDate)
    assert mention.reason == reason


@pytest.mark.parametrize("text", NO_DATE.strip().splitlines())
def test_numbers_and_words_that_are_no_dates(text: str) -> None:
    assert find_dates(text, TODAY) == []


@pytest.mark.parametrize(
    ("today", "text", "wanted"),
    [
        (date(2026, 3, 15), "this weekend", "03-14..03-15"),
        (date(2026, 3, 15), "next monday", "03-16"),
        (date(2026, 3, 15), "monday", "03-16"),
        (date(2026, 3, 13), "friday", "03-20"),
        (date(2026, 3, 13), "this friday", "03-13"),
        (date(2026, 3, 13), "next friday", "03-20"),
        (date(2026, 3, 14), "this week", "03-09..03-13 past"),
        (date(2026, 1, 31), "the 30th", "03-30"),
        (date(2026, 12, 30), "january 2", "2027-01-02"),
        (date(2026, 12, 30), "next month", "2027-01-01..2027-01-31"),
        (date(2026, 12, 30), "next week", "2027-01-04..2027-01-08"),
        (date(2028, 2, 1), "feb 29", "2028-02-29"),
        (date(2026, 3, 31), "a month from now", "04-30"),
    ],
    ids=str,
)
def test_other_todays(today: date, text: str, wanted: str) -> None:
    assert [described(m) for m in find_dates(text, today)] == [wanted]


def test_a_weekday_that_contradicts_its_date_is_flagged() -> None:
    (right,) = find_dates("monday the 16th", TODAY)
    (wrong,) = find_dates("tuesday the 16th", TODAY)
    assert isinstance(right, DateMention)
    assert isinstance(wrong, DateMention)
    assert (right.weekday_differs, wrong.weekday_differs) == (False, True)


@pytest.mark.parametrize(
    ("text", "admitted", "refused"),
    [
        ("before the 20th", "2026-03-19", "2026-03-20"),
        ("after the 20th", "2026-03-21", "2026-03-20"),
        ("from monday on", "2026-03-16", "2026-03-15"),
        ("until friday", "2026-03-13", "2026-03-14"),
        ("next week", "2026-03-18", "2026-03-21"),
        ("not friday", "2026-03-19", "2026-03-20"),
        ("no fridays", "2026-03-19", "2026-03-27"),
        ("tuesdays", "2026-03-24", "2026-03-25"),
        ("weekdays only", "2026-03-24", "2026-03-28"),
        ("not the 16th", "2026-03-23", "2026-03-16"),
        ("any day but monday", "2026-03-24", "2026-03-23"),
    ],
)
def test_which_days_a_mention_admits(text: str, admitted: str, refused: str) -> None:
    (mention,) = find_dates(text, TODAY)
    assert isinstance(mention, DateMention)
    assert mention.admits(date.fromisoformat(admitted))
    assert not mention.admits(date.fromisoformat(refused))


def test_spans_are_positions_in_the_text() -> None:
    text = "¿Sí? Put it on Monday, the 16th, at 10"
    (mention,) = find_dates(text, TODAY)
    assert text[slice(*mention.span)] == mention.text == "Monday, the 16th"


POINTS = """
10am                           | 10:00
10 a.m.                        | 10:00
10 AM                          | 10:00
10a                            | 10:00
1pm                            | 13:00
1 p.m.                         | 13:00
1:00 PM                        | 13:00
12pm                           | 12:00
12 am                          | 00:00
1030am                         | 10:30
10.30 am                       | 10:30
08:00                          | 08:00
13:00                          | 13:00
13:00:00                       | 13:00
2026-03-16T10:00:00            | 10:00
10:30                          | 10:30/22:30
10:00                          | 10:00/22:00
1:30                           | 13:30/01:30
at 10                          | 10:00/22:00
at ten                         | 10:00/22:00
at 1030                        | 10:30/22:30
at 14                          | 14:00
half past ten                  | 10:30/22:30
quarter to nine                | 08:45/20:45
quarter past 2                 | 14:15/02:15
ten thirty                     | 10:30/22:30
noon                           | 12:00
12 noon                        | 12:00
midday                         | 12:00
1ish                           | 13:00/01:00
10-ish                         | 10:00/22:00
10:30ish                       | 10:30/22:30
around 2                       | 14:00/02:00
about 2pm                      | 14:00
2 o'clock                      | 14:00/02:00
8 in the morning               | 08:00
1 in the afternoon             | 13:00
friday afternoon at 3          | 15:00
tonight at 7                   | 19:00
3/16 at 10                     | 10:00/22:00
the 20th, 1pm                  | 13:00
march 20 1pm                   | 13:00
monday the 16th at 8 am        | 08:00
move my 3 o'clock to Thursday  | 15:00/03:00
a las 10                       | 10:00/22:00
a la 1 de la tarde             | 13:00
a las diez y media             | 10:30/22:30
mediodía                       | 12:00
8 or 10 am                     | 08:00, 10:00
at 10 or 11                    | 10:00/22:00, 11:00/23:00
"""

BARE = """
10                             | 10:00
1                              | 13:00
8                              | 08:00
8 please                       | 08:00
10 please                      | 10:00
2 please                       | 14:00
ok 10 then                     | 10:00
10 works                       | 10:00
yes but 8                      | 08:00
friday 8                       | 08:00
"""

WINDOWS = """
morning                        | 00:00-12:00
the morning one                | 00:00-12:00
mornings only                  | 00:00-12:00
tomorrow morning               | 00:00-12:00
this afternoon                 | 12:00-17:00
anything next week in the afternoon for the flooring? | 12:00-17:00
tonight                        | 17:00-23:59
evening                        | 17:00-23:59
thursday the 19th, early afternoon | 12:00-14:30
late afternoon                 | 15:00-17:00
mid-morning                    | 09:00-11:30
after 2                        | 14:00-23:59
any time after 1               | 13:00-23:59
3 pm or later                  | 15:00-23:59
no earlier than 10             | 10:00-23:59
not before noon                | 12:00-23:59
from 1pm onwards               | 13:00-23:59
before 11                      | 00:00-11:00
before noon                    | 00:00-12:00
by 3                           | 00:00-15:01
no later than 3                | 00:00-15:01
between 1 and 3                | 13:00-15:00
between 9am and noon           | 09:00-12:00
from 10 to 12                  | 10:00-12:00
1-3pm                          | 13:00-15:00
10-12                          | 10:00-12:00
9-5                            | 09:00-17:00
after lunch                    | 13:00-17:00
before lunch                   | 00:00-12:00
after work                     | 17:00-23:59
por la tarde                   | 12:00-17:00
mañana por la mañana           | 00:00-12:00
first thing                    | 00:00-12:00 earliest
first thing in the morning     | 00:00-12:00 earliest
the earliest slot              | 00:00-23:59 earliest
early as you can               | 00:00-23:59 earliest
as early as possible           | 00:00-23:59 earliest
end of day                     | 15:00-23:59 latest
no mornings                    | 00:00-12:00 not
can't do mornings              | 00:00-12:00 not
not in the morning             | 00:00-12:00 not
"""

NO_TIME = """
I'm on night shift
3 things: 1) who comes 2) which crew
I work afternoons
good morning!
good afternoon
buenos días
morning! can I book something
march 16
3/16
the 16th
in 3 days
3 windows
2 people
for 3 hours
2 or 3 days
5-10 minutes
after 5 weeks
number 2
option 3
the first one
one of them
500101, 500102
SO-26-1001_1
call me at 555-0111
12 Sample Ln
10 dollars
25:00
2026
"""


@pytest.mark.parametrize(("text", "wanted"), rows(POINTS), ids=lambda value: value)
def test_a_point_lists_its_readings_likeliest_first(text: str, wanted: str) -> None:
    mentions = find_times(text)
    assert ", ".join("/".join(f"{c:%H:%M}" for c in m.candidates) for m in mentions) == wanted
    assert all(m.kind == "point" and m.explicit and m.start == m.candidates[0] for m in mentions)


@pytest.mark.parametrize(("text", "wanted"), rows(BARE), ids=lambda value: value)
def test_a_bare_number_is_not_explicit(text: str, wanted: str) -> None:
    (mention,) = find_times(text)
    assert (f"{mention.start:%H:%M}", mention.explicit) == (wanted, False)


@pytest.mark.parametrize(("text", "wanted"), rows(WINDOWS), ids=lambda value: value)
def test_a_window_is_half_open(text: str, wanted: str) -> None:
    (mention,) = find_times(text)
    extra = f" {mention.preference}" if mention.preference != "none" else ""
    extra += f" {mention.relation}" if mention.relation != "at" else ""
    assert f"{mention.start:%H:%M}-{mention.end:%H:%M}{extra}" == wanted
    assert mention.kind == "window"


@pytest.mark.parametrize("text", NO_TIME.strip().splitlines())
def test_numbers_that_are_no_times(text: str) -> None:
    assert find_times(text) == []


@pytest.mark.parametrize(
    ("text", "relations"),
    [("move it from 10 to 1", ["instead_of", "at"]), ("change 8am to 1pm", ["instead_of", "at"]), ("not 8", ["not"])],
)
def test_old_and_refused_times_are_marked(text: str, relations: list[str]) -> None:
    assert [m.relation for m in find_times(text)] == relations


@pytest.mark.parametrize(
    ("text", "admitted", "refused"),
    [
        ("after 2", time(14), time(13)),
        ("before 11", time(10, 59), time(11)),
        ("no later than 3", time(15), time(16)),
        ("no mornings", time(13), time(8)),
        ("at 8", time(20), time(9)),
        ("evening", time(23, 30), time(16)),
    ],
)
def test_which_times_a_mention_admits(text: str, admitted: time, refused: time) -> None:
    (mention,) = find_times(text)
    assert mention.admits(admitted)
    assert not mention.admits(refused)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-03-16", "2026-03-16"),
        ("2026-3-6", "2026-03-06"),
        ("2026-03-16T10:00:00", "2026-03-16"),
        ("2025-03-16", "2026-03-16"),
        ("2024-03-16", "2026-03-16"),
        ("2025-03-10", "2026-03-10"),
        ("2027-01-05", "2027-01-05"),
        ("03/16/2026", "2026-03-16"),
        ("Monday, March 16", "2026-03-16"),
        ("monday", "2026-03-16"),
        ("tomorrow", "2026-03-12"),
        ("yesterday", "2026-03-10"),
        ("16", "2026-03-16"),
        ("the 16th", "2026-03-16"),
        ("el 16 de marzo", "2026-03-16"),
    ],
)
def test_parse_day(text: str, wanted: str) -> None:
    assert parse_day(text, TODAY) == date.fromisoformat(wanted)


def test_a_wrong_year_near_new_year_means_the_coming_one() -> None:
    assert parse_day("2025-01-05", date(2026, 12, 20)) == date(2027, 1, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-02-30", "impossible: February has 28 or 29 days"),
        ("2026-13-01", "there is no month 13"),
        ("99", "no month has a day 99"),
        ("next week", "is a range"),
        ("2026-04", "is a range"),
        ("the first one", "is not a date"),
        ("", "is not a date"),
        ("mon or tues", "names several days"),
        ("before the 20th", "does not name one day"),
    ],
)
def test_parse_day_names_the_problem(text: str, message: str) -> None:
    with pytest.raises(DateError, match=message):
        parse_day(text, TODAY)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10:00", time(10)),
        ("13:00:00", time(13)),
        ("1:00 PM", time(13)),
        ("1 p.m.", time(13)),
        ("1:30", time(13, 30)),
        ("noon", time(12)),
        ("10", time(10)),
        ("1", time(13)),
        ("10:00-12:00", time(10)),
        ("1:00 PM - 3:00 PM", time(13)),
        ("08:00 to 10:00", time(8)),
        ("after 2pm", time(14)),
    ],
)
def test_parse_time(text: str, wanted: time) -> None:
    assert parse_time(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("morning", "part of the day"),
        ("afternoon", "part of the day"),
        ("25:00", "not a time"),
        ("", "not a time"),
        ("soon", "not a time"),
        ("8 or 10", "several times"),
    ],
)
def test_parse_time_names_the_problem(text: str, message: str) -> None:
    with pytest.raises(TimeError, match=message):
        parse_time(text)


def test_saying_a_date_and_a_time() -> None:
    assert (say_date(date(2026, 3, 6)), say_date(date(2026, 3, 16))) == ("Friday, March 6", "Monday, March 16")
    assert [say_time(time(*t)) for t in ((0,), (8,), (12,), (13, 5))] == ["12:00 AM", "8:00 AM", "12:00 PM", "1:05 PM"]


DAYS = st.dates(date(2024, 1, 1), date(2030, 12, 31))


@given(DAYS, st.integers(0, 300))
def test_what_is_said_is_read_back(today: date, ahead: int) -> None:
    day = today + timedelta(days=ahead)
    # Within the rest of the year and the months before this one, the year is implied.
    if (day.year, day.month) == (today.year + 1, today.month):
        return
    assert parse_day(say_date(day), today) == day
    assert parse_day(day.isoformat(), today) == day


@given(st.times().map(lambda t: t.replace(second=0, microsecond=0)))
def test_what_is_said_of_a_time_is_read_back(moment: time) -> None:
    assert parse_time(say_time(moment)) == moment


@given(st.text(max_size=200), DAYS)
def test_any_text_can_be_read(text: str, today: date) -> None:
    for mention in find_dates(text, today):
        assert text[slice(*mention.span)] == mention.text
    for moment in find_times(text):
        assert text[slice(*moment.span)] == moment.text


WORDS = """
    monday the 16th of march and - to from between or , next last week month in 3 31 99 days a weekend before not no
    first may 2/30 2026-02-30 10 10am half past early end this tuesdays until on feb 29 9999 year day after
"""


@given(st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join), DAYS)
def test_any_jumble_of_date_words_can_be_read(text: str, today: date) -> None:
    for mention in find_dates(text, today):
        if isinstance(mention, DateMention):
            assert mention.start <= mention.end
    find_times(text)
