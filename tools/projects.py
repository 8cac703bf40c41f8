"""The caller's own projects: read per location, kept for a minute, and the only ones any tool may touch.

Ownership is decided here alone: a project is the caller's if the dashboard of one of the caller's own locations lists
it. Everything else, existing or not, is the same `NotFound`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tools.contract import JsonObject, ToolContext, ToolError
from tools.errors import Ambiguous, NotFound, SignInAgain
from tools.locations import clients_of, location_label
from tools.pf360.models import Project
from tools.wording import clock, dated

CACHE_S = 60.0
# How long a read may lag behind a write before it is believed again.
LAG_S = 120.0
PORTAL_HOSTS = {"dev": "dev", "qa": "qa", "staging": "staging", "prod": "apps"}


@dataclass(frozen=True, slots=True)
class OwnProjects:
    """Projects in the order of locations; `failed` are the client ids that could not be read, by error."""

    projects: tuple[Project, ...]
    failed: dict[str, ToolError]


# --- reading --------------------------------------------------------------------------------------------------------


async def own_projects(
    ctx: ToolContext, client_ids: Sequence[str] | None = None, *, fresh: bool = False
) -> OwnProjects:
    """Projects at these of the caller's locations (all by default), read in parallel.

    A location that fails is reported, unless all do: then the first error is raised, as is `SignInAgain` always.
    """
    wanted = clients_of(ctx.identity) if client_ids is None else client_ids
    if len(wanted) == 1:
        answers = [await _at_location(ctx, wanted[0], fresh)]
    else:
        answers = await asyncio.gather(*(_at_location(ctx, client_id, fresh) for client_id in wanted))
    projects: list[Project] = []
    failed: dict[str, ToolError] = {}
    for client_id, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, ToolError):
            failed[client_id] = answer
        else:
            projects.extend(answer)
    if failed and (len(failed) == len(wanted) or any(isinstance(error, SignInAgain) for error in failed.values())):
        raise next((error for error in failed.values() if isinstance(error, SignInAgain)), next(iter(failed.values())))
    return OwnProjects(tuple(projects), failed)


async def own_project(ctx: ToolContext, project_id: str, *, fresh: bool = False) -> Project:
    """The caller's project with this internal id; `NotFound` when it is not the caller's."""
    known = _cached_project(ctx, project_id)
    if known is not None and not fresh:
        return known
    found = await own_projects(ctx, [known.client_id] if known else None, fresh=fresh)
    for project in found.projects:
        if project.project_id == project_id:
            return project
    raise _missing(found)


async def _at_location(ctx: ToolContext, client_id: str, fresh: bool) -> list[Project] | ToolError:
    asked_at = time.monotonic()
    # One read per location at a time: calls of the same turn that run side by side share it.
    async with ctx.state.lock(f"projects:{client_id}"):
        cached = _cached(ctx, client_id)
        if cached is not None and (not fresh or ctx.state.read_at.get(client_id, 0.0) >= asked_at):
            return cached
        customer_id = ctx.identity.customer_id
        if customer_id is None:
            return SignInAgain("Please sign in to see your projects.")
        generation = ctx.state.generation
        try:
            rows = await ctx.pf360.projects(client_id, customer_id)
        except ToolError as error:
            return error
        projects = [_with_own_writes(ctx, row) for row in rows]
        if generation == ctx.state.generation:  # a write since then makes this answer too old to keep
            _keep(ctx, client_id, projects)
        return projects


def _cached(ctx: ToolContext, client_id: str) -> list[Project] | None:
    entry = ctx.state.values.get("projects", {}).get(client_id)
    if entry is None:
        return None
    # Both clocks count: the product's may be frozen or moved, real time may pass meanwhile.
    aged = ctx.clock.now() - datetime.fromisoformat(entry["clock"])
    if not timedelta(0) <= aged <= timedelta(seconds=CACHE_S) or not 0 <= time.time() - entry["read"] <= CACHE_S:
        return None
    return [Project.from_json(row) for row in entry["rows"]]


def _cached_project(ctx: ToolContext, project_id: str) -> Project | None:
    for client_id in clients_of(ctx.identity):
        for project in _cached(ctx, client_id) or ():
            if project.project_id == project_id:
                return project
    return None


def _keep(ctx: ToolContext, client_id: str, projects: Iterable[Project]) -> None:
    ctx.state.read_at[client_id] = time.monotonic()
    ctx.state.values.setdefault("projects", {})[client_id] = {
        "clock": ctx.clock.now().isoformat(),
        "read": time.time(),
        "rows": [project.to_json() for project in projects],
    }


# --- our own writes -------------------------------------------------------------------------------------------------


def remember_write(ctx: ToolContext, before: Project, status: str, start: datetime | None) -> Project:
    """Note that a write committed, so that a dashboard which lags behind does not undo it in our eyes."""
    end = start + timedelta(hours=before.duration_hours) if start and before.duration_hours else None
    after = replace(before, status=status, start=start, end=end, technician=None)
    writes = ctx.state.values.setdefault("writes", {})
    earlier = [*writes.get(before.project_id, {}).get("superseded", []), _standing(before)]
    writes[before.project_id] = {
        "at": time.time(),
        "status": status,
        "start": start.isoformat() if start else None,
        "superseded": [standing for standing in earlier if standing != _standing(after)],
    }
    forget_projects(ctx)
    return after


def forget_projects(ctx: ToolContext) -> None:
    """Drop what was read of projects: something was, or may have been, changed."""
    ctx.state.generation += 1
    ctx.state.values.pop("projects", None)


def _with_own_writes(ctx: ToolContext, row: Project) -> Project:
    """A row as read, or as our last write left it when the row still shows an earlier standing."""
    writes = ctx.state.values.get("writes", {})
    write = writes.get(row.project_id)
    if write is None or _standing(row) == [write["status"], write["start"]]:
        return row
    if time.time() - write["at"] > LAG_S or _standing(row) not in write["superseded"]:
        del writes[row.project_id]  # somebody else changed it since
        return row
    start = datetime.fromisoformat(write["start"]) if write["start"] else None
    end = start + timedelta(hours=row.duration_hours) if start and row.duration_hours else None
    return replace(row, status=write["status"], start=start, end=end, technician=None)


def _standing(project: Project) -> list[str | None]:
    return [project.status, project.start.isoformat() if project.start else None]


# --- resolving what people say --------------------------------------------------------------------------------------


async def resolve_project_id(value: str, ctx: ToolContext) -> str:
    """The internal id that an order number, a list index or an id means, among the caller's own projects.

    Order numbers count in any case, with or without suffix, and by their last group when that is enough. Words without
    digits may describe the only project of their kind ("window installation").
    """
    listed = _listed(ctx, value)
    if listed is not None and _cached_project(ctx, listed) is not None:
        return listed
    found = await own_projects(ctx)
    wanted = value.casefold()
    matches = (
        [each for each in found.projects if each.project_id == (listed or value)]
        or [each for each in found.projects if each.order_number.casefold() == wanted]
        or [each for each in found.projects if _base(each.order_number) == wanted]
        or [each for each in found.projects if len(wanted) >= 3 and _base(each.order_number).endswith(f"-{wanted}")]
        or [each for each in found.projects if _described(each, wanted)]
    )
    active = [each for each in matches if each.group != "terminal"]
    if len(active) == 1 or len(matches) == 1:
        return (active or matches)[0].project_id
    if matches:
        candidates = [project_view(each, ctx) for each in active or matches]
        raise Ambiguous("Which of these projects do you mean?", candidates=candidates)
    raise _missing(found)


def _listed(ctx: ToolContext, value: str) -> str | None:
    """The project at this place of the list that was shown last."""
    last_list = ctx.state.values.get("last_list", [])
    if value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= len(last_list):
        return str(last_list[int(value) - 1])
    return None


def _base(order_number: str) -> str:
    head, _, suffix = order_number.casefold().rpartition("_")
    return head if head and suffix.isdigit() else order_number.casefold()


def _described(project: Project, words: str) -> bool:
    """Whether every word begins, or is begun by, a word of the project's category or type."""
    own = f"{project.category} {project.type}".casefold().split()
    said = words.replace("-", " ").replace("_", " ").split()
    return not any(char.isdigit() for char in words) and all(
        any(len(word) >= 4 and (name.startswith(word) or word.startswith(name)) for name in own) for word in said
    )


