"""Links that a panel or dashboard carries: to another dashboard of ours, and to Grafana Explore on Jaeger.

Explore reads its state from one URL-encoded JSON object. Grafana puts variables in before it follows a link, so
`${...}` must stay unencoded while everything around it is encoded.
"""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote

from graphmeter_dashboards import datasources, queries

OVERVIEW: Final = "graphmeter-overview"
GRAPH: Final = "graphmeter-graph"
NODE: Final = "graphmeter-node"
MODELS: Final = "graphmeter-models"
SPEND: Final = "graphmeter-spend"
SLOS: Final = "graphmeter-slo"
COLLECTOR: Final = "graphmeter-collector"
TEAM: Final = "graphmeter-team-"
"""Dashboards by their uid, which is what addresses them; that of a team is followed by its name."""

VALUE: Final = "${__value.raw:percentencode}"
"""In a link of a column: what the cell says."""


def field(name: str) -> str:
    """In a link of a column: what another column of the row says."""
    return f"${{__data.fields.{name}:percentencode}}"


def to(uid: str, **values: str) -> str:
    """URL of a dashboard with this one's time range and variables, but for those in `values`."""
    kept = [
        f"var-{name}={values[name]}" if name in values else f"${{{name}:queryparam}}"
        for name in (*datasources.VARIABLES, *queries.FILTERS)
    ]
    kept += [f"var-{name}={value}" for name, value in values.items() if name not in queries.FILTERS]
    return f"/d/{uid}?" + "&".join(["${__url_time_range}", *kept])


_VARIABLE = re.compile(r"(\$\{[^}]+\})")
_JAEGER = f"${{{datasources.JAEGER_VARIABLE}}}"


def _explore(query: dict[str, str]) -> str:
    pane = {
        "datasource": _JAEGER,
        "queries": [{"refId": "A", "datasource": {"type": datasources.JAEGER_TYPE, "uid": _JAEGER}, **query}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    parts = _VARIABLE.split(json.dumps({"traces": pane}, separators=(",", ":")))
    panes = "".join(part if _VARIABLE.fullmatch(part) else quote(part, safe="") for part in parts)
    return f"/explore?schemaVersion=1&panes={panes}"


def trace() -> str:
    """URL of one trace; for a field whose value is a trace id in hex."""
    return _explore({"query": "${__value.raw}"})


def traces() -> str:
    """URL of Jaeger's search."""
    return _explore({"queryType": "search"})
