"""The measuring itself: what collectors receive, refuse, store, keep on disk, settle, forward and get wrong.

By instance where one collector may be worse off than the others; gauges read from the database are the same on all.
"""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter.names import Metric
from graphmeter_config import Config
from graphmeter_dashboards import links, panels, queries, thresholds
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.panels import BLUE, GREEN, ORANGE, RED, Steps
from graphmeter_dashboards.pieces import MINUTE
from graphmeter_dashboards.queries import RANGE
from graphmeter_dashboards.sdk import Builder, bargauge, dashboard, stat, table, timeseries, units
from graphmeter_dashboards.targets import at_end, buckets, over_time

INSTANCE: Final = ("instance",)
"""The address that Prometheus scrapes: one collector."""
_EACH: Final = "{{instance}}"
_FILLING: Final = 0.8
"""From this share of the room for it on, the alert about a filling spool fires."""
_DAMAGE: Final = 'state=~"dropped|failed"'


def collector(config: Config) -> Json:
    """The dashboard `graphmeter-collector`; what it shows does not depend on `config` so far."""
    del config
    return page(
        links.COLLECTOR,
        "Graphmeter / Collector",
        "Graphmeter's collectors: what they receive, refuse, store, spool, settle and forward, and what went wrong.",
        [
            Section("", _numbers()),
            Section("Receive", _receive()),
            Section("Refuse and repair", _refuse()),
            Section("Store", _store()),
            Section("Spool", _spool()),
            Section("Settle", _settle()),
            Section("Forward", _forward()),
            Section("Tables", _tables()),
            Section("Own errors", _errors()),
            Section("Clients", _clients()),
            Section("Versions", [_versions()]),
        ],
    )


def _numbers() -> list[Builder[dashboard.Panel]]:
    of_database = queries.same_everywhere(names.COLLECTOR_DATABASE_AWAY, INSTANCE)
    return [
        _number(
            "Collectors",
            "That answered Prometheus at the end of the time range.",
            f"count({queries.same_everywhere(names.COLLECTOR_BUILD, INSTANCE)})",
            units.Short,
            empty="none: is the job that scrapes them configured?",
        ),
        _number(
            "Spans per second",
            "In accepted requests, at the speed of the moment.",
            queries.per_second(names.COLLECTOR_RECEIVED, window=queries.STEP),
            units.Short,
        ),
        _number(
            "Refused",
            "Spans rejected within the time range, one by one; requests refused whole are counted below.",
            f"{queries.count(names.COLLECTOR_REJECTED)} or vector(0)",
            units.Short,
            ((None, GREEN), (0.5, ORANGE)),
        ),
        _number(
            "Commit p95",
            "95 % of the transactions within the time range took no longer; senders wait for theirs.",
            queries.quantile(0.95, names.COLLECTOR_COMMIT, window=RANGE),
            units.Seconds,
        ),
        _number(
            "Without a database",
            "Collectors that acknowledge from their disks, now.",
            f"sum({of_database})",
            units.Short,
            thresholds.NONE_IS_GOOD,
        ),
        _number(
            "Dropped by clients",
            "Spans within the time range that applications threw away unsent, or failed to send, as they report it.",
            queries.count(names.CLIENT_SPANS, _DAMAGE),
            units.Short,
            thresholds.NONE_IS_GOOD,
            empty="no client reported",
        ),
    ]


def _receive() -> list[Builder[dashboard.Panel]]:
    return [
        _speed("Spans received", "In accepted requests.", names.COLLECTOR_RECEIVED, INSTANCE, _EACH),
        _speed(
            "Requests",
            "Requests for traces that were acknowledged, by protocol.",
            names.COLLECTOR_REQUESTS,
            ("protocol",),
            "{{protocol}}",
        ),
        _speed(
            "Logs and metrics",
            "Requests for other signals that were acknowledged: passed on, or thrown away where nothing wants them.",
            names.COLLECTOR_PASSED,
            ("signal",),
            "{{signal}}",
        ),
    ]


