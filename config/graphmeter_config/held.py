"""What rules look back on, and how long the Prometheus that they run in keeps samples, in; what it cannot hold out.

Nothing fails then: a budget is counted over the days that are there, and an alert that needs more never fires. So it is
a warning, for whoever checks the file or builds the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, Field

from graphmeter_config.anomalies import Anomalies
from graphmeter_config.section import Section
from graphmeter_config.slo import Slo
from graphmeter_config.values import SECONDS_PER_DAY, Seconds, duration_text, wrong

_WEEK_S: Final = 7 * SECONDS_PER_DAY


def _at_least_a_day(value: float) -> float:
    if value < SECONDS_PER_DAY:
        raise wrong("less than a day", "write what --storage.tsdb.retention.time says, such as 35d")
    return value


class Prometheus(Section):
    """The Prometheus that evaluates the rules."""

    retention_s: Annotated[Seconds, AfterValidator(_at_least_a_day)] = Field(35.0 * SECONDS_PER_DAY, alias="retention")
    """How long it keeps samples: its `--storage.tsdb.retention.time`, which is 15d unless it is told otherwise. The Compose
    stack and `graphmeter stack` tell it 35d."""


class NotHeld(NamedTuple):
    """A setting that asks for samples that are gone by then."""

    path: tuple[str | int, ...]
    """Where it stands: `("slos", 1, "window")`."""
    value: str
    message: str
    remedy: str


def not_held(prometheus: Prometheus, slos: tuple[Slo, ...], anomalies: Anomalies | None) -> Iterator[NotHeld]:
    """Windows that are longer than samples are kept."""
    kept_s = prometheus.retention_s
    for index, slo in enumerate(slos):
        if slo.window_s > kept_s:
            short = f"Prometheus keeps {duration_text(kept_s)}: the budget is counted over no more than that"
            yield NotHeld(("slos", index, "window"), slo.window_text, short, _remedy(slo.window_s))
    drop = anomalies.traffic_drop if anomalies is not None else None
    if drop is not None and drop.needs_weeks * _WEEK_S > kept_s:
        never = f"Prometheus keeps {duration_text(kept_s)}: the alert can never fire"
        path = ("anomalies", "traffic_drop", "needs_weeks")
        yield NotHeld(path, str(drop.needs_weeks), never, _remedy(drop.needs_weeks * _WEEK_S))


def _remedy(needed_s: float) -> str:
    # A day more: samples go in blocks of hours.
    days = f"{-(-needed_s // SECONDS_PER_DAY) + 1:.0f}d"
    return f"start it with --storage.tsdb.retention.time={days} and write `prometheus: {{retention: {days}}}`"
