"""One node, or all that are chosen: its attempts, why they fail, how long they take, what it asks models, what that costs.

Where Graph compares nodes, this page explains one: every panel is divided by what is inside a node.
"""

from __future__ import annotations

from graphmeter import names
from graphmeter_config import Config
from graphmeter_dashboards import database, links, panels, pieces, queries, thresholds
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.pieces import MINUTE, MODEL_LEGEND, NODE_LEGEND
from graphmeter_dashboards.queries import MODEL, NODE, RANGE, STEP
from graphmeter_dashboards.sdk import Builder, dashboard, timeseries, units
from graphmeter_dashboards.targets import at_end, buckets, over_time


def node(config: Config) -> Json:
    """The dashboard `graphmeter-node`; colours and limits are drawn from the SLOs of nodes and models in `config`."""
    return page(
        links.NODE,
        "Graphmeter / Node",
        "One node of a LangGraph graph: attempts, errors by type, latency, tokens, cost per call.",
        [
            Section("", _numbers(config)),
            Section("Attempts", _attempts()),
            Section("Errors", _errors()),
            Section("Latency", _latency(config)),
            Section("Models and tokens", _models(config)),
            Section("Cost", _cost()),
            Section("Tools and nodes", [_tools(), pieces.nodes((16, 9))]),
        ],
    )


