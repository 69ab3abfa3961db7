"""Money: what this month came to and where it leads, what budgets say, who spends it on what, and what was for nothing.

Its time range begins as the calendar month; numbers of budgets are those of their own periods whatever it says.
"""

from __future__ import annotations

from graphmeter import names
from graphmeter_config import Config
from graphmeter_dashboards import database, links, panels, pieces, queries, thresholds
from graphmeter_dashboards.datasources import POSTGRES
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.pieces import BUDGET_LEGEND, HOUR, MODEL_LEGEND, NODE_LEGEND
from graphmeter_dashboards.queries import MODEL, NODE
from graphmeter_dashboards.sdk import Builder, bargauge, dashboard, table, units
from graphmeter_dashboards.targets import at_end, over_time, sql

_NOBODYS = f'team="{names.UNATTRIBUTED}"'


def spend(config: Config) -> Json:
    """The dashboard `graphmeter-spend`; thresholds are drawn from the budgets of `config`."""
    return page(
        links.SPEND,
        "Graphmeter / Spend",
        "What LangGraph applications spend on models: this month, against budgets, by team, graph, node and model.",
        [
            Section("", _numbers(config)),
            Section("Budgets", _budgets(config)),
            Section("Where it goes", _where()),
            Section("Runs", _runs()),
            Section("For nothing", _waste()),
            Section("Saved by caches", _saved()),
            Section("Not known", _unknown()),
        ],
        since="now/M",
    )


