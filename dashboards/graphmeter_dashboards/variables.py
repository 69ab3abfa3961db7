"""The drop-downs on top of a dashboard: data sources, and filters whose choices come from Prometheus."""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter.names import Metric
from graphmeter_dashboards import datasources, queries
from graphmeter_dashboards.sdk import Builder, dashboard, dashboard_builders

ALL: Final = ".*"
"""What "All" stands for: any value, also the empty one of runs that name no environment."""

_CHOICES: Final[dict[str, tuple[str, Metric, tuple[str, ...]]]] = {
    "environment": ("Environment", names.RUNS, ()),
    "team": ("Team", names.RUNS, ("environment",)),
    "graph": ("Graph", names.RUNS, ("environment", "team")),
    "node": ("Node", names.NODE_ATTEMPTS, ("environment", "team", "graph")),
    "model": ("Model", names.LLM_CALLS, ("environment", "team", "graph", "node")),
}
"""Filter → its heading, the metric whose label has the choices, the filters that narrow them."""


def source(variable: str) -> Builder[dashboard.VariableModel]:
    """A data source of one plugin type; dashboard-linter wants `<type>_datasource`, labelled `<Type> data source`."""
    plugin = datasources.VARIABLES[variable]
    label = variable.removesuffix("_datasource").capitalize() + " data source"
    return dashboard_builders.DatasourceVariable(variable).label(label).type(plugin)


def choice(name: str) -> Builder[dashboard.VariableModel]:
    """A filter of several values, "All" at first."""
    label, metric, filters = _CHOICES[name]
    return _query(name, label, queries.label_values(metric, name, *filters)).all_value(ALL)


def slo() -> Builder[dashboard.VariableModel]:
    """SLOs by name, as the recording rules know them."""
    return _query(queries.SLO, "SLO", f"label_values({queries.SLO_OBJECTIVE}, {queries.SLO})").all_value(ALL)


def _query(name: str, label: str, query: str) -> dashboard_builders.QueryVariable:
    return (
        dashboard_builders.QueryVariable(name)
        .label(label)
        .datasource(datasources.PROMETHEUS)
        .query({"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(dashboard.VariableOption(text=["All"], value=["$__all"], selected=True))
    )


def fixed_team(team: str) -> Builder[dashboard.VariableModel]:
    """The filter by team with one choice that nobody can leave; of several values, so that Grafana escapes it."""
    option = dashboard.VariableOption(text=[team], value=[team], selected=True)
    return (
        dashboard_builders.CustomVariable("team")
        .label("Team")
        .values(team.replace(",", "\\,"))
        .current(option)
        .multi(True)
        .include_all(False)
        # Links from other pages name their team in the URL.
        .allow_custom_value(False)
        .hide(dashboard.VariableHide.HIDE_VARIABLE)
    )


def graphs_of_the_team() -> Builder[dashboard.VariableModel]:
    """Graphs that the team runs; "All" is these, for SLOs do not know whose a graph is."""
    label, metric, filters = _CHOICES["graph"]
    return _query("graph", label, queries.label_values(metric, "graph", *filters))


def everything(team: str = "") -> list[Builder[dashboard.VariableModel]]:
    """All variables, in the order in which they depend on each other; with `team` they are of this one alone."""
    chosen = {"team": fixed_team(team), "graph": graphs_of_the_team()} if team else {}
    return [*map(source, datasources.VARIABLES), *(chosen.get(name) or choice(name) for name in queries.FILTERS)]
