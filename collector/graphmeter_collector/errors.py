"""Every error of the collector.

CollectorError
├── Permanent            same input, same failure: refuse, count, tell the sender not to retry
│   ├── BadRequest       the body is not what it claims to be            HTTP 400
│   ├── Unauthenticated  no API key, or none that opens anything         HTTP 401
│   ├── Forbidden        a good API key, for something else              HTTP 403
│   ├── Owned            what graphmeter.yaml says, changed elsewhere    HTTP 409
│   ├── NoSuchBudget     a budget that is not in force                    HTTP 404
│   ├── TooSlow          the body takes longer than any sender waits     HTTP 408
│   ├── Unsupported      content type or encoding unknown                HTTP 415
│   ├── TooLarge         over a limit, before or after decompression     HTTP 413
│   ├── NotHere          a path or a method that OTLP has and we do not  HTTP 404, 405
│   └── Fault            our own, at this very request                   HTTP 500
├── Transient            may work later: back off and retry              HTTP 503 + Retry-After
│   ├── StoreUnavailable the database is away or its transaction failed
│   │   └── StoreFailed  a fault of ours while storing
│   ├── SpoolFull        the database is away, and the disk takes no more
│   ├── TooManyRequests  the queue before the database is full
│   ├── NoRoom           the bodies of other requests fill the memory set aside for bodies
│   ├── Busy             somebody else does the same, and only one may
│   ├── NotCounted       a budget is new, and what it has spent is being counted
│   ├── Exhausted        the machine has no memory or no file left
│   └── Stopping         the collector is shutting down
└── StartupError         the collector cannot start; the message says what to change
    └── DatabaseAway     nothing answers where the database should be
"""

from __future__ import annotations


class CollectorError(Exception):
    """Root of the collector's errors. `reason` is a short word for metrics."""

    reason = "error"


class Permanent(CollectorError):
    """The same input will fail again."""

    reason = "permanent"
    http_status = 400


class BadRequest(Permanent):
    """The body is not what it claims to be."""

    reason = "bad_request"

    def __init__(self, message: str, *, reason: str = "bad_request", field: str = "") -> None:
        """`field` is the path of the one that is wrong, if that is known."""
        super().__init__(message)
        self.reason = reason
        self.field = field


class Unauthenticated(Permanent):
    """No API key, or none that opens anything."""

    http_status = 401

    def __init__(self, message: str, *, reason: str = "unknown_key") -> None:
        super().__init__(message)
        self.reason = reason


class Owned(Permanent):
    """It is graphmeter.yaml's, and changed there."""

    reason = "owned_by_yaml"
    http_status = 409


class NoSuchBudget(Permanent):
    """There is no budget of that name."""

    reason = "no_such_budget"
    http_status = 404


class Forbidden(Permanent):
    """The API key is good, but not for this."""

    reason = "wrong_scope"
    http_status = 403


class TooSlow(Permanent):
    """The body takes longer than any sender waits: nobody is there to try again."""

    reason = "slow_body"
    http_status = 408


class Unsupported(Permanent):
    """Content type or content encoding unknown."""

    reason = "unsupported_media_type"
    http_status = 415


class TooLarge(Permanent):
    """Over a limit."""

    reason = "too_large"
    http_status = 413


class NotHere(Permanent):
    """A path or a method that is not served."""

    reason = "not_here"

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class Fault(Permanent):
    """Ours, while reading this very request: the same bytes would meet it again."""

    reason = "fault"
    http_status = 500


class Transient(CollectorError):
    """The same input may succeed later."""

    reason = "transient"
    http_status = 503
    retry_after_s = 1


class StoreUnavailable(Transient):
    """The database is away, or its transaction failed for a reason that passes."""

    reason = "store_unavailable"


class StoreFailed(StoreUnavailable):
    """A fault of ours while storing: no reason to believe that the database is away."""


class NotCounted(Transient):
    """A budget has come into force, and the calls of its period from before that are being counted."""

    reason = "budget_not_counted"


class SpoolFull(Transient):
    """The database is away, and what would bridge that has no room or a bad disk."""

    reason = "spool_full"
    retry_after_s = 10


class TooManyRequests(Transient):
    """The queue before the database is full.

    Answered with 503, not 429: the OTLP specification retries both, but official Python exporters in the field
    (1.36 for one) drop a batch that was answered with 429.
    """

    reason = "queue_full"


class NoRoom(Transient):
    """The bodies of other requests fill the memory that is set aside for bodies."""

    reason = "no_room"


class Busy(Transient):
    """Somebody else does the same at the moment, and only one may."""

    reason = "busy"


class Exhausted(Transient):
    """The machine has no memory or no file handle left for this request."""

    reason = "exhausted"


class Stopping(Transient):
    """The collector is shutting down; another one, or this one restarted, will take the spans."""

    reason = "stopping"


class StartupError(CollectorError):
    """The collector cannot start; the message says what to change."""

    reason = "startup"


class DatabaseAway(StartupError):
    """Nothing answers where the database should be: it may be back soon."""


class TakenBack(Exception):
    """Ends a transaction that is not to be kept; whoever began it catches it."""
