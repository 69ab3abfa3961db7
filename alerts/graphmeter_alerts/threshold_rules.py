"""Plain thresholds in, recorded values and alerts out.

Each kind records what it compares, by what it judges by itself, and how much there was of it; dashboards draw the same
series. A limit of its own for some (`overrides`) is an alert of its own, and the others leave those out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Final, NamedTuple

from graphmeter import names
from graphmeter_alerts import slo_events, threshold_wording, wording
from graphmeter_alerts.rules import Alert, Group, Record, alert_labels, quoted
from graphmeter_alerts.wording import label, number
from graphmeter_config import Config
from graphmeter_config.indicators import BAD_STATUSES, GOOD_STATUSES
from graphmeter_config.threshold import Limit, Threshold
from graphmeter_config.thresholds import Escalations
from graphmeter_config.values import duration_text

ALERT_OF: Final[Mapping[str, str]] = {
    "error_rate": "GraphmeterErrorRateHigh",
    "node_error_rate": "GraphmeterNodeErrorRateHigh",
    "latency_p95": "GraphmeterLatencyHigh",
    "node_latency_p95": "GraphmeterNodeLatencyHigh",
    "run_duration": "GraphmeterRunTooLong",
    "run_cost_usd": "GraphmeterRunTooDear",
    "spend_usd_per_hour": "GraphmeterSpendPerHourHigh",
    "cost_usd_per_run": "GraphmeterCostPerRunHigh",
    "waste": "GraphmeterWasteHigh",
    "unpriced_calls": "GraphmeterModelUnpriced",
    "escalations": "GraphmeterEscalationsHigh",
    "human_wait": "GraphmeterHumanWaitLong",
    "state_size": "GraphmeterStateLarge",
    "cache_hits": "GraphmeterCacheHitsLow",
    "rate_limited": "GraphmeterRateLimited",
    "lost_runs": "GraphmeterRunsLost",
}
"""Name in the file → alert."""
ALERTS: Final = tuple(ALERT_OF.values())

GROUP: Final = "graphmeter-thresholds"
LABEL: Final = "threshold"
"""Holds the limit, as people write it; on records of single events as well, which are counted by limit."""
OVERRIDE: Final = "override"
"""For whom a limit of its own holds: two of the same height are two alerts."""
_UNITS: Final = {"share": "ratio", "seconds": "seconds", "usd": "usd", "count": "count"}
_GUARDS: Final = {"waste": "usd"}
_HALF: Final = Fraction(1, 2)


def wanted(config: Config) -> list[tuple[str, Threshold]]:
    """Thresholds that are on."""
    return list(config.thresholds.wanted()) if config.thresholds else []


def groups(config: Config) -> list[Group]:
    """The one rule group of all thresholds; none without any."""
    rules = [rule for name, threshold in wanted(config) for rule in _rules(config, name, threshold)]
    return [Group(GROUP, 60, tuple(rules))] if rules else []


def value_of(name: str, threshold: Threshold) -> str:
    """Name of the series that is compared with the limit."""
    return f"graphmeter:{name}:{_UNITS[threshold.unit]}"


def guard_of(name: str) -> str:
    """Name of the series of which there has to be enough."""
    return f"graphmeter:{name}:{_GUARDS.get(name, 'events')}"


def labels_of(limit: Limit) -> dict[str, str]:
    """Labels that an alert has by itself."""
    whose = {OVERRIDE: limit.whose} if limit.whose else {}
    return alert_labels(limit.severity, **{LABEL: limit.text}, **whose)


def groups_by(threshold: Threshold) -> str:
    """`by (graph)`."""
    return f"by ({', '.join(threshold.per)})"


class _Measured(NamedTuple):
    """Expressions of a threshold; the guard's is empty where there is none."""

    value: str
    guard: str = ""


def _rules(config: Config, name: str, threshold: Threshold) -> Iterator[Record | Alert]:
    if threshold.bounds:
        by_text = {limit.text: limit for limit in threshold.limits}
        for limit in by_text.values():
            expr = _MEASURED[name](threshold, limit).value
            yield Record(value_of(name, threshold), expr, {LABEL: limit.text})
    else:
        value, guard = _MEASURED[name](threshold, threshold.limits[-1])
        if guard:
            yield Record(guard_of(name), guard)
        yield Record(value_of(name, threshold), value)
    for limit in threshold.limits:
        yield _alert(config, name, threshold, limit)