def _refuse() -> list[Builder[dashboard.Panel]]:
    by, legend = ("reason",), "{{reason}}"
    return [
        _per_minute(
            "Requests refused", "Whole, by reason; senders were told.", names.COLLECTOR_REQUESTS_REFUSED, by, legend
        ),
        _per_minute(
            "Spans rejected", "One by one, by reason; senders were told.", names.COLLECTOR_REJECTED, by, legend
        ),
        _per_minute(
            "Values repaired",
            "Of accepted spans: cut, clamped or replaced, by reason.",
            names.COLLECTOR_REPAIRED,
            by,
            legend,
        ),
    ]


def _store() -> list[Builder[dashboard.Panel]]:
    latency = [(percent, queries.quantile(percent / 100, names.COLLECTOR_COMMIT)) for percent in (50, 95, 99)]
    kinds = (("stored", names.COLLECTOR_STORED), ("duplicate", names.COLLECTOR_DUPLICATE))
    return [
        panels.lines(
            "Commit latency",
            "Half, 95 % and 99 % of the store's transactions took no longer.",
            [over_time(expr, f"p{percent}") for percent, expr in latency],
            unit=units.Seconds,
            size=(8, 9),
        ),
        panels.distribution(
            "Durations of transactions",
            "Transactions by how long they took.",
            buckets(queries.buckets(names.COLLECTOR_COMMIT)),
            unit=units.Seconds,
            size=(8, 9),
        ),
        _gauge("Queue", "Spans that wait for a transaction.", names.COLLECTOR_QUEUE, units.Short),
        panels.lines(
            "Spans stored",
            "Per second. Duplicates were stored before and change nothing: senders that were not answered send again.",
            [over_time(queries.per_second(metric), said) for said, metric in kinds],
            unit=units.Short,
            size=(12, 8),
            stacked=True,
        ),
        _gauge(
            "Database away",
            "1 while a collector acknowledges from its disk instead of the database.",
            names.COLLECTOR_DATABASE_AWAY,
            units.Short,
            size=(12, 8),
            limits=((None, GREEN), (0.5, RED)),
        ),
    ]


def _spool() -> list[Builder[dashboard.Panel]]:
    used, limit = (
        queries.same_everywhere(metric, INSTANCE)
        for metric in (names.COLLECTOR_SPOOL_BYTES, names.COLLECTOR_SPOOL_LIMIT)
    )
    moved = (("to disk", names.COLLECTOR_SPOOLED), ("to the database", names.COLLECTOR_REPLAYED))
    return [
        panels.lines(
            "Spool used",
            "Share of the room on disk that waits for the database. Full, requests are refused and senders keep them.",
            [over_time(f"{used} / ({limit} > 0)", _EACH)],
            unit=units.PercentUnit,
            size=(6, 9),
            limits=((None, GREEN), (_FILLING, RED)),
        ),
        _gauge("Spool", "What waits on disk.", names.COLLECTOR_SPOOL_BYTES, units.BytesIEC, size=(6, 9)),
        _gauge(
            "Oldest on disk",
            "How long the oldest of it has waited; 0: nothing waits.",
            names.COLLECTOR_SPOOL_OLDEST,
            units.Seconds,
            size=(6, 9),
        ),
        panels.lines(
            "Spans spooled and replayed",
            "Per second: acknowledged from disk, and brought from there to the database.",
            [over_time(queries.per_second(metric), said) for said, metric in moved],
            unit=units.Short,
            size=(6, 9),
        ),
    ]


def _settle() -> list[Builder[dashboard.Panel]]:
    return [
        _speed(
            "Spans settled",
            "Foreign spans counted after they were stored: by their ancestors, or without those after a timeout.",
            names.COLLECTOR_SETTLED,
            ("by",),
            "{{by}}",
        ),
        _shared(
            "Waiting for ancestors", "Foreign spans in no sum yet.", names.COLLECTOR_UNSETTLED, (), "spans", units.Short
        ),
        _shared(
            "Longest wait for ancestors",
            "Of foreign spans. It should stay near `runs.settle_after`.",
            names.COLLECTOR_UNSETTLED_AGE,
            (),
            "oldest",
            units.Seconds,
        ),
    ]


