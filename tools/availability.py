"""Searches for open dates and slots, and what of them was offered.

Upstream opens a search with each request for dates; slots and bookings need its ticket. The ticket and the last offer
live in the conversation's working state, so losing that state costs a search and nothing else.
"""

from __future__ import annotations

import asyncio
import time as real_time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TypeVar

from tools.contract import JsonObject, ToolContext, ToolError
from tools.eligibility import HORIZON_DAYS, not_allowed, why_not_bookable
from tools.errors import (
    AlreadyScheduled,
    DateNotAvailable,
    NotAllowed,
    Rejected,
    RequestExpired,
    UpstreamRefusal,
    UpstreamUnavailable,
)
from tools.locations import local_now, office_phone
from tools.pf360.models import Project
from tools.wording import WEEKDAYS, dated, dates

T = TypeVar("T")

FIRST_SEARCH_DAYS = 10
EXTENDED_SEARCH_DAYS = 21
NEAREST = 3
# Upstream keeps a search for 30 minutes; ours ends a little earlier.
OFFER_S = 29 * 60.0


@dataclass(slots=True)
class Offer:
    """The open search of one project: days found since `searched_from`, and slots per day as last read."""

    request_id: str
    searched_from: date
    dates: list[date]
    opened_clock: datetime
    opened_at: float = field(default_factory=real_time.time)
    slots: dict[date, list[time]] = field(default_factory=dict)

    def covers(self, day: date) -> bool:
        """Whether this search says if the day is open: it lies between its first day and the last one found."""
        return bool(self.dates) and self.searched_from <= day <= self.dates[-1]

    def to_json(self) -> JsonObject:
        """JSON values for the working state."""
        return {
            "request_id": self.request_id,
            "searched_from": self.searched_from.isoformat(),
            "dates": [day.isoformat() for day in self.dates],
            "opened_clock": self.opened_clock.isoformat(),
            "opened_at": self.opened_at,
            "slots": {day.isoformat(): [f"{start:%H:%M}" for start in slots] for day, slots in self.slots.items()},
        }

    @classmethod
    def from_json(cls, row: JsonObject) -> Offer:
        """The inverse of `to_json`."""
        return cls(
            request_id=row["request_id"],
            searched_from=date.fromisoformat(row["searched_from"]),
            dates=[date.fromisoformat(day) for day in row["dates"]],
            opened_clock=datetime.fromisoformat(row["opened_clock"]),
            opened_at=row["opened_at"],
            slots={
                date.fromisoformat(day): [time.fromisoformat(start) for start in slots]
                for day, slots in row["slots"].items()
            },
        )


def current_offer(ctx: ToolContext, project: Project) -> Offer | None:
    """The project's open search, unless it is too old."""
    row = ctx.state.values.get("offers", {}).get(project.project_id)
    if row is None:
        return None
    offer = Offer.from_json(row)
    aged = max(real_time.time() - offer.opened_at, (ctx.clock.now() - offer.opened_clock).total_seconds())
    return offer if 0 <= aged <= OFFER_S else None


def keep_offer(ctx: ToolContext, project: Project, offer: Offer) -> None:
    """Store a search in the working state."""
    ctx.state.values.setdefault("offers", {})[project.project_id] = offer.to_json()


def drop_offer(ctx: ToolContext, project: Project) -> None:
    """Forget a search: it was used up, or may have been."""
    ctx.state.values.get("offers", {}).pop(project.project_id, None)


def bookable_days(ctx: ToolContext, project: Project) -> tuple[date, date]:
    """First and last day on which anything can be booked."""
    today = local_now(ctx, project.client_id).date()
    return today + timedelta(days=1), today + timedelta(days=HORIZON_DAYS)


async def search(ctx: ToolContext, project: Project, start: date) -> Offer:
    """Open a search from `start` on. The former one is void; slots that were read under it stay the last offer."""
    try:
        found = await ctx.pf360.open_dates(project.client_id, project.project_id, start)
    except NotAllowed as refusal:
        raise not_allowed(project, ctx) from refusal
    except AlreadyScheduled as refusal:
        # Tenants with the second kind of search answer only once the appointment is released.
        raise why_not_bookable(project, ctx) or refusal from refusal
    except UpstreamRefusal as refusal:
        raise UpstreamUnavailable("I could not look up open dates just now. Please try again in a moment.") from refusal
    first, last = bookable_days(ctx, project)
    former = current_offer(ctx, project)
    offer = Offer(
        request_id=found.request_id,
        searched_from=start,
        dates=[day for day in found.dates if max(first, start) <= day <= last],
        opened_clock=ctx.clock.now(),
        slots=former.slots if former else {},
    )
    keep_offer(ctx, project, offer)
    return offer


def _alone(ctx: ToolContext, project: Project) -> asyncio.Lock:
    """Each search voids the project's former one, so calls that run side by side take turns."""
    return ctx.state.lock(f"search:{project.project_id}")


