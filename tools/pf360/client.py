"""HTTP client of the PF360 scheduling API.

One method per endpoint. Reads are tried again after transient failures; anything that changes state is sent once,
whatever its HTTP method. A transient failure after sending is `OutcomeUncertain`: for a write, somebody has to look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import orjson

from tools.breaker import Breaker, BreakerOpen
from tools.contract import ToolError
from tools.errors import (
    AlreadyScheduled,
    Cutoff,
    Forbidden,
    InvalidStep,
    Missing,
    NotAllowed,
    OutcomeUncertain,
    RateLimited,
    Rejected,
    RequestExpired,
    SignInAgain,
    SlotTaken,
    UpstreamUnavailable,
)
from tools.pf360 import readers
from tools.pf360.models import (
    Assignment,
    AssignmentAnswer,
    BusinessHours,
    JsonObject,
    Note,
    OpenDates,
    OpenSlots,
    Project,
    QueuedProject,
    Released,
    TeamSchedule,
    Weather,
)

T = TypeVar("T")
TokenSource = Callable[[], Awaitable[str]]

# HTTP status of the last answer within the current tool call, for the record of that call.
upstream_status: ContextVar[int | None] = ContextVar("upstream_status", default=None)

UNAVAILABLE_HINT = "The scheduling system is not answering properly at the moment. Please try again in a little while."


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `slow_s` is for availability searches and for everything that changes state."""

    connect_s: float = 3.0
    read_s: float = 8.0
    slow_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How reads are tried again: one more try per pause in `backoff_s`; a 429 waits at most `max_wait_s`."""

    backoff_s: tuple[float, ...] = (0.5, 1.0)
    max_wait_s: float = 2.0


@dataclass(frozen=True, slots=True)
class TestMode:
    """Switches that keep writes from being sent: bookings, moves and assignments; or cancellations. Results say so."""

    __test__ = False  # not a test case

    confirm: bool = False
    cancel: bool = False


class Pf360:
    """The scheduling API for one caller. Cheap to make: bind one to each caller's token, share `client` and breakers.

    `token_source` gives the caller's bearer token; it is asked for each request and never kept. The weather service
    is another upstream, with its own breaker, and gets no token.
    """

    def __init__(
        self,
        base_url: str,
        client: httpx.AsyncClient,
        token_source: TokenSource,
        *,
        timeouts: Timeouts = Timeouts(),
        retries: Retries = Retries(),
        breaker: Breaker | None = None,
        weather_url: str | None = None,
        weather_breaker: Breaker | None = None,
        test_mode: TestMode = TestMode(),
        created_at_format: str = "%m-%d-%Y %H:%M:%S",
        created_at_zone: str = "UTC",
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._token_source = token_source
        self._read_timeout = httpx.Timeout(timeouts.read_s, connect=timeouts.connect_s)
        self._slow_timeout = httpx.Timeout(timeouts.slow_s, connect=timeouts.connect_s)
        self._retries = retries
        self._breaker = breaker or Breaker("pf360")
        self._weather_url = (weather_url or f"{self._base_url}/weather").rstrip("/")
        self._weather_breaker = weather_breaker or Breaker("weather")
        self._created_at = (created_at_format, ZoneInfo(created_at_zone))
        self.test_mode = test_mode

    # --- reads ----------------------------------------------------------------------------------------------------

    async def projects(self, client_id: str, customer_id: str) -> list[Project]:
        """All projects of a customer at one location."""
        return await self._read(
            client_id,
            f"/dashboard/get/{_seg(client_id)}/{_seg(customer_id)}",
            lambda body: readers.projects(body, client_id, customer_id),
        )

    async def business_hours(self, client_id: str) -> BusinessHours:
        """Opening hours of one location."""
        return await self._read(
            client_id, f"/scheduler/client/{_seg(client_id)}/business-hours", readers.business_hours
        )

    async def open_dates(self, client_id: str, project_id: str, start: date) -> OpenDates:
        """Open days from `start` on, as far as upstream searches; opens a search that replaces the former one."""
        return await self._read(
            client_id, self._slots_path(client_id, project_id, start), readers.open_dates, self._slow_timeout
        )

    async def open_slots(self, client_id: str, project_id: str, day: date, request_id: str) -> OpenSlots:
        """Open start times of one day that the search `request_id` offered."""
        return await self._read(
            client_id,
            f"{self._slots_path(client_id, project_id, day)}?request_id={quote(request_id, safe='')}",
            readers.open_slots,
            self._slow_timeout,
        )

    async def notes(self, client_id: str, customer_id: str, project_id: str) -> list[Note]:
        """Notes of a project, newest first."""
        path = f"/communication/client/{_seg(client_id)}/customer/{_seg(customer_id)}/project/{_seg(project_id)}/notes"
        return await self._read(client_id, path, readers.notes)

    async def queue(self, client_id: str, project_ids: Sequence[str]) -> list[QueuedProject]:
        """Entries of a coordinator's work list; those that the location does not have are missing."""
        ids = quote(",".join(project_ids), safe=",")
        return await self._read(client_id, f"/projects/batch?ids={ids}", readers.queue)

    async def teams(self, client_id: str) -> list[str]:
        """Names of a location's teams."""
        return await self._read(client_id, "/teams", readers.teams)

    async def team_schedule(self, client_id: str, team: str, first: date, last: date) -> TeamSchedule:
        """A team's calendar from `first` to `last`, both included."""
        span = f"from={first.isoformat()}&to={last.isoformat()}"
        return await self._read(client_id, f"/teams/{_seg(team)}/schedule?{span}", readers.team_schedule)

    async def weather(self, place: str) -> Weather:
        """Current conditions and forecast of a place."""

        async def attempt() -> Weather:
            url = f"{self._weather_url}/{_seg(place)}?format=j1"
            body = await self._exchange("GET", url, {}, self._read_timeout, self._weather_breaker)
            return _understood(readers.weather, body)

        return await self._retried(attempt)

    # --- writes: sent once ----------------------------------------------------------------------------------------

    async def schedule(
        self, client_id: str, project_id: str, day: date, start: time, request_id: str, now: datetime
    ) -> None:
        """Book a slot. Returns when upstream says that it did."""
        form, zone = self._created_at
        body = {
            "created_at": now.astimezone(zone).strftime(form),
            "date": day.isoformat(),
            "time": start.strftime("%H:%M:%S"),
            "request_id": request_id,
            "is_chatbot": "true",  # a string upstream, not a boolean
        }
        path = f"/scheduler/client/{_seg(client_id)}/project/{_seg(project_id)}/schedule"
        await self._write("POST", client_id, path, readers.acknowledged, body)

    async def release(self, client_id: str, project_id: str) -> Released:
        """Give an appointment up in order to move it. A GET that changes state."""
        path = f"/scheduler/client/{_seg(client_id)}/project/{_seg(project_id)}/cancel-reschedule"
        return await self._write("GET", client_id, path, readers.released)

    async def cancel(self, client_id: str, project_id: str) -> None:
        """Cancel an appointment. A GET that changes state."""
        path = f"/scheduler/{_seg(client_id)}/{_seg(project_id)}/cancel-appointment"
        await self._write("GET", client_id, path, readers.acknowledged)

    async def add_note(self, client_id: str, project_id: str, text: str, author: str) -> None:
        """Append a note to a project."""
        path = f"/project-notes/add/{_seg(client_id)}/{_seg(project_id)}"
        await self._write("POST", client_id, path, readers.acknowledged, {"note_text": text, "author": author})

    async def assign(self, client_id: str, assignments: Sequence[Assignment], actor: str) -> list[AssignmentAnswer]:
        """Assign projects to teams; each succeeds or fails on its own, and one that stands already changes nothing."""
        items = [
            {
                "project_id": each.project_id,
                "team": each.team,
                "date": each.start.date().isoformat(),
                "start": each.start.strftime("%H:%M"),
            }
            for each in assignments
        ]
        body = {"assignments": items, "actor": actor}
        return await self._write("POST", client_id, "/assignments/bulk", readers.assignment_answers, body)

    # --- one exchange ---------------------------------------------------------------------------------------------

    @staticmethod
    def _slots_path(client_id: str, project_id: str, day: date) -> str:
        on = day.isoformat()
        return (
            f"/scheduler/client/{_seg(client_id)}/project/{_seg(project_id)}"
            f"/date/{on}/selected/{on}/get-rescheduler-slots"
        )

    async def _read(
        self, client_id: str, path: str, reader: Callable[[Any], T], limits: httpx.Timeout | None = None
    ) -> T:
        async def attempt() -> T:
            headers = await self._headers(client_id)
            body = await self._exchange(
                "GET", self._base_url + path, headers, limits or self._read_timeout, self._breaker
            )
            return _understood(reader, body)

        return await self._retried(attempt)

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for pause in self._retries.backoff_s:
            try:
                return await attempt()
            except RateLimited as limited:
                wait = limited.facts["retry_after_s"]
                if wait > self._retries.max_wait_s:
                    raise
                await asyncio.sleep(wait)
            except BreakerOpen:
                raise
            except UpstreamUnavailable:
                await asyncio.sleep(pause)
        return await attempt()

    async def _write(
        self, method: str, client_id: str, path: str, reader: Callable[[Any], T], body: JsonObject | None = None
    ) -> T:
        headers = await self._headers(client_id)
        answer = await self._exchange(method, self._base_url + path, headers, self._slow_timeout, self._breaker, body)
        return _understood(reader, answer)

    async def token(self) -> str:
        """The caller's bearer token, for a function of ours that asks upstream in the caller's name."""
        return await self._token_source()

    async def _headers(self, client_id: str) -> dict[str, str]:
        return {
            "authorization": f"Bearer {await self._token_source()}",
            "client_id": client_id,
            "content-type": "application/json",
            "accept": "application/json",
        }

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        limits: httpx.Timeout,
        breaker: Breaker,
        body: JsonObject | None = None,
    ) -> Any:
        """Send one request; decoded JSON of a success. Raises typed errors for everything else."""
        content = orjson.dumps(body) if body is not None else None
        async with breaker.guard(UpstreamUnavailable):
            try:
                response = await self._client.request(method, url, headers=headers, content=content, timeout=limits)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as failure:
                raise UpstreamUnavailable(UNAVAILABLE_HINT) from failure  # never reached the other side
            except httpx.TransportError as failure:
                raise OutcomeUncertain(UNAVAILABLE_HINT) from failure
            upstream_status.set(response.status_code)
            return _body(response)


