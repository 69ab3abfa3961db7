"""Reports on spend that the collector sends by itself, once per calendar period."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from graphmeter_config.periods import Period
from graphmeter_config.section import Section
from graphmeter_config.values import Name, Seconds, wrong
from graphmeter_config.zones import Timezone

DIMENSIONS: Final = (
    *("service", "environment", "graph", "team", "tenant", "release", "node", "provider", "model"),
    *("user_id", "session_id", "thread_id", "run_id", "operation", "status"),
)
"""What a report can be grouped by, besides tags (`tag:plan`)."""


def _by(value: Any) -> tuple[str, ...]:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    remedy = f"write one or more of {', '.join(DIMENSIONS)}, tag:plan, with commas between"
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(part, str) for part in parts):
        raise wrong("not a list of dimensions", remedy)
    for part in parts:
        tag = part.removeprefix("tag:")
        if part not in DIMENSIONS and (tag == part or not tag or not tag.isprintable() or {'"', "\\"} & set(tag)):
            raise wrong(f"spend has no dimension {part!r}", remedy)
    return tuple(dict.fromkeys(parts))


class Report(Section):
    """One report on the spend of each day, week or month, sent when that is over."""

    name: Name
    every: Period = "day"
    timezone: Timezone = "UTC"
    """Where days begin at midnight; weeks begin on Monday."""
    by: Annotated[tuple[str, ...], BeforeValidator(_by)] = ("team",)
    """What spend is grouped by."""
    top: int = Field(20, ge=1, le=1000)
    """Groups at most, the dearest; the total is that of all."""
    view: Literal["effective", "billed"] = "effective"
    """By which prices: the last that each call was given, or those it was billed by."""
    receivers: tuple[str, ...] = Field(min_length=1)
    """Whom it is sent to: names of `receivers`."""
    format: Literal["slack", "json", "markdown"] | None = None
    """Left out, it is what suits the receiver: Slack's blocks, or JSON."""
    after_s: Seconds = Field(900.0, alias="after")
    """How long after the end of the period: spans that come later are missing in it."""
