"""Promises: what each SLO achieved, how much of its error budget is left and how fast that goes, and who was told.

Numbers are those of the recording rules, so they are what alerts judge by; what the database says stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from graphmeter import names
from graphmeter_config import Config, Slo
from graphmeter_config.burn import Plan, plan
from graphmeter_config.indicators import DIMENSIONS
from graphmeter_config.values import SECONDS_PER_DAY, duration_text
from graphmeter_dashboards import links, panels, queries, thresholds, variables
from graphmeter_dashboards.finalize import Json
from graphmeter_dashboards.page import Section, page
from graphmeter_dashboards.panels import BLUE, GREEN, ORANGE, RED
from graphmeter_dashboards.queries import SLO
from graphmeter_dashboards.sdk import Builder, bargauge, dashboard, statetimeline, table, timeseries, units
from graphmeter_dashboards.targets import at_end, over_time

_USUAL: Final = ((Fraction(1, 100), 30 * SECONDS_PER_DAY),)
"""What the panels on burn rates suit where there is no SLO."""


def slos(config: Config) -> Json:
    """The dashboard `graphmeter-slo`; limits of burn rates are those at which the alerts of `config` begin."""
    return page(
        links.SLOS,
        "Graphmeter / SLOs and error budgets",
        "Service levels of LangGraph applications: error budgets left, burn rates, history, alerts.",
        [
            Section("", _numbers()),
            Section("Error budgets", [_table(config), _left(config), _left_in_database()]),
            Section("Burn rates", _burn_rates(config)),
            Section("History", _history(config)),
            Section("Alerts", [_alerts(), _told(config)]),
        ],
        since="now-7d",
        filters=[variables.slo()],
    )


def legend(config: Config) -> str:
    """An SLO and whatever the SLOs of `config` judge by itself; a label that a series lacks leaves nothing."""
    return " ".join(f"{{{{{label}}}}}" for label in _labels(config))


def _labels(config: Config) -> tuple[str, ...]:
    judged = {dimension for slo in config.slos for dimension in slo.per} or {"graph"}
    return (SLO, *(dimension for dimension in DIMENSIONS if dimension in judged))


def _by(config: Config, expr: str) -> str:
    """One number for each that is judged, without the name of the series, so that tables can join them."""
    return f"max by ({', '.join(_labels(config))}) ({expr})"


def _numbers() -> list[Builder[dashboard.Panel]]:
    size = (4, 4)
    left = queries.of_slos(queries.SLO_LEFT)
    page_, ticket = (
        queries.slo_alerts(f'alertstate="firing",severity="{severity}"') for severity in ("page", "ticket")
    )
    return [
        panels.number(
            "SLOs",
            "Objectives in graphmeter.yaml that the recording rules know.",
            at_end(f"count(count by ({SLO}) ({queries.SLO_OBJECTIVE}))"),
            unit=units.Short,
            size=size,
            decimals=0,
            empty="none: load the generated rules into Prometheus",
        ),
        panels.number(
            "Broken promises",
            "What is judged and has overspent its error budget.",
            at_end(f"count({left} < 0) or 0 * count({left})"),
            unit=units.Short,
            size=size,
            decimals=0,
            colors=thresholds.NONE_IS_GOOD,
        ),
        panels.number(
            "Least budget left",
            "Share of its error budget that the worst of them still has; below zero the promise is broken.",
            at_end(f"min({left})"),
            unit=units.PercentUnit,
            size=size,
            decimals=1,
            colors=thresholds.BUDGET_LEFT,
        ),
        panels.number(
            "Fastest burn",
            "Over the last hour; at 1 a budget lasts exactly its SLO's window.",
            at_end(f"max({queries.of_slos(queries.SLO_BURN_RATE)})"),
            unit=units.Short,
            size=size,
            decimals=1,
            colors=((None, GREEN), (1.0, ORANGE)),
        ),
        panels.number(
            "Pages",
            "Alerts about SLOs that fire and want somebody now.",
            at_end(f"count({page_}) or vector(0)"),
            unit=units.Short,
            size=size,
            decimals=0,
            colors=thresholds.NONE_IS_GOOD,
        ),
        panels.number(
            "Tickets",
            "Alerts about SLOs that fire and want somebody within days.",
            at_end(f"count({ticket}) or vector(0)"),
            unit=units.Short,
            size=size,
            decimals=0,
            colors=((None, GREEN), (0.5, ORANGE)),
        ),
    ]


def _table(config: Config) -> table.Panel:
    left = queries.of_slos(queries.SLO_LEFT)
    promised = f"{left} * 0 + on ({SLO}) group_left () {queries.SLO_OBJECTIVE}"
    asked = {
        "Objective": (promised, units.PercentUnit),
        "Achieved": (f"1 - {queries.of_slos(queries.SLO_ERRORS_NOW)}", units.PercentUnit),
        "Budget left": (left, units.PercentUnit),
        "Bad events": (_in_window(config, "errors"), units.Short),
        "Events": (_in_window(config, "events"), units.Short),
        "Burn, 1h": (queries.of_slos(queries.SLO_BURN_RATE), units.Short),
        "Burn, 6h": (queries.burning("6h"), units.Short),
    }
    panel = panels.grid(
        "Promises",
        "Every SLO, and what it judges by itself: what was promised and kept over its window, and what is left of the error "
        "budget.",
        [at_end(_by(config, expr), as_table=True) for expr, _ in asked.values()],
        unit=units.Short,
        size=(24, 9),
        columns={
            **{label: "SLO" if label == SLO else label.capitalize() for label in _labels(config)},
            **{f"Value #{chr(ord('A') + number)}": heading for number, heading in enumerate(asked)},
        },
        sort_by="Burn, 1h",
    )
    for heading, (_, unit) in asked.items():
        panel = panels.column(panel, heading, unit=unit, decimals=3 if unit == units.PercentUnit else 1)
    for heading in ("Bad events", "Events"):
        panel = panels.column(panel, heading, decimals=0)
    only = {"title": "Only this SLO", "url": links.to(links.SLOS, **{SLO: links.VALUE})}
    panel = panels.column(panel, "SLO", links=[only])
    if "graph" in _labels(config):
        whole = {"title": "This graph", "url": links.to(links.GRAPH, graph=links.VALUE)}
        panel = panels.column(panel, "Graph", links=[whole])
    return panel


def _in_window(config: Config, what: str) -> str:
    """Events of each SLO within its own window, which is part of the series' name."""
    by_window: dict[tuple[float, str], list[str]] = {}
    for slo in config.slos:
        by_window.setdefault((float(slo.window_s), slo.window_suffix), []).append(slo.name)
    return " or ".join(
        queries.of_slos(f"slo:{what}:increase{suffix}", queries.one_of(SLO, sorted(of)))
        for (_, suffix), of in sorted(by_window.items(), key=lambda each: (round(each[0][0]), each[0][1]))
    ) or queries.of_slos(f"slo:{what}:increase1h")


