"""Office locations of the caller: which one a word means, what time it is there, how to reach it."""

from __future__ import annotations

import difflib
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tools.contract import Identity, JsonObject, Location, ToolContext
from tools.errors import Ambiguous

ALL = "all"
_ALL_WORDS = frozenset({"all", "*", "any", "every", "everywhere", "all locations", "all stores", "all offices"})
_FILLER = frozenset({"office", "location", "store", "the", "branch", "site"})
CLOSE_MATCH = 0.75


def clients_of(identity: Identity) -> tuple[str, ...]:
    """Client ids of the locations this caller may see, in the session's order."""
    return identity.clients or ((identity.client_id,) if identity.client_id else ())


def locations_of(ctx: ToolContext) -> list[Location]:
    """The caller's locations, as far as the directory knows them."""
    known = (ctx.directory.locations.get(client_id) for client_id in clients_of(ctx.identity))
    return [location for location in known if location is not None]


def location_label(ctx: ToolContext, client_id: str) -> str | None:
    """What people call a location."""
    location = ctx.directory.locations.get(client_id)
    return location.label if location else None


def office_phone(ctx: ToolContext, client_id: str | None) -> str | None:
    """Support number of a location; of the caller's own when there is one only and none is named."""
    own = client_id or ctx.identity.client_id or next(iter(clients_of(ctx.identity)), None)
    location = ctx.directory.locations.get(own) if own else None
    return location.support_number if location else None


def office_phones(ctx: ToolContext) -> list[JsonObject]:
    """Location and phone number of each of the caller's offices."""
    return [{"location": each.label, "phone": each.support_number} for each in locations_of(ctx)]


def local_now(ctx: ToolContext, client_id: str | None = None) -> datetime:
    """Wall-clock time at a location, without offset: comparable to the times of its appointments."""
    now = ctx.clock.now()
    location = ctx.directory.locations.get(client_id) if client_id else None
    return (now.astimezone(ZoneInfo(location.timezone)) if location else now).replace(tzinfo=None)


def time_until(start: datetime, ctx: ToolContext, client_id: str) -> timedelta:
    """From now to a local start at a location, also when clocks change in between."""
    location = ctx.directory.locations.get(client_id)
    zone = ZoneInfo(location.timezone) if location else ctx.clock.now().tzinfo
    return timedelta(seconds=start.replace(tzinfo=zone).timestamp() - ctx.clock.now().timestamp())


async def resolve_location(value: str, ctx: ToolContext) -> str:
    """The client id that a label, city, slug or id means, or `all`; raises `Ambiguous` with the caller's choices."""
    wanted = _words(value)
    if value.strip().casefold() in _ALL_WORDS:
        return ALL
    own = locations_of(ctx)
    names = {client_id.casefold(): client_id for client_id in clients_of(ctx.identity)}
    for location in own:
        for name in (location.label, location.city, location.name):
            names.setdefault(_words(name), location.client_id)
    if value.strip().casefold() in names:
        return names[value.strip().casefold()]
    close = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, n=1, cutoff=CLOSE_MATCH)
    if not close:
        raise Ambiguous("Which of your locations do you mean?", candidates=[location.label for location in own])
    return names[close[0]]


def _words(text: str) -> str:
    kept = [word for word in text.casefold().replace("-", " ").split() if word not in _FILLER]
    return " ".join(kept) or text.casefold()
