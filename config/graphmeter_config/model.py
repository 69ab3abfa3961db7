"""The whole configuration: the effective graphmeter.yaml as one immutable value with a stable hash."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from graphmeter import names
from graphmeter_config.alerting import Alerting
from graphmeter_config.anomalies import Anomalies
from graphmeter_config.budget import Budget
from graphmeter_config.forward import Forward
from graphmeter_config.held import Prometheus
from graphmeter_config.maintenance import Maintenance
from graphmeter_config.prices import Prices
from graphmeter_config.provider_limits import ProviderLimit
from graphmeter_config.receivers import Receiver
from graphmeter_config.reporting import Report
from graphmeter_config.sampling import Sampling
from graphmeter_config.section import Section
from graphmeter_config.slo import Slo
from graphmeter_config.thresholds import Thresholds
from graphmeter_config.values import Seconds, duration_text, wrong

DAY = 86_400.0


class Runs(Section):
    """How runs are judged."""

    lost_after_s: Seconds = Field(1800.0, alias="lost_after")
    """A run that shows no sign of life (no span of it ends) for so long is `lost`, and counts as bad.

    The longest silence of a healthy run is one model call: provider clients give up after 10 min and retry twice, hence
    30 min. Shorter finds dead processes sooner, but what a Prometheus counter once called lost stays counted, even if
    the run ends well after all.
    """

    settle_after_s: Seconds = Field(60.0, alias="settle_after")
    """A model call, tool or node sent by another instrumentation counts when the spans above it have come, which say where
    it belongs; or after so long, as node `unattributed`. Longer suits foreign graphs that run longer: their spans come when
    they end. What was settled stays where it is.
    """


def _whole_days(value: float) -> float:
    if value < DAY or value % DAY:
        raise wrong("not a whole number of days", "write 7d or 30d")
    return value


class Retention(Section):
    """How long things are kept. What is left out of runs, ledger and rollups is kept for ever."""

    spans_s: Annotated[Seconds, AfterValidator(_whole_days)] = Field(30 * DAY, alias="spans")
    """Facts of spans. Spans that started earlier are refused."""
    bodies_s: Annotated[Seconds, AfterValidator(_whole_days)] = Field(7 * DAY, alias="bodies")
    """The spans' own bytes, which forwarding reads."""

    runs_s: Annotated[Seconds, AfterValidator(_whole_days)] | None = Field(None, alias="runs")
    """Runs with their nodes, waits, outcomes and late tags."""
    ledger_s: Annotated[Seconds, AfterValidator(_whole_days)] | None = Field(None, alias="ledger")
    """One row per model call: what spend is reported from."""
    rollups_s: Annotated[Seconds, AfterValidator(_whole_days)] | None = Field(None, alias="rollups")
    """Hourly and daily sums and latencies, which reports of more than a day are made from."""

    @model_validator(mode="after")
    def _outlive_spans(self) -> Self:
        for name in ("runs", "ledger", "rollups"):
            kept: float | None = getattr(self, f"{name}_s")
            # A late span would make them anew, with itself as the only part.
            if kept is not None and kept <= self.spans_s:
                raise wrong(
                    f"{name}: {duration_text(kept)} is not longer than spans: {duration_text(self.spans_s)}",
                    f"write more than {duration_text(self.spans_s)}, or leave {name} out to keep them for ever",
                )
        return self

    @property
    def spans_days(self) -> int:
        """Days that facts of spans are kept."""
        return round(self.spans_s / DAY)

    @property
    def bodies_days(self) -> int:
        """Days that the spans' own bytes are kept, never longer than their facts."""
        return min(round(self.bodies_s / DAY), self.spans_days)

    @property
    def runs_days(self) -> int | None:
        """Days that runs are kept; None: for ever."""
        return None if self.runs_s is None else round(self.runs_s / DAY)

    @property
    def ledger_days(self) -> int | None:
        """Days that the ledger is kept; None: for ever."""
        return None if self.ledger_s is None else round(self.ledger_s / DAY)

    @property
    def rollups_days(self) -> int | None:
        """Days that rollups are kept; None: for ever."""
        return None if self.rollups_s is None else round(self.rollups_s / DAY)


def _caps(value: dict[str, int]) -> dict[str, int]:
    known = {label for metric in names.METRICS for label in metric.labels}
    for label in value:
        if label not in known:
            raise wrong(f"no metric has a label {label!r}", f"write one of {', '.join(sorted(known))}")
    return value


class Labels(Section):
    """Bounds of metric labels."""

    caps: Annotated[dict[str, Annotated[int, Field(ge=1, le=100_000)]], AfterValidator(_caps)] = Field(
        default_factory=dict
    )
    """Label → distinct values it may take before further ones become `other`; labels left out keep the built-in cap."""


_SLOS = (
    Slo(
        name="runs-availability",
        description="Runs of a graph that end well, among those that end well, fail or are lost.",
        objective=Decimal(99),
    ),
)
_BUDGETS = (
    Budget(
        name="team-monthly",
        description="What a team may spend on model calls in a calendar month.",
        limit_usd=Decimal(100),
        per=("team",),
    ),
)


_NOT_OF_RULES = frozenset(
    {"prices", "runs", "forward", "retention", "labels", "receivers", "reports", "maintenance", "prometheus"}
)
"""Sections that change no file of `graphmeter rules build`."""


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Config(Section):
    """graphmeter.yaml. What a file leaves out has the default; a list it gives replaces the default list."""

    version: Literal[1] = 1
    slos: tuple[Slo, ...] = _SLOS
    budgets: tuple[Budget, ...] = _BUDGETS
    thresholds: Thresholds | None = Thresholds()
    """null: none at all."""
    anomalies: Anomalies | None = Anomalies()
    """null: none at all."""
    provider_limits: tuple[ProviderLimit, ...] = ()
    prices: Prices = Prices()
    runs: Runs = Runs()
    forward: Forward = Forward()
    sampling: Sampling = Sampling()
    retention: Retention = Retention()
    labels: Labels = Labels()
    receivers: tuple[Receiver, ...] = ()
    reports: tuple[Report, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    alerting: Alerting = Alerting()
    prometheus: Prometheus = Prometheus()

    @classmethod
    def default(cls) -> Self:
        """What applies without a file."""
        return cls()

    @cached_property
    def hash(self) -> str:
        """16 hex digits that change when what is in force changes; secrets are not part of it."""
        return _digest(self.shown())

    @cached_property
    def rules_hash(self) -> str:
        """The same of what rules are made from: it stays when only prices, receivers of reports or the like change."""
        of_rules = {section: value for section, value in self.shown().items() if section not in _NOT_OF_RULES}
        return _digest(of_rules)

    def shown(self) -> dict[str, Any]:
        """The effective values as a file would write them, safe to print: secrets unexpanded, or hidden."""
        return self.model_dump(mode="json", by_alias=True)
