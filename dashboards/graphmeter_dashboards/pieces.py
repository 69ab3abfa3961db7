"""Panels that stand on more than one dashboard, so that they ask and look the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graphmeter import names
from graphmeter_config import Config
from graphmeter_dashboards import database, links, panels, queries, thresholds
from graphmeter_dashboards.datasources import POSTGRES
from graphmeter_dashboards.panels import ORANGE, Steps
from graphmeter_dashboards.queries import MODEL, NODE, RANGE
from graphmeter_dashboards.sdk import bargauge, stat, table, timeseries, units
from graphmeter_dashboards.targets import at_end, over_time, sql

NODE_LEGEND: Final = "{{graph}} / {{node}}"
MODEL_LEGEND: Final = "{{provider}} {{model}}"
BUDGET_LEGEND: Final = "{{budget}} {{team}} {{scope}}"

HOUR: Final = 3600
MINUTE: Final = 60

Size = tuple[int, int]


def spend(size: Size) -> stat.Panel:
    """Of the time range."""
    return panels.number(
        "Spend",
        "Cost of model calls within the time range, as Prometheus saw it. The ledger in the database is the authority.",
        at_end(queries.count(names.COST)),
        unit=units.Dollars,
        size=size,
    )


def attempt_p95(config: Config, title: str, size: Size) -> stat.Panel:
    """Of nodes; its colours are the thresholds of SLOs."""
    return panels.number(
        title,
        "95 % of the attempts within the time range took no longer. Colours: the thresholds of SLOs of nodes.",
        at_end(queries.quantile(0.95, names.NODE_DURATION, window=RANGE)),
        unit=units.Seconds,
        size=size,
        colors=thresholds.slow(config, "nodes"),
    )


def error_ratio(config: Config, size: Size) -> stat.Panel:
    """Of runs; its colours are the error budgets of SLOs."""
    panel = panels.number(
        "Error ratio",
        "Share of runs that failed or were lost; interrupted and cancelled runs are left out. "
        "Colours: the error budgets of the SLOs.",
        at_end(queries.error_ratio()),
        unit=units.PercentUnit,
        size=size,
        decimals=2,
        colors=thresholds.errors(config),
    )
    return panels.linked(panel, "Which node it is", links.to(links.GRAPH))


def run_p95(config: Config, size: Size) -> stat.Panel:
    """Of runs; its colours are the thresholds of SLOs."""
    panel = panels.number(
        "Run p95",
        "95 % of the runs that ended within the time range took no longer. Colours: the thresholds of SLOs of runs.",
        at_end(queries.quantile(0.95, names.RUN_DURATION, window=RANGE)),
        unit=units.Seconds,
        size=size,
        colors=thresholds.slow(config, "runs"),
    )
    return panels.linked(panel, "Which node it is", links.to(links.GRAPH))


def error_budgets_left(size: Size) -> bargauge.Panel:
    """A bar per SLO and graph, from the database."""
    panel = panels.bars(
        "Error budget left",
        "Share of each SLO's error budget that its window still has; below zero the promise is broken.",
        at_end(queries.error_budget_left(), "{{slo}} {{graph}}"),
        unit=units.PercentUnit,
        size=size,
        colors=thresholds.BUDGET_LEFT,
        full=1,
        empty="no SLO with judged runs",
    )
    return panels.linked(panel, "Burn rates, history, alerts", links.to(links.SLOS))


def month(size: Size) -> stat.Panel:
    """Spend of the calendar month, from the database."""
    return panels.number(
        "This month",
        "Spend since the first of the month, UTC, from the database, whatever the time range; as billed.",
        sql(database.month_to_date()),
        unit=units.Dollars,
        size=size,
    ).datasource(POSTGRES)


def month_forecast(size: Size) -> stat.Panel:
    """Where that leads."""
    return panels.number(
        "Forecast for this month",
        "Where that leads: at the rate between that of the whole month and that of its last three days. "
        "The first hundredth of a month has no forecast.",
        sql(database.month_forecast()),
        unit=units.Dollars,
        size=size,
    ).datasource(POSTGRES)


def wasted_share(size: Size) -> stat.Panel:
    """Of the time range."""
    return panels.number(
        "For nothing",
        "Share of spend within the time range that failed, was cancelled, or had to be tried again.",
        at_end(queries.share(queries.count(names.WASTED_COST), queries.count(names.COST))),
        unit=units.PercentUnit,
        size=size,
        decimals=2,
    )


def budgets_used(config: Config, size: Size, also: Sequence[str] = ()) -> bargauge.Panel:
    """A bar per budget; its colours are the thresholds of the budgets. `also`: see `queries.budget_used`."""
    return panels.bars(
        "Budget used",
        "Spend of the current period as a share of the budget's limit, from the ledger.",
        at_end(queries.budget_used(also), BUDGET_LEGEND),
        unit=units.PercentUnit,
        size=size,
        colors=thresholds.budgets(config),
        full=1,
        empty="no budget with spend",
    )


def money_per_hour(
    title: str, description: str, metric: names.Metric, by: tuple[str, ...], legend: str, size: Size
) -> timeseries.Panel:
    """Stacked speed of a counter of USD."""
    return panels.lines(
        title,
        description,
        [over_time(queries.per_second(metric, by=by, times=HOUR), legend)],
        unit=units.Dollars,
        size=size,
        stacked=True,
    )


def spend_per_node(size: Size) -> timeseries.Panel:
    """Stacked speed of spend."""
    return money_per_hour(
        "Spend per node",
        "USD per hour at the speed of the moment. Calls outside nodes stand under `unattributed`.",
        names.COST,
        NODE,
        NODE_LEGEND,
        size,
    )


def spend_per_model(size: Size) -> timeseries.Panel:
    """Stacked speed of spend."""
    return money_per_hour(
        "Spend per model",
        "USD per hour at the speed of the moment. Tools that have a price stand under their own name.",
        names.COST,
        MODEL,
        MODEL_LEGEND,
        size,
    )


def prompt_cache(size: Size) -> timeseries.Panel:
    """How much of the input providers had in their caches."""
    of_input = f'type=~"{"|".join(names.INPUT_TOKEN_TYPES)}"'
    read = queries.per_second(names.TOKENS, 'type="cache_read"', by=MODEL)
    return panels.lines(
        "Input from the provider's cache",
        "Share of input tokens that the provider read from its prompt cache, which it charges less for.",
        [over_time(queries.ratio(read, queries.per_second(names.TOKENS, of_input, by=MODEL)), MODEL_LEGEND)],
        unit=units.PercentUnit,
        size=size,
    )


def saved(size: Size) -> timeseries.Panel:
    """In money; the metric knows no model."""
    return money_per_hour(
        "Saved by cached answers",
        "USD per hour that answers from LangChain's cache would have cost.",
        names.SAVED_COST,
        ("graph",),
        "{{graph}}",
        size,
    )


def cached_answers(size: Size) -> timeseries.Panel:
    """In answers."""
    return panels.lines(
        "Cached answers per minute",
        "Model calls that LangChain's cache answered; they cost nothing and are no model calls otherwise.",
        [over_time(queries.per_second(names.LLM_CACHE_HITS, by=MODEL, times=MINUTE), MODEL_LEGEND)],
        unit=units.Short,
        size=size,
        stacked=True,
    )


def unpriced(size: Size) -> bargauge.Panel:
    """Calls that no sum of money contains."""
    return panels.bars(
        "Calls without a price",
        "Model calls within the time range whose price is not known: they are in no sum. Add the model to `prices:` of "
        "graphmeter.yaml; `graphmeter prices reprice` prices them afterwards.",
        at_end(queries.top(queries.count(names.UNPRICED_CALLS, by=MODEL)), MODEL_LEGEND),
        unit=units.Short,
        size=size,
        colors=((None, ORANGE),),
        empty="none: every call has a price",
    )


def usage_missing(size: Size) -> bargauge.Panel:
    """Calls whose tokens nobody told."""
    return panels.bars(
        "Calls without usage",
        "Model calls within the time range that reported no tokens: their cost cannot be known.",
        at_end(queries.top(queries.count(names.USAGE_MISSING_CALLS, by=MODEL)), MODEL_LEGEND),
        unit=units.Short,
        size=size,
        colors=((None, ORANGE),),
        empty="none: every call told its tokens",
    )


def node_errors(size: Size) -> timeseries.Panel:
    """Stacked speed of failures."""
    errors = queries.per_second(names.NODE_RUNS, f'status="{names.ERROR}"', by=NODE, times=MINUTE)
    return panels.lines(
        "Node errors per minute",
        "Failed executions by node; a failed attempt that was retried with success is not counted.",
        [over_time(errors, NODE_LEGEND, exemplars=True)],
        unit=units.Short,
        size=size,
        stacked=True,
    )


def node_latency(percent: int, size: Size, limits: Steps = ()) -> timeseries.Panel:
    """One percentile of every node, with exemplars; `limits` are drawn as dashed lines."""
    return panels.lines(
        f"Node latency, p{percent}",
        f"{percent} % of the attempts of a node took no longer. The dots are single traces: click one to open it in Jaeger.",
        [over_time(queries.quantile(percent / 100, names.NODE_DURATION, NODE), NODE_LEGEND, exemplars=True)],
        unit=units.Seconds,
        size=size,
        limits=limits,
    )


def nodes(size: Size) -> table.Panel:
    """What every node did within the time range, the dearest first."""
    panel = panels.grid(
        "Nodes",
        "Executions, failures, latency and spend of every node within the time range.",
        [
            at_end(queries.count(names.NODE_RUNS, by=NODE), as_table=True),
            at_end(queries.count(names.NODE_RUNS, f'status="{names.ERROR}"', by=NODE), as_table=True),
            at_end(queries.quantile(0.95, names.NODE_DURATION, NODE, RANGE), as_table=True),
            at_end(queries.count(names.COST, by=NODE), as_table=True),
        ],
        unit=units.Short,
        size=size,
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
    panel = panels.column(panel, "Runs", decimals=0)
    panel = panels.column(panel, "Errors", decimals=0)
    panel = panels.column(panel, "p95", unit=units.Seconds)
    whole = links.to(links.GRAPH, graph=links.VALUE)
    panel = panels.column(panel, "Graph", links=[{"title": "This graph", "url": whole}])
    of_node = {"graph": links.field("Graph"), "node": links.field("Node")}
    panel = panels.column(panel, "Node", links=[{"title": "This node", "url": links.to(links.NODE, **of_node)}])
    spend = {"title": "Spend of this node", "url": links.to(links.SPEND, **of_node)}
    return panels.column(panel, "Spend", unit=units.Dollars, links=[spend])


def runs_per_minute(size: Size) -> timeseries.Panel:
    """By status."""
    return panels.lines(
        "Runs per minute",
        "Ended runs by status.",
        [over_time(queries.per_second(names.RUNS, by=("status",), times=MINUTE), "{{status}}")],
        unit=units.Short,
        size=size,
        stacked=True,
    )


def failed_runs(size: Size) -> table.Panel:
    """From the database, newest first."""
    return runs(
        "Latest failed runs",
        "Runs that failed or were lost, newest first, from the database. Click a trace to open it in Jaeger.",
        database.latest_failed_runs(),
        size,
    )


def runs(title: str, description: str, query: str, size: Size) -> table.Panel:
    """Runs from the database, each with a link to its trace."""
    panel = panels.grid(title, description, [sql(query)], unit=units.NoUnit, size=size).datasource(POSTGRES)
    panel = panels.column(panel, "duration", unit=units.Seconds)
    panel = panels.column(panel, "cost", unit=units.Dollars)
    link = {"title": "Open trace in Jaeger", "url": links.trace(), "targetBlank": True}
    return panels.column(panel, "trace", links=[link])
