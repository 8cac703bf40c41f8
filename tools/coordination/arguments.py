"""What all actions of the coordinator group share: who may use them, and the types of their parameters."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from tools.action import Resolved, action
from tools.arguments import plain_text, read_date
from tools.contract import JsonObject, ToolContext
from tools.coordination.issues import Severity
from tools.coordination.plans import Plan
from tools.errors import Forbidden, NotFound
from tools.id_lists import read_id_list
from tools.locations import clients_of

coordinator_action = partial(action, group="coordinator", roles=("coordinator",))

LONGEST_RANGE = timedelta(days=60)

_IDS = {"type": "array", "items": {"type": "string"}}
_DAYS = {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 2, "maxItems": 2}


def office_of(ctx: ToolContext) -> str:
    """The client id of the coordinator's office."""
    clients = clients_of(ctx.identity)
    if not clients:
        raise Forbidden("No office is known for this sign-in.")
    return clients[0]


async def resolve_team(value: str, ctx: ToolContext) -> str:
    """The name of the team that is meant, also without the word team; `NotFound` with the teams there are."""
    names = await ctx.pf360.teams(office_of(ctx))
    wanted = _team_words(value)
    for name in names:
        if _team_words(name) == wanted:
            return str(name)
    raise NotFound(f"There is no team {value!r}. The teams are: {', '.join(names) or 'none'}.", teams=names)


def _team_words(text: str) -> str:
    words = [word for word in text.casefold().replace("-", " ").split() if word not in ("team", "crew", "the")]
    return " ".join(words) or text.casefold()


def read_days(value: Any) -> tuple[date, date]:
    """The first and the last day of a range, in either form: `[from, to]`, `{from, to}`, or one day alone."""
    if isinstance(value, dict):
        value = [value.get("from"), value.get("to")]
    ends = [value, value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if len(ends) == 1:
        ends *= 2
    if len(ends) != 2:
        raise ValueError('must be two dates, such as ["2026-03-16", "2026-03-20"]')
    first, last = (read_date(each) for each in ends)
    if last < first:
        raise ValueError(f"ends on {last} before it begins on {first}")
    if last - first > LONGEST_RANGE:
        raise ValueError(f"must not be longer than {LONGEST_RANGE.days} days")
    return first, last


class StartLocation(BaseModel):
    """Where a route begins, in degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


class PlannedVisit(BaseModel):
    """One stored visit, as it is carried out after a yes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project_id: str
    start: datetime  # local to the office
    hours: float


class LeftOut(BaseModel):
    """A project without a visit, or one that something was overridden for, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project_id: str
    type: str
    severity: Severity
    reason: str
    suggested_resolution: str


class StoredPlan(BaseModel):
    """What a person said yes to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    visits: tuple[PlannedVisit, ...]
    left_out: tuple[LeftOut, ...] = ()

    @staticmethod
    def of(plan: Plan) -> JsonObject:
        """A plan in JSON values."""
        return {
            "visits": [
                {"project_id": v.project.project_id, "start": v.start.isoformat(), "hours": v.project.hours}
                for v in plan.visits
            ],
            "left_out": [issue.to_json() for issue in plan.left_out],
        }


RouteIds = Annotated[
    tuple[str, ...], BeforeValidator(partial(read_id_list, least=2, most=50)), WithJsonSchema(_IDS, mode="validation")
]
ProjectIds = Annotated[
    tuple[str, ...], BeforeValidator(partial(read_id_list, most=100)), WithJsonSchema(_IDS, mode="validation")
]
DateRange = Annotated[tuple[date, date], BeforeValidator(read_days), WithJsonSchema(_DAYS, mode="validation")]
TeamName = Annotated[
    str, BeforeValidator(plain_text), StringConstraints(min_length=1, max_length=80), Resolved(resolve_team)
]
Start = Annotated[
    StartLocation,
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"latitude": {"type": "number"}, "longitude": {"type": "number"}},
            "required": ["latitude", "longitude"],
        },
        mode="validation",
    ),
]