def _forward() -> list[Builder[dashboard.Panel]]:
    by, legend = ("destination",), "{{destination}}"
    return [
        _speed("Spans forwarded", "To each destination.", names.COLLECTOR_FORWARDED, by, legend),
        _per_minute(
            "Forward failures",
            "Requests that a destination did not take; they are tried again.",
            names.COLLECTOR_FORWARD_FAILED,
            by,
            legend,
        ),
        _per_minute(
            "Spans not forwarded",
            "A destination refused them for good, or was away for too long.",
            names.COLLECTOR_FORWARD_DROPPED,
            (*by, "reason"),
            "{{destination}} {{reason}}",
        ),
        _shared(
            "Outbox", "Committed spans not yet forwarded.", names.COLLECTOR_OUTBOX, by, legend, units.Short, size=(6, 9)
        ),
        _shared(
            "Oldest in the outbox",
            "How far a destination lags behind.",
            names.COLLECTOR_OUTBOX_AGE,
            by,
            legend,
            units.Seconds,
            size=(6, 9),
        ),
        _per_minute(
            "Traces judged",
            "By sampling, by rule and reason; `sampled_out` are not forwarded, all others are.",
            names.COLLECTOR_TRACE_DECISIONS,
            ("rule", "reason"),
            "{{rule}} {{reason}}",
            size=(6, 9),
        ),
        _speed(
            "Spans sampled out",
            "Not forwarded, for their traces are sampled out.",
            names.COLLECTOR_SAMPLED_OUT,
            INSTANCE,
            _EACH,
            size=(6, 9),
        ),
    ]


def _tables() -> list[Builder[dashboard.Panel]]:
    by = ("table",)
    return [
        _shared(
            "Size of tables",
            "Bytes in the database, indexes included.",
            names.COLLECTOR_TABLE_BYTES,
            by,
            "{{table}}",
            units.BytesIEC,
            size=(12, 9),
            stacked=True,
        ),
        panels.bars(
            "Bytes per run",
            "What each table takes for one ended run of which it still holds something.",
            at_end(queries.top(queries.same_everywhere(names.COLLECTOR_BYTES_PER_RUN, by)), "{{table}}"),
            unit=units.BytesIEC,
            size=(12, 9),
            empty="no ended runs",
        ),
    ]


def _errors() -> list[Builder[dashboard.Panel]]:
    return [
        _most(
            "Failed jobs",
            "Runs of a background job that failed within the time range: the log says why.",
            names.COLLECTOR_JOB_FAILURES,
            ("job",),
            "{{job}}",
        ),
        _most(
            "Labels that are full",
            "Events within the time range that are counted under `other`: raise `labels.caps`, or name fewer things.",
            names.COLLECTOR_LABEL_OVERFLOW,
            ("label",),
            "{{label}}",
        ),
        _most(
            "Damaged on disk",
            "Bytes of the spool within the time range that were no intact request, by reason.",
            names.COLLECTOR_SPOOL_DAMAGED,
            ("reason",),
            "{{reason}}",
            units.BytesIEC,
        ),
        _most(
            "Notifications that failed",
            "Attempts within the time range to tell a receiver something.",
            names.COLLECTOR_NOTIFICATIONS,
            ("receiver", "result"),
            "{{receiver}} {{result}}",
            matcher=f'result!="{names.NOTIFIED}"',
        ),
    ]


def _clients() -> list[Builder[dashboard.Panel]]:
    by, legend = ("service", "environment"), "{{service}} {{environment}}"
    lost = queries.count(names.CLIENT_SPANS, _DAMAGE, by=by)
    return [
        panels.lines(
            "Spans that clients drop",
            "Per minute: thrown away unsent because the queue was full (dropped), or refused and given up (failed).",
            [
                over_time(
                    queries.per_second(names.CLIENT_SPANS, _DAMAGE, by=(*by, "state"), times=MINUTE),
                    f"{legend} {{{{state}}}}",
                )
            ],
            unit=units.Short,
            size=(8, 9),
            stacked=True,
        ),
        panels.bars(
            "Share lost by clients",
            "Of the spans that each service had to send within the time range.",
            at_end(queries.share(lost, queries.count(names.CLIENT_SPANS, by=by)), legend),
            unit=units.PercentUnit,
            size=(8, 9),
            colors=((None, GREEN), (1e-9, RED)),
            full=1,
            empty="no client reported",
        ),
        _speed(
            "Spans that clients sent",
            "As they report it, by service.",
            names.CLIENT_SPANS,
            by,
            legend,
            matcher='state="exported"',
        ),
    ]


