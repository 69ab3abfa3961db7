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
    query = queries.label_values(metric, name, *filters)
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
        .all_value(ALL)
        .current(dashboard.VariableOption(text=["All"], value=["$__all"], selected=True))
    )


def everything() -> list[Builder[dashboard.VariableModel]]:
    """All variables, in the order in which they depend on each other."""
    return [*map(source, datasources.VARIABLES), *map(choice, queries.FILTERS)]
