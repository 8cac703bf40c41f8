"""The simulator's admin API, as far as an evaluation needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from backend.evaluation.matching import as_clock
from backend.evaluation.scenario import Fault
from backend.evaluation.transcript import Commit, FinalState

JsonObject = dict[str, Any]


class SimulatorError(Exception):
    """The simulator refused or did not answer; the evaluation cannot go on."""


@dataclass(frozen=True, slots=True)
class SimulatorAdmin:
    """Resets, faults, clock and observations of one simulator."""

    client: httpx.AsyncClient  # with base_url and the admin secret

    async def reset(self, fixture: JsonObject | None) -> None:
        """Fresh seed data, nothing armed, the clock where the seed puts it."""
        await self._ask("POST", "/_sim/reset", {"fixture": fixture} if fixture else {})

    async def arm(self, faults: Sequence[Fault]) -> None:
        """Arm these faults."""
        wanted = [fault.model_dump(exclude={"before_turn"}, exclude_none=True) for fault in faults]
        if wanted:
            await self._ask("POST", "/_sim/faults", wanted)

    async def advance(self, seconds: float) -> None:
        """Move the clock on."""
        await self._ask("POST", "/_sim/clock", {"advance_seconds": seconds})

    async def clock(self) -> JsonObject:
        """`{now, frozen, timezone, mode}`."""
        clock: JsonObject = await self._ask("GET", "/_sim/clock")
        return clock

    async def commits(self, after: int) -> tuple[list[Commit], int]:
        """Changes made through the API since number `after`, and the newest number."""
        entries = (await self._ask("GET", f"/_sim/commits?after={after}"))["commits"]
        ours = [entry for entry in entries if entry["source"] == "api"]
        return [commit for entry in ours for commit in read_commit(entry)], max(
            (e["seq"] for e in entries), default=after
        )

    async def requests(self) -> tuple[list[str], int]:
        """Path and query of every request since the reset, and how many of them met a fault."""
        log = (await self._ask("GET", "/_sim/log"))["requests"]
        paths = [f"{entry['path']}?{'&'.join(f'{k}={v}' for k, v in entry['query'].items())}" for entry in log]
        return paths, sum(entry["fault"] is not None for entry in log)

    async def state(self) -> tuple[FinalState, tuple[str, ...]]:
        """What it holds, and the request_ids still open."""
        state = await self._ask("GET", "/_sim/state")
        found = FinalState(
            projects={key: {"status": row["status"], "start": row["start"]} for key, row in state["projects"].items()},
            notes={key: len(rows) for key, rows in state["notes"].items()},
            assignments={key: row["team"] for key, row in state["assignments"].items()},
        )
        return found, tuple(ticket["request_id"] for ticket in state["tickets"])

    async def invariants(self) -> Mapping[str, int]:
        """Counts that should be zero."""
        return {name: int(count) for name, count in (await self._ask("GET", "/_sim/invariants")).items()}

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        try:
            response = await self.client.request(method, path, json=body)
            response.raise_for_status()
            return response.json()
        except httpx.HTTPStatusError as error:
            raise SimulatorError(
                f"{method} {path}: {error.response.status_code} {error.response.text[:300]}"
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise SimulatorError(f"{method} {path}: {error!r}") from error


def read_commit(entry: JsonObject) -> list[Commit]:
    """One entry of the commit log; a bulk assignment holds several changes."""
    kind = str(entry["kind"])
    if kind == "assign":
        return [
            Commit(
                kind, str(c["project_id"]), date=c["after"]["date"], time=c["after"]["start"], team=c["after"]["team"]
            )
            for c in entry["assignments"]
        ]
    start = entry["after"]["start"] if kind == "schedule" else None
    return [
        Commit(
            endpoint=kind,
            project_id=str(entry["project_id"]),
            date=start[:10] if start else None,
            time=as_clock(start[11:]) if start else None,
            note_text=entry["note"]["note_text"] if kind == "add_note" else None,
            previous_start=entry["before"]["start"] if kind != "add_note" else None,
        )
    ]


def admin_client(url: str, secret: str) -> httpx.AsyncClient:
    """A client for one simulator's admin API."""
    return httpx.AsyncClient(base_url=url, headers={"x-sim-secret": secret}, timeout=30.0, trust_env=False)


def moment(clock: JsonObject) -> datetime:
    """The simulator's time."""
    return datetime.fromisoformat(clock["now"])