def _missing(found: OwnProjects) -> ToolError:
    """Why a project was not found: a location that did not answer may hold it."""
    if found.failed:
        return next(iter(found.failed.values()))
    return NotFound("I could not find that project among yours.")


# --- showing --------------------------------------------------------------------------------------------------------


def project_view(project: Project, ctx: ToolContext) -> JsonObject:
    """A project as models and people see it: no internal id but in the link, no personal data."""
    view: JsonObject = {
        "order_number": project.order_number,
        "title": title_of(project.category, project.type),
        "category": project.category,
        "type": project.type,
        "status": project.status,
        "status_group": project.group,
        "address": project.address,
        "city": project.city,
        "location": location_label(ctx, project.client_id),
        "link": _link(project, ctx),
    }
    if project.appointment is not None:
        view["appointment"] = appointment_view(project)
    return view


def title_of(category: str, type_: str) -> str:
    """What people call a project: "Windows Installation"; "Deck Repair", not "Deck Repair Repair"."""
    return category if category.casefold().endswith(type_.casefold()) else f"{category} {type_}"


def appointment_view(project: Project) -> JsonObject | None:
    """`{date, weekday, start, end, technician}`; None without an appointment."""
    start, end = project.appointment, project.appointment_end
    if start is None:
        return None
    return {
        **dated(start.date()),
        "start": clock(start),
        "end": clock(end) if end else None,
        "technician": project.technician,
    }


def _link(project: Project, ctx: ToolContext) -> str | None:
    location = ctx.directory.locations.get(project.client_id)
    if location is None or not ctx.directory.portal_url_template:
        return None
    return ctx.directory.portal_url_template.format(
        client_name=location.name,
        environment=PORTAL_HOSTS.get(ctx.directory.environment, "dev"),
        project_id=project.project_id,
    )
