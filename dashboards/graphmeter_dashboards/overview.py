"""The first page: how many runs, how many failed, how slow, how dear, and which node or model it is.

Stats on top answer for the whole time range; below, what is promised (SLOs and budgets), then where time, errors and
money go, then the runs that failed with a link to their traces.
"""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter_config import Config
from graphmeter_dashboards import links, panels, pieces, queries, thresholds
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.pieces import MINUTE
from graphmeter_dashboards.sdk import Builder, dashboard, units
from graphmeter_dashboards.targets import at_end, over_time

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
        links.OVERVIEW,
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
        pieces.error_ratio(config, size),
        pieces.run_p95(config, size),
        panels.linked(pieces.spend(size), "Where it goes", links.to(links.SPEND)),
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
            colors=thresholds.NONE_IS_GOOD,
        ),
    ]


def _promises(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (8, 8)
    return [
        pieces.error_budgets_left(size),
        panels.linked(
            panels.lines(
                "Error budget burn rate",
                "How fast the error budget is being spent, over the last hour: at 1 it lasts exactly the SLO's window.",
                [over_time(queries.burn_rate(), "{{slo}} {{graph}}")],
                unit=units.Short,
                size=size,
            ),
            "Other windows, history, alerts",
            links.to(links.SLOS),
        ),
        pieces.budgets_used(config, size),
    ]


def _nodes() -> list[Builder[dashboard.Panel]]:
    return [pieces.node_latency(95, (12, 9)), pieces.node_errors((12, 9)), pieces.nodes((24, 9))]


def _spend() -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    return [
        pieces.spend_per_node(size),
        panels.linked(pieces.spend_per_model(size), "These models", links.to(links.MODELS)),
        panels.lines(
            "Tokens by type",
            "Tokens per minute; the types do not overlap, so their sum is what was used.",
            [over_time(queries.per_second(names.TOKENS, by=("type",), times=MINUTE), "{{type}}")],
            unit=units.Short,
            size=size,
            stacked=True,
        ),
    ]


def _runs() -> list[Builder[dashboard.Panel]]:
    return [
        pieces.runs_per_minute((8, 9)),
        pieces.failed_runs((16, 9)),
    ]
