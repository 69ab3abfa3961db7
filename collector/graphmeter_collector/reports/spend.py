"""What it cost: per group, per unit, per good outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphmeter_collector.reports.dimensions import EFFECTIVE, View


@dataclass(frozen=True, slots=True)
class CostRow:
    """Spend of one group of model calls, and of tools and retrievers that have a price, from the ledger."""

    group: dict[str, str]
    """Dimension → value; the empty value is spend that names none."""
    calls: int
    """Of models; answers from a cache excluded."""
    cache_hits: int
    unpriced_calls: int
    usage_missing_calls: int
    tokens: dict[str, int]
    """Per bucket of `graphmeter.names.TOKEN_TYPES`."""
    cost_nano: int
    saved_nano: int
    billed_nano: int = 0
    """What `cost_nano` is as billed."""
    view: View = EFFECTIVE
    """By which prices; what `billed_nano` is apart, every amount and count is by those."""
    wasted_nano: dict[str, int] = field(default_factory=dict)
    """Part of `cost_nano` that was for nothing, by reason (of `graphmeter.names.WASTE_REASONS`, those there are)."""
    wasted_calls: dict[str, int] = field(default_factory=dict)
    """How many calls that were, those that cost nothing included."""
    failed_calls: int | None = None
    """Calls that failed or were cancelled. As with what follows, None where nobody asked for details."""
    failed_nano: int | None = None
    """Their part of `cost_nano`."""
    nano: dict[str, int] | None = None
    """Parts of `cost_nano`, per bucket of `graphmeter.names.TOKEN_TYPES`. What has no tokens (a tool that has a price) is in
    none of them."""


@dataclass(frozen=True, slots=True)
class UnitCostRow:
    """What one run (conversation, user, …) of a group costs. Only those that called a model count."""

    group: dict[str, str]
    unit: str
    """Of `COST_UNITS`."""
    units: int
    cost_nano: int
    """Of all of them together."""
    mean_nano: int
    median_nano: int
    p95_nano: int
    """Exact, by nearest rank: the smallest cost that so many per cent do not exceed."""
    max_nano: int
    rest_nano: int
    """Spend of the group that names no such unit; not in the figures above."""
    view: View = EFFECTIVE


@dataclass(frozen=True, slots=True)
class ReportedCostRow:
    """Calls of one group of which the provider, or a gateway, said what they cost, beside what they cost by our prices."""

    group: dict[str, str]
    calls: int
    cost_nano: int
    """Ours."""
    reported_nano: int
    """Theirs."""
    drift_nano: int
    """Ours less theirs: negative is what we do not know of."""
    unpriced_calls: int
    """Of which ours is 0 because no price is known."""
    usage_missing_calls: int
    view: View = EFFECTIVE


@dataclass(frozen=True, slots=True)
class OutcomeCostRow:
    """What a good outcome of a group costs: all of the group's spend, by the number of good outcomes of one kind."""

    group: dict[str, str]
    kind: str
    good: int
    bad: int
    unjudged: int
    cost_nano: int
    """All spend of the group in the time range, whatever became of it."""
    per_good_nano: int | None
    """Rounded down; None where nothing turned out well."""
    view: View = EFFECTIVE