def _alert(config: Config, name: str, threshold: Threshold, limit: Limit) -> Alert:
    series = value_of(name, threshold)
    counted = [f"{LABEL}={quoted(limit.text)}"] if threshold.bounds else []

    def of(select: list[str]) -> str:
        return slo_events.selector(series, [*counted, *select])

    mine = slo_events.chosen(limit.select, threshold.per) if limit.select else []
    parts = [f"{of(mine)} {_compared(threshold, limit)}"]
    if threshold.guard:
        parts.append(f"and\n{guard_of(name)} >= {number(threshold.guard)}")
    parts += [f"unless\n{of(slo_events.chosen(others, threshold.per))}" for others in limit.instead_of]
    words = threshold_wording.Words(threshold, limit, {each: label(each) for each in threshold.per})
    return Alert(
        ALERT_OF[name],
        "\n".join(parts),
        labels_of(limit),
        threshold_wording.exceeded(config, ALERT_OF[name], name, words, value=template(name, threshold)),
        round(threshold.for_s or 0),
        round(threshold.for_s or 0),
    )


def of_single_runs(threshold: Threshold) -> bool:
    """Whether it is about the money of one run, which may be less than a cent."""
    return names.RUN_COST in threshold.metrics


def template(name: str, threshold: Threshold) -> str:
    """How the value is told."""
    return {
        "share": wording.PERCENT_VALUE,
        "seconds": wording.DURATION_VALUE,
        "usd": wording.SMALL_USD_VALUE if of_single_runs(threshold) else wording.USD_VALUE,
        "count": wording.COUNT_VALUE,
    }[threshold.unit]


def _compared(threshold: Threshold, limit: Limit) -> str:
    if threshold.unit == "count":
        # `increase` extrapolates: what is counted one by one is compared with what lies between two numbers.
        return f"> {number((0 if threshold.bounds else limit.value) + _HALF)}"
    return f"{'<' if threshold.compares == 'below' else '>'} {number(limit.value)}"


# --- what is measured ------------------------------------------------------------------------------------------------


def _sum(threshold: Threshold, metric: names.Metric, *also: str, suffix: str = "") -> str:
    """What a counter grew by in the window, by what is judged by itself."""
    parts = [*also, *slo_events.chosen(threshold.select, metric.labels)]
    counter = slo_events.selector(metric.name + suffix, parts)
    return f"sum {groups_by(threshold)} (increase({counter}[{duration_text(threshold.window)}]))"


def _among(label_name: str, *values: str) -> str:
    return f"{label_name}=~{quoted('|'.join(values))}"


def _share(name: str, part: str, whole: str) -> _Measured:
    guard = guard_of(name)
    # What never happened may have no series: none, not unknown.
    return _Measured(f"(\n  {part}\nor\n  0 * {guard}\n)\n/\n({guard} > 0)", whole)


def _error_rate(threshold: Threshold, limit: Limit) -> _Measured:
    bad = _sum(threshold, names.RUNS, _among("status", *BAD_STATUSES))
    return _share("error_rate", bad, _judged_runs(threshold))


def _judged_runs(threshold: Threshold) -> str:
    return _sum(threshold, names.RUNS, _among("status", *GOOD_STATUSES, *BAD_STATUSES))


def _node_error_rate(threshold: Threshold, limit: Limit) -> _Measured:
    bad = _sum(threshold, names.NODE_RUNS, _among("status", names.ERROR))
    return _share("node_error_rate", bad, _sum(threshold, names.NODE_RUNS, _among("status", names.OK, names.ERROR)))


