"""Calls to the PF360 simulator as its tests write them: one method per operation, raw answers back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson

from backend.embedded.pf360_simulator.app import App, create_app
from backend.embedded.pf360_simulator.clock import ClockMode
from backend.embedded.pf360_simulator.simulator import Config

JWT_SECRET = "a-secret-for-tests-that-is-long-enough"
ADMIN_SECRET = "admin-secret-for-tests"
BK, LM, PE, RW = "20OC01BK", "20OC02LM", "20OC03PE", "20OC04RW"
TODAY = "2026-03-11"


def config(clock: ClockMode = "fixture", state_file: Path | None = None) -> Config:
    return Config(JWT_SECRET, ADMIN_SECRET, clock, state_file)


def token(customer_id: str | None = "7000101", clients: tuple[str, ...] = (BK,), **claims: Any) -> str:
    content: dict[str, Any] = {
        "sub": customer_id or "K-01",
        "role": "customer",
        "customer_id": customer_id,
        "clients": list(clients),
        "exp": time.time() + 600,
    }
    return jwt.encode(content | claims, JWT_SECRET, algorithm="HS256")


class Pf360:
    """One signed-in caller of the simulator, and the admin beside it."""

    def __init__(self, http: httpx.AsyncClient, bearer: str, client_id: str = BK, today: str = TODAY) -> None:
        self.http = http
        self.client_id = client_id
        self.today = today
        self.headers = {"authorization": f"Bearer {bearer}", "client_id": client_id}

    def other(
        self, customer_id: str | None, clients: tuple[str, ...], client_id: str | None = None, **claims: Any
    ) -> Pf360:
        return Pf360(self.http, token(customer_id, clients, **claims), client_id or clients[0], self.today)

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.http.get(path, headers=self.headers, params=query or None)

    async def post(self, path: str, body: object) -> httpx.Response:
        return await self.http.post(path, headers=self.headers, json=body)

    async def dashboard(self, customer_id: str = "7000101") -> httpx.Response:
        return await self.get(f"/dashboard/get/{self.client_id}/{customer_id}")

    async def row(self, project_id: str, customer_id: str = "7000101") -> dict[str, Any]:
        rows = (await self.dashboard(customer_id)).json()["data"]
        return next(row for row in rows if str(row["project_project_id"]) == project_id)

    def _project(self, project_id: str) -> str:
        return f"/scheduler/client/{self.client_id}/project/{project_id}"

    async def dates(self, project_id: str, day: str | None = None) -> httpx.Response:
        day = day or self.today
        return await self.get(f"{self._project(project_id)}/date/{day}/selected/{day}/get-rescheduler-slots")

    async def request_id(self, project_id: str) -> str:
        return str((await self.dates(project_id)).json()["data"]["request_id"])

    async def slots(self, project_id: str, day: str, request_id: str) -> httpx.Response:
        path = f"{self._project(project_id)}/date/{day}/selected/{day}/get-rescheduler-slots"
        return await self.get(path, request_id=request_id)

    async def schedule(self, project_id: str, day: str, slot: str, request_id: str, **more: Any) -> httpx.Response:
        body = {
            "created_at": "03-11-2026 13:30:00",
            "date": day,
            "time": slot,
            "request_id": request_id,
            "is_chatbot": "true",
        }
        return await self.post(f"{self._project(project_id)}/schedule", body | more)

    async def book(self, project_id: str, day: str, slot: str) -> httpx.Response:
        return await self.schedule(project_id, day, slot, await self.request_id(project_id))

    async def release(self, project_id: str) -> httpx.Response:
        return await self.get(f"{self._project(project_id)}/cancel-reschedule")

    async def cancel(self, project_id: str) -> httpx.Response:
        return await self.get(f"/scheduler/{self.client_id}/{project_id}/cancel-appointment")

    async def note(self, project_id: str, text: object, **more: Any) -> httpx.Response:
        return await self.post(f"/project-notes/add/{self.client_id}/{project_id}", {"note_text": text, **more})

    async def notes(self, project_id: str, customer_id: str = "7000101") -> httpx.Response:
        path = f"/communication/client/{self.client_id}/customer/{customer_id}/project/{project_id}/notes"
        return await self.get(path)

    async def admin(self, method: str, path: str, body: object = None, **query: str) -> httpx.Response:
        headers = {"x-sim-secret": ADMIN_SECRET}
        content = b"" if body is None else orjson.dumps(body)
        return await self.http.request(method, f"/_sim/{path}", headers=headers, params=query or None, content=content)

    async def arm(self, endpoint: str, mode: str, **more: Any) -> None:
        answer = await self.admin("POST", "faults", [{"endpoint": endpoint, "mode": mode, **more}])
        assert answer.status_code == 200, answer.text

    async def switch(self, **switches: Any) -> None:
        answer = await self.admin("POST", "switches", switches)
        assert answer.status_code == 200, answer.text

    async def commits(self) -> list[dict[str, Any]]:
        return list((await self.admin("GET", "commits")).json()["commits"])

    async def broken(self, **query: str) -> dict[str, int]:
        """The invariants that are not zero."""
        counts = (await self.admin("GET", "invariants", **query)).json()
        assert len(counts) == 6
        return {name: count for name, count in counts.items() if count}

    async def standing(self, project_id: str) -> tuple[str, str | None]:
        project = (await self.admin("GET", "state")).json()["projects"][project_id]
        return project["status"], project["start"]


def in_process(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://pf360")


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose body must have the documented shape."""
    body = answer.json()
    assert set(body) == {"status", "code", "message"}, body
    assert body["status"] == "error"
    return answer.status_code, body["code"]


def fixture_caller() -> Pf360:
    """Customer One at a fresh simulator with the frozen clock."""
    return Pf360(in_process(create_app(config())), token())
