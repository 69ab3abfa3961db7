"""The questions a dashboard asks of Prometheus: metric families in, PromQL out; those of the database are in `database`.

Metric and label names come from `graphmeter.names`. A selector filters by every dashboard variable that its metric has a
label for. Counters live in each collector and are summed; gauges read from the database are the same on every
collector, so one of them is taken (`max by`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from graphmeter import names
from graphmeter.names import Metric

FILTERS: Final = ("environment", "team", "graph", "node", "model")
"""Dashboard variables, each filtering the label of its own name."""

RANGE: Final = "$__range"
"""The dashboard's whole time range: for one number per panel."""
STEP: Final = "$__rate_interval"
"""A few scrapes: for lines over time."""

NODE: Final = ("graph", "node")
"""What identifies a node on a page that is filtered by environment."""
MODEL: Final = ("provider", "model")
BUDGET: Final = ("budget", "team", "scope")
"""What identifies a budget."""
BAD_RUNS: Final = f"{names.ERROR}|{names.LOST}"
"""Statuses that count as failures of a run; interrupted and cancelled runs are neither good nor bad, as in SLOs."""

SLO_BURN_RATE: Final = "slo:burn_rate:ratio1h"
SLO_OBJECTIVE: Final = "slo:objective:ratio"
SLO_BUDGET: Final = "slo:error_budget:ratio"
SLO_ERRORS_NOW: Final = "slo:period_error:ratio"
SLO_LEFT: Final = "slo:period_error_budget_remaining:ratio"
"""Of recording rules, by `slo` and by what each SLO judges by itself."""
PROVIDER_LIMIT_USED: Final = "graphmeter:provider_limit_used:ratio"
"""Of recording rules, by `limit`, by what it is `of`, and by what has it for itself."""
SLO: Final = "slo"
"""A variable that only the page about SLOs has."""


