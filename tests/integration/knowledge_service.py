"""A running service with a few documents, loaded as an operator loads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.integration.running_server import serving, settings

OPS = {"x-demo-identity": "ops"}
WINDOWS = "# Windows\n\nA window visit takes 4 hours. Keep three feet clear on both sides of each window.\n"
FENCES = "# Fences\n\nA fence visit takes 6 hours. The property line has to be known before.\n"
PETS = "# Pets\n\nDogs, cats and other pets have to be secured during every visit.\n"
STAFF = "# Margins\n\nA window visit costs the office 80 dollars of margin, which no customer may know.\n"
DOCUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "guides/windows.md": (WINDOWS, {"audience": ["residential"], "year": 2026, "topic": "duration"}),
    "guides/fences.md": (FENCES, {"audience": ["residential"], "year": 2025, "topic": "duration"}),
    "pets.md": (PETS, {"year": 2024}),
    "staff/margins.md": (STAFF, {"audience": ["staff"], "year": 2026}),
}


@asynccontextmanager
async def knowing(
    database_url: str, redis_url: str, *, loaded: bool = True, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose base `default` holds DOCUMENTS, or nothing."""
    configured = settings(database_url, redis_url, **{"kb_autoload": False, "kb_embedding": "none", **more})
    async with serving(configured, None) as client:
        made = await client.post("/api/v1/kb", json={"name": "default"}, headers=OPS)
        assert made.status_code == 200, made.text
        for doc_id, (content, attributes) in DOCUMENTS.items() if loaded else ():
            job = await upload(client, {"name": doc_id, "content": content, "attributes": attributes})
            assert (await ended(client, job))["job"]["state"] == "done"
        yield client


async def upload(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> str:
    """Load one document; the id of the job."""
    answer = await client.post("/api/v1/kb/default/documents", json=body, headers={**OPS, **headers})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def ended(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """A job, once it is over."""
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = (await client.get(f"/api/v1/kb/default/jobs/{job_id}", headers=OPS)).json()
            if found["job"]["state"] not in ("queued", "running"):
                return found
            await asyncio.sleep(0.02)