def _versions() -> table.Panel:
    labels = (*INSTANCE, "version", "hash", "rules")
    info = queries.same_everywhere(names.COLLECTOR_BUILD, (*INSTANCE, "version"))
    config, rules = (
        queries.same_everywhere(metric, (*INSTANCE, "hash"))
        for metric in (names.COLLECTOR_CONFIG, names.COLLECTOR_RULES)
    )
    part = f'label_replace({rules}, "rules", "$1", "hash", "(.*)")'
    return panels.grid(
        "What runs",
        "Version and configuration of every collector: two hashes for longer than a deployment are a forgotten restart. "
        "The last column is that of the part which rules are made from.",
        [
            at_end(
                f"{info} * on (instance) group_left (hash) {config} * on (instance) group_left (rules) {part}",
                as_table=True,
            )
        ],
        unit=units.NoUnit,
        size=(24, 7),
        columns=dict(zip(labels, _HEADINGS, strict=True)),
        sort_by="Collector",
    )


_HEADINGS: Final = ("Collector", "Version", "Configuration", "Of rules")


def _number(
    title: str, description: str, expr: str, unit: str, colors: Steps = ((None, BLUE),), *, empty: str = "–"
) -> stat.Panel:
    return panels.number(title, description, at_end(expr), unit=unit, size=(4, 4), colors=colors, empty=empty)


def _speed(
    title: str,
    description: str,
    metric: Metric,
    by: tuple[str, ...],
    legend: str,
    *,
    matcher: str = "",
    size: tuple[int, int] = (8, 9),
) -> timeseries.Panel:
    expr = queries.per_second(metric, *filter(None, [matcher]), by=by)
    targets = [over_time(expr, legend)]
    return panels.lines(title, f"{description} Per second.", targets, unit=units.Short, size=size, stacked=True)


def _per_minute(
    title: str, description: str, metric: Metric, by: tuple[str, ...], legend: str, *, size: tuple[int, int] = (8, 9)
) -> timeseries.Panel:
    targets = [over_time(queries.per_second(metric, by=by, times=MINUTE), legend)]
    return panels.lines(title, f"{description} Per minute.", targets, unit=units.Short, size=size, stacked=True)


def _gauge(
    title: str,
    description: str,
    metric: Metric,
    unit: str,
    *,
    size: tuple[int, int] = (8, 9),
    limits: Steps = (),
) -> timeseries.Panel:
    """A gauge that each collector has its own of."""
    targets = [over_time(queries.same_everywhere(metric, INSTANCE), _EACH)]
    return panels.lines(title, description, targets, unit=unit, size=size, limits=limits)


def _shared(
    title: str,
    description: str,
    metric: Metric,
    by: tuple[str, ...],
    legend: str,
    unit: str,
    *,
    size: tuple[int, int] = (8, 9),
    stacked: bool = False,
) -> timeseries.Panel:
    """A gauge that all collectors read from the one database."""
    expr = queries.same_everywhere(metric, by) if by else f"max({queries.select(metric)})"
    return panels.lines(title, description, [over_time(expr, legend)], unit=unit, size=size, stacked=stacked)


def _most(
    title: str,
    description: str,
    metric: Metric,
    by: tuple[str, ...],
    legend: str,
    unit: str = units.Short,
    *,
    matcher: str = "",
) -> bargauge.Panel:
    expr = queries.top(queries.count(metric, *filter(None, [matcher]), by=by))
    return panels.bars(
        title,
        description,
        at_end(expr, legend),
        unit=unit,
        size=(6, 8),
        colors=((None, ORANGE),),
        empty="none",
    )
