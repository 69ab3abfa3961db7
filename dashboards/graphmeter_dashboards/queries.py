"""The questions a dashboard asks, as PromQL and SQL: metric families in, query text out.

Metric and label names come from `graphmeter.names`. A selector filters by every dashboard variable that its metric has a
label for. Counters live in each collector and are summed; gauges read from the database are the same on every
collector, so one of them is taken (`max by`).
"""

from __future__ import annotations

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
BAD_RUNS: Final = f"{names.ERROR}|{names.LOST}"
JUDGED_RUNS: Final = f"{names.OK}|{BAD_RUNS}"
"""Statuses that an SLO judges; interrupted and cancelled runs are neither good nor bad."""

SLO_BURN_RATE: Final = "slo:burn_rate:ratio1h"


def select(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Series of a metric under the dashboard's filters, and under further `matchers` (PromQL, as `status="ok"`)."""
    filters = [f'{label}=~"${label}"' for label in FILTERS if label in metric.labels]
    return f"{metric.name}{suffix}{{{','.join([*filters, *matchers])}}}"


def _sum(inner: str, by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def count(metric: Metric, *matchers: str, by: tuple[str, ...] = (), window: str = RANGE) -> str:
    """How much a counter grew within the window."""
    return _sum(f"increase({select(metric, *matchers)}[{window}])", by)


def per_second(metric: Metric, *matchers: str, by: tuple[str, ...] = (), times: int = 1) -> str:
    """Speed of a counter over time: per second, or per `times` seconds."""
    rate = _sum(f"rate({select(metric, *matchers)}[{STEP}])", by)
    return rate if times == 1 else f"{times} * {rate}"


def quantile(q: float, metric: Metric, by: tuple[str, ...] = (), window: str = STEP) -> str:
    """Quantile of a histogram, seconds or USD as the metric has it."""
    buckets = _sum(f"rate({select(metric, suffix='_bucket')}[{window}])", ("le", *by))
    return f"histogram_quantile({q}, {buckets})"


def same_everywhere(metric: Metric, by: tuple[str, ...]) -> str:
    """A gauge that every collector reads from the one database: take one collector's word."""
    return f"max by ({', '.join(by)}) ({select(metric)})"


def error_ratio(window: str = RANGE) -> str:
    """Share of judged runs that were bad. No judged run: no answer; none bad: 0."""
    judged = count(names.RUNS, f'status=~"{JUDGED_RUNS}"', window=window)
    bad = count(names.RUNS, f'status=~"{BAD_RUNS}"', window=window)
    return f"({bad} or 0 * {judged}) / ({judged} > 0)"


def runs_in_progress() -> str:
    """Runs started and not ended."""
    return f"sum({same_everywhere(names.RUNS_IN_PROGRESS, names.BASE_LABELS)})"


def budget_used() -> str:
    """Share of each budget spent in its current period."""
    key = ("budget", "team", "scope")
    shares = [
        f"{same_everywhere(spent, key)} / ({same_everywhere(limit, key)} > 0)"
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


def firing_alerts() -> str:
    """Our alerts that fire and tell somebody; the watchdog, which always fires, has neither severity."""
    return 'ALERTS{alertstate="firing",product="graphmeter",severity=~"page|ticket"}'


def label_values(metric: Metric, label: str, *filters: str) -> str:
    """Grafana's query for the values of a label, among the series that the variables in `filters` leave."""
    matchers = ",".join(f'{name}=~"${name}"' for name in filters)
    series = f"{metric.name}{{{matchers}}}" if filters else metric.name
    return f"label_values({series}, {label})"


def _named(column: str) -> str:
    """A text column as the metrics show it: what nobody named is `unattributed` there and '' in the database."""
    return f"coalesce(nullif({column}, ''), '{names.UNATTRIBUTED}')"


def _chosen(value: str, variable: str) -> str:
    # The value "All" of a variable reaches SQL as its regular expression, unquoted whatever the format asked for, so
    # `IN (...)` would break; a dollar-quoted regular expression takes both it and a list, and any quote within.
    return f"{value} ~ ('^' || $$(${{{variable}:regex}})$$ || '$')"


def latest_failed_runs(limit: int = 50) -> str:
    """Newest runs that failed or got lost, from the database: durations in seconds, costs in USD, trace ids in hex."""
    graph, team = _named("graph"), _named("team")
    return f"""\
SELECT to_timestamp(started_ns / 1e9) AS "started", {graph} AS "graph", {team} AS "team",
       environment AS "environment", status AS "status", error_type AS "error type", status_message AS "message",
       duration_ns / 1e9 AS "duration", cost_nano / 1e9 AS "cost", encode(trace_id, 'hex') AS "trace"
FROM run
WHERE $__unixEpochNanoFilter(started_ns) AND status IN ('{names.ERROR}', '{names.LOST}')
  AND {_chosen("environment", "environment")}
  AND {_chosen(team, "team")}
  AND {_chosen(graph, "graph")}
ORDER BY started_ns DESC LIMIT {limit}"""  # noqa: S608 - nothing but constants of our own
