"""Booking, moving and cancelling: the writes themselves, and what is said when they do not work out.

Each function takes the project's write lock, reads the project afresh, checks once more what it permits, and then
sends. Callers have the customer's yes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime

from tools.availability import current_offer, drop_offer, keep_offer, nearest_dates, slots_of
from tools.contract import JsonObject, ToolContext, ToolError, ToolResult
from tools.effects import UNKNOWN_HINT, read_back, send
from tools.eligibility import cutoff, not_allowed, why_not_bookable, why_not_changeable
from tools.errors import (
    AlreadyScheduled,
    Cutoff,
    DateNotAvailable,
    InvalidStep,
    MoveFailedKept,
    MoveFailedReleased,
    NotAllowed,
    Rejected,
    RequestExpired,
    SlotTaken,
    UnknownOutcome,
    UpstreamRefusal,
    UpstreamUnavailable,
)
from tools.locations import location_label, office_phone
from tools.notes import same_note, save_note
from tools.pf360.models import Project, Released
from tools.projects import (
    forget_projects,
    own_project,
    own_projects,
    project_view,
    remember_write,
)
from tools.wording import clock, dated, dates, said, slot

TENTATIVE = "Tentatively Scheduled"
RELEASED = "Pending Reschedule"
READY = "Ready To Schedule"
REASON_MARKER = "Cancellation reason: "

Look = Callable[[], Awaitable[Project | None]]


# --- booking --------------------------------------------------------------------------------------------------------


async def book(ctx: ToolContext, project_id: str, start: datetime) -> JsonObject:
    """Book a slot; the receipt. Raises `SlotTaken` with what is left, `UnknownOutcome`, or why it is not permitted."""
    async with ctx.state.lock(f"write:{project_id}"):
        project = await own_project(ctx, project_id, fresh=True)
        if refusal := why_not_bookable(project, ctx):
            raise refusal
        if ctx.pf360.test_mode.confirm:
            return {**_receipt(ctx, project, start), "test_mode": True}
        try:
            await _take_slot(ctx, project, start)
        except SlotTaken as taken:
            raise SlotTaken(taken.user_hint, **await _what_remains(ctx, project, start.date())) from taken
        except (InvalidStep, AlreadyScheduled) as refusal:
            raise _wrong_step(await _current(ctx, project), ctx, why_not_bookable) from refusal
        return _receipt(ctx, await _after(ctx, project, TENTATIVE, start), start)


async def booked_already(ctx: ToolContext, project_id: str, start: datetime) -> ToolResult | None:
    """The receipt of a booking if it took place; None when it surely did not."""
    project = await own_project(ctx, project_id, fresh=True)
    seen = await read_back(ctx, _looking(ctx, project, lambda row: row.appointment == start))
    if seen.found is not None:
        return _ok(_receipt(ctx, seen.found, start))
    return None if seen.readable else _unknown(project, ctx)


def _receipt(ctx: ToolContext, project: Project, start: datetime) -> JsonObject:
    return {
        "project": project_view(project, ctx),
        **slot(start),
        "status": project.status,
        "address": project.address,
        "review": "office",
    }


async def _take_slot(ctx: ToolContext, project: Project, start: datetime) -> None:
    """Book one slot under the open search, or a new one when upstream has closed it."""
    offer = current_offer(ctx, project)
    if offer is None or start.time() not in offer.slots.get(start.date(), ()):
        await _search_again(ctx, project, start)
    try:
        await _send_booking(ctx, project, start)
    except (RequestExpired, Rejected):
        await _search_again(ctx, project, start)
        try:
            await _send_booking(ctx, project, start)
        except (RequestExpired, Rejected) as refusal:
            raise UpstreamUnavailable("The booking was not accepted. Nothing was booked.") from refusal


async def _send_booking(ctx: ToolContext, project: Project, start: datetime) -> None:
    offer = current_offer(ctx, project)
    if offer is None:
        raise RequestExpired
    try:
        await send(
            ctx,
            lambda: ctx.pf360.schedule(
                project.client_id, project.project_id, start.date(), start.time(), offer.request_id, ctx.clock.now()
            ),
            _looking(ctx, project, lambda row: row.appointment == start),
        )
    except UnknownOutcome as unknown:
        raise _unknown_outcome(project, ctx, new=slot(start)) from unknown
    except NotAllowed as refusal:
        raise not_allowed(project, ctx) from refusal
    finally:
        drop_offer(ctx, project)  # used up, or in doubt
        forget_projects(ctx)


async def _search_again(ctx: ToolContext, project: Project, start: datetime) -> None:
    """Open a new search and make sure that it still offers the slot."""
    try:
        open_now = await slots_of(ctx, project, start.date(), fresh=True)
    except DateNotAvailable as gone:
        raise SlotTaken("That time is no longer available.") from gone
    if start.time() not in open_now:
        raise SlotTaken("That time is no longer available.")


async def _what_remains(ctx: ToolContext, project: Project, day: date) -> JsonObject:
    """Slots of a day and the nearest days, read afresh; empty where they cannot be read now."""
    remaining: list[str] = []
    nearest: list[JsonObject] = []
    try:
        remaining = [clock(start) for start in await slots_of(ctx, project, day, fresh=True)]
        nearest = dates(await nearest_dates(ctx, project, day))
    except DateNotAvailable as gone:
        nearest = gone.facts["nearest"]
    except ToolError:
        pass  # the refusal itself must be told, even without alternatives
    return {**dated(day), "remaining": remaining, "nearest": nearest, "project": project_view(project, ctx)}


# --- moving ---------------------------------------------------------------------------------------------------------


async def move(ctx: ToolContext, project_id: str, start: datetime) -> JsonObject:
    """Release the appointment and book the new slot as one saga; the receipt with `old`.

    If the new slot cannot be had after the release, the old one is booked back (`MoveFailedKept`); if that fails too,
    nothing is booked (`MoveFailedReleased`). A move that broke off after its release is taken up there.
    """
    async with ctx.state.lock(f"write:{project_id}"):
        project = await own_project(ctx, project_id, fresh=True)
        old = project.appointment
        broke_off = old is None and project.status.casefold() == RELEASED.casefold()
        if broke_off and not ctx.pf360.test_mode.confirm:
            return await _finish_move(ctx, project, None, start)
        if (refusal := why_not_changeable(project, ctx)) or old is None:
            raise refusal or UpstreamUnavailable("There is no appointment to move.")
        if ctx.pf360.test_mode.confirm:
            return {**_receipt(ctx, project, start), "old": slot(old), "test_mode": True}
        await _check_still_open(ctx, project, start, old)
        return await _finish_move(ctx, await _release(ctx, project), old, start)


async def _finish_move(ctx: ToolContext, released: Project, old: datetime | None, start: datetime) -> JsonObject:
    """Book the new slot of a released project, or else the old one again."""
    try:
        await _take_slot(ctx, released, start)
    except ToolError as failure:
        if old is None or not await _booked_back(ctx, released, old, start, failure):
            raise await _move_failed(ctx, released, old, start, failure) from failure
    after = await _after(ctx, released, TENTATIVE, start)
    return {**_receipt(ctx, after, start), "old": slot(old) if old else None}


async def moved_already(ctx: ToolContext, project_id: str, start: datetime) -> ToolResult | None:
    """The receipt of a move if it was completed; an error when it broke off after the release; None: not begun."""
    project = await own_project(ctx, project_id, fresh=True)
    seen = await read_back(ctx, _looking(ctx, project, lambda row: row.appointment == start))
    if seen.found is not None:
        return _ok({**_receipt(ctx, seen.found, start), "old": None})
    if not seen.readable:
        return _unknown(project, ctx)
    current = await own_project(ctx, project_id, fresh=True)
    if current.appointment is None and current.status.casefold() == RELEASED.casefold():
        broke_off = UpstreamUnavailable("The new time was not booked.")
        return (await _move_failed(ctx, current, None, start, broke_off)).result()
    return None


async def _check_still_open(ctx: ToolContext, project: Project, start: datetime, old: datetime) -> None:
    """Before anything is given up: is the new slot still there?"""
    try:
        open_now = await slots_of(ctx, project, start.date())
    except DateNotAvailable:
        open_now = []
    if start.time() not in open_now:
        remains = await _what_remains(ctx, project, start.date())
        raise SlotTaken(
            f"That time is no longer available. Your appointment on {said(old)} stays as it was.",
            old=slot(old),
            **remains,
        )


async def _release(ctx: ToolContext, project: Project) -> Project:
    """Give the appointment up (E7); the project as it stands then."""
    try:
        answer: Released | None = await send(
            ctx,
            lambda: ctx.pf360.release(project.client_id, project.project_id),
            _looking(ctx, project, lambda row: row.appointment is None),
        )
    except (Cutoff, NotAllowed, InvalidStep, UnknownOutcome) as refusal:
        raise await _change_refused(ctx, project, refusal) from refusal
    except UpstreamRefusal as refusal:
        raise UpstreamUnavailable("The appointment could not be changed. It is as it was.") from refusal
    offer = current_offer(ctx, project)
    if offer and answer and answer.request_id:
        offer.request_id = answer.request_id  # upstream opened a new search, which voids the former
        keep_offer(ctx, project, offer)
    return remember_write(ctx, project, RELEASED, None)


async def _booked_back(ctx: ToolContext, released: Project, old: datetime, start: datetime, failure: ToolError) -> bool:
    """Book the old slot again after the new one failed. True: the new booking turned out to be there after all."""
    try:
        await _take_slot(ctx, released, old)
    except ToolError as second:
        current = await _current(ctx, released)
        if current is not None and current.appointment == start:
            return True
        # A booking may hide behind an unclear answer, or behind the claim that the project is booked already.
        doubtful = isinstance(second, UnknownOutcome | InvalidStep | AlreadyScheduled)
        if doubtful or (current is None and isinstance(failure, UnknownOutcome)):
            raise _unknown_outcome(released, ctx, old=slot(old), new=slot(start)) from second
        return False
    restored = await _after(ctx, released, TENTATIVE, old)
    raise MoveFailedKept(
        f"{_why(failure)} Your appointment on {said(old)} stays as it was.",
        old=slot(old),
        status=restored.status,
        wanted=slot(start),
        **{**await _what_remains(ctx, restored, start.date()), "project": project_view(restored, ctx)},
    ) from failure


async def _move_failed(
    ctx: ToolContext, released: Project, old: datetime | None, start: datetime, failure: ToolError
) -> ToolError:
    """What to say when a released project got no slot."""
    if isinstance(failure, UnknownOutcome):
        return _unknown_outcome(released, ctx, old=slot(old) if old else None, new=slot(start))
    if isinstance(failure, InvalidStep | AlreadyScheduled):
        return _wrong_step(await _current(ctx, released), ctx, why_not_bookable)
    remains = await _what_remains(ctx, released, start.date())
    return MoveFailedReleased(
        f"{_why(failure)} The old appointment was given up in the attempt, so nothing is booked now. "
        "Please choose another time, or call the office.",
        old=slot(old) if old else None,
        wanted=slot(start),
        status=released.status,
        office_phone=office_phone(ctx, released.client_id),
        location=location_label(ctx, released.client_id),
        **remains,
    )


def _why(failure: ToolError) -> str:
    if isinstance(failure, SlotTaken):
        return "Somebody else has just booked that time."
    return "The new time could not be booked."


# --- cancelling -----------------------------------------------------------------------------------------------------


async def cancel(ctx: ToolContext, project_id: str, reason: str | None) -> JsonObject:
    """Cancel the appointment, then save the reason as a note; a failing note does not undo the cancellation."""
    async with ctx.state.lock(f"write:{project_id}"):
        project = await own_project(ctx, project_id, fresh=True)
        old = project.appointment
        if (refusal := why_not_changeable(project, ctx)) or old is None:
            raise refusal or UpstreamUnavailable("There is no appointment to cancel.")
        if ctx.pf360.test_mode.cancel:
            return {"project": project_view(project, ctx), "old": slot(old), "note_saved": False, "test_mode": True}
        try:
            await send(
                ctx,
                lambda: ctx.pf360.cancel(project.client_id, project.project_id),
                _looking(ctx, project, lambda row: row.appointment is None),
            )
        except (Cutoff, NotAllowed, InvalidStep, UnknownOutcome) as refusal:
            raise await _change_refused(ctx, project, refusal) from refusal
        except UpstreamRefusal as refusal:
            raise UpstreamUnavailable("The appointment could not be cancelled. It is as it was.") from refusal
        finally:
            forget_projects(ctx)
        remembered = remember_write(ctx, project, READY, None)
        saved = reason is not None and await _reason_saved(ctx, project, reason)
        after = await _reloaded(ctx, remembered)
        return {"project": project_view(after, ctx), "old": slot(old), "note_saved": saved}


async def cancelled_already(ctx: ToolContext, project_id: str, reason: str | None) -> ToolResult | None:
    """The receipt of a cancellation if it took place; None when the appointment stands."""
    project = await own_project(ctx, project_id, fresh=True)
    seen = await read_back(ctx, _looking(ctx, project, lambda row: row.appointment is None))
    if seen.found is None:
        return None if seen.readable else _unknown(project, ctx)
    saved = reason is not None and await _reason_kept(ctx, seen.found, reason)
    return _ok({"project": project_view(seen.found, ctx), "old": None, "note_saved": saved})


async def _reason_kept(ctx: ToolContext, project: Project, reason: str) -> bool:
    """Whether the reason's note is there; saves it when the cancellation broke off before it."""
    try:
        if await same_note(ctx, project, REASON_MARKER + reason) is not None:
            return True
    except ToolError:
        return False
    return await _reason_saved(ctx, project, reason)