def select(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Series of a metric under the dashboard's filters, and under further `matchers` (PromQL, as `status="ok"`)."""
    filters = [f'{label}=~"${label}"' for label in FILTERS if label in metric.labels]
    return f"{metric.name}{suffix}{{{','.join([*filters, *matchers])}}}"


def _sum(inner: str, by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def count(metric: Metric, *matchers: str, by: tuple[str, ...] = (), window: str = RANGE, suffix: str = "") -> str:
    """How much a counter grew within the window; of a histogram `suffix` says which: `_sum` or `_count`."""
    return _sum(f"increase({select(metric, *matchers, suffix=suffix)}[{window}])", by)


def per_second(
    metric: Metric, *matchers: str, by: tuple[str, ...] = (), times: int = 1, suffix: str = "", window: str = STEP
) -> str:
    """Speed of a counter over time: per second, or per `times` seconds."""
    rate = _sum(f"rate({select(metric, *matchers, suffix=suffix)}[{window}])", by)
    return rate if times == 1 else f"{times} * {rate}"


def ratio(part: str, whole: str) -> str:
    """One by the other, series by series; no answer where there is no whole."""
    return f"{part} / ({whole} > 0)"


def share(part: str, whole: str) -> str:
    """The same where the part may be missing altogether: 0 then."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def top(expr: str, most: int = 10) -> str:
    """The greatest of the series, in order; what is zero is left out."""
    return f"sort_desc(topk({most}, {expr}) > 0)"


def quantile(q: float, metric: Metric, by: tuple[str, ...] = (), window: str = STEP) -> str:
    """Quantile of a histogram, seconds or USD as the metric has it."""
    buckets = _sum(f"rate({select(metric, suffix='_bucket')}[{window}])", ("le", *by))
    return f"histogram_quantile({q}, {buckets})"


def buckets(metric: Metric) -> str:
    """How many observations fell into each bucket of a histogram, for a heatmap."""
    return _sum(f"increase({select(metric, suffix='_bucket')}[{STEP}])", ("le",))


def same_everywhere(metric: Metric, by: tuple[str, ...]) -> str:
    """A gauge that every collector reads from the one database: take one collector's word."""
    return f"max by ({', '.join(by)}) ({select(metric)})"


def error_ratio(metric: Metric = names.RUNS, by: tuple[str, ...] = (), window: str = RANGE) -> str:
    """Share of judged runs (nodes, calls) that were bad. None judged: no answer; none bad: 0."""
    bad = BAD_RUNS if metric is names.RUNS else names.ERROR
    judged = count(metric, f'status=~"{names.OK}|{bad}"', by=by, window=window)
    return share(count(metric, f'status=~"{bad}"', by=by, window=window), judged)


def runs_in_progress() -> str:
    """Runs started and not ended."""
    return f"sum({same_everywhere(names.RUNS_IN_PROGRESS, names.BASE_LABELS)})"


def runs_waiting(by: tuple[str, ...] = ()) -> str:
    """Interrupted runs that nobody has answered."""
    return _sum(same_everywhere(names.RUNS_WAITING, names.BASE_LABELS), by)


def retries(by: tuple[str, ...] = (), per_s: int = 0) -> str:
    """Attempts that were followed by another: in the time range, or per so many seconds."""
    attempts, final = (
        per_second(metric, by=by, times=per_s) if per_s else count(metric, by=by)
        for metric in (names.NODE_ATTEMPTS, names.NODE_RUNS)
    )
    # Each side is extrapolated on its own.
    return f"clamp_min({attempts} - {final}, 0)"


def cost_per_1k(by: tuple[str, ...] = (), window: str = RANGE) -> str:
    """USD per 1000 tokens of any kind. Models without a price, and tools, which use no tokens, are on neither side."""
    cost, tokens = (f"{per_second(metric, by=by or MODEL, window=window)} > 0" for metric in (names.COST, names.TOKENS))
    if by:
        return f"1000 * ({cost}) / ({tokens})"
    return f"1000 * sum({cost} and {tokens}) / sum({tokens} and {cost})"


def cost_per_call(by: tuple[str, ...] = (), window: str = STEP) -> str:
    """USD per model call; tools that have a price are left out, for they are no calls."""
    # Only of what was called: the price of a tool stands under its own name.
    calls = per_second(names.LLM_CALLS, by=by or MODEL, window=window)
    cost = f"{per_second(names.COST, by=by or MODEL, window=window)} and {calls}"
    return ratio(f"({cost})", calls) if by else ratio(f"sum({cost})", f"sum({calls})")


def tokens_per_call(window: str = STEP) -> str:
    """Mean number of tokens of each type."""
    tokens = per_second(names.TOKENS, by=("type",), window=window)
    return f"{tokens} / ignoring (type) group_left () ({per_second(names.LLM_CALLS, window=window)} > 0)"


def tokens_per_second(matcher: str, by: tuple[str, ...], window: str = STEP) -> str:
    """Tokens of the types that `matcher` chooses, per second that calls took; parallel calls take their seconds each."""
    written = per_second(names.TOKENS, matcher, by=by, window=window)
    return ratio(written, per_second(names.LLM_DURATION, by=by, suffix="_sum", window=window))


def budget_used(also: Sequence[str] = ()) -> str:
    """Share of each budget spent in its current period.

    Args:
        also: Budgets that teams share by name; the filter by team leaves them out otherwise.
    """
    every: list[Callable[[Metric], str]] = [lambda metric: same_everywhere(metric, BUDGET)]
    if also:
        shared = f'{{team="",{one_of("budget", also)}}}'
        every.append(lambda metric: f"max by ({', '.join(BUDGET)}) ({metric.name}{shared})")
    shares = [
        ratio(of(spent), of(limit))
        for of in every
        for spent, limit in (
            (names.BUDGET_SPENT, names.BUDGET_LIMIT),
            (names.BUDGET_SPENT_TOKENS, names.BUDGET_LIMIT_TOKENS),
        )
    ]
    return " or ".join(shares)


def error_budget_left() -> str:
    """Share of each error budget that is left; negative when overspent."""
    return same_everywhere(names.SLO_BUDGET_REMAINING, ("slo", "graph"))


def burn_rate() -> str:
    """Speed at which each error budget is being spent, from the recording rules."""
    return f'{SLO_BURN_RATE}{{graph=~"$graph"}}'


def one_of(label: str, values: Sequence[str]) -> str:
    """A matcher for exactly these values."""
    pattern = "|".join(re.escape(value).replace("\\-", "-") for value in values).replace("\\", "\\\\")
    return f'{label}=~"{pattern}"'


def of_slos(series: str, *matchers: str) -> str:
    """Series of a recording rule under the filters of the page about SLOs."""
    filters = [f'{name}=~"${name}"' for name in (SLO, "graph")]
    return f"{series}{{{','.join([*filters, *matchers])}}}"


def burning(window: str) -> str:
    """How many times faster than its budget allows each SLO spends it, over a window of its alerts: `1h`, `5m` …"""
    return f"{of_slos(f'slo:sli_error:ratio_rate{window}')} / on (slo) group_left () {SLO_BUDGET}"


def of_runs(series: str) -> str:
    """Series of a recording rule about runs, which may be told apart by less than the page is filtered by."""
    filters = [f'{name}=~"${name}"' for name in ("environment", "team", "graph")]
    return f"{series}{{{','.join(filters)}}}"


def provider_limits_used() -> str:
    """Share of each limit of a provider that is used, as its alert sees it."""
    return f'{PROVIDER_LIMIT_USED}{{model=~"$model"}}'


def slo_alerts(*matchers: str) -> str:
    """Alerts about SLOs, pending or firing."""
    return of_slos("ALERTS", 'product="graphmeter"', 'slo!=""', *matchers)


def firing_alerts() -> str:
    """Our alerts that fire, but for the watchdog, which always does."""
    return 'ALERTS{alertstate="firing",product="graphmeter",alertname!="GraphmeterWatchdog"}'


def releases() -> str:
    """When the first run of each release began, in milliseconds, as Grafana's clock counts."""
    return f"1000 * {same_everywhere(names.RELEASE_SEEN, names.RELEASE_SEEN.labels)}"


def label_values(metric: Metric, label: str, *filters: str) -> str:
    """Grafana's query for the values of a label, among the series that the variables in `filters` leave."""
    matchers = ",".join(f'{name}=~"${name}"' for name in filters)
    series = f"{metric.name}{{{matchers}}}" if filters else metric.name
    return f"label_values({series}, {label})"
