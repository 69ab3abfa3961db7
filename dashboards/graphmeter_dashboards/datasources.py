"""Data sources as the dashboards name them: a variable each, so that a dashboard fits any Grafana."""

from __future__ import annotations

from typing import Final

from graphmeter_dashboards.sdk import dashboard

PROMETHEUS_TYPE: Final = "prometheus"
JAEGER_TYPE: Final = "jaeger"
POSTGRES_TYPE: Final = "grafana-postgresql-datasource"

PROMETHEUS_VARIABLE: Final = "prometheus_datasource"
JAEGER_VARIABLE: Final = "jaeger_datasource"
POSTGRES_VARIABLE: Final = "postgres_datasource"

VARIABLES: Final = {
    PROMETHEUS_VARIABLE: PROMETHEUS_TYPE,
    JAEGER_VARIABLE: JAEGER_TYPE,
    POSTGRES_VARIABLE: POSTGRES_TYPE,
}
"""Variable of a data source → its plugin type."""

PROMETHEUS: Final = dashboard.DataSourceRef(type_val=PROMETHEUS_TYPE, uid=f"${{{PROMETHEUS_VARIABLE}}}")
POSTGRES: Final = dashboard.DataSourceRef(type_val=POSTGRES_TYPE, uid=f"${{{POSTGRES_VARIABLE}}}")
