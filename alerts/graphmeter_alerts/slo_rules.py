"""One SLO in, its recording rules and alerts out: error ratios per window, error budget left, burn-rate alerts.

Events are runs that were judged. Ratios never become NaN: without events there is no sample. Long windows and the SLO's
own window add up 5-minute slices, so every event weighs the same and a month costs 8640 samples per graph. What alerts
read now is in their own group; what they add up may be a slice late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from graphmeter import names
from graphmeter_alerts import wording
from graphmeter_alerts.rules import Alert, Group, Record, alert_labels, matchers, quoted
from graphmeter_alerts.wording import label, number
from graphmeter_config import BAD_STATUSES, GOOD_STATUSES, Config, Slo
from graphmeter_config.burn import Plan, Tier, plan
from graphmeter_config.section import glob_regex
from graphmeter_config.values import duration_text

BURN_FAST: Final = "GraphmeterErrorBudgetBurnFast"
BURN_SLOW: Final = "GraphmeterErrorBudgetBurnSlow"
EXHAUSTED: Final = "GraphmeterErrorBudgetExhausted"
ABSENT: Final = "GraphmeterSLOMetricAbsent"
ALERTS: Final = (BURN_FAST, BURN_SLOW, EXHAUSTED, ABSENT)

JOB: Final = "graphmeter"
"""Prometheus job that scrapes the collectors."""
SLICE: Final = "5m"
SLICE_S: Final = 300
EXHAUSTED_FOR_S: Final = 300
_LONGEST_DIRECT_S: Final = 6 * 3600
"""Longer windows are added up from slices: `increase` over days of raw samples is what makes rules slow."""

_FOR_S: Final = {"page-fast": 120, "page-slow": 900, "ticket-fast": 3600, "ticket-slow": 3 * 3600}
_KEEP_FIRING_FOR_S: Final = {"page": 300, "ticket": 3600}

EVENTS_SLICE: Final = "slo:events:increase5m_slice"
ERRORS_SLICE: Final = "slo:errors:increase5m_slice"
PERIOD_RATIO: Final = "slo:period_error:ratio"
REMAINING: Final = "slo:period_error_budget_remaining:ratio"
BURN_RATE: Final = "slo:burn_rate:ratio1h"


def burn_plan(slo: Slo) -> Plan:
    """The burn-rate tiers of an SLO."""
    return plan(slo.error_budget, int(slo.window_s))


def burn_alert(tier: Tier) -> str:
    """Name of a tier's alert: pages are fast, tickets slow."""
    return BURN_FAST if tier.severity == "page" else BURN_SLOW


def for_s(tier: Tier) -> int:
    """How long a tier has to be crossed before it tells."""
    return _FOR_S[tier.name]


def keep_firing_for_s(tier: Tier) -> int:
    """How long a tier keeps telling afterwards."""
    return _KEEP_FIRING_FOR_S[tier.severity]


def absent_for_s(slo: Slo) -> int:
    """How long metrics may be gone: as long as an outage of everything takes to page, in whole minutes."""
    fastest = burn_plan(slo).tiers[0]
    return 60 * math.ceil((fastest.threshold * fastest.long_s + for_s(fastest)) / 60)


def groups(config: Config, slo: Slo) -> list[Group]:
    """The two rule groups of an SLO."""
    name = f"graphmeter-slo-{slo.name}"
    slices = Group(f"{name}-slices", SLICE_S, tuple(_counts(slo, EVENTS_SLICE, ERRORS_SLICE, SLICE)))
    return [slices, Group(name, 60, (*_windows(slo), *_period(slo), *_alerts(config, slo)))]


def runs(slo: Slo, *statuses: str) -> str:
    """PromQL selector of the runs an SLO is about, in any of these statuses."""
    parts = [f"status=~{quoted('|'.join(statuses))}"]
    for field, globs in slo.select.restricting().items():
        literal = len(globs) == 1 and not set("*?") & set(globs[0])
        pattern = globs[0] if literal else "|".join(map(glob_regex, globs))
        parts.append(f"{field}{'=' if literal else '=~'}{quoted(pattern)}")
    return f"{names.RUNS.name}{{{','.join(parts)}}}"