async def dates_within(ctx: ToolContext, project: Project, start: date, end: date) -> list[date]:
    """Open days from `start` to `end`, both included. Asks on when upstream's own search may end before `end`."""
    async with _alone(ctx, project):
        offer = await search(ctx, project, start)
        further = start + timedelta(days=FIRST_SEARCH_DAYS)
        if not offer.dates and further <= end:
            offer = await search(ctx, project, further)
        return [day for day in offer.dates if day <= end]


async def nearest_dates(ctx: ToolContext, project: Project, wanted: date) -> list[date]:
    """Open days nearest to the wanted one, nearest first; the earlier of two equally near."""
    async with _alone(ctx, project):
        return await _nearest(ctx, project, wanted)


async def _nearest(ctx: ToolContext, project: Project, wanted: date) -> list[date]:
    first, last = bookable_days(ctx, project)
    offer = current_offer(ctx, project)
    if offer is None or offer.searched_from > first:
        offer = await search(ctx, project, first)
    if not offer.dates and (further := first + timedelta(days=FIRST_SEARCH_DAYS)) <= last:
        offer = await search(ctx, project, further)
    return sorted(offer.dates, key=lambda day: (abs(day - wanted), day))[:NEAREST]


async def slots_of(ctx: ToolContext, project: Project, day: date, *, fresh: bool = False) -> list[time]:
    """Open start times of one day, read now and kept as the last offer; raises `DateNotAvailable`.

    Opens a search when none is open; a search that upstream has meanwhile closed is opened again silently.
    """
    async with _alone(ctx, project):
        return await _slots(ctx, project, day, fresh)


async def _slots(ctx: ToolContext, project: Project, day: date, fresh: bool) -> list[time]:
    first, last = bookable_days(ctx, project)
    if not first <= day <= last:
        raise await _unavailable(ctx, project, day)
    offer = None if fresh else current_offer(ctx, project)
    if offer is None or not offer.covers(day):
        offer = await search(ctx, project, day)
    if day not in offer.dates:
        raise await _unavailable(ctx, project, day)
    found = await _with_ticket(ctx, project, day, offer, lambda ticket: _read_slots(ctx, project, day, ticket))
    if not found:
        raise await _unavailable(ctx, project, day)
    return found


async def _with_ticket(
    ctx: ToolContext, project: Project, day: date, offer: Offer, ask: Callable[[Offer], Awaitable[T]]
) -> T:
    """Run a request under a search; once more under a new one when upstream no longer knows the first."""
    try:
        return await ask(offer)
    except (RequestExpired, Rejected):
        renewed = await search(ctx, project, day)
        if day not in renewed.dates:
            raise await _unavailable(ctx, project, day) from None
        try:
            return await ask(renewed)
        except UpstreamRefusal as refusal:
            raise UpstreamUnavailable("I could not look up the times of that day. Please try again.") from refusal


async def _read_slots(ctx: ToolContext, project: Project, day: date, offer: Offer) -> list[time]:
    try:
        answer = await ctx.pf360.open_slots(project.client_id, project.project_id, day, offer.request_id)
    except NotAllowed as refusal:
        raise not_allowed(project, ctx) from refusal
    if answer.request_id:
        offer.request_id = answer.request_id
    offer.slots[day] = list(answer.slots)
    keep_offer(ctx, project, offer)
    return offer.slots[day]


async def _unavailable(ctx: ToolContext, project: Project, day: date) -> DateNotAvailable:
    """Why a day has no slots, with the nearest days that have some."""
    first, last = bookable_days(ctx, project)
    reason, why = await _reason(ctx, project, day, first, last)
    try:
        nearest = await _nearest(ctx, project, max(first, min(day, last)))
    except UpstreamUnavailable:
        nearest = []  # why the day cannot be had is worth saying by itself
    return DateNotAvailable(
        f"{why} {'These are the nearest open dates.' if nearest else 'The office can help you find a date.'}",
        **dated(day),
        reason=reason,
        nearest=dates(nearest),
        office_phone=office_phone(ctx, project.client_id),
    )


async def _reason(ctx: ToolContext, project: Project, day: date, first: date, last: date) -> tuple[str, str]:
    if day < first - timedelta(days=1):
        return "past", "That day is in the past."
    if day < first:
        return "past", "Appointments can be booked from tomorrow on."
    if day > last:
        return "beyond_horizon", f"Appointments can be booked up to {HORIZON_DAYS} days ahead."
    try:
        hours = await ctx.pf360.business_hours(project.client_id)
    except ToolError:
        return "full", "There is no open time on that day."
    if day in hours.closed_dates or not hours.days[day.weekday()].is_open:
        return "closed_day", f"The office is closed on that {WEEKDAYS[day.weekday()]}."
    return "full", "There is no open time on that day."


def times_of(slots: Sequence[time]) -> list[str]:
    """24-hour form, `08:00`."""
    return [f"{start:%H:%M}" for start in slots]
