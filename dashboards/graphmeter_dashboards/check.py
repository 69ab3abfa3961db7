"""What a dashboard asks, ready to be asked: Grafana's variables and macros are replaced as Grafana would replace them.

For tests and tools that run every panel against a real Prometheus and a real Postgres without a Grafana in between.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphmeter_dashboards.datasources import POSTGRES_TYPE, PROMETHEUS_TYPE
from graphmeter_dashboards.finalize import Json, panels_of

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$([a-zA-Z_]\w*)")  # $1 is of label_replace
_NANO_BOUND: Final = re.compile(r"\$__unixEpochNano(From|To)\(\)")
_NANO_FILTER: Final = re.compile(r"\$__unixEpochNanoFilter\(([^)]+)\)")
_LABEL_VALUES: Final = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


class UnknownVariable(ValueError):
    """A query names a variable that the dashboard does not have."""


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of a panel or annotation; either `expr` (PromQL) or `sql` is set, by `datasource` (plugin type)."""

    panel: str
    ref: str
    datasource: str
    expr: str = ""
    sql: str = ""
    instant: bool = False
    """PromQL only: one value at the end of the range, not a line over it."""


@dataclass(frozen=True, slots=True)
class VariableQuery:
    """Choices of a variable: the values of `label` among `series` (a PromQL selector)."""

    name: str
    series: str
    label: str


@dataclass(frozen=True, slots=True)
class TimeRange:
    """What the time picker says, in seconds since the epoch, and the step that Grafana would choose for it."""

    start_s: float
    end_s: float
    rate_interval: str = "1m"

    @classmethod
    def last(cls, seconds: float = 3600) -> TimeRange:
        """The range that ends now."""
        now = time.time()
        return cls(now - seconds, now)


def panel_queries(
    dashboard: str | Json, time_range: TimeRange | None = None, values: Mapping[str, str] | None = None
) -> list[PanelQuery]:
    """Every query of every panel, from top to bottom.

    `dashboard` is the JSON text or what it parses to; `time_range` defaults to the last hour; `values` sets dashboard
    variables (a regular expression each), which otherwise stand at "All".

    Raises:
        UnknownVariable: a query names a variable that the dashboard lacks.
    """
    loaded = _load(dashboard)
    known = _values(loaded, time_range or TimeRange.last(), values)
    return [
        _query(panel.get("title", ""), target, known)
        for panel in panels_of(loaded)
        for target in panel.get("targets") or []
    ]


def annotation_queries(
    dashboard: str | Json, time_range: TimeRange | None = None, values: Mapping[str, str] | None = None
) -> list[PanelQuery]:
    """Every annotation's query; `panel` is the annotation's name."""
    loaded = _load(dashboard)
    known = _values(loaded, time_range or TimeRange.last(), values)
    return [
        PanelQuery(found["name"], "A", found["datasource"]["type"], expr=_replace(found["expr"], _quoted(known)))
        for found in loaded["annotations"]["list"]
    ]


def variable_queries(dashboard: str | Json, values: Mapping[str, str] | None = None) -> list[VariableQuery]:
    """Every variable whose choices come from Prometheus."""
    loaded = _load(dashboard)
    known = _values(loaded, TimeRange.last(), values)
    asked = []
    for variable in loaded["templating"]["list"]:
        if variable["type"] == "query":
            match = _LABEL_VALUES.fullmatch(_replace(variable["query"]["query"], _quoted(known)))
            if match is None:
                raise ValueError(f"variable {variable['name']}: not label_values(series, label)")
            asked.append(VariableQuery(variable["name"], match["series"], match["label"]))
    return asked


def _load(dashboard: str | Json) -> Json:
    if isinstance(dashboard, str):
        loaded: Json = json.loads(dashboard)
        return loaded
    return dashboard


def _values(dashboard: Json, time_range: TimeRange, values: Mapping[str, str] | None) -> dict[str, str]:
    known = {variable["name"]: _standing_at(variable) for variable in dashboard["templating"]["list"]}
    seconds = max(1, round(time_range.end_s - time_range.start_s))
    return {
        **known,
        **(values or {}),
        "__range": f"{seconds}s",
        "__range_s": str(seconds),
        "__rate_interval": time_range.rate_interval,
        "__interval": time_range.rate_interval,
        "__from": str(round(time_range.start_s * 1000)),
        "__to": str(round(time_range.end_s * 1000)),
    }


def _standing_at(variable: dict[str, Any]) -> str:
    """What a variable stands for until somebody chooses: a regular expression, or the name of a data source's variable."""
    if variable["type"] == "custom":
        return "|".join(map(re.escape, variable["current"]["value"]))
    # Without a value of its own, "All" is every choice there is.
    return variable.get("allValue") or (".*" if variable["type"] == "query" else variable["name"])


def _query(panel: str, target: dict[str, Any], known: Mapping[str, str]) -> PanelQuery:
    kind, ref = target["datasource"]["type"], target["refId"]
    if kind == PROMETHEUS_TYPE:
        expr = _replace(target["expr"], _quoted(known))
        return PanelQuery(panel, ref, kind, expr=expr, instant=bool(target.get("instant")))
    if kind == POSTGRES_TYPE:
        since, until = (f"{int(known[bound]) * 1_000_000}" for bound in ("__from", "__to"))
        text = _NANO_FILTER.sub(rf"\1 >= {since} AND \1 <= {until}", target["rawSql"])
        text = _NANO_BOUND.sub(lambda bound: since if bound[1] == "From" else until, text)
        return PanelQuery(panel, ref, kind, sql=_replace(text, known))
    raise ValueError(f"panel {panel!r}: no way to ask a data source of type {kind}")


def _quoted(known: Mapping[str, str]) -> dict[str, str]:
    """Values as they stand within the quotes of a PromQL string."""
    return {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in known.items()}


def _replace(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in known:
            raise UnknownVariable(f"${name} is no variable of the dashboard: {text}")
        return known[name]

    return _VARIABLE.sub(value, text)
