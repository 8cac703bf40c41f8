"""Everything that may reach a caller, in one hierarchy.

OutcropError
├── InvalidRequest            the request itself is wrong; names the field
├── Unauthenticated           no identity, or one that could not be verified
├── Forbidden                 a known caller asks for what is not theirs to do
├── NotFound                  unknown, or somebody else's: the same answer for both
├── Conflict
│   ├── ConversationBusy      another turn of this conversation is running
│   ├── PendingSettled        the pending action was decided already, replaced or has expired
│   └── ClientActionSettled   the client's result came too late, or after another one
├── IdempotencyMismatch       the same key came with another body
├── TurnLimit                 a budget of the turn was used up (calls, steps, time)
├── ModelError                the model route failed
│   ├── ModelUnavailable      no connection, 5xx, broken stream
│   ├── ModelBusy             throttled
│   ├── ModelTimeout          no answer in time
│   ├── ModelRejected         the provider refused the request (wrong key, unknown model)
│   │   ├── HistoryRejected   it refused the form of the conversation, or another part of the request's body
│   │   ├── ContextExceeded   the conversation is longer than the model can read
│   │   └── NotOnTape         answers are replayed, and this call was not recorded
│   └── ModelMisbehaved       unusable output, also after being asked again
├── BudgetSpent               what may be spent on models (a turn, a person, a day) is spent
└── StoreUnavailable          Postgres or Redis cannot be reached

The exception's text is for logs, `code` for programs, `user_hint` for people.
"""

from __future__ import annotations


class OutcropError(Exception):
    """Base of all errors that a caller may see."""

    code: str = "internal_error"
    status: int = 500
    retryable: bool = False
    user_hint: str = "Something went wrong on our side. Please try again."

    def __init__(self, message: str = "", *, user_hint: str | None = None, field: str | None = None) -> None:
        super().__init__(message or self.user_hint)
        if user_hint is not None:
            self.user_hint = user_hint
        self.field = field


class InvalidRequest(OutcropError):
    """The request is wrong; `field` names the part."""

    code = "invalid_request"
    status = 422
    user_hint = "The request could not be understood."


class Unauthenticated(OutcropError):
    """No identity, or one that could not be verified."""

    code = "unauthenticated"
    status = 401
    user_hint = "Please sign in again."


class Forbidden(OutcropError):
    """A known caller asks for what is not theirs to do."""

    code = "forbidden"
    status = 403
    user_hint = "You may not do this."


class NotFound(OutcropError):
    """Unknown, or somebody else's: callers cannot tell which."""

    code = "not_found"
    status = 404
    user_hint = "This does not exist, or it is not yours."


class Conflict(OutcropError):
    """The request does not fit the present state."""

    code = "conflict"
    status = 409
    user_hint = "That does not fit the present state."


class ConversationBusy(Conflict):
    """Another turn of this conversation is still running."""

    code = "conversation_busy"
    retryable = True
    user_hint = "One moment, your previous message is still being answered."


class PendingSettled(Conflict):
    """The pending action was decided already, replaced, or has expired."""

    code = "pending_settled"
    user_hint = "This question is no longer open."


class ClientActionSettled(Conflict):
    """A client's result came too late, or after another one."""

    code = "client_action_settled"
    user_hint = "Nobody waits for this any more."


class IdempotencyMismatch(OutcropError):
    """An idempotency key came back with another body."""

    code = "idempotency_mismatch"
    status = 422
    user_hint = "The same Idempotency-Key was used for another message."


class TurnLimit(OutcropError):
    """A budget of the turn was used up: model calls, tool calls or time."""

    code = "turn_limit"
    status = 503
    user_hint = "I could not finish that in one go. Please ask for one thing at a time."


class ModelError(OutcropError):
    """The model route failed."""

    code = "model_error"
    status = 502
    user_hint = "The assistant cannot answer just now. Nothing was changed."


class ModelUnavailable(ModelError):
    """No connection, a server error, or a stream that broke off."""

    code = "model_unavailable"
    status = 503
    retryable = True


class ModelBusy(ModelError):
    """The provider throttles us; `retry_after_s` if it says for how long."""

    code = "model_busy"
    status = 503
    retryable = True

    def __init__(self, message: str = "", *, user_hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, user_hint=user_hint)
        self.retry_after_s = retry_after_s


class ModelTimeout(ModelError):
    """The provider did not answer in time."""

    code = "model_timeout"
    status = 504
    retryable = True


class ModelRejected(ModelError):
    """The provider refused the request: wrong key, unknown model."""

    code = "model_rejected"


class HistoryRejected(ModelRejected):
    """The provider refused the form of the conversation, or another part of the request's body."""


class ContextExceeded(ModelRejected):
    """The conversation is longer than the model can read."""

    code = "context_exceeded"
    user_hint = "This conversation has become too long for the model. Please start a new one."


class NotOnTape(ModelRejected):
    """Answers are replayed from a recording that does not hold this call."""

    code = "not_on_tape"


class ModelMisbehaved(ModelError):
    """The model's output was unusable, also after it was asked again."""

    code = "model_misbehaved"


class BudgetSpent(OutcropError):
    """What may be spent on models in a turn, by a person or on a day is spent; nothing more is asked of any model."""

    code = "budget_spent"
    status = 429
    user_hint = "The assistant has reached its limit for now. Nothing was changed; please try again later."


class StoreUnavailable(OutcropError):
    """Postgres or Redis cannot be reached."""

    code = "store_unavailable"
    status = 503
    retryable = True
    user_hint = "The service cannot reach its records just now. Please try again in a moment."