def _body(response: httpx.Response) -> Any:
    """Decoded body of a success; raises what the status, the code or the message means otherwise."""
    try:
        body: Any = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    status = response.status_code
    if status >= 500 or 300 <= status < 400:
        raise OutcomeUncertain(UNAVAILABLE_HINT)
    if status >= 400:
        raise _refusal(status, body, response.headers)
    if body is None:
        raise OutcomeUncertain(UNAVAILABLE_HINT)
    if isinstance(body, dict) and (body.get("error") or _says(body, "status") in ("error", "fail", "failed")):
        # A failure in the clothes of a success. Only a code of ours says more than that.
        known = _CODES.get(_code(body))
        raise known() if known else OutcomeUncertain(UNAVAILABLE_HINT)
    return body


def _understood(reader: Callable[[Any], T], body: Any) -> T:
    try:
        return reader(body)
    except readers.Unreadable as problem:
        raise OutcomeUncertain(UNAVAILABLE_HINT) from problem


def _not_allowed() -> ToolError:
    return NotAllowed("This project cannot be scheduled online. The office can help with it.")


_CODES: dict[str, Callable[[], ToolError]] = {
    "auth": lambda: SignInAgain("Your sign-in has expired. Please sign in again."),
    "forbidden": lambda: Forbidden("You do not have access to that location."),
    "not_found": Missing,
    "not_allowed": _not_allowed,
    "already_scheduled": lambda: AlreadyScheduled("There is already an appointment for this project."),
    "invalid_step": InvalidStep,
    "validation": Rejected,
    "slot_taken": lambda: SlotTaken("Somebody else has just booked that time."),
    "cutoff": lambda: Cutoff("It is too close to the appointment to change it here."),
    "request_expired": RequestExpired,
}

