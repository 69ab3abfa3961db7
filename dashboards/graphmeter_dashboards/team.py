"""What is one team's: its runs and what they promise, its graphs and nodes, its spend and budgets, its failed runs.

Made for each team that the configuration names, and for those asked for; other dashboards show any team by the filter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from graphmeter import names
from graphmeter_config import Config
from graphmeter_config.section import globs_match
from graphmeter_dashboards import database, links, panels, pieces, queries, thresholds
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.queries import RANGE
from graphmeter_dashboards.sdk import Builder, dashboard, table, units
from graphmeter_dashboards.targets import at_end, over_time

_LONGEST_UID: Final = 40
"""Grafana takes no longer one."""
_WILD: Final = re.compile(r"[*?]")


def teams(config: Config) -> tuple[str, ...]:
    """Teams that budgets and SLOs name, in order; patterns are no names."""
    named = [*(budget.match.team for budget in config.budgets), *(slo.select.team for slo in config.slos)]
    return tuple(sorted({each for some in named for each in some if each and not _WILD.search(each)}))


def uid(name: str) -> str:
    """Of a team's dashboard: readable, and unlike that of any other team."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name and len(links.TEAM + plain) <= _LONGEST_UID:
        return links.TEAM + plain
    mark = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{links.TEAM}{plain[: _LONGEST_UID - len(links.TEAM) - 7]}-{mark}"


def team(config: Config, name: str) -> Json:
    """The dashboard of one team; thresholds are drawn from the SLOs and from those budgets that count its spend."""
    budgets = [each for each in config.budgets if globs_match(each.match.team, name)]
    shared = [each.name for each in budgets if name in each.match.team and "team" not in each.per]
    return page(
        uid(name),
        f"Graphmeter / Team {name}",
        f"LangGraph applications of team {name}: runs, errors, latency, spend, budgets and error budgets.",
        [
            Section("", _numbers(config)),
            Section(
                "Service levels and budgets", _promises(config.model_copy(update={"budgets": tuple(budgets)}), shared)
            ),
            Section("Graphs and nodes", _graphs_and_nodes()),
            Section("Spend", _spend()),
            Section("Runs and traces", _runs()),
        ],
        team=name,
    )


def _numbers(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (3, 4)
    return [
        panels.number(
            "Runs",
            "Runs of the team that ended within the time range, whatever their status.",
            at_end(queries.count(names.RUNS)),
            unit=units.Short,
            size=size,
            decimals=0,
            empty="no runs",
        ),
        pieces.error_ratio(config, size),
        pieces.run_p95(config, size),
        panels.linked(pieces.spend(size), "Where it goes", links.to(links.SPEND)),
        panels.number(
            "Cost of a run",
            "Mean of the runs that ended within the time range.",
            at_end(queries.ratio(*(queries.count(names.RUN_COST, suffix=suffix) for suffix in ("_sum", "_count")))),
            unit=units.Dollars,
            size=size,
            decimals=5,
        ),
        pieces.wasted_share(size),
        pieces.month(size),
        pieces.month_forecast(size),
    ]


def _promises(config: Config, shared: Sequence[str]) -> list[Builder[dashboard.Panel]]:
    size = (8, 8)
    return [
        pieces.error_budgets_left(size),
        pieces.budgets_used(config, size, shared),
        panels.lines(
            "Budget used over time",
            "The same share as it grew; it falls to zero where a new period begins.",
            [over_time(queries.budget_used(shared), pieces.BUDGET_LEGEND)],
            unit=units.PercentUnit,
            size=size,
            limits=thresholds.budgets(config),
        ),
    ]


def _graphs_and_nodes() -> list[Builder[dashboard.Panel]]:
    size = (12, 9)
    return [_graphs(), pieces.node_latency(95, size), pieces.node_errors(size), pieces.nodes((24, 9))]


def _graphs() -> table.Panel:
    by = ("graph",)
    asked = {
        "Runs": (queries.count(names.RUNS, by=by), units.Short),
        "Error ratio": (queries.error_ratio(by=by), units.PercentUnit),
        "p95": (queries.quantile(0.95, names.RUN_DURATION, by, RANGE), units.Seconds),
        "Spend": (queries.count(names.COST, by=by), units.Dollars),
        "Waiting": (queries.runs_waiting(by=by), units.Short),
    }
    panel = panels.grid(
        "Graphs",
        "What every graph of the team did within the time range; runs that wait for somebody do so now.",
        [at_end(expr, as_table=True) for expr, _ in asked.values()],
        unit=units.Short,
        size=(24, 8),
        columns={
            "graph": "Graph",
            **{f"Value #{chr(ord('A') + number)}": heading for number, heading in enumerate(asked)},
        },
        sort_by="Spend",
    )
    for heading, (_, unit) in asked.items():
        panel = panels.column(panel, heading, unit=unit)
    panel = panels.column(panel, "Runs", decimals=0)
    whole = {"title": "This graph", "url": links.to(links.GRAPH, graph=links.VALUE)}
    return panels.column(panel, "Graph", links=[whole])


def _spend() -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    return [
        pieces.money_per_hour(
            "Spend per graph", "USD per hour at the speed of the moment.", names.COST, ("graph",), "{{graph}}", size
        ),
        pieces.spend_per_node(size),
        panels.linked(pieces.spend_per_model(size), "These models", links.to(links.MODELS)),
    ]


def _runs() -> list[Builder[dashboard.Panel]]:
    return [
        pieces.runs_per_minute((8, 9)),
        pieces.failed_runs((16, 9)),
        pieces.runs(
            "Most expensive runs",
            "Runs that began within the time range and cost most, from the database. Click a trace to open it in Jaeger.",
            database.dearest_runs(),
            (24, 9),
        ),
    ]