def _left(config: Config) -> bargauge.Panel:
    return panels.bars(
        "Error budget left",
        "Share of each error budget that its window still has, by the recording rules; below zero the promise is broken.",
        at_end(queries.of_slos(queries.SLO_LEFT), legend(config)),
        unit=units.PercentUnit,
        size=(12, 9),
        colors=thresholds.BUDGET_LEFT,
        full=1,
        empty="no SLO with judged events",
    )


def _left_in_database() -> bargauge.Panel:
    gauge = queries.select(names.SLO_BUDGET_REMAINING, f'{SLO}=~"${SLO}"')
    return panels.bars(
        "Error budget left, from the database",
        "The same, counted in the database, which has what Prometheus missed. Of several things in one graph the worst.",
        at_end(f"max by ({SLO}, graph) ({gauge})", f"{{{{{SLO}}}}} {{{{graph}}}}"),
        unit=units.PercentUnit,
        size=(12, 9),
        colors=thresholds.BUDGET_LEFT,
        full=1,
        empty="no SLO with judged events",
    )


def _plans(slos_: Sequence[Slo]) -> list[Plan]:
    return [plan(budget, int(window)) for budget, window in ([(s.error_budget, s.window_s) for s in slos_] or _USUAL)]


def _burn_rates(config: Config) -> list[Builder[dashboard.Panel]]:
    """A panel for each pair of windows that some SLO alerts by."""
    factors: dict[str, list[float]] = {}
    tiers = {}
    for each in _plans(config.slos):
        for tier in each.tiers:
            tiers[tier.name] = tier
            factors.setdefault(tier.name, []).append(float(tier.factor))
    return [
        panels.lines(
            f"Burn rate, {duration_text(tier.long_s)} and {duration_text(tier.short_s)}",
            f"How many times faster than its budget allows each SLO spends it. Above the dashed line over both windows it "
            f"becomes a {tier.severity} (`burn={name}`).",
            [
                over_time(queries.burning(duration_text(seconds)), f"{legend(config)} {duration_text(seconds)}")
                for seconds in (tier.long_s, tier.short_s)
            ],
            unit=units.Short,
            size=(12, 9),
            limits=thresholds.beyond(factors[name], BLUE),
        )
        for name, tier in tiers.items()
    ]


