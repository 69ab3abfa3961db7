"""The one door to grafana-foundation-sdk: its modules come out, its import-time warnings do not.

SDK 0.0.21 warns about the classic dashboard model while it is being imported. The classic model is what we want: Grafana
10 to 13 read it, file provisioning takes it, and dashboard-linter knows it. Every other module imports the SDK from here.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Prefer using .* instead", category=DeprecationWarning)
    try:
        from grafana_foundation_sdk.builders import (
            bargauge,
            heatmap,
            nodegraph,
            prometheus,
            stat,
            statetimeline,
            table,
            text,
            timeseries,
        )
        from grafana_foundation_sdk.builders import common as common_builders
        from grafana_foundation_sdk.builders import dashboard as dashboard_builders
        from grafana_foundation_sdk.cog.builder import Builder
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.cog.plugins import register_default_plugins
        from grafana_foundation_sdk.cog.runtime import UnknownDataquery
        from grafana_foundation_sdk.cog.variants import Dataquery
        from grafana_foundation_sdk.models import common, dashboard, units
        from grafana_foundation_sdk.models import heatmap as heatmap_models
        from grafana_foundation_sdk.models import prometheus as prometheus_models
        from grafana_foundation_sdk.models import text as text_models
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "dashboards are built with grafana-foundation-sdk: pip install 'graphmeter[dashboards]'"
        ) from missing

__all__ = [
    "Builder",
    "Dataquery",
    "JSONEncoder",
    "UnknownDataquery",
    "bargauge",
    "common",
    "common_builders",
    "dashboard",
    "dashboard_builders",
    "heatmap",
    "heatmap_models",
    "nodegraph",
    "prometheus",
    "prometheus_models",
    "register_default_plugins",
    "stat",
    "statetimeline",
    "table",
    "text",
    "text_models",
    "timeseries",
    "units",
]
