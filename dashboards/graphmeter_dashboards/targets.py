"""What a panel asks: PromQL or SQL in, SDK query out.

The SDK has no query class for Postgres; `RawQuery` is the smallest one that survives its JSON round trip.
"""

from __future__ import annotations

from typing import Any, Self

from graphmeter_dashboards import datasources
from graphmeter_dashboards.sdk import Builder, Dataquery, dashboard, prometheus, prometheus_models


class RawQuery(Dataquery):
    """A query of any data source plugin, as the plain object that the plugin's editor would have saved."""

    def __init__(self, payload: dict[str, Any], datasource: dashboard.DataSourceRef, ref_id: str) -> None:
        self.payload = payload
        self.datasource = datasource
        self.ref_id = ref_id

    def dataquery_type(self) -> str:
        """Plugin type; the SDK asks for it."""
        return self.datasource.type_val or ""

    def to_json(self) -> dict[str, object]:
        """The object Grafana reads."""
        return {**self.payload, "refId": self.ref_id, "datasource": self.datasource}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The reverse of `to_json`."""
        payload = {key: value for key, value in data.items() if key not in ("refId", "datasource")}
        return cls(payload, dashboard.DataSourceRef.from_json(data["datasource"]), data["refId"])


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


def at_end(expr: str, legend: str = "", *, as_table: bool = False) -> Builder[Dataquery]:
    """An instant query at the end of the dashboard's time range."""
    query = prometheus.Dataquery().datasource(datasources.PROMETHEUS).expr(expr).instant()
    query = query.editor_mode(prometheus_models.QueryEditorMode.CODE).legend_format(legend)
    return query.format(prometheus_models.PromQueryFormat.TABLE) if as_table else query


def sql(query: str, *, ref_id: str = "A") -> Builder[Dataquery]:
    """A Postgres query answered as a table."""
    payload = {"rawSql": query, "rawQuery": True, "editorMode": "code", "format": "table"}
    return _Built(RawQuery(payload, datasources.POSTGRES, ref_id))