def _numbers(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (4, 4)
    return [
        pieces.month(size),
        pieces.month_forecast(size),
        pieces.spend(size),
        pieces.wasted_share(size),
        panels.number(
            "Saved",
            "What answers from LangChain's cache would have cost within the time range.",
            at_end(queries.count(names.SAVED_COST)),
            unit=units.Dollars,
            size=size,
            empty="no cached answers",
        ),
        panels.number(
            "Unattributed",
            "Share of spend within the time range that names no team. Red from where the alert about it begins.",
            at_end(queries.share(queries.count(names.COST, _NOBODYS), queries.count(names.COST))),
            unit=units.PercentUnit,
            size=size,
            decimals=1,
            colors=thresholds.unattributed(config),
        ),
    ]


def _budgets(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (8, 8)
    return [
        pieces.budgets_used(config, size),
        panels.bars(
            "Budget forecast",
            "Spend at the end of the current period, if it goes on as now, as a share of the budget's limit.",
            at_end(queries.same_everywhere(names.BUDGET_FORECAST, queries.BUDGET), BUDGET_LEGEND),
            unit=units.PercentUnit,
            size=size,
            colors=thresholds.budgets(config),
            full=1,
            empty="too early in every period",
        ),
        panels.lines(
            "Budget used over time",
            "The same share as it grew; it falls to zero where a new period begins.",
            [over_time(queries.budget_used(), BUDGET_LEGEND)],
            unit=units.PercentUnit,
            size=size,
        ),
        _budget_table(),
    ]


def _budget_table() -> table.Panel:
    gauges = (
        names.BUDGET_SPENT,
        names.BUDGET_RESERVED,
        names.BUDGET_LIMIT,
        names.BUDGET_SPENT_TOKENS,
        names.BUDGET_LIMIT_TOKENS,
    )
    asked = [queries.same_everywhere(gauge, queries.BUDGET) for gauge in gauges]
    asked += [queries.budget_used(), queries.same_everywhere(names.BUDGET_FORECAST, queries.BUDGET)]
    # Grafana's clock counts milliseconds.
    asked.append(f"1000 * {queries.same_everywhere(names.BUDGET_END, queries.BUDGET)}")
    headings = ("Spent", "Reserved", "Limit", "Tokens spent", "Limit in tokens", "Used", "Forecast", "Period ends")
    panel = panels.grid(
        "Budgets",
        "Every budget in its current period, from the ledger. One that is divided has a line for each part.",
        [at_end(each, as_table=True) for each in asked],
        unit=units.Short,
        size=(24, 8),
        columns={
            "budget": "Budget",
            "team": "Team",
            "scope": "Scope",
            **{f"Value #{chr(ord('A') + number)}": heading for number, heading in enumerate(headings)},
        },
        sort_by="Used",
    )
    for heading, unit in (
        ("Spent", units.Dollars),
        ("Reserved", units.Dollars),
        ("Limit", units.Dollars),
        ("Used", units.PercentUnit),
        ("Forecast", units.PercentUnit),
        ("Period ends", units.DatetimeISO),
    ):
        panel = panels.column(panel, heading, unit=unit)
    return panel


def _where() -> list[Builder[dashboard.Panel]]:
    size = (12, 9)
    return [
        _greatest("Teams", ("team",), "{{team}}"),
        _greatest("Graphs", ("graph",), "{{graph}}"),
        _greatest("Nodes", NODE, NODE_LEGEND),
        _greatest("Models", MODEL, MODEL_LEGEND),
        pieces.money_per_hour(
            "Spend per team",
            "USD per hour at the speed of the moment. What names no team stands under `unattributed`.",
            names.COST,
            ("team",),
            "{{team}}",
            size,
        ),
        pieces.money_per_hour(
            "Spend per graph", "USD per hour at the speed of the moment.", names.COST, ("graph",), "{{graph}}", size
        ),
        pieces.spend_per_node(size),
        pieces.spend_per_model(size),
    ]


def _greatest(what: str, by: tuple[str, ...], legend: str) -> bargauge.Panel:
    return panels.bars(
        what,
        f"{what} that spent most within the time range, ten at most.",
        at_end(queries.top(queries.count(names.COST, by=by)), legend),
        unit=units.Dollars,
        size=(6, 9),
        empty="no spend",
    )


def _runs() -> list[Builder[dashboard.Panel]]:
    mean = queries.ratio(
        queries.per_second(names.RUN_COST, suffix="_sum"), queries.per_second(names.RUN_COST, suffix="_count")
    )
    return [
        panels.lines(
            "Cost of a run",
            "Of runs that ended: half of them, and 95 % of them, cost no more. The dots are single traces.",
            [
                over_time(queries.quantile(0.5, names.RUN_COST), "p50"),
                over_time(queries.quantile(0.95, names.RUN_COST), "p95", exemplars=True),
                over_time(mean, "mean"),
            ],
            unit=units.Dollars,
            size=(8, 10),
        ),
        pieces.runs(
            "Most expensive runs",
            "Runs that began within the time range and cost most, from the database. Click a trace to open it in Jaeger.",
            database.dearest_runs(),
            (16, 10),
        ),
    ]


def _waste() -> list[Builder[dashboard.Panel]]:
    listed = panels.grid(
        "What was for nothing",
        "Calls that failed (error), whose attempt was followed by another (retry), or that were cancelled; from the "
        "database. What they cost is part of the spend.",
        [sql(database.waste())],
        unit=units.NoUnit,
        size=(16, 9),
    ).datasource(POSTGRES)
    return [
        pieces.money_per_hour(
            "Spend for nothing",
            "USD per hour at the speed of the moment, by why it was for nothing.",
            names.WASTED_COST,
            ("reason",),
            "{{reason}}",
            (8, 9),
        ),
        panels.column(listed, "cost", unit=units.Dollars),
    ]


def _saved() -> list[Builder[dashboard.Panel]]:
    return [pieces.saved((8, 8)), pieces.cached_answers((8, 8)), pieces.prompt_cache((8, 8))]


def _unknown() -> list[Builder[dashboard.Panel]]:
    size = (8, 8)
    nobodys = queries.per_second(names.COST, _NOBODYS, by=("service", "graph"), times=HOUR)
    return [
        pieces.unpriced(size),
        pieces.usage_missing(size),
        panels.lines(
            "Spend that names no team",
            "USD per hour, by service and graph: whom to ask for a team.",
            [over_time(nobodys, "{{service}} / {{graph}}")],
            unit=units.Dollars,
            size=size,
            stacked=True,
        ),
    ]
