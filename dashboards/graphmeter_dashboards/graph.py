"""One graph, or all of them, node by node: how it flows, where time goes, what fails, what is retried, who is waited for.

Every latency and error leads to a trace: by exemplars where it is drawn, by the trace id where it is listed.
"""

from __future__ import annotations

from graphmeter import names
from graphmeter_config import Config
from graphmeter_dashboards import database, links, panels, pieces, queries, thresholds
from graphmeter_dashboards.anomalies import unusual
from graphmeter_dashboards.datasources import POSTGRES
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.panels import BLUE, GREEN, RED
from graphmeter_dashboards.pieces import MINUTE, NODE_LEGEND
from graphmeter_dashboards.queries import NODE, RANGE
from graphmeter_dashboards.sdk import Builder, bargauge, dashboard, nodegraph, table, timeseries, units
from graphmeter_dashboards.targets import at_end, buckets, over_time, sql


def graph(config: Config) -> Json:
    """The dashboard `graphmeter-graph`; colours of errors are drawn from the SLOs of `config`."""
    return page(
        links.GRAPH,
        "Graphmeter / Graph",
        "Nodes of LangGraph graphs: flow, latency, errors, throughput, cost, retries, interrupts and humans waited for.",
        [
            Section("", _numbers(config)),
            Section("Flow", _flow()),
            Section("Latency", _latency(config)),
            Section("Errors and throughput", _errors()),
            *([Section("Unusual", strange)] if (strange := unusual(config)) else []),
            Section("Retries and tools", _retries()),
            Section("Humans", _humans()),
            Section("Runs", [pieces.runs_per_minute((8, 9)), pieces.failed_runs((16, 9))]),
        ],
    )


