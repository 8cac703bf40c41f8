"""A service as a person starts it, and a browser that watches itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Page, Request, async_playwright

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "backend" / "static" / "index.html"
AXE = CHECKOUT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
STOP_TIMEOUT_S = 30.0
BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Whatever the browser itself would look up does not exist.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Service:
    """A running `outcrop serve` with its own stores and simulator; `office` is the simulator's admin API."""

    url: str
    office: httpx.Client

    def commits(self) -> list[dict[str, Any]]:
        """Everything that changed upstream since the last reset, in order."""
        found: list[dict[str, Any]] = self.office.get("/_sim/commits").raise_for_status().json()["commits"]
        return found


@dataclass
class Visit:
    """One person's browser on the page, and what it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    async def say(self, message: str) -> None:
        """Type a message, send it with Enter and wait for the whole reply."""
        replies = self.page.get_by_role("article", name="Assistant")
        count = await replies.count()
        box = self.page.get_by_role("textbox", name="Message")
        await box.fill(message)
        await box.press("Enter")
        await replies.nth(count).wait_for()
        await self.settled()

    async def settled(self) -> None:
        """Wait until no reply is being made."""
        await self.page.locator("[role=log][aria-busy=false]").wait_for()

    async def last_reply(self) -> str:
        """The text of the newest reply."""
        return await self.page.get_by_role("article", name="Assistant").last.inner_text()

    async def serious_violations(self) -> list[str]:
        """What axe-core finds serious or critical on the page as it stands."""
        await self.page.evaluate(AXE.read_text("utf-8"))
        found = await self.page.evaluate("axe.run()")
        return [
            f"{each['id']}: {each['nodes'][0]['target']} {each['help']}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]


@pytest.fixture(scope="module")
def started_service() -> Iterator[Service]:
    """`outcrop serve` with nothing but a data folder, its clock at the fixture's."""
    if not PAGE.is_file() or not AXE.is_file():
        pytest.fail("The page or its dependencies are missing. Run: make frontend", pytrace=False)
    # Not one of pytest's folders: the account that root's PostgreSQL runs as cannot pass through those.
    folder = Path(tempfile.mkdtemp(prefix="outcrop-"))
    folder.chmod(0o711)
    log = folder / "serve.log"
    process = _serve(folder, log)
    try:
        url = _address(process, log)
        simulator = json.loads((folder / "data" / "simulator.json").read_text())
        port = (folder / "data" / "simulator.port").read_text()
        headers = {"x-sim-secret": simulator["admin_secret"]}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as office:
            yield Service(url, office)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)
        shutil.rmtree(folder)
    assert process.returncode == 0, "outcrop serve did not stop in order"


def _serve(folder: Path, log: Path) -> subprocess.Popen[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {
        **kept,
        "PYTHONPATH": str(CHECKOUT / "tests" / "loopback_only"),
        "PYTHONUNBUFFERED": "1",
        "OUTCROP_DATA_DIR": str(folder / "data"),
        "PF360_CLOCK": "fixture",
        "PORT": "0",
    }
    command = [sys.executable, "-c", "from backend.cli import main; main()", "serve"]
    with log.open("w") as errors:
        # Started in the folder, so that a developer's own .env says nothing here.
        environment["PYTHONPATH"] += os.pathsep + str(CHECKOUT)
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)


def _address(process: subprocess.Popen[str], log: Path) -> str:
    """Where it serves, once it says so."""
    assert process.stdout
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Outcrop is at "):
            return line.split()[3]
    raise AssertionError(f"outcrop serve did not start:\n{''.join(said)}{log.read_text()}")


@pytest.fixture
def service(started_service: Service) -> Service:
    """The service with its upstream as on the first day."""
    started_service.office.post("/_sim/reset", json={}).raise_for_status()
    started_service.office.post("/_sim/latency", json={"profile": "instant"}).raise_for_status()
    return started_service


@pytest.fixture
async def visit(service: Service, chromium_path: str) -> AsyncIterator[Visit]:
    """A fresh browser on the page. At the end: no complaint on its console, no request beyond this machine."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=list(BROWSER_ARGUMENTS))
        visit = Visit(await browser.new_page())
        page = visit.page
        page.set_default_timeout(20_000)
        page.on("console", lambda said: visit.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("request", lambda request: _note(visit, request))
        await page.goto(service.url)
        yield visit
        await browser.close()
    assert visit.complaints == []
    assert visit.elsewhere == []


def _note(visit: Visit, request: Request) -> None:
    if urlsplit(request.url).hostname not in ("127.0.0.1", None):
        visit.elsewhere.append(request.url)
