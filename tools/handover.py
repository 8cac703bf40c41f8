"""The handover group: a person takes over."""

from __future__ import annotations

from contextlib import suppress

from tools.action import action
from tools.arguments import NoteText, ShortText
from tools.contract import JsonObject, ToolContext, ToolError, ToolResult
from tools.locations import clients_of, local_now, office_phone, office_phones
from tools.offices import default_hours, next_opening, open_at

GROUP = "handover"


@action(group=GROUP, effect="write", part="handover", roles=("customer", "coordinator", "anonymous"))
async def request_human(reason: ShortText, summary: NoteText, ctx: ToolContext) -> JsonObject:
    """Record that the customer wants to be called back by the office, with what it is about.

    Args:
        reason: Why a person is needed, in a few words.
        summary: What the office should know, so that the customer need not say it again.
    """
    await ctx.callbacks.record(reason, summary, ctx.effect_key)
    own = clients_of(ctx.identity)
    client_id = ctx.identity.client_id or (own[0] if len(own) == 1 else None)
    now = local_now(ctx, client_id)
    hours = default_hours(ctx.directory.default_hours)
    if client_id is not None:
        # The callback is recorded; if the office's week cannot be read, the default one is the best that can be said.
        with suppress(ToolError):
            hours = await ctx.pf360.business_hours(client_id)
    is_open = open_at(hours, now)
    result = {
        "recorded": True,
        "office_phone": office_phone(ctx, client_id),
        "office_open": is_open,
        "next_open": None if is_open else next_opening(hours, now),
    }
    return result if client_id else {**result, "offices": office_phones(ctx)}


@request_human.reconciles
async def _recorded_request(reason: str, summary: str, ctx: ToolContext) -> ToolResult:
    # Recording is ours and happens once a key: doing it again is how to be sure.
    return ToolResult("ok", {"ok": True, **await request_human.run(reason=reason, summary=summary, ctx=ctx)})


ACTIONS = (request_human,)