_BY_STATUS = {
    401: "auth",
    403: "forbidden",
    404: "not_found",
    409: "slot_taken",
    410: "request_expired",
}

_BY_MESSAGE = (
    (("not allowed", "not permitted", "not eligible"), "not_allowed"),
    (("already scheduled", "already requested", "already assigned"), "already_scheduled"),
    (("invalid process step", "project status should be"), "invalid_step"),
    (("cutoff", "hours before"), "cutoff"),
)


def _refusal(status: int, body: Any, headers: httpx.Headers) -> ToolError:
    """The error of a 4xx answer: by its code, else its message, else its status."""
    if status == 429:
        return RateLimited("That is a bit too fast. Please try again in a moment.", retry_after_s=_retry_after(headers))
    if status in (401, 403, 410):
        return _CODES[_BY_STATUS[status]]()
    known = _CODES.get(_code(body))
    if known:
        return known()
    message = _says(body, "message") or _says(body, "error")
    for fragments, code in _BY_MESSAGE:
        if any(fragment in message for fragment in fragments):
            return _CODES[code]()
    return _CODES[_BY_STATUS.get(status, "validation")]()


def _retry_after(headers: httpx.Headers) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", "1")))
    except ValueError:
        return 60.0  # a date: longer than anyone waits within a turn


def _code(body: Any) -> str:
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return _says(body["error"], "code")
    return _says(body, "code")


def _says(body: Any, key: str) -> str:
    value = body.get(key) if isinstance(body, dict) else None
    return value.strip().casefold() if isinstance(value, str) else ""


def _seg(value: str) -> str:
    return quote(value, safe="")
