"""The PF360 simulator as a process that outlives whatever product talks to it, and its admin API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ADMIN_SECRET = "admin-secret-for-tests"
JWT_SECRET = "a-secret-for-tests-that-is-long-enough"
ROOT = Path(__file__).parents[2]


class OutsideSimulator:
    """One simulator with its clock at the seed data's moment; a context manager."""

    def __enter__(self) -> OutsideSimulator:
        command = [sys.executable, "-m", "backend.embedded.pf360_simulator", "--clock", "fixture", "--watch-stdin"]
        environment = {"PF360_ADMIN_SECRET": ADMIN_SECRET, "PF360_JWT_SECRET": JWT_SECRET, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.url = f"http://127.0.0.1:{json.loads(self._process.stdout.readline())['port']}"
        self._admin = httpx.Client(base_url=self.url, headers={"x-sim-secret": ADMIN_SECRET}, trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admin.close()
        self._process.communicate()  # closes its standard input, which ends it

    @property
    def environment(self) -> dict[str, str]:
        """The keys that point a product at it."""
        return {
            "PF360_API_URL": self.url,
            "PF360_ADMIN_URL": self.url,
            "PF360_ADMIN_SECRET": ADMIN_SECRET,
            "PF360_JWT_SECRET": JWT_SECRET,
            "PF360_CLOCK": "fixture",
        }

    def ask(self, path: str, **query: Any) -> Any:
        """GET below `/_sim/`."""
        return self._admin.get(f"/_sim/{path}", params=query).raise_for_status().json()

    def tell(self, path: str, body: Any = None) -> Any:
        """POST below `/_sim/`."""
        return self._admin.post(f"/_sim/{path}", json=body or {}).raise_for_status().json()

    def arm(self, endpoint: str, mode: str, **more: Any) -> None:
        """Let an endpoint misbehave."""
        self.tell("faults", [{"endpoint": endpoint, "mode": mode, **more}])

    def disarm(self) -> None:
        """No more faults."""
        self._admin.delete("/_sim/faults").raise_for_status()

    def reset(self) -> None:
        """The seed data, nothing armed."""
        self.tell("reset")

    def changes(self) -> list[str]:
        """Kinds of the changes that the product made, in order."""
        return [each["kind"] for each in self.ask("commits")["commits"] if each["source"] == "api"]

    def requests(self, endpoint: str) -> int:
        """How often an endpoint was asked."""
        return sum(entry["endpoint"] == endpoint for entry in self.ask("log")["requests"])

    def project(self, project_id: str) -> dict[str, Any]:
        """Status and appointments of a project."""
        found: dict[str, Any] = self.ask("state")["projects"][project_id]
        return found

    def broken(self) -> dict[str, int]:
        """Invariants that do not hold, lost appointments counted at once."""
        return {name: count for name, count in self.ask("invariants", lost_after_seconds=-1).items() if count}
