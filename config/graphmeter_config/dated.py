"""What holds for a time: dates and instants of a named zone in, half-open ranges of nanoseconds out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from graphmeter_config.section import Section
from graphmeter_config.values import wrong
from graphmeter_config.zones import Timezone, zone

ALWAYS_NS: Final = 0
NEVER_NS: Final = 1 << 63
"""End of what has no end."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR: Final = 2261


def _moment(value: Any) -> str:
    remedy = "write a date or an instant: 2026-01-01, 2026-01-01T06:00 or 2026-01-01T06:00+01:00"
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise wrong("not a date", remedy) from None
    if not 1970 < moment.year <= _LAST_YEAR:
        raise wrong(f"not between 1971 and {_LAST_YEAR}", remedy)
    return str(value)


Moment = Annotated[
    str, BeforeValidator(_moment), WithJsonSchema({"type": "string", "examples": ["2026-01-01", "2026-01-01T06:00"]})
]
"""A date (its midnight) or an instant; in the entry's time zone unless it names an offset."""


def moment_ns(text: str, timezone: str = "UTC") -> int:
    """ns since the epoch of a date or an instant."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone(timezone))
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1_000


class Dated(Section):
    """Something that holds for a time."""

    valid_from: Moment | None = None
    """From here on, this instant included; left out: always."""
    valid_to: Moment | None = None
    """Up to here, this instant excluded; left out: for ever."""
    timezone: Timezone = "UTC"
    """Where dates begin at midnight."""

    @cached_property
    def since_ns(self) -> int:
        return ALWAYS_NS if self.valid_from is None else moment_ns(self.valid_from, self.timezone)

    @cached_property
    def until_ns(self) -> int:
        return NEVER_NS if self.valid_to is None else moment_ns(self.valid_to, self.timezone)

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.since_ns >= self.until_ns:
            raise wrong("not after valid_from", "write a later valid_to, or leave it out: for ever", "valid_to")
        return self

    def holds_with(self, other: Dated) -> bool:
        """Whether both hold at some instant."""
        return max(self.since_ns, other.since_ns) < min(self.until_ns, other.until_ns)
