"""What the Lambda API refuses, with the codes and members its clients know. The exception's text is its `Message`."""

from __future__ import annotations

from typing import ClassVar


class LambdaError(Exception):
    """A call that was refused, or that failed by our own fault; a function's failure is an `Outcome`."""

    code: ClassVar[str] = "ServiceException"
    status: ClassVar[int] = 500
    message_member: ClassVar[str] = "Message"  # the service model spells it both ways

    def body(self) -> dict[str, str]:
        """The JSON body of the answer."""
        return {"Type": "User" if self.status < 500 else "Service", self.message_member: str(self)}


class ResourceNotFound(LambdaError):
    """There is no such function."""

    code = "ResourceNotFoundException"
    status = 404


class UnknownOperation(LambdaError):
    """A path or method that is not served here."""

    code = "UnknownOperationException"
    status = 404


class InvalidParameter(LambdaError):
    """A name, qualifier or header that cannot be used."""

    code = "InvalidParameterValueException"
    status = 400
    message_member = "message"


class InvalidRequestContent(LambdaError):
    """The payload, or the client context, is not JSON."""

    code = "InvalidRequestContentException"
    status = 400
    message_member = "message"


class RequestTooLarge(LambdaError):
    """The payload exceeds what this invocation type may carry."""

    code = "RequestTooLargeException"
    status = 413
    message_member = "message"


class AccessDenied(LambdaError):
    """The call came by a name or a page that is not of this machine."""

    code = "AccessDeniedException"
    status = 403


class TooManyRequests(LambdaError):
    """Every worker of the function is busy, or its queue of events is full."""

    code = "TooManyRequestsException"
    status = 429
    message_member = "message"

    def __init__(self, message: str, reason: str = "ReservedFunctionConcurrentInvocationLimitExceeded") -> None:
        super().__init__(message)
        self.reason = reason

    def body(self) -> dict[str, str]:
        """Also says which limit it was."""
        return {**super().body(), "Reason": self.reason}


class ServiceFault(LambdaError):
    """A worker could not be started for a reason that is not the function's."""