async def _reason_saved(ctx: ToolContext, project: Project, reason: str) -> bool:
    key = f"{ctx.effect_key}:reason" if ctx.effect_key else ""
    try:
        await save_note(ctx, project, REASON_MARKER + reason, key=key)
    except ToolError:
        return False  # reported in the result: the cancellation stands
    return True


# --- what every write needs -----------------------------------------------------------------------------------------


def _looking(ctx: ToolContext, project: Project, reached: Callable[[Project], bool]) -> Look:
    """A look at the dashboard itself, past cache and memory of our own writes: the project if it has got there."""

    async def look() -> Project | None:
        rows = await ctx.pf360.projects(project.client_id, ctx.identity.customer_id)
        return next((row for row in rows if row.project_id == project.project_id and reached(row)), None)

    return look


async def _current(ctx: ToolContext, project: Project) -> Project | None:
    """The project as the dashboard shows it now; None when that cannot be read."""
    try:
        return await _looking(ctx, project, lambda _row: True)()
    except ToolError:
        return None


async def _after(ctx: ToolContext, before: Project, status: str, start: datetime | None) -> Project:
    """The project after a committed write."""
    return await _reloaded(ctx, remember_write(ctx, before, status, start))


async def _reloaded(ctx: ToolContext, remembered: Project) -> Project:
    """Read again what was just written; our own knowledge of it where the dashboard lags or fails."""
    try:
        found = await own_projects(ctx, [remembered.client_id], fresh=True)
    except ToolError:
        return remembered
    return next((row for row in found.projects if row.project_id == remembered.project_id), remembered)


