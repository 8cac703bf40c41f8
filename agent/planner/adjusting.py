"""Fits an open wish to what was said next: a pick from what was shown, other days or hours, a neighbour of the last."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from agent.planner.frame import Frame, Window, Wish
from agent.planner.knowledge import Knowledge
from agent.planner.reading import FAR, MIDDLE, Said, narrow


class Adjuster:
    """Works on one frame; changes nothing but the wishes it is given."""

    def __init__(self, knowledge: Knowledge, frame: Frame, today: date) -> None:
        self._k = knowledge
        self._frame = frame
        self._today = today

    def adjust(self, wish: Wish, said: Said) -> Wish:
        """The open wish with what this clause adds: a pick from what was shown, or narrower days and times."""
        frame, record = self._frame, self._k.record_slot.name
        day, clock = self._k.day_slot.name, self._k.time_slot.name
        wish = replace(wish, raw=said.raw, shift=0 if said.days else wish.shift)
        if said.names_record or (frame.asked == record and not said.days):
            wish = replace(wish, mention=said.raw)
            if self._k.patterns["unchanged"].search(said.mended):
                wish = _reopened(wish, day, clock)
            if record in wish.values:
                wish = wish.without(record).with_value("was", wish.values[record])
        if self._k.intents[wish.intent].tell.get("later") or self._later(said):
            wish = self._after_shown(wish)
        said = self._as_spoken_of(wish, said)
        if (value := wish.values.get(clock)) and not said.times and (window := self._beside(said, value)):
            return replace(wish.without(clock), times=(window,), hours=said.raw)
        picked = self._picked(said, wish)
        if picked is not None:
            kind, choice = picked
            wish = wish.without(clock) if kind == day else wish
            wish = replace(wish, times=() if kind == clock else wish.times).with_value(kind, choice)
            return narrow(wish, replace(said, days=()), self._today, *self._k.when) if kind == day else wish
        if (value := wish.values.get(day)) and not said.days and (step := self._neighbour(said)):
            moved = (date.fromisoformat(value) + timedelta(days=step)).isoformat()
            return replace(_reopened(wish, day, clock), days=(Window(moved, moved),))
        if said.days and not said.times and clock in wish.values:
            wish = _reopened(wish, day, clock)
        wish = self.relative(wish, said)
        expects_time = frame.asked in (clock, "any", "go") or day in wish.values or bool(said.days)
        times = tuple(t for t in said.times if t.relation == "at" and (t.explicit or expects_time))
        return narrow(wish, replace(said, times=times), self._today, *self._k.when)

    def relative(self, wish: Wish, said: Said) -> Wish:
        """ "A day later", "the same time": measured from where the record stands now."""
        if (step := self._neighbour(said)) and self._k.day_slot.name not in wish.values:
            wish = replace(wish, shift=step)
        if self._k.patterns["unchanged"].search(said.mended) and self._k.time_slot.name not in wish.values:
            wish = replace(wish, same_time=True)
        return wish

    def _as_spoken_of(self, wish: Wish, said: Said) -> Said:
        """ "Tuesday at 8" with a Tuesday on the table means that one, not the next there is."""
        value = wish.values.get(self._k.day_slot.name)
        if value is None or self._k.patterns["other_week"].search(said.mended):
            return said
        days = tuple(
            m
            for m in said.days
            if not (m.kind == "weekday" and m.relation == "on" and m.start.weekday() == _weekday(value))
        )
        return replace(said, days=days)

    def _beside(self, said: Said, clock: str) -> Window | None:
        """ "Anything earlier?": the hours before the one on the table; "later": those after it."""
        if self._k.patterns["sooner"].search(said.mended):
            return Window("00:00", clock)
        return (
            Window(f"{clock[:4]}{int(clock[4]) + 1}", "24:00")
            if self._k.patterns["later"].search(said.mended)
            else None
        )

    def _neighbour(self, said: Said) -> int:
        """ "The day after" the one spoken of: 1, "the day before": -1, else 0."""
        if self._k.patterns["week_alone"].search(said.mended) and not said.days:
            return 7
        if self._k.patterns["day_after"].search(said.mended):
            return 1
        return -1 if self._k.patterns["day_before"].search(said.mended) else 0

    def _later(self, said: Said) -> bool:
        shown = self._frame.shown
        further = self._k.patterns["further"].search(said.mended)
        return bool(further) and shown is not None and shown.kind == self._k.day_slot.name and not said.days

    def _after_shown(self, wish: Wish) -> Wish:
        """Days after the last one on show, for whoever wants to see more."""
        shown = self._frame.shown
        if shown is None or shown.kind != self._k.day_slot.name or not shown.options:
            return wish
        following = date.fromisoformat(shown.options[-1]) + timedelta(days=1)
        wish = wish.without(self._k.day_slot.name, self._k.time_slot.name)
        return replace(wish, days=(Window(following.isoformat(), FAR),), pick=None)

    def _picked(self, said: Said, wish: Wish) -> tuple[str, str] | None:
        """An option of the last offer, by position, by bare number, or by the only one that fits a weekday."""
        shown = self._frame.shown
        day, clock = self._k.day_slot.name, self._k.time_slot.name
        if shown is None or shown.kind == self._k.record_slot.name:
            return None
        options = shown.options + shown.more
        if shown.kind == day:
            if self._k.patterns["that_day"].search(said.mended) and not said.days:
                return day, shown.options[0]
            named = [m for m in said.days if m.kind in ("weekday", "day") and m.relation == "on"]
            if (
                len(named) == 1
                and named[0].kind == "weekday"
                and not self._k.patterns["other_week"].search(said.mended)
            ):
                same = [o for o in shown.options if _weekday(o) == named[0].start.weekday()]
                if len(same) == 1:
                    return day, same[0]
            if said.days:
                return None
        if said.positions and not said.days:
            n = said.positions[0]
            if n == MIDDLE:
                return shown.kind, shown.options[(len(shown.options) - 1) // 2]
            if n == -1 or 1 <= n <= len(shown.options):
                return shown.kind, shown.options[n if n == -1 else n - 1]
        bare = [t.start.hour if t.kind == "point" else 0 for t in said.times if not t.explicit]
        numbers = said.numbers or tuple(bare)
        if shown.kind == day and len(numbers) == 1 and not said.days and not [t for t in said.times if t.explicit]:
            text = "".join(c for c in said.raw if c.isdigit())
            n = int(text) if text and len(text) <= 2 else numbers[0]
            if 1 <= n <= len(shown.options):
                return day, shown.options[n - 1]
            by_day = [o for o in options if int(o[-2:]) == n]
            if len(by_day) == 1:
                return day, by_day[0]
        if shown.kind == clock and len(said.numbers) == 1 and not said.times:
            n = said.numbers[0]
            if 1 <= n <= len(shown.options):
                return clock, shown.options[n - 1]
        return None

    def relates(self, said: Said) -> bool:
        """Whether it speaks of a day or time only in relation to the one on the table."""
        if self._k.patterns["sooner"].search(said.mended) or self._k.patterns["later"].search(said.mended):
            return True
        return bool(self._neighbour(said) or self._later(said) or self._k.patterns["unchanged"].search(said.mended))


def _reopened(wish: Wish, day: str, clock: str) -> Wish:
    """The same day and time, to be looked for again: what was chosen for one record is only wished for another."""
    if value := wish.values.get(day):
        wish = replace(wish, days=(Window(value, value),))
    if value := wish.values.get(clock):
        wish = replace(wish, times=(Window(value, f"{value[:3]}{int(value[3:]) + 1:02d}"),))
    return wish.without(day, clock)


def _weekday(day: str) -> int:
    return date.fromisoformat(day).weekday()