def _counts(slo: Slo, events: str, errors: str, window: str) -> Iterator[Record]:
    judged = f"sum by (graph) (increase({runs(slo, *GOOD_STATUSES, *BAD_STATUSES)}[{window}]))"
    bad = f"sum by (graph) (increase({runs(slo, *BAD_STATUSES)}[{window}]))"
    yield Record(events, judged, {"slo": slo.name})
    # A graph that never failed may have no series of bad runs: none, not unknown.
    yield Record(errors, f"{bad}\nor\n0 * {judged}", {"slo": slo.name})


def _windows(slo: Slo) -> Iterator[Record]:
    selector = matchers(slo=slo.name)
    tiers = burn_plan(slo).tiers
    for seconds in sorted({seconds for tier in tiers for seconds in (tier.short_s, tier.long_s)}):
        window = duration_text(seconds)
        events, errors = f"slo:events:increase{window}", f"slo:errors:increase{window}"
        if seconds <= _LONGEST_DIRECT_S:
            yield from _counts(slo, events, errors, window)
        else:
            yield Record(events, f"sum_over_time({EVENTS_SLICE}{selector}[{window}])", {"slo": slo.name})
            yield Record(errors, f"sum_over_time({ERRORS_SLICE}{selector}[{window}])", {"slo": slo.name})
        ratio = f"{errors}{selector} / ({events}{selector} > 0)"
        yield Record(f"slo:sli_error:ratio_rate{window}", ratio, {"slo": slo.name})


def _period(slo: Slo) -> Iterator[Record]:
    selector, labels = matchers(slo=slo.name), {"slo": slo.name}
    window, budget = duration_text(slo.window_s), number(slo.error_budget)
    events, errors = f"slo:events:increase{window}", f"slo:errors:increase{window}"
    yield Record("slo:objective:ratio", f"vector({number(1 - slo.error_budget)})", labels)
    yield Record("slo:error_budget:ratio", f"vector({budget})", labels)
    yield Record(BURN_RATE, f"slo:sli_error:ratio_rate1h{selector} / {budget}", labels)
    yield Record(events, f"sum_over_time({EVENTS_SLICE}{selector}[{window}])", labels)
    yield Record(errors, f"sum_over_time({ERRORS_SLICE}{selector}[{window}])", labels)
    yield Record(PERIOD_RATIO, f"{errors}{selector} / ({events}{selector} > 0)", labels)
    yield Record(REMAINING, f"1 - {PERIOD_RATIO}{selector} / {budget}", labels)


def _alerts(config: Config, slo: Slo) -> Iterator[Alert]:
    selector, graph = matchers(slo=slo.name), label("graph")
    for tier in burn_plan(slo).tiers:
        name, long = burn_alert(tier), duration_text(tier.long_s)
        yield Alert(
            name,
            f"slo:sli_error:ratio_rate{long}{selector} > {number(tier.threshold)}\n"
            f"and\nslo:sli_error:ratio_rate{duration_text(tier.short_s)}{selector} > {number(tier.threshold)}\n"
            f"and\nslo:errors:increase{long}{selector} >= {slo.min_bad_events}",
            alert_labels(tier.severity, slo=slo.name, burn=tier.name),
            wording.error_budget_burn(config, name, slo, tier, graph=graph, ratio=wording.PERCENT_VALUE),
            for_s(tier),
            keep_firing_for_s(tier),
        )
    yield Alert(
        EXHAUSTED,
        f"{REMAINING}{selector} <= 0\n"
        f"and\nslo:errors:increase{duration_text(slo.window_s)}{selector} >= {slo.min_bad_events}",
        alert_labels("ticket", slo=slo.name),
        wording.error_budget_exhausted(config, EXHAUSTED, slo, graph=graph, remaining=wording.PERCENT_VALUE),
        EXHAUSTED_FOR_S,
    )
    # A quiet graph keeps its series, and a graph that never ran has none: only what was measured can go missing.
    yield Alert(
        ABSENT,
        f"sum_over_time({EVENTS_SLICE}{selector}[1d]) > 0\nunless\nslo:events:increase5m{selector}",
        alert_labels("ticket", slo=slo.name, job=JOB),
        wording.slo_metric_absent(config, ABSENT, slo, graph=graph, events=wording.COUNT_VALUE),
        absent_for_s(slo),
    )
