"""What a panel asks: PromQL or SQL in, SDK query out."""

from __future__ import annotations

from graphmeter_dashboards import datasources
from graphmeter_dashboards.sdk import Builder, Dataquery, UnknownDataquery, prometheus, prometheus_models


class _Built(Builder[Dataquery]):
    """The SDK takes builders only; this one has its query already."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


def over_time(expr: str, legend: str, *, exemplars: bool = False) -> Builder[Dataquery]:
    """A range query; with `exemplars` the traces behind the points are drawn as well."""
    query = prometheus.Dataquery().datasource(datasources.PROMETHEUS).expr(expr).legend_format(legend).range()
    return query.editor_mode(prometheus_models.QueryEditorMode.CODE).exemplar(exemplars)


def buckets(expr: str) -> Builder[Dataquery]:
    """A range query for a heatmap: `expr` has one series per `le`."""
    query = prometheus.Dataquery().datasource(datasources.PROMETHEUS).expr(expr).legend_format("{{le}}").range()
    query = query.editor_mode(prometheus_models.QueryEditorMode.CODE).exemplar(True)
    return query.format(prometheus_models.PromQueryFormat.HEATMAP)


def at_end(expr: str, legend: str = "", *, as_table: bool = False) -> Builder[Dataquery]:
    """An instant query at the end of the dashboard's time range."""
    query = prometheus.Dataquery().datasource(datasources.PROMETHEUS).expr(expr).instant()
    query = query.editor_mode(prometheus_models.QueryEditorMode.CODE).legend_format(legend)
    return query.format(prometheus_models.PromQueryFormat.TABLE) if as_table else query


def sql(query: str) -> Builder[Dataquery]:
    """A Postgres query answered as a table."""
    # The SDK has no class for Postgres; the one it keeps for plugins it does not know takes the plain object, and
    # survives a round trip through JSON.
    payload = {"rawSql": query, "rawQuery": True, "editorMode": "code", "format": "table"}
    return _Built(UnknownDataquery({**payload, "datasource": datasources.POSTGRES}))