def _numbers(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (4, 4)
    return [
        panels.number(
            "Executions",
            "Nodes that ran within the time range; tried again, they count once.",
            at_end(queries.count(names.NODE_RUNS)),
            unit=units.Short,
            size=size,
            decimals=0,
        ),
        panels.number(
            "Error ratio of nodes",
            "Share of executions whose last attempt failed; interrupted and cancelled ones are left out. "
            "Colours: the error budgets of SLOs of nodes.",
            at_end(queries.error_ratio(names.NODE_RUNS)),
            unit=units.PercentUnit,
            size=size,
            decimals=2,
            colors=thresholds.errors(config, "nodes"),
        ),
        pieces.attempt_p95(config, "Node p95", size),
        panels.number(
            "Retries",
            "Attempts within the time range that were followed by another one.",
            at_end(queries.retries()),
            unit=units.Short,
            size=size,
            decimals=0,
        ),
        panels.number(
            "Interrupts",
            "Node attempts within the time range that ended by asking somebody.",
            at_end(queries.count(names.INTERRUPTS)),
            unit=units.Short,
            size=size,
            decimals=0,
            empty="none",
        ),
        panels.number(
            "Waiting for a human",
            "Interrupted runs that nobody has answered, now; for 30 days at most.",
            at_end(queries.runs_waiting()),
            unit=units.Short,
            size=size,
            decimals=0,
            empty="none",
        ),
    ]


def _flow() -> list[Builder[dashboard.Panel]]:
    spent = queries.count(names.NODE_DURATION, by=NODE, suffix="_sum")
    return [
        _topology(),
        _greatest(
            "Slowest nodes",
            "95 % of the attempts within the time range took no longer; the ten slowest.",
            queries.quantile(0.95, names.NODE_DURATION, NODE, RANGE),
            units.Seconds,
        ),
        _greatest(
            "Where time goes",
            "Seconds that all attempts within the time range took together; parallel ones add up.",
            spent,
            units.Seconds,
        ),
        _greatest(
            "Most expensive nodes",
            "Spend of their model calls within the time range; the ten dearest.",
            queries.count(names.COST, by=NODE),
            units.Dollars,
        ),
    ]


def _topology() -> nodegraph.Panel:
    panel = panels.flow(
        "Flow",
        "Nodes and edges as the graph was drawn when it last changed, from the database: attempts and mean duration in the "
        "whole hours of the time range, the ring red for the share that failed, blue where nothing ran. Dashed edges are "
        "conditional, dotted ones lead into a subgraph.",
        sql(database.flow_nodes()),
        sql(database.flow_edges()),
        stats=(units.Short, units.Seconds),
        arcs={"arc__done": GREEN, "arc__failed": RED, "arc__idle": BLUE},
        size=(24, 15),
    ).datasource(POSTGRES)
    shown = {
        "mainstat": "attempts",
        "secondarystat": "mean duration",
        "arc__done": "done",
        "arc__failed": "failed",
        "arc__idle": "did not run",
        "detail__failed": "failed",
        "detail__retries": "retries",
    }
    for field, name in shown.items():
        panel = panels.column(panel, field, displayName=name)
    panel = panels.column(panel, "detail__cost", displayName="spend", unit=units.Dollars)
    only = {"title": "This node", "url": links.to(links.NODE, graph=links.field("subtitle"), node=links.VALUE)}
    return panels.column(panel, "title", links=[only])


def _greatest(title: str, description: str, expr: str, unit: str) -> bargauge.Panel:
    # A quantile of nothing is NaN, which no comparison lets through.
    return panels.bars(title, description, at_end(queries.top(expr), NODE_LEGEND), unit=unit, size=(8, 9))


def _latency(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    runs = [(percent, queries.quantile(percent / 100, names.RUN_DURATION)) for percent in (50, 95, 99)]
    return [
        *(
            pieces.node_latency(percent, size, thresholds.slow(config, "nodes") if percent == 95 else ())
            for percent in (50, 95, 99)
        ),
        panels.distribution(
            "Durations of node attempts",
            "Attempts by how long they took. The dots are single traces: click one to open it in Jaeger.",
            buckets(queries.buckets(names.NODE_DURATION)),
            unit=units.Seconds,
            size=(12, 9),
        ),
        panels.lines(
            "Latency of runs",
            "Half, 95 % and 99 % of the runs that ended took no longer; humans that were waited for are not in it.",
            [over_time(expr, f"p{percent}", exemplars=percent == 99) for percent, expr in runs],
            unit=units.Seconds,
            size=(12, 9),
            limits=thresholds.slow(config, "runs"),
        ),
    ]


def _errors() -> list[Builder[dashboard.Panel]]:
    by_type = queries.per_second(names.ERRORS, by=("node", "error_type"), times=MINUTE)
    return [
        _speed(
            "Executions per minute",
            "How often each node ran; tried again, it counts once.",
            queries.per_second(names.NODE_RUNS, by=NODE, times=MINUTE),
            NODE_LEGEND,
        ),
        pieces.node_errors((8, 9)),
        _speed(
            "Errors by type",
            "Failed spans per minute: runs, attempts of nodes, calls of models and tools. The dots are single traces.",
            by_type,
            "{{error_type}} in {{node}}",
        ),
        pieces.nodes((24, 9)),
    ]


def _speed(title: str, description: str, expr: str, legend: str) -> timeseries.Panel:
    targets = [over_time(expr, legend, exemplars=True)]
    return panels.lines(title, description, targets, unit=units.Short, size=(8, 9), stacked=True)


def _retries() -> list[Builder[dashboard.Panel]]:
    tools = ("tool", "status")
    return [
        _speed(
            "Retries per minute",
            "Attempts that were followed by another one. What they cost stands on Spend.",
            queries.retries(by=NODE, per_s=MINUTE),
            NODE_LEGEND,
        ),
        _speed(
            "Attempts by status",
            "Attempts of nodes per minute, retries included.",
            queries.per_second(names.NODE_ATTEMPTS, by=("status",), times=MINUTE),
            "{{status}}",
        ),
        _speed(
            "Tool calls per minute",
            "Calls of tools by status.",
            queries.per_second(names.TOOL_CALLS, by=tools, times=MINUTE),
            "{{tool}} {{status}}",
        ),
    ]


def _humans() -> list[Builder[dashboard.Panel]]:
    waits = [(percent, queries.quantile(percent / 100, names.HUMAN_WAIT, window=RANGE)) for percent in (50, 95)]
    return [
        _speed(
            "Interrupts per minute",
            "Attempts of nodes that ended by asking somebody.",
            queries.per_second(names.INTERRUPTS, by=NODE, times=MINUTE),
            NODE_LEGEND,
        ),
        panels.lines(
            "Runs waiting",
            "Interrupted runs that nobody has answered, by graph.",
            [over_time(queries.runs_waiting(by=("graph",)), "{{graph}}")],
            unit=units.Short,
            size=(8, 9),
            stacked=True,
        ),
        panels.lines(
            "How long humans take",
            "Half and 95 % of the answers within a time range as long as the page's came no later.",
            [over_time(expr, f"p{percent}") for percent, expr in waits],
            unit=units.Seconds,
            size=(8, 9),
        ),
        _waiting(),
    ]


def _waiting() -> table.Panel:
    panel = pieces.runs(
        "Waiting longest",
        "Interrupted runs that nobody has answered, from the database. Click a trace to see in Jaeger what was asked where.",
        database.waiting_runs(),
        (24, 8),
    )
    return panels.column(panel, "waiting", unit=units.Seconds)
