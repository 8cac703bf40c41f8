"""Health, readiness, the API's description, and the page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

from agent.errors import StoreUnavailable
from backend.api.caller import Parts
from backend.api.chat import json
from backend.telemetry.metrics import MEDIA_TYPE

router = APIRouter()

HERE = Path(__file__).parent
STATIC = HERE.parent / "static"
NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Outcrop</title>
<body style="font:16px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem">
<h1>Outcrop</h1><p>The service runs; its page has not been built yet. <code>make frontend</code> builds it.</p>
<p>Until then: <code>outcrop chat</code> in a terminal, or the <a href="/docs">API</a>.</p></body></html>"""


@router.get("/healthz", tags=["operations"])
async def live() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/readyz", tags=["operations"])
async def ready(parts: Parts) -> Response:
    """Whether turns can be taken: 503 without Postgres, `degraded` without Redis. `breakers`: state by upstream.

    `models`: who answers; `faults` are those of a changed MODELS_FILE, which is not in use as long as it has any.
    """
    checks = {"postgres": "ok", "redis": "ok" if await parts.sessions.ping() else "unreachable"}
    try:
        await parts.db.row("SELECT 1")
    except StoreUnavailable:
        checks["postgres"] = "unreachable"
    status = "ok" if set(checks.values()) == {"ok"} else "degraded"
    if checks["postgres"] != "ok":
        status = "unavailable"
    breakers = {name: each.state for name, each in parts.breakers.snapshots().items()}
    body: dict[str, Any] = {
        "status": status,
        "checks": checks,
        "running_turns": parts.service.running_turns,
        "breakers": breakers,
        "models": {
            "primary": parts.models.primary.name,
            "version": parts.models.described.digest,
            "faults": [{"path": path, "problem": problem} for path, problem in parts.models.faults],
        },
    }
    response = json(body)
    response.status_code = 503 if status == "unavailable" else 200
    return response


@router.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
async def metrics(parts: Parts) -> Response:
    """What this process counts, for Prometheus: model calls, failovers, canaries, breakers, turns."""
    body = parts.metrics.render(parts.service.running_turns, parts.breakers.snapshots(), parts.models.router.status())
    return Response(body, media_type=MEDIA_TYPE)


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The API's description, rendered without anything from elsewhere."""
    return FileResponse(HERE / "docs.html", media_type="text/html")


@router.get("/docs.js", include_in_schema=False)
async def docs_script() -> Response:
    """Its script; a file of its own because the page's policy allows no inline ones."""
    return FileResponse(HERE / "docs.js", media_type="text/javascript")


def mount_page(app: FastAPI) -> None:
    """Serve the built page at `/`. Not as a mount at `/`, which would answer for wrong methods of other paths."""
    app.add_api_route("/", _page, include_in_schema=False)
    for entry in sorted(STATIC.iterdir()) if STATIC.is_dir() else ():
        if entry.is_dir():
            app.mount(f"/{entry.name}", StaticFiles(directory=entry))
        elif entry.name != "index.html":
            app.add_api_route(f"/{entry.name}", partial(_file, entry), include_in_schema=False)


async def _page() -> Response:
    index = STATIC / "index.html"
    return FileResponse(index, headers={"cache-control": "no-cache"}) if index.is_file() else HTMLResponse(NOT_BUILT)


async def _file(path: Path) -> Response:
    return FileResponse(path)
