"""One SLO in, its recording rules and alerts out: error ratios per window, error budget left, burn-rate alerts.

What an event is, and which are bad, comes from `slo_events`; all kinds are alike from there on. Ratios never become NaN:
without events there is no sample. Long windows and the SLO's own window add up 5-minute slices, so every event weighs the
same and a month costs 8640 samples per graph, or per what else is judged by itself. What alerts read now is in their own
group; what they add up may be a slice late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from graphmeter_alerts import slo_events, slo_month, slo_wording, wording
from graphmeter_alerts.rules import Alert, Group, Record, alert_labels, matchers
from graphmeter_alerts.wording import number
from graphmeter_config import Config, Slo
from graphmeter_config.burn import Plan, Tier, plan
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
    """The burn-rate tiers of an SLO; of a calendar month those of the longest."""
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


def labels_of(slo: Slo, severity: str, **more: str) -> dict[str, str]:
    """Labels that every alert of an SLO has."""
    return alert_labels(severity, slo=slo.name, **({"owner": slo.owner} if slo.owner else {}), **more)


def absent_for_s(slo: Slo) -> int:
    """How long metrics may be gone: as long as an outage of everything takes to page, in whole minutes."""
    fastest = burn_plan(slo).tiers[0]
    return 60 * math.ceil((fastest.threshold * fastest.long_s + for_s(fastest)) / 60)


def groups(config: Config, slo: Slo) -> list[Group]:
    """The two rule groups of an SLO."""
    name = f"graphmeter-slo-{slo.name}"
    counted = _counts(slo, EVENTS_SLICE, ERRORS_SLICE, SLICE)
    months = (each for kept in (EVENTS_SLICE, ERRORS_SLICE) for each in slo_month.slices(slo, kept, SLICE_S))
    slices = Group(f"{name}-slices", SLICE_S, (*counted, *months))
    return [slices, Group(name, 60, (*_windows(slo), *_period(slo), *slo_month.thresholds(slo), *_alerts(config, slo)))]


def _counts(slo: Slo, events: str, errors: str, window: str) -> Iterator[Record]:
    judged, bad = slo_events.events(slo).counted(window)
    yield Record(events, judged, {"slo": slo.name})
    yield Record(errors, bad, {"slo": slo.name})


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
    budget = number(slo.error_budget)
    events, errors = f"slo:events:increase{slo.window_suffix}", f"slo:errors:increase{slo.window_suffix}"
    yield Record("slo:objective:ratio", f"vector({number(1 - slo.error_budget)})", labels)
    yield Record("slo:error_budget:ratio", f"vector({budget})", labels)
    yield Record(BURN_RATE, f"slo:sli_error:ratio_rate1h{selector} / {budget}", labels)
    yield Record(events, _in_period(slo, EVENTS_SLICE), labels)
    yield Record(errors, _in_period(slo, ERRORS_SLICE), labels)
    yield Record(PERIOD_RATIO, f"{errors}{selector} / ({events}{selector} > 0)", labels)
    yield Record(REMAINING, f"1 - {PERIOD_RATIO}{selector} / {budget}", labels)


def _in_period(slo: Slo, slices: str) -> str:
    if slo.calendar:
        return slo_month.to_date(slo, slices)
    return f"sum_over_time({slices}{matchers(slo=slo.name)}[{duration_text(slo.window_s)}])"


def _alerts(config: Config, slo: Slo) -> Iterator[Alert]:
    selector, words = matchers(slo=slo.name), slo_wording.template(slo)
    for tier in burn_plan(slo).tiers:
        name, long = burn_alert(tier), duration_text(tier.long_s)
        threshold = slo_month.threshold(slo, tier) if slo.calendar else number(tier.threshold)
        yield Alert(
            name,
            f"slo:sli_error:ratio_rate{long}{selector} > {threshold}\n"
            f"and\nslo:sli_error:ratio_rate{duration_text(tier.short_s)}{selector} > {threshold}\n"
            f"and\nslo:errors:increase{long}{selector} >= {slo.min_bad_events}",
            labels_of(slo, tier.severity, burn=tier.name),
            slo_wording.error_budget_burn(config, name, words, tier, ratio=wording.PERCENT_VALUE),
            for_s(tier),
            keep_firing_for_s(tier),
        )
    yield Alert(
        EXHAUSTED,
        f"{REMAINING}{selector} <= 0\n"
        f"and\nslo:errors:increase{slo.window_suffix}{selector} >= {slo.min_bad_events}"
        + (f"\nand on ()\n{slo_month.NOT_THE_FIRST}" if slo.calendar else ""),
        labels_of(slo, "ticket"),
        slo_wording.error_budget_exhausted(config, EXHAUSTED, words, remaining=wording.PERCENT_VALUE),
        EXHAUSTED_FOR_S,
    )
    # What is quiet keeps its series, and what never happened has none: only what was measured can go missing.
    yield Alert(
        ABSENT,
        f"sum_over_time({EVENTS_SLICE}{selector}[1d]) > 0\n{_unless_measured(slo)}",
        labels_of(slo, "ticket", job=JOB),
        slo_wording.slo_metric_absent(config, ABSENT, words, events=wording.COUNT_VALUE),
        absent_for_s(slo),
    )


def _unless_measured(slo: Slo) -> str:
    by, presence = slo_events.presence(slo)
    if presence:
        return f"unless on ({', '.join(by)})\n{presence}"
    return f"unless\nslo:events:increase5m{matchers(slo=slo.name)}"
