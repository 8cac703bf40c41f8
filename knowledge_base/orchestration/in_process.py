"""The steps in their order, in this process: what the state machine does, without one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from knowledge_base.errors import KnowledgeError
from knowledge_base.orchestration.runs import JsonObject, Run, folded
from knowledge_base.orchestration.steps import Steps


async def run_in_process(steps: Steps, run: Run, *, concurrent: int = 4) -> JsonObject:
    """Load, prune, report; the report. What ends the run is in it, and on record."""
    told = run.as_json()
    page: JsonObject = {"after": 0, "tally": {}}
    results: Sequence[JsonObject] = ()
    deleted, failure = 0, None
    try:
        while (page := await steps.carry_out({"step": "list", "run": told, "page": page, "results": results}))["more"]:
            results = await _loaded(steps, told, page["batches"], concurrent)
        results = ()
        deleted = (await steps.carry_out({"step": "prune", "run": told}))["deleted"]
    except KnowledgeError as error:
        failure = {"Error": type(error).__name__, "Cause": str(error)}
    last = {"tally": folded([page["tally"]]), "results": results, "deleted": deleted, "failure": failure}
    return await steps.carry_out({"step": "report", "run": told, **last})


async def _loaded(steps: Steps, run: JsonObject, batches: Sequence[object], concurrent: int) -> list[JsonObject]:
    slots = asyncio.Semaphore(concurrent)

    async def load(documents: object) -> JsonObject:
        async with slots:
            return await steps.carry_out({"step": "load", "run": run, "documents": documents})

    return list(await asyncio.gather(*(load(batch) for batch in batches)))