def _history(config: Config) -> list[Builder[dashboard.Panel]]:
    size = (8, 9)
    budget = f"on ({SLO}) group_left () {queries.SLO_BUDGET}"
    return [
        panels.lines(
            "Error budget left over time",
            "It falls with every bad event, and grows as old ones leave the window.",
            [over_time(queries.of_slos(queries.SLO_LEFT), legend(config))],
            unit=units.PercentUnit,
            size=size,
            below_zero=True,
            limits=((None, RED), (0.0, GREEN)),
        ),
        panels.lines(
            "Bad events over budget",
            "Share of the events of the SLO's window that were bad, as a multiple of what is allowed: at 1 the "
            "budget is spent.",
            [over_time(f"{queries.of_slos(queries.SLO_ERRORS_NOW)} / {budget}", legend(config))],
            unit=units.Short,
            size=size,
            limits=((None, GREEN), (1.0, RED)),
        ),
        _events(config, size),
    ]


def _events(config: Config, size: tuple[int, int]) -> timeseries.Panel:
    return panels.lines(
        "Bad events in an hour",
        "Events of the hour before that were bad to each SLO.",
        [over_time(queries.of_slos("slo:errors:increase1h"), legend(config))],
        unit=units.Short,
        size=size,
        stacked=True,
    )


def _alerts() -> statetimeline.Panel:
    firing, pending = (queries.slo_alerts(f'alertstate="{state}"') for state in ("firing", "pending"))
    return panels.states(
        "Alerts over time",
        "When alerts about SLOs were pending (what they wait for is true, not yet for long enough) and when they fired.",
        [over_time(f"max by (alertname, {SLO}, burn, graph) (2 * {firing} or {pending})", _ALERT)],
        colors={"1": ("pending", ORANGE), "2": ("firing", RED)},
        size=(24, 8),
        empty="no alert about an SLO",
    )


_ALERT: Final = "{{alertname}} {{slo}} {{burn}} {{graph}}"


def _told(config: Config) -> table.Panel:
    labels = ("alertname", "alertstate", "severity", "burn", *_labels(config))
    return panels.grid(
        "Alerts now",
        "Alerts about SLOs that are pending or fire at the end of the time range.",
        [at_end(f"max by ({', '.join(labels)}) ({queries.slo_alerts()})", as_table=True)],
        unit=units.NoUnit,
        size=(24, 8),
        columns={label: _HEADINGS.get(label, label.capitalize()) for label in labels},
        sort_by="Severity",
    )


_HEADINGS: Final = {"alertname": "Alert", "alertstate": "State", SLO: "SLO"}
