"""The first page: how many runs, how many failed, how slow, how dear, and which node or model it is.

Stats on top answer for the whole time range; below, what is promised (SLOs and budgets), then where time, errors and
money go, then the runs that failed with a link to their traces.
"""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter_config import Config
from graphmeter_dashboards import links, panels, queries
from graphmeter_dashboards.datasources import POSTGRES
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.panels import GREEN, ORANGE, RED, Steps
from graphmeter_dashboards.queries import NODE, RANGE
from graphmeter_dashboards.sdk import Builder, dashboard, table, units
from graphmeter_dashboards.targets import at_end, over_time, sql

UID: Final = "graphmeter-overview"

_NODE_LEGEND: Final = "{{graph}} / {{node}}"
_HOUR: Final = 3600
_MINUTE: Final = 60

_SEND_DATA: Final = """\
Attach Graphmeter to a compiled graph, in the process that runs it:

```python
from graphmeter import meter

graph = meter(builder.compile(), name="support", team="cx")
```

Runs go to `http://localhost:4318`; set `GRAPHMETER_ENDPOINT` for a collector elsewhere, and
`OTEL_RESOURCE_ATTRIBUTES=graphmeter.team=cx` to name the team of a whole service without touching code.
`graphmeter doctor` sends one run and reads it back. No application at hand? `graphmeter demo` runs example graphs.
A run is on this page within a minute of its end.
"""


def overview(config: Config) -> Json:
    """The dashboard `graphmeter-overview`; thresholds are drawn from the SLOs and budgets of `config`."""
    return page(
        UID,
        "Graphmeter / Overview",
        "Runs, errors, latency and spend of LangGraph applications, with what is left of budgets and error budgets.",
        [
            Section("", _numbers(config)),
            Section("Service levels and budgets", _promises(config)),
            Section("Latency and errors", _nodes()),
            Section("Money and tokens", _spend()),
            Section("Runs and traces", _runs()),
            Section("Send data", [panels.prose("How to send data", _SEND_DATA, size=(24, 9))]),
        ],
    )


def _error_colors(config: Config) -> Steps:
    """Orange beyond the strictest SLO's error budget, red beyond the most lenient one's."""
    allowed = sorted(float(slo.error_budget) for slo in config.slos)
    if not allowed:
        return ((None, GREEN),)
    if allowed[0] == allowed[-1]:
        return ((None, GREEN), (allowed[0], RED))
    return ((None, GREEN), (allowed[0], ORANGE), (allowed[-1], RED))


def _budget_colors(config: Config) -> Steps:
    """Orange from the lowest threshold of any budget on, red at the limit."""
    warn = min((float(share) for budget in config.budgets for share in budget.thresholds), default=1.0)
    return ((None, GREEN), *([(warn, ORANGE)] if warn < 1 else []), (1.0, RED))


