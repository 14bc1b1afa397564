"""Why something failed, told without any status code; each edge translates these in one place.

OrderSyncError
├── InvalidInput        the caller can correct the request
├── NotFound            no such thing in this administration
├── NotAllowed          the caller may not do this
├── Conflict            the request disagrees with the stored state
│   ├── ChangedMeanwhile    another transaction came first
│   └── LeaseLost           someone else took over what this process was working on
└── ExternalFailure     a system outside OrderSync failed
    ├── TemporaryFailure    worth another attempt, after `retry_after`
    └── PermanentFailure    another attempt would fail the same way
"""

from datetime import timedelta

from attrs import frozen


@frozen
class Violation:
    """One rule that the input breaks. `pointer` is a JSON pointer (RFC 6901); "" means the whole input."""

    pointer: str
    message: str


class OrderSyncError(Exception):
    """The root of the tree; its text is one sentence that a person can act on."""


class InvalidInput(OrderSyncError):
    def __init__(self, message: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


class NotFound(OrderSyncError):
    pass


class NotAllowed(OrderSyncError):
    pass


class Conflict(OrderSyncError):
    pass


class ChangedMeanwhile(Conflict):
    pass


class LeaseLost(Conflict):
    pass


class ExternalFailure(OrderSyncError):
    pass


class TemporaryFailure(ExternalFailure):
    """`retry_after` is the wait that the other side asked for; None when it named none."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentFailure(ExternalFailure):
    pass


class Stopping(BaseException):
    """The process was asked to end. Not a failure: whoever holds work gives it back and passes this on."""