def _p95(name: str) -> _Builder:
    def build(threshold: Threshold, limit: Limit) -> _Measured:
        [metric] = threshold.metrics
        bucket = slo_events.selector(f"{metric.name}_bucket", slo_events.chosen(threshold.select, metric.labels))
        by = ", ".join((*threshold.per, "le"))
        quantile = f"histogram_quantile(0.95, sum by ({by}) (rate({bucket}[{duration_text(threshold.window)}])))"
        # Without events a quantile is NaN.
        return _Measured(f"{quantile}\nand\n{guard_of(name)} > 0", _sum(threshold, metric, suffix="_count"))

    return build


def _over(threshold: Threshold, limit: Limit) -> _Measured:
    """Single events above a bound."""
    metric = threshold.metrics[0]
    within = _sum(threshold, metric, slo_events.le(float(limit.value)), suffix="_bucket")
    return _Measured(f"{_sum(threshold, metric, suffix='_count')}\n-\n{within}")


def _run_duration(threshold: Threshold, limit: Limit) -> _Measured:
    ended = _over(threshold, limit).value
    # Every collector reads this gauge from the one database.
    oldest = _oldest(threshold, names.RUN_OLDEST)
    running = f"({oldest} > bool {number(limit.value)})"
    return _Measured(f"(\n{ended}\n)\n+\n(\n{running}\nor\n0 * (\n{ended}\n)\n)\nor\n{running}\nor\n(\n{ended}\n)")


def _oldest(threshold: Threshold, metric: names.Metric) -> str:
    gauge = slo_events.selector(metric.name, slo_events.chosen(threshold.select, metric.labels))
    return f"max {groups_by(threshold)} ({gauge})"


def _counted(threshold: Threshold, limit: Limit) -> _Measured:
    [metric] = threshold.metrics
    lost = [_among("status", names.LOST)] if metric is names.RUNS else []
    return _Measured(_sum(threshold, metric, *lost))


def _cost_per_run(threshold: Threshold, limit: Limit) -> _Measured:
    guard = guard_of("cost_usd_per_run")
    spent = _sum(threshold, names.RUN_COST, suffix="_sum")
    return _Measured(f"{spent}\n/\n({guard} > 0)", _sum(threshold, names.RUN_COST, suffix="_count"))


def _waste(threshold: Threshold, limit: Limit) -> _Measured:
    spent = _sum(threshold, names.COST)
    return _Measured(f"{guard_of('waste')}\n/\n({spent} > 0)", _sum(threshold, names.WASTED_COST))


def _escalations(threshold: Threshold, limit: Limit) -> _Measured:
    kinds = threshold.kind if isinstance(threshold, Escalations) else ("*",)
    told = _sum(threshold, names.OUTCOMES, *([] if "*" in kinds else [slo_events.one_of("kind", kinds)]))
    return _share("escalations", told, _judged_runs(threshold))


def _human_wait(threshold: Threshold, limit: Limit) -> _Measured:
    return _Measured(_oldest(threshold, names.HUMAN_WAIT_OLDEST))


def _cache_hits(threshold: Threshold, limit: Limit) -> _Measured:
    hits, calls = _sum(threshold, names.LLM_CACHE_HITS), _sum(threshold, names.LLM_CALLS)
    # Where no cache is used there are no hits, not even none of them.
    return _Measured(f"{hits}\n/\n({guard_of('cache_hits')} > 0)", f"{hits}\n+\n{calls}")


def _rate_limited(threshold: Threshold, limit: Limit) -> _Measured:
    return _share("rate_limited", _sum(threshold, names.RATE_LIMITED_CALLS), _sum(threshold, names.LLM_CALLS))


_Builder = Callable[[Threshold, Limit], _Measured]
_MEASURED: Final[Mapping[str, _Builder]] = {
    "error_rate": _error_rate,
    "node_error_rate": _node_error_rate,
    "latency_p95": _p95("latency_p95"),
    "node_latency_p95": _p95("node_latency_p95"),
    "run_duration": _run_duration,
    "run_cost_usd": _over,
    "spend_usd_per_hour": _counted,
    "cost_usd_per_run": _cost_per_run,
    "waste": _waste,
    "unpriced_calls": _counted,
    "escalations": _escalations,
    "human_wait": _human_wait,
    "state_size": _over,
    "cache_hits": _cache_hits,
    "rate_limited": _rate_limited,
    "lost_runs": _counted,
}