def _numbers(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (4, 4)
    lost = queries.count(names.RUNS, f'status="{names.LOST}"')
    return [
        panels.number(
            "Runs",
            "Graph runs that ended within the time range, whatever their status.",
            at_end(queries.count(names.RUNS)),
            unit=units.Short,
            size=size,
            decimals=0,
            empty="no runs yet: see “Send data” below",
        ),
        panels.number(
            "Error ratio",
            "Share of runs that failed or were lost; interrupted and cancelled runs are left out. "
            "Colours: the error budgets of the SLOs.",
            at_end(queries.error_ratio()),
            unit=units.PercentUnit,
            size=size,
            decimals=2,
            colors=_error_colors(config),
        ),
        panels.number(
            "Run p95",
            "95 % of the runs that ended within the time range took no longer.",
            at_end(queries.quantile(0.95, names.RUN_DURATION, window=RANGE)),
            unit=units.Seconds,
            size=size,
        ),
        panels.number(
            "Spend",
            "Cost of model calls within the time range, as Prometheus saw it. The ledger in the database is the authority.",
            at_end(queries.count(names.COST)),
            unit=units.Dollars,
            size=size,
        ),
        panels.number(
            "Runs in progress",
            "Runs started and neither ended nor lost, now.",
            at_end(queries.runs_in_progress()),
            unit=units.Short,
            size=size,
            decimals=0,
        ),
        panels.number(
            "Lost runs",
            "Runs that started and never reported an end: their process died, was killed, or lost its network.",
            at_end(lost),
            unit=units.Short,
            size=size,
            decimals=0,
            colors=((None, GREEN), (0.5, RED)),
        ),
    ]


def _promises(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (8, 8)
    return [
        panels.bars(
            "Error budget left",
            "Share of each SLO's error budget that its window still has; below zero the promise is broken.",
            at_end(queries.error_budget_left(), "{{slo}} {{graph}}"),
            unit=units.PercentUnit,
            size=size,
            colors=((None, RED), (0.0, ORANGE), (0.25, GREEN)),
            bounds=(0, 1),
            empty="no SLO with judged runs",
        ),
        panels.lines(
            "Error budget burn rate",
            "How fast the error budget is being spent, over the last hour: at 1 it lasts exactly the SLO's window.",
            [over_time(queries.burn_rate(), "{{slo}} {{graph}}")],
            unit=units.Short,
            size=size,
        ),
        panels.bars(
            "Budget used",
            "Spend of the current period as a share of the budget's limit, from the ledger.",
            at_end(queries.budget_used(), "{{budget}} {{team}} {{scope}}"),
            unit=units.PercentUnit,
            size=size,
            colors=_budget_colors(config),
            bounds=(0, 1),
            empty="no budget with spend",
        ),
    ]


def _nodes() -> list[Builder[dashboard.Panel]]:
    summary = panels.grid(
        "Nodes",
        "Executions, failures, latency and spend of every node within the time range.",
        [
            at_end(queries.count(names.NODE_RUNS, by=NODE), as_table=True),
            at_end(queries.count(names.NODE_RUNS, f'status="{names.ERROR}"', by=NODE), as_table=True),
            at_end(queries.quantile(0.95, names.NODE_DURATION, NODE, RANGE), as_table=True),
            at_end(queries.count(names.COST, by=NODE), as_table=True),
        ],
        unit=units.Short,
        size=(24, 9),
        columns={
            "graph": "Graph",
            "node": "Node",
            "Value #A": "Runs",
            "Value #B": "Errors",
            "Value #C": "p95",
            "Value #D": "Spend",
        },
        sort_by="Spend",
    )
    summary = panels.column(summary, "Runs", decimals=0)
    summary = panels.column(summary, "Errors", decimals=0)
    summary = panels.column(summary, "p95", unit=units.Seconds)
    summary = panels.column(summary, "Spend", unit=units.Dollars)
    return [
        panels.lines(
            "Node latency, p95",
            "95 % of the attempts of a node took no longer. The dots are single traces: click one to open it in Jaeger.",
            [over_time(queries.quantile(0.95, names.NODE_DURATION, NODE), _NODE_LEGEND, exemplars=True)],
            unit=units.Seconds,
            size=(12, 9),
        ),
        panels.lines(
            "Node errors per minute",
            "Failed executions by node; a failed attempt that was retried with success is not counted.",
            [
                over_time(
                    queries.per_second(names.NODE_RUNS, f'status="{names.ERROR}"', by=NODE, times=_MINUTE), _NODE_LEGEND
                )
            ],
            unit=units.Short,
            size=(12, 9),
            stacked=True,
        ),
        summary,
    ]


def _spend() -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    return [
        panels.lines(
            "Spend per node",
            "USD per hour at the speed of the moment. Calls outside nodes stand under `unattributed`.",
            [over_time(queries.per_second(names.COST, by=NODE, times=_HOUR), _NODE_LEGEND)],
            unit=units.Dollars,
            size=size,
            stacked=True,
        ),
        panels.lines(
            "Spend per model",
            "USD per hour at the speed of the moment.",
            [
                over_time(
                    queries.per_second(names.COST, by=("provider", "model"), times=_HOUR), "{{provider}} {{model}}"
                )
            ],
            unit=units.Dollars,
            size=size,
            stacked=True,
        ),
        panels.lines(
            "Tokens by type",
            "Tokens per minute; the types do not overlap, so their sum is what was used.",
            [over_time(queries.per_second(names.TOKENS, by=("type",), times=_MINUTE), "{{type}}")],
            unit=units.Short,
            size=size,
            stacked=True,
        ),
    ]


def _runs() -> list[Builder[dashboard.Panel]]:
    return [
        panels.lines(
            "Runs per minute",
            "Ended runs by status.",
            [over_time(queries.per_second(names.RUNS, by=("status",), times=_MINUTE), "{{status}}")],
            unit=units.Short,
            size=(8, 9),
            stacked=True,
        ),
        _failed_runs(),
    ]


def _failed_runs() -> table.Panel:
    panel = panels.grid(
        "Latest failed runs",
        "Runs that failed or were lost, newest first, from the database. Click a trace to open it in Jaeger.",
        [sql(queries.latest_failed_runs())],
        unit=units.NoUnit,
        size=(16, 9),
    ).datasource(POSTGRES)
    panel = panels.column(panel, "duration", unit=units.Seconds)
    panel = panels.column(panel, "cost", unit=units.Dollars)
    link = {"title": "Open trace in Jaeger", "url": links.trace(), "targetBlank": True}
    return panels.column(panel, "trace", links=[link])
