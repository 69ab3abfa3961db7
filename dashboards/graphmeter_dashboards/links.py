"""Links that a panel or dashboard carries: from a trace id or a dashboard to Grafana Explore on Jaeger.

Explore reads its state from one URL-encoded JSON object. Grafana puts variables in before it follows a link, so
`${...}` must stay unencoded while everything around it is encoded.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from graphmeter_dashboards import datasources

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