def _numbers(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (4, 4)
    return [
        panels.number(
            "Attempts",
            "Of the chosen nodes within the time range, retries included.",
            at_end(queries.count(names.NODE_ATTEMPTS)),
            unit=units.Short,
            size=size,
            decimals=0,
        ),
        panels.number(
            "Error ratio of attempts",
            "Share of attempts that failed, those that were tried again included. "
            "Colours: the error budgets of SLOs of nodes.",
            at_end(queries.error_ratio(names.NODE_ATTEMPTS)),
            unit=units.PercentUnit,
            size=size,
            decimals=2,
            colors=thresholds.errors(config, "nodes"),
        ),
        pieces.attempt_p95(config, "Attempt p95", size),
        panels.number(
            "Tokens",
            "Of all kinds, of the node's model calls within the time range.",
            at_end(queries.count(names.TOKENS)),
            unit=units.Short,
            size=size,
            decimals=0,
            empty="no model call",
        ),
        panels.linked(pieces.spend(size), "Where it goes", links.to(links.SPEND)),
        panels.number(
            "Cost per call",
            "Spend divided by model calls, both of the time range; calls of models without a price cost nothing here.",
            at_end(queries.cost_per_call(window=RANGE)),
            unit=units.Dollars,
            size=size,
            decimals=5,
            empty="no model call",
        ),
    ]


def _attempts() -> list[Builder[dashboard.Panel]]:
    return [
        _speed(
            "Attempts per minute",
            "By how they ended.",
            queries.per_second(names.NODE_ATTEMPTS, by=(*NODE, "status"), times=MINUTE),
            f"{NODE_LEGEND} {{{{status}}}}",
        ),
        _speed(
            "Executions per minute",
            "By how their last attempt ended; the dots are single traces.",
            queries.per_second(names.NODE_RUNS, by=(*NODE, "status"), times=MINUTE),
            f"{NODE_LEGEND} {{{{status}}}}",
        ),
        _speed(
            "Retries per minute",
            "Attempts that were followed by another one.",
            queries.retries(by=NODE, per_s=MINUTE),
            NODE_LEGEND,
        ),
    ]


def _errors() -> list[Builder[dashboard.Panel]]:
    by_type = ("error_type",)
    return [
        panels.bars(
            "Errors by type",
            "Failed spans within the time range: attempts of the node, and calls of models and tools inside it.",
            at_end(queries.top(queries.count(names.ERRORS, by=by_type)), "{{error_type}}"),
            unit=units.Short,
            size=(8, 9),
            empty="no errors",
        ),
        _speed(
            "Errors by type over time",
            "The same per minute. The dots are single traces: click one to open it in Jaeger.",
            queries.per_second(names.ERRORS, by=by_type, times=MINUTE),
            "{{error_type}}",
        ),
        panels.lines(
            "Error ratio of attempts over time",
            "Share of the attempts that failed, those that were tried again included.",
            [over_time(queries.error_ratio(names.NODE_ATTEMPTS, NODE, STEP), NODE_LEGEND)],
            unit=units.PercentUnit,
            size=(8, 9),
        ),
        pieces.runs(
            "Latest runs in which it failed",
            "Runs in which an attempt of one of the chosen nodes failed, newest first, from the database. Click a trace to "
            "open it in Jaeger.",
            database.latest_runs_failing_in_node(),
            (24, 9),
        ),
    ]


def _latency(config: Config) -> list[Builder[dashboard.Panel]]:
    percentiles = [(percent, queries.quantile(percent / 100, names.NODE_DURATION, NODE)) for percent in (50, 95, 99)]
    return [
        panels.lines(
            "Latency of attempts",
            "Half, 95 % and 99 % of the attempts took no longer. The dots are single traces: click one to open it in "
            "Jaeger. Dashed: the thresholds of SLOs of nodes.",
            [over_time(expr, f"{NODE_LEGEND} p{percent}", exemplars=percent == 99) for percent, expr in percentiles],
            unit=units.Seconds,
            size=(12, 9),
            limits=thresholds.slow(config, "nodes"),
        ),
        panels.distribution(
            "Durations of attempts",
            "Attempts by how long they took. The dots are single traces: click one to open it in Jaeger.",
            buckets(queries.buckets(names.NODE_DURATION)),
            unit=units.Seconds,
            size=(12, 9),
        ),
    ]


def _models(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    return [
        _speed(
            "Model calls per minute",
            "By model and how they ended.",
            queries.per_second(names.LLM_CALLS, by=(*MODEL, "status"), times=MINUTE),
            f"{MODEL_LEGEND} {{{{status}}}}",
        ),
        panels.lines(
            "Model latency, p95",
            "95 % of the calls from here took no longer: how much of the node's time is its models'. Dashed: the thresholds "
            "of SLOs of models.",
            [over_time(queries.quantile(0.95, names.LLM_DURATION, MODEL), MODEL_LEGEND, exemplars=True)],
            unit=units.Seconds,
            size=size,
            limits=thresholds.slow(config, "models"),
        ),
        panels.lines(
            "Tokens per call",
            "Of each type; the types do not overlap, so their sum is what a call uses.",
            [over_time(queries.tokens_per_call(STEP), "{{type}}")],
            unit=units.Short,
            size=size,
            stacked=True,
        ),
    ]


def _cost() -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    return [
        panels.lines(
            "Cost per call, by model",
            "Spend divided by calls. It grows with prompts, with output, and with every cached token that is missing.",
            [over_time(queries.cost_per_call(MODEL), MODEL_LEGEND)],
            unit=units.Dollars,
            size=size,
        ),
        pieces.spend_per_model(size),
        pieces.money_per_hour(
            "Spend for nothing, by node",
            "USD per hour of calls that failed, were cancelled, or had to be tried again.",
            names.WASTED_COST,
            (*NODE, "reason"),
            f"{NODE_LEGEND} {{{{reason}}}}",
            size,
        ),
    ]


def _tools() -> timeseries.Panel:
    return _speed(
        "Tool calls per minute",
        "By tool and how they ended.",
        queries.per_second(names.TOOL_CALLS, by=("tool", "status"), times=MINUTE),
        "{{tool}} {{status}}",
    )


def _speed(title: str, description: str, expr: str, legend: str) -> timeseries.Panel:
    targets = [over_time(expr, legend, exemplars=True)]
    return panels.lines(title, description, targets, unit=units.Short, size=(8, 9), stacked=True)
