"""Faults that can be armed per endpoint, the shapes of broken answers, and latency profiles."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from .fixture import Json
from .refusal import invalid, malformed

ENDPOINTS: Final = (
    "dashboard",
    "business_hours",
    "dates",
    "slots",
    "schedule",
    "cancel_reschedule",
    "cancel",
    "add_note",
    "list_notes",
    "weather",
    "batch",
    "assign",
    "teams",
)
HTTP_MODES: Final = {
    "http_401": (401, "auth"),
    "http_403": (403, "forbidden"),
    "http_404": (404, "not_found"),
    "http_429": (429, "rate_limited"),
    "http_500": (500, "internal"),
    "http_503": (503, "unavailable"),
}
MODES: Final = (
    *HTTP_MODES,
    "timeout",
    "slow",
    "slot_taken",
    "error_in_200",
    "commit_then_drop",
    "commit_then_500",
    "stale_read",
    "malformed_json",
    "html_error",
    "empty_200",
    "schema_drift",
    "flap",
)
TIMEOUT_S: Final = 120.0
_SLOW = re.compile(r"slow:(\d{1,6})")
# A write answered wrongly and a read served stale are not the same request, so this mode always acts on E1.
_FIXED_ENDPOINT: Final = {"stale_read": "dashboard", "slot_taken": "schedule"}


@dataclass(slots=True)
class Fault:
    """One armed fault. `times` counts effects, None is without end."""

    endpoint: str
    mode: str
    delay_s: float = 0.0
    times: int | None = None
    match: str | Json | None = None
    p: float = 1.0
    effects: int = 0
    calls: int = 0

    def applies(self, endpoint: str, path: str, params: Mapping[str, str]) -> bool:
        if self.times is not None and self.effects >= self.times:
            return False
        if self.endpoint not in ("*", endpoint) or _FIXED_ENDPOINT.get(self.mode, endpoint) != endpoint:
            return False
        if isinstance(self.match, str):
            return self.match in path
        return all(params.get(key) == str(value) for key, value in (self.match or {}).items())

    def to_json(self) -> Json:
        mode = f"slow:{round(self.delay_s * 1000)}" if self.mode == "slow" else self.mode
        return {
            "endpoint": self.endpoint,
            "mode": mode,
            "times": self.times,
            "match": self.match,
            "p": self.p,
            "effects": self.effects,
        }


def read_faults(body: object) -> list[Fault]:
    """The faults of an admin body: one object or a list; 400 or 422 names what is wrong."""
    items = body if isinstance(body, list) else [body]
    return [_read_fault(item) for item in items]


def _read_fault(item: object) -> Fault:
    if not isinstance(item, dict):
        raise malformed("a fault is an object {endpoint, mode, times?, match?, p?}")
    unknown = set(item) - {"endpoint", "mode", "times", "match", "p", "before_turn"}
    if unknown:
        raise invalid(f"unknown fault key {', '.join(sorted(unknown))}")
    endpoint, mode = item.get("endpoint", "*"), str(item.get("mode"))
    times, match, p = item.get("times"), item.get("match"), item.get("p", 1.0)
    slow = _SLOW.fullmatch(mode)
    mode = "slow" if slow else mode
    if endpoint not in (*ENDPOINTS, "*"):
        raise invalid(f"endpoint must be * or one of {', '.join(ENDPOINTS)}")
    if mode not in MODES or (mode == "slow" and not slow):
        raise invalid(f"mode must be one of {', '.join(MODES)} (slow as slow:<ms>)")
    if not (times is None or (isinstance(times, int) and not isinstance(times, bool) and times > 0)):
        raise invalid("times must be a positive number or absent")
    if not (match is None or isinstance(match, str | dict)):
        raise invalid("match must be text found in the path or an object of path values")
    if not isinstance(p, int | float) or not 0 <= p <= 1:
        raise invalid("p must be between 0 and 1")
    if mode == "stale_read":
        endpoint = "dashboard"
    return Fault(endpoint, mode, int(slow[1]) / 1000 if slow else 0.0, times, match, float(p))


@dataclass(slots=True)
class Faults:
    """The armed faults, in the order in which they were armed; the first that applies acts."""

    armed: list[Fault] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def pick(self, endpoint: str, path: str, params: Mapping[str, str]) -> Fault | None:
        for fault in self.armed:
            if fault.applies(endpoint, path, params):
                fault.calls += 1
                if fault.mode == "flap":
                    # Odd calls fail (with probability p), even ones succeed; both use up `times`.
                    fails = fault.calls % 2 == 1 and self.rng.random() < fault.p
                    fault.effects += 1
                    return fault if fails else None
                if fault.p >= 1 or self.rng.random() < fault.p:
                    return fault
        return None


# --- answers in other shapes ----------------------------------------------------------------------------------------

OPTIONAL_ROW_FIELDS: Final = (
    "project_store_store_number",
    "store_info_store_number",
    "store_info_store_name",
    "project_po_number",
    "project_installation_address_id",
    "installation_address_address2",
    "project_date_sold",
    "project_date_completed_date",
    "customer_email",
    "customer_phone",
    "client_client_name",
)


def drift(endpoint: str, body: Json) -> Json:
    """The same facts as another version of the upstream would put them."""
    return _DRIFTS.get(endpoint, _without_status)(body)


def _without_status(body: Json) -> Json:
    return {key: value for key, value in body.items() if key != "status"}


def _drift_dashboard(body: Json) -> Json:
    rows = []
    for row in body["data"]:
        kept = {k: v for k, v in row.items() if k not in OPTIONAL_ROW_FIELDS}
        for key in ("project_project_id", "customer_customer_id"):
            kept[key] = _as_int(kept[key])
        rows.append({k: v for k, v in kept.items() if v is not None})
    return {"data": rows}


def _drift_dates(body: Json) -> Json:
    data = body["data"]
    days = data["dates"]
    jumbled = days[1::2] + days[0::2][::-1]
    generic = [f"{hour:02d}:00:00" for hour in range(8, 17)]
    return {"data": {"availableDates": jumbled, "request_id": data["request_id"], "slots": generic}}


def _drift_slots(body: Json) -> Json:
    return {"data": {"timeSlots": body["data"]["slots"]}}


def _drift_hours(body: Json) -> Json:
    data = body["data"]
    days = [
        {"day": row["day"], "is_working": row["is_working"], "start_time": row["start"], "end_time": row["end"]}
        for row in data["workHours"]
    ]
    return {"data": {"workHours": days, "timezone": data["timezone"]}}


def _drift_write(body: Json) -> Json:
    return {"message": body["message"], "data": True}


def _drift_message(body: Json) -> Json:
    return {"message": body["message"]}


def _drift_notes(body: Json) -> Json:
    return {"notes": [{k: v for k, v in note.items() if k != "updated_at"} for note in body["data"]]}


def _drift_batch(body: Json) -> Json:
    if not isinstance(body["data"], list):  # a validation answers with one object
        return _without_status(body)
    rows = [{**row, "project_id": _as_int(row["project_id"])} for row in body["data"]]
    return {"data": [{k: v for k, v in row.items() if v is not None} for row in rows]}


def _as_int(text: str) -> int | str:
    return int(text) if text.isdigit() else text


_DRIFTS: Final[dict[str, Callable[[Json], Json]]] = {
    "dashboard": _drift_dashboard,
    "business_hours": _drift_hours,
    "dates": _drift_dates,
    "slots": _drift_slots,
    "schedule": _drift_write,
    "cancel_reschedule": _drift_message,
    "cancel": _drift_message,
    "add_note": _drift_message,
    "list_notes": _drift_notes,
    "batch": _drift_batch,
}

# --- latency --------------------------------------------------------------------------------------------------------

Profile = Literal["instant", "normal", "slow", "brownout"]
PROFILES: Final[tuple[Profile, ...]] = ("instant", "normal", "slow", "brownout")
# p50 and p95 in seconds of the three kinds of request
NORMAL_S: Final = {"read": (0.080, 0.250), "availability": (0.5, 1.5), "write": (0.3, 0.9)}
NORMAL_QUANTILE_95: Final = 1.6449
BROWNOUT_503, BROWNOUT_STALL, STALL_S = 0.10, 0.05, 8.0


@dataclass(slots=True)
class Latency:
    """A seeded source of delays: log-normal, by kind of request."""

    profile: Profile = "instant"
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def draw(self, kind: str) -> tuple[float, bool]:
        """Seconds to wait, and whether the request then fails with 503."""
        if self.profile == "instant":
            return 0.0, False
        median, p95 = NORMAL_S[kind]
        delay = self.rng.lognormvariate(math.log(median), math.log(p95 / median) / NORMAL_QUANTILE_95)
        if self.profile == "slow":
            return delay * 4, False
        if self.profile == "brownout":
            dice = self.rng.random()
            if dice < BROWNOUT_503:
                return delay, True
            if dice < BROWNOUT_503 + BROWNOUT_STALL:
                return STALL_S, False
        return delay, False


def read_profile(body: object) -> Latency:
    profile = body.get("profile") if isinstance(body, dict) else None
    seed = body.get("seed", 0) if isinstance(body, dict) else 0
    if not isinstance(seed, int):
        raise invalid("seed must be a whole number")
    for known in PROFILES:
        if profile == known:
            return Latency(known, random.Random(seed))
    raise invalid(f"profile must be one of {', '.join(PROFILES)}")