async def _change_refused(ctx: ToolContext, project: Project, refusal: ToolError) -> ToolError:
    """Upstream's refusal of a release or cancellation, with the facts that belong to it."""
    if isinstance(refusal, Cutoff):
        return cutoff(project, ctx)
    if isinstance(refusal, NotAllowed):
        return not_allowed(project, ctx)
    if isinstance(refusal, UnknownOutcome):
        return _unknown_outcome(project, ctx, old=slot(project.appointment) if project.appointment else None)
    return _wrong_step(await _current(ctx, project), ctx, why_not_changeable)


def _wrong_step(
    current: Project | None, ctx: ToolContext, why_not: Callable[[Project, ToolContext], ToolError | None]
) -> ToolError:
    """Upstream says that the project is in another state than we thought: what that state means."""
    forget_projects(ctx)
    refusal = why_not(current, ctx) if current is not None else None
    return refusal or UpstreamUnavailable("The scheduling system did not accept that. Nothing was changed.")


def _unknown_outcome(project: Project, ctx: ToolContext, **facts: JsonObject | None) -> UnknownOutcome:
    forget_projects(ctx)
    return UnknownOutcome(
        UNKNOWN_HINT,
        project=project_view(project, ctx),
        office_phone=office_phone(ctx, project.client_id),
        **{name: fact for name, fact in facts.items() if fact is not None},
    )


def _unknown(project: Project, ctx: ToolContext) -> ToolResult:
    return _unknown_outcome(project, ctx).result()


def _ok(data: JsonObject) -> ToolResult:
    return ToolResult(status="ok", data={"ok": True, **data})
