"""Whatever breaks: what a tool claims is what upstream did, and nothing is done twice."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from tests.integration.simulated_office import Caller, Office
from tools.contract import JsonObject, ToolResult
from tools.pf360.client import Pf360, Retries, Timeouts

FLOORING, WINDOWS = "410001", "410002"
WRITES = ("schedule", "cancel_reschedule", "cancel", "add_note")
READS = ("dashboard", "dates", "slots", "list_notes")
MODES = (
    "http_500",
    "http_503",
    "timeout",
    "error_in_200",
    "commit_then_drop",
    "commit_then_500",
    "malformed_json",
    "html_error",
    "empty_200",
)
SEEDS = int(os.environ.get("OUTCROP_FAULT_SEEDS", "16"))


def hasty(caller: Caller) -> Caller:
    """The caller with short times, since most of them will be waited for."""
    pf360 = caller.ctx.pf360
    quick = Pf360(
        "http://pf360",
        pf360._client,
        pf360._token_source,
        timeouts=Timeouts(0.05, 0.05, 0.05),
        retries=Retries((0.0, 0.0)),
        breaker=pf360._breaker,
    )
    return Caller(replace(caller.ctx, pf360=quick, settle_seconds=0.1))


async def break_something(office: Office, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 3)):
        endpoint = dice.choice(WRITES if dice.random() < 0.7 else READS)
        await office.upstream.arm(endpoint, dice.choice(MODES), times=dice.randint(1, 3))
    if dice.random() < 0.5:
        await office.upstream.arm("schedule", "slot_taken", times=1)
    if dice.random() < 0.4:
        await office.upstream.arm("dashboard", "stale_read", times=dice.randint(1, 8))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_claims_are_true_whatever_breaks(seed: int) -> None:
    """Book, move, cancel and note under random faults; compare each claim with what upstream committed."""
    dice, office = random.Random(seed), Office()
    c1 = hasty(office.caller("c1"))
    calls: list[tuple[str, JsonObject]] = [
        ("confirm_appointment", {"project_id": FLOORING, "date": "2026-03-16", "time": "10:00"}),
        ("reschedule_appointment", {"project_id": WINDOWS, "new_date": "2026-03-19", "new_time": "13:00"}),
        ("cancel_appointment", {"project_id": WINDOWS, "reason": "moving house"}),
        ("add_note", {"project_id": FLOORING, "note_text": "The gate is open"}),
    ]
    name, args = dice.choice(calls)
    prepared = await c1.prepare(name, **args)
    before = await office.upstream.standing(args["project_id"])
    await break_something(office, dice)
    result = await c1.execute(prepared)
    await office.upstream.admin("DELETE", "faults")

    assert await office.upstream.broken() == {}
    kinds = office.commits()
    assert all(kinds.count(kind) <= 1 for kind in ("cancel", "cancel_reschedule", "add_note")), kinds
    after = await office.upstream.standing(args["project_id"])
    check_claim(name, result, kinds, before, after)
    again = await c1.execute(prepared)  # whoever repeats a settled effect meets its result, not a second one
    if result.status == "ok" and name != "add_note":
        assert again.status == "error", again.data
        assert office.commits() == kinds
    await office.http.aclose()


def check_claim(
    name: str, result: ToolResult, kinds: list[str], before: tuple[str, str | None], after: tuple[str, str | None]
) -> None:
    """What the result says, against upstream's standing of the project before and after."""
    if name == "add_note":
        assert (result.status == "ok") <= ("add_note" in kinds)
        assert (result.status == "error") <= ("add_note" not in kinds)
    elif result.status == "ok":
        wanted = {
            "confirm_appointment": ("Tentatively Scheduled", "2026-03-16T10:00:00"),
            "reschedule_appointment": ("Tentatively Scheduled", "2026-03-19T13:00:00"),
            "cancel_appointment": ("Ready To Schedule", None),
        }
        assert after == wanted[name]
        if name == "cancel_appointment" and result.data["note_saved"]:
            assert "add_note" in kinds
    elif result.status == "error" and result.data["code"] == "move_failed_kept":
        assert after[1] == before[1]
    elif result.status == "error" and result.data["code"] == "move_failed_released":
        assert after == ("Pending Reschedule", None)
    elif result.status == "error":
        assert after == before
