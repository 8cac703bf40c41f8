"""Everything a tool may refuse or fail with, as a model and a person may see it.

ToolError (tools.contract)
├─ NotFound, Ambiguous, Forbidden, SignInAgain                 who and what
├─ NotSchedulable, AlreadyScheduled, NotScheduled, NotAllowed, Cutoff   what the project's state permits
├─ DateNotAvailable, NotOffered, SlotTaken                     which slots there are
├─ NotAssigned                                                 none of many can be given to a team
├─ MoveFailedKept, MoveFailedReleased                          how a move ended
├─ UpstreamUnavailable ─ OutcomeUncertain                      the scheduling system did not answer
├─ KnowledgeUnavailable                                        the documents cannot be searched
├─ RateLimited
├─ UnknownOutcome                                              an effect that reading back did not settle
├─ ActionFailed, ResultTooLarge, Unanswered                    how a tool that runs elsewhere ended
└─ UpstreamRefusal ─ RequestExpired, InvalidStep, Rejected, Missing   for the tools to interpret
"""

from __future__ import annotations

from typing import Any, ClassVar

from tools.contract import InvalidArguments, ToolError, ToolResult, UnknownTool

LATE = "That took too long, and I stopped waiting for it."
NO_TIME = "There is no time left for that in this reply."


class NotFound(ToolError):
    """No such thing for this caller; the same words whether it exists for somebody else or not at all."""

    code = "not_found"


class Ambiguous(ToolError):
    """Several things fit, or none of the caller's choices was named; facts: `candidates`."""

    code = "ambiguous"


class Forbidden(ToolError):
    """Upstream refuses this caller's token for this location."""

    code = "forbidden"


class SignInAgain(ToolError):
    """The caller's token is missing or has expired."""

    code = "sign_in_again"


class NotSchedulable(ToolError):
    """The project's status permits no booking; facts: `reason`, `status`, `office_phone`, `location`."""

    code = "not_schedulable"


class AlreadyScheduled(ToolError):
    """There is an appointment already, which can be moved; facts: `project` with its `appointment`."""

    code = "already_scheduled"


class NotScheduled(ToolError):
    """There is no appointment to move or to cancel; facts: `status`."""

    code = "not_scheduled"


class NotAllowed(ToolError):
    """Upstream allows no self-service for this project; facts: `office_phone`."""

    code = "not_allowed"


class Cutoff(ToolError):
    """Too close to the start for a change; facts: `office_phone`, `hours`, `date`, `time`."""

    code = "cutoff"


class DateNotAvailable(ToolError):
    """That day has no open slot; facts: `date`, `weekday`, `reason`, `nearest`, `office_phone`."""

    code = "date_not_available"


class NotOffered(ToolError):
    """That time is not among the slots of that day; facts: `date`, `weekday`, `slots`, `times`."""

    code = "not_offered"


class SlotTaken(ToolError):
    """Somebody else booked the slot first; facts: `date`, `weekday`, `remaining`, `nearest`."""

    code = "slot_taken"


class MoveFailedKept(ToolError):
    """The move did not work out and the old appointment stands; facts: `old`, `remaining`, `nearest`."""

    code = "move_failed_kept"


class MoveFailedReleased(ToolError):
    """The old slot was given up and nothing is booked; facts: `old`, `remaining`, `nearest`, `office_phone`."""

    code = "move_failed_released"


class NotAssigned(ToolError):
    """None of the projects can be, or was, given to the team; facts: `team`, `left_out` with a reason for each."""

    code = "not_assigned"


class UpstreamUnavailable(ToolError):
    """The scheduling system did not give a usable answer. Whatever was asked was certainly not done."""

    code = "upstream_unavailable"
    retryable = True


class KnowledgeUnavailable(ToolError):
    """The documents cannot be searched just now, or not with this query."""

    code = "knowledge_unavailable"
    retryable = True


class OutcomeUncertain(UpstreamUnavailable):
    """As its parent, but the request was sent: a change may have happened. Reads may simply try again."""


class RateLimited(ToolError):
    """Too many requests; facts: `retry_after_s`."""

    code = "rate_limited"
    retryable = True


class UnknownOutcome(ToolError):
    """A change may or may not have happened and reading back did not settle it. Never resent."""

    code = "unknown_outcome"

    def result(self) -> ToolResult:
        """The error form, with status `unknown`."""
        return ToolResult(status="unknown", data=super().result().data)


class ActionFailed(ToolError):
    """A tool that runs elsewhere says that it failed; facts: `said`, what it gave as the reason."""

    code = "action_failed"


class ResultTooLarge(ToolError):
    """The answer is larger than a result may be; facts: `limit_bytes`. Ask for less."""

    code = "result_too_large"


class Unanswered(ToolError):
    """The client was asked to run this and did not answer in time."""

    code = "unanswered"


class UpstreamRefusal(ToolError):
    """A refusal that the tool which asked must turn into one of the errors above."""

    code: ClassVar[str] = "upstream_unavailable"

    def __init__(self, user_hint: str = "The scheduling system did not accept that request.", **facts: Any) -> None:
        super().__init__(user_hint, **facts)


class RequestExpired(UpstreamRefusal):
    """The availability search is too old or used up: open a new one and check the slot again."""


class InvalidStep(UpstreamRefusal):
    """The project is not in a state for this step; after a resend, a hint that the first try succeeded."""


class Rejected(UpstreamRefusal):
    """Malformed or inadmissible in the eyes of upstream."""


class Missing(UpstreamRefusal):
    """Unknown upstream. Never told as `NotFound`: whatever is asked for was listed among the caller's own before."""


# Refusals that may come back as JSON from where a tool ran, by code.
BY_CODE: dict[str, type[ToolError]] = {
    each.code: each
    for each in (
        InvalidArguments, UnknownTool, NotFound, Ambiguous, Forbidden, SignInAgain, NotSchedulable, AlreadyScheduled,
        NotScheduled, NotAllowed, Cutoff, DateNotAvailable, NotOffered, SlotTaken, MoveFailedKept, MoveFailedReleased,
        UpstreamUnavailable, RateLimited, UnknownOutcome,
    )
}  # fmt: skip
